"""A convolutional codec trained on the size of its latents; files need no tables, only a universal integer code."""

from __future__ import annotations

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import Mixed
from rdae.networks.convolutional import WIDTHS, ConvolutionalDecoder, ConvolutionalEncoder
from rdae.priors.magnitude import MagnitudePrior
from rdae.recipes.rates import LAM, QUALITY_LAM
from rdae.training.codec_recipe import CodecRecipe

__all__ = ["magnitude"]

BLOCK = 2 ** len(WIDTHS)


def magnitude(*, steps: int = 20000, batch: int = 16, size: int = 128, learning_rate: float = 1e-3) -> CodecRecipe:
    """One model for all rates, squared error; the rate is the lectures' surrogate in its smooth form."""
    return CodecRecipe(
        name="magnitude",
        model=lambda: RateDistortionAutoencoder(
            ConvolutionalEncoder(WIDTHS),
            MagnitudePrior(smooth=True),
            ConvolutionalDecoder(WIDTHS),
            Mixed(),
        ),
        lam=LAM,
        quality_lam=QUALITY_LAM,
        steps=steps,
        batch=batch,
        size=size,
        learning_rate=learning_rate,
        multiple=BLOCK,
    )
