"""The shipped photograph codecs: wavelet pyramid, coarse-to-fine context and sub-band corrections in bytes."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import RateDistortionRounding
from rdae.distortions import ms_ssim_distortion
from rdae.networks.pyramid import PyramidEncoder
from rdae.networks.subbands import SubbandDecoder
from rdae.priors.subbands import SubbandPrior
from rdae.recipes.rates import LAM, QUALITY_LAM
from rdae.training.codec_recipe import CodecRecipe

__all__ = ["photo", "photo_ssim"]

LEVELS = 5
# what tables are made from: large in a codec file, and hardly another for other pictures
KEPT = ("prior.density.", "prior.low.density.")
# MS-SSIM sees the finest details at the first of its five scales only, the next at two of them
SSIM_STEPS = (1.0, 1.0, 1.0, 1.1, 1.3, 2.0)
SQUARED_ERROR = 1 / 30  # of a unit of `ms_ssim_distortion`, roughly, at middle rates


def photo(*, steps: int = 8000, batch: int = 16, size: int = 128, learning_rate: float = 1e-3) -> CodecRecipe:
    """One model for all rates, squared error; rounding steps from 160 grey levels (quality 0) to 3 (quality 100)."""
    return CodecRecipe(
        name="photo",
        aim="for PSNR",
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


def photo_ssim(*, steps: int = 2000, batch: int = 3, size: int = 384, learning_rate: float = 5e-4) -> CodecRecipe:
    """`photo` for MS-SSIM: larger steps for finer details, errors allowed where the picture is busy.

    Steps and rate are those of a run that begins with the weights of `photo`, which fit; from nothing it takes as long
    as `photo`. MS-SSIM needs crops of 161 or more pixels.
    """
    return replace(
        photo(steps=steps, batch=batch, size=size, learning_rate=learning_rate),
        name="photo-ssim",
        aim="for MS-SSIM",
        least=192,
        model=lambda: RateDistortionAutoencoder(
            PyramidEncoder(LEVELS, SSIM_STEPS, masked=True),
            SubbandPrior(LEVELS),
            SubbandDecoder(steps=SSIM_STEPS),
            RateDistortionRounding(6.0),
            _structural_error,
        ),
    )


def _structural_error(y: Tensor, y_hat: Tensor) -> Tensor:
    """`elements * (1 - MS-SSIM)` on the scale of a squared error, so that lam means the same as for `photo`."""
    return SQUARED_ERROR * ms_ssim_distortion(y, y_hat)
