"""A variational autoencoder whose prior is a mixture of its own posteriors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.data.arrays import ArrayData, as_floats
from rdae.priors.latent import VampPrior
from rdae.recipes.gaussian_vae import gaussian_vae
from rdae.training.generative_recipe import GenerativeRecipe

__all__ = ["vamp_vae"]


def vamp_vae(
    data: ArrayData, test: ArrayData | None = None, *, components: int = 100, **options: Any
) -> GenerativeRecipe:
    """`gaussian_vae` with a VampPrior (Tomczak & Welling 2018, arXiv:1705.07120).

    Args:
        data, test: as for `gaussian_vae`.
        components: pseudo-inputs; they begin as examples of the data.
        options: as for `gaussian_vae`.
    """
    plain = gaussian_vae(data, test, **{"name": "vamp_vae", **options})

    def model() -> NoisyChannelAutoencoder:
        made = plain.model()
        chosen = torch.arange(components) * len(data) // components
        examples = as_floats(data.values[chosen], data.kind)
        bounded = data.values.dtype == torch.uint8
        made.prior = VampPrior(examples, *((0.0, 1.0) if bounded else (None, None)))
        return made

    return replace(plain, model=model)
