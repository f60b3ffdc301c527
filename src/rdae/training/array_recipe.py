"""What recipes of generative models share: examples in memory, some held out, and options for the model file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from rdae.data.arrays import ArrayBatches, ArrayData, Binarisation, as_floats, binarise
from rdae.training.recipe import Recipe

__all__ = ["VALIDATED", "ArrayRecipe", "judged_on"]

VALIDATED = 2000  # examples of the held-out set that a validation looks at
FREE = {"epochs", "learning_rate", "critic_learning_rate"}  # options that may change when a run goes on
TEST_SEED = 1  # of the one binarisation that held-out data get


def judged_on(data: ArrayData, binarisation: Binarisation) -> Tensor:
    """Examples as a model sees them outside training: floats; zeros and ones drawn once where training draws anew."""
    how = Binarisation.STATIC if binarisation is Binarisation.DYNAMIC else binarisation
    data = binarise(data, how, seed=TEST_SEED)
    return as_floats(data.values, data.kind)


@dataclass(frozen=True, kw_only=True)
class ArrayRecipe(Recipe):
    """A recipe that learns from an array of examples.

    Args:
        data: what it learns from.
        test: held-out examples, or None.
        binarisation: of 8-bit data.
        options: what the recipe was called with, for the model file.
    """

    data: ArrayData
    test: ArrayData | None = None
    binarisation: Binarisation = Binarisation.NONE
    options: dict[str, Any] = field(default_factory=dict)

    def schedule(self) -> dict[str, Any]:
        """With the options that make the model what it is: a run does not go on under others."""
        fixed = {name: value for name, value in self.options.items() if name not in FREE}
        what = {"options": json.dumps(fixed, sort_keys=True), "binarisation": str(self.binarisation)}
        return super().schedule() | what

    def batches(self, data: Path, *, seed: int, rank: int, world: int) -> ArrayBatches:
        return ArrayBatches(
            self.data, batch=self.batch, steps=self.steps, seed=seed, binarisation=self.binarisation, rank=rank,
            world=world,
        )  # fmt: skip

    def held_out(self, folder: Path | None) -> Tensor | None:
        """Held-out examples as floats, binarised once."""
        return None if self.test is None else judged_on(self.test, self.binarisation)
