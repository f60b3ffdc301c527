"""The bytes of a .rdae file: signature, header, chunks. docs/format.md is the specification.

Nothing in a file is believed before it is checked: a length is compared with what is left, a checksum with its
bytes, and sizes with the caller's limits before memory is taken.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

from rdae.errors import FormatError, LimitError

__all__ = [
    "LEVELS_PER_QUALITY", "MAX_PIXELS", "MAX_SIDE", "QUALITY_LEVELS", "SIGNATURE", "Chunk", "Colour", "Contents",
    "Header", "Tag", "parse", "parse_header", "serialise",
]  # fmt: skip

# a high bit, the name, and both line ends: a transfer as text damages it at once
SIGNATURE = b"\x89RDAE\r\n\x1a"
VERSION = 1
MAX_SIDE = 1 << 20
LEVELS_PER_QUALITY = 2  # quality 0 to 100 comes in halves
QUALITY_LEVELS = 100 * LEVELS_PER_QUALITY + 1
MAX_PIXELS = 1 << 28  # default limit when decoding: 268 megapixels
HEADER_MAX = 64


class Colour:
    """Colour types: what kind of image went in."""

    GREY, RGB, GREY_ALPHA, RGBA = 0, 1, 2, 3
    DEEP = 4  # added for 16 bits per channel
    NAMES = {0: "grey", 1: "RGB", 2: "grey with alpha", 3: "RGBA"}


class Tag:
    """Kinds of chunks. From 128 on a chunk is optional: a reader that does not know it goes on without."""

    TILE, ALPHA = 1, 2
    ICC, EXIF, XMP, ERROR = 128, 129, 130, 131
    NAMES = {1: "tile", 2: "alpha", 128: "ICC profile", 129: "EXIF", 130: "XMP", 131: "largest error"}


class Header(NamedTuple):
    """What a file says before its first chunk."""

    colour: int  # Colour.*, with Colour.DEEP added for 16 bits
    level: int  # quality level, a row of the model's tables
    width: int
    height: int
    model: bytes  # 8 bytes: identity of the codec file

    @property
    def deep(self) -> bool:
        """16 bits per channel."""
        return bool(self.colour & Colour.DEEP)

    @property
    def alpha(self) -> bool:
        """Has an alpha channel."""
        return bool(self.colour & 2)

    @property
    def grey(self) -> bool:
        """Has one colour channel."""
        return not self.colour & 1


class Chunk(NamedTuple):
    """A kind and its bytes."""

    tag: int
    payload: bytes


@dataclass
class Contents:
    """A whole file, taken apart."""

    header: Header
    tiles: list[bytes] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)

    def find(self, tag: int) -> bytes | None:
        """Payload of the first chunk of a kind."""
        return next((chunk.payload for chunk in self.chunks if chunk.tag == tag), None)

    @property
    def largest_error(self) -> int | None:
        """Largest error of a 16-bit picture, in levels; None where the file does not say it in two bytes."""
        payload = self.find(Tag.ERROR)
        return int.from_bytes(payload, "little") if payload is not None and len(payload) == 2 else None


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


class _Reader:
    """Walks a file front to back. A length in a file is a claim, checked before it is used."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data, self._at, self._name = memoryview(data), 0, name

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, length: int, what: str) -> bytes:
        if length > self.left:
            raise FormatError(
                f"{self._name}: {what} should be {length} bytes, but {self.left} are left. "
                "The file is cut short or damaged: copy it again."
            )
        self._at += length
        return bytes(self._data[self._at - length : self._at])

    def varint(self, what: str) -> int:
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1, what)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise FormatError(f"{self._name}: {what} is no number. The file is damaged: copy it again.")

    def checked(self, start: int, what: str) -> None:
        """Compares the checksum that follows with the bytes since `start`."""
        actual = zlib.crc32(self._data[start : self._at])
        (stored,) = struct.unpack("<I", self.take(4, f"checksum of {what}"))
        if actual != stored:
            raise FormatError(
                f"{self._name}: the checksum of {what} does not match. The file is damaged: copy it again."
            )

    @property
    def at(self) -> int:
        return self._at


def serialise(contents: Contents) -> bytes:
    """The bytes of a file."""
    h = contents.header
    fields = bytes([VERSION, h.colour, h.level]) + _varint(h.width) + _varint(h.height) + h.model
    header = bytes([len(fields)]) + fields
    parts = [SIGNATURE, header, struct.pack("<I", zlib.crc32(header))]
    for tag, payload in [*contents.chunks, *((Tag.TILE, tile) for tile in contents.tiles)]:
        body = bytes([tag]) + _varint(len(payload)) + payload
        parts += [body, struct.pack("<I", zlib.crc32(body))]
    return b"".join(parts)


def _header(reader: _Reader, name: str, max_pixels: int | None) -> Header:
    signature = reader.take(len(SIGNATURE), "signature")
    if signature != SIGNATURE:
        cure = "It was probably copied as text: copy it as binary." if signature[1:5] == SIGNATURE[1:5] else ""
        raise FormatError(f"{name} is not an rdae file: it begins with {signature!r}. {cure}".rstrip())
    start = reader.at
    length = reader.take(1, "header length")[0]
    if length > HEADER_MAX:
        raise FormatError(f"{name}: a header of {length} bytes is longer than any. The file is damaged: copy it again.")
    fields = reader.take(length, "header")
    reader.checked(start, "the header")
    inner = _Reader(fields, name)
    version = inner.take(1, "version")[0]
    if version != VERSION:
        raise FormatError(
            f"{name} has format version {version}; this package reads version {VERSION}. Install a newer rdae."
        )
    colour, level = inner.take(2, "colour type")
    width, height = inner.varint("width"), inner.varint("height")
    model = inner.take(8, "model identity")
    if colour > 7 or level >= QUALITY_LEVELS or not 0 < width <= MAX_SIDE or not 0 < height <= MAX_SIDE or inner.left:
        raise FormatError(
            f"{name}: colour type {colour}, quality level {level} or size {width} x {height} is not possible. "
            "The file is damaged: copy it again."
        )
    if max_pixels is not None and width * height > max_pixels:
        raise LimitError(
            f"{name} claims {width} x {height} pixels, more than the limit of {max_pixels}. "
            "If you trust the file, raise the limit (max_pixels, --max-pixels)."
        )
    return Header(colour, level, width, height, model)


def parse_header(data: bytes, name: str = "data", max_pixels: int | None = None) -> Header:
    """The header alone, from the first 96 bytes or more of a file.

    Raises:
        FormatError: not a file of ours, damaged or cut short.
        LimitError: the image is larger than `max_pixels`.
    """
    return _header(_Reader(data[:96], name), name, max_pixels)


def parse(data: bytes, name: str = "data", max_pixels: int | None = MAX_PIXELS) -> Contents:
    """Takes a file apart, checking every length and checksum.

    Args:
        data: the whole file.
        name: for messages.
        max_pixels: refuse larger images before any memory is taken; None for no limit.

    Raises:
        FormatError: not a file of ours, damaged or cut short.
        LimitError: the image is larger than `max_pixels`.
    """
    reader = _Reader(data, name)
    contents = Contents(_header(reader, name, max_pixels))
    while reader.left:
        start = reader.at
        tag = reader.take(1, "chunk type")[0]
        label = Tag.NAMES.get(tag, f"chunk of type {tag}")
        payload = reader.take(reader.varint(f"length of {label}"), label)
        reader.checked(start, label)
        if tag == Tag.TILE:
            contents.tiles.append(payload)
        elif tag in Tag.NAMES or tag >= 128:
            contents.chunks.append(Chunk(tag, payload))
        else:
            raise FormatError(f"{name} needs a feature (chunk {tag}) this package does not know. Install a newer rdae.")
    return contents
