"""Noise against rounding on real pictures: the points of docs/relaxation.md.

    python scripts/relaxation.py CHECKPOINT IMAGES -o docs/results/relaxation.json [--images-limit N]

The recipe is the checkpoint's, weights are its averaged ones, and a codec file is made of them. Pictures are cut at
the centre.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from rdae.coding.codec import Codec
from rdae.coding.model import unpack_model
from rdae.data.photographs import find_images, read_rgb
from rdae.recipes import CODEC_RECIPES
from rdae.reports.relaxation import measure, summary, to_json
from rdae.training.checkpoint import load_checkpoint
from rdae.training.export_convolutional import export_convolutional

QUALITIES = (0, 25, 50, 75, 100)


def centre(pixels: np.ndarray, side: int) -> np.ndarray:
    """The middle `side` rows and columns."""
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def main() -> None:
    """Measures, prints a summary and writes the points."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--images-limit", type=int)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    state = load_checkpoint(arguments.checkpoint)
    recipe = CODEC_RECIPES[state["recipe"]["name"]]()
    model = recipe.trained(state["average"]["average"])
    codec = Codec(unpack_model(export_convolutional(model, recipe, {}), threads=torch.get_num_threads()))
    lams = [float(codec.model.lam[codec.level(quality)]) for quality in QUALITIES]
    paths = [path for path, _ in find_images(arguments.images)][: arguments.images_limit]
    images = {path.stem: centre(read_rgb(path), arguments.side) for path in paths}
    points = measure(model, images, lams, codec=codec, draws=arguments.draws, seed=arguments.seed)
    for row in summary(points):
        print(" ".join(f"{name} {value:.4g}" for name, value in row._asdict().items() if value is not None))
    about = {
        "recipe": recipe.name,
        "steps": state["step"],
        "batch": state["recipe"]["batch"],
        "images": len(images),
        "side": arguments.side,
        "draws": arguments.draws,
        "seed": arguments.seed,
        "qualities": dict(zip(map(str, QUALITIES), lams, strict=True)),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(to_json(points, **about), encoding="utf-8")


if __name__ == "__main__":
    main()
