"""The shipped photograph codec: wavelet pyramid, coarse-to-fine context and sub-band corrections in bytes."""

from __future__ import annotations

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import RateDistortionRounding
from rdae.networks.pyramid import PyramidEncoder
from rdae.networks.subbands import SubbandDecoder
from rdae.priors.subbands import SubbandPrior
from rdae.recipes.rates import LAM, QUALITY_LAM
from rdae.training.codec_recipe import CodecRecipe

__all__ = ["photo"]

LEVELS = 5
# what tables are made from: large in a codec file, and hardly another for other pictures
KEPT = ("prior.density.", "prior.low.density.")


def photo(*, steps: int = 8000, batch: int = 16, size: int = 128, learning_rate: float = 1e-3) -> CodecRecipe:
    """One model for all rates, squared error; rounding steps from 160 grey levels (quality 0) to 3 (quality 100)."""
    return CodecRecipe(
        name="photo",
        model=lambda: RateDistortionAutoencoder(
            PyramidEncoder(LEVELS), SubbandPrior(LEVELS), SubbandDecoder(), RateDistortionRounding(6.0)
        ),
        lam=LAM,
        quality_lam=QUALITY_LAM,
        steps=steps,
        batch=batch,
        size=size,
        learning_rate=learning_rate,
        multiple=2 ** (LEVELS + 1),
        kept=KEPT,
    )
