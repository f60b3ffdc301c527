"""A convolutional codec with a mean-scale hyperprior; its decoder is exact on every machine."""

from __future__ import annotations

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import Mixed
from rdae.networks.convolutional import WIDTHS, ConvolutionalDecoder, ConvolutionalEncoder, typical_spread
from rdae.priors.hyperprior import Hyperprior
from rdae.recipes.rates import LAM, QUALITY_LAM
from rdae.training.codec_recipe import CodecRecipe

__all__ = ["hyperprior"]

BLOCK = 2 ** len(WIDTHS)


def hyperprior(*, steps: int = 20000, batch: int = 16, size: int = 128, learning_rate: float = 1e-3) -> CodecRecipe:
    """One model for all rates, squared error (after Minnen, Balle & Toderici 2018)."""
    return CodecRecipe(
        name="hyperprior",
        model=lambda: RateDistortionAutoencoder(
            ConvolutionalEncoder(WIDTHS),
            Hyperprior(typical_spread(BLOCK)),
            ConvolutionalDecoder(WIDTHS),
            Mixed(),
        ),
        lam=LAM,
        quality_lam=QUALITY_LAM,
        steps=steps,
        batch=batch,
        size=size,
        learning_rate=learning_rate,
        multiple=4 * BLOCK,
    )
