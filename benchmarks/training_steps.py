"""Training steps a second of a hyperprior: the package's loop beside CompressAI's, in turns, in one run.

    python benchmarks/training_steps.py --compressai PYTHON [--rounds 7] [--steps 2] [--json FILE]

PYTHON is an interpreter as speed.py needs it. Each contestant is a process that trains when asked to, a block of steps
at a time, and waits while the others do. Batch (in memory) and threads are the same.

CompressAI: bmshj2018-hyperprior, quality 4, in the loop of its examples/train.py: Adam, gradients clipped, the
auxiliary optimiser of its quantiles. The package: `rdae.training.loop` with AdamW, gradients clipped, weights averaged.

`equal layers` has CompressAI's layers, channel for channel, with divisive normalisation, which the package itself does
not offer. What differs is what the package does otherwise: the density of the summary (mixtures of three logistics in
place of a small network), the Gaussian's mass of a bin (in logarithms, exact in both tails), the loss (weighted by each
picture's rate), the optimiser and the average. `recipe's network` is another network with as many channels, see
`rdae.recipes.hyperprior`. The last two columns are ratios of blocks that followed each other, median and range:
more than 1 is faster than CompressAI. On a machine that is shared, CPU seconds count.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from contestants import Contestant, in_turns, ratios

COMPRESSAI = "CompressAI bmshj2018-hyperprior"


def measured(contestants: dict[str, Contestant], rounds: int, steps: int) -> dict[str, Any]:
    """What each contestant is and took, by name; blocks in turns, after one that does not count."""
    blocks = in_turns(contestants, rounds, steps)
    return {
        name: {
            **contestant.facts,
            "steps_a_second": 1 / median(block["seconds"] for block in blocks[name]),
            "cpu_seconds_a_step": median(block["cpu_seconds"] for block in blocks[name]),
            "times_compressai": {
                clock: ratios(blocks[COMPRESSAI], blocks[name], clock) for clock in ("seconds", "cpu_seconds")
            },
            "blocks": [{clock: round(value, 4) for clock, value in block.items()} for block in blocks[name]],
        }
        for name, contestant in contestants.items()
    }


def text(report: dict[str, Any]) -> str:
    """The report as a table."""
    heads = f"{'weights':>11}{'G multiply-adds':>17}{'steps/s':>9}{'CPU s':>8}{'beside, clock':>23}{'beside, CPU':>23}"
    lines = [f"{'':<33}{heads}"]
    for name, row in report.items():
        products = (row["forward_multiply_adds"] + row["backward_multiply_adds"]) / 1e9
        beside = [
            f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})"
            for ratio in row["times_compressai"].values()
        ]
        lines.append(
            f"{name:<33}{row['parameters']:>11,}{products:>17.1f}{row['steps_a_second']:>9.3f}"
            f"{row['cpu_seconds_a_step']:>8.2f}{beside[0]:>23}{beside[1]:>23}"
        )
    return "\n".join(lines)


def main() -> None:
    """Trains in turns and prints medians, and ratios of blocks that followed each other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--compressai", metavar="PYTHON", required=True)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--side", type=int, default=256, help="of pictures, a multiple of 64")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="of a block")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    here, size = Path(__file__).parent, [str(arguments.batch), str(arguments.side)]
    contestants = {
        COMPRESSAI: Contestant([arguments.compressai, str(here / "compressai_training.py"), *size]),
        "rdae, equal layers": Contestant([sys.executable, str(here / "rdae_training.py"), "equal", *size]),
        "rdae, recipe's network": Contestant([sys.executable, str(here / "rdae_training.py"), "recipe", *size]),
    }
    report = measured(contestants, arguments.rounds, arguments.steps)
    for contestant in contestants.values():
        contestant.close()
    facts = contestants[COMPRESSAI].facts
    print(
        f"batch {arguments.batch} x 3 x {arguments.side} x {arguments.side}, threads: {facts['threads']}, "
        f"PyTorch {facts['torch']}, {arguments.rounds} rounds of blocks of {arguments.steps} steps"
    )
    print(text(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
