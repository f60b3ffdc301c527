"""Rate-distortion curves of trained generators on one plane: VAEs, WAEs and GANs, by annealed importance sampling.

    python scripts/generator_curves.py --data mnist vae=RUN wae=RUN gan=RUN
    python scripts/generator_curves.py --draw

RUN: a model file, the folder of a run of `rdae train ... --data mnist`, or a folder that explicit_and_implicit.py made.
The distortion is the squared error of what a model shows (for a VAE the mean of its likelihood), summed over pixels in
[0, 1]; no encoder is looked at. All models are judged on the same held-out pictures. A model trained on binarised
pictures is judged on these grey ones too, unless --binarise. Writes docs/results/generator-curves.json and
docs/images/generator-curves.png.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import explicit_and_implicit

from rdae.data.arrays import Binarisation
from rdae.data.sources import open_data
from rdae.measures.generator_curve import GeneratorCurve, generator_curve
from rdae.recipes.model_file import open_model
from rdae.reports.drawing import Figure
from rdae.training.array_recipe import judged_on

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = DOCS / "results" / "generator-curves.json"
BETAS = (0.03, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
MARKED = 1.0


def opened(run: Path) -> tuple[Any, dict[str, Any]]:
    """A model in `eval()` mode, and its shape of an example, recipe and options."""
    if not (run / explicit_and_implicit.WEIGHTS_FILE).exists():
        return open_model(run)
    model, kept = explicit_and_implicit.opened(run)
    recipe = explicit_and_implicit.KINDS[kept["kind"]].recipe
    return model, {"event": [1, 28, 28], "recipe": recipe, "options": kept["options"]}


def rows(curve: GeneratorCurve) -> list[dict[str, float]]:
    """Points of a curve for the JSON."""
    return [
        {
            "beta": point.beta, "rate_nats": point.rate.value, "rate_error": point.rate.standard_error,
            "distortion": point.distortion.value, "distortion_error": point.distortion.standard_error,
            "effective_chains": float(effective),
        }
        for point, effective in zip(curve.points(), curve.effective_chains.median(1).values, strict=True)
    ]  # fmt: skip


def figure(models: list[dict[str, Any]]) -> Figure:
    """Rate over distortion, two standard errors each way."""
    drawn = Figure(figsize=(6, 4.5), layout="constrained")
    axes = drawn.subplots()
    for k, model in enumerate(models):
        points = model["points"]
        distortion, rate = ([p[name] for p in points] for name in ("distortion", "rate_nats"))
        errors = ([2 * p[name] for p in points] for name in ("rate_error", "distortion_error"))
        axes.errorbar(
            distortion, rate, *errors, fmt="o-", color=f"C{k}", markersize=3, linewidth=1.2, label=model["name"]
        )
        at = next(p for p in points if p["beta"] == MARKED)
        axes.plot(at["distortion"], at["rate_nats"], "o", color=f"C{k}", markersize=9, fillstyle="none")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("distortion: squared error a picture")
    axes.set_ylabel("rate, nats a picture")
    axes.set_title(f"bars: two standard errors over pictures; ring: β = {MARKED:g}", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend()
    return drawn


def main() -> None:
    """Measures each model and draws all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", metavar="NAME=RUN")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--binarise", action="store_true", help="judge on pictures binarised once")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--temperatures", type=int, default=1000)
    parser.add_argument("--chains", type=int, default=16)
    parser.add_argument("--leapfrog", type=int, default=10)
    parser.add_argument("--draw", action="store_true", help="only the picture, from the results")
    parser.add_argument("--docs", type=Path, default=DOCS)
    arguments = parser.parse_args()
    results = arguments.docs / "results" / RESULTS.name
    if not arguments.draw:
        how = Binarisation.DYNAMIC if arguments.binarise else Binarisation.NONE
        y = judged_on(open_data(arguments.data, split="test"), how)[: arguments.images]
        settings = {name: getattr(arguments, name) for name in ("temperatures", "chains", "leapfrog")}
        models = []
        for word in arguments.models:
            name, _, run = word.partition("=")
            model, card = opened(Path(run))
            if list(y.shape[1:]) != card["event"]:
                raise SystemExit(f"{run} was trained on {card['event']}, the pictures are {list(y.shape[1:])}.")
            began = time.perf_counter()
            curve = generator_curve(model, y, BETAS, **settings)
            seconds = time.perf_counter() - began
            models.append({
                "name": name, "recipe": card["recipe"], "options": card["options"], "seconds": round(seconds),
                "points": rows(curve),
            })  # fmt: skip
            print(f"{name}: {seconds:.0f} s", *models[-1]["points"], sep="\n  ", flush=True)
        about = {"data": arguments.data, "binarised": arguments.binarise, "images": len(y), **settings}
        results.write_text(json.dumps({**about, "models": models}, indent=1) + "\n", encoding="utf-8")
    models = json.loads(results.read_text(encoding="utf-8"))["models"]
    figure(models).savefig(arguments.docs / "images" / "generator-curves.png", dpi=100)


if __name__ == "__main__":
    main()
