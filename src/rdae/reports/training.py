"""How a training run went, from its log."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np

from rdae.errors import DataError
from rdae.reports.drawing import Figure

__all__ = ["training_figure"]

SMOOTH = 12  # lines of the log in a running mean


def training_figure(log: Iterable[str]) -> Figure:
    """Loss, bits per pixel and PSNR of a codec's training crops against steps.

    Args:
        log: the lines of `log.jsonl` in the folder of the run.

    Raises:
        DataError: the log holds no training steps.
    """
    records = {r["step"]: r for r in map(json.loads, log) if "loss" in r}  # a resumed run repeats some: the last counts
    if len(records) < 2:
        raise DataError("This log holds fewer than two lines of training. Pass log.jsonl of a run that has begun.")
    steps = np.array(sorted(records))
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    panels = figure.subplots(1, 3)
    names = {"loss": "loss", "bpp": "bits per pixel", "psnr_db": "PSNR, dB"}
    for axes, (name, label) in zip(panels, names.items(), strict=True):
        values = np.array([records[step][name] for step in steps])
        width = min(SMOOTH, len(values))
        mean = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(steps, values, color="0.8", linewidth=0.6)
        axes.plot(steps[width - 1 :], mean, color="C0")
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        low, high = np.quantile(values, (0.005, 0.985))  # the first steps would flatten the rest
        room = 0.1 * (high - low) or 1.0
        axes.set_ylim(low - room, high + room)
    return figure
