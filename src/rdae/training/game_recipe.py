"""What recipes with a critic share: two players who take turns, one optimiser each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from rdae.errors import DataError
from rdae.training.array_recipe import ArrayRecipe

__all__ = ["CRITIC", "LEARNER", "GameRecipe"]

LEARNER, CRITIC = 0, 1


@dataclass(frozen=True, kw_only=True)
class GameRecipe(ArrayRecipe):
    """`critic_steps` turns of the critic, then one of the model, and so on.

    `steps` counts turns of both. What is built has parts `model` and `critic`; averaged, validated and kept is the
    model alone.

    Args:
        critic_steps: turns of the critic for each of the model.
        critic_learning_rate: peak of its schedule; `learning_rate` is the model's.
    """

    alternating: ClassVar[bool] = True
    critic_steps: int = 1
    critic_learning_rate: float = 2e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.critic_learning_rate > 0:
            raise DataError(f"critic_learning_rate is {self.critic_learning_rate!r}. Choose a positive number.")

    def turn(self, step: int) -> int:
        return CRITIC if step % (self.critic_steps + 1) < self.critic_steps else LEARNER

    def optimizers(self, model: Any) -> list[torch.optim.Optimizer]:
        return [self.optimizer(model.model), self.optimizer(model.critic)]

    def rate_at(self, step: int) -> float:
        peak = self.critic_learning_rate if self.turn(step) == CRITIC else self.learning_rate
        return super().rate_at(step) * peak / self.learning_rate

    def result(self, model: Any) -> nn.Module:
        return model.model
