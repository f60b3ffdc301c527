"""Contestants of a benchmark: processes that train a block of steps when asked to, and wait while the others do.

Only the standard library is imported, for some contestants live in other environments.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

__all__ = ["Block", "Contestant", "in_turns", "ratios", "steps_asked_for"]

Block = dict[str, float]  # "seconds" and "cpu_seconds" of a step


class Contestant:
    """A process that answers each line, a number of steps, with what they took."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.facts = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"A contestant ended early. See why with: {' '.join(self._command)}")
        return json.loads(line)

    def train(self, steps: int) -> Block:
        """Seconds and CPU seconds of a step."""
        assert self._process.stdin is not None
        print(steps, file=self._process.stdin, flush=True)
        return {name: value / steps for name, value in self._answer().items()}

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def in_turns(contestants: dict[str, Contestant], rounds: int, steps: int) -> dict[str, list[Block]]:
    """What blocks of steps took, by name; in turns, after one block that does not count."""
    blocks: dict[str, list[Block]] = {name: [] for name in contestants}
    for contestant in contestants.values():
        contestant.train(steps)  # what is done once is done
    for _ in range(rounds):
        for name, contestant in contestants.items():
            blocks[name].append(contestant.train(steps))
    return blocks


def ratios(above: list[Block], below: list[Block], clock: str) -> dict[str, float]:
    """Median and range of the ratios of blocks that followed each other."""
    values = [a[clock] / b[clock] for a, b in zip(above, below, strict=True)]
    return {"median": median(values), "least": min(values), "most": max(values)}


def steps_asked_for(facts: dict[str, Any]) -> Iterator[None]:
    """The contestant's side: yields once for each step, tells the time after each block, and ends the process at last.

    Args:
        facts: the first answer. What is printed from then on goes to standard error; a contestant that prints before
            sends `sys.stdout` there itself.
    """
    answers, sys.stdout = sys.__stdout__, sys.stderr
    print(json.dumps(facts), file=answers, flush=True)
    for line in sys.stdin:
        began = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            yield
        taken = {"seconds": time.perf_counter() - began[0], "cpu_seconds": time.process_time() - began[1]}
        print(json.dumps(taken), file=answers, flush=True)
    raise SystemExit
