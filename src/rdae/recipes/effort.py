"""Effort in compressing: a codec whose symbols are chosen again, with the trained weights behind it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.coding.codec import Codec
from rdae.coding.model import Model, load_model
from rdae.errors import ModelError, TargetError
from rdae.recipes import CODEC_RECIPES
from rdae.training.refining import EFFORT_MAX, Progress, Refiner
from rdae.training.start import find_start

__all__ = ["codec_with_effort"]


def codec_with_effort(
    model: str | Path = "photo",
    effort: int = 5,
    *,
    weights: str | Path | None = None,
    seconds: float | None = None,
    threads: int = 0,
    progress: Progress | None = None,
) -> Codec:
    """A codec that takes longer to compress; what it writes is smaller or better, and decoded by everybody.

    Args:
        model: a shipped model, or a codec file.
        effort: 1 to 9; see `rdae.training.refining.steps_of`.
        weights: the run behind a codec file of one's own, or one of its checkpoints.
        seconds: for each tile of 1024 x 1024 pixels, after which no further step begins; None for no limit.
        threads: of the networks of the codec; PyTorch has its own setting.
        progress: told of the steps of a tile, see `rdae.training.refining.Refiner`.

    Raises:
        TargetError: effort is out of range.
        ModelError: no such model, or none whose symbols can be chosen again; weights that are not at hand, or
            of another recipe.
        CheckpointError: the weights cannot be read.
    """
    if not 1 <= effort <= EFFORT_MAX:
        raise TargetError(f"Effort {effort} is out of range. Use a whole number from 0 to {EFFORT_MAX}.")
    codec, trained = _trained(model, weights, threads)
    certain = int(codec.card.get("certain", 0))
    return Codec(codec, Refiner(trained, effort, seconds, progress, certain))


@lru_cache(2)
def _trained(model: str | Path, weights: str | Path | None, threads: int) -> tuple[Model, RateDistortionAutoencoder]:
    """A codec file, and the model behind it; kept, for pictures are compressed one after the other."""
    start = find_start(str(model if weights is None else weights))
    codec, trained = load_model(model, threads=threads), CODEC_RECIPES[start.recipe]().trained(start.weights)
    if start.recipe != codec.name:
        raise ModelError(
            f"{weights or model} holds weights of {start.recipe}, and {model} is a codec of {codec.name}. "
            "Pass --weights the folder of the run that made it."
        )
    return codec, trained
