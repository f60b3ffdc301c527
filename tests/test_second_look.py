"""The encoder's second look: what it rounds once it knows what the decoder makes of a draft."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import build_tiny, first_look, photograph
from safetensors.numpy import load as load_arrays

from rdae.coding.blending import NOTHING
from rdae.coding.codec import Codec
from rdae.coding.fidelity import ms_ssim
from rdae.coding.model import pack_model, unpack_model
from rdae.coding.picture import from_array
from rdae.coding.pyramid import PyramidCoder
from rdae.coding.second_look import draft
from rdae.coding.tiles import Box
from rdae.data.photographs import read_rgb
from rdae.networks.shuffle import depth_to_space, space_to_depth
from rdae.recipes.photo import SQUARED_ERROR, photo
from rdae.training.export_subbands import export_subbands

EXAMPLE = Path(__file__).parent.parent / "examples" / "kodim23.png"


def folded(value: float, height: int = 8, width: int = 8) -> np.ndarray:
    return np.full((36, height, width), value, dtype=np.float32)


@pytest.mark.parametrize(
    ("size", "symbol"),
    [(0.0, 0), (0.62, 0), (0.64, 1), (1.54, 1), (1.56, 2), (9.49, 9), (9.52, 10)],
)
def test_a_draft_of_equal_coefficients_rounds_up_where_their_size_pays(size, symbol):
    """By hand: floor(size + 1/2 - 0.075 / size) turns from 0 to 1 at 0.621, from 1 to 2 at 1.548."""
    np.testing.assert_array_equal(draft(folded(size)), symbol)
    np.testing.assert_array_equal(draft(folded(-size)), -symbol)


def test_a_coefficient_among_zeros_must_be_larger():
    """Of a mean size s / 36 around it: floor(s + 1/2 - 2.7 / s) turns to 1 at 1.912, to 2 at 2.556."""
    for size, symbol in ((1.0, 0), (1.9, 0), (1.93, 1), (2.6, 2)):
        z = folded(0)
        z[4, 3, 5] = size
        found = draft(z)
        assert found[4, 3, 5] == symbol
        assert np.count_nonzero(found) == (symbol > 0)


def test_a_draft_holds_what_files_hold():
    found = draft(np.array([[[1e9, -1e9], [0, 3]]] * 4, dtype=np.float32))
    assert found.dtype == np.int16
    assert (found.max(), found.min()) == (32767, -32767)


def muted(height: int, width: int, seed: int) -> np.ndarray:
    """A picture whose decoded values stay within 0 to 255, where nothing is clipped."""
    return (64 + photograph(height, width, seed) // 2).astype(np.uint8)


def both_looks(codec: Codec, image: np.ndarray, level: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    picture, box = from_array(image), Box(0, 0, *image.shape[:2])
    return first_look(codec, picture, box, level), codec._latents(picture, box, level)[0]


@pytest.mark.parametrize("level", [40, 100, 180])
def test_a_decoder_that_moves_nothing_changes_no_latent(level):
    """Draft + transform of (picture - inverse transform of draft) is the transform of the picture."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = build_tiny().eval()  # its corrections start at zero
    recipe = dataclasses.replace(photo(), name="linear", model=build_tiny)
    codec = Codec(unpack_model(export_subbands(model, recipe, {}), threads=1))
    for a, b in zip(*both_looks(codec, muted(128, 192, level), level), strict=True):
        # float32 keeps 2**-24 of latents of up to a few hundred, and of pixels of up to a hundred steps; sums lose more
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-3)


def test_what_the_decoder_moves_is_what_latents_move_by(tiny):
    """Latents of the second look less those of the first are the draft less what the decoder made of it."""
    codec, level = Codec(unpack_model(tiny.data, threads=1)), 100
    once, twice = both_looks(codec, muted(128, 192, 1), level)
    symbols = [np.floor(once[0] + 0.5).astype(np.int16), *(draft(z) for z in once[1:])]
    lam = torch.from_numpy(codec.model.lam_of(level))
    with torch.no_grad():
        low, *details = (torch.from_numpy(q.astype(np.float32))[None] for q in symbols)
        shown = tiny.torch.decoder([low, *(depth_to_space(q) for q in details)], lam).clamp(0, 1)
        _, *made = (space_to_depth(z)[0].numpy() if k else z for k, z in enumerate(tiny.torch.encoder(shown, lam)))
    np.testing.assert_array_equal(twice[0], once[0])
    for q, z, a, b in zip(symbols[1:], made, once[1:], twice[1:], strict=True):
        off = np.abs(b - a - (q - z))
        # ties in what the corrector of pixels sees fall either way, and move a few samples by 64ths of a step
        assert np.mean(off > 2e-3) < 0.01
        assert off.max() < 4 / 64
    assert np.abs(twice[-1] - once[-1]).max() > 0.1  # this decoder does move them


def test_grey_pictures_are_looked_at_as_they_will_be_shown(tiny):
    """The colours that a decoder adds to a grey picture are averaged away: they leave details of colour as they are."""
    codec, level = Codec(unpack_model(tiny.data, threads=1)), 100
    grey = muted(128, 192, 2)[..., 0]
    once, twice = both_looks(codec, grey, level)
    for a, b in zip(once[1:], twice[1:], strict=True):
        np.testing.assert_allclose(a[12:], 0, atol=1e-3)  # luma is the first of three colours
        np.testing.assert_allclose(b[12:], 0, atol=1e-3)
    assert np.abs(twice[-1] - once[-1])[:12].max() > 0.05


def test_a_codec_file_without_the_graph_is_encoded_in_one_look(tiny):
    arrays = load_arrays(tiny.data)
    card = json.loads(arrays.pop("card").tobytes())
    del arrays["graph.reanalysis"]
    codec, image = Codec(unpack_model(pack_model(card, arrays), threads=1)), muted(128, 192, 5)
    for a, b in zip(*both_looks(codec, image, 90), strict=True):
        np.testing.assert_array_equal(a, b)
    assert codec.decompress(codec.compress(image)).pixels.shape == image.shape


@pytest.mark.parametrize(("level", "weight"), [(0, 6.0), (10, 7.0), (20, 8.0), (150, 8.0)])
def test_errors_weigh_less_at_the_lowest_qualities(tiny, level, weight):
    """So that they reach low rates: 8 as the file says from quality 10 on, 3/4 of it at 0, evenly between."""
    codec = Codec(unpack_model(tiny.data, threads=1))
    known: PyramidCoder = codec._coder
    latents, _ = codec._latents(from_array(muted(128, 192, 6)), Box(0, 0, 128, 192), level)
    streams = {
        w: PyramidCoder(known.tables, known._numbers, known._run, w).encode(latents, level, (128, 192))[0]
        for w in (weight / 2, weight)
    }
    assert known.encode(latents, level, (128, 192))[0] == streams[weight] != streams[weight / 2]


@pytest.mark.parametrize("size", [(256, 384), (330, 300)], ids=str)
def test_a_second_look_pays(each_codec, size):
    """Rate + lam * error of whole files, by the squared error or MS-SSIM that the codec is made for."""
    image = read_rgb(EXAMPLE)[-size[0] :, : size[1]]
    gains = []
    for level in (40, 80, 120):
        cost = []
        picture, box = from_array(image), Box(0, 0, *size)
        for latents, blend in (
            (first_look(each_codec, picture, box, level), NOTHING), each_codec._latents(picture, box, level),
        ):  # fmt: skip
            stream, symbols = each_codec._coder.encode(latents, level, size, blend=blend)
            coded = each_codec._nothing(*size)
            each_codec._put(coded, box, symbols, blend)
            shown = each_codec._synthesise(coded, level, size, grey=False, deep=False)
            error = errors[each_codec.model.name](image, shown)
            cost.append(8 * len(stream) * np.log(2) + each_codec.model.lam[level] * error)
        gains.append(cost[1] / cost[0])
    assert np.mean(gains) < 0.993  # by measurement 0.977 to 0.991


def squared(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square((a.astype(float) - b) / 255).sum())


def structural(a: np.ndarray, b: np.ndarray) -> float:
    """On the scale of the squared error, as in training."""
    return SQUARED_ERROR * a.size * (1 - ms_ssim(a, b))


errors = {"photo": squared, "tiny": squared, "photo-ssim": structural}
