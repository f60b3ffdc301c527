"""What beta-VAEs of different rates keep for a classifier: the figures, the picture and the tables of docs/features.md.

    RDAE_CACHE=FOLDER python scripts/features.py           # trains twelve models and judges what they compute
    python scripts/features.py --draw                      # picture and tables from docs/results/features.json

MNIST is used as published: 60,000 pictures without labels to train on, the first 10,000 of them with labels, judged on
the 10,000 test pictures. Of Fashion-MNIST only the test pictures are used: 8,000 to learn from and 2,000 to judge on.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from figures import put, table
from torch import Tensor

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.data.arrays import ArrayData, as_floats
from rdae.data.named import load_named
from rdae.likelihoods import Gaussian
from rdae.measures.features import linear_probe, nearest_neighbours
from rdae.measures.measure import Kind, mean_of
from rdae.recipes import beta_vae
from rdae.reports.drawing import Axes, Figure
from rdae.training.checkpoint import load_checkpoint
from rdae.training.generative_recipe import GenerativeRecipe
from rdae.training.loop import Settings, train

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = DOCS / "results" / "features.json"
BETAS = (0.4, 1.5, 4.0, 10.0, 20.0, 32.0)
LATENT = 32
SPREAD = 0.25  # of the Gaussian likelihood, in grey levels from 0 to 1; were it learned, low rates would not be stable
STEPS, BATCH, LEARNING_RATE = 1200, 100, 2e-3
LABELS_FEW, LABELS_MANY = 1000, 10_000
PROBES = {"linear probe": linear_probe, "5 nearest neighbours": nearest_neighbours}
NAMES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
LEARNED = {"mean": "posterior mean", "z": "drawn z"}
CONTROLS = {"pixels": "raw pixels", "pca": f"PCA, {LATENT} numbers", "random": "random encoder"}
Row = dict[str, Any]


def splits(name: str) -> tuple[ArrayData, ArrayData]:
    """What to learn from and what to judge on."""
    test = load_named(name, split="test")
    if name == "mnist":
        return load_named(name), test
    assert test.labels is not None
    parts = ((test.values[part], test.labels[part]) for part in (slice(8000), slice(8000, None)))
    learn, judge = (ArrayData(values, test.kind, labels, name) for values, labels in parts)
    return learn, judge


def recipe_for(data: ArrayData, beta: float) -> GenerativeRecipe:
    """`beta_vae` with dense networks and a fixed spread of its likelihood."""
    recipe = beta_vae(
        data, beta=beta, latent=LATENT, network="dense", batch=BATCH, epochs=STEPS * BATCH / len(data),
        learning_rate=LEARNING_RATE,
    )  # fmt: skip

    def model() -> NoisyChannelAutoencoder:
        built = recipe.model()
        built.distortion = Gaussian(SPREAD)
        return built

    return replace(recipe, model=model)


def trained(recipe: GenerativeRecipe) -> NoisyChannelAutoencoder:
    """The model with averaged weights, in `eval()` mode."""
    with TemporaryDirectory() as folder:
        out = Path(folder)
        checkpoint = train(recipe, Settings(data=out, out=out, accelerator="cpu", devices="1"))
        assert checkpoint is not None
        return recipe.trained(load_checkpoint(checkpoint)["average"]["average"])


def principal(y: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """The coordinates of largest variance over `y`, of each of `others`."""
    axes = torch.linalg.eigh(torch.cov(y.T.double())).eigenvectors[:, -LATENT:]
    return tuple((other.double() - y.mean(0)) @ axes for other in others)


@torch.no_grad()
def representations(name: str) -> Iterator[tuple[Row, Tensor, Tensor, Tensor, Tensor]]:
    """What is to be said of each, its training features and labels, its test features and labels."""
    data, test = splits(name)
    assert data.labels is not None
    assert test.labels is not None
    y, y_test = (as_floats(part.values, part.kind) for part in (data, test))
    few, labels = y[:LABELS_MANY], data.labels[:LABELS_MANY]
    about = {"data": name, "beta": None, "rate_nats": None, "rate_error": None, "active_units": None}
    yield about | {"features": "pixels"}, few.flatten(1), labels, y_test.flatten(1), test.labels
    coordinates = principal(y.flatten(1), few.flatten(1), y_test.flatten(1))
    yield about | {"features": "pca"}, coordinates[0], labels, coordinates[1], test.labels
    torch.manual_seed(0)
    untrained = recipe_for(data, 1.0).model().eval()
    means = [untrained.latent_means(part) for part in (few, y_test)]
    yield about | {"features": "random"}, means[0], labels, means[1], test.labels
    for beta in BETAS:
        with torch.enable_grad():
            model = trained(recipe_for(data, beta))
        rate = mean_of(model(y_test).terms.rate, "nats per example", Kind.ESTIMATE)
        q, q_test = model.posterior(few), model.posterior(y_test)
        active = int((q_test.mean.var(0) > 0.01).sum())
        about |= {"beta": beta, "rate_nats": rate.value, "rate_error": rate.standard_error, "active_units": active}
        yield about | {"features": "mean"}, q.mean, labels, q_test.mean, test.labels
        torch.manual_seed(1)
        yield about | {"features": "z"}, q.sample(), labels, q_test.sample(), test.labels


def measured() -> Iterator[Row]:
    """Accuracy of each probe on each representation, with few and with many labels."""
    for name in NAMES:
        for about, x, labels, x_test, labels_test in representations(name):
            for count in (LABELS_FEW, len(x)):
                for probe, accuracy in PROBES.items():
                    found = accuracy(x[:count], labels[:count], x_test, labels_test)
                    row = about | {
                        "labels": count, "tested": len(x_test), "probe": probe, "accuracy": found.value,
                        "error": found.standard_error,
                    }  # fmt: skip
                    print(json.dumps(row), flush=True)
                    yield {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()}


def write(rows: list[Row]) -> None:
    """The JSON file, a row a line."""
    about = {
        "latent": LATENT, "spread": SPREAD, "steps": STEPS, "batch": BATCH, "learning_rate": LEARNING_RATE, "seed": 0,
    }  # fmt: skip
    head = "".join(f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in about.items())
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    RESULTS.write_text(f'{{\n{head} "rows": [\n  {lines}\n ]\n}}\n', encoding="utf-8")


def chosen(rows: list[Row], **wanted: Any) -> list[Row]:
    """The rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def panels(rows: list[Row]) -> list[tuple[str, int]]:
    """Data set and number of labels of each column."""
    return [(name, labels) for name in NAMES for labels in sorted({r["labels"] for r in chosen(rows, data=name)})]


def figure(rows: list[Row]) -> Figure:
    """Accuracy against rate; controls as horizontal lines; two standard errors to either side."""
    drawn = Figure(figsize=(13, 6.4), layout="constrained")
    columns = panels(rows)
    grid = drawn.subplots(len(PROBES), len(columns), sharex=True, sharey="row")
    for line, probe in zip(grid, PROBES, strict=True):
        for axes, (name, labels) in zip(line, columns, strict=True):
            _panel(axes, chosen(rows, data=name, labels=labels, probe=probe))
            if probe == next(iter(PROBES)):
                axes.set_title(f"{NAMES[name]}, {labels:,} labels")
            else:
                axes.set_xlabel("rate, nats per picture")
        line[0].set_ylabel(f"accuracy, {probe}")
    drawn.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    return drawn


def _panel(axes: Axes, rows: list[Row]) -> None:
    for (features, label), style in zip(LEARNED.items(), ("o-", "s--"), strict=True):
        own = sorted(chosen(rows, features=features), key=lambda row: row["rate_nats"])
        axes.errorbar(
            [r["rate_nats"] for r in own], [r["accuracy"] for r in own], [2 * r["error"] for r in own], fmt=style,
            color="C0" if features == "mean" else "C1", label=label, markersize=4, capsize=2, linewidth=1.2, zorder=3,
        )  # fmt: skip
    for (features, label), colour, style in zip(
        CONTROLS.items(), ("black", "C2", "0.55"), ("-", "-.", ":"), strict=True
    ):
        (row,) = chosen(rows, features=features)
        low, high = (row["accuracy"] + sign * 2 * row["error"] for sign in (-1, 1))
        axes.axhspan(low, high, color=colour, alpha=0.12, linewidth=0)
        axes.axhline(row["accuracy"], color=colour, linestyle=style, linewidth=1.2, label=label)
    axes.axvline(math.log(10), color="C3", linewidth=0.8, alpha=0.6, label="ln 10, the label itself")
    axes.set_xscale("log")
    ticks = (2, 5, 10, 20, 50)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3)


def tables(rows: list[Row]) -> dict[str, str]:
    """A table of each data set, by mark: accuracies in percent, best of a column in bold."""
    return {name: _table(rows, name) for name in NAMES}


def _table(rows: list[Row], name: str) -> str:
    columns = [(p, labels) for p in PROBES for of, labels in panels(rows) if of == name]
    head = ["features", "β", "rate, nats", *(f"{probe}, {labels:,} labels" for probe, labels in columns)]
    lines = []
    for features, label in {**CONTROLS, **LEARNED}.items():
        for beta in BETAS if features in LEARNED else (None,):
            own = chosen(rows, data=name, features=features, beta=beta)
            cells = [chosen(own, probe=probe, labels=labels)[0] for probe, labels in columns]
            rate = "" if beta is None else f"{own[0]['rate_nats']:.1f}"
            shown = [f"{100 * c['accuracy']:.1f} ± {100 * c['error']:.1f}" for c in cells]
            lines.append([label, "" if beta is None else f"{beta:g}", rate, *shown])
    return table(head, lines)


def main() -> None:
    """Measures, or takes what was measured, and fills in the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draw", action="store_true", help="picture and tables only")
    if not parser.parse_args().draw:
        write(list(measured()))
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    figure(rows).savefig(DOCS / "images" / "features.png", dpi=80)
    for mark, text in tables(rows).items():
        put(DOCS / "features.md", mark, text)


if __name__ == "__main__":
    main()
