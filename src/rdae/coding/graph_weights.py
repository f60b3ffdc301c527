"""Where the weights of convolutions lie in an ONNX graph, read from the wire format of protocol buffers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rdae.errors import ModelError

__all__ = ["Region", "weights"]

# inputs of a node that are weights, and how they may change; and the types that tensors of each may have
WEIGHTS = {b"Conv": {1: "grid", 2: "grid"}, b"QLinearConv": {3: "whole", 4: "power", 8: "whole"}}
TYPES = {("grid", 1): "<f4", ("power", 1): "<f4", ("whole", 3): "<i1", ("whole", 6): "<i4"}


class Region(NamedTuple):
    """Numbers of an array of a codec file that a delta may change."""

    start: int  # bytes, from the start of its array
    stop: int
    dtype: str
    kind: str  # "grid", "whole" numbers, or "power": of those, steps are doublings
    rows: int = 1  # each with a grid of its own


def weights(graph: bytes) -> list[Region]:
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
            regions.append(Region(constant.start, constant.stop, dtype, kind, rows))
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
