"""The model file of a generative recipe: averaged weights and a card, in one safetensors file; no code, no pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from rdae.data.arrays import ArrayData, Binarisation, Kind
from rdae.errors import ModelError, RdaeError
from rdae.recipes import generative_recipe
from rdae.training.array_recipe import ArrayRecipe
from rdae.training.checkpoint import load_checkpoint

__all__ = ["MODEL_SUFFIX", "Saved", "model_file", "open_model"]

MODEL_SUFFIX = ".model"
VERSION = 1
EVENT_MAX = 1 << 24  # elements of an example; more is no example but a damaged card


class Saved(NamedTuple):
    """A model read from its file."""

    model: Any  # NoisyChannelAutoencoder, LadderAutoencoder or ImplicitModel, in eval() mode
    card: dict[str, Any]


def model_file(recipe: ArrayRecipe, checkpoint: Path, *, command: str, terms: str) -> bytes:
    """The bytes of a model file.

    Args:
        recipe: that was trained, made by `generative_recipe`.
        checkpoint: its last checkpoint.
        command: as typed.
        terms: licence of the data.
    """
    state = load_checkpoint(checkpoint)
    card = {
        "version": VERSION,
        "recipe": recipe.name,
        "options": recipe.options,
        "event": list(recipe.data.event),
        "kind": str(recipe.data.kind),
        "binarisation": str(recipe.binarisation),
        "training": {
            "examples": len(recipe.data), "command": command, "terms": terms, "seed": state["seed"],
            "steps": state["step"], "batch": recipe.batch, "learning_rate": recipe.learning_rate,
        },
    }  # fmt: skip
    weights = {name: value.contiguous() for name, value in state["average"]["average"].items()}
    return save_tensors(weights, {"card": json.dumps(card, sort_keys=True)})


def open_model(path: str | Path) -> Saved:
    """A model from its file, or from the folder of a run that has one.

    Raises:
        ModelError: there is none, or it is damaged or of another version.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(path.glob(f"*{MODEL_SUFFIX}"))
        if len(found) != 1:
            raise ModelError(
                f"{path} holds {len(found)} model files. Name one; `rdae train` writes it when it is done."
            )
        path = found[0]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error}). Pass a file that `rdae train` wrote.") from error
    try:
        size = int.from_bytes(data[:8], "little")
        card = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["card"])
        weights = load_tensors(data)
        event = [int(side) for side in card["event"]]
        if card["version"] != VERSION:
            raise ModelError(
                f"{path} has version {card['version']}, this package reads {VERSION}. Install a newer one."
            )
        if not event or min(event) < 1 or torch.Size(event).numel() > EVENT_MAX:
            raise ModelError(f"{path} says its examples are of shape {event}. It is damaged: copy it again.")
        kind, _ = Kind(card["kind"]), Binarisation(card["binarisation"])
        values = torch.zeros(1, *event, dtype=torch.uint8 if kind in (Kind.BINARY, Kind.BYTES) else torch.float32)
        recipe = generative_recipe(card["recipe"], ArrayData(values, kind), options=card["options"])
        _must_hold(weights, recipe, path)
        model = recipe.trained(weights)
    except RdaeError:
        raise
    except (SafetensorError, KeyError, TypeError, ValueError, ArithmeticError, RuntimeError, RecursionError) as error:
        raise ModelError(f"{path} is no model file of this package, or is damaged ({error}).") from error
    return Saved(model, card)


def _must_hold(weights: dict[str, Tensor], recipe: ArrayRecipe, path: Path) -> None:
    """Refuses a file whose weights are not those of the model that its card asks for, before any of it is built."""
    with torch.device("meta"):
        due = {name: value.shape for name, value in recipe.result(recipe.model()).state_dict().items()}
    if due != {name: value.shape for name, value in weights.items()}:
        raise ModelError(f"{path} does not hold the weights that its card speaks of. It is damaged: copy it again.")
