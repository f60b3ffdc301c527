"""A variational autoencoder whose latents lie on a torus: angles, each on a circle of its own."""

from __future__ import annotations

from functools import partial
from typing import Any

from rdae.channels import TorusChannel
from rdae.data.arrays import ArrayData
from rdae.priors.manifold import UniformTorusPrior
from rdae.recipes.sphere_vae import unit_vector_vae
from rdae.training.generative_recipe import GenerativeRecipe

__all__ = ["torus_vae"]


def torus_vae(data: ArrayData, test: ArrayData | None = None, *, latent: int = 5, **options: Any) -> GenerativeRecipe:
    """q(z | y) power spherical on each of several circles, p(z) uniform on them.

    Args:
        data, test: what to learn from, and held-out examples.
        latent: number of circles.
        options: as for `unit_vector_vae`.
    """
    laws = partial(TorusChannel, latent), partial(UniformTorusPrior, latent)
    return unit_vector_vae(data, test, *laws, 2 * latent, **{"name": "torus_vae", **options})
