"""A variational autoencoder whose latents lie on a sphere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.channels import NoisyChannel, SphereChannel
from rdae.data.arrays import ArrayData, Binarisation
from rdae.networks.unit import UnitVectors
from rdae.priors.latent import LatentPrior
from rdae.priors.manifold import UniformSpherePrior
from rdae.recipes.noisy_channel import decoder_for, encoder_for, likelihood_for, schedule, warmup_steps
from rdae.training.generative_recipe import GenerativeRecipe
from rdae.training.weighing import Beta

__all__ = ["sphere_vae", "unit_vector_vae"]


def sphere_vae(data: ArrayData, test: ArrayData | None = None, *, latent: int = 10, **options: Any) -> GenerativeRecipe:
    """q(z | y) power spherical, p(z) uniform on the sphere (De Cao & Aziz 2020, arXiv:2006.04437).

    Args:
        data, test: what to learn from, and held-out examples.
        latent: dimension of the space around the sphere: 2 for a circle, 3 for the surface of a ball.
        options: as for `unit_vector_vae`.
    """
    laws = partial(SphereChannel, latent), partial(UniformSpherePrior, latent)
    return unit_vector_vae(data, test, *laws, latent, **{"name": "sphere_vae", **options})


def unit_vector_vae(
    data: ArrayData,
    test: ArrayData | None,
    channel: Callable[[], NoisyChannel],
    prior: Callable[[], LatentPrior],
    coordinates: int,
    *,
    network: str = "auto",
    hidden: Sequence[int] = (200, 200),
    widths: Sequence[int] = (32, 64, 128),
    binarisation: str = "none",
    beta: float = 1.0,
    warmup_epochs: float = 0.0,
    epochs: float = 20.0,
    batch: int = 100,
    learning_rate: float = 1e-3,
    name: str = "unit_vector_vae",
) -> GenerativeRecipe:
    """What `sphere_vae` and `torus_vae` share: a channel onto spheres, and a decoder that reads unit vectors.

    Args:
        data, test: what to learn from, and held-out examples.
        channel, prior: make them.
        coordinates: of all unit vectors together.
        network, hidden, widths, binarisation, beta, warmup_epochs, epochs, batch, learning_rate: as for `gaussian_vae`.
    """
    how = Binarisation(binarisation)

    def model() -> NoisyChannelAutoencoder:
        noise, code, distortion = channel(), prior(), likelihood_for(data, how)
        return NoisyChannelAutoencoder(
            encoder_for(data, noise.features, network, hidden, widths),
            noise,
            code,
            nn.Sequential(UnitVectors(), decoder_for(data, coordinates, distortion, network, hidden, widths)),
            distortion,
        )

    warmup = warmup_steps(data, batch, warmup_epochs)
    return GenerativeRecipe(
        name=name, model=model, data=data, test=test, binarisation=how, weigh=Beta(beta=beta, warmup=warmup),
        **schedule(data, epochs, batch, learning_rate),
    )  # fmt: skip
