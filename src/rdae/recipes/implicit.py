"""What the recipes of implicit models share: a generator and a critic that suit a data set, and a schedule."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from rdae.adversarial import AdversarialPair, Game, ImplicitModel, Penalty, packed_event
from rdae.data.arrays import ArrayData, Kind, steps_for_epochs
from rdae.errors import DataError
from rdae.networks.affine import LatentAffine
from rdae.networks.critics import SLOPE, ConvolutionalCritic, DenseCritic
from rdae.networks.dense import DenseDecoder
from rdae.networks.halved import Halved, HalvedDecoder, halved
from rdae.networks.images import ImageDecoder
from rdae.priors.latent import StandardNormalPrior
from rdae.recipes.noisy_channel import kind_of_network, scale_of, spread_of

__all__ = ["pair_for", "turns"]


def pair_for(
    data: ArrayData,
    game: Game,
    penalties: Sequence[Penalty],
    *,
    latent: int,
    network: str,
    critic_network: str,
    hidden: Sequence[int],
    widths: Sequence[int],
    critic_hidden: Sequence[int] = (),
    packing: int = 1,
) -> AdversarialPair:
    """A generator of examples like these, from latents N(0, I), and its critic.

    Raises:
        DataError: a number of which there must be one or more is smaller.
    """
    for name, value in (("latent", latent), ("packing", packing)):
        if value < 1:
            raise DataError(f"{name} is {value}. Choose 1 or more.")
    generator = _generator(kind_of_network(data, network), data, latent, hidden, widths)
    seen = critic_network if critic_network != "auto" else network
    critic = _critic(kind_of_network(data, seen), data, packing, critic_hidden or hidden, widths)
    return AdversarialPair(ImplicitModel(StandardNormalPrior(latent), generator), critic, game, penalties, packing)


def _generator(kind: str, data: ArrayData, latent: int, hidden: Sequence[int], widths: Sequence[int]) -> nn.Module:
    """8-bit and binary data are made by a sigmoid, real ones in the scale of each element."""
    mean, std = scale_of(data)
    if kind == "halved":
        mean, std = halved(mean), halved(std)
    last = nn.Sigmoid() if data.kind in (Kind.BYTES, Kind.BINARY) else LatentAffine(mean, std)
    if kind == "halved":
        return HalvedDecoder(data.event, latent, hidden, last=last)
    if kind == "dense":
        return nn.Sequential(DenseDecoder(data.event, latent, hidden, activation=partial(nn.LeakyReLU, SLOPE)), last)
    return nn.Sequential(ImageDecoder(data.event, latent, 1, tuple(reversed(widths))), last)


def _critic(kind: str, data: ArrayData, packing: int, hidden: Sequence[int], widths: Sequence[int]) -> nn.Module:
    """A critic of packs; bytes and bits have a scale of their own, real numbers are brought to one."""
    scale, seen = scale_of(data), packed_event(data.event, packing)

    def packed(x: Tensor) -> Tensor:
        return x.repeat(packing, *(1,) * (x.ndim - 1))

    mean, spread = packed(scale.mean), spread_of(data, scale)
    if kind == "halved":  # one scale for all pixels
        mean, spread = halved(mean), scale.std.square().mean().sqrt()
        return nn.Sequential(Halved(), DenseCritic(mean.shape, hidden, mean, spread.expand(mean.shape)))
    if kind == "dense":
        return DenseCritic(seen, hidden, mean, None if spread is None else packed(spread))
    if spread is None:
        return ConvolutionalCritic(seen, widths)
    return ConvolutionalCritic(seen, widths, mean, packed(spread))


def turns(data: ArrayData, epochs: float, batch: int, average: float) -> dict[str, Any]:
    """A schedule in passes over the data, the turns of both players counted."""
    return {
        "steps": steps_for_epochs(len(data), batch, epochs),
        "batch": batch,
        "weight_decay": 0.0,
        "average": average,
        "clip": None,
    }
