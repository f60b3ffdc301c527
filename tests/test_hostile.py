"""Files made to harm: each gives a picture of the stated size or a named error, in bounded time and memory.

The writer in `unchecked_writer.py` makes every checksum right, so that lies pass the gate and meet what is behind it.
"""

from __future__ import annotations

import contextlib
import io
import struct
import time
import tracemalloc
import zlib

import constriction
import numpy as np
import pytest
import unchecked_writer as lies
from conftest import photograph
from PIL import Image

from rdae.coding.codec import _checksum
from rdae.coding.container import parse, parse_header
from rdae.coding.picture import from_array
from rdae.coding.pil_images import to_pil
from rdae.coding.rangecoder import ESCAPE_BITS_MAX
from rdae.coding.registry import codec_for
from rdae.coding.scale_shifts import pack_shifts
from rdae.errors import FormatError, ModelError, RdaeError

SECONDS, MEGABYTES = 20, 96  # of one small file; what is measured is far below, and a machine may be busy


class bounded:
    """Fails where a block takes too long or too much memory (NumPy reports its arrays to tracemalloc)."""

    def __enter__(self) -> None:
        self.start = time.perf_counter()
        tracemalloc.start()

    def __exit__(self, *error) -> None:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        if error[0] is None:
            assert time.perf_counter() - self.start < SECONDS
            assert peak < MEGABYTES << 20


@pytest.fixture(scope="module")
def warm(codec):
    """The codec with its networks opened."""
    codec.decompress(codec.compress(photograph(20, 20, 0)))
    return codec


def file(codec, *chunks: bytes, **fields) -> bytes:
    """A file with right checksums; by default 24 x 20 pixels of this codec's model."""
    return lies.header(**({"model": codec.model.identity, "width": 24, "height": 20} | fields)) + b"".join(chunks)


def tile_of(codec, stream: bytes, *, height=20, width=24, level=100) -> bytes:
    """A tile chunk whose checksum is that of whatever its stream decodes to."""
    symbols = codec._coder.decode(stream, level, (64, 64), (height, width))
    return lies.chunk(lies.TILE, struct.pack("<I", _checksum(symbols)) + stream)


def honest(codec) -> tuple[bytes, bytes]:
    """Tile chunk of a real file, and the file; at the very level that `file` writes."""
    data = codec._encode(from_array(photograph(20, 24, 1)), 100, [])[0]
    return lies.chunk(lies.TILE, parse(data).tiles[0]), data


# --- lies of the container -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [0, 2, 3, 1000])
def test_a_wrong_number_of_tiles_is_refused(warm, copies):
    tile, data = honest(warm)
    assert file(warm, tile) == data
    with bounded(), pytest.raises(FormatError, match=f"should hold 1 tiles but holds {copies}"):
        warm.decompress(file(warm, *[tile] * copies))


@pytest.mark.parametrize("size", [(4096, 20), (20, 4096), (4096, 4096), (16384, 16384)])
def test_a_size_that_needs_more_tiles_is_refused(warm, size):
    tile, _ = honest(warm)
    with bounded(), pytest.raises(FormatError, match="tiles"):
        warm.decompress(file(warm, tile, width=size[0], height=size[1]))


@pytest.mark.parametrize("size", [(1, 1), (25, 20), (24, 21), (64, 64), (700, 300)])
def test_a_stream_of_another_size_is_refused(warm, size):
    tile, _ = honest(warm)
    with bounded(), pytest.raises(FormatError):
        warm.decompress(file(warm, tile, width=size[0], height=size[1]))


def test_a_stream_of_another_quality_is_refused(warm):
    tile, _ = honest(warm)
    for level in (0, 99, 101, 200):
        with pytest.raises(FormatError):
            warm.decompress(file(warm, tile, level=level))


@pytest.mark.parametrize("level", [201, 255])
def test_an_impossible_level_is_refused(warm, level):
    tile, _ = honest(warm)
    with pytest.raises(FormatError, match=f"level {level}"):
        warm.decompress(file(warm, tile, level=level))


@pytest.mark.parametrize("model", [bytes(8), b"\xff" * 8])
def test_another_model_is_named(warm, model):
    tile, _ = honest(warm)
    data = file(warm, tile, model=model)
    for decode in (warm.decompress, codec_for):
        with pytest.raises(ModelError, match=model.hex()):
            decode(data)


@pytest.mark.parametrize("length", range(5))
def test_a_tile_without_a_stream_is_refused(warm, length):
    with pytest.raises(FormatError, match=f"only {length} bytes"):
        warm.decompress(file(warm, lies.chunk(lies.TILE, bytes(length))))


@pytest.mark.parametrize("length", [8, 9, 10, 13])
def test_a_stream_of_broken_words_is_refused(warm, length):
    with pytest.raises(FormatError, match="multiple of 4"):
        warm.decompress(file(warm, lies.chunk(lies.TILE, bytes(length))))


def test_colours_that_do_not_fit_the_stream_still_give_a_picture_of_the_size(warm):
    """Grey, colour and depth only say how the pixels are shown."""
    tile, _ = honest(warm)
    for colour, shape in ((0, (20, 24, 1)), (1, (20, 24, 3)), (4, (20, 24, 1)), (5, (20, 24, 3))):
        picture = warm.decompress(file(warm, tile, colour=colour))
        assert picture.pixels.shape == shape
        assert picture.deep == (colour >= 4)
        to_pil(picture)


def flags(codec, value: int) -> bytes:
    """The head of a stream: which passes leave zeros out; -1 stands for all."""
    coder = codec._coder
    return (value % (1 << coder.passes)).to_bytes(coder.flag_bytes, "little")


# --- lies of the stream --------------------------------------------------------------------------------------------


def test_garbage_with_right_checksums_is_refused(warm):
    rng = np.random.default_rng(1)
    with bounded():
        for words in (0, 1, 2, 5, 50, 2000):
            payload = rng.bytes(4) + flags(warm, words % 2) + rng.bytes(4 * words)
            with pytest.raises(FormatError, match=r"do not match their checksum|cannot be decoded|no encoder writes"):
                warm.decompress(file(warm, lies.chunk(lies.TILE, payload)))


@pytest.mark.parametrize("skip", [0, 1, 2, 255, -1])
@pytest.mark.parametrize("word", [0x00000000, 0xFFFFFFFF, 0x80000000, None])
def test_garbage_that_passes_every_check_is_only_an_ugly_picture(warm, skip, word):
    rng, shown = np.random.default_rng(2), 0
    for count in (0, 1, 40, 400):
        words = rng.integers(0, 2**32, size=count, dtype=np.uint32) if word is None else np.full(count, word, np.uint32)
        stream = flags(warm, skip) + words.astype("<u4").tobytes()
        with bounded():
            try:
                tile = tile_of(warm, stream)
            except FormatError:  # no stream of these words exists
                continue
            picture = warm.decompress(file(warm, tile))
        assert picture.pixels.shape == (20, 24, 3)
        shown += 1
    assert shown > 0  # a test that never decodes garbage says nothing


def forged_low(codec, symbol_bits: list[int]) -> bytes:
    """A stream whose first symbol is an escape, followed by these bits."""
    low, number = codec._coder._low, int(codec._coder.tables.low.corner[0])
    coder = constriction.stream.queue.RangeEncoder()
    numbers = codec._coder.tables.low.corner
    for n in sorted(set(numbers.tolist())):  # the corner samples of three colours are the first call
        same = (numbers == n).sum()
        codes = [2 * low.reach[n] + 1 if n == number and k == 0 else low.reach[n] for k in range(same)]
        coder.encode(np.array(codes, dtype=np.int32), low[n])
    coder.encode(np.array(symbol_bits, dtype=np.int32), constriction.stream.model.Uniform(2))
    return b"\x01\x00\x00" + coder.get_compressed().astype("<u4").tobytes()


@pytest.mark.parametrize("ones", [ESCAPE_BITS_MAX, 1000, 100_000])
def test_a_giant_escape_is_refused(warm, ones):
    stream = forged_low(warm, [0] + [1] * ones)
    with bounded(), pytest.raises(FormatError, match="no encoder writes"):
        warm.decompress(file(warm, lies.chunk(lies.TILE, bytes(4) + stream)))


@pytest.mark.parametrize("sign", [0, 1])
def test_an_escape_beyond_16_bits_is_refused(warm, sign):
    ones = ESCAPE_BITS_MAX - 1
    stream = forged_low(warm, [sign] + [1] * ones + [0] + [1] * ones)
    with bounded(), pytest.raises(FormatError, match="damaged"):
        warm.decompress(file(warm, lies.chunk(lies.TILE, bytes(4) + stream)))


def test_flags_of_passes_that_do_not_exist_are_refused(warm):
    stream = b"\x00\x00\x80" + bytes(8)
    with pytest.raises(FormatError, match="no encoder writes"):
        warm.decompress(file(warm, lies.chunk(lies.TILE, bytes(4) + stream)))


def test_shifts_that_no_encoder_writes_are_refused(warm):
    passes = warm._coder.passes
    for packed in (bytes(3), b"\xff" * 8, (9**passes).to_bytes(8, "little")):
        stream = (1 << passes).to_bytes(3, "little") + packed
        with bounded(), pytest.raises(FormatError, match=r"shifted by .* no encoder writes"):
            warm.decompress(file(warm, lies.chunk(lies.TILE, bytes(4) + stream)))


def test_blends_that_no_encoder_writes_are_refused(warm):
    """All zeros, -128, cut short."""
    coder = warm._coder
    ways = coder.blending.ways
    for packed in (bytes(ways), b"\x80" * ways, b"\x01" * (ways - 1)):
        stream = (2 << coder.passes).to_bytes(3, "little") + packed
        with bounded(), pytest.raises(FormatError, match=r"blends by .* no encoder writes"):
            warm.decompress(file(warm, lies.chunk(lies.TILE, bytes(4) + stream)))


@pytest.mark.parametrize("blend", [-127, 127])
def test_any_blend_makes_a_picture(warm, blend):
    coder = warm._coder
    head = (2 << coder.passes).to_bytes(3, "little") + blend.to_bytes(1, "little", signed=True) * coder.blending.ways
    with bounded():
        picture = warm.decompress(file(warm, tile_of(warm, head + bytes(4))))
    assert picture.pixels.shape == (20, 24, 3)


@pytest.mark.parametrize("shift", [-4, 4])
def test_any_shifts_make_a_picture(warm, shift):
    passes = warm._coder.passes
    rng = np.random.default_rng(5)
    for shifts in ([shift] * passes, [*rng.integers(-4, 5, passes).tolist()]):
        head = (1 << passes).to_bytes(3, "little") + pack_shifts(shifts)
        with bounded():
            picture = warm.decompress(file(warm, tile_of(warm, head + bytes(4))))
        assert picture.pixels.shape == (20, 24, 3)


def test_a_storm_of_escapes_costs_time_in_proportion_to_the_file(warm):
    """Escapes are read bit by bit; a short file must not hold many."""
    rng = np.random.default_rng(3)
    for _ in range(10):
        stream = bytes(3) + (rng.integers(0, 2**32, size=300, dtype=np.uint32) | np.uint32(0xFFF00000)).tobytes()
        with bounded():
            try:
                warm._coder.decode(stream, 200, (256, 256), (256, 256))
            except FormatError:
                continue


# --- lies of the alpha channel -------------------------------------------------------------------------------------


def with_alpha(codec, alpha: bytes, **fields) -> bytes:
    tile, _ = honest(codec)
    return file(codec, lies.chunk(lies.ALPHA, alpha), tile, **({"colour": 3} | fields))


def grey_png(width: int, height: int, depth: int = 8) -> bytes:
    return lies.png(width, height, depth, 0, bytes((1 + (width * depth + 7) // 8) * height))


def test_an_honest_alpha_channel_is_read(warm):
    assert warm.decompress(with_alpha(warm, grey_png(24, 20))).alpha.shape == (20, 24)
    assert warm.decompress(with_alpha(warm, grey_png(24, 20, 16), colour=7)).alpha.dtype == np.uint16


def test_pillows_own_limit_on_pixels_does_not_call_an_alpha_channel_damaged(warm, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert warm.decompress(with_alpha(warm, grey_png(24, 20))).alpha.shape == (20, 24)


def test_a_missing_alpha_channel_is_refused(warm):
    tile, _ = honest(warm)
    with pytest.raises(FormatError, match="should hold an alpha channel"):
        warm.decompress(file(warm, tile, colour=3))


@pytest.mark.parametrize("size", [(20, 24), (24, 21), (1, 1), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_an_alpha_channel_of_another_size_is_refused_unread(warm, size):
    png = lies.png(*size, 8, 0, bytes(1000))
    with bounded(), pytest.raises(FormatError, match="alpha channel"):
        warm.decompress(with_alpha(warm, png))


@pytest.mark.parametrize(("depth", "kind", "samples"), [(8, 2, 3), (8, 6, 4), (8, 4, 2), (1, 0, 1), (16, 0, 1)])
def test_an_alpha_channel_of_another_kind_is_refused(warm, depth, kind, samples):
    rows = bytes((1 + (24 * depth * samples + 7) // 8) * 20)
    with pytest.raises(FormatError, match="alpha channel"):
        warm.decompress(with_alpha(warm, lies.png(24, 20, depth, kind, rows)))


def test_an_8_bit_alpha_channel_of_a_16_bit_picture_is_refused(warm):
    with pytest.raises(FormatError, match="alpha channel"):
        warm.decompress(with_alpha(warm, grey_png(24, 20, 8), colour=7))


@pytest.mark.parametrize(
    "alpha", [b"", b"no PNG", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(40), b"BM" + bytes(60)], ids=repr
)
def test_an_alpha_channel_that_is_no_png_is_refused(warm, alpha):
    with pytest.raises(FormatError, match="alpha channel"):
        warm.decompress(with_alpha(warm, alpha))


def bomb(kind: str) -> bytes:
    """A small PNG of the right size that unpacks to hundreds of megabytes."""
    zeros = bytes(200 << 20)
    if kind == "pixels":  # far more rows than the header says
        return lies.png(24, 20, 8, 0, zeros)
    if kind == "text":
        return lies.png(24, 20, 8, 0, bytes(25 * 20), (b"zTXt", b"Comment\x00\x00" + zlib.compress(zeros, 9)))
    if kind == "international text":
        return lies.png(24, 20, 8, 0, bytes(25 * 20), (b"iTXt", b"C\x00\x01\x00\x00\x00" + zlib.compress(zeros, 9)))
    return lies.png(24, 20, 8, 0, bytes(25 * 20), (b"iCCP", b"profile\x00\x00" + zlib.compress(zeros, 9)))


@pytest.mark.parametrize("kind", ["pixels", "text", "international text", "profile"])
def test_a_bomb_in_the_alpha_channel_does_not_unfold(warm, kind):
    data = with_alpha(warm, bomb(kind))
    assert len(data) < 1 << 20
    before = resident()
    with bounded(), contextlib.suppress(FormatError):
        assert warm.decompress(data).alpha.shape == (20, 24)
    # the bomb itself, 200 MiB, was built before; unpacked once more it would raise the peak by as much again
    assert resident() - before < 100 << 10


def test_damage_inside_the_alpha_png_gives_a_picture_or_a_named_error(warm):
    buffer = io.BytesIO()
    Image.fromarray(photograph(20, 24, 5, channels=1)[..., 0]).save(buffer, "PNG")
    png, rng = buffer.getvalue(), np.random.default_rng(4)
    tile, _ = honest(warm)
    for _ in range(60):
        damaged = bytearray(png)
        for _ in range(int(rng.integers(1, 4))):
            damaged[int(rng.integers(len(damaged)))] = int(rng.integers(256))
        cut = len(damaged) if rng.random() < 0.7 else int(rng.integers(len(damaged)))
        try:
            picture = warm.decompress(file(warm, lies.chunk(lies.ALPHA, bytes(damaged[:cut])), tile, colour=3))
        except FormatError:
            continue
        assert picture.alpha.shape == (20, 24)


# --- metadata is carried, never read -------------------------------------------------------------------------------


def test_metadata_is_carried_unread(warm):
    tile, _ = honest(warm)
    rubbish = np.random.default_rng(5).bytes(3000)
    chunks = [lies.chunk(tag, rubbish) for tag in (lies.ICC, lies.EXIF, lies.XMP, lies.ERROR)]
    picture = warm.decompress(file(warm, *chunks, tile))
    assert picture.icc == picture.exif == picture.xmp == rubbish
    to_pil(picture)


# --- mutations -----------------------------------------------------------------------------------------------------


def originals(codec) -> list[bytes]:
    """Small files of several kinds."""
    rgb, grey = photograph(20, 24, 6), photograph(9, 13, 7, channels=1)
    alpha = np.add.outer(np.arange(20), np.arange(24)).astype(np.uint8)[..., None]
    with_icc = Image.fromarray(rgb)
    with_icc.info["icc_profile"] = b"a profile"
    return [
        codec.compress(rgb, 30),
        codec.compress(grey, 80),
        codec.compress(np.concatenate([rgb, alpha], 2), 50),
        codec.compress(257 * rgb.astype(np.uint16), 20),
        codec.compress(with_icc, 0),
    ]


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """A file cut short, or with bytes changed, dropped, doubled or exchanged."""
    new = bytearray(data)
    kind = rng.integers(5)
    if kind == 0:
        return bytes(new[: rng.integers(len(new))])
    for _ in range(int(rng.integers(1, 5))):
        at, other = (int(x) for x in rng.integers(len(new), size=2))
        if kind == 1:
            new[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            new[at] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(256)]))
        elif kind == 3:
            new[at:at] = new[other : other + int(rng.integers(1, 9))]
        else:
            del new[at : at + int(rng.integers(1, 9))]
            if not new:
                return b""
    return bytes(new)


def forged(codec, data: bytes, rng: np.random.Generator) -> bytes:
    """A file whose contents are mutated but whose checksums are right; often the checksum of the symbols too."""
    contents = parse(data)
    header, stream = contents.header, contents.tiles[0][4:]
    fields = header._asdict()
    if rng.random() < 0.3:
        field = str(rng.choice(["colour", "level", "width", "height"]))
        fields[field] = int(rng.choice([0, 1, 2, 3, 7, 8, 63, 64, 65, 128, 200, 255]))
    if rng.random() < 0.8:
        stream = stream[:1] + mutated(stream[1:] + bytes(4), rng)
        stream = stream[: len(stream) - (len(stream) - 1) % 4] if rng.random() < 0.9 else stream
    checksum = contents.tiles[0][:4]
    if rng.random() < 0.7:
        try:
            padded = [-(-max(1, fields[side]) // 64) * 64 for side in ("height", "width")]
            symbols = codec._coder.decode(
                stream, min(200, fields["level"]), (padded[0], padded[1]), (fields["height"], fields["width"])
            )
            checksum = struct.pack("<I", _checksum(symbols))
        except RdaeError:
            pass
    chunks = [lies.chunk(c.tag, mutated(c.payload, rng) if rng.random() < 0.5 else c.payload) for c in contents.chunks]
    return lies.header(**fields) + b"".join(chunks) + lies.chunk(lies.TILE, checksum + stream)


def attack(codec, count: int, seed: int) -> dict[str, int]:
    """Decodes mutated files; returns how many ended how."""
    rng, ends = np.random.default_rng(seed), {"same": 0, "other": 0, "refused": 0}
    files = originals(codec)
    wanted = [codec.decompress(data) for data in files]
    for k in range(count):
        which = int(rng.integers(len(files)))
        checked = k % 4 != 0
        bad = mutated(files[which], rng) if checked else forged(codec, files[which], rng)
        start = time.perf_counter()
        try:
            picture = codec.decompress(bad)
        except RdaeError:
            ends["refused"] += 1
        else:
            same = picture.pixels.shape == wanted[which].pixels.shape and (
                (picture.pixels == wanted[which].pixels).all() and np.array_equal(picture.alpha, wanted[which].alpha)
            )
            assert same or not checked, f"file {which}, number {k}: damage was decoded"
            header = parse_header(bad)
            assert picture.size == (header.height, header.width)
            ends["same" if same else "other"] += 1
        assert time.perf_counter() - start < SECONDS, f"number {k} took too long"
    return ends


def resident() -> int:
    """Peak memory of this process so far, in KiB."""
    return pytest.importorskip("resource").getrusage(0).ru_maxrss


def test_three_hundred_hostile_files(each_codec):
    before = resident()
    ends = attack(each_codec, 300, 0)
    assert ends["refused"] > 150
    assert resident() - before < MEGABYTES << 10


@pytest.mark.slow
def test_ten_thousand_hostile_files(each_codec):
    before = resident()
    ends = attack(each_codec, 10_000, 1)
    grown = (resident() - before) / 1024
    print(f"{ends}, memory grew by {grown:.1f} MiB")
    assert min(ends.values()) > 20  # every end is reached, so that the test means something
    assert grown < MEGABYTES
