"""From the last checkpoint of a run to a codec file with its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rdae.data.photographs import find_images
from rdae.priors.pyramid import PyramidPrior
from rdae.training.checkpoint import load_checkpoint
from rdae.training.codec_recipe import CodecRecipe
from rdae.training.export import export_pyramid
from rdae.training.export_convolutional import export_convolutional

__all__ = ["codec_file"]


def codec_file(recipe: CodecRecipe, checkpoint: Path, *, data: Path, terms: str, command: str) -> bytes:
    """The codec file of a run, made from its averaged weights.

    Args:
        recipe: that was trained.
        checkpoint: its last checkpoint.
        data: folder it was trained on; the card says how many images and pixels, not where they lay.
        terms: licence of the data.
        command: as typed.
    """
    state = load_checkpoint(checkpoint)
    model = recipe.model()
    model.load_state_dict(state["average"]["average"])
    files = find_images(data)
    card: dict[str, Any] = {
        "summary": f"{len(files)} images, {state['step']} steps",
        "training": {
            "images": len(files),
            "megapixels": round(sum(pixels for _, pixels in files) / 1e6, 1),
            "terms": terms,
            "command": command,
            "seed": state["seed"],
            "steps": state["step"],
            **{name: state["recipe"][name] for name in ("batch", "size", "learning_rate")},
        },
    }
    export = export_pyramid if isinstance(model.prior, PyramidPrior) else export_convolutional
    return export(model.eval(), recipe, card)
