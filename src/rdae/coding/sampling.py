"""Symbols made up in place of symbols read: by the tables, or by sending random bits through the range decoder."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from rdae.coding.rangecoder import INTERVAL_BITS, INVALID, CoderTables, RangeDecoder, Runs, SymbolReader, SymbolSource

__all__ = ["RandomBits", "TableSampler"]

RANDOM_WORDS = 256  # drawn at once; a symbol takes at most one


class TableSampler(SymbolSource):
    """Draws symbols from the tables themselves.

    A table gives its symbols the probabilities that the coder gives them: the widths of their intervals in `2**-24`,
    which are the counts in `2**-16` but for rounding.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def _fill(self, codes: np.ndarray, runs: Runs, tables: CoderTables) -> None:
        points, start = self._rng.integers(1 << INTERVAL_BITS, size=codes.size), 0
        for number, count in runs:
            part = slice(start, start + count)
            codes[part] = np.searchsorted(tables.edges(number), points[part], side="right")
            start += count

    def _bit(self) -> int:
        return int(self._rng.integers(2))


class RandomBits(SymbolReader):
    """Decodes random bits, which never end, as if they were a stream. Symbols have the law of `TableSampler`.

    The coder's point is uniform in its range then, and stays so, whatever symbols it has given. But a range is hardly
    ever a multiple of `2**24`, and what remains belongs to no symbol: about one time in ten thousand the point lies
    there, which a real stream never does. From that place on the bits are drawn anew.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._left = rng, 0

    def _decode(self, model: Any, count: int) -> np.ndarray:
        parts: list[np.ndarray] = []
        while count:
            if not self._left:
                words = self._rng.integers(1 << 32, size=RANDOM_WORDS + 2, dtype=np.uint32)  # 2: the coder's state
                self._coder, self._left = RangeDecoder(words), RANDOM_WORDS
            piece = min(count, self._left)
            before = self._coder.clone()
            try:
                found = self._coder.decode(model, piece)
                self._left -= piece
            except INVALID:
                found = _valid(before, model, piece)
                self._left = 0
            parts.append(found)
            count -= found.size
        return np.concatenate(parts)


def _valid(coder: Any, model: Any, most: int) -> np.ndarray:
    """Symbols before the first invalid point."""
    found: list[np.ndarray] = [np.zeros(0, dtype=np.int32)]
    with suppress(*INVALID):
        for _ in range(most):
            found.append(coder.decode(model, 1))
    return np.concatenate(found)
