"""Validation: whole images, true rounding, averaged weights."""

from __future__ import annotations

import torch
from torch import Tensor

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.objectives import BITS_PER_NAT
from rdae.training.recipe import Recipe

__all__ = ["Point", "validate"]

QUALITIES = (15, 30, 45, 60)

Point = dict[str, float]


@torch.no_grad()
def validate(
    model: RateDistortionAutoencoder, images: list[Tensor], recipe: Recipe, qualities: tuple[int, ...] = QUALITIES
) -> list[Point]:
    """Mean bits per pixel and PSNR over images at a few qualities.

    Args:
        model: in `eval()` mode.
        images: `(1, 3, H, W)` uint8.
        recipe: maps quality to lam.
        qualities: 0 to 100.
    """
    device = next(model.parameters()).device
    low, high = recipe.quality_lam
    points = []
    for quality in qualities:
        lam = low * (high / low) ** (quality / 100)
        bpp = psnr = 0.0
        for pixels in images:
            y = pixels.to(device).float() / 255
            out = model(y, torch.tensor([lam], device=device))
            count = y.shape[-1] * y.shape[-2]
            bpp += float(out.terms.rate) * BITS_PER_NAT / count / len(images)
            shown = (out.y_hat.clamp(0, 1) * 255).round() / 255
            psnr += float(-10 * torch.log10((shown - y).square().mean())) / len(images)
        points.append({"quality": float(quality), "bpp": bpp, "psnr_db": psnr})
    return points
