"""From trained weights of a sub-band codec to a codec file: ONNX graphs of bytes, integer tables, card."""

from __future__ import annotations

import copy
import logging
from typing import Any, cast

import numpy as np
import onnx
import torch
from onnx import compose
from torch import Tensor, nn

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import RateDistortionRounding
from rdae.coding.blending import EVERY, LATER_UNIT, MOMENTS, PIXELS, WAYS_UNIT
from rdae.coding.model import pack_model
from rdae.coding.network_bytes import SIGNED_ZERO
from rdae.coding.pyramid import COARSE, LOWEST, REANALYSIS
from rdae.coding.pyramid_order import BANDS, CERTAIN, COLOURS, LOW_UNIT, groups_of_level
from rdae.errors import ModelError
from rdae.networks.blending import own_contrast
from rdae.networks.block_corrector import BLOCK, SAMPLES, BlockCorrector, contrast
from rdae.networks.bytes import ByteConv
from rdae.networks.exact import EXACT_LIMIT
from rdae.networks.folded_wavelet import BlocksToPixels, FoldedSynthesis
from rdae.networks.pyramid import PyramidEncoder, step_of
from rdae.networks.shuffle import depth_to_space, space_to_depth
from rdae.networks.subbands import (
    BYTES_PER_STEP,
    FOLDED_BANDS,
    HANDED,
    KNOTS,
    SubbandCorrector,
    SubbandDecoder,
    quality_bytes,
    raised,
)
from rdae.priors.subbands import TOLD, SubbandPrior
from rdae.training.byte_graphs import ByteGraph
from rdae.training.codec_recipe import CodecRecipe
from rdae.training.density_tables import density_tables
from rdae.training.onnx_graphs import TILE, to_onnx

__all__ = ["export_subbands"]

HALO_ENCODER, HALO_DECODER = 128, 192  # at least the receptive fields, multiples of 64
REACH_MAX, REACH_MAX_LOW = 200, 400


class _Analysis(nn.Module):
    """Pixels to latents in units of the step, details folded."""

    def __init__(self, encoder: PyramidEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, y: Tensor, lam: Tensor) -> tuple[Tensor, ...]:
        low, *details = self.encoder(y, lam)
        return (low, *(space_to_depth(detail) for detail in details))


class _Reanalysis(nn.Module):
    """Pixels, pixels that the decoder showed, and the folded symbols that it was given, to details anew."""

    def __init__(self, encoder: PyramidEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, y: Tensor, shown: Tensor, lam: Tensor, *symbols: Tensor) -> tuple[Tensor, ...]:
        details = [depth_to_space(q.float()) for q in symbols]
        return tuple(space_to_depth(z) for z in self.encoder.again(y, shown.permute(2, 0, 1)[None], lam, details))


class _Half(nn.Module):
    """Folded symbols (int16), all but the finest, and corrections (float32) to the picture at half its size."""

    def __init__(self, coarsest: int, wavelet: FoldedSynthesis) -> None:
        super().__init__()
        self.coarsest, self.wavelet = coarsest, wavelet

    def forward(self, low: Tensor, *inputs: Tensor) -> Tensor:
        count = self.wavelet.levels - 1
        details = [q.float() for q in inputs[:count]]
        first = self.wavelet.levels - self.coarsest  # that is corrected
        changed = [q + c for q, c in zip(details[first:], inputs[count:], strict=True)]
        return self.wavelet.coarse(low.float(), [*details[:first], *changed])


class _Finest(nn.Module):
    """The picture at half its size and the finest symbols to blocks in steps, `(3, 16, h, w)`, and contrast."""

    def __init__(self, wavelet: FoldedSynthesis) -> None:
        super().__init__()
        self.wavelet = wavelet

    def forward(self, half: Tensor, finest: Tensor) -> tuple[Tensor, Tensor]:
        blocks = self.wavelet.finest(half, finest.float())
        return blocks, contrast(blocks.flatten(0, 1)[None])


class _Pixels(nn.Module):
    """Blocks, their correction and what is blended, in units of the step, to pixels in [0, 1], `(H, W, 3)`."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels = BlocksToPixels()

    def forward(self, lam: Tensor, maps: Tensor, blocks: Tensor, change: Tensor) -> Tensor:
        return self.pixels(blocks, change, maps, step_of(lam))


class _Moments(nn.Module):
    """Pixels, those shown, what made them and which blocks count, to sums that a blend is solved from.

    `h^T h` and `h^T r` of what maps read and of what is missing, in units of the step, over every second row of blocks.
    """

    colour: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("colour", BlocksToPixels().colour)

    def forward(
        self, y: Tensor, shown: Tensor, blocks: Tensor, change: Tensor, lam: Tensor, seen: Tensor
    ) -> tuple[Tensor, Tensor]:
        some = slice(None, None, EVERY)
        read = torch.cat([own_contrast(blocks.flatten(0, 1)[None]), change], 1)[0, :, some] * seen[some, :, 0]
        height, width = blocks.shape[-2:]
        missing = (y[0].permute(1, 2, 0) - shown).reshape(height, BLOCK, width, BLOCK * COLOURS)[some]
        h, r = read.flatten(1), missing.transpose(1, 2).reshape(-1, SAMPLES)
        return h @ h.T, (h @ r) @ self.colour.T / step_of(lam)


def _analysis(encoder: PyramidEncoder) -> bytes:
    """Pixels to latents."""
    side, levels = 2 ** (encoder.levels + 1), encoder.levels
    inputs = {"y": torch.zeros(1, 3, 2 * side, 3 * side), "lam": torch.ones(1)}
    return to_onnx(_Analysis(encoder), inputs, ["low", *(f"detail{level}" for level in range(levels, 0, -1))])


def _reanalysis(encoder: PyramidEncoder) -> bytes:
    """Pixels and what was shown of them to latents."""
    side, levels = 2 ** (encoder.levels + 1), encoder.levels
    pixels = {"y": torch.zeros(1, 3, 2 * side, 3 * side), "shown": torch.zeros(2 * side, 3 * side, 3)}
    symbols = {f"detail{level}": _folded(levels, level, torch.int16) for level in range(levels, 0, -1)}
    return to_onnx(_Reanalysis(encoder), pixels | {"lam": torch.ones(1)} | symbols, [f"z.{name}" for name in symbols])


def _members(graph: ByteGraph, h: str, head: Any) -> dict[str, str]:
    """Scale indices of a group, then its skews; 0 is the byte 128. Whoever reads them clips them to its tables."""
    heads = [(head.index, 1 / head.index_unit), (head.skew, 1 / head.skew_unit)]
    return {"members": graph.convs(graph.conv(h, head.hidden), heads, zero=SIGNED_ZERO)}


def _prior_graphs(prior: SubbandPrior) -> dict[str, bytes]:
    """Every graph that decoding symbols needs, by name."""
    graphs = {}
    fine, middle, coarse = prior.channels
    graph = ByteGraph()
    residual, told = graph.input("residual", 24), graph.told("told", TOLD)
    joined = graph.concat(residual, graph.planes(told, residual))
    graphs["low"] = graph.finish({}, state=graph.conv(joined, prior.low_entry))
    for net, (width, coarser) in enumerate([(fine, middle), (middle, coarse), (coarse, coarse)], start=1):
        entry: Any = prior.entries[net - 1]
        graph = ByteGraph()
        state, parents = graph.state("state", coarser), graph.input("parents", 2 * FOLDED_BANDS)
        up, told = graph.depth_to_space(graph.conv(state, entry.up), raised(width)), graph.told("told", TOLD)
        joined = graph.concat(up, graph.depth_to_space(parents, 2 * BANDS), graph.planes(told, up))
        graphs[f"entry{net}"] = graph.finish({}, state=graph.conv(joined, entry.mix))
        passes: Any = prior.nets[net - 1]
        sizes = [len(group) for group in groups_of_level(net)]
        graph = ByteGraph()
        h = graph.block(graph.state("h", width), passes.first)
        graphs[f"level{net}.start"] = graph.finish(_members(graph, h, passes.heads[0]), state=h)
        for k, update in enumerate(passes.updates, start=1):
            graph = ByteGraph()
            h = graph.block(graph.state("h", width), update, graph.input("g", 2 * sizes[k - 1]))
            last = k == len(sizes)
            name = f"level{net}.finish" if last else f"level{net}.pass{k}"
            graphs[name] = graph.finish({} if last else _members(graph, h, passes.heads[k]), state=h)
    return graphs


def _coarse(decoder: SubbandDecoder, levels: int) -> bytes:
    """Symbols but the finest, and what networks of bytes see of them, to the picture at half its size, and to bytes
    that are handed on to the rest of the synthesis."""
    coarsest = decoder.corrector.coarsest
    details = {f"detail{level}": _folded(levels, level, torch.int16) for level in range(levels, 1, -1)}
    low = {"low": torch.zeros(1, 3, 4, 6, dtype=torch.int16)}
    changes = {f"correction{level}": _folded(levels, level, torch.float32) for level in range(coarsest, 1, -1)}
    half = _Half(coarsest, FoldedSynthesis(levels, steps=decoder.steps))
    wavelet = to_onnx(half, low | details | changes, ["half"])
    return _joined(_corrections(decoder.corrector), wavelet, outputs=("next", "half"))


def _synthesis(decoder: SubbandDecoder, levels: int) -> bytes:
    """What `_coarse` gives, the finest symbols and what networks of bytes see of them, to pixels."""
    known = {"half": torch.zeros(3, 4, 4, 6), "detail1": torch.zeros(1, FOLDED_BANDS, 4, 6, dtype=torch.int16)}
    wavelet = to_onnx(_Finest(FoldedSynthesis(levels, steps=decoder.steps)), known, ["blocks", "contrast"])
    parts = wavelet, _told(), _block_changes(decoder.finisher), _pixels()
    return _joined(*parts, outputs=("pixels", "blocks", "change"))


def _pixels() -> bytes:
    """The last step of the synthesis."""
    known = {"lam": torch.ones(1), "maps": torch.zeros(2 * SAMPLES, SAMPLES)}
    return to_onnx(_Pixels(), known | _blocks(), ["pixels"])


def _moments() -> bytes:
    """Of what a blend is solved from."""
    pixels = {"y": torch.zeros(1, 3, 4 * BLOCK, 6 * BLOCK), "shown": torch.zeros(4 * BLOCK, 6 * BLOCK, 3)}
    known = {"lam": torch.ones(1), "seen": torch.ones(4, 6, 1)}
    return to_onnx(_Moments(), pixels | _blocks() | known, ["gram", "cross"])


def _blocks() -> dict[str, Tensor]:
    """Examples of blocks and of their correction."""
    return {"blocks": torch.zeros(3, BLOCK**2, 4, 6), "change": torch.zeros(1, SAMPLES, 4, 6)}


def _corrections(corrector: SubbandCorrector) -> bytes:
    """What the networks see of the symbols, all but the finest, to corrections, and to bytes that are handed on."""
    graph = ByteGraph()
    quality = graph.told("quality", KNOTS)
    seen = {level: graph.input(f"g.detail{level}", 2 * FOLDED_BANDS) for level in range(corrector.coarsest + 1, 1, -1)}
    handed: list[str] = []
    corrections = {}
    for level in range(corrector.coarsest, 1, -1):
        k = level - 2
        read, raise_, write, blocks = (
            cast("Any", part[k]) for part in (corrector.read, corrector.raise_, corrector.write, corrector.blocks)
        )
        inputs = [
            seen[level],
            graph.depth_to_space(seen[level + 1], 2 * BANDS),
            *handed,
            graph.planes(quality, seen[level]),
        ]
        h = graph.conv(graph.concat(*inputs), read)
        for block in blocks:
            h = graph.block(h, block)
        change = graph.conv(h, write, zero=SIGNED_ZERO)
        corrections[f"correction{level}"] = graph.floats(change, 1 / BYTES_PER_STEP, SIGNED_ZERO)
        handed = [graph.depth_to_space(graph.conv(h, raise_), raise_.weight.shape[0] // 4)]
    return graph.finish({}, state=handed[0], floats=corrections)


def _told() -> bytes:
    """What the networks see of the finest symbols, and what was handed on, to what the corrector of blocks is told."""
    graph = ByteGraph()
    seen, handed = graph.input("g.detail1", 2 * FOLDED_BANDS), graph.state("handed", HANDED)
    return graph.finish({"told": graph.concat(seen, handed, graph.planes(graph.told("quality", KNOTS), seen))})


def _block_changes(corrector: BlockCorrector) -> bytes:
    """Contrast of blocks, and what is told beside it, to their change."""
    graph = ByteGraph()
    seen, told = graph.signed("contrast", SAMPLES), graph.input("told", corrector.hear.weight.shape[1])
    read = graph.conv(seen, corrector.read, zero=SIGNED_ZERO, zero_in=SIGNED_ZERO)
    h = graph.add(read, graph.conv(told, corrector.hear, zero=SIGNED_ZERO), zero=SIGNED_ZERO)
    for block in cast("Any", corrector.blocks):
        h = graph.block(h, block)
    change = graph.conv(h, corrector.write, zero=SIGNED_ZERO)
    return graph.finish({}, floats={"change": graph.floats(change, 1 / BYTES_PER_STEP, SIGNED_ZERO)})


def _folded(levels: int, level: int, dtype: torch.dtype) -> Tensor:
    """An example of the folded sub-bands of a level."""
    side = 2 ** (levels + 1)
    return torch.zeros(1, FOLDED_BANDS, side >> level, 3 * (side >> level + 1), dtype=dtype)


def _joined(*parts: bytes, outputs: tuple[str, ...]) -> bytes:
    """One graph of several: what one computes under the name of an input of a later one is that input."""
    models = [onnx.load_model_from_string(part) for part in parts]
    for number, model in enumerate(models):
        _rename(model, f"{number}.", keep={value.name for value in (*model.graph.input, *model.graph.output)})
        model.ir_version = models[0].ir_version
    known = {value.name: copy.deepcopy(value) for model in models for value in model.graph.output}
    whole, *others = models
    for model in others:
        wanted = {value.name for value in model.graph.input}
        shared = [(value.name, value.name) for value in whole.graph.output if value.name in wanted]
        whole = compose.merge_models(whole, model, io_map=shared)
    del whole.graph.output[:]
    whole.graph.output.extend(known[name] for name in outputs)
    _drop_identities(whole.graph)
    onnx.checker.check_model(whole)
    return whole.SerializeToString(deterministic=True)


def _drop_identities(graph: onnx.GraphProto) -> None:
    """Lets what an Identity passes on have the name of what it gives: one that gives an output would copy."""
    made = {name for node in graph.node for name in node.output if node.op_type != "Identity"}
    made -= {value.name for value in graph.output}
    passing = [node for node in graph.node if node.op_type == "Identity" and node.input[0] in made]
    names = {node.input[0]: node.output[0] for node in passing}
    if len(names) < len(passing):
        raise ModelError("Two outputs of a graph are one value. Give the graph one of them.")
    kept = [node for node in graph.node if node not in passing]
    for node in kept:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    del graph.node[:]
    graph.node.extend(kept)


def _rename(model: onnx.ModelProto, prefix: str, keep: set[str]) -> None:
    """Puts a prefix before every name of a graph but those to keep, so that graphs can be joined."""

    def renamed(name: str) -> str:
        return name if not name or name in keep else prefix + name

    graph = model.graph
    for node in graph.node:
        node.name = renamed(node.name)
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
    for value in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        value.name = renamed(value.name)


def _tables(prior: SubbandPrior) -> dict[str, np.ndarray]:
    """Integer tables of details and low band, and which of the latter belongs where."""
    low = prior.low
    arrays = {}
    arrays["details.reach"], arrays["details.counts"] = density_tables(
        prior.density, prior.density.skew_max + 1, REACH_MAX
    )
    arrays["low.reach"], arrays["low.counts"] = density_tables(low.density, 1, REACH_MAX_LOW)
    arrays["low.corner"] = low.corner.round().clamp(0, low.density.scales - 1).to(torch.int16).numpy()
    for name in ("index", "terms"):
        arrays[f"low.{name}"] = _int16(getattr(low, name) * LOW_UNIT, "numbers for tables of the low band")
    return arrays


def _int16(numbers: Tensor, what: str) -> np.ndarray:
    """Rounded.

    Raises:
        ModelError: one is too large.
    """
    whole = numbers.round()
    if not whole.abs().max() < 1 << 15:
        raise ModelError(f"The model's {what} have run away. Train again with a lower learning rate.")
    return whole.to(torch.int16).numpy()


@torch.no_grad()
def export_subbands(model: RateDistortionAutoencoder, recipe: CodecRecipe, card: dict[str, Any]) -> bytes:
    """The codec file of a trained sub-band model.

    Args:
        model: trained, on the CPU; it is not changed.
        recipe: gives name and quality range.
        card: what else to say of the model: training data, terms, command, seed.

    Raises:
        ModelError: the model is no sub-band model, its encoder and decoder do not fit together, or a layer of its
            entropy networks may leave the exact range.
    """
    prior: Any = model.prior
    if not isinstance(prior, SubbandPrior) or not isinstance(model.channel, RateDistortionRounding):
        raise ModelError(
            f"This export is for a SubbandPrior with RateDistortionRounding, not {type(prior).__name__} with "
            f"{type(model.channel).__name__}. Use export_convolutional for convolutional codecs."
        )
    used = max(layer.accumulator_bound() for layer in model.modules() if isinstance(layer, ByteConv)) / EXACT_LIMIT
    encoder, decoder = model.encoder, model.decoder
    assert isinstance(encoder, PyramidEncoder)
    assert isinstance(decoder, SubbandDecoder)
    levels = prior.levels
    if encoder.steps != decoder.steps:
        raise ModelError(
            f"The encoder's steps are {encoder.steps}, the decoder's {decoder.steps}. Build both with the same steps."
        )
    graphs = {
        "analysis": _analysis(encoder), REANALYSIS: _reanalysis(encoder), COARSE: _coarse(decoder, levels),
        "synthesis": _synthesis(decoder, levels), MOMENTS: _moments(), PIXELS: _pixels(),
    } | _prior_graphs(prior)  # fmt: skip
    lam = recipe.lam_of_levels()
    arrays = {"lam": lam.numpy(), "quality": quality_bytes(lam).to(torch.uint8).numpy()} | _tables(prior)
    for name, maps in (("ways", decoder.blend.ways / WAYS_UNIT), ("ways.later", decoder.blend.later / LATER_UNIT)):
        arrays[name] = _int16(maps, "maps for blends")
    arrays |= {f"graph.{name}": np.frombuffer(graph, dtype=np.uint8) for name, graph in graphs.items()}
    logging.getLogger("rdae").info("largest accumulator: %.1f %% of the exact range", 100 * used)
    full = {
        "name": recipe.name,
        "coder": "pyramid",
        "skews": prior.density.skew_max + 1,
        "certain": CERTAIN,
        "corrected": decoder.corrector.coarsest,
        "levels": levels,
        "tile": TILE,
        "halo": [HALO_ENCODER, HALO_DECODER],
        "distortion_weight": model.channel.weight / LOWEST,  # so that quality 0 has the weight of training
        "exact_range_used": round(used, 6),
        **card,
    }
    return pack_model(full, arrays)
