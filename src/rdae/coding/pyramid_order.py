"""The order in which a wavelet pyramid is coded: `pyramid.py`, which codes it, and the priors both read it here.

A level's symbols are kept folded: `(36, H, W)`, channel `4 * band + 2 * a1 + a2` holding phase `(a1, a2)` of every
2 x 2 block of the sub-band grid. docs/format.md describes the same in words.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

__all__ = [
    "BANDS", "CERTAIN", "COLOURS", "LOW_DEPTHS", "LOW_TERMS", "LOW_UNIT", "MAGNITUDES", "OPPONENT", "Interpolation",
    "groups_of_level", "interpolations", "network_of_level", "places_of_level",
]  # fmt: skip

COLOURS = 3
# Rows are orthonormal: luma, red against blue, green against magenta. Equal errors in the three cost
# equal errors in RGB, and for photographs the rotation is close to the Karhunen-Loeve transform.
OPPONENT = (
    (3**-0.5, 3**-0.5, 3**-0.5),
    (2**-0.5, 0.0, -(2**-0.5)),
    (6**-0.5, -2 * 6**-0.5, 6**-0.5),
)
# Largest scale index of near-certain zeros, of which a pass may leave out all; at a scale of 0.11 steps one in five
# thousand symbols is none. Codec files say which they were made with.
CERTAIN = 2
BANDS = 9  # three orientations of each colour
DIAGONAL, OFF_DIAGONAL = (0, 3), (1, 2)  # phases 2 * a1 + a2: the two halves of a checkerboard
LOW_DEPTHS = 5
# what is known around a sample of the low band: spread and errors of its neighbours, in three colours each, and the
# errors of the two colours before it; by magnitude in half octaves, 1, 2, 3, 4, 6, 8, 12 ...
LOW_TERMS = 3 * COLOURS - 1
MAGNITUDES = (1, *(part << k for k in range(11) for part in (2, 3)))
LOW_UNIT = 16  # parts of a scale index


def network_of_level(level: int) -> int:
    """Levels 1 and 2 have networks of their own, 3 and coarser share one."""
    return min(level, 3)


@lru_cache
def groups_of_level(level: int) -> tuple[tuple[int, ...], ...]:
    """Channels of the folded level, in coding order, one tuple a pass.

    Luma on the diagonal phases, luma on the others, then the opponent colours likewise; level 1 codes its colours in
    one pass, for there is little left to learn from their other half.
    """

    def channels(bands: range, phases: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(4 * band + phase for band in bands for phase in phases)

    luma, colours = range(3), range(3, BANDS)
    first = (channels(luma, DIAGONAL), channels(luma, OFF_DIAGONAL))
    if level == 1:
        return (*first, channels(colours, (0, 1, 2, 3)))
    return (*first, channels(colours, DIAGONAL), channels(colours, OFF_DIAGONAL))


@lru_cache
def places_of_level(level: int) -> tuple[int, ...]:
    """Where each channel of the folded level stands in coding order."""
    return tuple(np.argsort([channel for group in groups_of_level(level) for channel in group]).tolist())


class Interpolation(NamedTuple):
    """Samples of the low band that are predicted together, and the four neighbours of each."""

    depth: int  # 0 is the finest
    kind: int  # 0: diagonal neighbours, 1: above, below, left and right
    rows: np.ndarray  # (n, 1)
    columns: np.ndarray  # (1, m)
    neighbours: tuple[tuple[np.ndarray, np.ndarray], ...]


@lru_cache(maxsize=64)
def interpolations(height: int, width: int) -> tuple[Interpolation, ...]:
    """How the low band of `height x width` is coded after its corner sample: coarse to fine.

    At stride s the samples on multiples of 2s are known. First come those at odd multiples of s in both directions,
    then those in one direction. A neighbour beyond the border is replaced by its mirror image; where a narrow grid has
    no neighbour above or below (left or right) at all, those of the other direction count twice.
    """
    result: list[Interpolation] = []
    stride, depth = 1, 0
    while stride < max(height, width):
        here = []
        for kind, top, left in ((0, stride, stride), (1, 0, stride), (1, stride, 0)):
            rows = np.arange(top, height, 2 * stride)
            columns = np.arange(left, width, 2 * stride)
            if rows.size and columns.size:
                offsets = _offsets(kind, stride, height, width)
                near = tuple((_mirror(rows, down, height)[:, None], _mirror(columns, right, width)[None, :])
                             for down, right in offsets)  # fmt: skip
                here.append(Interpolation(depth, kind, rows[:, None], columns[None, :], near))
        result[:0] = here
        stride, depth = 2 * stride, depth + 1
    return tuple(result)


def _offsets(kind: int, s: int, height: int, width: int) -> tuple[tuple[int, int], ...]:
    if kind == 0:
        return (-s, -s), (-s, s), (s, -s), (s, s)
    above_below = ((-s, 0), (s, 0))
    left_right = ((0, -s), (0, s))
    if height <= s:  # there is no other row yet
        return left_right + left_right
    if width <= s:
        return above_below + above_below
    return above_below + left_right


def _mirror(index: np.ndarray, offset: int, size: int) -> np.ndarray:
    moved = index + offset
    return np.where((moved < 0) | (moved >= size), index - offset, moved)
