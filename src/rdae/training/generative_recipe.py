"""Recipes of noisy-channel autoencoders: examples in memory, an evidence bound or rate + lam * distortion."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.ladder import LadderAutoencoder
from rdae.likelihoods import Likelihood
from rdae.measures.likelihood import active_units, log_evidence
from rdae.objectives import doubly_reparameterised_bound, importance_bound
from rdae.training.array_recipe import VALIDATED, ArrayRecipe
from rdae.training.latent_penalty import LatentPenalty, latent_point
from rdae.training.recipe import Point, Step
from rdae.training.weighing import Beta, Weighing

__all__ = ["GenerativeRecipe"]

log = logging.getLogger("rdae")
Autoencoder = NoisyChannelAutoencoder | LadderAutoencoder


@dataclass(frozen=True, kw_only=True)
class GenerativeRecipe(ArrayRecipe):
    """A noisy-channel autoencoder for arrays.

    Args:
        weigh: the loss of each example from its two terms; looked at when `samples` is 1.
        penalty: on the latents of a batch, added to the mean loss; likewise.
        samples: importance samples of each example; above 1 the loss is minus the importance-weighted bound.
        doubly_reparameterised: use that gradient for the encoder when `samples` is above 1.
    """

    weigh: Weighing = field(default_factory=Beta)
    penalty: LatentPenalty | None = None
    samples: int = 1
    doubly_reparameterised: bool = True

    def loss(self, model: Any, batch: Tensor, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        if step.number == 0:
            self.check(model, batch)
        if self.samples == 1:
            return self.penalised(model, batch, step.number, self.penalty)
        joint = model.log_joint(batch, self.samples, frozen=self.doubly_reparameterised)
        bound = doubly_reparameterised_bound if self.doubly_reparameterised else _plain
        loss = -bound(joint).mean()
        rate = (joint.posterior - joint.prior).detach().mean()
        return loss, {"rate_nats": rate, "distortion": -joint.likelihood.detach().mean(), "loss": loss.detach()}

    @property
    def shapes_latents(self) -> bool:
        """Whether the law of the latents as a whole is charged for, and so validated."""
        return self.penalty is not None

    def check(self, model: Autoencoder, batch: Tensor) -> None:
        """Refuses data that the model's likelihood is no density of."""
        if isinstance(model.distortion, Likelihood):
            model.distortion.check(batch, self.data.name)

    def penalised(
        self, model: Any, batch: Tensor, step: int, penalty: LatentPenalty | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighed terms, and a penalty on the latents where there is one."""
        extra: dict[str, Tensor] = {}
        if penalty is None:
            terms = model(batch).terms
            loss = self.weigh(terms, step).mean()
        else:
            q = model.posterior(batch)
            passed = model.passed(batch, q)
            terms = passed.terms
            charged = penalty(q, model.code(), passed.latent)
            loss = self.weigh(terms, step).mean() + charged
            extra["penalty"] = charged.detach()
        return loss, {
            "rate_nats": terms.rate.detach().mean(),
            "distortion": terms.distortion.detach().mean(),
            **extra,
            "loss": loss.detach(),
        }

    @torch.no_grad()
    def validate(self, model: Autoencoder, held_out: Tensor) -> list[Point]:
        """Rate, distortion, bounds and active units; a warning where the channel has all but closed."""
        device = next(model.parameters()).device
        y = held_out[:VALIDATED].to(device)
        torch.manual_seed(0)
        parts = [model(part).terms for part in y.split(500)]
        rate, distortion = (torch.cat([getattr(p, name) for p in parts]).mean() for name in ("rate", "distortion"))
        active = active_units(model, y)
        point = {"rate_nats": float(rate), "distortion": float(distortion), "active_units": float(active)}
        if isinstance(model.distortion, Likelihood) and math.isfinite(point["rate_nats"]):
            point["elbo_nats"] = -float(rate + distortion)
            point["bound64_nats"] = float(log_evidence(model, y, 64).mean())
        if self.shapes_latents and isinstance(model, NoisyChannelAutoencoder):
            point |= latent_point(model, y)
        size = model.units
        if active < max(1, size // 20):
            log.warning(
                "only %d of %d latent units carry anything (posterior collapse). Try a longer warm-up of beta, "
                "a smaller beta, a smaller decoder spread, or a weaker decoder.",
                active,
                size,
            )
        return [point]


def _plain(joint: Any) -> Tensor:
    return importance_bound(joint.log_weight)
