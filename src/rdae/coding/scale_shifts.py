"""Scales that know the picture: each pass may use tables some steps wider or narrower than its network names.

The network learned what is likely after what it has seen; of a drawing, a page or a noisy scan it may expect too much
or too little everywhere. One small number a pass mends that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rdae.errors import FormatError

__all__ = [
    "SHIFT_MAX", "Members", "best_shift", "pack_shifts", "packed_size", "shifted_numbers", "shifted_scales",
    "unpack_shifts",
]  # fmt: skip

SHIFT_MAX = 4
CHOICES = 2 * SHIFT_MAX + 1
HANDFUL = 200  # symbols that hardly save what it takes to tell a shift


class Members(NamedTuple):
    """The density of each symbol of a group: int8 arrays as the networks name them."""

    scale: np.ndarray
    skew: np.ndarray
    skews: int  # magnitudes of skew
    scales: int

    def at(self, places: np.ndarray, shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Table numbers at flat places, and the sign that a symbol has there in its table: 1, or -1 if it is mirrored.

        Args:
            places: in the group, `(n,)`.
            shift: steps that scales are moved by, see `shifted_scales`.
        """
        skew, scale = self.skew.ravel()[places], shifted_scales(self.scale.ravel()[places], shift, self.scales)
        return self.skews * scale.astype(np.int32) + np.abs(skew), 1 - 2 * (skew < 0).view(np.int8)


def shifted_scales(scale: np.ndarray, shift: int, scales: int) -> np.ndarray:
    """Scales so many steps on, from 0 to `scales - 1`; scale 0, of near-certain zeros, stays what it is."""
    if not shift:
        return scale
    return np.clip(scale.astype(np.int16) + np.int16(shift), 0, scales - 1).astype(scale.dtype) * (scale > 0)


def shifted_numbers(numbers: np.ndarray, shift: int, skews: int, scales: int) -> np.ndarray:
    """The same of table numbers `skews * scale + |skew|`."""
    if not shift:
        return numbers
    scale, skew = np.divmod(numbers, skews)
    return skews * shifted_scales(scale, shift, scales) + skew


def best_shift(values: np.ndarray, numbers: np.ndarray, skews: int, nats: np.ndarray) -> tuple[int, float]:
    """The shift that codes symbols in the fewest bits, and how many nats fewer; none for a handful of symbols.

    Args:
        values: symbols as their tables have them, `(n,)`.
        numbers: of the tables without a shift, `(n,)`: `skews * scale + |skew|`.
        skews: magnitudes of skew.
        nats: code lengths, `(tables, 2 * clip + 1)`; larger symbols count as the largest.
    """
    if values.size < HANDFUL:
        return 0, 0.0
    width, scales = nats.shape[1], len(nats) // skews
    clip = width // 2
    cells = np.bincount(numbers * np.int32(width) + (np.clip(values, -clip, clip) + clip))
    used = np.flatnonzero(cells)
    counts = cells[used]
    (scale, skew), column = divmod(used // width, skews), used % width
    costs = np.array([
        counts @ nats[skews * shifted_scales(scale, shift, scales) + skew, column]
        for shift in range(-SHIFT_MAX, SHIFT_MAX + 1)
    ])  # fmt: skip
    best = int(costs.argmin())
    return best - SHIFT_MAX, float(costs[SHIFT_MAX] - costs[best])


def packed_size(passes: int) -> int:
    """Bytes that the shifts of so many passes take."""
    return ((CHOICES**passes - 1).bit_length() + 7) // 8


def pack_shifts(shifts: Sequence[int]) -> bytes:
    """The digits `shift + SHIFT_MAX` of a number, the first pass lowest, as little-endian bytes."""
    number = sum((shift + SHIFT_MAX) * CHOICES**k for k, shift in enumerate(shifts))
    return number.to_bytes(packed_size(len(shifts)), "little")


def unpack_shifts(data: bytes, passes: int) -> list[int]:
    """The shifts of so many passes.

    Raises:
        FormatError: no encoder writes these bytes.
    """
    number, shifts = int.from_bytes(data, "little"), []
    for _ in range(passes):
        number, digit = divmod(number, CHOICES)
        shifts.append(digit - SHIFT_MAX)
    if number or len(data) != packed_size(passes):
        raise FormatError(
            f"The scales of a tile are shifted by {data.hex()}, which no encoder writes. The file is damaged."
        )
    return shifts
