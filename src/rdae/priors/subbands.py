"""A coarse-to-fine prior for wavelet sub-bands in networks of bytes.

Levels are coded from coarse to fine. At each level the grid is folded 2 x 2 (so a position holds 9 bands x 4 phases)
and coded in passes, which `coding.pyramid_order` lays out. A network of bytes (`networks.bytes`) reads the coarser
level, the parents and every earlier pass, and names for each symbol one member of a `SymbolDensity`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rdae.channels import Channel, Coded, Conditional, Mixed, UniformNoise
from rdae.coding.network_bytes import LEVEL_BYTES, level_bytes
from rdae.coding.pyramid_order import groups_of_level, network_of_level, places_of_level
from rdae.errors import ModelError
from rdae.networks.bytes import ByteBlock, ByteConv, split_signs, to_byte
from rdae.networks.exact import compand
from rdae.networks.shuffle import depth_to_space, space_to_depth
from rdae.networks.subbands import KNOTS, planes, quality_bytes, raised
from rdae.priors.density import SymbolDensity
from rdae.priors.low_band import LowBandPrior

__all__ = ["SubbandPrior"]

TOLD = KNOTS + LEVEL_BYTES  # bytes that a network is told of quality and level
SKEW_MAX = 12  # means of up to three scales: beside an edge, parents and neighbours tell the sign and much of the size


class _Head(nn.Module):
    """Scale index and skew of each symbol of a group: whole, as in a file, but for training."""

    index_unit, skew_unit = 1 / 8, 1 / 16  # keep the last weights of ordinary size

    def __init__(self, channels: int, symbols: int) -> None:
        super().__init__()
        self.hidden = ByteConv(channels, channels)
        self.index = ByteConv(channels, symbols, gain=0.1)
        self.skew = ByteConv(channels, symbols, gain=0.1)
        nn.init.constant_(self.index.bias, 12.0 / self.index_unit / self.index.bias_unit)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        h = to_byte(self.hidden(h))
        index, skew = self.index(h) * self.index_unit, self.skew(h) * self.skew_unit
        return (index, skew) if self.training else (index.round(), skew.round())


class _Entry(nn.Module):
    """State of a level before its first group, from the coarser level's state and the companded parents."""

    def __init__(self, coarser: int, channels: int) -> None:
        super().__init__()
        self.up = ByteConv(coarser, 4 * raised(channels))
        self.mix = ByteConv(raised(channels) + 18 + TOLD, channels, 3, planes=TOLD)

    def forward(self, state: Tensor, parents: Tensor, told: Tensor) -> Tensor:
        up = depth_to_space(to_byte(self.up(state)))
        return to_byte(self.mix(torch.cat([up, split_signs(parents), planes(told, up)], 1)))


class _Level(nn.Module):
    """The passes of one level: `heads[k]` before group k, `updates[k]` after it."""

    def __init__(self, channels: int, sizes: list[int], *, last: bool) -> None:
        super().__init__()
        self.first = ByteBlock(channels)
        self.heads = nn.ModuleList(_Head(channels, n) for n in sizes)
        self.updates = nn.ModuleList(ByteBlock(channels, 2 * n) for n in (sizes[:-1] if last else sizes))


class SubbandPrior(nn.Module):
    """Prior over wavelet sub-bands in units of the step.

    Args:
        levels: wavelet levels.
        channels: width of the networks of level 1, level 2 and (shared) all coarser ones.
        scales: number of scale indices.
    """

    def __init__(self, levels: int = 5, channels: tuple[int, int, int] = (32, 64, 96), scales: int = 48) -> None:
        super().__init__()
        self.levels, self.channels = levels, channels
        self.low = LowBandPrior()
        self.density = SymbolDensity(scales, skew_max=SKEW_MAX)
        fine, middle, coarse = channels
        self.low_entry = ByteConv(24 + TOLD, coarse, 3, planes=TOLD)
        self.entries = nn.ModuleList([_Entry(middle, fine), _Entry(coarse, middle), _Entry(coarse, coarse)])
        sizes = [len(g) for g in groups_of_level(2)]
        self.nets = nn.ModuleList([
            _Level(fine, [len(g) for g in groups_of_level(1)], last=True),
            _Level(middle, sizes, last=False),
            _Level(coarse, sizes, last=False),
        ])  # fmt: skip

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
                f"The networks of a SubbandPrior read whole numbers, but {type(channel).__name__} trains on noise. "
                "Use RateDistortionRounding, Rounding or StraightThrough."
            )
        with torch.autocast(u[0].device.type, enabled=False):  # integers do not survive 16-bit floats
            return self._code([band.float() for band in u], channel, quality_bytes(lam.float()))

    def _code(self, u: list[Tensor], channel: Channel, quality: Tensor) -> Coded:
        low = torch.floor(u[0] + 0.5)
        rate, residual = self.low(low)
        symbols = [low]
        state: Tensor | None = None
        parents = low
        for level in range(self.levels, 0, -1):
            which = network_of_level(level) - 1
            told = torch.cat([quality, quality.new_tensor(level_bytes(level)).expand(len(quality), -1)], 1)
            if state is None:
                seen = split_signs(space_to_depth(compand(residual)))
                h = to_byte(self.low_entry(torch.cat([seen, planes(told, seen)], 1)))
            else:
                h = self.entries[which](state, compand(parents.detach()), told)
            q, nats, state = self._level(which, level, h, space_to_depth(u[self.levels + 1 - level]), channel)
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
            here = channel(u[:, list(group)], prior=Conditional(self.density, (index, skew))).decoder
            symbols.append(here)
            indices.append(index)
            skews.append(skew)
            if k < len(net.updates):
                h = net.updates[k](h, split_signs(compand(here.detach())))
        coded = torch.cat(symbols, 1)
        nats = -self.density.log_prob(coded, torch.cat(indices, 1), torch.cat(skews, 1)).sum((1, 2, 3))
        return coded[:, list(places_of_level(level))], nats, h
