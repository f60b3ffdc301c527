"""Recipes of image codecs: random crops of photographs, one model for a range of lam."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.data.photographs import Crops, find_images, whole_images
from rdae.objectives import BITS_PER_NAT, rate_distortion
from rdae.training.recipe import Point, Recipe, Step

__all__ = ["CodecRecipe", "draw_lam", "step_loss", "validate"]

QUALITIES = (15, 30, 45, 60)


@dataclass(frozen=True, kw_only=True)
class CodecRecipe(Recipe):
    """A rounding autoencoder for photographs.

    Args:
        lam: smallest and largest weight of distortion, nats per squared unit of y in [0, 1]; drawn log-uniformly
            for each example.
        quality_lam: lam at quality 0 and at quality 100.
        size: crops are `size x size`.
        multiple: images must have sides that are multiples of this.
    """

    lam: tuple[float, float]
    quality_lam: tuple[float, float]
    size: int
    multiple: int

    def batches(self, data: Path, *, seed: int, rank: int, world: int) -> Crops:
        return Crops(
            find_images(data), size=self.size, batch=self.batch, steps=self.steps, seed=seed, rank=rank, world=world
        )

    def loss(self, model: nn.Module, batch: Tensor, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        lam = draw_lam(self, step.seed, step.number, step.share).to(batch.device)
        return step_loss(model, batch.float() / 255, lam)

    def held_out(self, folder: Path | None) -> list[Tensor] | None:
        return None if folder is None else whole_images(folder, multiple=self.multiple)

    def validate(self, model: RateDistortionAutoencoder, held_out: list[Tensor]) -> list[Point]:
        return validate(model, held_out, self)


def draw_lam(recipe: CodecRecipe, seed: int, step: int, share: slice) -> Tensor:
    """lam of each example of step `step`, log-uniform; the same for a step whenever and wherever it is drawn."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
    low, high = (math.log(value) for value in recipe.lam)
    return torch.exp(low + (high - low) * torch.rand(recipe.batch, generator=generator))[share]


def step_loss(model: nn.Module, y: Tensor, lam: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean over examples of (rate + lam * distortion) per pixel, each weighted by 1 / sqrt(bits per pixel).

    The weight evens out how much low and high rates pull at shared weights: a model for all rates otherwise learns
    for the high ones, whose terms are a hundred times larger.
    """
    terms = model(y, lam).terms
    pixels = y.shape[-1] * y.shape[-2]
    bpp = terms.rate.detach() * (BITS_PER_NAT / pixels)
    loss = (rate_distortion(terms, lam) / pixels / (bpp + 0.05).sqrt()).mean()
    mse = terms.distortion.detach() / (pixels * y.shape[1])
    return loss, {"bpp": bpp.mean(), "psnr_db": (-10 * torch.log10(mse.clamp_min(1e-10))).mean(), "loss": loss.detach()}


@torch.no_grad()
def validate(
    model: RateDistortionAutoencoder,
    images: list[Tensor],
    recipe: CodecRecipe,
    qualities: tuple[int, ...] = QUALITIES,
) -> list[Point]:
    """Mean bits per pixel and PSNR over images at a few qualities, with true rounding.

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
