"""Recipes of autoencoders whose latents are judged by a critic: Wasserstein autoencoders with a game, FactorVAE."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from rdae.adversarial.latent import LatentPair
from rdae.training.game_recipe import CRITIC, GameRecipe
from rdae.training.generative_recipe import GenerativeRecipe
from rdae.training.recipe import Step

__all__ = ["LatentGameRecipe", "in_turns"]

CRITIC_BETAS = 0.5, 0.9  # of a critic's optimiser: what it learns from changes as it learns


@dataclass(frozen=True, kw_only=True)
class LatentGameRecipe(GameRecipe, GenerativeRecipe):
    """A `GenerativeRecipe` whose penalty is what a critic of the latents says; `model` builds a `LatentPair`."""

    @property
    def shapes_latents(self) -> bool:
        return True

    def optimizers(self, model: LatentPair) -> list[torch.optim.Optimizer]:
        return [self.optimizer(model.model), replace(self, betas=CRITIC_BETAS).optimizer(model.critic)]

    def loss(self, model: Any, batch: Tensor, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        if step.number == 0:
            self.check(model.model, batch)
        if self.turn(step.number) == CRITIC:
            loss, report = model.critic_loss(batch)
            return loss, {**report, "loss": loss.detach()}
        return self.penalised(model.model, batch, step.number // (self.critic_steps + 1), model.penalty)


def in_turns(plain: GenerativeRecipe, **game: Any) -> LatentGameRecipe:
    """A recipe with a critic added to it; as many steps of the autoencoder as before.

    Args:
        plain: without a critic.
        game: `model`, `critic_steps`, `critic_learning_rate`.
    """
    held = {f.name: getattr(plain, f.name) for f in fields(plain)}
    held["steps"] = plain.steps * (game.get("critic_steps", 1) + 1)
    return LatentGameRecipe(**{**held, **game})
