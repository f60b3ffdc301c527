"""Symbols a second of the entropy coder, and how many percent its bytes are over the ideal.

    python benchmarks/entropy_coder.py [PICTURE ...] [--quality 30] [--rounds 9] [--json FILE]

The symbols and table numbers are those of real pictures (the examples, unless told otherwise) in the shipped codec,
call by call as the codec makes them; nothing but the coder is timed. The ideal is the sum of -log2 p by the same
integer tables. Minima over rounds: on a shared machine they are what the code costs.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import rdae
from rdae.coding import rangecoder
from rdae.coding.rangecoder import CoderTables, SymbolReader, SymbolWriter
from rdae.coding.tables import PRECISION

Call = tuple[np.ndarray, np.ndarray, CoderTables]


def calls_of(codec: Any, picture: Path, quality: float) -> list[Call]:
    """Symbols, table numbers and tables of every call that compressing a picture makes."""
    calls: list[Call] = []
    written = SymbolWriter.write

    def noted(self: SymbolWriter, symbols: np.ndarray, numbers: np.ndarray, tables: CoderTables) -> None:
        calls.append((symbols.copy(), numbers.copy(), tables))
        written(self, symbols, numbers, tables)

    rangecoder.SymbolWriter.write = noted  # type: ignore[method-assign]
    try:
        codec.compress(picture, quality)
    finally:
        rangecoder.SymbolWriter.write = written  # type: ignore[method-assign]
    return calls


def ideal_bits(calls: list[Call]) -> float:
    """By the tables, plus the bits of escapes."""
    bits = 0.0
    for symbols, numbers, tables in calls:
        for number in np.unique(numbers):
            own, reach = symbols[numbers == number].astype(int), int(tables.reach[number])
            beyond = np.abs(own) > reach
            counts = tables._tables[int(number)].astype(np.float64)
            bits -= np.log2(counts[np.where(beyond, 2 * reach + 1, own + reach)] / 2**PRECISION).sum()
            bits += sum(2 * int(distance).bit_length() for distance in np.abs(own[beyond]) - reach)
    return bits


def write(calls: list[Call]) -> bytes:
    """One stream of all calls."""
    writer = SymbolWriter()
    for call in calls:
        writer.write(*call)
    return writer.finish()


def read(calls: list[Call], stream: bytes) -> list[np.ndarray]:
    """The symbols of all calls."""
    reader = SymbolReader(stream)
    return [reader.read(numbers, tables) for _, numbers, tables in calls]


def timed(work: Any, rounds: int) -> float:
    """The least seconds of several runs."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Prints a line for each picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pictures", type=Path, nargs="*")
    parser.add_argument("--quality", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pictures = arguments.pictures or sorted((Path(__file__).parent.parent / "examples").glob("*.png"))
    codec = rdae.load("photo")
    print(f"{'picture':<12}{'symbols':>9}{'bits each':>11}{'over ideal':>12}{'M/s written':>13}{'M/s read':>10}")
    report = []
    for picture in pictures:
        calls = calls_of(codec, picture, arguments.quality)
        stream, ideal = write(calls), ideal_bits(calls)
        assert all(np.array_equal(a, b) for a, (b, _, _) in zip(read(calls, stream), calls, strict=True))
        symbols = sum(call[0].size for call in calls)
        row = {
            "picture": picture.stem, "symbols": symbols, "bytes": len(stream), "ideal_bytes": ideal / 8,
            "written_per_second": symbols / timed(lambda c=calls: write(c), arguments.rounds),
            "read_per_second": symbols / timed(lambda c=calls, s=stream: read(c, s), arguments.rounds),
        }  # fmt: skip
        report.append(row)
        over = 100 * (8 * len(stream) / ideal - 1)
        print(
            f"{row['picture']:<12}{symbols:>9}{ideal / symbols:>11.3f}{over:>11.3f}%"
            f"{row['written_per_second'] / 1e6:>13.1f}{row['read_per_second'] / 1e6:>10.1f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"quality": arguments.quality, "rows": report}, indent=1) + "\n")


if __name__ == "__main__":
    main()
