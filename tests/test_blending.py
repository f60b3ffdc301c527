"""Blends: what is solved for, what the synthesis makes of it, what files say of it."""

from __future__ import annotations

import copy
import json
import warnings

import numpy as np
import pytest
import torch
from conftest import photograph
from safetensors.numpy import load as load_arrays

from rdae.coding.blending import NOTHING, SAMPLES, Features, best_blend
from rdae.coding.codec import Codec
from rdae.coding.container import parse
from rdae.coding.fidelity import psnr
from rdae.coding.model import Model, load_model, pack_model, unpack_model
from rdae.coding.picture import from_array
from rdae.coding.synthesis import Coded
from rdae.coding.tiles import Box
from rdae.errors import ModelError
from rdae.networks.blending import own_contrast
from rdae.networks.pyramid import step_of
from rdae.networks.shuffle import depth_to_space
from rdae.networks.wavelet import rgb_to_opponent
from rdae.training.export_subbands import export_subbands
from rdae.training.refining import Refiner

LEVEL = 90


def ways_of(seed: int, count: int = 5, size: float = 0.1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, size, (count, 2 * SAMPLES, SAMPLES))


def test_a_blend_is_found_again():
    """What is missing is a blend of 32nds: it comes back, and nothing is missing afterwards."""
    rng, ways = np.random.default_rng(0), ways_of(1)
    h = rng.normal(0, 1, (400, 2 * SAMPLES))
    wanted = np.array([5, -40, 0, 127, -127])
    r = h @ np.einsum("k,kio->io", wanted / 32, ways)
    blend, gain = best_blend(h.T @ h, h.T @ r, ways)
    np.testing.assert_array_equal(blend, wanted)
    assert gain == pytest.approx((r**2).sum(), rel=1e-6)


def test_the_gain_is_what_the_squared_error_falls_by():
    rng, ways = np.random.default_rng(2), ways_of(3)
    h, r = rng.normal(0, 1, (300, 2 * SAMPLES)), rng.normal(0, 1, (300, SAMPLES))
    blend, gain = best_blend(h.T @ h, h.T @ r, ways)
    left = r - h @ np.einsum("k,kio->io", blend / 32, ways)
    assert gain == pytest.approx((r**2).sum() - (left**2).sum(), rel=1e-6)
    assert gain > 0
    for k in range(5):  # no neighbour among blends is better
        for step in (-1, 1):
            other = blend.astype(int)
            other[k] += step
            assert ((r - h @ np.einsum("k,kio->io", other / 32, ways)) ** 2).sum() > (left**2).sum()


def test_maps_that_do_nothing_are_not_blended():
    """Their gain is nought whatever the blend; the others are solved for as if they were not there."""
    rng, ways = np.random.default_rng(4), ways_of(5)
    h, r = rng.normal(0, 1, (300, 2 * SAMPLES)), rng.normal(0, 1, (300, SAMPLES))
    alone, _ = best_blend(h.T @ h, h.T @ r, ways[:3])
    ways[3:] = 0
    blend, _ = best_blend(h.T @ h, h.T @ r, ways)
    np.testing.assert_array_equal(blend, [*alone, 0, 0])


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_features_that_say_nothing_are_not_blended(value):
    h = np.full((50, 2 * SAMPLES), value)
    with np.errstate(invalid="ignore", over="ignore"):
        blend, gain = best_blend(h.T @ h, h.T @ np.ones((50, SAMPLES)), ways_of(1))
    assert not blend.any()
    assert gain == 0


@pytest.mark.parametrize("kind", ["odd", "infinite", "not a number", "nothing"])
def test_sums_that_are_no_moments_blend_nothing(kind):
    """A codec file is a stranger's: its graph may answer anything, and no warning or error of arithmetic comes out."""
    ways, gram, cross = (np.zeros(shape) for shape in ((2, 96, 48), (96, 96), (96, 48)))
    cross += 1
    ways[0, 0, 0] = ways[1, 1, 0] = 1
    gram[:2, :2] = {"odd": [[1, 1], [-1, -1]], "infinite": np.inf, "not a number": np.nan, "nothing": 0}[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        blend, gain = best_blend(gram.astype(np.float32), cross.astype(np.float32), ways)
    assert blend.dtype == np.int8
    assert np.isfinite(gain)


@pytest.fixture(scope="module")
def model(tiny):
    """The tiny model with maps that change much."""
    made = copy.deepcopy(tiny.torch)
    with torch.no_grad():
        made.decoder.blend.ways[:] = torch.from_numpy(ways_of(6, 8, 0.02))
        made.decoder.blend.ways[0, SAMPLES:] -= torch.eye(SAMPLES)  # which takes its untrained correction back
    return made


@pytest.fixture(scope="module")
def blending(tiny, model) -> Codec:
    return Codec(unpack_model(export_subbands(model, tiny.recipe, {}), threads=1))


def synthesised(codec: Codec, image: np.ndarray, blend: np.ndarray) -> tuple[np.ndarray, Features, Coded]:
    _, coded = codec._encode(from_array(image), LEVEL, [])
    inputs = codec._coder.synthesis_inputs(coded.symbols, LEVEL) | codec._coder.maps(blend)
    shown, *found = codec.model.run("synthesis", inputs | {"lam": codec.model.lam_of(LEVEL)})
    return shown, Features(*found), coded


def pixels(image: np.ndarray) -> np.ndarray:
    """As the encoder takes them, `(1, 3, H, W)`."""
    return np.ascontiguousarray((image / 255).astype(np.float32).transpose(2, 0, 1)[None])


def moments(
    codec: Codec, image: np.ndarray, shown: np.ndarray, found: Features, rows: slice, columns: slice
) -> list[np.ndarray]:
    """What the graph should sum, in float64, of some rows and columns of blocks, in units of the step."""
    step = float(step_of(torch.from_numpy(codec.model.lam_of(LEVEL))))
    lacking = torch.from_numpy(image / 255 - shown.astype(np.float64)).permute(2, 0, 1)[None]
    colours = rgb_to_opponent(lacking)[0].unflatten(1, (-1, 4)).unflatten(3, (-1, 4))  # (3, h, 4, w, 4)
    missing = colours.permute(1, 3, 0, 2, 4).flatten(2).numpy() / step
    blocks = found.blocks.astype(np.float64)
    contrast = (blocks - blocks.mean(1, keepdims=True)).reshape(48, *blocks.shape[2:])
    read = np.concatenate([contrast, found.change[0]]).transpose(1, 2, 0)
    h, r = (x[rows, columns].reshape(-1, x.shape[2]) for x in (read, missing))
    return [h.T @ h, h.T @ r]


def test_the_codec_file_sums_what_a_blend_is_solved_from(blending, monkeypatch):
    """Over every second row of the blocks that show a part of the picture."""
    image, seen = photograph(128, 192, 18), {}
    shown, found, _ = synthesised(blending, image, NOTHING)
    run_to = blending.model.run_to
    monkeypatch.setattr(blending.model, "run_to", lambda *args, **rest: seen.setdefault(args[0], run_to(*args, **rest)))
    blending._coder.blending.fitted(pixels(image), shown, found, LEVEL, (90, 101), 0.0)
    wanted_sums = moments(blending, image, shown, found, slice(0, 23, 2), slice(0, 26))
    for got, wanted in zip(seen["moments"], wanted_sums, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_the_synthesis_blends_as_the_decoder_does(model, blending):
    image = photograph(128, 128, 7)
    blend = np.array([31, -17, 0, 64, -5, 8, -90, 1], dtype=np.int8)
    shown, _, coded = synthesised(blending, image, blend)
    low, *details = (torch.from_numpy(q.astype(np.float32))[None] for q in coded.symbols)
    lam, decoder = torch.from_numpy(blending.model.lam_of(LEVEL)), model.decoder
    with torch.no_grad():
        symbols = [low, *(depth_to_space(q) for q in details)]
        wanted = decoder(symbols, lam, torch.from_numpy(blend / np.float32(32)))[0].permute(1, 2, 0).clamp(0, 1)
        plain = decoder(symbols, lam)[0].permute(1, 2, 0).clamp(0, 1)
    off = np.abs(shown - wanted.numpy())
    # files keep maps to 2**-13; what the corrector of pixels sees is rounded, so a tie may fall either way
    assert np.mean(off > 2e-3) < 0.01
    assert np.abs(shown - plain.numpy()).mean() > 20 * off.mean()


def test_the_encoder_sees_what_the_decoder_will_show(blending):
    """With the blend that was fitted the synthesis shows what `shown` says, and it is nearer."""
    image = photograph(128, 128, 8)
    maps = blending._coder.blending
    shown, found, _ = synthesised(blending, image, NOTHING)
    blend = maps.fitted(pixels(image), shown, found, LEVEL, (128, 128), 0.0)
    again, _, _ = synthesised(blending, image, blend)
    assert blend.any()
    np.testing.assert_allclose(maps.shown(found, LEVEL, blend), again, rtol=0, atol=1e-5)
    y = image / 255
    assert np.square(again - y).sum() < np.square(shown - y).sum()


def test_a_blend_that_is_not_worth_its_bytes_is_not_sent(blending):
    image = photograph(64, 64, 9)
    shown, found, _ = synthesised(blending, image, NOTHING)
    maps = blending._coder.blending
    assert len(maps.fitted(pixels(image), shown, found, LEVEL, (64, 64), 1e9)) == 0
    assert len(maps.fitted(pixels(image), shown, found, LEVEL, (64, 64), 0)) == 8


def test_contrast_within_blocks_has_no_mean():
    x = torch.randn(2, SAMPLES, 3, 4, generator=torch.Generator().manual_seed(1))
    found = own_contrast(x).unflatten(1, (3, 16))
    torch.testing.assert_close(found.mean(2), torch.zeros(2, 3, 3, 4), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[:, :, 3] - found[:, :, 9], (x[:, 3::16] - x[:, 9::16]))


def test_what_suits_a_draft_becomes_what_suits_the_file(blending):
    maps = blending._coder.blending
    later = np.zeros((9, 8), np.float32)
    later[:8] = 2 * np.eye(8)
    later[8, 3] = 0.5
    maps = type(maps)(maps._model, maps._ways, later)
    np.testing.assert_array_equal(maps.later(np.array([1, 2, 3, 4, 5, 60, 100, -90], np.int8)),
                                  [2, 4, 6, 24, 10, 120, 127, -127])  # fmt: skip
    assert len(maps.later(np.array([0, 0, 0, -8, 0, 0, 0, 0], np.int8))) == 0
    assert len(maps.later(NOTHING)) == 0


def test_the_shipped_codec_blends_for_photographs():
    """Files say so, and without what they say the picture is further from the original."""
    codec = Codec(load_model("photo"))
    image = photograph(200, 300, 11)
    _, coded = codec._encode(from_array(image), 110, [])
    assert coded.blends[0].any()
    shown, without = (
        codec._synthesise(Coded(coded.symbols, [blend]), 110, (200, 300)) for blend in (coded.blends[0], NOTHING)
    )
    assert psnr(image, shown) > psnr(image, without)


def test_a_blend_comes_back_from_the_stream():
    codec = Codec(load_model("photo"))
    latents, _ = codec._latents(from_array(photograph(70, 90, 12)), Box(0, 0, 70, 90), 80)
    plain, symbols = codec._coder.encode(latents, 80, (70, 90))
    blend = np.array([1, -127, 127, 0, 5, -6, 7, 8], dtype=np.int8)
    stream, same = codec._coder.encode(latents, 80, (70, 90), blend=blend)
    assert len(stream) == len(plain) + 8
    np.testing.assert_array_equal(codec._coder.blend(stream), blend)
    assert len(codec._coder.blend(plain)) == 0
    for a, b, c in zip(codec._coder.decode(stream, 80, (128, 128), (70, 90)), same, symbols, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(b, c)


@pytest.mark.parametrize("damage", ["shape", "type", "later"])
def test_maps_that_do_not_fit_are_refused(tiny, damage):
    arrays = load_arrays(tiny.data)
    if damage == "shape":
        arrays["ways"] = arrays["ways"][:, :95]
    elif damage == "type":
        arrays["ways"] = arrays["ways"].astype(np.float32)
    else:
        arrays["ways.later"] = arrays["ways.later"][:-1]
    with pytest.raises(ModelError, match="maps of model 'tiny' are"):
        Codec(Model(arrays, bytes(8)))


def test_each_tile_has_its_own_blend(tiny, model):
    """A file of several tiles decodes to what each tile's blend makes of the symbols of the whole picture."""
    arrays = load_arrays(export_subbands(model, tiny.recipe, {}))
    card = json.loads(arrays.pop("card").tobytes()) | {"tile": 128, "halo": [64, 192]}
    codec = Codec(unpack_model(pack_model(card, arrays), threads=1))
    image = np.concatenate([photograph(128, 128, 13), 255 - photograph(128, 128, 14) // 2], 1)
    data = codec.compress(image, 60)
    coded = codec._decode_symbols(parse(data), "data")
    first, second = coded.blends
    assert len(first) == len(second) == 8
    assert (first != second).any()
    shown = codec.decompress(data).pixels
    for blend, columns in ((first, slice(0, 128)), (second, slice(128, 256))):
        whole = codec._synthesise(Coded(coded.symbols, [blend, blend]), 120, (128, 256))
        np.testing.assert_array_equal(shown[:, columns], whole[:, columns])


def test_a_codec_of_one_look_that_has_maps_blends_nothing(tiny, model):
    arrays = load_arrays(export_subbands(model, tiny.recipe, {}))
    card = json.loads(arrays.pop("card").tobytes())
    del arrays["graph.reanalysis"]
    codec = Codec(unpack_model(pack_model(card, arrays), threads=1))
    data = codec.compress(photograph(70, 90, 15))
    assert [len(blend) for blend in codec._decode_symbols(parse(data), "data").blends] == [0]
    assert codec.decompress(data).pixels.shape == (70, 90, 3)


def test_weights_of_a_decoder_without_maps_are_taken(tiny):
    """As those of one that blends nothing."""
    state = {name: value for name, value in tiny.torch.state_dict().items() if not name.startswith("decoder.blend.")}
    loaded = copy.deepcopy(tiny.torch)
    with torch.no_grad():
        loaded.decoder.blend.ways.fill_(1)
    loaded.load_state_dict(state)
    assert not loaded.decoder.blend.ways.any()
    torch.testing.assert_close(loaded.decoder.blend.later, torch.eye(9, 8))


def test_few_rows_of_blocks_pay_for_a_blend_like_many(blending):
    """Of one row of blocks all are looked at, and count once: the blend is sent at its gain, not at twice that."""
    image = photograph(64, 64, 16)
    shown, found, _ = synthesised(blending, image, NOTHING)
    maps = blending._coder.blending

    def sent(worth: float) -> bool:
        return len(maps.fitted(pixels(image), shown, found, LEVEL, (4, 64), worth)) > 0

    gram, cross = moments(blending, image, shown, found, slice(0, 1), slice(None))
    _, gain = best_blend(gram, cross, maps._ways)
    assert sent(0.99 * gain)
    assert not sent(1.01 * gain)


def test_effort_refines_for_the_blend_of_the_file(tiny, model):
    """With maps that change much, chosen symbols and blend together cost less than those of one pass."""
    data = export_subbands(model, tiny.recipe, {})
    plain, keen = (Codec(unpack_model(data, threads=1), refine) for refine in (None, Refiner(model, 3)))
    image, level = photograph(96, 96, 17), 100
    cost = []
    for codec in (plain, keen):
        file, coded = codec._encode(from_array(image), level, [])
        assert len(coded.blends[0]) == 8
        error = np.square((codec.decompress(file).pixels / 255.0) - image / 255.0).sum()
        cost.append(8 * len(file) * np.log(2) + codec.model.lam[level] * error)
    assert cost[1] < cost[0]
