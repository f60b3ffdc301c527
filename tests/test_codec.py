"""Images to bytes and back: sizes, qualities, targets, tiles, threads, agreement with the trained model."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import first_look, photograph
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import rdae
from rdae.coding import rangecoder, tiles
from rdae.coding.blending import NOTHING, Blending
from rdae.coding.codec import Codec
from rdae.coding.container import QUALITY_LEVELS, parse, serialise
from rdae.coding.fidelity import ms_ssim
from rdae.coding.model import Model, pack_model, shipped_models, unpack_model
from rdae.coding.picture import from_array
from rdae.coding.pyramid import PyramidCoder
from rdae.coding.registry import load
from rdae.coding.scale_shifts import packed_size, unpack_shifts
from rdae.coding.synthesis import Coded
from rdae.coding.tables import PRECISION
from rdae.coding.targets import LOOK_UP, SMALL, largest_within, smallest_from
from rdae.coding.wishes import check_wishes
from rdae.errors import FormatError, ImageError, ModelError, TargetError

torch = pytest.importorskip("torch")

from rdae.channels import Channel, Sent
from rdae.networks.shuffle import depth_to_space


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(a.astype(float) - b.astype(float)).mean()))


EXAMPLES = Path(__file__).parent.parent / "examples"
PHOTOGRAPHS = [photograph(64, 60, 21), photograph(50, 70, 22), photograph(64, 64, 23, channels=1)]
NAMED = pytest.mark.parametrize("image", PHOTOGRAPHS, ids=["64x60", "50x70", "grey"])


# --- there and back ------------------------------------------------------------------------------------------------


@given(height=st.integers(1, 70), width=st.integers(1, 70), quality=st.floats(0, 100), grey=st.booleans())
@settings(max_examples=25, deadline=None)
def test_every_size_and_quality_comes_back(codec, height, width, quality, grey):
    image = photograph(height, width, 0, channels=1 if grey else 3)
    data = codec.compress(image, quality)
    back = codec.decompress(data).pixels
    assert (back.shape, back.dtype) == (image.shape, image.dtype)
    assert codec.compress(image, quality) == data  # deterministic
    np.testing.assert_array_equal(codec.decompress(data).pixels, back)


def test_the_best_quality_is_close_to_the_original(codec):
    for image in PHOTOGRAPHS:
        # steps of 3 grey levels: uniform errors of at most half a step have variance 9 / 12, that is 49.4 dB; rounding
        # toward zero where it saves bits, and clipping, cost some of it
        assert psnr(codec.decompress(codec.compress(image, 100)).pixels, image) > 40


def test_a_flat_image_costs_almost_nothing(codec):
    flat = np.full((256, 256, 3), 130, np.uint8)
    data = codec.compress(flat, 50)
    assert len(data) < 100
    assert np.abs(codec.decompress(data).pixels.astype(int) - 130).max() <= 8


@pytest.mark.parametrize("image", [np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)])
def test_black_and_white_are_not_clipped_round(codec, image):
    for quality in (0, 50, 100):
        back = codec.decompress(codec.compress(image, quality)).pixels
        assert np.abs(back.astype(int) - image).max() <= 20  # a value that wraps would be off by 255


def test_noise_of_full_contrast_comes_back(codec):
    noise = np.random.default_rng(0).integers(0, 2, size=(65, 40, 3), dtype=np.uint8) * 255
    assert psnr(codec.decompress(codec.compress(noise, 100)).pixels, noise) > 30


def test_the_functions_of_the_package_use_the_shipped_model(codec):
    if codec.model.name != "photo":
        pytest.skip("no model is shipped yet")
    image = PHOTOGRAPHS[0]
    data = rdae.compress(image, 40)
    assert data == codec.compress(image, 40)
    np.testing.assert_array_equal(rdae.decompress(data, as_array=True), codec.decompress(data).pixels)
    shown = rdae.decompress(data)
    assert isinstance(shown, Image.Image)
    np.testing.assert_array_equal(np.asarray(shown), codec.decompress(data).pixels)


@pytest.mark.skipif(not {"photo", "photo-ssim"} <= shipped_models().keys(), reason="the package does not ship both")
def test_each_tuning_is_better_in_its_own_measure_at_the_same_size():
    image = np.asarray(Image.open(EXAMPLES / "kodim07.png"))
    shown = {}
    for name in ("photo", "photo-ssim"):
        codec = load(name, threads=1)
        shown[name] = codec.decompress(codec.compress(image, bpp=0.4)).pixels
    assert psnr(shown["photo"], image) > psnr(shown["photo-ssim"], image) + 0.1
    assert ms_ssim(image, shown["photo-ssim"]) > ms_ssim(image, shown["photo"])


def test_threads_may_share_a_codec(each_codec):
    codec = each_codec
    wanted = [codec.compress(image, 60) for image in PHOTOGRAPHS]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: codec.compress(image, 60), PHOTOGRAPHS * 4))
        assert found == wanted * 4
        back = list(pool.map(lambda data: codec.decompress(data).pixels, wanted * 4))
    for data, pixels in zip(wanted * 4, back, strict=True):
        np.testing.assert_array_equal(pixels, codec.decompress(data).pixels)


def test_other_users_of_the_runtime_are_not_disturbed(tiny, tmp_path):
    """Threads of one codec, of another, and a session that has nothing to do with us, in one process."""
    path = tmp_path / "own.codec"
    path.write_bytes(tiny.data)
    script = """
import sys
import numpy as np, onnxruntime
from rdae.coding.codec import Codec
from rdae.coding.model import load_model
found = set()
for threads in (0, 1, 3):
    codec = Codec(load_model(sys.argv[1], threads=threads))
    found.add(codec.compress(np.arange(4800, dtype=np.uint16).reshape(40, 40, 3).astype(np.uint8)))
onnxruntime.InferenceSession(codec.model.array("graph.low").tobytes(), providers=["CPUExecutionProvider"])
assert len(found) == 1
"""
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- quality and targets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [-0.1, -1, 100.1, 1000, float("nan"), float("inf"), -float("inf")])
def test_a_quality_out_of_range_is_refused_with_a_cure(codec, quality):
    with pytest.raises(TargetError, match=r"from 0 .* to 100|finite"):
        codec.compress(PHOTOGRAPHS[0], quality)


def test_quality_comes_in_halves(codec):
    assert [codec.level(q) for q in (0, 0.2, 0.3, 0.5, 50, 99.8, 100)] == [0, 0, 1, 1, 100, 200, 200]
    for level in range(QUALITY_LEVELS):
        assert codec.level(codec.quality(level)) == level


def gradient() -> np.ndarray:
    return np.tile(np.linspace(0, 255, 200).astype(np.uint8), (200, 1))


def one_pixel() -> np.ndarray:
    black = np.zeros((200, 200), np.uint8)
    black[70, 90] = 255
    return black


@pytest.mark.parametrize("image", [photograph(24, 24, 0), gradient(), one_pixel()], ids=["tiny", "gradient", "pixel"])
def test_bytes_of_small_files_never_fall_at_any_step_of_quality(codec, image):
    """There a better quality may by itself take a few bytes less; see `smallest_from`."""
    picture = from_array(image)
    files = [codec._encode(picture, level, [])[0] for level in range(QUALITY_LEVELS)]
    sizes = [len(file) for file in files]
    taken = [smallest_from(level, files.__getitem__, QUALITY_LEVELS)[1] for level in range(QUALITY_LEVELS)]
    assert [len(file) for file in taken] == sorted(len(file) for file in taken)
    for level in range(0, QUALITY_LEVELS, 40):
        assert codec.compress_picture(picture, codec.quality(level)).data == taken[level]
    for size in range(min(sizes), max(sizes), max(1, (max(sizes) - min(sizes)) // 20)):  # no better level fits
        found, _ = largest_within(size, files.__getitem__, QUALITY_LEVELS)
        assert min(sizes[found + 1 : found + 1 + LOOK_UP], default=size + 1) > size


def test_a_better_quality_that_is_smaller_is_found():
    """Sizes as a grey gradient of 200 x 200 pixels had them with the first shipped model."""
    sizes = [105, 109, 109, 109, 109, 109, 113, 109, 105, 113, 113, 113, 149, 153, 157, 153, 153, 310, 322, 322]
    assert sizes != sorted(sizes)
    taken = [smallest_from(level, lambda at: bytes(sizes[at]), len(sizes)) for level in range(len(sizes))]
    assert [len(data) for _, data in taken] == sorted(len(data) for _, data in taken)
    assert taken[0][0] == taken[5][0] == 8  # the best quality among equals
    assert largest_within(108, lambda at: bytes(sizes[at]), len(sizes))[0] == 8


def test_larger_files_are_not_coded_twice():
    asked = []

    def encode(level: int) -> bytes:
        asked.append(level)
        return bytes(SMALL + level)

    assert smallest_from(7, encode, QUALITY_LEVELS)[0] == 7
    assert asked == [7]
    assert smallest_from(7, encode, QUALITY_LEVELS, beside=100)[0] == 7
    assert asked == [7, 7, *range(8, 8 + LOOK_UP)]


def test_a_large_alpha_channel_is_not_searched_for_its_smallest_png(codec):
    for side, optimise in ((100, True), (300, False)):
        alpha = photograph(side, side, 3, channels=1)[..., 0]
        buffer = io.BytesIO()
        Image.fromarray(alpha).save(buffer, "PNG", optimize=optimise)
        (chunk,) = codec._chunks(from_array(np.stack([alpha, alpha], 2)))
        assert chunk.payload == buffer.getvalue()


@pytest.mark.parametrize(
    ("wishes", "cure"),
    [
        ({"quality": 101}, "from 0 .* to 100"), ({"quality": 50, "bpp": 1}, "Give only one"), ({"bpp": 0}, "positive"),
        ({"size": -(10**400)}, "positive"), ({"psnr": float("nan")}, "finite"), ({"quality": "high"}, "finite"),
    ],
    ids=str,
)  # fmt: skip
def test_wishes_are_refused_before_the_image_is_read(codec, wishes, cure):
    for attempt in (check_wishes, lambda **w: codec.compress("no-such-file.png", **w)):
        with pytest.raises(TargetError, match=cure):
            attempt(**wishes)


@pytest.mark.parametrize("wish", [{"bpp": 1e308}, {"size": 10**400}, {"bpp": 10**400}], ids=["bpp", "size", "whole"])
def test_a_wish_beyond_all_bounds_gives_the_best_quality(codec, wish):
    image = photograph(8, 8, 0)
    assert codec.compress(image, **wish) == codec.compress(image, 100)


def test_a_path_is_decompressed_too(codec, tmp_path):
    path, image = tmp_path / "a.rdae", photograph(20, 24, 1)
    path.write_bytes(codec.compress(image))
    wanted = codec.decompress(path.read_bytes()).pixels
    np.testing.assert_array_equal(codec.decompress(path).pixels, wanted)
    if codec.model.name == "photo":
        np.testing.assert_array_equal(rdae.decompress(str(path), as_array=True), wanted)
    for decode in (codec.decompress, rdae.decompress):
        with pytest.raises(ImageError, match="Check the path"):
            decode(tmp_path / "missing.rdae")
        with pytest.raises(FormatError, match="or its path"):
            decode(image)


def test_what_is_not_kept_of_an_image_is_logged(codec, caplog):
    with caplog.at_level("WARNING", logger="rdae"):
        codec.compress(Image.new("CMYK", (8, 8)))
    assert "CMYK" in caplog.text


def test_pillow_images_that_cannot_be_read_are_refused_by_name(codec, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(photograph(60, 60, 0)).save(buffer, "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(buffer.getvalue())
    closed = Image.open(path)
    closed.close()
    cut = Image.open(io.BytesIO(buffer.getvalue()[:3000]))
    for image in (closed, cut):
        with pytest.raises(ImageError, match="cannot be read"):
            codec.compress(image)


def test_smallest_from_takes_the_better_of_equals():
    files = {0: b"1234", 1: b"123", 2: b"12", 3: b"12", 4: b"123"}
    assert smallest_from(0, files.__getitem__, 5) == (3, b"12")
    assert smallest_from(4, files.__getitem__, 5) == (4, b"123")


@NAMED
def test_bytes_and_psnr_rise_with_quality(codec, image):
    data = [codec.compress(image, quality) for quality in range(0, 101, 5)]
    sizes = [len(d) for d in data]
    assert sizes == sorted(sizes)
    reached = [psnr(codec.decompress(d).pixels, image) for d in data]
    assert min(np.diff(reached)) > -0.1  # rounding is not nested: a finer step may be unlucky, by hundredths of a dB


@NAMED
def test_targets_are_kept_and_not_wasted(codec, image):
    pixels = image.shape[0] * image.shape[1]
    middle = len(codec.compress(image, 50))
    for wish, limit in (({"size": middle + 7}, middle + 7), ({"bpp": 1.0}, pixels / 8)):
        found = codec.compress_picture(from_array(image), **wish)
        assert len(found.data) <= limit
        assert found.data == codec.compress(image, found.quality)
        if found.quality < 100:  # one level better would be too large
            assert len(codec.compress(image, found.quality + 0.5)) > limit
    found = codec.compress_picture(from_array(image), psnr=34.0)
    assert psnr(codec.decompress(found.data).pixels, image) >= 34.0
    if found.quality > 0:
        below = codec.compress(image, found.quality - 0.5)
        if parse(below).header.level < codec.level(found.quality):  # else the better one was smaller, and taken
            assert psnr(codec.decompress(below).pixels, image) < 34.0


def test_a_generous_target_gives_the_best_quality(codec):
    image = PHOTOGRAPHS[2]
    assert codec.compress(image, size=1 << 40) == codec.compress(image, bpp=1e6) == codec.compress(image, 100)
    assert codec.compress_picture(from_array(image), psnr=0.0).quality == 0


@pytest.mark.parametrize(
    "wish",
    [
        {"size": 20}, {"size": 0}, {"size": -5}, {"bpp": 1e-6}, {"bpp": -1.0}, {"psnr": 90.0}, {"psnr": float("inf")},
        {"psnr": float("nan")}, {"bpp": float("nan")}, {"bpp": float("inf")},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_reached_is_refused(codec, wish):
    with pytest.raises(TargetError):
        codec.compress(PHOTOGRAPHS[0], **wish)


@pytest.mark.parametrize(
    "wishes", [{"quality": 5, "bpp": 1}, {"bpp": 1, "size": 100}, {"psnr": 30, "size": 9}, {"quality": 0, "psnr": 0}]
)
def test_two_wishes_are_refused_by_name(codec, wishes):
    with pytest.raises(TargetError, match=" and ".join(sorted(wishes, key=["quality", "bpp", "psnr", "size"].index))):
        codec.compress(PHOTOGRAPHS[0], **wishes)


def test_metadata_counts_toward_the_size(codec):
    picture = from_array(PHOTOGRAPHS[0])
    picture.icc = bytes(5000)
    assert len(codec.compress_picture(picture, size=6000).data) <= 6000
    with pytest.raises(TargetError, match="drop its metadata"):
        codec.compress_picture(picture, size=5000)


# --- tiles ---------------------------------------------------------------------------------------------------------


def retiled(model, tile: int) -> Codec:
    """The same networks and tables with tiles of another size."""
    arrays = {k: v for k, v in model._arrays.items() if k != "card"}
    return Codec(unpack_model(pack_model({**model.card, "tile": tile}, arrays)))


@pytest.fixture(scope="module")
def tiled(codec) -> Codec:
    return retiled(codec.model, 128)


LONG = photograph(80, 700, 31)  # longer than a tile and both its halos
BOTH = pytest.mark.parametrize("image", [LONG, LONG.transpose(1, 0, 2)], ids=["wide", "tall"])


@BOTH
def test_windows_of_the_synthesis_do_not_show(each_codec, image):
    """The same symbols, decoded whole and in windows, within one grey level (float sums differ in the last place)."""
    codec, tiled = each_codec, retiled(each_codec.model, 128)
    data = tiled.compress(image, 60)
    contents = parse(data)
    assert len(contents.tiles) == 6
    symbols = tiled._decode_symbols(contents, "data").symbols
    whole, windows = (  # each tile may blend as it likes, so none does
        one._synthesise(Coded(symbols, [NOTHING] * count), contents.header.level, image.shape[:2])
        for one, count in ((codec, 1), (tiled, 6))
    )
    assert np.abs(whole.astype(int) - windows).max() <= 1
    assert (whole != windows).mean() < 0.01


def two_threads(codec: Codec) -> Codec:
    """The same codec, which may work on a part of the synthesis while symbols are read."""
    return Codec(Model(codec.model._arrays, codec.model.identity, threads=2))


def test_what_is_worked_out_while_symbols_are_read_is_what_comes_of_them(each_codec):
    """A picture of one tile: what the other thread made goes into the synthesis as if it were made afterwards."""
    image, codec = photograph(150, 210, 32), two_threads(each_codec)
    data = codec.compress(image, 60)
    contents = parse(data)
    coded = codec._decode_symbols(contents, "data")
    assert {"half", "handed", "g.detail1"} <= set(coded.known)
    later = codec._coder.synthesis_inputs(coded.symbols, contents.header.level)
    assert set(coded.known) == set(later)
    for name, ahead in coded.known.items():
        np.testing.assert_array_equal(ahead, later[name])
    shown, again = (
        codec._synthesise(one, contents.header.level, image.shape[:2]) for one in (coded, coded._replace(known=None))
    )
    np.testing.assert_array_equal(shown, again)
    assert each_codec._decode_symbols(contents, "data").known is None  # of a codec that may have one thread
    tiled = retiled(codec.model, 128)
    assert tiled._decode_symbols(parse(tiled.compress(image)), "data").known is None


def test_a_system_without_another_thread_decodes(each_codec, monkeypatch):
    image, codec = photograph(70, 90, 33), two_threads(each_codec)
    data = codec.compress(image, 60)
    shown = codec.decompress(data).pixels

    def refused(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    np.testing.assert_array_equal(codec.decompress(data).pixels, shown)


def test_what_goes_wrong_in_the_other_thread_is_named(each_codec):
    """A codec file whose encoder is not run: the identity is that of the file."""
    image, codec = photograph(70, 90, 33), two_threads(each_codec)
    data = codec.compress(image, 60)
    for other in ("level1.start", "pixels"):
        arrays = dict(codec.model._arrays)
        arrays["graph.coarse"] = arrays[f"graph.{other}"]
        with pytest.raises(ModelError, match="'coarse'"):
            Codec(Model(arrays, codec.model.identity, threads=2)).decompress(data)


def test_symbols_that_end_early_are_refused_while_the_other_thread_works(each_codec):
    codec = two_threads(each_codec)
    contents = parse(codec.compress(photograph(150, 210, 32), 90))
    contents.tiles[0] = contents.tiles[0][: len(contents.tiles[0]) // 8 * 4]
    with pytest.raises(FormatError):
        codec.decompress(serialise(contents))


@pytest.mark.parametrize("tile", [64, 192])
@BOTH
def test_windows_of_the_analysis_do_not_show(each_codec, image, tile):
    """Latents of tiles are those of the whole picture, to float32."""
    codec = each_codec
    level, picture, cut = 200, from_array(image), retiled(codec.model, tile)
    whole_box = tiles.tiles(*picture.size, 2048)[0]
    whole = first_look(codec, picture, whole_box, level)
    for box in tiles.tiles(*picture.size, tile)[::2]:
        padded = codec._padded(box)
        own = first_look(cut, picture, box, level)
        for part, latent, unit in zip(own, whole, codec._coder.latents.values(), strict=True):
            same = latent[(slice(None), *padded.cut(codec._padded(whole_box), unit))]
            # latents reach 3000 steps; float32 keeps 2**-24 of that, sums over five levels lose a few times more
            # at the edge of a bin a masked latent may fall to either side
            assert (np.abs(part - same) > 0.01).mean() <= (0.0 if codec.model.name == "photo" else 2e-4)


def test_windows_of_the_second_look_hardly_show(each_codec, monkeypatch):
    """They lack the decoder's halo, so it sees a mirrored edge 128 pixels beyond a tile: hundredths of a step there."""
    monkeypatch.setattr(Blending, "fitted", lambda self, *rest: NOTHING)  # tiles differ in theirs
    picture, cut = from_array(photograph(384, 900, 5)), retiled(each_codec.model, 192)
    whole_box = tiles.Box(0, 0, 384, 900)
    for level in (20, 100, 180):
        whole, _ = each_codec._latents(picture, whole_box, level)
        for box in tiles.tiles(384, 900, 192)[::3]:
            own, _ = cut._latents(picture, box, level)
            for part, latent, unit in zip(own, whole, cut._coder.latents.values(), strict=True):
                same = latent[(slice(None), *cut._padded(box).cut(cut._padded(whole_box), unit))]
                # most by far are equal; near ties in what networks of bytes see, and masked latents, move some
                assert (np.abs(part - same) > 0.05).mean() < 0.01


def test_small_tiles_cost_few_bytes_and_no_quality(codec, tiled):
    one, many = codec.compress(LONG, 50), tiled.compress(LONG, 50)
    assert len(many) < 1.15 * len(one) + 6 * 16
    assert psnr(tiled.decompress(many).pixels, LONG) > psnr(codec.decompress(one).pixels, LONG) - 0.3


def test_tiles_decode_in_any_order(tiled):
    """A tile needs nothing of its neighbours: regions can be read alone."""
    contents = parse(tiled.compress(LONG, 40))
    coded = tiled._decode_symbols(contents, "data")
    boxes = tiles.tiles(80, 700, 128)
    again = tiled._nothing(80, 700)
    for k in np.random.default_rng(0).permutation(len(boxes)):
        box, padded = boxes[k], tiled._padded(boxes[k])
        symbols = tiled._coder.decode(
            contents.tiles[k][4:], contents.header.level, (padded.height, padded.width), (box.height, box.width)
        )
        tiled._put(again, box, symbols, NOTHING)
    for a, b in zip(coded.symbols, again.symbols, strict=True):
        np.testing.assert_array_equal(a, b)


@given(height=st.integers(1, 5000), width=st.integers(1, 5000), size=st.sampled_from([64, 128, 2048]))
@settings(max_examples=50)
def test_tiles_partition_the_picture(height, width, size):
    boxes = tiles.tiles(height, width, size)
    assert sum(box.height * box.width for box in boxes) == height * width
    assert max(box.bottom for box in boxes) == height
    assert max(box.right for box in boxes) == width
    assert len({(box.top, box.left) for box in boxes}) == len(boxes)
    for box in boxes[:: max(1, len(boxes) // 9)]:
        outer = tiles.window(box, 192, height, width, 64)
        assert outer.top % 64 == outer.left % 64 == outer.height % 64 == outer.width % 64 == 0
        assert outer.top <= box.top < box.bottom <= outer.bottom


def test_a_window_beyond_the_picture_repeats_its_edge():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    found = tiles.pixels_of(pixels, tiles.Box(1, 2, 5, 6))[..., 0]
    np.testing.assert_array_equal(found, [[6, 7, 7, 7], [10, 11, 11, 11], [10, 11, 11, 11], [10, 11, 11, 11]])


# --- agreement with the PyTorch model ------------------------------------------------------------------------------


class Replay(Channel):
    """Sends what comes, which here is whole numbers already, and remembers the densities that were named."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple] = []

    def rounded(self, z, mean, prior):
        self.sent.append((z, *prior.parameters))
        return Sent(z, z)


@pytest.fixture(scope="module")
def tiny_codec(tiny_model) -> Codec:
    return Codec(tiny_model)


def encoded(codec: Codec, image: np.ndarray, level: int) -> tuple[bytes, list[np.ndarray]]:
    data, coded = codec._encode(from_array(image), level, [])
    return data, coded.symbols


def as_latents(symbols: list[np.ndarray]) -> list:
    low, *details = (torch.from_numpy(x).float()[None] for x in symbols)
    return [low, *(depth_to_space(x) for x in details)]


def replayed(tiny, codec: Codec, symbols, level: int):
    """What the PyTorch prior says of symbols in training: its output, and `(symbols, index, skew)` of each group."""
    channel = Replay().eval()
    prior = tiny.torch.prior.train()  # names fractional members
    try:
        with torch.no_grad():
            coded = prior(as_latents(symbols), channel, lam_of(codec, level))
    finally:
        prior.eval()
    return coded, channel.sent


def lam_of(codec: Codec, level: int):
    return torch.tensor([codec.model.lam[level]]).float()


CASES = [(64, 64, 0), (128, 64, 60), (64, 128, 110), (128, 128, 200)]


@pytest.mark.parametrize(("height", "width", "level"), CASES)
def test_latents_and_pixels_are_those_of_pytorch(tiny, tiny_codec, height, width, level):
    image = photograph(height, width, level)
    y = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    box = tiles.tiles(height, width, 2048)[0]
    with torch.no_grad():
        low, *details = tiny.torch.encoder(y, lam_of(tiny_codec, level))
    ours = first_look(tiny_codec, from_array(image), box, level)
    unfolded = [ours[0], *(depth_to_space(torch.from_numpy(x)[None])[0].numpy() for x in ours[1:])]
    for a, b in zip(unfolded, [low, *details], strict=True):
        np.testing.assert_allclose(a, b[0].numpy(), rtol=0, atol=0.01)
    data, symbols = encoded(tiny_codec, image, level)
    with torch.no_grad():
        shown = tiny.torch.decoder(as_latents(symbols), lam_of(tiny_codec, level)).clamp(0, 1)
    shown = (255 * shown[0].permute(1, 2, 0) + 0.5).numpy().astype(np.uint8)
    assert np.abs(tiny_codec.decompress(data).pixels.astype(int) - shown).max() <= 1


@pytest.mark.parametrize(("height", "width", "level"), CASES)
def test_symbols_and_tables_are_those_of_pytorch(tiny, tiny_codec, height, width, level):
    """Fed the same symbols, the trained prior names the very tables that the coder used, and hands the symbols on."""
    data, symbols = encoded(tiny_codec, photograph(height, width, level), level)
    named = []

    def run(graph, inputs):
        out = tiny_codec.model.run(graph, inputs)
        if len(out) > 1:
            named.append(out[1:])
        return out

    known = tiny_codec._coder
    coder = PyramidCoder(known.tables, known._numbers, run, known._weight)
    decoded = coder.decode(parse(data).tiles[0][4:], level, (height, width), (height, width))
    coded, sent = replayed(tiny, tiny_codec, symbols, level)
    for ours, own, theirs in zip(symbols, decoded, coded.latent, strict=True):
        np.testing.assert_array_equal(ours, own)
        folded = theirs if theirs.shape[1] == 3 else torch.nn.functional.pixel_unshuffle(theirs, 2)
        np.testing.assert_array_equal(own, folded[0].numpy())
    assert len(named) == len(sent)
    density = tiny.torch.prior.density
    for (members,), (_, wanted_index, wanted_skew) in zip(named, sent, strict=True):
        known = coder._members(members, (members.shape[1] // 2, *members.shape[2:]))
        skew_max = density.skew_max
        np.testing.assert_array_equal(known.scale[None], wanted_index.round().clamp(0, density.scales - 1).numpy())
        np.testing.assert_array_equal(known.skew[None], wanted_skew.round().clamp(-skew_max, skew_max).numpy())


def escape_bits(tables, symbols: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Cost of symbols beyond the reach, by the format: the escape's count, a sign, Exp-Golomb."""
    beyond = np.abs(symbols) - tables.reach[numbers]
    count = np.array([tables[n][-1] for n in numbers])
    return PRECISION - np.log2(count) + 2 * np.floor(np.log2(np.maximum(beyond, 1))) + 2


def estimate(density, tables, symbols, numbers, index, skew) -> float:
    """Bits of symbols: the trained density within the reach of the tables, the format's escape beyond."""
    inside = np.abs(symbols) <= tables.reach[numbers]
    with torch.no_grad():
        nats = -density.log_prob(torch.from_numpy(symbols).double(), index.double(), skew.double()).numpy()
    own = np.minimum(nats[inside] / np.log(2), PRECISION)  # no count is below 1
    return float(own.sum() + escape_bits(tables, symbols[~inside], numbers[~inside]).sum())


@pytest.fixture
def calls(monkeypatch) -> list[tuple]:
    """Every call of the symbol writer: `(writer, tables, symbols, numbers)`."""
    seen: list[tuple] = []
    write = rangecoder.SymbolWriter.write

    def recorded(self, symbols, numbers, tables):
        seen.append((self, tables, np.asarray(symbols).astype(np.int64), np.asarray(numbers).astype(np.int64)))
        write(self, symbols, numbers, tables)

    monkeypatch.setattr(rangecoder.SymbolWriter, "write", recorded)
    return seen


def estimate_of_calls(tiny, codec: Codec, calls, *, low: bool) -> float:
    """Bits of the low band, or of the details, at the members that the coder chose."""
    prior = tiny.torch.prior
    skews = 1 if low else prior.density.skew_max + 1
    density, own = (prior.low.density, codec._coder._low) if low else (prior.density, codec._coder._details)
    bits = 0.0
    for writer, tables, symbols, numbers in calls:
        # where leaving out zeros lost too much, the tile was written twice: the last writer counts
        if writer is calls[-1][0] and tables is own:
            index, skew = torch.from_numpy(numbers // skews), torch.from_numpy(numbers % skews)
            bits += estimate(density, tables._tables, symbols, numbers, index, skew)
    return bits


ALLOWED = {"rel": 0.005, "abs": 48}  # a file may differ from the estimate by so large a share, or so many bytes


@pytest.mark.parametrize(("height", "width", "level"), CASES)
def test_a_file_is_as_long_as_the_densities_say(tiny, tiny_codec, calls, height, width, level):
    """At the members that the coder chose: tables, range coder and container together."""
    data, _ = encoded(tiny_codec, photograph(height, width, level), level)
    bits = sum(estimate_of_calls(tiny, tiny_codec, calls, low=low) for low in (True, False))
    assert len(data) == pytest.approx(bits / 8, **ALLOWED)


@pytest.mark.parametrize(("height", "width", "level"), CASES)
def test_a_file_is_as_long_as_the_trained_model_says(tiny, tiny_codec, calls, height, width, level):
    """At the fractional members of training, shifted as the file says; symbols left out as all but certain are free."""
    data, symbols = encoded(tiny_codec, photograph(height, width, level), level)
    (tile,), passes = parse(data).tiles, tiny_codec._coder.passes
    flags = int.from_bytes(tile[4:7], "little")
    shifts = unpack_shifts(tile[7 : 7 + packed_size(passes)], passes) if flags >> passes else [0] * passes
    bits = estimate_of_calls(tiny, tiny_codec, calls, low=True)
    density, tables = tiny.torch.prior.density, tiny_codec._coder.tables
    for k, (q, index, skew) in enumerate(replayed(tiny, tiny_codec, symbols, level)[1]):
        whole_index = index.round().clamp(0, density.scales - 1)
        whole_skew = skew.round().clamp(-density.skew_max, density.skew_max)
        kept = (whole_index > 0) | (not flags >> k & 1)
        moved = whole_index > 0
        index, whole_index = (
            torch.where(moved, (x + shifts[k]).clamp(0, density.scales - 1), x) for x in (index, whole_index)
        )
        numbers = (tables.skews * whole_index + whole_skew.abs())[kept].long().numpy()
        bits += estimate(density, tables.details, q[kept].long().numpy(), numbers, index[kept], skew[kept])
    assert len(data) == pytest.approx(bits / 8, **ALLOWED)


def test_the_card_says_what_the_file_needs(tiny_codec):
    assert json.dumps(tiny_codec.model.card)
    assert 0 < tiny_codec.model.card["exact_range_used"] < 1
    assert tiny_codec.model.card["halo"] == [128, 192]


def test_the_checksum_of_a_tile_covers_its_symbols(tiny_codec):
    """A decoder whose entropy model went wrong would notice."""
    data, symbols = encoded(tiny_codec, PHOTOGRAPHS[0], 50)
    crc = 0
    for x in symbols:
        crc = zlib.crc32(x.astype("<i2").tobytes(), crc)
    assert struct.unpack("<I", parse(data).tiles[0][:4])[0] == crc


# --- real photographs ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_kodak_rates_and_qualities_rise(codec, data_folder):
    for path in sorted((data_folder / "kodak").glob("*.png"))[:6]:
        image = np.asarray(Image.open(path).convert("RGB"))
        data = [codec.compress(image, quality) for quality in (0, 25, 50, 75, 100)]
        sizes = [len(d) for d in data]
        assert sizes == sorted(sizes)
        reached = [psnr(codec.decompress(d).pixels, image) for d in data]
        assert reached == sorted(reached)
