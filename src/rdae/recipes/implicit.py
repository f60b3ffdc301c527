"""What the recipes of implicit models share: a generator and a critic that suit a data set, and a schedule."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from rdae.adversarial import AdversarialPair, Game, ImplicitModel, Penalty, packed_event
from rdae.data.arrays import ArrayData, Kind, steps_for_epochs
from rdae.errors import DataError
from rdae.networks.affine import LatentAffine
from rdae.networks.critics import SLOPE, ConvolutionalCritic, DenseCritic
from rdae.networks.dense import DenseDecoder
from rdae.networks.images import ImageDecoder
from rdae.networks.mixed import MixedDecoder
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
    packing: int = 1,
) -> AdversarialPair:
    """A generator of examples like these, from latents N(0, I), and its critic.

    8-bit and binary data are made by a sigmoid, real ones in the scale of each element.

    Raises:
        DataError: a number of which there must be one or more is smaller.
    """
    for name, value in (("latent", latent), ("packing", packing)):
        if value < 1:
            raise DataError(f"{name} is {value}. Choose 1 or more.")
    event, seen = data.event, packed_event(data.event, packing)
    bounded = data.kind in (Kind.BYTES, Kind.BINARY)
    scale = scale_of(data)
    shown = scale.mean, spread_of(data, scale)
    seen_scale = [None if x is None else x.repeat(packing, *(1,) * (len(event) - 1)) for x in shown]
    critic: nn.Module
    generator: nn.Module
    kind = kind_of_network(data, network)
    if kind == "convolutional":
        generator = ImageDecoder(event, latent, 1, tuple(reversed(widths)))
    elif kind == "mixed":
        generator = MixedDecoder(event, latent, hidden, width=widths[0])
    else:
        generator = DenseDecoder(event, latent, hidden, activation=partial(nn.LeakyReLU, SLOPE))
    if kind_of_network(data, network if critic_network == "auto" else critic_network) == "convolutional":
        critic = ConvolutionalCritic(seen, widths, *(() if bounded else seen_scale))
    else:
        critic = DenseCritic(seen, hidden, *seen_scale)
    last = nn.Sigmoid() if bounded else LatentAffine(scale.mean, scale.std)
    model = ImplicitModel(StandardNormalPrior(latent), nn.Sequential(generator, last))
    return AdversarialPair(model, critic, game, penalties, packing)


def turns(data: ArrayData, epochs: float, batch: int, average: float) -> dict[str, Any]:
    """A schedule in passes over the data, the turns of both players counted."""
    return {
        "steps": steps_for_epochs(len(data), batch, epochs),
        "batch": batch,
        "weight_decay": 0.0,
        "average": average,
        "clip": None,
    }
