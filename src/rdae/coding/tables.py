"""Integer probability tables: the one place where probabilities become counts.

A table covers the symbols `-reach ... reach` and ends with an escape, which stands for every other integer; how far
beyond the reach the symbol lies follows in an Exp-Golomb code. Counts of a table sum to 2**16. Tables are made once,
at export, and travel with the model; a decoder never computes one.
"""

from __future__ import annotations

import numpy as np

from rdae.errors import TableError

__all__ = ["PRECISION", "SKIPPED_MAX", "Tables", "integer_table"]

PRECISION = 16
SKIPPED_MAX = 1  # a symbol this large may be given up where the tables are all but sure of a zero


def integer_table(mass: np.ndarray, precision: int = PRECISION) -> np.ndarray:
    """Rounds probabilities to counts.

    Args:
        mass: `(symbols,)` float64, non-negative, finite, not all zero; need not be normalised.
        precision: counts sum to `2**precision`.

    Returns:
        int64 counts, each at least 1 (a count of 0 could not be coded).

    Raises:
        TableError: too many symbols for the precision, or masses that are no probabilities.
    """
    mass = np.asarray(mass, dtype=np.float64)
    spare = 2**precision - mass.size
    if spare < 0:
        raise TableError(
            f"{mass.size} symbols do not fit in {precision} bits. "
            f"Pass precision={(mass.size - 1).bit_length()} or more, or fewer symbols."
        )
    if not np.isfinite(mass).all() or (mass < 0).any() or mass.sum() <= 0:
        raise TableError("Probabilities must be finite, non-negative and not all zero. Check the density's parameters.")
    counts = 1 + np.floor(mass / mass.sum() * spare).astype(np.int64)
    # rounding down leaves a few units over; the likeliest symbol is hurt least by taking them
    counts[int(mass.argmax())] += 2**precision - int(counts.sum())
    return counts


class Tables:
    """A numbered list of integer tables.

    Args:
        reach: `(tables,)`, largest magnitude that each table codes without an escape.
        counts: the tables end to end, `2 * reach + 2` counts each: symbols `-reach ... reach`, then the escape.

    Raises:
        TableError: the arrays do not describe tables whose counts sum to 2**16.
    """

    def __init__(self, reach: np.ndarray, counts: np.ndarray) -> None:
        reach, counts = np.asarray(reach), np.asarray(counts)
        if not {reach.dtype.kind, counts.dtype.kind} <= {"i", "u"} or (reach.ndim, counts.ndim) != (1, 1):
            raise TableError(
                f"Tables are two lists of whole numbers, not {reach.dtype} {reach.shape} and {counts.dtype} "
                f"{counts.shape}. The codec file is damaged: fetch it again."
            )
        self.reach, self.counts = reach.astype(np.int32), counts.astype(np.int32)
        sizes = 2 * self.reach.astype(np.int64) + 2
        if (self.reach < 0).any() or int(sizes.sum()) != self.counts.size:
            raise TableError(
                f"{self.reach.size} tables should hold {int(sizes.sum())} counts, not {self.counts.size}. "
                "The codec file is damaged: fetch it again."
            )
        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        sums = np.add.reduceat(self.counts.astype(np.int64), self.starts[:-1]) if self.counts.size else np.zeros(0)
        if (self.counts < 1).any() or (sums != 2**PRECISION).any():
            raise TableError(
                f"Each table's counts must be positive and sum to {2**PRECISION}. "
                "The codec file is damaged: fetch it again."
            )

    def __len__(self) -> int:
        return self.reach.size

    def __getitem__(self, number: int) -> np.ndarray:
        """Counts of one table."""
        return self.counts[self.starts[number] : self.starts[number + 1]]

    def bits(self, clip: int) -> np.ndarray:
        """Code lengths in bits, `(tables, 2 * clip + 1)` float32, of symbols `-clip ... clip`; escapes included."""
        lengths = np.empty((len(self), 2 * clip + 1), dtype=np.float32)
        for number, reach in enumerate(self.reach):
            own = PRECISION - np.log2(self[number])
            q = np.arange(-clip, clip + 1)
            beyond = np.maximum(np.abs(q) - reach, 1)
            escaped = own[-1] + 1 + 2 * np.floor(np.log2(beyond)) + 1
            inside = np.abs(q) <= reach
            lengths[number] = np.where(inside, own[np.clip(q + reach, 0, 2 * reach)], escaped)
        return lengths
