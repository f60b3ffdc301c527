"""What a run shows while it lasts: a progress bar on stderr, TensorBoard, and a log file of plain lines."""

from __future__ import annotations

import json
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
        if step % EVERY:
            return
        means = {name: sum(float(r[name]) for r in self._waiting) / len(self._waiting) for name in report}
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
        self._log.write(json.dumps({"step": step, **valid, **{k: round(v, 6) for k, v in numbers.items()}}) + "\n")
        self._log.flush()

    def close(self) -> None:
        """Ends the bar and the files."""
        if self.active:
            self._bar.stop()
            self._board.close()
            self._log.close()
