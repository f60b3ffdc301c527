"""The same crop of several pictures on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from rdae.reports.crops import busiest

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
