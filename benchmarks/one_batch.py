"""The package's training loop as a contestant: one batch again and again, for as many steps as are asked for."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from contestants import steps_asked_for
from torch import Tensor
from torch.utils.data import Dataset

from rdae.training.loop import Settings, train
from rdae.training.recipe import Recipe

__all__ = ["TURNS", "OneBatch", "train_for_ever"]

TURNS = 1_000_000  # more than are ever taken


class OneBatch(Dataset):
    """Item n is the batch of turn n of the loop.

    Args:
        batch: in memory.
        facts: the first answer, see `contestants.steps_asked_for`.
        turns: of the loop that make a step of the benchmark.
    """

    def __init__(self, batch: Tensor, facts: dict[str, Any], turns: int = 1) -> None:
        self.batch, self.turns, self._steps = batch, turns, steps_asked_for(facts)

    def __getitem__(self, turn: int) -> Tensor:
        if turn % self.turns == 0:
            next(self._steps)
        return self.batch


def train_for_ever(recipe: Recipe) -> None:
    """Trains on the CPU until nobody asks any more; nothing is kept."""
    with tempfile.TemporaryDirectory() as out:
        settings = Settings(
            data=Path(out), out=Path(out), accelerator="cpu", devices="1", checkpoint_minutes=float("inf")
        )
        train(recipe, settings)
