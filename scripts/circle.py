"""Turned pictures on a circle and on a line: the pictures and numbers of docs/manifolds.md.

    python scripts/circle.py

About two minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.channels.torus import angles_of, on_circles
from rdae.data.arrays import ArrayData, as_floats
from rdae.data.rotations import rotations
from rdae.measures.winding import largest_jump, same_neighbours, winding
from rdae.networks.unit import unit
from rdae.recipes.gaussian_vae import gaussian_vae
from rdae.recipes.torus_vae import torus_vae
from rdae.reports.drawing import Axes, Figure
from rdae.training.checkpoint import load_checkpoint
from rdae.training.generative_recipe import GenerativeRecipe
from rdae.training.loop import Settings, train

DOCS = Path(__file__).parent.parent / "docs"
COUNT, SIDE = 180, 16
OPTIONS: dict[str, Any] = {
    "latent": 1, "network": "dense", "hidden": [64, 64], "batch": 60, "epochs": 200, "learning_rate": 5e-3,
}  # fmt: skip
SHOWN = 13  # pictures in a row
STUDY: dict[str, tuple[Callable[..., GenerativeRecipe], str]] = {
    "flag on a circle": (torus_vae, "flag"),
    "flag on a line": (gaussian_vae, "flag"),
    "R on a circle": (torus_vae, "R"),
}
TURN = 2 * math.pi
TORN = 0.2  # share of the extent: longer steps are marked
BLUE, RED = "#2b5c8a", "#b4442f"


def trained(recipe: GenerativeRecipe, seed: int) -> NoisyChannelAutoencoder:
    """The recipe's model after its steps, with averaged weights."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        checkpoint = train(recipe, Settings(data=out, out=out, seed=seed, accelerator="cpu", devices="1"))
        if checkpoint is None:
            raise SystemExit("This script runs in one process.")
        return recipe.trained(load_checkpoint(checkpoint)["average"]["average"])


def harmonics(y: Tensor) -> list[float]:
    """Share of the variance of turned pictures that has one, two, three periods a turn."""
    power = torch.fft.rfft(y.double().flatten(1), dim=0).abs().square().sum(1)
    return (power[1:4] / power[1:].sum()).tolist()


@torch.no_grad()
def judged(model: NoisyChannelAutoencoder, y: Tensor) -> tuple[dict[str, Any], Tensor]:
    """Numbers of one model, and the latents of the pictures in their order, `(n, 1 or 2)`."""
    torch.manual_seed(1)
    terms = model(y).terms
    z = model.posterior(y).mean.flatten(1)
    error = (model.reconstruct(y) - y).square().flatten(1).mean(1)
    found: dict[str, Any] = {}
    if z.shape[1] == 2:
        z = unit(z)
        curve = winding(angles_of(z))
        found = {"winding": curve.number, "backwards_radians": curve.backwards}
    found |= {
        "same_neighbours": same_neighbours(z), "largest_jump": largest_jump(z), "rate_nats": float(terms.rate.mean()),
        "distortion_nats": float(terms.distortion.mean()), "squared_error": float(error.mean()),
        "worst_squared_error": float(error.max()),
    }  # fmt: skip
    return found, z


def map_panel(axes: Axes, data: ArrayData, z: Tensor, title: str) -> None:
    """Latents over the angle of the pictures; steps across the cut of an angle are not drawn."""
    degrees = np.degrees(np.asarray(data.labels))
    on_circle = z.shape[1] == 2
    values = np.degrees(angles_of(z).numpy()) % 360 if on_circle else z[:, 0].numpy()
    axes.plot(degrees, values, ".", color=BLUE, markersize=3)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("angle of the picture, degrees")
    axes.set_ylabel("angle of the latent, degrees" if on_circle else "latent mean")
    axes.set_xticks(range(0, 361, 90))
    if on_circle:
        axes.set_yticks(range(0, 361, 90))
        return
    steps = np.abs(np.roll(values, -1) - values)
    for k in np.flatnonzero(steps > TORN * np.ptp(values)):
        axes.axvspan(degrees[k], degrees[k] + 360 / len(values), color=RED, alpha=0.4, linewidth=0)


def ring_panel(axes: Axes, data: ArrayData, z: Tensor) -> None:
    """Fourteen pictures where the model puts them on its circle."""
    around = np.linspace(0, TURN, 200)
    axes.plot(np.cos(around), np.sin(around), color="0.8", zorder=0)
    for point in on_circles(torch.arange(14) * TURN / 14):
        k = int((z @ point).argmax())
        x, y = z[k].tolist()
        inset = axes.inset_axes((x - 0.17, y - 0.17, 0.34, 0.34), transform=axes.transData)
        inset.imshow(data.values[k, 0].numpy(), cmap="gray_r", vmin=0, vmax=255)
        inset.set_xticks([])
        inset.set_yticks([])
        for side in inset.spines.values():
            side.set_color("0.7")
    axes.set_xlim(-1.25, 1.25)
    axes.set_ylim(-1.25, 1.25)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title("one circle, with the pictures that lie there", fontsize=10)


def maps(data: dict[str, ArrayData], latents: dict[str, Tensor]) -> Figure:
    """Four panels: the circle with its pictures, and three maps from angle to latent."""
    figure = Figure(figsize=(9, 8), layout="constrained")
    ring, circle, line, letter = figure.subplots(2, 2).flat
    ring_panel(ring, data["flag"], latents["flag on a circle"])
    map_panel(circle, data["flag"], latents["flag on a circle"], "one circle: once around, no jump")
    map_panel(line, data["flag"], latents["flag on a line"], "one Gaussian variable: torn at the bands")
    map_panel(letter, data["R"], latents["R on a circle"], "the letter R on one circle: twice around")
    return figure


@torch.no_grad()
def decoded(data: ArrayData, circle: NoisyChannelAutoencoder, line: NoisyChannelAutoencoder) -> Figure:
    """Rows of pictures: the circle decoded once around, and what each model makes of pictures at the line's tear."""
    y = as_floats(data.values, data.kind)
    z = line.posterior(y).mean[:, 0]
    tear = int((z.roll(-1) - z).abs().argmax())
    near = (tear + torch.arange(SHOWN) - SHOWN // 2) % len(y)
    walk = circle.decode(on_circles(torch.linspace(0, TURN, SHOWN)[:, None]))
    rows = {
        "once around\nthe circle": walk,
        "pictures next\nto the tear": y[near],
        "the same, by\nthe circle": circle.reconstruct(y[near]),
        "the same, by\nthe line": line.reconstruct(y[near]),
    }
    figure = Figure(figsize=(9, 3.1), layout="constrained")
    grid = figure.subplots(len(rows), SHOWN, gridspec_kw={"wspace": 0.03, "hspace": 0.06})
    for axes_row, (name, pictures) in zip(grid, rows.items(), strict=True):
        for axes, picture in zip(axes_row, pictures, strict=True):
            axes.imshow(picture[0].clamp(0, 1).numpy(), cmap="gray_r", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            for side in axes.spines.values():
                side.set_color("0.7")
        axes_row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    return figure


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds, as in the page."""
    lines = []
    for model in STUDY:
        held = [row for row in rows if row["model"] == model]
        cells = [model, str(len(held))]
        windings = [abs(row["winding"]) for row in held if "winding" in row]
        cells.append(", ".join(f"{windings.count(n)} \u00d7 {n}" for n in sorted(set(windings))) or "\u2013")
        for name, digits in (
            ("largest_jump", 3), ("same_neighbours", 2), ("rate_nats", 2), ("squared_error", 4),
            ("worst_squared_error", 4),
        ):  # fmt: skip
            cells.append(f"{np.mean([row[name] for row in held]):.{digits}f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Trains, measures, draws, writes, and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--docs", type=Path, default=DOCS)
    parser.add_argument("--seeds", type=int, default=6)
    arguments = parser.parse_args()
    data = {drawing: rotations(COUNT, SIDE, drawing) for drawing in ("flag", "R")}
    rows: list[dict[str, Any]] = []
    latents: dict[str, Tensor] = {}
    models: dict[str, NoisyChannelAutoencoder] = {}
    for name, (recipe, drawing) in STUDY.items():
        y = as_floats(data[drawing].values, data[drawing].kind)
        for seed in range(arguments.seeds):
            model = trained(recipe(data[drawing], **OPTIONS), seed)
            found, z = judged(model, y)
            rows.append({"model": name, "seed": seed, **found})
            print(rows[-1], flush=True)
            if not seed:
                latents[name], models[name] = z, model
    about = {
        "pictures": COUNT, "side": SIDE, **OPTIONS,
        "harmonics": {name: harmonics(as_floats(each.values, each.kind)) for name, each in data.items()},
        "units": "largest_jump: share of the extent; same_neighbours: share of pictures; errors: a pixel",
    }  # fmt: skip
    text = json.dumps({**about, "rows": rows}, indent=1)
    (arguments.docs / "results" / "circle.json").write_text(text + "\n", encoding="utf-8")
    images = arguments.docs / "images"
    maps(data, latents).savefig(images / "circle-maps.png", dpi=100)
    decoded(data["flag"], models["flag on a circle"], models["flag on a line"]).savefig(
        images / "circle-decoded.png", dpi=110
    )
    print(table(rows))


if __name__ == "__main__":
    main()
