"""What the training loop costs beyond the bare PyTorch steps: the same network, batches and optimiser, in one run.

    python benchmarks/training_loop.py FOLDER [--steps 40]

Rounds of both are interleaved; minima are compared. The bare loop has its batches ready in memory; the package's loop
reads pictures, each from disk the first time and then from its cache: its first steps are told apart from later ones.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from rdae.data.photographs import Crops, find_images
from rdae.recipes.photo import photo
from rdae.training.codec_recipe import draw_lam, step_loss
from rdae.training.loop import Settings, train


def bare(steps: int, batches: list[torch.Tensor]) -> float:
    """Seconds of a plain loop."""
    recipe = photo(steps=steps)
    model = recipe.model()
    optimizer = recipe.optimizer(model)
    began = time.perf_counter()
    for step in range(steps):
        y = batches[step].float() / 255
        loss, _ = step_loss(model, y, draw_lam(recipe, 0, step, slice(None)))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return time.perf_counter() - began


def looped(steps: int, folder: Path) -> tuple[float, float]:
    """Seconds of the package's loop, less what it does once: the first steps, and as many after them."""
    recipe = photo(steps=steps)
    times = []
    for count in (1, steps + 1, 2 * steps + 1):
        with tempfile.TemporaryDirectory() as out:
            began = time.perf_counter()
            train(replace(recipe, steps=count), Settings(data=folder, out=Path(out), accelerator="cpu", devices="1"))
            times.append(time.perf_counter() - began)
    return times[1] - times[0], times[2] - times[1]


def main() -> None:
    """Compares the two."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    recipe = photo()
    crops = Crops(find_images(arguments.folder), size=recipe.size, batch=recipe.batch, steps=arguments.steps, seed=0)
    batches = [crops[step] for step in range(arguments.steps)]
    plain, ours = [], []
    for _ in range(arguments.rounds):
        plain.append(bare(arguments.steps, batches))
        ours.append(looped(arguments.steps, arguments.folder))
    first, later = (min(seconds) for seconds in zip(*ours, strict=True))
    for name, seconds in (("first", first), ("next", later)):
        share = 100 * (seconds / min(plain) - 1)
        print(f"{name} {arguments.steps} steps: bare {min(plain):.2f} s, loop {seconds:.2f} s, overhead {share:.1f} %")


if __name__ == "__main__":
    main()
