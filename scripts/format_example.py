"""Writes the worked example of docs/format.md anew: a tiny file, byte by byte.

    python scripts/format_example.py             # print the table
    python scripts/format_example.py --write     # put it into docs/format.md
    python scripts/format_example.py --model PATH_OF_A_CODEC_FILE

Run it with --write whenever the shipped model changes.
"""

from __future__ import annotations

import argparse
import struct
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rdae.coding.codec import Codec
from rdae.coding.container import parse
from rdae.coding.pyramid import PyramidCoder
from rdae.coding.registry import load

PAGE = Path(__file__).parents[1] / "docs" / "format.md"
START, END = "<!-- example -->\n", "<!-- end of example -->"
QUALITY = 50


def picture() -> np.ndarray:
    """Eight columns by six rows: a grey ramp, its right half warmer."""
    y = np.empty((6, 8, 3), dtype=np.uint8)
    y[:] = (40 + 20 * np.arange(8))[None, :, None]
    y[:, 4:, 0] += 30
    return y


def fields(data: bytes) -> Iterator[tuple[bytes, str]]:
    """The file cut into fields, each with what it says."""
    at = 0

    def take(n: int) -> bytes:
        nonlocal at
        at += n
        return data[at - n : at]

    def number() -> tuple[bytes, int]:
        raw, value = b"", 0
        while True:
            byte = take(1)
            value |= (byte[0] & 127) << 7 * len(raw)
            raw += byte
            if byte[0] < 128:
                return raw, value

    yield take(8), "signature"
    length = take(1)
    yield length, f"header length: {length[0]} bytes follow"
    yield take(1), "format version 1"
    colour = take(1)
    yield colour, f"colour type {colour[0]}: RGB, no alpha, 8 bits"
    level = take(1)
    yield level, f"quality level {level[0]}: quality {level[0] / 2:g}"
    for what in ("width", "height"):
        raw, value = number()
        yield raw, f"{what} {value}"
    yield take(8), "model identity"
    yield take(4), "CRC-32 of the header, from its length byte"
    yield take(1), "chunk tag 1: tile"
    raw, payload = number()
    yield raw, f"payload of {payload} bytes"
    yield take(4), "CRC-32 of the symbols"
    flags = take(3)
    yield flags, "flags of 19 passes: 1 where near-certain zeros are left out"
    for k in range((payload - 7) // 4):
        word = take(4)
        yield word, f"word {k} of the symbol stream: {struct.unpack('<I', word)[0]:#010x}"
    yield take(4), "CRC-32 of the chunk, from its tag"
    assert at == len(data)


def corner(codec: Codec, words: tuple[int, ...]) -> Iterator[str]:
    """The first call of the stream, symbol by symbol, by the rules of the page."""
    tables, numbers = codec.model.tables("low"), codec.model.array("low.corner").tolist()
    point, width, used = words[0] << 32 | words[1], 2**64 - 1, 2
    yield f"Start: point = {point:#018x}, range = {width:#018x}."
    for colour in sorted(range(3), key=lambda c: numbers[c]):
        number, before, k = numbers[colour], 0, 0
        counts, reach = tables[number].tolist(), int(tables.reach[number])
        scale = width >> 24
        quantile = point // scale
        ends = []
        for k, count in enumerate(counts):
            ends.append(before * (2**24 - len(counts)) // 2**16 + k)
            before += count
        ends.append(2**24)
        k = max(i for i, end in enumerate(ends) if end <= quantile)
        point, width = point - scale * ends[k], scale * (ends[k + 1] - ends[k])
        shifted = ""
        if width < 2**32:
            point, width, used = point << 32 | words[used], width << 32, used + 1
            shifted = f" A shift took in word {used - 1}."
        assert k <= 2 * reach, "the picture of the example needs no escape"
        yield (
            f"Colour {colour}, table {number} of reach {reach}: scale {scale:#x}, q = {quantile}, in the interval "
            f"[{ends[k]}, {ends[k + 1]}) of k = {k}: the symbol is {k - reach}.{shifted} "
            f"Then point = {point:#018x}, range = {width:#018x}."
        )


def example(model: str) -> str:
    """The block that stands between the markers of the page."""
    codec = load(model)
    data = codec.compress(picture(), QUALITY)
    shown = codec.decompress(data).pixels
    rows, at = [], 0
    for raw, meaning in fields(data):
        rows.append(f"| {at} | `{raw.hex(' ').upper()}` | {meaning} |")
        at += len(raw)
    red, green, blue = shown[0].T.tolist()
    introduction = textwrap.fill(
        f"Model `{codec.model.name}`, identity `{codec.model.identity.hex()}`. The picture has 8 x 6 pixels: column j "
        "is the grey level 40 + 20 j, and 30 is added to red from column 4 on. "
        f"At quality {QUALITY} the file has {len(data)} bytes. Its first row decodes to red {red}, green {green}, "
        f"blue {blue} (a level more or less on another machine).",
        width=116,
    )
    (payload,) = parse(data).tiles
    words = struct.unpack(f"<{(len(payload) - 7) // 4}I", payload[7:])
    unit = PyramidCoder.of(codec.model).unit
    low = PyramidCoder.of(codec.model).decode(payload[4:], 2 * QUALITY, (unit, unit), picture().shape[:2])[0]
    trace = [f"{k}. {line}" for k, line in enumerate(corner(codec, words), start=1)]
    after = (
        f"The tile is padded to {unit} x {unit} pixels. "
        "The first call, the corner of the low band, in the order of its table numbers:"
    )
    ending = f"The whole low band, colour by colour: `{low.tolist()}`."
    table = ["| offset | bytes | meaning |", "|---:|---|---|", *rows]
    return "\n".join([introduction, "", *table, "", after, "", *trace, "", ending, ""])


def main() -> None:
    """Prints or writes the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="photo", help="name of a shipped model, or path of a codec file")
    parser.add_argument("--write", action="store_true", help="replace the example in docs/format.md")
    arguments = parser.parse_args()
    block = example(arguments.model)
    if not arguments.write:
        print(block, end="")
        return
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{PAGE} lacks the markers {START.strip()} and {END}. Put them around the example.")
    PAGE.write_text(before + START + "\n" + block + "\n" + END + after, "utf-8")


if __name__ == "__main__":
    main()
