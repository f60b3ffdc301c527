"""How rate and distortion are weighed against each other while training goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from rdae.objectives import Terms

__all__ = ["Beta", "Capacity", "DistortionAlone", "Weighing"]


class Weighing(Protocol):
    """`(terms, step) -> loss of each example`, `(batch,)`, in nats."""

    def __call__(self, terms: Terms, step: int) -> Tensor:
        """The loss at a step."""
        ...


@dataclass(frozen=True)
class Beta:
    """`beta * rate + lam * distortion`; beta rises from zero over the first steps.

    With a likelihood for distortion, beta = lam = 1 is minus the ELBO; beta alone is that of a beta-VAE, lam alone
    that of a rate-distortion autoencoder. Only their ratio matters in the end.

    Args:
        beta: weight of the rate.
        lam: weight of the distortion, nats per unit.
        warmup: steps in which beta rises from 0: a rate that is charged from the start may close a channel for good.
    """

    beta: float = 1.0
    lam: float = 1.0
    warmup: int = 0

    def __call__(self, terms: Terms, step: int) -> Tensor:
        share = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return self.beta * share * terms.rate + self.lam * terms.distortion


@dataclass(frozen=True)
class Capacity:
    """`gamma * |rate - capacity| + distortion`, the capacity rising in a line (Burgess et al. 2018, arXiv:1804.03599).

    Args:
        nats: capacity in the end.
        steps: in which it rises from 0.
        gamma: how firmly the rate is held.
    """

    nats: float
    steps: int
    gamma: float = 100.0

    def __call__(self, terms: Terms, step: int) -> Tensor:
        capacity = self.nats * min(1.0, step / self.steps)
        return self.gamma * (terms.rate.mean() - capacity).abs() + terms.distortion


@dataclass(frozen=True)
class DistortionAlone:
    """The distortion: no rate is paid for, be it infinite, as where the encoder adds no noise."""

    def __call__(self, terms: Terms, step: int) -> Tensor:
        return terms.distortion
