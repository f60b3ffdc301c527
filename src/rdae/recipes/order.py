"""A training from the names of a recipe and of data to a file ready to use, in plain values that can be sent away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from rdae.coding.files import whole_file
from rdae.coding.model import CODEC_SUFFIX
from rdae.data.arrays import ArrayData
from rdae.data.sources import has_test, open_data
from rdae.errors import DataError
from rdae.recipes import CODEC_RECIPES, generative_recipe
from rdae.recipes.model_file import MODEL_SUFFIX, model_file
from rdae.training.array_recipe import ArrayRecipe
from rdae.training.codec_file import codec_file
from rdae.training.codec_recipe import CodecRecipe
from rdae.training.loop import Settings, train
from rdae.training.start import Start, find_start

__all__ = ["Order", "with_held_out"]

CODEC_SIDE = 64  # crops are a multiple of it


@dataclass(frozen=True, kw_only=True)
class Order:
    """What `rdae train` was asked for.

    Args:
        recipe: its name.
        start: where weights to begin with are, as `find_start` takes it; None for fresh ones. Codecs only.
        data: a folder of images; for a generative recipe also a file of arrays or the name of a set.
        out: folder of the run; an unfinished run goes on, a finished one is not repeated.
        valid: held-out data; named sets bring their own.
        steps, batch, size: in the place of the recipe's own; size is that of crops, or of resized images.
        kind: of arrays, as `open_data` takes it.
        options: of a generative recipe.
        settings: of the loop but for data, valid and out, such as `seed` and `devices`.
        terms: licence of the data, for the model card.
        command: as typed, for the model card.
    """

    recipe: str
    data: str
    out: Path
    start: str | None = None
    valid: str | None = None
    steps: int | None = None
    batch: int | None = None
    size: int | None = None
    kind: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    terms: str = "not stated"
    command: str = ""

    @property
    def is_codec(self) -> bool:
        """Whether a codec file comes of it, and not a model file."""
        return self.recipe in CODEC_RECIPES

    @property
    def target(self) -> Path:
        """The file made at the end."""
        return self.out / f"{self.recipe}{CODEC_SUFFIX if self.is_codec else MODEL_SUFFIX}"

    def carry_out(self) -> Path | None:
        """Trains, and writes `target`, which is returned; None in all processes but the first.

        Raises:
            RdaeError: what recipe, data, loop or file refuse; each says what to change.
        """
        start = None if self.start is None else find_start(self.start)
        recipe = self._codec(start) if self.is_codec else self._generative()
        recipe = replace(recipe, steps=self.steps or recipe.steps, batch=self.batch or recipe.batch)
        valid = Path(self.valid) if self.valid else None
        settings = Settings(data=Path(self.data), out=self.out, valid=valid, **self.settings)
        checkpoint = train(recipe, settings, start and start.weights)
        if checkpoint is None:
            return None
        if isinstance(recipe, CodecRecipe):
            packed = codec_file(recipe, checkpoint, data=Path(self.data), terms=self.terms, command=self.command)
        else:
            packed = model_file(recipe, checkpoint, command=self.command, terms=self.terms)
        with whole_file(self.target) as file:
            file.write(packed)
        return self.target

    def _codec(self, start: Start | None) -> CodecRecipe:
        if self.options or self.kind:
            raise DataError(f"--set and --kind are for generative recipes; {self.recipe} is a codec. Leave them out.")
        if self.size is not None and self.size % CODEC_SIDE:
            raise DataError(f"--size {self.size} is no multiple of {CODEC_SIDE}.")
        recipe = CODEC_RECIPES[self.recipe]()
        if self.size is not None and self.size < recipe.least:
            raise DataError(
                f"--size {self.size} is less than {self.recipe} can be trained on. Choose {recipe.least} or more."
            )
        if start is not None and start.recipe == self.recipe:
            recipe = recipe.adapting(start.parent)
        elif start is not None and _shapes(start.weights) != _shapes(recipe.model().state_dict()):
            raise DataError(
                f"{self.start} holds weights of {start.recipe}, whose networks are not those of {self.recipe}. Leave "
                f"the name out to go on as {start.recipe}, or --from to begin anew."
            )
        return replace(recipe, size=self.size or recipe.size)

    def _generative(self) -> ArrayRecipe:
        if self.start is not None:
            raise DataError(f"--from is for codecs; {self.recipe} is a generative recipe. Leave it out.")
        examples, test = with_held_out(self.data, self.valid, self.kind, self.size)
        return generative_recipe(self.recipe, examples, test, self.options)


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items()}


def with_held_out(
    data: str, valid: str | None, kind: str | None, size: int | None
) -> tuple[ArrayData, ArrayData | None]:
    """Examples to learn from, and those held out: named, or of a set that brings its own, or none.

    Raises:
        DataError: held-out data are of another shape or kind than those to learn from.
    """
    examples = open_data(data, split="train", kind=kind, size=size)
    if valid is None:
        return examples, open_data(data, split="test", size=size) if has_test(data) else None
    held_out = open_data(valid, split="train", kind=kind, size=size)
    if (examples.event, examples.kind) != (held_out.event, held_out.kind):
        raise DataError(
            f"{held_out.name} holds {held_out.kind} examples of shape {held_out.event}, but {examples.name} "
            f"{examples.kind} ones of shape {examples.event}. Hold out data of the same sort."
        )
    return examples, held_out
