"""The same crop of several pictures on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["busiest", "side_by_side"]


def side_by_side(
    tiles: Sequence[tuple[str, np.ndarray]], corner: tuple[int, int], crop: tuple[int, int]
) -> Image.Image:
    """A crop of each picture, twice as large, two in a row, each under its label.

    Args:
        tiles: label and pixels, `(H, W, 3)` uint8.
        corner: top and left of the crop.
        crop: its width and height.
    """
    top, left = corner
    width, height = crop
    rows = -(-len(tiles) // 2)
    sheet = Image.new("RGB", (2 * width * 2 + 30, rows * (height * 2 + 40)), "white")
    draw = ImageDraw.Draw(sheet)
    for k, (label, pixels) in enumerate(tiles):
        x, y = 10 + (k % 2) * (2 * width + 10), (k // 2) * (2 * height + 40)
        draw.text((x, y + 8), label, fill="black", font_size=20)
        part = Image.fromarray(np.ascontiguousarray(pixels[top : top + height, left : left + width]))
        sheet.paste(part.resize((2 * width, 2 * height), Image.Resampling.NEAREST), (x, y + 36))
    return sheet


def busiest(pixels: np.ndarray, crop: tuple[int, int]) -> tuple[int, int]:
    """Top and left of the crop, `(width, height)`, with the most contrast between neighbours."""
    grey = pixels.astype(np.float64).mean(2)
    energy = np.abs(np.diff(grey, axis=0))[:, 1:] + np.abs(np.diff(grey, axis=1))[1:]
    sums = np.pad(energy.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    width, height = crop
    box = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(box.argmax()), box.shape)
    return int(top), int(left)
