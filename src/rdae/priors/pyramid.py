"""A coarse-to-fine prior for wavelet sub-bands, exact on every machine.

Levels are coded from coarse to fine. At each level the grid is folded 2 x 2 (so a position holds 9 bands x
4 phases) and coded in passes: luma on one half of a checkerboard, luma on the other, then the two opponent
colours likewise. A small integer network (`networks.exact`) reads the coarser level, the parents and
every earlier pass, and names for each symbol one member of a `SymbolDensity`. The low band is coded by
interpolation: each sample is predicted from four decoded neighbours, and how far those lie apart chooses
the member.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rdae.channels import Channel, Coded, Conditional, Mixed, UniformNoise
from rdae.coding.pyramid import LOW_DEPTHS, SPREAD_THRESHOLDS, groups_of_level, interpolations, network_of_level
from rdae.errors import ModelError
from rdae.networks.exact import SYMBOL_MAX, ExactConv, compand, exact_relu, floor_through, signed_and_absolute
from rdae.networks.pyramid import step_of
from rdae.networks.shuffle import depth_to_space, space_to_depth
from rdae.priors.density import SymbolDensity

__all__ = ["LowBandPrior", "PyramidPrior"]


class LowBandPrior(nn.Module):
    """Interpolating code for the low band, plain rounding; integers throughout.

    The prediction is `floor((a + b + c + d + 2) / 4)` of four decoded neighbours; the spread `max - min`,
    in buckets `floor(log2(1 + spread))`, together with depth, kind of neighbours and colour chooses the scale.
    """

    def __init__(self, colours: int = 3, scales: int = 64) -> None:
        super().__init__()
        self.density = SymbolDensity(scales, dead_zone=None)
        start = 8.0 + 4.0 * torch.arange(len(SPREAD_THRESHOLDS) + 1, dtype=torch.float32)
        self.index = nn.Parameter(start.expand(LOW_DEPTHS, 2, colours, -1).clone())
        self.corner = nn.Parameter(torch.full((colours,), 50.0))

    def forward(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Nats per example and residuals of rounded symbols q, `(B, colours, H, W)`."""
        residual = torch.empty_like(q)
        corner = q[..., :1, :1]
        residual[..., :1, :1] = corner
        nats = -self.density.log_prob(corner, self.corner[:, None, None], torch.zeros_like(corner)).sum((1, 2, 3))
        thresholds = torch.tensor(SPREAD_THRESHOLDS, device=q.device)
        colour = torch.arange(q.shape[1], device=q.device)[:, None, None]
        for part in interpolations(*q.shape[-2:]):
            near = torch.stack([_pick(q, i, j) for i, j in part.neighbours])
            guess = torch.floor((near.sum(0) + 2) / 4)
            bucket = torch.bucketize(near.amax(0) - near.amin(0), thresholds, right=True)
            index = self.index[min(part.depth, LOW_DEPTHS - 1), part.kind][colour, bucket]
            error = _pick(q, part.rows, part.columns) - guess
            nats = nats - self.density.log_prob(error, index, torch.zeros_like(error)).sum((1, 2, 3))
            residual[..., torch.from_numpy(part.rows), torch.from_numpy(part.columns)] = error
        return nats, residual


def _pick(q: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    return q[..., torch.from_numpy(rows), torch.from_numpy(columns)]


class _Block(nn.Module):
    """Depthwise 3 x 3, 1 x 1, residual; activations stay integers in [0, 255]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = ExactConv(channels, channels, depthwise=True)
        self.pointwise = ExactConv(channels, channels, gain=0.3)

    def forward(self, h: Tensor) -> Tensor:
        return exact_relu(h + self.pointwise(exact_relu(self.depthwise(h))))


class _Head(nn.Module):
    """Scale index and skew of each symbol of a group."""

    index_unit, skew_unit = 1 / 8, 1 / 16  # keep the last weights of ordinary size

    def __init__(self, channels: int, symbols: int) -> None:
        super().__init__()
        self.symbols = symbols
        self.hidden = ExactConv(channels, channels)
        self.out = ExactConv(channels, 2 * symbols, gain=0.1)
        with torch.no_grad():
            self.out.bias[:symbols] = 12.0 / self.out.bias_unit
            self.out.bias[symbols:] = 0.0

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        index, skew = self.out(exact_relu(self.hidden(h))).chunk(2, 1)
        return index * self.index_unit, skew * self.skew_unit


class _Update(nn.Module):
    """Takes in the companded symbols of a finished group."""

    def __init__(self, channels: int, symbols: int) -> None:
        super().__init__()
        self.read = ExactConv(2 * symbols, channels, gain=0.5, input_max=SYMBOL_MAX)
        self.block = _Block(channels)

    def forward(self, h: Tensor, g: Tensor) -> Tensor:
        return self.block(exact_relu(h + self.read(signed_and_absolute(g))))


class _Entry(nn.Module):
    """State of a level before its first group, from the coarser level's state and the companded parents."""

    def __init__(self, coarser: int, channels: int) -> None:
        super().__init__()
        self.up = ExactConv(coarser, 4 * (channels // 2))
        self.mix = ExactConv(channels // 2, channels)
        self.parents = ExactConv(18, channels, gain=0.5, input_max=SYMBOL_MAX)

    def forward(self, state: Tensor, parents: Tensor, bias: Tensor) -> Tensor:
        up = depth_to_space(exact_relu(self.up(state)))
        return exact_relu(self.mix(up) + self.parents(signed_and_absolute(parents)) - 0.5 + bias)


class _LowEntry(nn.Module):
    """State of the coarsest level before its first group, from the companded residuals of the low band."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.read = ExactConv(24, channels, gain=0.5, input_max=SYMBOL_MAX)

    def forward(self, residual: Tensor, bias: Tensor) -> Tensor:
        return exact_relu(self.read(signed_and_absolute(residual)) + bias)


class _Level(nn.Module):
    """The passes of one level: `heads[k]` before group k, `updates[k]` after it."""

    def __init__(self, channels: int, sizes: list[int], *, last: bool) -> None:
        super().__init__()
        self.first = _Block(channels)
        self.heads = nn.ModuleList(_Head(channels, n) for n in sizes)
        self.updates = nn.ModuleList(_Update(channels, n) for n in (sizes[:-1] if last else sizes))


class PyramidPrior(nn.Module):
    """Prior over the latents of `networks.wavelet.wavelet_analysis`, in units of the step.

    Args:
        levels: wavelet levels.
        channels: width of the networks of level 1, level 2 and (shared) all coarser ones.
        scales: number of scale indices.
    """

    def __init__(self, levels: int = 5, channels: tuple[int, int, int] = (32, 64, 96), scales: int = 48) -> None:
        super().__init__()
        self.levels, self.channels = levels, channels
        self.low = LowBandPrior()
        self.density = SymbolDensity(scales)
        fine, middle, coarse = channels
        self.low_entry = _LowEntry(coarse)
        self.entries = nn.ModuleList([_Entry(middle, fine), _Entry(coarse, middle), _Entry(coarse, coarse)])
        sizes = [len(g) for g in groups_of_level(2)]
        self.nets = nn.ModuleList([
            _Level(fine, [len(g) for g in groups_of_level(1)], last=True),
            _Level(middle, sizes, last=False),
            _Level(coarse, sizes, last=False),
        ])  # fmt: skip
        widths = [channels[network_of_level(level) - 1] for level in range(1, levels + 1)]
        self.quality = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, sum(widths)))
        self.widths = widths

    def biases(self, log_step: Tensor) -> list[Tensor]:
        """What each level's network is told of the step: integers, `(B, C, 1, 1)` for levels 1, 2, ..."""
        x = (log_step[:, None] - 3.0) / 1.2
        bias = self.quality(torch.cat([x, x * x, torch.sin(2 * x)], 1)) * 16
        return [b[..., None, None] for b in floor_through(bias.clamp(-127, 127) + 0.5).split(self.widths, 1)]

    def forward(self, u: list[Tensor], channel: Channel, lam: Tensor) -> Coded:
        """Rounds and rates the latents in coding order.

        Args:
            u: latents in units of the step, `[low, detail_L, ..., detail_1]`.
            channel: must round in training too, for the networks read symbols.
            lam: weight of the distortion, `(B,)`; told to the networks as ln of the step.

        Raises:
            ModelError: the channel adds noise in place of rounding.
        """
        if isinstance(channel, UniformNoise | Mixed):
            raise ModelError(
                f"The networks of a PyramidPrior read whole numbers, but {type(channel).__name__} trains on noise. "
                "Use RateDistortionRounding, Rounding or StraightThrough."
            )
        with torch.autocast(u[0].device.type, enabled=False):  # integers do not survive 16-bit floats
            return self._code([band.float() for band in u], channel, torch.log(255.0 * step_of(lam.float())))

    def _code(self, u: list[Tensor], channel: Channel, log_step: Tensor) -> Coded:
        low = torch.floor(u[0] + 0.5)
        nats, residual = self.low(low)
        symbols, rate = [low], nats
        biases = self.biases(log_step)
        state: Tensor | None = None
        parents = low
        for level in range(self.levels, 0, -1):
            which = network_of_level(level) - 1
            bias = biases[level - 1]
            if level == self.levels:
                h = self.low_entry(space_to_depth(compand(residual)), bias)
            else:
                h = self.entries[which](state, compand(parents), bias)
            values = space_to_depth(u[self.levels + 1 - level])
            q, nats, state = self._level(which, level, h, values, channel)
            parents = depth_to_space(q)
            symbols.append(parents)
            rate = rate + nats
        return Coded(symbols, rate)

    def _level(self, which: int, level: int, h: Tensor, u: Tensor, channel: Channel) -> tuple[Tensor, Tensor, Tensor]:
        net: Any = self.nets[which]  # a _Level; the list forgets its type
        h = net.first(h)
        groups = groups_of_level(level)
        symbols, indices, skews = [], [], []
        for k, group in enumerate(groups):
            index, skew = net.heads[k](h)
            here = channel(u[:, list(group)], prior=Conditional(self.density, (index, skew))).rate
            symbols.append(here)
            indices.append(index)
            skews.append(skew)
            if k < len(net.updates):
                h = net.updates[k](h, compand(here))
        coded = torch.cat(symbols, 1)
        nats = -self.density.log_prob(coded, torch.cat(indices, 1), torch.cat(skews, 1)).sum((1, 2, 3))
        order = torch.tensor([c for group in groups for c in group]).argsort()
        q = coded[:, order]
        return q, nats, h
