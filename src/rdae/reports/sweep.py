"""A sweep as a table of Markdown, a JSON file and a curve of distortion against rate."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rdae.coding.files import write_text
from rdae.measures.measure import Measure
from rdae.recipes.sweep import Setting
from rdae.reports.drawing import Figure

__all__ = ["curve_figure", "sweep_table", "write_sweep"]

RATE, DISTORTION = "rate_nats", "distortion"
ABSENT = "–"


def _number(measure: Measure) -> str:
    value = f"{measure.value:.5g}"
    return value if math.isnan(measure.standard_error) else f"{value} ± {measure.standard_error:.2g}"


def sweep_table(rows: Sequence[Setting]) -> str:
    """One row for each combination of options: means over seeds, with standard errors where there are several."""
    names, measured = list(rows[0].options), list(dict.fromkeys(name for row in rows for name in row.measures))
    lines = [
        "| " + " | ".join([*names, "seeds", *measured]) + " |",
        "|" + "---|" * len(names) + "---:|" * (1 + len(measured)),
    ]
    for row in rows:
        numbers = [_number(row.measures[name]) if name in row.measures else ABSENT for name in measured]
        cells = [*map(str, row.options.values()), str(len(row.seeds)), *numbers]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def curve_figure(rows: Sequence[Setting]) -> Figure:
    """Distortion against rate, a point for each row, joined in the order of their rates."""
    points = [(row.measures[RATE], row.measures[DISTORTION], row.options) for row in rows]
    points.sort(key=lambda point: (point[0].value, point[1].value))
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.errorbar(
        [rate.value for rate, _, _ in points], [distortion.value for _, distortion, _ in points],
        xerr=[_bar(rate) for rate, _, _ in points], yerr=[_bar(distortion) for _, distortion, _ in points],
        marker="o", capsize=2,
    )  # fmt: skip
    for rate, distortion, options in points:
        words = ", ".join(f"{name} {value}" for name, value in options.items())
        axes.annotate(words, (rate.value, distortion.value), (4, 4), textcoords="offset points", fontsize=8)
    axes.set(xlabel="rate, nats per example", ylabel="distortion")
    return figure


def _bar(measure: Measure) -> float:
    return 0.0 if math.isnan(measure.standard_error) else measure.standard_error


def write_sweep(rows: Sequence[Setting], folder: Path) -> str:
    """Writes `sweep.json`, `sweep.md` and, of models with a rate and a distortion, `sweep.png`; returns the table."""
    table = sweep_table(rows)
    write_text(folder / "sweep.md", table + "\n")
    plain: list[dict[str, Any]] = [
        {
            "options": row.options, "seeds": row.seeds,
            "measures": {name: [_plain(m.value), _plain(m.standard_error)] for name, m in row.measures.items()},
        }
        for row in rows
    ]  # fmt: skip
    write_text(folder / "sweep.json", json.dumps(plain, indent=1) + "\n")
    both = [row.measures[name].value for row in rows for name in (RATE, DISTORTION) if name in row.measures]
    if len(both) == 2 * len(rows) and all(math.isfinite(value) for value in both):
        curve_figure(rows).savefig(folder / "sweep.png", dpi=120)
    return table


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
