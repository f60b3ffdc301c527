"""Convolutional codecs end to end: trained weights to a codec file, a picture to bytes and back."""

from __future__ import annotations

import contextlib
import importlib
import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import photograph

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import Mixed, RateDistortionRounding, UniformNoise
from rdae.coding.codec import CODERS, Codec
from rdae.coding.convolutional import HyperpriorCoder
from rdae.coding.model import Model, unpack_model
from rdae.coding.tables import Tables
from rdae.errors import FormatError, ModelError, RdaeError, ShapeError, TableError
from rdae.networks.convolutional import ConvolutionalDecoder, ConvolutionalEncoder, typical_spread
from rdae.objectives import BITS_PER_NAT
from rdae.priors.density import SymbolDensity
from rdae.priors.factorised import FactorisedPrior
from rdae.priors.hyperprior import Hyperprior
from rdae.priors.magnitude import MagnitudePrior
from rdae.training.codec_recipe import CodecRecipe, step_loss
from rdae.training.density_tables import density_tables
from rdae.training.export_convolutional import export_convolutional

WIDTHS = (6, 10)
BLOCK, LEVELS = 4, 1
LAM = (15.0, 40_000.0)
KINDS = ("factorised", "hyperprior", "universal")


def parts(kind: str) -> RateDistortionAutoencoder:
    prior = {
        "factorised": lambda: FactorisedPrior(typical_spread(BLOCK)),
        "hyperprior": lambda: Hyperprior(typical_spread(BLOCK), width=12, levels=LEVELS),
        "universal": lambda: MagnitudePrior(),
    }[kind]()
    channel = Mixed() if kind == "hyperprior" else UniformNoise()
    return RateDistortionAutoencoder(ConvolutionalEncoder(WIDTHS), prior, ConvolutionalDecoder(WIDTHS), channel)


def recipe_of(kind: str) -> CodecRecipe:
    return CodecRecipe(
        name=kind, model=lambda: parts(kind), lam=LAM, quality_lam=LAM, steps=8, batch=2, size=32, learning_rate=2e-3,
        multiple=BLOCK << LEVELS,
    )  # fmt: skip


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


class Trained(NamedTuple):
    """A tiny model after a few steps, and its codec file."""

    kind: str
    torch: RateDistortionAutoencoder
    data: bytes
    model: Model

    def terms(self, pixels: np.ndarray, level: int):
        with torch.no_grad():
            return self.torch(tensor(pixels), torch.tensor([float(self.model.lam[level])]))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Layers this small gain nothing from a second thread and wait for it on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest) -> Trained:
    torch.manual_seed(0)
    kind, recipe = request.param, recipe_of(request.param)
    model = recipe.model().train()
    with torch.no_grad():  # nothing stays at its initial zero: every path is put to the test
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    optimizer = recipe.optimizer(model)
    y = torch.cat([tensor(photograph(32, 32, seed)) for seed in range(4)])
    for _ in range(8):
        loss, _ = step_loss(model, y, torch.exp(torch.empty(4).uniform_(*(math.log(v) for v in LAM))))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    data = export_convolutional(model.eval(), recipe, {"data": "synthetic"})
    return Trained(kind, model, data, unpack_model(data, threads=1))


@pytest.mark.parametrize("quality", [0, 30, 60, 95])
def test_a_file_gives_the_decoders_picture_of_the_rounded_latent(trained, quality):
    pixels = photograph(64, 96, 20)
    codec = Codec(trained.model)
    level = codec.level(quality)
    lam = torch.tensor([float(trained.model.lam[level])])
    coder = CODERS[trained.kind](trained.model)
    latents = trained.model.run("analysis", {"y": tensor(pixels).numpy(), "lam": lam.numpy()})
    stream, symbols = coder.encode([latents[0][0]], level, (64, 96))
    assert all((a == b).all() for a, b in zip(coder.decode(stream, level, (64, 96), (64, 96)), symbols, strict=True))

    # the same latent as PyTorch's, but for samples that lie within float32 of an edge between two bins
    sent = torch.from_numpy(coder.synthesis_inputs(symbols, 0)["z"])
    ours = trained.terms(pixels, level).latent
    assert (sent != ours).float().mean() < 1e-3
    with torch.no_grad():
        expected = trained.torch.decoder(sent, lam).clamp(0, 1)[0].permute(1, 2, 0).numpy() * 255
    shown = codec.decompress(codec.compress(pixels, quality)).pixels
    assert np.abs(shown - expected).max() <= 0.5 + 1e-3  # rounding to 8 bits, and nothing else


@pytest.mark.parametrize("quality", [0, 25, 50, 75, 100])
def test_a_file_is_as_long_as_the_rate_says(trained, quality):
    pixels = photograph(128, 160, 21)
    codec = Codec(trained.model)
    estimate = float(trained.terms(pixels, codec.level(quality)).terms.rate) * BITS_PER_NAT / 8
    assert abs(len(codec.compress(pixels, quality)) - estimate) <= 0.005 * estimate + 48


def test_quality_buys_fidelity_with_bytes(trained):
    pixels, codec = photograph(64, 64, 22), Codec(trained.model)
    files = [codec.compress(pixels, quality) for quality in (10, 40, 70, 100)]
    errors = [np.square(codec.decompress(data).pixels.astype(float) - pixels).mean() for data in files]
    assert (np.diff([len(data) for data in files]) > 0).all()
    assert (np.diff(errors) < 0).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (13, 4), (33, 50)])
def test_sizes_that_are_no_multiple_of_anything(trained, size):
    pixels, codec = photograph(*size, 23), Codec(trained.model)
    shown = codec.decompress(codec.compress(pixels, 90)).pixels
    assert shown.shape == pixels.shape
    assert np.sqrt(np.square(shown.astype(float) - pixels).mean()) < 12


def test_tiles_do_not_show(trained):
    """With tiles of 32 the transforms see the same samples; only a hyperprior's means depend on the tile."""
    pixels = photograph(72, 88, 24)
    small = unpack_model(export_convolutional(trained.torch, recipe_of(trained.kind), {"tile": 32}), threads=1)
    shown = [
        Codec(model).decompress(Codec(model).compress(pixels, 50)).pixels.astype(int)
        for model in (trained.model, small)
    ]
    difference = np.abs(shown[0] - shown[1])
    if trained.kind == "hyperprior":
        errors = [np.square(x - pixels.astype(int)).mean() for x in shown]
        assert abs(errors[1] / errors[0] - 1) < 0.1
    else:
        assert (difference > 1).mean() < 1e-3  # a latent within float32 of an edge between two bins may fall either way


def test_threads_and_optimisations_do_not_matter(trained):
    pixels = photograph(56, 40, 25)
    data = Codec(trained.model).compress(pixels, 60)
    plain = unpack_model(trained.data, threads=2, optimize=False)
    shown = Codec(plain).decompress(data).pixels.astype(int)
    assert np.abs(shown - Codec(trained.model).decompress(data).pixels).max() <= 1


def test_damaged_files_are_refused(trained):
    codec = Codec(trained.model)
    data = codec.compress(photograph(32, 32, 26), 50)
    for at in range(len(data) - 40, len(data), 3):
        damaged = bytearray(data)
        damaged[at] ^= 0x55
        with pytest.raises(RdaeError):
            codec.decompress(bytes(damaged))


def test_damaged_streams_are_refused_or_decode_to_symbols(trained):
    rng = np.random.default_rng(0)
    coder = CODERS[trained.kind](trained.model)
    z = rng.normal(0, 3, size=(3 * BLOCK**2, 8, 8)).astype(np.float32)
    stream, symbols = coder.encode([z], 100, (32, 32))
    for _ in range(40):
        damaged = bytearray(stream)
        damaged[int(rng.integers(len(stream)))] ^= int(rng.integers(1, 256))
        with contextlib.suppress(FormatError):
            decoded = coder.decode(bytes(damaged), 100, (32, 32), (32, 32))
            assert [x.shape for x in decoded] == [x.shape for x in symbols]
    for length in (0, 1, 2):
        with pytest.raises(FormatError):
            coder.decode(stream[:length] + b"\x05", 100, (32, 32), (32, 32))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_latents_that_no_symbol_can_hold_are_refused(trained, value):
    coder = CODERS[trained.kind](trained.model)
    z = np.zeros((3 * BLOCK**2, 8, 8), dtype=np.float32)
    z[5, 2, 2] = value
    with pytest.raises(TableError, match="Use a lower quality"):
        coder.encode([z], 100, (32, 32))


def test_large_latents_survive(trained):
    coder = CODERS[trained.kind](trained.model)
    z = np.zeros((3 * BLOCK**2, 8, 8), dtype=np.float32)
    z[0, 1, 1], z[7, 7, 0], z[-1] = 1500.2, -1400.0, 0.4
    stream, symbols = coder.encode([z], 120, (32, 32))
    decoded = coder.decode(stream, 120, (32, 32), (32, 32))
    assert (decoded[0] == symbols[0]).all()
    error = np.abs(coder.synthesis_inputs(decoded, 0)["z"][0] - z)
    assert error[np.abs(z) > 2].max() <= 0.5
    assert error.max() <= (1.5 if trained.kind == "hyperprior" else 0.5)  # all but certain zeros may be given up


def test_the_same_weights_give_the_same_file(trained):
    assert export_convolutional(trained.torch, recipe_of(trained.kind), {"data": "synthetic"}) == trained.data
    assert trained.model.card["coder"] == trained.kind
    assert (trained.model.lam == recipe_of(trained.kind).lam_of_levels().numpy()).all()


def altered(model: Model, **arrays: np.ndarray) -> Model:
    held = {name: model.array(name) for name in ("card", "lam")}
    for name in ("latent", "summary"):
        for part in ("number", "reach", "counts"):
            try:
                held[f"{name}.{part}"] = model.array(f"{name}.{part}")
            except ModelError:
                continue
    return Model({**held, **arrays}, b"\0" * 8)


def test_codec_files_whose_parts_disagree_are_refused(trained):
    card = trained.model.array("card").tobytes()
    for wrong in (b'"block": 4000', b'"block": "4"', b'"black": 4'):
        broken = np.frombuffer(card.replace(b'"block": 4', wrong), dtype=np.uint8)
        with pytest.raises(ModelError):
            CODERS[trained.kind](altered(trained.model, card=broken))
    if trained.kind != "universal":
        name = "latent.number" if trained.kind == "factorised" else "summary.number"
        numbers = trained.model.array(name).copy()
        numbers[3, 1] = 60_000
        with pytest.raises(ModelError, match="Fetch the codec file again"):
            CODERS[trained.kind](altered(trained.model, **{name: numbers}))
        with pytest.raises(ModelError, match="damaged"):
            CODERS[trained.kind](altered(trained.model, **{name: numbers[:5]}))


@pytest.mark.parametrize("trained", ["hyperprior"], indirect=True)
def test_the_exported_hyperprior_computes_what_the_trained_one_does(trained):
    """Table numbers and means bit for bit, from PyTorch and from ONNX Runtime with and without optimisations."""
    prior, rng = trained.torch.prior, np.random.default_rng(1)
    w = rng.integers(-90, 90, size=(1, 12, 5, 7)).astype(np.float32)
    for level in (0, 77, 200):
        lam = torch.tensor([float(trained.model.lam[level])])
        with torch.no_grad():
            bias, shift = prior.told(lam)
            index, mean = prior.synthesis(torch.from_numpy(w), bias, shift)
            number = torch.floor(index / 8 + 0.5).clamp(0, prior.density.scales - 1)
        assert (bias.numpy()[0, :, 0, 0] == trained.model.array("bias")[level]).all()
        assert (shift.numpy()[0, :, 0, 0] == trained.model.array("shift")[level]).all()
        for model in (trained.model, unpack_model(trained.data, threads=2, optimize=False)):
            held = model.run("hyper_synthesis", {"w": w, "bias": bias.numpy(), "shift": shift.numpy()})
            assert (held[0] == number.numpy()).all()
            assert (held[1] == mean.numpy()).all()


def coder_of_certain_zeros() -> HyperpriorCoder:
    """Every symbol has table 0 and mean 3/16; the summary is one zero."""
    latent, summary = (Tables(*density_tables(SymbolDensity(4, dead_zone=None), 1, 20)) for _ in range(2))

    def run(graph: str, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        if graph == "hyper_analysis":
            return [np.zeros((1, 1, 1, 1), dtype=np.float32)]
        return [np.zeros((1, 3, 2, 2), dtype=np.float32), np.full((1, 3, 2, 2), 3, dtype=np.float32)]

    told = np.zeros((1, 2), dtype=np.int64), np.zeros((1, 3), dtype=np.int64)
    return HyperpriorCoder(latent, summary, np.zeros((1, 1), dtype=np.int64), told, run, 1, 1)


@pytest.mark.parametrize(("value", "skipped"), [(0.1, True), (1.1, True), (2.2, False)])
def test_all_but_certain_zeros_are_left_out_unless_one_is_large(value, skipped):
    coder = coder_of_certain_zeros()
    z = np.zeros((3, 2, 2), dtype=np.float32)
    z[1, 1, 0] = value
    stream, symbols = coder.encode([z], 0, (2, 2))
    assert stream[0] == skipped
    assert (symbols[0] == coder.decode(stream, 0, (2, 2), (2, 2))[0]).all()
    assert symbols[0][1, 1, 0] == (3 if skipped else 3 + 16 * round(value - 3 / 16))


def test_parts_without_a_file_are_refused():
    recipe = recipe_of("factorised")
    model = recipe.model()
    model.channel = RateDistortionRounding()
    with pytest.raises(ModelError, match="Build it with UniformNoise"):
        export_convolutional(model, recipe, {})
    model = recipe.model()
    model.prior = torch.nn.Identity()
    with pytest.raises(ModelError, match="Use FactorisedPrior, Hyperprior or MagnitudePrior"):
        export_convolutional(model, recipe, {})
    model = recipe.model()
    model.encoder = torch.nn.Identity()
    with pytest.raises(ModelError, match="Use export_subbands"):
        export_convolutional(model, recipe, {})


def test_a_hyperprior_refuses_latents_it_cannot_halve():
    prior = Hyperprior(typical_spread(BLOCK), width=12, levels=1)
    with pytest.raises(ShapeError, match="Pad the image first"):
        prior(torch.zeros(1, 48, 3, 4), Mixed(), torch.ones(1))
    with pytest.raises(ShapeError, match="typical_spread"):
        Hyperprior(torch.ones(10))


@pytest.mark.parametrize("name", ["factorised", "hyperprior", "magnitude"])
def test_recipes_build_models_that_learn(name):
    torch.manual_seed(0)
    recipe = getattr(importlib.import_module(f"rdae.recipes.{name}"), name)()
    model = recipe.model().train()
    y = tensor(photograph(64, 64, 30)).expand(2, -1, -1, -1)
    assert all(side % recipe.multiple == 0 for side in y.shape[2:])
    optimizer = recipe.optimizer(model)
    for step in range(3):
        loss, report = step_loss(model, y, torch.tensor(recipe.lam))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert all(torch.isfinite(value) for value in report.values())
        if step == 2:  # by now no path is shut by an initial zero, not even by one behind another
            silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
            assert silent == []
