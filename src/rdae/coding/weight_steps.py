"""Weights as whole steps from those of a parent, and the tables that code such steps.

Weights that are floats move on a grid: what they start from plus whole multiples of a power of two, which the start
alone gives. By whole numbers and bits of floats alone, so that every machine finds the same.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rdae.coding.graph_weights import Region
from rdae.coding.rangecoder import CoderTables
from rdae.coding.tables import PRECISION, Tables
from rdae.errors import FormatError, ModelError

__all__ = ["TABLES", "UNCHANGED", "best_table", "moved", "numbers_of", "step_tables", "steps_to"]

UNCHANGED = 255  # in the place of a table's number
GRID_BITS = 5  # steps of the grid between 0 and the leading power of two of a row
GRID_OF_ZEROS = -10  # exponent of the grid of a row that is zero
REACH_MAX = 127
STEPS_MAX = 1 << 24
WEIGHT_MAX = 1 << 24  # of floats; larger ones are no weights
# chance of one more step, in 4096ths, of each table of two-sided geometric counts
RATIOS = (
    2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 640, 768, 1024, 1280, 1536, 1792, 2048, 2304, 2560, 2816, 3072,
    3328, 3584, 3712, 3840, 3904, 3968, 4000, 4032, 4064,
)  # fmt: skip
TABLES = len(RATIOS)


def numbers_of(array: bytes, region: Region) -> np.ndarray:
    """The numbers of a region of an array."""
    return np.frombuffer(array[region.start : region.stop], region.dtype)


def _grid(parent: np.ndarray, rows: int) -> np.ndarray:
    """The step of each number, float64: of its row, the leading power of two over `2**GRID_BITS`, or the finest power
    that its numbers need if that is larger. Powers are read from the bits of the numbers: every machine finds the same.
    """
    mantissa, exponent = np.frexp(parent.reshape(rows, -1))
    whole = np.abs(np.ldexp(mantissa, 24)).astype(np.int64)
    lowest = np.frexp((whole & -whole).astype(np.float64))[1] - 1 + exponent - 24
    nothing = whole == 0
    finest = np.where(nothing, 1 << 20, lowest).min(1)
    coarsest = np.where(nothing, -(1 << 20), exponent - 1).max(1) - GRID_BITS
    power = np.where(nothing.all(1), GRID_OF_ZEROS, np.maximum(finest, coarsest))
    return np.broadcast_to(np.ldexp(1.0, power)[:, None], mantissa.shape).reshape(-1)


def steps_to(parent: np.ndarray, wished: np.ndarray, region: Region) -> np.ndarray:
    """Whole steps, int32, from the parent's numbers to the nearest ones that can be reached.

    Raises:
        ModelError: the way is too far, or no number.
    """
    if region.kind == "whole":
        steps = (wished.astype(np.int64) - parent).astype(np.float64)
    elif region.kind == "power":
        steps = (np.frexp(wished)[1] - np.frexp(parent)[1]).astype(np.float64)
    else:
        steps = np.rint((wished.astype(np.float64) - parent) / _grid(parent, region.rows))
    if not (np.abs(steps) < STEPS_MAX).all():  # NaN is refused too
        raise ModelError("A weight of the adapted codec has run away. Train again with fewer steps.")
    return steps.astype(np.int32)


def moved(parent: np.ndarray, steps: np.ndarray, region: Region, name: str) -> np.ndarray:
    """The parent's numbers, so many steps on; `name` is for messages.

    Raises:
        FormatError: they would leave the range of their type, or are no weights.
    """
    if region.kind == "whole":
        numbers = parent.astype(np.int64) + steps
        limits = np.iinfo(parent.dtype)
        low, high = int(limits.min), int(limits.max)
    else:
        doubled = np.ldexp(parent.astype(np.float64), np.clip(steps, -512, 512))
        numbers = doubled if region.kind == "power" else parent + steps * _grid(parent, region.rows)
        low, high = -WEIGHT_MAX, WEIGHT_MAX
    if not (low <= numbers.min() and numbers.max() <= high):
        raise FormatError(f"{name} would leave its range. The file is damaged: copy it again.")
    return numbers.astype(parent.dtype)


@lru_cache(1)
def _plain_tables() -> Tables:
    """Two-sided geometric counts, by whole numbers alone: every machine makes the same."""
    reaches, counts = [], []
    for ratio in RATIOS:
        masses = [1 << 60]
        while masses[-1] >> 44 and len(masses) <= REACH_MAX:  # a mass below 2**-16 of the first is an escape
            masses.append((masses[-1] * ratio) >> 12)
        reach = len(masses) - 1
        both = [*reversed(masses[1:]), *masses, (masses[-1] * ratio) >> 12]
        spare = (1 << PRECISION) - len(both)
        table = [1 + mass * spare // sum(both) for mass in both]
        table[reach] += (1 << PRECISION) - sum(table)
        reaches.append(reach)
        counts += table
    return Tables(np.array(reaches), np.array(counts))


@lru_cache(1)
def step_tables() -> CoderTables:
    """The tables that steps are coded with, from those that hardly change to those that change much."""
    return CoderTables(_plain_tables())


def best_table(steps: np.ndarray) -> int:
    """Number of the table that codes steps in the fewest bits."""
    if not steps.any():
        return UNCHANGED
    clip = 4 * REACH_MAX
    histogram = np.bincount(np.clip(steps, -clip, clip) + clip, minlength=2 * clip + 1)
    return int((_plain_tables().bits(clip) @ histogram).argmin())
