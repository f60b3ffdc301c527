"""Rounds per second of adversarial games: the package's loop beside bare PyTorch, torchgan and torch-mimicry, in turns.

    python benchmarks/games.py [--torchgan PYTHON] [--mimicry PYTHON] [--only sngan] [--rounds 5] [--json FILE]

A round is a turn of the critic and one of the generator. PYTHON is an interpreter of an environment with this PyTorch,
NumPy, Pillow and torchgan 0.1.0 or torch-mimicry 0.1.16, both installed with `--no-deps`: what they import for
pictures, scores and data sets is stood in for (games_networks.py), and they train without it. Networks, the one batch,
in memory, losses, optimisers (AdamW, one each) and threads are the same. Each contestant is a process that trains when
asked to, a block of rounds at a time, and waits while the others do. Ratios are of blocks that followed each other,
median and range: more than 1 is slower than the package. On a machine that is shared, CPU seconds count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from contestants import Contestant, in_turns, ratios

HERE = Path(__file__).parent
RDAE, BARE = "rdae", "bare PyTorch"


class Contest(NamedTuple):
    """What is trained, beside whom, and how many rounds a block has."""

    networks: str
    game: str
    peer: str | None
    block: int


CONTESTS = (
    Contest("points", "non_saturating", "torchgan", 30),
    Contest("points", "r3gan", None, 30),
    Contest("pictures", "non_saturating", "torchgan", 2),
    Contest("pictures", "wgan_gp", "torchgan", 2),
    Contest("sngan", "hinge", "mimicry", 1),
)


def entered(contest: Contest, pythons: dict[str, str | None]) -> dict[str, Contestant]:
    """The processes of a contest, those of peers that are there."""
    own = [sys.executable, str(HERE / "games_rdae.py"), contest.networks, contest.game]
    bare = [sys.executable, str(HERE / "games_bare.py"), contest.networks, contest.game]
    if contest.networks == "sngan":
        where = [str(pythons["mimicry"]), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        folder = subprocess.run(where, check=True, capture_output=True, text=True).stdout.strip()
        own, bare = [*own, folder], [*bare, folder]
    commands = {RDAE: own, BARE: bare}
    python = pythons.get(contest.peer or "")
    if python:
        commands[str(contest.peer)] = [
            python, str(HERE / f"games_{contest.peer}.py"), contest.networks, contest.game,
        ]  # fmt: skip
    return {name: Contestant(command) for name, command in commands.items()}


def measured(contestants: dict[str, Contestant], rounds: int, steps: int) -> dict[str, Any]:
    """What each contestant is and took, by name."""
    blocks = in_turns(contestants, rounds, steps)
    return {
        name: {
            **contestant.facts,
            "rounds_a_second": 1 / median(block["seconds"] for block in blocks[name]),
            "cpu_seconds_a_round": median(block["cpu_seconds"] for block in blocks[name]),
            "times_rdae": {clock: ratios(blocks[name], blocks[RDAE], clock) for clock in ("seconds", "cpu_seconds")},
            "blocks": [{clock: round(value, 5) for clock, value in block.items()} for block in blocks[name]],
        }
        for name, contestant in contestants.items()
    }


def main() -> None:
    """Trains in turns, contest by contest, and prints medians and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--torchgan", metavar="PYTHON")
    parser.add_argument("--mimicry", metavar="PYTHON", help="without it there is no contest on its networks")
    parser.add_argument("--only", choices=sorted({contest.networks for contest in CONTESTS}), help="these networks")
    parser.add_argument("--rounds", type=int, default=5, help="blocks of each contestant")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pythons = {"torchgan": arguments.torchgan, "mimicry": arguments.mimicry}
    report = {}
    print(f"{'':34}{'ms of CPU':>10}{'rounds/s':>10}{'CPU, times rdae':>24}{'clock, times rdae':>24}")
    for contest in CONTESTS:
        if arguments.only not in (None, contest.networks) or (contest.networks == "sngan" and not arguments.mimicry):
            continue
        contestants = entered(contest, pythons)
        rows = measured(contestants, arguments.rounds, contest.block)
        for contestant in contestants.values():
            contestant.close()
        report[f"{contest.networks}, {contest.game}"] = rows
        for name, row in rows.items():
            spreads = [
                f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})"
                for ratio in (row["times_rdae"]["cpu_seconds"], row["times_rdae"]["seconds"])
            ]
            print(
                f"{contest.networks + ', ' + contest.game:22}{name:12}{1000 * row['cpu_seconds_a_round']:>10.1f}"
                f"{row['rounds_a_second']:>10.2f}{spreads[0]:>24}{spreads[1]:>24}",
                flush=True,
            )
        if arguments.json:
            arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
