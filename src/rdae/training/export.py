"""From trained weights to a codec file: ONNX graphs, integer tables, card. The wall between the two halves."""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import RateDistortionRounding
from rdae.coding.model import pack_model
from rdae.coding.pyramid import SKEWS, groups_of_level
from rdae.coding.tables import integer_table
from rdae.errors import ModelError
from rdae.networks.exact import ACTIVATION_MAX, ExactConv, exact_relu, signed_and_absolute
from rdae.networks.folded_wavelet import FoldedSynthesis
from rdae.networks.pyramid import PyramidDecoder, PyramidEncoder, step_of
from rdae.networks.refine import REFINED_LEVELS
from rdae.networks.shuffle import depth_to_space, space_to_depth
from rdae.priors.density import SCALE_MIN, SCALE_RATIO, SKEW_MAX, SymbolDensity
from rdae.priors.pyramid import PyramidPrior
from rdae.training.codec_recipe import CodecRecipe

__all__ = ["density_tables", "export_pyramid"]

TILE = 1024
HALO_ENCODER, HALO_DECODER = 128, 192  # at least the receptive fields, multiples of 64
REACH_MAX, REACH_MAX_LOW = 200, 400
OPSET = 17


def density_tables(density: SymbolDensity, skews: int, reach_max: int) -> tuple[np.ndarray, np.ndarray]:
    """Reach and counts of table `skews * index + skew` for every member of a density, from float64 masses."""
    reaches, counts = [], []
    double = _double(density)
    for index in range(density.scales):
        scale = SCALE_MIN * SCALE_RATIO**index
        reach = min(reach_max, max(2, math.ceil(9 * scale + 1)))
        q = torch.arange(-reach, reach + 1, dtype=torch.float64)
        for skew in range(skews):
            mass = double.log_prob(q, torch.full_like(q, index), torch.full_like(q, skew)).exp()
            escape = (1 - mass.sum()).clamp_min(1e-9)
            counts.append(integer_table(torch.cat([mass, escape[None]]).numpy()))
            reaches.append(reach)
    return np.array(reaches, dtype=np.int32), np.concatenate(counts).astype(np.int32)


@torch.no_grad()
def _double(density: SymbolDensity) -> SymbolDensity:
    copy = SymbolDensity(density.scales, dead_zone=None if density.zone is None else 0.0, skew_max=density.skew_max)
    copy.load_state_dict(density.state_dict())
    return copy.double().requires_grad_(False)


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


def freeze(module: nn.Module) -> None:
    """Replaces every `ExactConv` below a module by one whose quantised weights are constants."""
    for name, child in module.named_children():
        if isinstance(child, ExactConv):
            setattr(module, name, _Frozen(child))
        else:
            freeze(child)


class _Analysis(nn.Module):
    """Pixels to latents in units of the step, details folded."""

    def __init__(self, encoder: PyramidEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, y: Tensor, lam: Tensor) -> tuple[Tensor, ...]:
        low, *details = self.encoder(y, lam)
        return (low, *(space_to_depth(detail) for detail in details))


class _Synthesis(nn.Module):
    """Folded symbols (int16), and the companded symbols of all levels (int8), to pixels in [0, 1], `(H, W, 3)`."""

    def __init__(self, decoder: PyramidDecoder, levels: int) -> None:
        super().__init__()
        self.refiner, self.levels, self.wavelet = decoder.refiner, levels, FoldedSynthesis(levels)

    def forward(self, *inputs: Tensor) -> Tensor:
        low, lam = inputs[0].float(), inputs[-1]
        details = [q.float() for q in inputs[1 : 1 + self.levels]]
        companded = [g.float() for g in inputs[1 + self.levels : -1]]
        step = step_of(lam)
        unfolded = [depth_to_space(g) for g in companded[-REFINED_LEVELS - 2 : -1]]
        corrections = self.refiner.corrections(companded[-REFINED_LEVELS:], unfolded, torch.log(255.0 * step))
        refined = [q + c for q, c in zip(details[-REFINED_LEVELS:], corrections, strict=True)]
        return self.wavelet(low, [*details[:-REFINED_LEVELS], *refined], step)[0].permute(1, 2, 0)


class _Entry(nn.Module):
    """The coarser state and the folded, companded symbols of the parents to the state of a level.

    Two sums of products and a bias, added before rounding, are one convolution of the joined inputs.
    """

    def __init__(self, entry: Any) -> None:
        super().__init__()
        self.up = entry.up
        mix, parents = entry.mix.conv, entry.parents.conv
        self.join = nn.Conv2d(mix.in_channels + parents.in_channels, mix.out_channels, 1)
        self.join.weight.copy_(torch.cat([mix.weight, parents.weight], 1))
        self.join.bias.copy_(mix.bias + parents.bias - 0.5)  # type: ignore[union-attr]

    def forward(self, state: Tensor, parents: Tensor, bias: Tensor) -> Tensor:
        up = depth_to_space(exact_relu(self.up(state)))
        return exact_relu(self.join(torch.cat([up, signed_and_absolute(depth_to_space(parents))], 1)) + bias)


class _Members(nn.Module):
    """Scale index and skew of each symbol as whole numbers, int8: `floor(x + 1/2)`, clipped.

    The factors of `_Head` are powers of two, so they and the halves go into weights and biases exactly.
    """

    def __init__(self, head: Any, scales: int) -> None:
        super().__init__()
        self.hidden, self.scales = head.hidden, scales
        self.index, self.skew = (nn.Conv2d(head.out.conv.in_channels, head.symbols, 1) for _ in range(2))
        for conv, rows, factor in (
            (self.index, slice(None, head.symbols), head.index_unit),
            (self.skew, slice(head.symbols, None), head.skew_unit),
        ):
            conv.weight.copy_(head.out.conv.weight[rows] * factor)
            conv.bias.copy_(head.out.conv.bias[rows] * factor + 0.5)  # type: ignore[union-attr]

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        h = exact_relu(self.hidden(h))
        index = torch.floor(self.index(h).clamp(0, self.scales - 0.5)).to(torch.int8)
        return index, torch.floor(self.skew(h).clamp(-SKEW_MAX, SKEW_MAX + 0.5)).to(torch.int8)


class _Start(nn.Module):
    def __init__(self, net: Any, scales: int) -> None:
        super().__init__()
        self.first, self.members = net.first, _Members(net.heads[0], scales)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.first(h)
        return h, *self.members(h)


class _Pass(nn.Module):
    def __init__(self, net: Any, k: int, scales: int) -> None:
        super().__init__()
        self.update, self.members = net.updates[k - 1], _Members(net.heads[k], scales)

    def forward(self, h: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.update(h, g)
        return h, *self.members(h)


def analysis_graph(encoder: PyramidEncoder) -> bytes:
    """Pixels to latents."""
    side, levels = 2 ** (encoder.levels + 1), encoder.levels
    inputs = {"y": torch.zeros(1, 3, 2 * side, 3 * side), "lam": torch.ones(1)}
    return to_onnx(_Analysis(encoder), inputs, ["low", *(f"detail{level}" for level in range(levels, 0, -1))])


def _graphs(model: RateDistortionAutoencoder) -> Iterator[tuple[str, nn.Module, dict[str, Tensor], list[str]]]:
    """Name, module, example inputs and output names of every graph."""
    prior: PyramidPrior = model.prior  # type: ignore[assignment]
    levels, scales = prior.levels, prior.density.scales
    side = 2 ** (levels + 1)
    lam = torch.ones(1)
    decoder: Any = model.decoder
    symbols = {"low": torch.zeros(1, 3, 4, 6, dtype=torch.int16)}
    for level in range(levels, 0, -1):
        symbols[f"detail{level}"] = torch.zeros(1, 36, side >> level, 3 * (side >> level + 1), dtype=torch.int16)
    companded = {f"g.{name}": x.to(torch.int8) for name, x in symbols.items() if name != "low"}
    yield "synthesis", _Synthesis(decoder, levels), {**symbols, **companded, "lam": lam}, ["pixels"]
    fine, middle, coarse = prior.channels
    bias = torch.zeros(1, coarse, 1, 1)
    yield "low", prior.low_entry, {"residual": torch.zeros(1, 12, 2, 3), "bias": bias}, ["h"]
    for net, (width, coarser) in enumerate([(fine, middle), (middle, coarse), (coarse, coarse)], start=1):
        inputs = {
            "state": torch.zeros(1, coarser, 2, 3),
            "parents": torch.zeros(1, 36, 2, 3),
            "bias": torch.zeros(1, width, 1, 1),
        }
        yield f"entry{net}", _Entry(prior.entries[net - 1]), inputs, ["h"]
        passes: Any = prior.nets[net - 1]
        h = torch.zeros(1, width, 4, 6)
        yield f"level{net}.start", _Start(passes, scales), {"h": h}, ["h_next", "index", "skew"]
        groups = groups_of_level(net)
        for k in range(1, len(groups)):
            g = torch.zeros(1, len(groups[k - 1]), 4, 6)
            yield f"level{net}.pass{k}", _Pass(passes, k, scales), {"h": h, "g": g}, ["h_next", "index", "skew"]
        if net > 1:
            g = torch.zeros(1, len(groups[-1]), 4, 6)
            yield f"level{net}.finish", passes.updates[-1], {"h": h, "g": g}, ["h_next"]


def _simplified(path: Path) -> Path:
    """The same graph with constants folded: standard operators, half the nodes, so half the time to load."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    simple = path.with_name("simple.onnx")
    options.optimized_model_filepath = str(simple)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return simple


def to_onnx(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str]) -> bytes:
    """An ONNX graph of a module for inputs of any height and width; the same module gives the same bytes."""
    moving = {name: {2: f"{name}_h", 3: f"{name}_w"} for name, x in inputs.items() if x.ndim == 4 and x.shape[-1] > 1}
    moving |= {name: {2: f"{name}_h", 3: f"{name}_w"} for name in outputs if name != "pixels"}
    if "pixels" in outputs:
        moving["pixels"] = {0: "height", 1: "width"}
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        path = Path(folder) / "graph.onnx"
        torch.onnx.export(
            module, tuple(inputs.values()), path, input_names=list(inputs), output_names=outputs,
            dynamic_axes=moving, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
        graph = onnx.load_model(_simplified(path))
    del graph.metadata_props[:]
    graph.producer_name, graph.producer_version, graph.doc_string = "rdae", "", ""
    for node in graph.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(graph)
    return graph.SerializeToString(deterministic=True)


def check_exact(prior: PyramidPrior) -> float:
    """Largest accumulator of the entropy networks as a share of what float32 counts exactly.

    Raises:
        ModelError: a layer could leave the exact range.
    """
    largest = 0.0
    for layer in prior.modules():
        if isinstance(layer, ExactConv):
            # what may be added before rounding: a residual of at most 255, a bias per image of at most 127, halves
            largest = max(largest, layer.accumulator_bound(added=4.0 * ACTIVATION_MAX))
    for entry in prior.entries:  # these add two convolutions: each partial sum counts in the finer step of the two
        mix: ExactConv = entry.mix  # type: ignore[assignment]
        largest = max(largest, mix.accumulator_bound(entry.parents, added=4.0 * ACTIVATION_MAX))  # type: ignore[arg-type]
    return largest / 2**24


@torch.no_grad()
def export_pyramid(model: RateDistortionAutoencoder, recipe: CodecRecipe, card: dict[str, Any]) -> bytes:
    """The codec file of a trained pyramid model.

    Args:
        model: trained, on the CPU; it is not changed.
        recipe: gives name and quality range.
        card: what else to say of the model: training data, terms, command, seed.

    Raises:
        ModelError: the model is no pyramid model, or its entropy networks may leave the exact range.
    """
    prior = model.prior
    if not isinstance(prior, PyramidPrior) or not isinstance(model.channel, RateDistortionRounding):
        raise ModelError(
            f"This export is for a PyramidPrior with RateDistortionRounding, not {type(prior).__name__} with "
            f"{type(model.channel).__name__}. Use export_convolutional for convolutional codecs."
        )
    used = check_exact(prior)
    copy = recipe.model()
    copy.load_state_dict(model.state_dict())
    copy.eval().requires_grad_(False)
    lam = recipe.lam_of_levels()
    biases = prior.biases(torch.log(255.0 * step_of(lam)).float())
    arrays: dict[str, np.ndarray] = {"lam": lam.numpy()}
    for level, bias in enumerate(biases, start=1):
        arrays[f"bias.{level}"] = bias[..., 0, 0].round().to(torch.int16).numpy()
    arrays["details.reach"], arrays["details.counts"] = density_tables(prior.density, SKEWS, REACH_MAX)
    arrays["low.reach"], arrays["low.counts"] = density_tables(prior.low.density, 1, REACH_MAX_LOW)
    for name, index in (("low.number", prior.low.index), ("low.corner", prior.low.corner)):
        arrays[name] = index.round().clamp(0, prior.low.density.scales - 1).to(torch.int16).numpy()
    for child in (copy.prior,):
        freeze(child)
    arrays["graph.analysis"] = np.frombuffer(analysis_graph(copy.encoder), dtype=np.uint8)
    for name, module, inputs, outputs in _graphs(copy):
        arrays[f"graph.{name}"] = np.frombuffer(to_onnx(module, inputs, outputs), dtype=np.uint8)
    logging.getLogger("rdae").info("largest accumulator: %.1f %% of the exact range", 100 * used)
    full = {
        "name": recipe.name,
        "coder": "pyramid",
        "levels": prior.levels,
        "tile": TILE,
        "halo": [HALO_ENCODER, HALO_DECODER],
        "distortion_weight": model.channel.weight,
        "exact_range_used": round(used, 6),
        **card,
    }
    return pack_model(full, arrays)
