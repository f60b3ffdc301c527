"""What a run shows while it lasts: a progress bar on stderr, TensorBoard, and a log file of plain lines."""

from __future__ import annotations

import json
import math
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

__all__ = ["Monitor"]

EVERY = 20


FORMATS = {"bpp": "{:.3f} bpp", "psnr_db": "{:.2f} dB", "quality": "quality {:g}"}


def _text(numbers: dict[str, float]) -> str:
    """Numbers for people: a unit where the name of the number ends in one."""
    parts = []
    for name, value in numbers.items():
        word, _, unit = name.rpartition("_")
        plain = f"{word.replace('_', ' ')} {{:.2f}} {unit}" if unit in ("nats", "bits") else f"{name} {{:.4g}}"
        parts.append(FORMATS.get(name, plain).format(value))
    return "  ".join(parts)


def _cut(log: Path, first: int) -> None:
    """Drops what a killed run wrote beyond the step that it goes on from."""
    if log.exists():
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= first]
        log.write_text("".join(kept), encoding="utf-8")


class Monitor:
    """Shows and keeps what each step and each validation reports.

    Args:
        out: folder of the run; gets `tensorboard/` and `log.jsonl`.
        steps: of the run.
        first: step the run starts or goes on from.
        active: False in all processes but the first.
    """

    def __init__(self, out: Path, steps: int, first: int, *, active: bool) -> None:
        self.active = active
        self._waiting: list[dict[str, Tensor]] = []
        if not active:
            return
        out.mkdir(parents=True, exist_ok=True)
        _cut(out / "log.jsonl", first)
        self._log = open(out / "log.jsonl", "a", encoding="utf-8")  # noqa: SIM115  (close() closes it)
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=first)
        self._bar = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[report]}"),
            TimeRemainingColumn(), console=Console(stderr=True),
        )  # fmt: skip
        self._task = self._bar.add_task("training", total=steps, completed=first, report="")
        self._bar.start()

    def step(self, step: int, report: dict[str, Tensor]) -> None:
        """Takes the numbers of one step; shows their mean every 20 steps, so that a device need not wait for each."""
        if not self.active:
            return
        self._waiting.append(report)
        self._last = step
        if step % EVERY == 0:
            self._show(step)

    def _show(self, step: int) -> None:
        means = {}
        for name in dict.fromkeys(name for report in self._waiting for name in report):  # players report by turns
            values = [float(report[name]) for report in self._waiting if name in report]
            means[name] = sum(values) / len(values)
        self._waiting = []
        self._bar.update(self._task, completed=step, report=_text(means))
        self._write(step, means, "train")

    def validation(self, step: int, points: list[dict[str, float]]) -> None:
        """Takes the points of a validation; points at several qualities are told apart by it."""
        for point in points:
            self._bar.console.print(f"step {step}: {_text(point)}")
            where = f"valid/q{point['quality']:g}" if "quality" in point else "valid"
            self._write(step, point, where)

    def _write(self, step: int, numbers: dict[str, float], prefix: str) -> None:
        for name, value in numbers.items():
            self._board.add_scalar(f"{prefix}/{name}", value, step)
        valid = {} if prefix == "train" else {"valid": True}
        plain = {name: round(value, 6) if math.isfinite(value) else None for name, value in numbers.items()}
        self._log.write(json.dumps({"step": step, **valid, **plain}) + "\n")
        self._log.flush()

    def close(self) -> None:
        """Shows what is left, and ends the bar and the files."""
        if self.active:
            if self._waiting:
                self._show(self._last)
            self._bar.stop()
            self._board.close()
            self._log.close()
