"""Symbols and integer tables to bytes and back.

Symbols of one call are sorted by table number (stably), and each group is one call of the range coder of
`constriction`: fast, and independent of how probabilities were computed. Symbols beyond a table's reach follow, in
the same order, as sign and Exp-Golomb code of the distance. docs/format.md gives the coder itself.

Decoders ask a `SymbolSource`. That of a file is a `SymbolReader`; those of coding/sampling.py make symbols up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import constriction
import numpy as np

from rdae.coding.tables import PRECISION, Tables
from rdae.errors import FormatError, TableError

__all__ = [
    "ESCAPE_BITS_MAX", "INTERVAL_BITS", "INVALID", "CoderTables", "RangeDecoder", "Runs", "SymbolReader",
    "SymbolSource", "SymbolWriter",
]  # fmt: skip

Categorical, Uniform = constriction.stream.model.Categorical, constriction.stream.model.Uniform
RangeEncoder, RangeDecoder = constriction.stream.queue.RangeEncoder, constriction.stream.queue.RangeDecoder

ESCAPE_BITS_MAX = 24  # a distance beyond the reach has at most this many bits
INTEGER_BITS = 30  # no larger symbol is looked at
INTERVAL_BITS = 24  # the coder divides its range into 2**24 parts
_BIT = Uniform(2)
INVALID = (AssertionError, ValueError)  # what constriction raises for a point that no symbol owns


class CoderTables(dict[int, Any]):
    """Tables in the coder's own form, by number, each made when first needed; share one between all streams of a model.

    A dictionary, because a picture takes some thousand of them.
    """

    def __init__(self, tables: Tables) -> None:
        super().__init__()
        self.reach = tables.reach
        self._tables = tables

    def __missing__(self, number: int) -> Any:
        probabilities = self._tables[number].astype(np.float64) / 2**PRECISION
        model = self[number] = Categorical(probabilities, perfect=False)
        return model

    def edges(self, number: int) -> np.ndarray:
        """Where one interval of a table ends and the next begins, of the `2**24` parts of the coder's range.

        Returns:
            int64, one fewer than the table has counts: e_1, e_2, ... of docs/format.md.
        """
        below = self._tables[number].cumsum(dtype=np.int64)[:-1]
        return (below * (2**INTERVAL_BITS - below.size - 1) >> PRECISION) + np.arange(1, below.size + 1)


class Runs:
    """Runs of equal table numbers, once the numbers of a call are sorted.

    Args:
        numbers: of the call, `(n,)`, in any order.
        tables: all of them.
    """

    def __init__(self, numbers: np.ndarray, tables: CoderTables) -> None:
        counts = np.bincount(numbers)
        self._used = np.flatnonzero(counts)
        self._counts = counts[self._used]
        self.reach = np.repeat(tables.reach[self._used], self._counts)  # of each symbol, (n,)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Table number and count of each."""
        return zip(self._used.tolist(), self._counts.tolist(), strict=True)


class SymbolWriter:
    """Writes calls of symbols to one stream."""

    def __init__(self) -> None:
        self._coder = RangeEncoder()

    def write(self, symbols: np.ndarray, numbers: np.ndarray, tables: CoderTables) -> None:
        """Codes symbols, `(n,)` integers, each with the table of that number, `(n,)`.

        Raises:
            TableError: a symbol is too large for the escape code.
        """
        if symbols.size == 0:
            return
        if symbols.dtype.itemsize > 2:
            _must_be_small(symbols)
        numbers = numbers.astype(np.uint16)
        order = np.argsort(numbers, kind="stable")
        symbols, runs = symbols[order].astype(np.int32), Runs(numbers, tables)
        reach, start = runs.reach, 0
        escaped = np.abs(symbols) > reach
        codes = np.where(escaped, 2 * reach + 1, symbols + reach).astype(np.int32)
        for number, count in runs:
            self._coder.encode(codes[start : start + count], tables[number])
            start += count
        if escaped.any():
            self._write_escapes(symbols[escaped], reach[escaped])

    def _write_escapes(self, symbols: np.ndarray, reach: np.ndarray) -> None:
        bits: list[int] = []
        for symbol, limit in zip(symbols.tolist(), reach.tolist(), strict=True):
            beyond = abs(symbol) - limit
            length = beyond.bit_length()
            if length > ESCAPE_BITS_MAX:
                raise TableError(f"The symbol {symbol} is too large to code. Check the model's inputs for infinities.")
            bits += [symbol < 0] + [1] * (length - 1) + [0] + [beyond >> k & 1 for k in range(length - 2, -1, -1)]
        self._coder.encode(np.array(bits, dtype=np.int32), _BIT)

    def finish(self) -> bytes:
        """The stream."""
        return self._coder.get_compressed().astype("<u4").tobytes()


def _must_be_small(symbols: np.ndarray) -> None:
    largest = max(int(symbols.max()), -int(symbols.min()))
    if largest >> INTEGER_BITS:
        raise TableError(f"The symbol {largest} is too large to code. Check the model's inputs for infinities.")


class SymbolSource(ABC):
    """Gives symbols call by call, each by the table of its number."""

    def read(self, numbers: np.ndarray, tables: CoderTables) -> np.ndarray:
        """Symbols, `(n,)` int32, of the tables of these numbers, `(n,)`.

        Raises:
            FormatError: a symbol lies further beyond its table than any that a writer codes, or, of a file, the stream
                is damaged.
        """
        if numbers.size == 0:
            return np.zeros(0, dtype=np.int32)
        numbers = numbers.astype(np.uint16)
        order, runs = np.argsort(numbers, kind="stable"), Runs(numbers, tables)
        values = np.empty(numbers.size, dtype=np.int32)
        self._fill(values, runs, tables)
        values -= runs.reach
        escaped = np.flatnonzero(values > runs.reach)
        if escaped.size:
            values[escaped] = self._read_escapes(runs.reach[escaped])
        symbols = np.empty_like(values)
        symbols[order] = values
        return symbols

    @abstractmethod
    def _fill(self, codes: np.ndarray, runs: Runs, tables: CoderTables) -> None:
        """Writes into `codes` the place of each symbol within the table of its number; the last place is the escape.

        Args:
            codes: `(n,)` int32, run by run.
            runs: which tables, and for how many symbols.
            tables: all of them.
        """

    @abstractmethod
    def _bit(self) -> int:
        """The next bit of an escape."""

    def _read_escapes(self, reach: np.ndarray) -> np.ndarray:
        values = []
        for limit in reach.tolist():
            negative, length = self._bit(), 1
            while self._bit():
                length += 1
                if length > ESCAPE_BITS_MAX:
                    raise FormatError("A symbol stream holds a symbol that no encoder writes. The file is damaged.")
            beyond = 1
            for _ in range(length - 1):
                beyond = beyond << 1 | self._bit()
            values.append(-(limit + beyond) if negative else limit + beyond)
        return np.array(values, dtype=np.int32)


class SymbolReader(SymbolSource):
    """Reads what `SymbolWriter` wrote, given the same table numbers call by call.

    Raises:
        FormatError: the stream is no whole number of 32-bit words, or runs into symbols no writer makes.
    """

    _decode: Callable[[Any, int], np.ndarray]  # so many symbols of a model of `constriction`

    def __init__(self, data: bytes) -> None:
        if len(data) % 4:
            raise FormatError(f"A symbol stream has {len(data)} bytes, not a multiple of 4. The file is damaged.")
        self._decode = RangeDecoder(np.frombuffer(data, dtype="<u4").astype(np.uint32)).decode

    def _fill(self, codes: np.ndarray, runs: Runs, tables: CoderTables) -> None:
        decode = self._decode  # the coder's own function: a picture takes some thousand calls
        try:
            np.concatenate([decode(tables[number], count) for number, count in runs], out=codes)
        except INVALID as error:
            raise _damaged(error) from error

    def _bit(self) -> int:
        try:
            return int(self._decode(_BIT, 1)[0])
        except INVALID as error:
            raise _damaged(error) from error


def _damaged(error: Exception) -> FormatError:
    return FormatError(f"A symbol stream cannot be decoded ({error}). The file is damaged.")
