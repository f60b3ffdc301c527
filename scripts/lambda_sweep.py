"""What lambda does to a latent space and to samples, over the runs of a sweep: part of docs/limits.md, with its figure.

    rdae sweep beta_vae --data mnist --over beta=20,10,5,2,1,0.5,0.1 --seeds 0,1 --set latent=8 \
        --set network=dense --set binarisation=dynamic --steps 3000 --validate-steps 3000 -o runs/lambda
    python scripts/lambda_sweep.py runs/lambda --data mnist

lambda is 1 / beta: beta * rate + distortion is rate + lambda * distortion but for a factor.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

import torch
from figures import put, table
from torch import Tensor

from rdae.data.arrays import ArrayData, Binarisation
from rdae.data.samples import drawn_samples
from rdae.data.sources import open_data
from rdae.measures.classifier import see
from rdae.measures.frechet import frechet_distance
from rdae.measures.information_bounds import information_bounds
from rdae.measures.overlap import aggregated_divergence, mean_overlap
from rdae.objectives import divergence
from rdae.recipes.model_file import open_model
from rdae.reports.drawing import Figure
from rdae.training.array_recipe import judged_on

DOCS = Path(__file__).parent.parent / "docs"
EXAMPLES = 1000  # held out, as a set: ln N = 6.9
SAMPLES = 5000
COLUMNS = {
    "rate": ("rate", 2), "lower": ("I at least", 2), "upper": ("I at most", 2), "left_open": ("ln N \u2212 I", 3),
    "divergence": ("KL(q(z) ‖ p)", 3), "overlap": ("overlap", 4), "distortion": ("\u2212ln p(y\u2223z)", 1),
    "frechet": ("Fréchet", 1),
}  # fmt: skip


@torch.no_grad()
def measured(run: Path, held_out: ArrayData, features: Tensor) -> dict[str, float]:
    """One model on held-out examples, and its samples beside held-out data."""
    saved = open_model(run)
    torch.manual_seed(1)
    y = judged_on(held_out, Binarisation(saved.card["binarisation"]))[:EXAMPLES]
    q, p = saved.model.posterior(y), saved.model.code()
    bounds = information_bounds(q)
    samples = drawn_samples(saved.model, held_out, SAMPLES, seed=1)
    return {
        "rate": float(divergence(q, p).mean()),
        "lower": bounds.lower.value,
        "upper": bounds.upper.value,
        "left_open": bounds.ceiling - bounds.lower.value,
        "divergence": aggregated_divergence(q, p).value,
        "overlap": mean_overlap(q).value,
        "distortion": float(saved.model(y).terms.distortion.mean()),
        "frechet": frechet_distance(features, see(samples).features).value,
    }


def swept(folder: Path, held_out: ArrayData, features: Tensor) -> list[dict[str, Any]]:
    """One entry for each lambda, the smallest first; a measure is a list with a number for each seed."""
    runs: dict[float, list[Path]] = {}
    for note in sorted(folder.glob("*/order.json")):
        beta = json.loads(note.read_text("utf-8"))["options"]["beta"]
        runs.setdefault(1 / beta, []).append(note.parent)
    rows = []
    for lam, paths in sorted(runs.items()):
        found = [measured(path, held_out, features) for path in paths]
        rows.append({"lam": lam, "measures": {name: [round(m[name], 5) for m in found] for name in COLUMNS}})
        print(rows[-1], flush=True)
    return rows


def figure_of(rows: list[dict[str, Any]], floor: float) -> Figure:
    """Six panels over lambda: a dot for each seed, a line through the means."""
    lams = [row["lam"] for row in rows]
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    panels = [
        ("what a latent tells, nats", ["rate", "upper", "lower"]),
        ("left open: ln N \u2212 I, nats", ["left_open"]),
        ("mean overlap of two posteriors", ["overlap"]),
        ("KL(q(z) ‖ p(z)), nats", ["divergence"]),
        ("reconstruction: \u2212ln p(y\u2223z), nats", ["distortion"]),
        ("samples: Fréchet distance", ["frechet"]),
    ]
    labels = {"rate": "rate", "upper": "leave-one-out", "lower": "InfoNCE"}
    for axes, (title, names) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        for color, name in enumerate(names):
            values = [row["measures"][name] for row in rows]
            axes.plot(lams, [statistics.mean(v) for v in values], color=f"C{color}", label=labels.get(name))
            for lam, own in zip(lams, values, strict=True):
                axes.plot([lam] * len(own), own, "o", color=f"C{color}", markersize=3.5)
        axes.set_xscale("log")
        axes.set_title(title, fontsize=10)
        if "lower" in names:
            axes.axhline(math.log(EXAMPLES), color="0.6", linestyle=":", label="ln N")
            axes.set_yscale("log")
            axes.legend(fontsize=8)
        if "frechet" in names:
            axes.axhline(floor, color="0.6", linestyle=":", label="training digits")
            axes.set_yscale("log")
            axes.legend(fontsize=8)
        if axes.get_subplotspec().is_last_row():
            axes.set_xlabel("λ = 1 / β")
    return figure


def markdown(rows: list[dict[str, Any]]) -> str:
    """Means over seeds with their standard errors."""
    lines = []
    for row in rows:
        cells = [f"{row['lam']:g}"]
        for name, (_, digits) in COLUMNS.items():
            own = row["measures"][name]
            error = statistics.stdev(own) / math.sqrt(len(own))
            cells.append(f"{statistics.mean(own):.{digits}f} ± {error:.{digits}f}")
        lines.append(cells)
    return table(["λ", *(title for title, _ in COLUMNS.values())], lines)


def main() -> None:
    """Measures, draws, fills the table in."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="of the sweep")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("-o", "--output", type=Path, default=DOCS)
    arguments = parser.parse_args()
    held_out = open_data(arguments.data, split="test")
    features = see(held_out.values[:SAMPLES]).features
    seen = open_data(arguments.data, split="train").values[:SAMPLES]
    floor = frechet_distance(features, see(seen).features).value
    rows = swept(arguments.folder, held_out, features)
    about = {"data": Path(arguments.data).name, "examples": EXAMPLES, "samples": SAMPLES, "frechet_of_training": floor}
    text = json.dumps({**about, "rows": rows}, indent=1) + "\n"
    (arguments.output / "results").mkdir(parents=True, exist_ok=True)
    (arguments.output / "images").mkdir(parents=True, exist_ok=True)
    (arguments.output / "results" / "lambda-sweep.json").write_text(text, encoding="utf-8")
    figure_of(rows, floor).savefig(arguments.output / "images" / "lambda-sweep.png", dpi=100)
    print(f"training digits: {floor:.2f}", markdown(rows), sep="\n")
    page = arguments.output / "limits.md"
    if page.exists():
        put(page, "lambda", markdown(rows))


if __name__ == "__main__":
    main()
