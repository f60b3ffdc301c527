"""Wasserstein against variational autoencoders at equal distance of q(z) from the prior: docs/wae.md.

    python scripts/wae_against_vae.py mnist

The data are labelled pictures with a training and a test split: a name, or a folder. All models have the same dense
networks and minimise squared error + weight * (MMD^2, what a critic says, or the rate); the weight is swept.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import put, table
from latent_space import first, floats, labels_of, save, trained
from torch import Tensor
from torch.distributions import Independent, Normal

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.channels.deterministic import Point
from rdae.data.arrays import ArrayData
from rdae.data.sources import open_data
from rdae.distortions import squared_error
from rdae.measures.measure import Kind, Measure, mean_of
from rdae.measures.mmd import inverse_multiquadric, mmd
from rdae.objectives import divergence
from rdae.recipes import wae_gan, wae_mmd
from rdae.recipes.wasserstein import wasserstein_autoencoder
from rdae.reports.drawing import Figure
from rdae.reports.latent import LatentPanel, latent_figure, latent_panel
from rdae.training.generative_recipe import GenerativeRecipe
from rdae.training.weighing import Beta

DOCS = Path(__file__).parent.parent / "docs"
SHOWN = 150  # items in a panel
DOT = 0.03  # standard deviation of the ball that stands for a latent without noise
NAMES = {
    "wae": "WAE-MMD, deterministic", "wae_gaussian": "WAE-MMD, Gaussian", "wae_gan": "WAE-GAN, deterministic",
    "vae": "VAE",
}  # fmt: skip
WEIGHTS = {
    "wae": (1.0, 10.0, 100.0, 1000.0, 10_000.0),
    "wae_gaussian": (1.0, 10.0, 100.0, 1000.0, 10_000.0),
    "wae_gan": (1.0, 10.0, 100.0),
    "vae": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
}
PANELS = (("vae", 0.1), ("wae_gaussian", 100.0), ("wae", 100.0))


def variational(data: ArrayData, weight: float, **options: Any) -> GenerativeRecipe:
    """Squared error + weight * rate: a VAE with a Gaussian decoder of variance weight / 2."""
    plain = wasserstein_autoencoder(data, encoder="gaussian", name="vae", **options)
    return replace(plain, weigh=Beta(beta=weight))


RECIPES: dict[str, Callable[..., GenerativeRecipe]] = {
    "wae": wae_mmd,
    "wae_gaussian": lambda data, **options: wae_mmd(data, encoder="gaussian", **options),
    "wae_gan": wae_gan,
    "vae": variational,
}


@torch.no_grad()
def measures(model: NoisyChannelAutoencoder, y: Tensor) -> dict[str, Measure]:
    """Errors of reconstructions, MMD^2 of q(z) and p(z), and the rate, on held-out examples."""
    torch.manual_seed(1)
    q, p = model.posterior(y), model.code()
    z = q.sample()
    return {
        "error_drawn": mean_of(squared_error(y, model.decode(z)), "squared error", Kind.ESTIMATE),
        "error_mean": mean_of(squared_error(y, model.decode(q.mean)), "squared error", Kind.ESTIMATE),
        "mmd": mmd(z, p.sample((len(z),)), inverse_multiquadric(2.0 * z.shape[1])),
        "rate": mean_of(divergence(q, p, z), "nats per example", Kind.ESTIMATE),
    }


@torch.no_grad()
def panel(model: NoisyChannelAutoencoder, test: ArrayData, title: str) -> LatentPanel:
    """The first held-out examples in the model's latent space of two units."""
    y = floats(test)[:SHOWN]
    q = model.posterior(y)
    noisy = not isinstance(q, Point)
    balls = q if noisy else Independent(Normal(q.mean, torch.full_like(q.mean, DOT)), 1)
    made = latent_panel(title, balls, y, lambda z: model.shown(model.decoder(z)), labels_of(test)[:SHOWN])
    return made if noisy else made._replace(overlaps=[])  # of balls that are none of the model's


def row(family: str, weight: float, held: dict[str, Measure]) -> dict[str, Any]:
    """A model as JSON: values with their standard errors; null for infinite."""
    plain = {
        name: [float(f"{m.value:.5g}"), float(f"{m.standard_error:.3g}")] if math.isfinite(m.value) else None
        for name, m in held.items()
    }
    return {"family": family, "weight": weight, **plain}


def floor_of(rows: list[dict[str, Any]]) -> float:
    """MMD^2 that cannot be told from 0: two standard errors of the model nearest to the prior."""
    return 2 * min((r["mmd"] for r in rows), key=lambda m: abs(m[0]))[1]


def error_at(rows: list[dict[str, Any]], family: str, level: float, floor: float, error: str) -> float | None:
    """Least error of a family at an MMD^2 of `level` or less: between neighbours of the sweep linear in its logarithm.

    None where no model of the family comes so near to the prior.
    """
    best: dict[float, float] = {}
    for r in rows:
        if r["family"] == family:
            place = math.log(max(r["mmd"][0], floor))
            best[place] = min(r[error][0], best.get(place, math.inf))
    places = sorted(best)
    if math.log(level) < places[0]:
        return None
    errors = np.minimum.accumulate([best[place] for place in places])
    return float(np.interp(math.log(level), places, errors))


def tables(text: str) -> dict[str, str]:
    """The tables of docs/wae.md from docs/results/wae.json, by mark."""
    about = json.loads(text)
    rows, floor, pixels = about["rows"], floor_of(about["rows"]), about["pixels"]
    held = [
        [
            NAMES[r["family"]], f"{r['weight']:g}", f"{r['error_drawn'][0]:.2f} ± {r['error_drawn'][1]:.2f}",
            f"{r['error_mean'][0]:.2f}", f"{r['mmd'][0]:.5f} ± {r['mmd'][1]:.5f}",
            f"{r['rate'][0]:.1f}" if r["rate"] else "infinite",
        ]
        for r in rows
    ]  # fmt: skip
    sweep = table(["model", "weight", "error, z drawn", "error, z mean", "MMD²", "rate, nats"], held)
    equal = []
    for r in (r for r in rows if r["family"] == "vae"):
        level = max(r["mmd"][0], floor)
        others = [error_at(rows, family, level, floor, "error_drawn") for family in NAMES if family != "vae"]
        fits = "←" if r is fitting(rows, pixels) else ""
        cells = [f"{other:.2f}" if other is not None else "\u2013" for other in others]
        own = [f"{r['error_drawn'][0]:.2f}", f"{r['error_mean'][0]:.2f}"]
        equal.append([f"{r['weight']:g} {fits}".strip(), f"{level:.5f}", *own, *cells])
    names = [NAMES[family] for family in NAMES if family != "vae"]
    head = ["weight of the rate", "MMD²", "VAE, z drawn", "VAE, z mean", *names]
    said = (
        f"{about['examples']:,} training and {about['held_out']:,} held-out pictures of {about['data']}, "
        f"{about['epochs']:g} passes, {about['latent']} latent units, one seed. MMD² below {floor:.5f} cannot be told "
        "from 0 and counts as that."
    )
    return {"sweep": sweep, "equal": f"{table(head, equal)}\n\n{said}"}


def fitting(rows: list[dict[str, Any]], pixels: int) -> dict[str, Any]:
    """The VAE whose variance, weight / 2, is nearest to its squared error a pixel."""
    own = [r for r in rows if r["family"] == "vae"]
    return min(own, key=lambda r: abs(math.log(r["weight"] / 2) - math.log(r["error_drawn"][0] / pixels)))


def curve_figure(rows: list[dict[str, Any]]) -> Figure:
    """Error of reconstructions against MMD^2, a line for each family."""
    floor = floor_of(rows)
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for family, name in NAMES.items():
        own = sorted((r for r in rows if r["family"] == family), key=lambda r: r["weight"])
        x = [max(r["mmd"][0], floor) for r in own]
        (line,) = axes.plot(x, [r["error_drawn"][0] for r in own], "o-", markersize=4, label=name)
        if family in ("vae", "wae_gaussian"):
            axes.plot(x, [r["error_mean"][0] for r in own], "o:", markersize=3, color=line.get_color(),
                      label=f"{name}, decoded at the mean")  # fmt: skip
    axes.axvline(floor, color="0.5", linestyle="--", linewidth=1, label="no smaller MMD² can be told from 0")
    axes.set(xscale="log", xlabel="MMD² of q(z) and N(0, I)", ylabel="squared error of a picture")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def main() -> None:
    """Trains, measures, draws, writes, and fills in the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--docs", type=Path, default=DOCS)
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--held-out", type=int, default=5000)
    parser.add_argument("--epochs", type=float, default=15)
    parser.add_argument("--latent", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data = first(open_data(arguments.data, split="train"), arguments.examples)
    test = first(open_data(arguments.data, split="test"), arguments.held_out)
    options = {"network": "dense", "hidden": (200, 200), "batch": 100, "epochs": arguments.epochs}
    rows, started = [], time.monotonic()
    for family, weights in WEIGHTS.items():
        for weight in weights:
            recipe = RECIPES[family](data, weight=weight, latent=arguments.latent, **options)
            rows.append(row(family, weight, measures(trained(recipe, arguments.seed), floats(test))))
            print(f"{time.monotonic() - started:.0f} s", rows[-1], flush=True)
    panels = []
    for family, weight in PANELS:
        model = trained(RECIPES[family](data, weight=weight, latent=2, **options), arguments.seed)
        held = measures(model, floats(test))
        title = f"{NAMES[family]}, weight {weight:g}: error {held['error_drawn'].value:.1f}, MMD² "
        panels.append(panel(model, test, title + f"{held['mmd'].value:.4f}"))
        rows.append({**row(family, weight, held), "family": f"{family}, two units"})
    about = {
        "data": Path(arguments.data).name, "examples": len(data), "held_out": len(test), "epochs": arguments.epochs,
        "latent": arguments.latent, "seed": arguments.seed, "pixels": math.prod(data.event),
        "seconds": round(time.monotonic() - started), "rows": rows[: -len(PANELS)], "two_units": rows[-len(PANELS) :],
    }  # fmt: skip
    text = json.dumps(about, indent=1) + "\n"
    (arguments.docs / "results" / "wae.json").write_text(text, encoding="utf-8")
    save(latent_figure(panels), arguments.docs / "images" / "wae.png")
    save(curve_figure(about["rows"]), arguments.docs / "images" / "wae-curve.png")
    for mark, held_out in tables(text).items():
        put(arguments.docs / "wae.md", mark, held_out)
        print(held_out)


if __name__ == "__main__":
    main()
