"""An epoch of a Gaussian VAE: the package's loop, the same steps in bare PyTorch, and pythae, interleaved in one run.

    python benchmarks/generative.py [--data mnist] [--pythae PYTHON] [--rounds 3] [--json FILE]

PYTHON is an interpreter of an environment with torch and pythae 0.1.2. Network (784-200-200-50, tanh), batch 100, data
(binarised, in memory), optimiser (Adam) and threads are the same for all. An epoch is a run of two epochs less a run of
one. The bare loop differs from the package's in nothing but the loop: it keeps the weight average too, for a share of
the time that is told apart. Two more rows bound what any loop could do: the same steps through `torch.compile` (which
needs a C++ compiler; what compiling itself takes is not counted), and the matrix products of the network alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from rdae.data.arrays import ArrayData, Binarisation, binarise
from rdae.data.sources import open_data
from rdae.recipes import generative_recipe
from rdae.training.averaging import WeightAverage
from rdae.training.generative_recipe import GenerativeRecipe
from rdae.training.loop import Settings, train
from rdae.training.recipe import Step

HIDDEN, LATENT, BATCH = 200, 50, 100


def recipe_for(data: ArrayData) -> GenerativeRecipe:
    """The model that all of them train."""
    options = {"hidden": (HIDDEN, HIDDEN), "latent": LATENT, "batch": BATCH, "network": "dense"}
    return generative_recipe("gaussian_vae", data, None, options)


def looped(recipe: GenerativeRecipe, steps: int) -> float:
    """Seconds of an epoch of the package's loop."""
    times = []
    for epochs in (1, 2):
        with tempfile.TemporaryDirectory() as out:
            began = time.perf_counter()
            settings = Settings(data=Path(out), out=Path(out), accelerator="cpu", devices="1")
            train(replace(recipe, steps=epochs * steps), settings)
            times.append(time.perf_counter() - began)
    return times[1] - times[0]


def compiled(recipe: GenerativeRecipe) -> Any:
    """The loss of a model in `torch.compile`, once for all rounds."""
    model = recipe.model().train()
    step = Step(1, 0, slice(None))  # a step's number and seed draw its noise: one for all, or each would be compiled
    loss = torch.compile(lambda batch: recipe.loss(model, batch, step)[0])
    return model, loss


def compiled_epoch(recipe: GenerativeRecipe, steps: int, model: Any, loss: Any) -> float:
    """Seconds of an epoch of a plain loop over the compiled loss."""
    optimizer = recipe.optimizer(model)
    values = recipe.data.values.float()
    began = time.perf_counter()
    order = torch.randperm(len(values))
    for step in range(steps):
        optimizer.zero_grad()
        loss(values[order[step * BATCH : (step + 1) * BATCH]]).backward()
        optimizer.step()
    return time.perf_counter() - began


def products(steps: int, pixels: int) -> float:
    """Seconds of the matrix products of an epoch: each layer's outputs, and both of its gradients."""
    layers = [(pixels, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 2 * LATENT)]
    layers += [(LATENT, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, pixels)]
    parts = [(torch.randn(BATCH, a), torch.randn(a, b), torch.randn(BATCH, b)) for a, b in layers]
    began = time.perf_counter()
    for _ in range(steps):
        for x, weight, gradient in parts:
            _ = x @ weight, x.T @ gradient, gradient @ weight.T
    return time.perf_counter() - began


def bare(recipe: GenerativeRecipe, steps: int, *, average: bool) -> float:
    """Seconds of an epoch of a plain loop over the same batches."""
    model = recipe.model().train()
    optimizer = recipe.optimizer(model)
    kept = WeightAverage(model, recipe.average) if average else None
    values = recipe.data.values.float()
    began = time.perf_counter()
    order = torch.randperm(len(values))
    for step in range(steps):
        loss, _ = recipe.loss(model, values[order[step * BATCH : (step + 1) * BATCH]], Step(step + 1, 0, slice(None)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if kept is not None:
            kept.update()
    return time.perf_counter() - began


class _Pythae:
    """A subprocess that answers each line with the seconds of an epoch."""

    def __init__(self, python: str, data: Path) -> None:
        script = Path(__file__).with_name("pythae_speed.py")
        words = [python, str(script), str(data), str(BATCH), str(HIDDEN), str(LATENT)]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=nothing, text=True)

    def __call__(self) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print("epoch", file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())


def main() -> None:
    """Times everything in turn and prints medians and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--pythae", metavar="PYTHON")
    parser.add_argument("--compile", action="store_true", help="with a row for torch.compile")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=60_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    data = binarise(open_data(arguments.data), Binarisation.THRESHOLD, seed=0)
    data = replace(data, values=data.values[: arguments.examples], labels=None)
    recipe, steps = recipe_for(data), len(data) // BATCH
    runs = {
        "rdae": lambda: looped(recipe, steps),
        "bare PyTorch": lambda: bare(recipe, steps, average=False),
        "bare PyTorch, weights averaged": lambda: bare(recipe, steps, average=True),
        "matrix products alone": lambda: products(steps, data.values[0].numel()),
    }
    if arguments.compile:
        model, loss = compiled(recipe)
        compiled_epoch(recipe, 3, model, loss)
        runs["bare PyTorch, compiled"] = lambda: compiled_epoch(recipe, steps, model, loss)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.pythae:
            path = Path(folder) / "data.npy"
            np.save(path, data.values.flatten(1).float().numpy())
            runs["pythae"] = _Pythae(arguments.pythae, path)
        looped(recipe, 20)  # what is done once in a process is done
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(arguments.rounds):
            for name, run in runs.items():
                seconds[name].append(run())
    middle = {name: median(times) for name, times in seconds.items()}
    print(
        f"{len(data)} examples, batch {BATCH}, {torch.get_num_threads()} threads, medians of {arguments.rounds} rounds"
    )
    for name, time_ in middle.items():
        print(f"{name:32s} {time_:7.2f} s an epoch   {time_ / middle['rdae']:5.2f} x rdae")
    if arguments.json:
        arguments.json.write_text(json.dumps({"seconds": seconds, "threads": torch.get_num_threads()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
