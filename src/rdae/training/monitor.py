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


class Monitor:
    """Shows rate in bits per pixel and distortion in dB.

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
        text = f"{means['bpp']:.3f} bpp  {means['psnr_db']:.2f} dB  loss {means['loss']:.4f}"
        self._bar.update(self._task, completed=step, report=text)
        self._write({"step": step, **means})

    def validation(self, step: int, points: list[dict[str, float]]) -> None:
        """Takes the points of a validation."""
        for point in points:
            tag = f"valid/q{point['quality']:g}"
            self._bar.console.print(
                f"step {step}: quality {point['quality']:g}: {point['bpp']:.4f} bpp, {point['psnr_db']:.3f} dB"
            )
            self._write({"step": step, "valid_quality": point["quality"], **point}, prefix=tag)

    def _write(self, numbers: dict[str, float], prefix: str = "train") -> None:
        for name in ("bpp", "psnr_db", "loss"):
            if name in numbers:
                self._board.add_scalar(f"{prefix}/{name}", numbers[name], int(numbers["step"]))
        self._log.write(json.dumps({k: round(v, 6) for k, v in numbers.items()}) + "\n")
        self._log.flush()

    def close(self) -> None:
        """Ends the bar and the files."""
        if self.active:
            self._bar.stop()
            self._board.close()
            self._log.close()
