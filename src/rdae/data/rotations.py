"""One drawing, turned by every angle: pictures whose set is a circle."""

from __future__ import annotations

import math

import numpy as np
import torch

from rdae.data.arrays import ArrayData, Kind
from rdae.errors import DataError

__all__ = ["rotations"]

DRAWINGS = {  # strokes in units of half the side, x to the right and y up: from, to
    "flag": (
        ((-0.3, -0.6), (-0.3, 0.6)), ((-0.3, 0.6), (0.35, 0.35)), ((0.35, 0.35), (-0.3, 0.1)),
        ((-0.25, 0.45), (0.1, 0.35)), ((-0.25, 0.25), (0.1, 0.35)),
    ),
    "R": (
        ((-0.32, -0.55), (-0.32, 0.55)), ((-0.32, 0.55), (0.18, 0.5)), ((0.18, 0.5), (0.3, 0.25)),
        ((0.3, 0.25), (0.16, 0.03)), ((0.16, 0.03), (-0.32, 0.0)), ((-0.08, 0.0), (0.36, -0.55)),
    ),
}  # fmt: skip
WIDTH = 0.09  # of a stroke, to either side, where it is half as bright


def rotations(count: int = 360, size: int = 20, drawing: str = "flag") -> ArrayData:
    """A drawing turned counter-clockwise about the middle by 0, 360 / count, ... degrees.

    The flag's pictures change most with one period a turn. Half a turn leaves the letter R more alike than a quarter
    does: they change most with two periods.

    Args:
        count: of pictures.
        size: side, in pixels.
        drawing: flag or R; neither has a symmetry.

    Returns:
        `(count, 1, size, size)`, 8-bit; the labels are the angles in radians, `(count,)` float32.

    Raises:
        DataError: fewer than three pictures, a side below 8, or no such drawing.
    """
    if drawing not in DRAWINGS:
        raise DataError(f"There is no drawing {drawing!r}. Choose from {', '.join(DRAWINGS)}.")
    if count < 3 or size < 8:
        raise DataError(f"{count} pictures of side {size} were asked for. Choose 3 or more, of a side of 8 or more.")
    angles = 2 * math.pi * np.arange(count) / count
    at = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(at, -at)
    cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    points = np.stack([cos * x + sin * y, cos * y - sin * x], -1)  # each pixel in the drawing's own coordinates
    distance = np.min([_distance(points, np.array(a), np.array(b)) for a, b in DRAWINGS[drawing]], 0)
    grey = 1 / (1 + np.exp((distance - WIDTH) * size))  # an edge about a pixel wide
    values = torch.from_numpy(np.rint(255 * grey).astype(np.uint8)[:, None])
    return ArrayData(values, Kind.BYTES, torch.from_numpy(angles.astype(np.float32)), "rotations")


def _distance(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of points, `(..., 2)`, from the line from a to b."""
    along = np.clip((points - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    return np.linalg.norm(points - a - along[..., None] * (b - a), axis=-1)
