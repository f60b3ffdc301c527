"""What an adapted codec differs in from the shipped one it came from: numbers only, as whole steps of a grid.

A delta changes the weights of convolutions inside the graphs, and the whole numbers of tables, of a parent that is at
hand; it can neither change the graphs nor claim a size. So what a stranger sends is never run: it is at most another
set of weights, and memory is bounded by the parent's. docs/format.md has the bytes.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from rdae.coding.graph_weights import Region, weights
from rdae.coding.rangecoder import SymbolReader, SymbolWriter
from rdae.coding.weight_steps import TABLES, UNCHANGED, best_table, moved, numbers_of, step_tables, steps_to
from rdae.errors import FormatError, ModelError

__all__ = ["DELTA_MAX", "apply_delta", "make_delta", "parent_identity"]

SIGNATURE = b"\x89RDAD\r\n\x1a"
VERSION = 1
HEAD = struct.Struct("<8sB8s32sI")  # signature, version, parent's identity, SHA-256 of the result, length of the card
DELTA_MAX = 1 << 24
CARD_MAX = 1 << 16
WHOLE = {"I16": "<i2", "I32": "<i4"}


@dataclass(frozen=True)
class _Layout:
    """A codec file taken apart: names, types and shapes in the order of the data, and the regions of each array."""

    entries: list[tuple[str, dict[str, Any]]]
    arrays: dict[str, bytes]
    regions: list[tuple[str, Region]]


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
        changes.append(steps_to(numbers_of(layout.arrays[name], region), numbers_of(wished[name], region), region))
    numbers = bytes(best_table(change) for change in changes)
    writer = SymbolWriter()
    for change, number in zip(changes, numbers, strict=True):
        if number != UNCHANGED:
            writer.write(change, np.full(change.size, number), step_tables())
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
        if number != UNCHANGED and number >= TABLES:
            raise FormatError(f"{name}: there is no table {number} for {array}. The file is damaged: copy it again.")
        if number == UNCHANGED:
            changes.append(np.zeros(size, np.int32))
        else:
            changes.append(reader.read(np.full(size, number), step_tables()))
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
    regions: list[tuple[str, Region]] = []
    for name, entry in entries:
        if name.startswith("graph."):
            regions += [(name, region) for region in weights(arrays[name])]
        elif entry["dtype"] in WHOLE:
            regions.append((name, Region(0, len(arrays[name]), WHOLE[entry["dtype"]], "whole")))
    return _Layout(entries, arrays, regions)


def _result(layout: _Layout, changes: list[np.ndarray], card: bytes, name: str = "delta") -> bytes:
    """The parent's bytes with changed numbers and another card."""
    arrays = {array: bytearray(data) for array, data in layout.arrays.items()}
    arrays["card"] = bytearray(card)
    for (array, region), change in zip(layout.regions, changes, strict=True):
        if change.any():
            numbers = moved(numbers_of(layout.arrays[array], region), change, region, f"{name}: {array}")
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
