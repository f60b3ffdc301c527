"""What the noisy-channel recipes share: networks, likelihood and scaling that suit a data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.channels import GaussianChannel
from rdae.data.arrays import ArrayData, Binarisation, Kind, steps_for_epochs
from rdae.distortions import Distortion
from rdae.errors import DataError
from rdae.likelihoods import Bernoulli, Gaussian, Likelihood, Rescaled
from rdae.networks.dense import DenseDecoder, DenseEncoder
from rdae.networks.halved import Halved, HalvedDecoder, halved
from rdae.networks.images import ImageDecoder, ImageEncoder
from rdae.priors.latent import LatentPrior

__all__ = [
    "Scale", "decoder_for", "encoder_for", "kind_of_network", "likelihood_for", "not_negative", "one_layer", "scale_of",
    "schedule", "spread_of", "warmup_steps",
]  # fmt: skip

ODDS_MIN = 1e-3  # pixels that are never on start at these odds
SPREAD = 0.1  # of a Gaussian decoder of images, where it starts


class Scale(NamedTuple):
    """Mean and standard deviation of each element of the data, `event`."""

    mean: Tensor
    std: Tensor


def scale_of(data: ArrayData) -> Scale:
    """Mean and standard deviation over the examples; elements that never change get a standard deviation of one."""
    mean, std = data.moments
    return Scale(mean.clone(), torch.where(std > 0, std, torch.ones_like(std)))


def is_binary(data: ArrayData, binarisation: Binarisation) -> bool:
    """Whether the model sees zeros and ones."""
    return data.kind is Kind.BINARY or binarisation is not Binarisation.NONE


def likelihood_for(data: ArrayData, binarisation: Binarisation) -> Likelihood:
    """Bernoulli for binary data; else a Gaussian whose spread is learned, one a column for tables."""
    if is_binary(data, binarisation):
        return Bernoulli()
    if data.kind is Kind.BYTES:
        return Gaussian(SPREAD, learned="one")
    scale = scale_of(data)
    return Rescaled(Gaussian(1.0, learned="element" if data.kind is Kind.TABULAR else "one"), scale.mean, scale.std)


def encoder_for(
    data: ArrayData, features: int, network: str, hidden: Sequence[int], widths: Sequence[int]
) -> nn.Module:
    """An encoder of examples, as `kind_of_network` says.

    Raises:
        DataError: a network for images, and data that are none.
    """
    kind = kind_of_network(data, network)
    if kind == "convolutional":
        return ImageEncoder(data.event, features, widths)
    spread = spread_of(data, scale := scale_of(data))
    if kind == "halved":
        mean = halved(scale.mean)
        spread = None if spread is None else halved(spread)
        return nn.Sequential(Halved(), DenseEncoder(mean.shape, features, hidden, mean=mean, scale=spread))
    return DenseEncoder(data.event, features, hidden, mean=scale.mean, scale=spread)


def decoder_for(
    data: ArrayData, size: int, distortion: Distortion, network: str, hidden: Sequence[int], widths: Sequence[int]
) -> nn.Module:
    """A decoder to match; its output starts at the mean of the data."""
    features = distortion.features if isinstance(distortion, Likelihood) else 1
    mean = scale_of(data).mean
    if isinstance(distortion, Bernoulli):
        mean = torch.logit(mean, eps=ODDS_MIN)
    own_start = isinstance(distortion, Likelihood) and (distortion.discrete or isinstance(distortion, Rescaled))
    bias = None if own_start else mean
    kind = kind_of_network(data, network)
    if kind == "convolutional":
        return ImageDecoder(data.event, size, features, tuple(reversed(widths)), bias)
    if kind == "halved":
        return HalvedDecoder(data.event, size, hidden, features, bias=bias)
    return DenseDecoder(data.event, size, hidden, features, bias=bias)


def spread_of(data: ArrayData, scale: Scale) -> Tensor | None:
    """Bytes and bits have a scale of their own; real numbers are brought to one."""
    return scale.std if data.kind in (Kind.REAL, Kind.TABULAR) else None


def kind_of_network(data: ArrayData, network: str) -> str:
    """dense, convolutional or halved; where `network` is auto, convolutional for images and dense for the rest.

    Raises:
        DataError: there is no such network, or it is for images and the data are none.
    """
    images = len(data.event) == 3
    if network not in ("auto", "dense", "convolutional", "halved"):
        raise DataError(f"There is no network {network!r}. Choose auto, dense, convolutional or halved.")
    if network in ("convolutional", "halved") and not images:
        raise DataError(f"{data.name} holds examples of shape {data.event}, no images. Use network=dense.")
    if network == "auto":
        return "convolutional" if images else "dense"
    return network


def one_layer(
    data: ArrayData,
    prior: LatentPrior,
    distortion: Distortion,
    latent: int,
    network: str,
    hidden: Sequence[int],
    widths: Sequence[int],
) -> NoisyChannelAutoencoder:
    """A model with one Gaussian channel of `latent` variables between networks that suit the data."""
    channel = GaussianChannel(latent)
    return NoisyChannelAutoencoder(
        encoder_for(data, channel.features, network, hidden, widths),
        channel,
        prior,
        decoder_for(data, latent, distortion, network, hidden, widths),
        distortion,
    )


def not_negative(name: str, weight: float) -> None:
    """Refuses a weight that would reward what it should charge for."""
    if not 0 <= weight < math.inf:
        raise DataError(f"{name} is {weight}. Choose a number from 0.")


def warmup_steps(data: ArrayData, batch: int, epochs: float) -> int:
    """Steps of so many passes over the data; none for none."""
    return steps_for_epochs(len(data), batch, epochs) if epochs else 0


def schedule(data: ArrayData, epochs: float, batch: int, learning_rate: float) -> dict[str, Any]:
    """The numbers of a schedule counted in passes over the data."""
    return {
        "steps": steps_for_epochs(len(data), batch, epochs),
        "batch": batch,
        "learning_rate": learning_rate,
        "weight_decay": 0.0,
        "betas": (0.9, 0.999),
        "average": 0.999,
        "clip": None,
    }
