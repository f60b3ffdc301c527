"""A variational autoencoder whose latents lie on a torus: angles, each on a circle of its own."""

from __future__ import annotations

from collections.abc import Sequence

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.channels import TorusChannel
from rdae.data.arrays import ArrayData, Binarisation
from rdae.priors.manifold import UniformTorusPrior
from rdae.recipes.noisy_channel import likelihood_for, schedule, warmup_steps
from rdae.recipes.sphere_vae import on_unit_vectors
from rdae.training.generative_recipe import GenerativeRecipe
from rdae.training.weighing import Beta

__all__ = ["torus_vae"]


def torus_vae(
    data: ArrayData,
    test: ArrayData | None = None,
    *,
    latent: int = 5,
    network: str = "auto",
    hidden: Sequence[int] = (200, 200),
    widths: Sequence[int] = (32, 64, 128),
    binarisation: str = "none",
    beta: float = 1.0,
    warmup_epochs: float = 0.0,
    epochs: float = 20.0,
    batch: int = 100,
    learning_rate: float = 1e-3,
    name: str = "torus_vae",
) -> GenerativeRecipe:
    """q(z | y) power spherical on each of several circles, p(z) uniform on them.

    Args:
        data, test: what to learn from, and held-out examples.
        latent: number of circles.
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
        channel, prior = TorusChannel(latent), UniformTorusPrior(latent)
        return on_unit_vectors(data, channel, prior, likelihood_for(data, how), 2 * latent, network, hidden, widths)

    warmup = warmup_steps(data, batch, warmup_epochs)
    return GenerativeRecipe(
        name=name, model=model, data=data, test=test, binarisation=how, weigh=Beta(beta=beta, warmup=warmup),
        **schedule(data, epochs, batch, learning_rate),
    )  # fmt: skip
