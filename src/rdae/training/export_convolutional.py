"""Codec files of convolutional autoencoders with a factorised prior, a hyperprior or the magnitude penalty."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import RateDistortionRounding
from rdae.coding.model import pack_model
from rdae.coding.tables import integer_table
from rdae.errors import ModelError
from rdae.networks.convolutional import ConvolutionalDecoder, ConvolutionalEncoder
from rdae.networks.exact import ExactConv
from rdae.networks.gains import require_range
from rdae.networks.hyper import INDEX_UNIT, HyperSynthesis
from rdae.priors.factorised import ChannelDensity, FactorisedPrior
from rdae.priors.hyperprior import Hyperprior
from rdae.priors.magnitude import MagnitudePrior
from rdae.training.codec_recipe import CodecRecipe
from rdae.training.density_tables import density_tables
from rdae.training.onnx_graphs import TILE, to_onnx

__all__ = ["channel_tables", "export_convolutional"]

REACH_MAX = 600
TABLES_MAX = 1 << 16

Graph = tuple[nn.Module, dict[str, Tensor], list[str]]
Parts = tuple[dict[str, Any], dict[str, np.ndarray], dict[str, Graph]]


class _Frozen(nn.Module):
    """An exact convolution with its quantised weights as constants."""

    def __init__(self, layer: ExactConv) -> None:
        super().__init__()
        weight, bias, _ = layer.quantised()
        outputs, inputs, kernel, _ = weight.shape
        self.conv = nn.Conv2d(
            inputs * layer.groups, outputs, kernel, padding=layer.padding, groups=layer.groups
        ).requires_grad_(False)
        self.conv.weight.copy_(weight)
        self.conv.bias.copy_(bias)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def _freeze(module: nn.Module) -> None:
    """Replaces every `ExactConv` below a module by one whose quantised weights are constants."""
    for name, child in module.named_children():
        if isinstance(child, ExactConv):
            setattr(module, name, _Frozen(child))
        else:
            _freeze(child)


@torch.no_grad()
def channel_tables(density: ChannelDensity, index: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integer tables of the scale indices that occur.

    Args:
        density: one density per channel.
        index: whole scale indices, `(quality levels, channels)`.

    Returns:
        `(numbers, reach, counts)`: number of the table of each quality level and channel, and the tables.

    Raises:
        ModelError: more tables than a coder can number.
    """
    double = copy.deepcopy(density).double()
    numbers = np.zeros(tuple(index.shape), dtype=np.int32)
    reaches: list[int] = []
    counts: list[np.ndarray] = []
    for channel in range(density.channels):
        used, place = torch.unique(index[:, channel].double(), return_inverse=True)
        numbers[:, channel] = len(reaches) + place.numpy()
        where = torch.tensor(channel)
        reach = double.reach(where.expand_as(used), used).clamp(2, REACH_MAX)
        q = torch.arange(-int(reach.max()), int(reach.max()) + 1, dtype=torch.float64)
        masses = double.log_prob(q, where, used[:, None]).exp()
        for own, mass in zip(reach.tolist(), masses, strict=True):
            inside = mass[len(q) // 2 - own : len(q) // 2 + own + 1]
            escape = (1 - inside.sum()).clamp_min(1e-9)
            counts.append(integer_table(torch.cat([inside, escape[None]]).numpy()))
            reaches.append(own)
    if len(reaches) > TABLES_MAX:
        raise ModelError(
            f"The prior needs {len(reaches)} tables, more than {TABLES_MAX}. "
            "Use fewer channels or a narrower range of lam."
        )
    return numbers, np.array(reaches, dtype=np.int32), np.concatenate(counts).astype(np.int32)


def _rows_of(function: Callable[[Tensor], Tensor], lam: Tensor) -> Tensor:
    """A function of lam at every quality level, one at a time as a coder meets them."""
    return torch.cat([function(value[None]) for value in lam.float()])


class _Synthesis(nn.Module):
    """A latent to pixels in [0, 1], `(H, W, 3)`."""

    def __init__(self, decoder: ConvolutionalDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, z: Tensor, lam: Tensor) -> Tensor:
        return self.decoder(z, lam).clamp(0, 1)[0].permute(1, 2, 0)


class _Members(nn.Module):
    """A summary to table numbers and means, in whole numbers."""

    def __init__(self, synthesis: HyperSynthesis, scales: int) -> None:
        super().__init__()
        self.synthesis, self.scales = synthesis, scales

    def forward(self, w: Tensor, bias: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        index, mean = self.synthesis(w, bias, shift)
        return torch.floor(index / INDEX_UNIT + 0.5).clamp(0, self.scales - 1), mean


def _factorised(prior: FactorisedPrior, lam: Tensor, channels: int) -> Parts:
    number, reach, counts = channel_tables(prior.density, _rows_of(prior.index, lam))
    return {"coder": "factorised"}, {"latent.number": number, "latent.reach": reach, "latent.counts": counts}, {}


def _universal(prior: MagnitudePrior, lam: Tensor, channels: int) -> Parts:
    return {"coder": "universal", "channels": channels}, {}, {}


def _hyperprior(prior: Hyperprior, lam: Tensor, channels: int) -> Parts:
    used = prior.synthesis.accumulator_bound() / 2**24
    logging.getLogger("rdae").info("largest accumulator: %.1f %% of the exact range", 100 * used)
    number, reach, counts = channel_tables(prior.summary.density, _rows_of(prior.summary.index, lam))
    arrays = {"summary.number": number, "summary.reach": reach, "summary.counts": counts}
    arrays["latent.reach"], arrays["latent.counts"] = density_tables(prior.density, 1, REACH_MAX)
    for place, name in enumerate(("bias", "shift")):
        rows = _rows_of(lambda x, place=place: prior.told(x)[place], lam)  # type: ignore[misc]
        arrays[name] = rows[..., 0, 0].to(torch.int16).numpy()
    summary = prior.summary.density.channels
    width = arrays["bias"].shape[1]
    _freeze(prior.synthesis)
    bias, shift = torch.zeros(1, width, 1, 1), torch.zeros(1, channels, 1, 1)
    graphs: dict[str, Graph] = {
        "hyper_analysis": (
            prior.analysis,
            {"z": torch.zeros(1, channels, 2 << prior.levels, 3 << prior.levels)},
            ["w"],
        ),
        "hyper_synthesis": (
            _Members(prior.synthesis, prior.density.scales),
            {"w": torch.zeros(1, summary, 2, 3), "bias": bias, "shift": shift},
            ["number", "mean"],
        ),
    }
    return {"coder": "hyperprior", "levels": prior.levels, "exact_range_used": round(used, 6)}, arrays, graphs


@torch.no_grad()
def export_convolutional(model: RateDistortionAutoencoder, recipe: CodecRecipe, card: dict[str, Any]) -> bytes:
    """The codec file of a convolutional autoencoder.

    Args:
        model: `ConvolutionalEncoder` and `ConvolutionalDecoder` with a `FactorisedPrior`, a `Hyperprior` or a
            `MagnitudePrior`; on the CPU; it is not changed.
        recipe: gives name and quality range.
        card: what else to say of the model: training data, terms, command, seed.

    Raises:
        ModelError: the model is made of other parts, its gains cover less than the range of quality, or its exact
            network may leave the exact range.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    encoder, decoder, prior = model.encoder, model.decoder, model.prior
    if not isinstance(encoder, ConvolutionalEncoder) or not isinstance(decoder, ConvolutionalDecoder):
        raise ModelError(
            f"This export is for ConvolutionalEncoder and ConvolutionalDecoder, not {type(encoder).__name__} and "
            f"{type(decoder).__name__}. Use export_subbands for the wavelet codec."
        )
    if isinstance(model.channel, RateDistortionRounding):
        raise ModelError(
            "Files of convolutional codecs round to the nearest whole number, but the model's channel weighs bits "
            "while it rounds. Build it with UniformNoise, StraightThrough, Mixed or Rounding."
        )
    require_range(model, recipe.quality_lam)
    lam = recipe.lam_of_levels()
    if isinstance(prior, FactorisedPrior):
        kind, arrays, graphs = _factorised(prior, lam, encoder.channels)
    elif isinstance(prior, Hyperprior):
        kind, arrays, graphs = _hyperprior(prior, lam, encoder.channels)
    elif isinstance(prior, MagnitudePrior):
        kind, arrays, graphs = _universal(prior, lam, encoder.channels)
    else:
        raise ModelError(
            f"There is no coder for a {type(prior).__name__}. Use FactorisedPrior, Hyperprior or MagnitudePrior."
        )
    block = encoder.block
    unit = block << int(kind.get("levels", 0))
    one = torch.ones(1)
    graphs["analysis"] = encoder, {"y": torch.zeros(1, 3, 2 * block, 3 * block), "lam": one}, ["z"]
    graphs["synthesis"] = _Synthesis(decoder), {"z": torch.zeros(1, encoder.channels, 2, 3), "lam": one}, ["pixels"]
    for name, (module, inputs, outputs) in graphs.items():
        arrays[f"graph.{name}"] = np.frombuffer(to_onnx(module, inputs, outputs), dtype=np.uint8)
    halos = [-(-reach // unit) * unit for reach in (encoder.reach, decoder.reach)]
    full = {"name": recipe.name, "block": block, "tile": TILE, "halo": halos, **kind, **card}
    return pack_model(full, {**arrays, "lam": lam.numpy()})
