"""Latent spaces of beta-VAEs with two variables, drawn and measured: docs/latent.md, its pictures and numbers.

    python scripts/latent_space.py mnist

The data are labelled pictures with a training and a test split: a name, or a folder. About two minutes on an idle core.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.data.arrays import ArrayData, as_floats
from rdae.data.sources import open_data
from rdae.errors import DataError
from rdae.measures.frechet import frechet_distance
from rdae.measures.measure import Kind, Measure, mean_of
from rdae.measures.mmd import inverse_multiquadric, mmd
from rdae.measures.overlap import aggregated_divergence, index_information, mean_overlap
from rdae.objectives import divergence
from rdae.recipes import beta_vae
from rdae.reports.drawing import Figure
from rdae.reports.latent import LatentPanel, Row, from_json, latent_figure, latent_panel, measures_figure, to_json
from rdae.training.array_recipe import judged_on
from rdae.training.checkpoint import load_checkpoint
from rdae.training.generative_recipe import GenerativeRecipe
from rdae.training.loop import Settings, train

DOCS = Path(__file__).parent.parent / "docs"
BETAS = (0.1, 0.5, 1.0, 2.0, 4.0, 10.0)
SHOWN = 150  # items in a panel
FEATURES = 50  # of the classifier
COLUMNS = {
    "rate": ("rate, nats", 2), "squared_error": ("squared error, a pixel", 4), "label_kept": ("label kept", 3),
    "overlap": ("overlap", 4), "left_open": ("ln N \u2212 I, nats", 3), "divergence": ("KL(q ‖ p), nats", 3),
    "mmd": ("MMD²", 4), "sample_to_data": ("sample to datum", 2), "data_to_sample": ("datum to sample", 2),
    "frechet": ("Fréchet", 1),
}  # fmt: skip


class Classifier(nn.Module):
    """What features are taken from: a small network that was taught the labels."""

    def __init__(self, size: int, labels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Flatten(), nn.Linear(size, 200), nn.ReLU(), nn.Linear(200, FEATURES), nn.ReLU()
        )
        self.last = nn.Linear(FEATURES, labels)

    def forward(self, y: Tensor) -> Tensor:
        """Logits, `(batch, labels)`."""
        return self.last(self.features(y))


def classifier(data: ArrayData, seed: int, epochs: int = 5, batch: int = 100) -> Classifier:
    """Trained on the pictures and labels of `data`."""
    torch.manual_seed(seed)
    y, labels = as_floats(data.values, data.kind), labels_of(data)
    model = Classifier(y[0].numel(), int(labels.max()) + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for index in torch.randperm(len(y)).split(batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(y[index]), labels[index]).backward()
            optimizer.step()
    return model.eval()


def labels_of(data: ArrayData) -> Tensor:
    """Labels as classes."""
    if data.labels is None or data.labels.ndim != 1:
        raise DataError(f"{data.name} has no labels. This study needs one for each picture.")
    return data.labels.long()


def trained(recipe: GenerativeRecipe, seed: int) -> NoisyChannelAutoencoder:
    """The recipe's model after its steps, with averaged weights."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        checkpoint = train(recipe, Settings(data=out, out=out, seed=seed, accelerator="cpu", devices="1"))
        if checkpoint is None:
            raise SystemExit("This script runs in one process.")
        return recipe.trained(load_checkpoint(checkpoint)["average"]["average"])


def nearest(points: Tensor, others: Tensor, unit: str) -> Measure:
    """Mean Euclidean distance of each point from the nearest of the others."""
    return mean_of(torch.cdist(points.flatten(1), others.flatten(1)).amin(1), unit, Kind.ESTIMATE)


def distances(samples: Tensor, data: Tensor, held_out: Tensor, judge: Classifier) -> dict[str, Measure]:
    """How far as many samples as there are held-out data are from data, and held-out data from all samples."""
    count = len(held_out)
    seen, shown, asked = judge.features(samples), judge.features(data), judge.features(held_out)
    return {
        "sample_to_data_pixels": nearest(samples[:count], data, "pixel distance"),
        "sample_to_data": nearest(seen[:count], shown, "feature distance"),
        "data_to_sample": nearest(asked, seen, "feature distance"),
        "frechet": frechet_distance(shown, seen[:count]),
    }


@torch.no_grad()
def measures(
    model: NoisyChannelAutoencoder, recipe: GenerativeRecipe, test: ArrayData, judge: Classifier
) -> dict[str, Measure]:
    """Everything the page tells of one model, on held-out examples."""
    torch.manual_seed(1)
    y, grey, labels = judged_on(test, recipe.binarisation), floats(test), labels_of(test)
    q, p = model.posterior(y), model.code()
    z = q.sample()
    out = model.decoder(z)
    information = index_information(q)
    left_open = Measure(
        math.log(len(y)) - information.value, information.standard_error, "nats per example", Kind.ESTIMATE
    )
    error = (model.reconstruct(y) - grey).square().flatten(1).mean(1)
    kept = (judge(model.shown(out)).argmax(1) == labels).double()
    return {
        "rate": mean_of(divergence(q, p), "nats per example", Kind.ESTIMATE),
        "distortion": mean_of(model.distortion(y, out), "nats per example", Kind.ESTIMATE),
        "squared_error": mean_of(error, "per pixel", Kind.ESTIMATE),
        "overlap": mean_overlap(q),
        "left_open": left_open,
        "divergence": aggregated_divergence(q, p),
        "mmd": mmd(z, p.sample((len(z),)), inverse_multiquadric(2.0 * z.shape[1])),
        "label_kept": mean_of(kept, "share", Kind.ESTIMATE),
        **distances(model.sample(len(recipe.data)), floats(recipe.data), grey, judge),
    }


@torch.no_grad()
def panel(model: NoisyChannelAutoencoder, recipe: GenerativeRecipe, test: ArrayData, title: str) -> LatentPanel:
    """The first held-out examples in the model's latent space."""
    q = model.posterior(judged_on(test, recipe.binarisation)[:SHOWN])
    return latent_panel(
        title, q, floats(test)[:SHOWN], lambda z: model.shown(model.decoder(z)), labels_of(test)[:SHOWN]
    )


def floats(data: ArrayData) -> Tensor:
    """Pictures in [0, 1]."""
    return as_floats(data.values, data.kind)


def first(data: ArrayData, count: int) -> ArrayData:
    """The first examples of a data set."""
    return replace(data, values=data.values[:count], labels=labels_of(data)[:count])


def study(
    recipes: Sequence[tuple[float, GenerativeRecipe]], test: ArrayData, judge: Classifier, seed: int
) -> tuple[list[LatentPanel], list[Row]]:
    """Trains each recipe, measures and draws it; a recipe of another kind takes its place beside those of a sweep."""
    panels, rows = [], []
    for beta, recipe in recipes:
        model = trained(recipe, seed)
        row = Row(recipe.name, beta, measures(model, recipe, test, judge))
        rows.append(row)
        said = f"β = {beta:g}: rate {row.measures['rate'].value:.1f} nats, overlap {row.measures['overlap'].value:.3f}"
        panels.append(panel(model, recipe, test, said))
        print(f"{recipe.name}, beta {beta:g}", *(f"  {name}: {m}" for name, m in row.measures.items()), sep="\n")
    return panels, rows


def save(figure: Figure, path: Path) -> None:
    """Writes a figure with a palette of 256 colours: a third of the bytes of one with all."""
    figure.savefig(path, dpi=85)
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


def table(text: str) -> str:
    """The table of docs/latent.md from docs/results/latent-space.json."""
    head = ["β", *(title for title, _ in COLUMNS.values())]
    lines = [head, ["---:"] * len(head)]
    for row in from_json(text):
        held = row.measures
        numbers = (
            f"{held[name].value:.{digits}f}" if name in held else "\u2013" for name, (_, digits) in COLUMNS.items()
        )
        lines.append([f"{row.beta:g}" if row.beta else row.model, *(n.replace("-", "\u2212") for n in numbers)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    """Trains, measures, draws, writes, and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--docs", type=Path, default=DOCS)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data = first(open_data(arguments.data, split="train"), arguments.examples)
    test = first(open_data(arguments.data, split="test"), arguments.held_out)
    judge = classifier(data, arguments.seed)
    options = {"latent": 2, "network": "dense", "hidden": (128, 128), "binarisation": "dynamic", "batch": 64}
    options["learning_rate"] = 3e-3
    recipes = [(beta, beta_vae(data, beta=beta, epochs=arguments.epochs, **options)) for beta in BETAS]
    panels, rows = study(recipes, test, judge, arguments.seed)
    with torch.no_grad():
        correct = float((judge(floats(test)).argmax(1) == labels_of(test)).double().mean())
        beside = distances(floats(test), floats(data), floats(test), judge)
        del beside["data_to_sample"]  # from held-out data to themselves
        rows.append(Row("held-out data", 0.0, beside))
    about = {
        "data": Path(arguments.data).name, "examples": len(data), "held_out": len(test), "epochs": arguments.epochs,
        "seed": arguments.seed, **options, "classifier_accuracy": correct, "ln_n": math.log(len(test)),
    }  # fmt: skip
    text = to_json(rows, **about)
    (arguments.docs / "results" / "latent-space.json").write_text(text, encoding="utf-8")
    save(latent_figure(panels), arguments.docs / "images" / "latent-space.png")
    save(measures_figure(rows), arguments.docs / "images" / "latent-space-measures.png")
    print(table(text))


if __name__ == "__main__":
    main()
