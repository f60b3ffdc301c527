"""What a recipe is: a model, what it learns from, and the numbers of its schedule, ready for the training loop."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from rdae.errors import DataError

__all__ = ["Point", "Recipe", "Step"]

Point = dict[str, float]


class Step(NamedTuple):
    """Which step of which run this is; all that is drawn at random in a step depends on nothing else."""

    number: int
    seed: int
    share: slice  # of the batch, that this process computes

    def noise_seed(self, rank: int) -> int:
        """Of what a process draws in this step: well mixed, so that no other seed's steps have the same in a row.

        PyTorch reads the low 32 of its 64 bits on the CPU; a single step of another run may share them by chance.
        """
        return int(np.random.SeedSequence([self.seed, self.number, rank]).generate_state(1, np.uint64)[0])


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """A model and how to train it. Subclasses say what a batch is and what its loss is.

    Args:
        name: of the recipe, kept in checkpoints and in the files made from them.
        model: builds the model with fresh weights.
        steps, batch, learning_rate: of the schedule; batch counts examples over all processes.
        warmup: steps in which the learning rate rises from zero.
        flat: share of the run after which it falls, along a cosine to 1 % of its peak.
        weight_decay, betas: of AdamW.
        average: decay of the moving average of the weights; the averaged weights are the result.
        clip: largest norm of a gradient; None for no limit.

    Raises:
        DataError: steps, batch or learning rate is no positive number.

    A game of several players gives each an optimiser (`optimizers`) and says whose turn a step is (`turn`).
    """

    name: str
    model: Callable[[], Any]
    steps: int
    batch: int
    learning_rate: float
    warmup: int = 100
    flat: float = 0.3
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    average: float = 0.998
    clip: float | None = 1.0
    alternating: ClassVar[bool] = False  # whether several players take turns

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "learning_rate"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not value > 0:
                raise DataError(f"{name} is {value!r}. Choose a positive number.")

    @abstractmethod
    def batches(self, data: Path, *, seed: int, rank: int, world: int) -> Dataset:
        """A data set whose item n is this process's share of the batch of step n."""

    @abstractmethod
    def loss(self, model: Any, batch: Tensor, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss of a batch, and what to report of it; the report holds at least `loss`."""

    def held_out(self, folder: Path | None) -> Any:
        """What `validate` looks at; None where there is nothing to validate on."""
        return None

    def validate(self, model: Any, held_out: Any) -> list[Point]:
        """Measures of a model with averaged weights, in `eval()` mode."""
        return []

    def share(self, rank: int, world: int) -> slice:
        """The examples of a batch that a process computes."""
        return slice(rank * self.batch // world, (rank + 1) * self.batch // world)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW over all parameters."""
        return torch.optim.AdamW(
            model.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, betas=self.betas, fused=True
        )

    def optimizers(self, model: Any) -> list[torch.optim.Optimizer]:
        """One for each player; a recipe that minimises one loss has one player."""
        return [self.optimizer(model)]

    def turn(self, step: int) -> int:
        """Which player a step is of: an index into `optimizers`."""
        return 0

    def result(self, model: Any) -> nn.Module:
        """The part of the model that is averaged, validated and saved."""
        return model

    def trained(self, weights: dict[str, Tensor]) -> Any:
        """The result with these weights, such as the average of a checkpoint, in `eval()` mode."""
        model = self.result(self.model())
        model.load_state_dict(weights)
        return model.eval()

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, flat, then a cosine to 1 % of the peak."""
        warm = min(1.0, (step + 1) / self.warmup)
        late = min(1.0, max(0.0, (step / self.steps - self.flat) / (1 - self.flat)))
        return self.learning_rate * warm * (0.505 + 0.495 * math.cos(math.pi * late))

    def schedule(self) -> dict[str, Any]:
        """The numbers of the recipe, as kept in checkpoints."""
        plain = (str, int, float, bool, tuple, type(None))
        return {f.name: value for f in fields(self) if type(value := getattr(self, f.name)) in plain}
