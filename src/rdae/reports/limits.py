"""How few nats would do, as a table, a JSON file and a picture of the curve between its bounds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from rdae.coding.files import write_text
from rdae.measures.measure import Measure
from rdae.objectives import BITS_PER_NAT
from rdae.recipes.limits import Limits, as_plain
from rdae.reports.drawing import Figure

__all__ = ["limits_figure", "limits_table", "write_limits"]

VACUOUS = "says nothing"


def limits_table(found: Limits) -> str:
    """Bounds in bits per example, one row for each multiplier."""
    lines = [
        f"{found.data}: {found.dimension} numbers an example, {found.examples[0]} examples to learn from, "
        f"{found.examples[1]} to judge by, {found.examples[2]} at a time below",
        "",
        "| λ | squared error | R(D) at most: trained model, bits | R(D) at least, bits | "
        "best channel of a Gaussian: squared error | R(D) at most, bits |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for limit in found.limits:
        lower = VACUOUS if limit.vacuous else _bits(limit.lower)
        lines.append(
            f"| {limit.lam:.4g} | {limit.distortion.value:.4g} ± {limit.distortion.standard_error:.2g} | "
            f"{_bits(limit.upper)} | {lower} | {limit.linear[1].value:.4g} | {_bits(limit.linear[0])} |"
        )
    return "\n".join(lines)


def _bits(measure: Measure) -> str:
    return f"{measure.value * BITS_PER_NAT:.4g} ± {measure.standard_error * BITS_PER_NAT:.2g}"


def limits_figure(found: Limits) -> Figure:
    """Rate in bits against squared error, both on logarithmic scales where they can be."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    d = np.array([limit.distortion.value for limit in found.limits])
    upper = np.array([limit.upper.value for limit in found.limits]) * BITS_PER_NAT
    linear = sorted((limit.linear[1].value, limit.linear[0].value * BITS_PER_NAT) for limit in found.limits)
    order = np.argsort(d)
    axes.plot(d[order], upper[order], "o-", label="trained models: at most")
    axes.plot(
        *zip(*linear, strict=True), "s--", color="grey", markersize=4, label="best channel of a Gaussian: at most"
    )
    grid = np.geomspace(d.min(), d.max(), 200)
    lines = np.array([[t.rate(x).value for t in found.tangents] for x in grid]) * BITS_PER_NAT
    lower = lines.max(1)
    if (lower > 0).any():
        axes.plot(grid, np.where(lower > 0, lower, np.nan), label="learned tangents: at least")
        axes.fill_between(grid, np.maximum(lower, 0), np.interp(grid, d[order], upper[order]), alpha=0.12)
    else:
        axes.plot([], [], " ", label="the lower bound says nothing here")
    axes.set(xscale="log", xlabel="squared error per example", ylabel="rate, bits per example", ylim=(0, None))
    ticks = np.geomspace(d.min(), d.max(), 4)
    axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    return figure


def write_limits(found: Limits, folder: Path) -> str:
    """Writes `limits.json`, `limits.md` and `limits.png`; returns the table."""
    table = limits_table(found)
    write_text(folder / "limits.md", table + "\n")
    plain = {
        "data": found.data, "dimension": found.dimension, "examples": list(found.examples),
        "limits": as_plain(found.limits),
        "tangents": [{"lam": t.lam, "intercept_nats": list(t.intercept[:2])} for t in found.tangents],
    }  # fmt: skip
    write_text(folder / "limits.json", json.dumps(plain, indent=1) + "\n")
    limits_figure(found).savefig(folder / "limits.png", dpi=120)
    return table
