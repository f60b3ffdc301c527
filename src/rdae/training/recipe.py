"""What a recipe is: parts and numbers put together, ready for the training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from rdae.autoencoder import RateDistortionAutoencoder

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """A model and how to train it.

    Args:
        name: of the recipe, kept in checkpoints and in the codec file.
        model: builds the autoencoder with fresh weights.
        lam: smallest and largest weight of distortion, nats per squared unit of y in [0, 1]; drawn log-uniformly
            for each example.
        quality_lam: lam at quality 0 and at quality 100.
        steps, batch, size, learning_rate: of the schedule; crops are `size x size`.
        multiple: images must have sides that are multiples of this.
    """

    name: str
    model: Callable[[], RateDistortionAutoencoder]
    lam: tuple[float, float]
    quality_lam: tuple[float, float]
    steps: int
    batch: int
    size: int
    learning_rate: float
    multiple: int
    warmup: int = 100
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    average: float = 0.998
    notes: dict[str, str] = field(default_factory=dict)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW over all parameters."""
        return torch.optim.AdamW(
            model.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, betas=self.betas
        )
