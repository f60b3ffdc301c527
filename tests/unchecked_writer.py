"""A writer of .rdae files that checks nothing, so that tests can write lies. Independent of `rdae.coding.container`:
written from docs/format.md alone.
"""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89RDAE\r\n\x1a"
TILE, ALPHA, ICC, EXIF, XMP, ERROR = 1, 2, 128, 129, 130, 131


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first, the high bit set on all but the last."""
    out = b""
    while True:
        value, low = value >> 7, value & 127
        if not value:
            return out + bytes([low])
        out += bytes([low | 128])


def header(
    *, colour: int = 1, level: int = 100, width: int = 8, height: int = 8, model: bytes = b"identity",
    version: int = 1, tail: bytes = b"", length: int | None = None, crc: int | None = None,
) -> bytes:  # fmt: skip
    """Signature and header; length and checksum can be lies."""
    fields = bytes([version, colour, level]) + varint(width) + varint(height) + model + tail
    body = bytes([len(fields) if length is None else length]) + fields
    return SIGNATURE + body + struct.pack("<I", zlib.crc32(body) if crc is None else crc)


def chunk(tag: int, payload: bytes, *, length: int | None = None, crc: int | None = None) -> bytes:
    """A chunk; length and checksum can be lies."""
    body = bytes([tag]) + varint(len(payload) if length is None else length) + payload
    return body + struct.pack("<I", zlib.crc32(body) if crc is None else crc)


def png(width: int, height: int, depth: int, kind: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG whose header may lie about its rows; `extra` are chunks before the pixels."""

    def part(tag: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = [(b"IHDR", head), *extra, (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(part(tag, data) for tag, data in parts)
