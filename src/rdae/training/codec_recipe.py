"""Recipes of image codecs: random crops of photographs, one model for a range of lam."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.coding.container import QUALITY_LEVELS
from rdae.data.photographs import Crops, find_images, whole_images
from rdae.distortions import psnr
from rdae.networks.gains import require_range
from rdae.objectives import BITS_PER_NAT, rate_distortion
from rdae.training.recipe import Point, Recipe, Step

__all__ = ["CodecRecipe", "draw_lam", "evened", "step_loss", "validate"]

QUALITIES = (15, 30, 45, 60)
PSNR_MAX = 100.0
ADAPTED_STEPS, ADAPTED_RATE = 1000, 5e-4
ADAPTED_BATCH, ADAPTED_SIZE = 2, 384  # what coarse levels see of smaller crops is mostly border


@dataclass(frozen=True, kw_only=True)
class CodecRecipe(Recipe):
    """A rounding autoencoder for photographs.

    Args:
        lam: smallest and largest weight of distortion, nats per squared unit of y in [0, 1]; drawn log-uniformly
            for each example.
        quality_lam: lam at quality 0 and at quality 100.
        size: crops are `size x size`.
        least: smallest side of a crop that the distortion can measure.
        multiple: images must have sides that are multiples of this.
        aim: what it is trained for, for the card.
        parent: identity of the shipped codec, in hexadecimal digits, that an adaptation began from.
        kept: how the names of weights begin that an adaptation leaves alone, so that a small delta can carry it.
    """

    lam: tuple[float, float]
    quality_lam: tuple[float, float]
    size: int
    least: int = 1
    multiple: int
    aim: str = ""
    parent: str | None = None
    kept: tuple[str, ...] = ()

    def adapting(self, parent: str | None) -> CodecRecipe:
        """The recipe for going on from trained weights on a collection of one's own: shorter, slower, few large crops.

        Args:
            parent: identity of the shipped codec whose weights they are; None for another model.
        """
        return replace(
            self, parent=parent, steps=ADAPTED_STEPS, batch=ADAPTED_BATCH, size=ADAPTED_SIZE,
            learning_rate=ADAPTED_RATE, warmup=20, weight_decay=0.0, average=0.99,
        )  # fmt: skip

    def lam_at(self, share: float | Tensor) -> Any:
        """lam at a share of the way from quality 0 to quality 100, a number or a tensor; ln lam is linear in it."""
        low, high = self.quality_lam
        return low * (high / low) ** share

    def lam_of_levels(self) -> Tensor:
        """lam of each quality level of a file, `(QUALITY_LEVELS,)` float64."""
        return self.lam_at(torch.arange(QUALITY_LEVELS, dtype=torch.float64) / (QUALITY_LEVELS - 1))

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW over all parameters, once it is known that the model's gains are learned for every lam to be drawn.

        With a `parent` those that are `kept` no longer learn.

        Raises:
            ModelError: the model's gains cover less than `lam` and `quality_lam`.
        """
        require_range(model, (min(self.lam[0], self.quality_lam[0]), max(self.lam[1], self.quality_lam[1])))
        if self.parent is not None:
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(not name.startswith(self.kept))
        return super().optimizer(model)

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


def evened(terms: Tensor, pixels: int, bpp: Tensor) -> Tensor:
    """Terms of a loss per pixel, one for each example, weighted by 1 / sqrt(bits per pixel), about.

    The weight evens out how much low and high rates pull at shared weights: a model for all rates otherwise learns
    for the high ones, whose terms are a hundred times larger.
    """
    return terms / pixels / (bpp + 0.05).sqrt()


def step_loss(model: nn.Module, y: Tensor, lam: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean over examples of (rate + lam * distortion), see `evened`."""
    y_hat, terms, _ = model(y, lam)
    pixels = y.shape[-1] * y.shape[-2]
    bpp = terms.rate.detach() * (BITS_PER_NAT / pixels)
    loss = evened(rate_distortion(terms, lam), pixels, bpp).mean()
    return loss, {"bpp": bpp.mean(), "psnr_db": _decibels(y, y_hat.detach().float()).mean(), "loss": loss.detach()}


def _decibels(y: Tensor, y_hat: Tensor) -> Tensor:
    """PSNR of each example, of values in [0, 1]: at most 100 dB, so that one equal picture leaves a mean its sense."""
    return psnr(y, y_hat).clamp_max(PSNR_MAX)


@torch.no_grad()
def validate(
    model: RateDistortionAutoencoder,
    images: list[Tensor],
    recipe: CodecRecipe,
    qualities: tuple[int, ...] = QUALITIES,
) -> list[Point]:
    """Mean bits per pixel and PSNR over images at a few qualities, with true rounding.

    The PSNR is that of what a file shows, 8-bit levels; an image that comes back exactly counts as 100 dB.

    Args:
        model: in `eval()` mode.
        images: `(1, 3, H, W)` uint8.
        recipe: maps quality to lam.
        qualities: 0 to 100.
    """
    device = next(model.parameters()).device
    points = []
    for quality in qualities:
        lam = recipe.lam_at(quality / 100)
        bpp = decibels = 0.0
        for pixels in images:
            y = pixels.to(device).float() / 255
            each = torch.tensor([lam], device=device)
            coded = model.prior(model.encoder(y, each), model.channel, each)
            count = y.shape[-1] * y.shape[-2]
            bpp += float(coded.rate) * BITS_PER_NAT / count / len(images)
            shown = (model.decoder(coded.latent, each).clamp(0, 1) * 255).round() / 255
            decibels += float(_decibels(y, shown)) / len(images)
        points.append({"quality": float(quality), "bpp": bpp, "psnr_db": decibels})
    return points
