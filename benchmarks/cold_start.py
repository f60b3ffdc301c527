"""Seconds of the command line from a cold start: the processor's, which a busy machine hardly changes, and the wall's.

python benchmarks/cold_start.py FILE.rdae [--runs 15]

Each command runs in processes of its own, by turns with the others; `python -c pass` is the interpreter alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import sysconfig
import tempfile
import time
from pathlib import Path


def seconds(command: list[str]) -> tuple[float, float]:
    """Processor (user and system) and wall seconds of a command, whose output is thrown away."""
    away = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)]
    began = time.perf_counter()
    _, status, used = os.wait4(os.posix_spawn(command[0], command, os.environ, file_actions=away), 0)
    wall = time.perf_counter() - began
    if status:
        raise SystemExit(f"{' '.join(command)} failed. Run it by hand to see why.")
    return used.ru_utime + used.ru_stime, wall


def main() -> None:
    """Reads the arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(options.file, options.runs, folder)


def compare(file: Path, runs: int, folder: str) -> None:
    """Prints minimum, median and maximum of each command."""
    rdae = str(Path(sysconfig.get_path("scripts")) / "rdae")
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "rdae --help": [rdae, "--help"],
        "rdae info": [rdae, "info", str(file)],
        "rdae compress --help": [rdae, "compress", "--help"],
        "rdae decompress": [rdae, "decompress", str(file), "-o", f"{folder}/out.png", "--overwrite"],
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            taken[name].append(seconds(command))
    print(f"{'':22}{'processor, s':>24}{'wall, s':>24}")
    print(f"{'':22}" + f"{'min':>8}{'median':>8}{'max':>8}" * 2)
    for name, times in taken.items():
        figures = [f(values) for values in zip(*times, strict=True) for f in (min, statistics.median, max)]
        print(f"{name:22}" + "".join(f"{figure:8.3f}" for figure in figures))


if __name__ == "__main__":
    main()
