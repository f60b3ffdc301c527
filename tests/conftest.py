"""Fixtures shared by the tests: a codec, a small model with known weights, photographs, float64, the data folder."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import hypothesis
import numpy as np
import pytest
from PIL import Image

from rdae.coding.codec import Codec
from rdae.coding.model import Model, shipped_models, unpack_model
from rdae.coding.picture import Picture
from rdae.coding.registry import load
from rdae.coding.tiles import Box

hypothesis.settings.register_profile("seeded", derandomize=True)  # the same examples in every run
hypothesis.settings.load_profile("seeded")

TINY_CHANNELS = (12, 16, 16)


def photograph(height: int, width: int, seed: int, *, channels: int = 3) -> np.ndarray:
    """A small synthetic photograph, `(H, W, channels)` uint8: smooth noise in octaves, discs with edges, grain."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, channels))
    for octave in range(1, 6):
        coarse = rng.normal(size=(2**octave + 1, 2**octave + 1, channels))
        coarse = 0.7 * coarse.mean(2, keepdims=True) + 0.3 * coarse  # the colours of photographs move together
        picture += 70 / 1.8**octave * _enlarged(coarse, height, width)
    rows, columns = np.mgrid[:height, :width]
    for _ in range(6):
        row, column, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0.05, 0.4) * min(height, width)
        picture[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] += rng.normal(0, 40, size=channels)
    return np.clip(picture + 128 + rng.normal(0, 2, size=picture.shape), 0, 255).round().astype(np.uint8)


def _enlarged(x: np.ndarray, height: int, width: int) -> np.ndarray:
    planes = [
        Image.fromarray(plane.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
        for plane in x.transpose(2, 0, 1)
    ]
    return np.stack([np.asarray(plane, dtype=np.float64) for plane in planes], 2)


class Tiny(NamedTuple):
    """An untrained model with narrow networks and scattered weights, and its codec file."""

    torch: object  # rdae.autoencoder.RateDistortionAutoencoder
    recipe: object
    data: bytes


def build_tiny():
    """The model before its weights are drawn; the state dict of `Tiny.torch` fits it."""
    from rdae.autoencoder import RateDistortionAutoencoder
    from rdae.channels import RateDistortionRounding
    from rdae.networks.pyramid import PyramidEncoder
    from rdae.networks.subbands import SubbandCorrector, SubbandDecoder
    from rdae.priors.subbands import SubbandPrior

    return RateDistortionAutoencoder(
        PyramidEncoder(5),
        SubbandPrior(5, channels=TINY_CHANNELS),
        SubbandDecoder(SubbandCorrector((12, 12)), 12),
        RateDistortionRounding(6.0),
    )


def first_look(codec: Codec, picture: Picture, tile: Box, level: int) -> list[np.ndarray]:
    """Latents of a tile that look at the picture alone, as the analysis gives them."""
    outer, y = codec._window(picture, tile)
    return codec._within(codec._first_look(y, level), tile, outer)


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """Drawn once, so that tests can compare the codec file with the PyTorch model it came from."""
    torch = pytest.importorskip("torch")
    from rdae.recipes.photo import photo
    from rdae.training.export_subbands import export_subbands

    with torch.random.fork_rng():
        torch.manual_seed(20)
        model = build_tiny()
        with torch.no_grad():
            for layer in (
                *model.decoder.corrector.write,
                model.decoder.finisher.write,
            ):  # zero at the start: the test wants to see it act
                layer.weight.normal_(0, 0.1)
            for level in model.prior.nets:
                for head in level.heads:  # scattered scales and skews, so that most tables are used
                    head.index.weight.mul_(3)
                    head.skew.weight.mul_(8)
                    head.index.bias.add_(7 + torch.randn_like(head.index.bias))  # few symbols past the tables
    recipe = dataclasses.replace(photo(), name="tiny", model=build_tiny)
    return Tiny(model.eval(), recipe, export_subbands(model, recipe, {"training_data": "none"}))


@pytest.fixture(scope="session")
def tiny_model(tiny: Tiny) -> Model:
    """The tiny codec file, opened."""
    return unpack_model(tiny.data, threads=1)


@pytest.fixture(scope="session")
def codec(request: pytest.FixtureRequest) -> Codec:
    """The shipped photograph codec, or the tiny one where none is shipped yet."""
    if "photo" in shipped_models():
        return load("photo", threads=1)  # small pictures are not worth a second thread
    return Codec(request.getfixturevalue("tiny_model"))


@pytest.fixture(scope="session", params=[*shipped_models()] or [None])
def each_codec(request: pytest.FixtureRequest) -> Codec:
    """Every shipped codec in turn, for what holds for each; the tiny one where none is shipped yet."""
    if request.param is None:
        return Codec(request.getfixturevalue("tiny_model"))
    return load(request.param, threads=1)


@pytest.fixture
def in_double() -> Iterator[None]:
    """Float64 and a fixed seed: what is left of a difference is a mistake or a stated standard error."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real photographs: kodak/, photos/, photos-valid/."""
    folder = os.environ.get("RDAE_DATA")
    if not folder:
        pytest.skip("set RDAE_DATA to the folder that holds kodak/, photos/ and photos-valid/")
    return Path(folder)


@pytest.fixture
def rdae(monkeypatch, capsys, tmp_path):
    """Runs the command line in this process, in `tmp_path`; returns its code, stdout and stderr."""
    from rdae.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rdae", *map(str, arguments)])
        code = main.main()
        return code, *capsys.readouterr()

    return run
