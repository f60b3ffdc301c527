"""Small pictures of one shape each, drawn by code, every combination of their factors once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from rdae.data.arrays import ArrayData, Kind
from rdae.errors import DataError

__all__ = ["Sprites", "sprites"]

NAMES = ("shape", "size", "rotation", "x", "y")
SHAPES = ("ellipse", "square", "heart")
PERIODS = (180.0, 90.0, 360.0)  # degrees after which a shape looks the same
RADII = (3.5, 5.0, 6.5, 8.0)  # of the circle about the shape, in 32nds of the side
ROTATIONS = 8
PLACES = 8
FIRST, SPACING = 9.0, 2.0  # centres 9, 11, ..., 23 in 32nds of the side: no shape is cut off
SAMPLES = 16  # per pixel and axis: 256 points decide a grey value
HEART_CENTRE = 0.293483  # height of the centroid of the curve below, by quadrature; farthest from it is the tip at -1


@dataclass(frozen=True, eq=False)
class Sprites:
    """Pictures and what they show.

    Args:
        data: `(6144, 1, size, size)`, 8-bit; its labels are the shapes.
        factors: `(6144, 5)` int64, index of each factor's value.
        names: of the columns of `factors`: shape, size, rotation, x, y.
    """

    data: ArrayData
    factors: Tensor
    names: tuple[str, ...]


def sprites(size: int = 32) -> Sprites:
    """All 3 shapes x 4 sizes x 8 rotations x 8 x 8 places, grey values 0 to 255 with smooth edges.

    A rotation is an eighth of the period of its own shape: 22.5 degrees for the ellipse, which looks the same after
    180, 11.25 for the square (90), 45 for the heart (360). With common angles some squares and ellipses would be drawn
    more than once, and a rotation that no picture shows cannot be recovered from it. The index 0 to 7 is the factor; it
    means the same angle only within a shape. The centre of mass is at x = (9 + 2 i) / 32 of the side, from the left, y
    likewise, from the top. The number of a picture is the index of its factors in C order, the shape slowest.

    Raises:
        DataError: the side is not a multiple of 16, so that places would fall between pixels, or below 32, where the
            smallest shapes turn without a pixel changing.
    """
    if not isinstance(size, int) or size < 32 or size % 16:
        raise DataError(f"Sprites cannot be drawn at size {size}. Choose a side that is a multiple of 16, at least 32.")
    unit = size // 16  # a place further, in pixels
    window = np.zeros((size + (PLACES - 1) * unit,) * 2, np.uint8)
    middle = int(FIRST + SPACING * (PLACES - 1)) * size // 32  # the rightmost centre, at pixel precision
    pictures = np.empty((len(SHAPES), len(RADII), ROTATIONS, PLACES, PLACES, size, size), np.uint8)
    half = int(np.ceil(RADII[-1] * size / 32)) + 1
    for shape, radius, rotation in product(range(len(SHAPES)), range(len(RADII)), range(ROTATIONS)):
        angle = np.deg2rad(PERIODS[shape] * rotation / ROTATIONS)
        patch = _patch(SHAPES[shape], RADII[radius] * size / 32, angle, half, odd=size % 32 != 0)
        window[middle - half : middle - half + len(patch), middle - half : middle - half + len(patch)] = patch
        for column, row in product(range(PLACES), range(PLACES)):
            left, top = (PLACES - 1 - column) * unit, (PLACES - 1 - row) * unit
            pictures[shape, radius, rotation, column, row] = window[top : top + size, left : left + size]
    counts = pictures.shape[:5]
    factors = torch.from_numpy(np.indices(counts).reshape(len(counts), -1).T.copy())
    values = torch.from_numpy(pictures.reshape(-1, 1, size, size))
    return Sprites(ArrayData(values, Kind.BYTES, factors[:, 0].clone(), "sprites"), factors, NAMES)


def _patch(shape: str, radius: float, angle: float, half: int, *, odd: bool) -> np.ndarray:
    """A shape about the middle, `(2 half + odd, ...)` uint8; pixels are the mean of 16 x 16 points."""
    side = 2 * half + odd
    at = (np.arange(side * SAMPLES) + 0.5) / SAMPLES - (half + 0.5 * odd)
    x, y = at[None, :] / radius, -at[:, None] / radius  # y points up
    x, y = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    inside = _inside(shape, x, y).reshape(side, SAMPLES, side, SAMPLES)
    return np.rint(255 * inside.mean((1, 3))).astype(np.uint8)


def _inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether points are in a shape about 0 that just fits in the unit circle."""
    if shape == "ellipse":
        return x**2 + 4 * y**2 <= 1
    if shape == "square":
        return np.maximum(abs(x), abs(y)) <= np.sqrt(0.5)
    x, y = x * (1 + HEART_CENTRE), y * (1 + HEART_CENTRE) + HEART_CENTRE
    return (x**2 + y**2 - 1) ** 3 <= x**2 * y**3
