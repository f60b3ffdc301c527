"""Which part of a picture to show."""

from __future__ import annotations

import numpy as np

__all__ = ["busiest"]


def busiest(pixels: np.ndarray, crop: tuple[int, int]) -> tuple[int, int]:
    """Top and left of the crop with the most contrast between neighbours.

    Args:
        pixels: `(H, W, 3)`.
        crop: its width and height; cut to those of the picture.
    """
    grey = pixels.astype(np.float64).mean(2)
    energy = np.abs(np.diff(grey, axis=0))[:, 1:] + np.abs(np.diff(grey, axis=1))[1:]
    sums = np.pad(energy.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    width, height = min(crop[0], energy.shape[1]), min(crop[1], energy.shape[0])
    box = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(box.argmax()), box.shape)
    return int(top), int(left)
