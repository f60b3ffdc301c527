"""Recipes of implicit models: a generator and its critic take turns in the loop of all other recipes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rdae.adversarial import AdversarialPair, ImplicitModel
from rdae.errors import DataError
from rdae.measures.mmd import energy_distance
from rdae.training.array_recipe import VALIDATED
from rdae.training.game_recipe import LEARNER, GameRecipe
from rdae.training.recipe import Point, Step

__all__ = ["AdversarialRecipe"]

HELD_OUT_MIN = 4
AT_ONCE = 1 << 22  # elements generated together
ALIKE = 0.1  # spread of samples against that of data, below which a generator has collapsed
log = logging.getLogger("rdae")


@dataclass(frozen=True, kw_only=True)
class AdversarialRecipe(GameRecipe):
    """A generator and its critic; what is kept is the implicit model alone.

    Args:
        fade: share of the penalties' weights that is left at the end of the run; they fall by the same factor at each
            turn. R1 and R2 smooth a critic, and modes much smaller than their distances need a steep one (Huang et
            al. 2024, arXiv:2501.05441).
    """

    fade: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.fade <= 1:
            raise DataError(f"fade is {self.fade}, a share of the penalties' weights. Choose it above 0 and up to 1.")

    def held_out(self, folder: Path | None) -> Tensor | None:
        y = super().held_out(folder)
        if y is not None and len(y) < HELD_OUT_MIN:
            raise DataError(f"{len(y)} held-out examples are too few to compare laws. Hold out {HELD_OUT_MIN} or more.")
        return y

    def loss(self, model: AdversarialPair, batch: Tensor, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        if self.turn(step.number) == LEARNER:
            loss, report = model.generator_loss(batch)
        else:
            critic_turn = step.number - step.number // (self.critic_steps + 1)
            loss, report = model.critic_loss(batch, critic_turn, self.fade ** (step.number / self.steps))
        return loss, {**report, "loss": loss.detach()}

    @torch.no_grad()
    def validate(self, model: ImplicitModel, held_out: Tensor) -> list[Point]:
        """Energy distance of samples and held-out examples; a warning where samples hardly differ from each other."""
        torch.manual_seed(0)
        y = held_out[:VALIDATED]
        parts = y.split(max(1, AT_ONCE // y[0].numel()))
        fake = torch.cat([model.sample(len(part)).cpu() for part in parts])
        spread = float(fake.std(0).mean() / y.std(0).mean().clamp_min(1e-12))
        if spread < ALIKE:
            log.warning(
                "samples vary by %.1f %% of what the data do: the generator has collapsed. Try r3gan, packing=2, "
                "a stronger penalty, or lower learning rates.",
                100 * spread,
            )
        distance = energy_distance(y.flatten(1), fake.flatten(1))
        return [{"energy_distance": distance.value, "spread_ratio": spread}]
