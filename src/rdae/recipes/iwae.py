"""The importance-weighted autoencoder: the same model, a tighter bound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rdae.data.arrays import ArrayData
from rdae.recipes.gaussian_vae import gaussian_vae
from rdae.training.generative_recipe import GenerativeRecipe

__all__ = ["iwae"]


def iwae(
    data: ArrayData,
    test: ArrayData | None = None,
    *,
    samples: int = 5,
    doubly_reparameterised: bool = True,
    network: str = "dense",
    binarisation: str = "dynamic",
    **options: Any,
) -> GenerativeRecipe:
    """Minus `ln (1/K) sum_k p(y, z_k) / q(z_k | y)` (Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519).

    Args:
        data, test: as for `gaussian_vae`.
        samples: K.
        doubly_reparameterised: the encoder's gradient without its noisy term (Tucker et al. 2019).
        network, binarisation: as for `gaussian_vae`; what the paper used by default.
        options: as for `gaussian_vae`.
    """
    plain = gaussian_vae(data, test, network=network, binarisation=binarisation, **{"name": "iwae", **options})
    return replace(plain, samples=samples, doubly_reparameterised=doubly_reparameterised)
