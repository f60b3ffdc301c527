"""What an adapted codec differs in from the shipped one it came from: numbers only, as whole steps of a grid.

A delta changes the weights of convolutions inside the graphs, and the whole numbers of tables, of a parent that is at
hand; it can neither change the graphs nor claim a size. So what a stranger sends is never run: it is at most another
set of weights, and memory is bounded by the parent's. Weights that are floats move on a grid: what is shipped plus
whole multiples of a power of two, given by the parent alone. docs/format.md has the bytes.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from rdae.coding.rangecoder import CoderTables, SymbolReader, SymbolWriter
from rdae.coding.tables import PRECISION, Tables
from rdae.errors import FormatError, ModelError

__all__ = ["DELTA_MAX", "apply_delta", "make_delta", "parent_identity"]

SIGNATURE = b"\x89RDAD\r\n\x1a"
VERSION = 1
HEAD = struct.Struct("<8sB8s32sI")  # signature, version, parent's identity, SHA-256 of the result, length of the card
DELTA_MAX = 1 << 24
CARD_MAX = 1 << 16
UNCHANGED = 255  # in the place of a table's number
GRID_BITS = 5  # steps of the grid between 0 and the leading power of two of a row
GRID_OF_ZEROS = -10  # exponent of the grid of a row that is zero
REACH_MAX = 127
STEPS_MAX = 1 << 24
WEIGHT_MAX = 1 << 24  # of floats; larger ones are no weights
WHOLE = {"I16": "<i2", "I32": "<i4"}
# inputs of a node that are weights, and how they may change; and the types that tensors of each may have
WEIGHTS = {b"Conv": {1: "grid", 2: "grid"}, b"QLinearConv": {3: "whole", 4: "power", 8: "whole"}}
TYPES = {("grid", 1): "<f4", ("power", 1): "<f4", ("whole", 3): "<i1", ("whole", 6): "<i4"}
# chance of one more step, in 4096ths, of each table of two-sided geometric counts
RATIOS = (
    2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 640, 768, 1024, 1280, 1536, 1792, 2048, 2304, 2560, 2816, 3072,
    3328, 3584, 3712, 3840, 3904, 3968, 4000, 4032, 4064,
)  # fmt: skip


class _Region(NamedTuple):
    """Numbers of a codec file that a delta may change."""

    start: int  # bytes, from the start of its array
    stop: int
    dtype: str
    kind: str  # "grid", "whole" numbers, or "power": of those, steps are doublings
    rows: int = 1  # each with a grid of its own


@dataclass(frozen=True)
class _Layout:
    """A codec file taken apart: names, types and shapes in the order of the data, and the regions of each array."""

    entries: list[tuple[str, dict[str, Any]]]
    arrays: dict[str, bytes]
    regions: list[tuple[str, _Region]]


def parent_identity(delta: bytes) -> bytes:
    """Identity of the codec file that a delta belongs to.

    Raises:
        FormatError: these bytes are no delta of this version.
    """
    return _head(delta)[0]


def make_delta(parent: bytes, adapted: bytes) -> bytes:
    """The delta from a codec file to the nearest one on its grid; `apply_delta` gives that codec file.

    A codec file that came out of `apply_delta` comes back bit for bit.

    Args:
        parent: bytes of a codec file.
        adapted: bytes of a codec file of the same architecture.

    Raises:
        ModelError: they differ in more than numbers.
    """
    layout, wished = _layout(parent), _arrays(adapted)
    card = wished.pop("card")
    if len(card) > CARD_MAX:
        raise ModelError(f"The card of the adapted codec has {len(card)} bytes, more than {CARD_MAX}. Shorten it.")
    changes = []
    for name, region in layout.regions:
        if len(wished.get(name, b"")) != len(layout.arrays[name]):
            raise _not_adapted(name)
        changes.append(_steps_to(_numbers(layout.arrays[name], region), _numbers(wished[name], region), region))
    numbers = bytes(_best_table(change) for change in changes)
    writer = SymbolWriter()
    for change, number in zip(changes, numbers, strict=True):
        if number != UNCHANGED:
            writer.write(change, np.full(change.size, number), _tables())
    result = _result(layout, changes, card)
    _same_otherwise(_arrays(result), wished, layout)
    digest = hashlib.sha256(result).digest()
    return HEAD.pack(SIGNATURE, VERSION, _identity(parent), digest, len(card)) + card + numbers + writer.finish()


def apply_delta(parent: bytes, delta: bytes, name: str = "delta") -> bytes:
    """The bytes of the adapted codec file.

    Args:
        parent: bytes of the codec file that the delta names.
        delta: as `make_delta` gave it.
        name: for messages.

    Raises:
        FormatError: damaged, cut short, or no delta of this version.
        ModelError: the delta belongs to another parent.
    """
    wanted, digest, card, rest = _head(delta, name)
    if wanted != _identity(parent):
        raise ModelError(
            f"{name} changes the model {wanted.hex()}, not {_identity(parent).hex()}. "
            "Install the version of rdae that ships it."
        )
    layout = _layout(parent)
    count = len(layout.regions)
    if len(rest) < count:
        raise FormatError(f"{name} is cut short: {len(rest)} bytes are left for {count} tables. Copy it again.")
    numbers, reader = rest[:count], SymbolReader(rest[count:])
    changes = []
    for (array, region), number in zip(layout.regions, numbers, strict=True):
        size = (region.stop - region.start) // np.dtype(region.dtype).itemsize
        if number != UNCHANGED and number >= len(RATIOS):
            raise FormatError(f"{name}: there is no table {number} for {array}. The file is damaged: copy it again.")
        if number == UNCHANGED:
            changes.append(np.zeros(size, np.int32))
        else:
            changes.append(reader.read(np.full(size, number), _tables()))
    result = _result(layout, changes, card, name)
    if hashlib.sha256(result).digest() != digest:
        raise FormatError(f"{name} does not give the model it promises. The file is damaged: copy it again.")
    return result


def _head(delta: bytes, name: str = "delta") -> tuple[bytes, bytes, bytes, bytes]:
    """Parent's identity, SHA-256 of the result, card, and what follows."""
    if len(delta) < HEAD.size or not delta.startswith(SIGNATURE) or len(delta) > DELTA_MAX:
        raise FormatError(f"{name} is no model delta of rdae ({len(delta)} bytes). The file is damaged: copy it again.")
    _, version, parent, digest, length = HEAD.unpack_from(delta)
    if version != VERSION:
        raise FormatError(f"{name} has version {version}; this package reads {VERSION}. Install a newer rdae.")
    if length > min(CARD_MAX, len(delta) - HEAD.size):
        raise FormatError(f"{name} claims a card of {length} bytes. The file is damaged: copy it again.")
    return parent, digest, delta[HEAD.size : HEAD.size + length], delta[HEAD.size + length :]


def _identity(codec: bytes) -> bytes:
    return hashlib.sha256(codec).digest()[:8]


def _not_adapted(name: str) -> ModelError:
    return ModelError(
        f"The codec differs from its parent in more than numbers ({name}). Only a codec adapted with "
        "`rdae train --from` from a shipped model, by the same version of PyTorch's exporter, has a small delta."
    )


# --- the codec file, as its bytes lie ------------------------------------------------------------------------------


def _entries(codec: bytes) -> tuple[list[tuple[str, dict[str, Any]]], memoryview]:
    """Names and descriptions of the arrays in the order of their data, and the data."""
    try:
        (length,) = struct.unpack_from("<Q", codec)
        described = json.loads(codec[8 : 8 + length])
        described.pop("__metadata__", None)
        return sorted(described.items(), key=lambda item: item[1]["data_offsets"]), memoryview(codec)[8 + length :]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"This is not a codec file ({error!r}). Pass one that `rdae train` wrote.") from error


def _arrays(codec: bytes) -> dict[str, bytes]:
    entries, data = _entries(codec)
    return {name: bytes(data[slice(*entry["data_offsets"])]) for name, entry in entries}


@lru_cache(4)
def _layout(codec: bytes) -> _Layout:
    entries, arrays = _entries(codec)[0], _arrays(codec)
    regions: list[tuple[str, _Region]] = []
    for name, entry in entries:
        if name.startswith("graph."):
            regions += [(name, region) for region in _weights(arrays[name])]
        elif entry["dtype"] in WHOLE:
            regions.append((name, _Region(0, len(arrays[name]), WHOLE[entry["dtype"]], "whole")))
    return _Layout(entries, arrays, regions)


def _result(layout: _Layout, changes: list[np.ndarray], card: bytes, name: str = "delta") -> bytes:
    """The parent's bytes with changed numbers and another card."""
    arrays = {array: bytearray(data) for array, data in layout.arrays.items()}
    arrays["card"] = bytearray(card)
    for (array, region), change in zip(layout.regions, changes, strict=True):
        if change.any():
            numbers = _moved(_numbers(layout.arrays[array], region), change, region, f"{name}: {array}")
            arrays[array][region.start : region.stop] = numbers.tobytes()
    described, at = {}, 0
    for array, entry in layout.entries:
        shape = [len(card)] if array == "card" else entry["shape"]
        described[array] = {"dtype": entry["dtype"], "shape": shape, "data_offsets": [at, at + len(arrays[array])]}
        at += len(arrays[array])
    header = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + b"".join(arrays[array] for array, _ in layout.entries)


def _same_otherwise(result: dict[str, bytes], wished: dict[str, bytes], layout: _Layout) -> None:
    """Refuses an adapted codec of which something else than numbers has changed."""
    if result.keys() - {"card"} != wished.keys():
        raise _not_adapted(", ".join(sorted((result.keys() - {"card"}) ^ wished.keys())))
    for array, data in wished.items():
        free = [region for name, region in layout.regions if name == array]
        stops, starts = [0, *(region.stop for region in free)], [*(region.start for region in free), len(data)]
        if len(data) != len(result[array]) or any(
            data[a:b] != result[array][a:b] for a, b in zip(stops, starts, strict=True)
        ):
            raise _not_adapted(array)


# --- graphs: where the weights of convolutions lie, in the wire format of protocol buffers -------------------------


def _fields(data: memoryview, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and stop of each field of a message; of a field without a length, its value and -1."""
    while start < stop:
        key, start = _varint(data, start)
        if key & 7 == 0:
            value, start = _varint(data, start)
            yield key >> 3, value, -1
        elif key & 7 == 2:
            length, start = _varint(data, start)
            yield key >> 3, start, start + length
            start += length
        elif key & 7 in (1, 5):
            start += 8 if key & 7 == 1 else 4
        else:
            raise ModelError("A graph of the codec file cannot be taken apart. Fetch the codec file again.")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at


def _weights(graph: bytes) -> list[_Region]:
    """Where the weights and biases of a graph's convolutions lie, in the order of the file."""
    data, regions = memoryview(graph), []
    kinds: dict[bytes, str] = {}
    constants: list[_Constant] = []
    for number, start, stop in _fields(data, 0, len(data)):
        if number != 7:  # the graph of the model
            continue
        for part, first, last in _fields(data, start, stop):
            if part == 1:
                kinds |= _weights_of_node(data, first, last)
            elif part == 5:
                constants.append(_constant(data, first, last))
    for constant in constants:
        kind = kinds.get(constant.name, "")
        dtype = TYPES.get((kind, constant.type))
        if dtype and constant.dims and constant.start < constant.stop:
            rows = constant.dims[0] if kind == "grid" and len(constant.dims) > 1 else 1
            regions.append(_Region(constant.start, constant.stop, dtype, kind, rows))
    return regions


def _weights_of_node(data: memoryview, start: int, stop: int) -> dict[bytes, str]:
    inputs, operation = [], b""
    for number, first, last in _fields(data, start, stop):
        if number == 1:
            inputs.append(bytes(data[first:last]))
        elif number == 4:
            operation = bytes(data[first:last])
    return {inputs[place]: kind for place, kind in WEIGHTS.get(operation, {}).items() if place < len(inputs)}


class _Constant(NamedTuple):
    """A tensor of a graph whose numbers are kept as bytes."""

    name: bytes
    type: int
    dims: list[int]
    start: int
    stop: int


def _constant(data: memoryview, start: int, stop: int) -> _Constant:
    dims: list[int] = []
    kind, name, raw = 0, b"", (0, 0)
    for number, first, last in _fields(data, start, stop):
        if number == 1 and last < 0:
            dims.append(first)
        elif number == 1:
            while first < last:
                side, first = _varint(data, first)
                dims.append(side)
        elif number == 2:
            kind = first
        elif number == 8:
            name = bytes(data[first:last])
        elif number == 9:
            raw = first, last
    return _Constant(name, kind, dims, *raw)


# --- numbers, as steps from the parent's ---------------------------------------------------------------------------


def _numbers(array: bytes, region: _Region) -> np.ndarray:
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


def _steps_to(parent: np.ndarray, wished: np.ndarray, region: _Region) -> np.ndarray:
    """Whole steps, int32, from the parent's numbers to the nearest ones that can be reached."""
    if region.kind == "whole":
        steps = (wished.astype(np.int64) - parent).astype(np.float64)
    elif region.kind == "power":
        steps = (np.frexp(wished)[1] - np.frexp(parent)[1]).astype(np.float64)
    else:
        steps = np.rint((wished.astype(np.float64) - parent) / _grid(parent, region.rows))
    if not (np.abs(steps) < STEPS_MAX).all():  # NaN is refused too
        raise ModelError("A weight of the adapted codec has run away. Train again with fewer steps.")
    return steps.astype(np.int32)


def _moved(parent: np.ndarray, steps: np.ndarray, region: _Region, name: str) -> np.ndarray:
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


# --- the tables that steps are coded with --------------------------------------------------------------------------


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
def _tables() -> CoderTables:
    return CoderTables(_plain_tables())


def _best_table(steps: np.ndarray) -> int:
    """Number of the table that codes steps in the fewest bits."""
    if not steps.any():
        return UNCHANGED
    clip = 4 * REACH_MAX
    histogram = np.bincount(np.clip(steps, -clip, clip) + clip, minlength=2 * clip + 1)
    return int((_plain_tables().bits(clip) @ histogram).argmin())
