"""A variational autoencoder whose latents lie on a sphere."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.channels import NoisyChannel, SphereChannel
from rdae.data.arrays import ArrayData, Binarisation
from rdae.likelihoods import Likelihood
from rdae.networks.unit import UnitVectors
from rdae.priors.latent import LatentPrior
from rdae.priors.manifold import UniformSpherePrior
from rdae.recipes.noisy_channel import decoder_for, encoder_for, likelihood_for, schedule, warmup_steps
from rdae.training.generative_recipe import GenerativeRecipe
from rdae.training.weighing import Beta

__all__ = ["on_unit_vectors", "sphere_vae"]


def sphere_vae(
    data: ArrayData,
    test: ArrayData | None = None,
    *,
    latent: int = 10,
    network: str = "auto",
    hidden: Sequence[int] = (200, 200),
    widths: Sequence[int] = (32, 64, 128),
    binarisation: str = "none",
    beta: float = 1.0,
    warmup_epochs: float = 0.0,
    epochs: float = 20.0,
    batch: int = 100,
    learning_rate: float = 1e-3,
    name: str = "sphere_vae",
) -> GenerativeRecipe:
    """q(z | y) power spherical, p(z) uniform on the sphere (De Cao & Aziz 2020, arXiv:2006.04437).

    Args:
        data, test: what to learn from, and held-out examples.
        latent: dimension of the space around the sphere: 2 for a circle, 3 for the surface of a ball.
        network: auto (convolutional for images), dense or convolutional.
        hidden: widths of dense networks.
        widths: channels of convolutional ones, fine to coarse.
        binarisation: of grey values: none, threshold, static or dynamic.
        beta: weight of the rate.
        warmup_epochs: passes in which beta rises from zero.
        epochs, batch, learning_rate: of the schedule.
    """
    how = Binarisation(binarisation)

    def model() -> NoisyChannelAutoencoder:
        channel, prior = SphereChannel(latent), UniformSpherePrior(latent)
        return on_unit_vectors(data, channel, prior, likelihood_for(data, how), latent, network, hidden, widths)

    warmup = warmup_steps(data, batch, warmup_epochs)
    return GenerativeRecipe(
        name=name, model=model, data=data, test=test, binarisation=how, weigh=Beta(beta=beta, warmup=warmup),
        **schedule(data, epochs, batch, learning_rate),
    )  # fmt: skip


def on_unit_vectors(
    data: ArrayData,
    channel: NoisyChannel,
    prior: LatentPrior,
    distortion: Likelihood,
    coordinates: int,
    network: str,
    hidden: Sequence[int],
    widths: Sequence[int],
) -> NoisyChannelAutoencoder:
    """A model with one channel onto spheres, whose decoder reads unit vectors with so many coordinates in all."""
    return NoisyChannelAutoencoder(
        encoder_for(data, channel.features, network, hidden, widths),
        channel,
        prior,
        nn.Sequential(UnitVectors(), decoder_for(data, coordinates, distortion, network, hidden, widths)),
        distortion,
    )
