"""Why a rate is mutual information: code length, differential entropy and information of a noisy latent.

    python scripts/quantised_entropy.py

The latent is z = a (y + noise), y ~ N(0, 1), noise of standard deviation 0.5. It is rounded to ever smaller steps at
a = 1, and multiplied by a at step 1. Writes docs/results/quantised-entropy.json and docs/images/quantised-entropy.png,
and fills in the table of docs/limits.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rdae.measures.information import RoundedChannel, rounded_channel
from rdae.objectives import BITS_PER_NAT
from rdae.reports.drawing import Axes, Figure

DOCS = Path(__file__).parent.parent / "docs"
NOISE = 0.5
FINENESS = np.arange(-3.0, 8.25, 0.25)  # -log2 of the step
SIZES = np.arange(-6.0, 5.25, 0.25)  # log2 of a
COLOURS = {"code": "tab:blue", "differential": "tab:orange", "information": "tab:green"}


def in_bits(channel: RoundedChannel) -> list[dict[str, float]]:
    """A row for each case."""
    names = ("code_length", "differential", "information", "limit")
    columns = {f"{name}_bits": getattr(channel, name) * BITS_PER_NAT for name in names}
    columns = {"step": channel.step, "scale": channel.scale, **columns}
    return [
        dict(zip(columns, (float(f"{value:.9g}") for value in row), strict=True))
        for row in zip(*columns.values(), strict=True)
    ]


def draw(axes: Axes, across: np.ndarray, rows: list[dict[str, float]], *, differential: str, rounded: bool) -> None:
    """Code length, differential entropy and mutual information."""

    def column(name: str) -> list[float]:
        return [row[f"{name}_bits"] for row in rows]

    axes.plot(across, column("code_length"), color=COLOURS["code"], label="H(round z), code length")
    axes.plot(across, column("differential"), "--", color=COLOURS["differential"], label=differential)
    axes.plot(across, column("limit"), color=COLOURS["information"], label="I(y; z)")
    if rounded:
        axes.plot(across, column("information"), ":", color=COLOURS["information"], lw=2, label="I(y; round z)")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(ylabel="bits")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, loc="upper left")


def figure(finer: list[dict[str, float]], larger: list[dict[str, float]]) -> Figure:
    """Both panels."""
    drawn = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = drawn.subplots(1, 2)
    draw(left, FINENESS, finer, differential="h(z) \u2212 log\u2082 step", rounded=True)
    left.set(title="rounded more and more finely", xlabel="\u2212log\u2082 of the step")
    draw(right, SIZES, larger, differential="h(z), differential entropy", rounded=False)
    right.set(title="multiplied by a, rounded to whole numbers", xlabel="log\u2082 of a")
    return drawn


def table(rows: list[dict[str, float]]) -> str:
    """Markdown, every second power of two."""
    lines = [
        "| step | code length H(round z), bits | h(z) \u2212 log\u2082 step | I(y; round z), bits | I(y; z) |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        exponent = np.log2(row["step"])
        if exponent == round(exponent) and int(exponent) % 2 == 0 and exponent <= 2:
            step = f"{row['step']:g}" if exponent >= 0 else f"1/{1 / row['step']:g}"
            names = ("code_length", "differential", "information", "limit")
            lines.append(f"| {step} | " + " | ".join(f"{row[f'{name}_bits']:.4f}" for name in names) + " |")
    return "\n".join(lines)


def main() -> None:
    """Computes, writes, draws and fills in."""
    finer = in_bits(rounded_channel(NOISE, 2.0**-FINENESS))
    larger = in_bits(rounded_channel(NOISE, 1.0, 2.0**SIZES))
    about: dict[str, Any] = {"noise": NOISE, "finer": finer, "larger": larger}
    rows = {name: ",\n  ".join(json.dumps(row) for row in about[name]) for name in ("finer", "larger")}
    lists = ",\n".join(f' "{name}": [\n  {text}\n ]' for name, text in rows.items())
    (DOCS / "results" / "quantised-entropy.json").write_text(f'{{\n "noise": {NOISE},\n{lists}\n}}\n', encoding="utf-8")
    figure(finer, larger).savefig(DOCS / "images" / "quantised-entropy.png", dpi=100)
    page = DOCS / "limits.md"
    head, rest = page.read_text(encoding="utf-8").split("<!-- quantised -->")
    end = "<!-- /quantised -->"
    page.write_text(f"{head}<!-- quantised -->\n{table(finer)}\n{end}{rest.split(end)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
