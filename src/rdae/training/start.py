"""Trained weights to begin with: those of a shipped codec, or of a run of one's own.

A codec file holds whole numbers and graphs; training needs the floats they were made from. Shipped models have them
beside the codec file in `NAME.weights`, a safetensors file with a card; runs have them in their checkpoints.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from rdae.coding.model import CODEC_SUFFIX, shipped_models
from rdae.coding.registry import shipped_as
from rdae.errors import CheckpointError, ModelError
from rdae.training.checkpoint import load_checkpoint, load_newest

__all__ = ["WEIGHTS_SUFFIX", "Start", "find_start", "weights_file"]

WEIGHTS_SUFFIX = ".weights"
VERSION = 1


class Start(NamedTuple):
    """Weights to begin with."""

    recipe: str
    weights: dict[str, Tensor]  # averaged ones: model and average both begin with them
    parent: str | None  # identity of the shipped codec they come from, in hexadecimal digits


def weights_file(recipe: str, weights: dict[str, Tensor], codec: bytes) -> bytes:
    """The bytes of a file of weights.

    Args:
        recipe: whose model they fit.
        weights: averaged ones, of which the codec file was made.
        codec: identity of that codec file.
    """
    card = {"version": VERSION, "recipe": recipe, "codec": codec.hex()}
    whole = {name: value.contiguous() for name, value in weights.items()}
    return save_tensors(whole, {"card": json.dumps(card, sort_keys=True)})


def find_start(name: str) -> Start:
    """The weights of a shipped model, by its name; or of a run, by its folder or one of its checkpoints.

    Raises:
        CheckpointError: the folder or the checkpoint holds no weights that can be read.
        ModelError: a model without weights to train from, or none at all.
    """
    path = Path(name)
    if name in shipped_models():
        return _shipped(shipped_models()[name])
    if path.is_dir():
        state = load_newest(path / "checkpoints" if (path / "checkpoints").is_dir() else path)
        if state is None:
            raise CheckpointError(f"{path} holds no checkpoint. Name the folder of a run, the -o of `rdae train`.")
        return _of(state)
    if path.suffix == CODEC_SUFFIX:
        raise ModelError(
            f"{path} is a codec file: it holds whole numbers and graphs, not the weights that training needs. Name the "
            "folder of the run that made it, one of its checkpoints, or a shipped model."
        )
    if not path.is_file():
        raise ModelError(
            f"There are no weights {name!r}: neither a shipped model ({', '.join(shipped_models()) or 'none'}) nor a "
            "run. Name the folder of a run or one of its checkpoints."
        )
    return _of(load_checkpoint(path))


def _of(state: dict[str, Any]) -> Start:
    try:
        recipe = state["recipe"]
        return Start(recipe["name"], state["average"]["average"], recipe.get("parent"))
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"The checkpoint lacks {error}. Name one that `rdae train` wrote.") from error


def _shipped(codec: Path) -> Start:
    path = codec.with_suffix(WEIGHTS_SUFFIX)
    if not path.exists():
        raise ModelError(
            f"The model {codec.stem!r} is shipped without the weights that training needs. Name a run of your own."
        )
    data = path.read_bytes()
    try:
        size = int.from_bytes(data[:8], "little")
        card = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["card"])
        version, recipe, identity = card["version"], str(card["recipe"]), str(card["codec"])
        if version != VERSION or shipped_as(bytes.fromhex(identity)) != codec.stem:
            raise ModelError(f"{path} does not belong to {codec.name}. Install the package again.")
        return Start(recipe, load_tensors(data), identity)
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path} is damaged ({error}). Install the package again.") from error
