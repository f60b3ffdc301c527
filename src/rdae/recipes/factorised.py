"""A convolutional codec with a factorised prior.

Its rate is trained under uniform noise, its decoder on rounded latents: with noise in both places the decoder learns
to remove noise that files do not have, and is 0.3 to 0.8 dB worse at low rates after 250 steps.
"""

from __future__ import annotations

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import Mixed
from rdae.networks.convolutional import WIDTHS, ConvolutionalDecoder, ConvolutionalEncoder, typical_spread
from rdae.priors.factorised import FactorisedPrior
from rdae.recipes.rates import LAM, QUALITY_LAM
from rdae.training.codec_recipe import CodecRecipe

__all__ = ["factorised"]

BLOCK = 2 ** len(WIDTHS)


def factorised(*, steps: int = 20000, batch: int = 16, size: int = 128, learning_rate: float = 1e-3) -> CodecRecipe:
    """One model for all rates, squared error (after Balle, Laparra & Simoncelli 2017)."""
    return CodecRecipe(
        name="factorised",
        model=lambda: RateDistortionAutoencoder(
            ConvolutionalEncoder(WIDTHS),
            FactorisedPrior(typical_spread(BLOCK)),
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
