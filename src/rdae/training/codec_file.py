"""From the last checkpoint of a run to a codec file with its card."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from rdae.coding.delta import apply_delta, make_delta
from rdae.coding.registry import shipped_bytes
from rdae.data.photographs import decoded_images
from rdae.errors import DataError
from rdae.priors.subbands import SubbandPrior
from rdae.training.checkpoint import load_checkpoint
from rdae.training.codec_recipe import CodecRecipe
from rdae.training.export_convolutional import export_convolutional
from rdae.training.export_subbands import export_subbands

__all__ = ["codec_file"]


def codec_file(recipe: CodecRecipe, checkpoint: Path, *, data: Path, terms: str, command: str) -> bytes:
    """The codec file of a run, made from its averaged weights.

    That of an adaptation has its weights on the grid around those of its parent, which a small delta can carry.

    Args:
        recipe: that was trained.
        checkpoint: its last checkpoint.
        data: folder it was trained on; the card says how many images and pixels decode, not where they lay. If it is
            gone, the card says nothing of them.
        terms: licence of the data.
        command: that trained it; all who have the file can read it, so without the places of folders.
    """
    state = load_checkpoint(checkpoint)
    model = recipe.trained(state["average"]["average"])
    amount = _amount(data)
    images = f"{amount['images']} images, " if amount else ""
    card: dict[str, Any] = {
        "summary": f"{recipe.aim + ', ' if recipe.aim else ''}{images}{state['step']} steps",
        "training": {
            **amount,
            "terms": terms,
            "command": command,
            "seed": state["seed"],
            "steps": state["step"],
            **{name: state["recipe"][name] for name in ("batch", "size", "learning_rate")},
        },
    }
    export = export_subbands if isinstance(model.prior, SubbandPrior) else export_convolutional
    if recipe.parent is None:
        return export(model, recipe, card)
    parent = shipped_bytes(bytes.fromhex(recipe.parent))
    return apply_delta(parent, make_delta(parent, export(model, recipe, {**card, "parent": recipe.parent})))


def _amount(data: Path) -> dict[str, Any]:
    """Number of images that decode, and their pixels; empty where the folder is gone, which must not cost a run."""
    try:
        pixels = [image.shape[0] * image.shape[1] for _, image in decoded_images(data)]
    except DataError as error:
        logging.getLogger("rdae").warning("the model card says nothing of the images: %s", error)
        return {}
    return {"images": len(pixels), "megapixels": round(sum(pixels) / 1e6, 1)}
