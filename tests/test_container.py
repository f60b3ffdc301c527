"""The bytes of a .rdae file: what is written is read back, and lies are refused by name before they cost anything."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import unchecked_writer as lies
from conftest import photograph
from hypothesis import given, settings
from hypothesis import strategies as st

from rdae.coding.container import (
    MAX_PIXELS,
    MAX_SIDE,
    SIGNATURE,
    Chunk,
    Contents,
    Header,
    Tag,
    parse,
    parse_header,
    serialise,
)
from rdae.errors import FormatError, LimitError, ModelError, RdaeError

OVERHEAD_MAX = 48  # bytes of a one-tile file that are not entropy-coded payload

headers = st.builds(
    Header,
    colour=st.integers(0, 7),
    level=st.integers(0, 200),
    width=st.integers(1, MAX_SIDE),
    height=st.integers(1, MAX_SIDE),
    model=st.binary(min_size=8, max_size=8),
)
optional_chunks = st.builds(Chunk, st.integers(128, 255), st.binary(max_size=300))


@given(
    header=headers, tiles=st.lists(st.binary(max_size=300), max_size=5), chunks=st.lists(optional_chunks, max_size=4)
)
def test_what_is_written_is_read_back(header, tiles, chunks):
    read = parse(serialise(Contents(header, tiles, chunks)), max_pixels=None)
    assert (read.header, read.tiles, read.chunks) == (header, tiles, chunks)


@given(header=headers, tiles=st.lists(st.binary(max_size=300), max_size=3))
def test_the_independent_writer_makes_the_same_bytes(header, tiles):
    other = lies.header(
        colour=header.colour, level=header.level, width=header.width, height=header.height, model=header.model
    )
    other += b"".join(lies.chunk(Tag.TILE, tile) for tile in tiles)
    assert serialise(Contents(header, tiles)) == other


@given(header=headers)
def test_the_header_alone_is_read_from_the_first_96_bytes(header):
    data = serialise(Contents(header, [bytes(500)]))
    assert parse_header(data[:96]) == header


def test_the_signature_shows_a_transfer_as_text():
    data = lies.header() + lies.chunk(Tag.TILE, bytes(9))
    with pytest.raises(FormatError, match="copy it as binary"):
        parse(data.replace(b"\r\n", b"\n"))
    with pytest.raises(FormatError, match="not an rdae file"):
        parse(b"\x89PNG\r\n\x1a\n" + bytes(50))


@given(width=st.integers(1, 2048), height=st.integers(1, 2048), length=st.integers(0, 1 << 24))
@settings(max_examples=30, deadline=None)
def test_a_one_tile_file_has_at_most_48_bytes_of_overhead(width, height, length):
    tile = bytes(length)  # checksum of symbols (4), flags (3), entropy-coded words
    size = len(serialise(Contents(Header(1, 100, width, height, bytes(8)), [tile])))
    assert size - max(0, length - 7) <= OVERHEAD_MAX


@pytest.fixture(scope="module")
def small(codec) -> bytes:
    """A small file with every mandatory part but alpha."""
    return codec.compress(photograph(24, 20, 1), 30)


def test_a_real_file_has_at_most_48_bytes_of_overhead(codec, small):
    contents = parse(small)
    assert len(contents.tiles) == 1
    assert len(small) - (len(contents.tiles[0]) - 5) <= OVERHEAD_MAX


def test_a_file_cut_short_anywhere_is_refused(codec, small):
    for length in range(len(small)):
        with pytest.raises(FormatError):
            codec.decompress(small[:length])


def test_any_damaged_byte_is_refused_not_decoded(codec, small):
    rng = np.random.default_rng(0)
    for at in range(len(small)):
        for flip in {1 << int(rng.integers(8)), int(rng.integers(1, 256)), 255}:
            damaged = small[:at] + bytes([small[at] ^ flip]) + small[at + 1 :]
            with pytest.raises((FormatError, LimitError, ModelError)):
                codec.decompress(damaged)


def test_bytes_after_the_end_are_refused(codec, small):
    with pytest.raises(FormatError):
        codec.decompress(small + b"\x00")


def test_two_files_end_to_end_are_refused(codec, small):
    with pytest.raises(FormatError):
        codec.decompress(small + small)


def with_chunk(data: bytes, extra: bytes) -> bytes:
    """A file with something between its header and its first chunk."""
    at = len(SIGNATURE) + 1 + data[len(SIGNATURE)] + 4
    return data[:at] + extra + data[at:]


@pytest.mark.parametrize("tag", [132, 200, 255])
def test_an_unknown_optional_chunk_is_passed_over(codec, small, tag):
    picture = codec.decompress(with_chunk(small, lies.chunk(tag, b"from the future")))
    np.testing.assert_array_equal(picture.pixels, codec.decompress(small).pixels)


@pytest.mark.parametrize("tag", [0, 3, 77, 127])
def test_an_unknown_mandatory_chunk_is_refused(codec, small, tag):
    with pytest.raises(FormatError, match=f"chunk {tag}.*Install a newer"):
        codec.decompress(with_chunk(small, lies.chunk(tag, b"from the future")))


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_says_what_to_install(version):
    with pytest.raises(FormatError, match=f"format version {version}.*Install a newer rdae"):
        parse(lies.header(version=version) + lies.chunk(Tag.TILE, bytes(9)))


@pytest.mark.parametrize(
    "fields",
    [
        {"width": 0}, {"height": 0}, {"width": MAX_SIDE + 1}, {"height": 1 << 40}, {"colour": 8}, {"colour": 255},
        {"tail": b"x"}, {"model": b"short"}, {"length": 0}, {"length": 255},
        {"length": 12}, {"length": 14}, {"level": 201}, {"crc": 0},
    ],
)  # fmt: skip
def test_an_impossible_header_is_refused(fields):
    with pytest.raises(FormatError):
        parse(lies.header(**fields) + lies.chunk(Tag.TILE, bytes(9)))


@pytest.mark.parametrize("length", [10, 1 << 20, (1 << 35) - 1, 1 << 35, 1 << 60])
def test_a_chunk_longer_than_the_file_is_refused(length):
    with pytest.raises(FormatError):
        parse(lies.header() + lies.chunk(Tag.TILE, bytes(9), length=length))


def test_a_length_without_end_is_refused():
    with pytest.raises(FormatError, match="is no number"):
        parse(lies.header() + bytes([Tag.TILE]) + b"\x80" * 50)


def test_claims_of_size_are_refused_before_memory_is_taken(codec):
    identity = codec.model.identity
    pieces = lies.chunk(Tag.TILE, bytes(9))
    huge = [
        lies.header(width=MAX_SIDE, height=MAX_SIDE, model=identity) + pieces,  # over the limit of pixels
        lies.header(width=MAX_PIXELS // 256, height=256, model=identity) + pieces,  # at the limit, but 1 tile of 512
        lies.header(model=identity) + lies.chunk(Tag.TILE, bytes(9), length=(1 << 35) - 1),
        lies.header(model=identity) + lies.chunk(Tag.ICC, b"", length=1 << 33) + pieces,
    ]
    codec.compress(np.zeros((2, 2), np.uint8))  # opens the networks
    tracemalloc.start()
    for data in huge:
        with pytest.raises((FormatError, LimitError)):
            codec.decompress(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_the_limit_of_pixels_is_the_callers(codec, small):
    with pytest.raises(LimitError, match="--max-pixels"):
        codec.decompress(small, max_pixels=24 * 20 - 1)
    assert codec.decompress(small, max_pixels=24 * 20).size == (24, 20)
    assert codec.decompress(small, max_pixels=None).size == (24, 20)


def test_every_refusal_is_one_of_ours(codec, small):
    for data in (b"", b"\x89", SIGNATURE, SIGNATURE + b"\xff" * 90, bytes(1000), small[:8] + bytes(200)):
        with pytest.raises(RdaeError):
            codec.decompress(data, name="photo.rdae")
