"""Rounds per second of r3gan on the grid of 25 Gaussians: the package's loop beside bare PyTorch, interleaved.

    python benchmarks/games.py [--rounds 3] [--turns 2000] [--json FILE]

A round is a turn of the critic and one of the generator. Networks, batches, losses, optimisers (AdamW, one each) and
threads are the same; the bare loop takes plain steps and keeps the average of the generator's weights, as the package
does, or leaves that out. Times are those of `2 * turns` turns less those of `turns`, so that what is done once does not
count; CPU seconds are given too, for machines that others use.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from rdae.data.arrays import ArrayData, Kind
from rdae.data.synthetic import MixtureSource
from rdae.recipes import generative_recipe
from rdae.training.array_recipe import ArrayRecipe
from rdae.training.averaging import WeightAverage
from rdae.training.game_recipe import CRITIC, LEARNER
from rdae.training.loop import Settings, train

OPTIONS = {"network": "dense", "latent": 2, "hidden": (128, 128, 128), "batch": 256, "gamma": 0.03}


class Seconds(NamedTuple):
    """What a clock on the wall and one of the processor say."""

    wall: float
    cpu: float


def timed(work: Callable[[int], None], turns: int) -> Seconds:
    """Seconds of `turns` turns beyond the first `turns`."""
    marks = []
    for count in (turns, 2 * turns):
        began = time.perf_counter(), time.process_time()
        work(count)
        marks.append(Seconds(time.perf_counter() - began[0], time.process_time() - began[1]))
    return Seconds(marks[1].wall - marks[0].wall, marks[1].cpu - marks[0].cpu)


def looped(recipe: ArrayRecipe, turns: int) -> None:
    """The package's loop."""
    with tempfile.TemporaryDirectory() as out:
        settings = Settings(data=Path(out), out=Path(out), accelerator="cpu", devices="1")
        train(replace(recipe, steps=turns), settings)


def bare(recipe: ArrayRecipe, turns: int, *, average: bool) -> None:
    """Plain steps over the same batches."""
    pair = recipe.model().train()
    optimizers = recipe.optimizers(pair)
    kept = WeightAverage(pair.model, recipe.average) if average else None
    values = recipe.data.values
    for turn in range(turns):
        y = values[torch.randint(len(values), (recipe.batch,))]
        player = CRITIC if turn % 2 == 0 else LEARNER
        loss, _ = pair.critic_loss(y, turn // 2) if player == CRITIC else pair.generator_loss(y)
        optimizers[player].zero_grad()
        loss.backward()
        optimizers[player].step()
        if kept is not None and player == LEARNER:
            kept.update()


def main() -> None:
    """Times everything in turn and prints medians and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)  # as the package does
    values = torch.from_numpy(MixtureSource.grid().sample(100_000, seed=0)).float()
    recipe = generative_recipe("r3gan", ArrayData(values, Kind.REAL), None, OPTIONS)
    runs: dict[str, Callable[[int], None]] = {
        "rdae": lambda turns: looped(recipe, turns),
        "bare PyTorch": lambda turns: bare(recipe, turns, average=False),
        "bare PyTorch, weights averaged": lambda turns: bare(recipe, turns, average=True),
    }
    looped(recipe, 20)
    seconds: dict[str, list[Seconds]] = {name: [] for name in runs}
    for _ in range(arguments.rounds):
        for name, work in runs.items():
            seconds[name].append(timed(work, arguments.turns))
    print(f"{arguments.turns} turns, {torch.get_num_threads()} threads, medians of {arguments.rounds} rounds")
    middle = {name: Seconds(*(median(part) for part in zip(*own, strict=True))) for name, own in seconds.items()}
    for name, own in middle.items():
        rounds = arguments.turns / 2 / own.wall
        ratios = own.wall / middle["rdae"].wall, own.cpu / middle["rdae"].cpu
        print(f"{name:32s} {rounds:7.1f} rounds/s   time {ratios[0]:5.2f} x rdae, CPU {ratios[1]:5.2f} x rdae")
    if arguments.json:
        text = json.dumps({"turns": arguments.turns, "threads": torch.get_num_threads(), "seconds": seconds}, indent=1)
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
