"""Disentanglement of autoencoders on drawn sprites: the figures, the picture and the tables of docs/independence.md.

    python scripts/disentanglement.py --work FOLDER                    # the list below, five seeds each
    python scripts/disentanglement.py --work FOLDER vamp_vae beta_vae:beta=16 --seeds 2
    python scripts/disentanglement.py --draw                           # picture and tables from the results

A recipe is its name, with options behind a colon. What is finished in FOLDER is reused: a run that was stopped goes on
with the same command. All recipes have the same networks, latent, batch and number of steps of the autoencoder.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from figures import put, table
from torch import Tensor
from torch.distributions import Independent, Normal

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.data.sprites import Sprites, sprites
from rdae.decomposition import ESTIMATORS, decomposed
from rdae.measures.decomposition import rate_parts
from rdae.measures.disentanglement import factor_vae_score, modularity, mutual_information_gap
from rdae.measures.disentanglement_probes import dci, explicitness, sap_score
from rdae.measures.measure import Kind, Measure, mean_of
from rdae.objectives import divergence
from rdae.priors.latent import StandardNormalPrior
from rdae.recipes import generative_recipe
from rdae.reports.drawing import Axes, Figure
from rdae.training.array_recipe import ArrayRecipe, judged_on
from rdae.training.checkpoint import load_checkpoint, load_newest
from rdae.training.loop import Settings, train

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = DOCS / "results" / "disentanglement.json"
RECIPES = (
    "gaussian_vae", "beta_vae:beta=2", "beta_vae:beta=4", "beta_vae:beta=8", "beta_tcvae", "factor_vae", "hsic_vae"
)  # fmt: skip
SEEDS = 5
OPTIONS: dict[str, Any] = {
    "latent": 6, "network": "dense", "hidden": (256, 256), "binarisation": "threshold", "batch": 128,
    "learning_rate": 2e-3,
}  # fmt: skip
STEPS = 1200
IN_USE = 0.01  # variance of its posterior mean, of a latent variable that is scored
UNORDERED = (0, 2)  # shape, and rotation, which has no first value
DCI_EXAMPLES, DCI_TREES = 1000, 20
DRAWS = 2
SCORES = {
    "mig": "MIG", "factor_vae": "FactorVAE score", "sap": "SAP", "disentanglement": "DCI disentanglement",
    "completeness": "DCI completeness", "informativeness": "DCI informativeness", "modularity": "modularity",
    "explicitness": "explicitness",
}  # fmt: skip
PARTS = {
    "index_information": "index-code information", "total_correlation": "total correlation",
    "dimension_wise": "dimension-wise KL",
}  # fmt: skip
CURVE = ("gaussian_vae", "beta_vae")  # which differ in beta alone: what others are held against
COLOURS = {"gaussian_vae": "0.35", "beta_vae": "C0", "beta_tcvae": "C1", "factor_vae": "C2", "hsic_vae": "C3"}
BIAS_EXAMPLES, BIAS_BATCHES, BIAS_LATENTS = 1000, (10, 100, 1000), 20_000
Row = dict[str, Any]


# --- models --------------------------------------------------------------------------------------------------------


def recipe_of(words: str, data: Sprites) -> ArrayRecipe:
    """A recipe from `name` or `name:option=value,option=value`."""
    name, _, rest = words.partition(":")
    own = {key: plain(value) for key, _, value in (part.partition("=") for part in rest.split(",") if part)}
    epochs = STEPS * OPTIONS["batch"] / len(data.data)
    return generative_recipe(name, data.data, None, OPTIONS | {"epochs": epochs} | own)


def plain(text: str) -> Any:
    """A number if it is one."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def trained(recipe: ArrayRecipe, folder: Path, seed: int) -> NoisyChannelAutoencoder:
    """The model with averaged weights; the run in the folder goes on, or is taken as it is if it was finished."""
    state = load_newest(folder / "checkpoints")
    if state is None or state["step"] < recipe.steps:
        settings = Settings(data=folder, out=folder, seed=seed, accelerator="cpu", devices="1")
        checkpoint = train(recipe, settings)
        assert checkpoint is not None
        state = load_checkpoint(checkpoint)
    return recipe.trained(state["average"]["average"])


# --- measures ------------------------------------------------------------------------------------------------------


def scores(z: Tensor, factors: Tensor) -> dict[str, Measure]:
    """All scores of latents."""
    generator = torch.Generator().manual_seed(1)
    some = torch.randperm(len(z), generator=generator)[:DCI_EXAMPLES]
    parts = dci(z[some], factors[some], DCI_TREES)
    return {
        "mig": mutual_information_gap(z, factors),
        "factor_vae": factor_vae_score(z, factors, generator, least_variance=0.0),
        "sap": sap_score(z, factors, UNORDERED),
        "disentanglement": parts.disentanglement,
        "completeness": parts.completeness,
        "informativeness": parts.informativeness,
        "modularity": modularity(z, factors),
        "explicitness": explicitness(z, factors),
    }


@torch.no_grad()
def measured(model: NoisyChannelAutoencoder, recipe: ArrayRecipe, factors: Tensor) -> tuple[Row, Tensor]:
    """Everything that is told of a model, and its posterior means in use."""
    torch.manual_seed(1)
    y = judged_on(recipe.data, recipe.binarisation)
    q, p = model.posterior(y), model.code()
    means = q.mean.flatten(1)
    used = means[:, means.var(0) > IN_USE]
    error = (model.reconstruct(y) - y).square().flatten(1).sum(1)
    held = {
        "distortion": mean_of(model.distortion(y, model.decoder(q.rsample())), "nats per example", Kind.ESTIMATE),
        "squared_error": mean_of(error, "per picture", Kind.ESTIMATE),
        "rate": mean_of(divergence(q, p), "nats per example", Kind.ESTIMATE),
    }
    parts = rate_parts(q, p, DRAWS)
    held |= {name: getattr(parts, name) for name in PARTS}
    if used.shape[1]:
        held |= scores(used, factors)
    return {"in_use": used.shape[1], **{name: rounded(measure) for name, measure in held.items()}}, used


def rounded(measure: Measure) -> list[float]:
    """Value and standard error, six digits."""
    return [float(f"{number:.6g}") for number in measure[:2]]


def rows(recipes: Sequence[str], seeds: int, work: Path, data: Sprites) -> Iterator[Row]:
    """A row for each model, as soon as there is one."""
    made = {words: recipe_of(words, data) for words in recipes}  # a wrong name is an error before hours of work
    for words, recipe in made.items():
        for seed in range(seeds):
            folder = work / words.replace(":", "-").replace("=", "-").replace(",", "-") / f"seed-{seed}"
            kept = folder / "row.json"
            if not kept.exists():
                began = time.process_time()
                model = trained(recipe, folder, seed)
                middle = time.process_time()
                row, _ = measured(model, recipe, data.factors)
                seconds = [round(middle - began, 1), round(time.process_time() - middle, 1)]
                about = {"recipe": words, "seed": seed, "steps": recipe.steps, "seconds": seconds}
                kept.write_text(json.dumps(about | row), encoding="utf-8")
                print(kept.read_text(encoding="utf-8"), flush=True)
            yield json.loads(kept.read_text(encoding="utf-8"))


def controls(data: Sprites) -> Iterator[Row]:
    """The factors themselves, which any score should praise, and the same in another order, where nothing is left."""
    for name, z in (
        ("the factors", data.factors),
        ("shuffled", data.factors[torch.randperm(len(data.factors), generator=torch.Generator().manual_seed(2))]),
    ):
        yield {"recipe": name} | {key: rounded(value) for key, value in scores(z.double(), data.factors).items()}


# --- bias of estimates from batches --------------------------------------------------------------------------------


def bias() -> Iterator[Row]:
    """The three parts of a linear model, from batches and from all examples."""
    torch.manual_seed(3)
    x = torch.randn(BIAS_EXAMPLES, 2).double()
    mean = x @ torch.tensor([[1.0, 0.6, 0.0, 0.3], [0.0, 0.6, 1.0, -0.3]]).double()
    std, p = torch.full_like(mean, 0.3), StandardNormalPrior(4).double()()
    exact = rate_parts(Independent(Normal(mean, std), 1), p, BIAS_LATENTS // BIAS_EXAMPLES)
    about = {"estimator": "all examples", "batch": BIAS_EXAMPLES}
    yield about | {name: rounded(getattr(exact, name)) for name in PARTS}
    for name, log_weights in ESTIMATORS.items():
        for batch in BIAS_BATCHES:
            found: dict[str, list[Tensor]] = {part: [] for part in PARTS}
            for _ in range(BIAS_LATENTS // batch):
                at = torch.randperm(BIAS_EXAMPLES)[:batch]
                q = Independent(Normal(mean[at], std[at]), 1)
                parts = decomposed(q, p, q.sample(), log_weights(batch, BIAS_EXAMPLES))
                for part in PARTS:
                    found[part].append(getattr(parts, part).mean())
            means = {part: mean_of(torch.stack(v), "nats per example", Kind.ESTIMATE) for part, v in found.items()}
            yield {"estimator": name, "batch": batch} | {part: rounded(measure) for part, measure in means.items()}


# --- page ----------------------------------------------------------------------------------------------------------


def over_seeds(values: Sequence[float], digits: int, sign: str = "") -> str:
    """Median, and smallest to largest."""
    if not values:
        return "\u2013"
    low, high = (f"{v:{sign}.{digits}f}" for v in (min(values), max(values)))
    return f"{median(values):{sign}.{digits}f} ({low} to {high})"


def of_recipe(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by recipe, in their order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["recipe"], []).append(row)
    return found


def values(rows: Sequence[Row], name: str) -> list[float]:
    """A number of each row that has it."""
    return [row[name][0] for row in rows if name in row]


def score_table(rows: Sequence[Row], controls: Sequence[Row]) -> str:
    """Reconstruction, rate and scores."""
    head = ["recipe", "distortion, nats", "squared error", "rate, nats", "in use", *SCORES.values()]
    lines = [
        [words, *(over_seeds(values(own, name), digits) for name, digits in (
            ("distortion", 1), ("squared_error", 1), ("rate", 2))),
         over_seeds([row["in_use"] for row in own], 0),
         *(over_seeds(values(own, name), 2) for name in SCORES)]
        for words, own in of_recipe(rows).items()
    ]  # fmt: skip
    lines += [[row["recipe"], *["\u2013"] * 4, *(f"{row[name][0]:.2f}" for name in SCORES)] for row in controls]
    return table(head, lines)


def parts_table(rows: Sequence[Row]) -> str:
    """The rate and its three parts."""
    head = ["recipe", "rate, nats", *PARTS.values()]
    return table(head, [
        [words, *(over_seeds(values(own, name), 2) for name in ("rate", *PARTS))]
        for words, own in of_recipe(rows).items()
    ])  # fmt: skip


def curve(rows: Sequence[Row], name: str) -> tuple[list[float], list[float]]:
    """Medians of distortion and score of the models that differ in beta alone, by distortion."""
    points = [
        (median(values(own, "distortion")), median(values(own, name)))
        for words, own in of_recipe(rows).items()
        if words.split(":")[0] in CURVE and values(own, name)
    ]
    across, up = zip(*sorted(points), strict=True) if points else ((), ())
    return list(across), list(up)


def equal_table(rows: Sequence[Row]) -> str:
    """Score less that of the curve of beta at the same distortion, seed by seed."""
    lines = []
    for words, own in of_recipe(rows).items():
        if words.split(":")[0] in CURVE:
            continue
        cells, inside = [], 0
        for name in SCORES:
            across, up = curve(rows, name)
            held = [row for row in own if name in row and across and across[0] <= row["distortion"][0] <= across[-1]]
            inside = max(inside, len(held))
            more = [row[name][0] - float(np.interp(row["distortion"][0], across, up)) for row in held]
            cells.append(over_seeds(more, 2, "+"))
        lines.append([words, f"{inside} of {len(own)}", *cells])
    return table(["recipe", "seeds on the curve", *SCORES.values()], lines)


def bias_table(rows: Sequence[Row]) -> str:
    """Parts from batches."""
    names = {"mws": "weighted (mws)", "mss": "stratified (mss)"}
    return table(["estimator", "batch", *PARTS.values()], [
        [names.get(row["estimator"], row["estimator"]), str(row["batch"]), *(f"{row[name][0]:.2f}" for name in PARTS)]
        for row in rows
    ])  # fmt: skip


def figure(rows: Sequence[Row]) -> Figure:
    """Each score against distortion, a point for each seed."""
    drawn = Figure(figsize=(13, 6.4), layout="constrained")
    grid = drawn.subplots(2, 4, sharex=True)
    for axes, (name, title) in zip(grid.flat, SCORES.items(), strict=True):
        _panel(axes, rows, name)
        axes.set_title(title)
    for axes in grid[1]:
        axes.set_xlabel("distortion, nats per picture")
    drawn.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=7, frameon=False)
    return drawn


def _panel(axes: Axes, rows: Sequence[Row], name: str) -> None:
    markers = dict(zip(COLOURS, "os^Dv", strict=True))
    shown = set()
    for words, own in of_recipe(rows).items():
        kind = words.split(":")[0]
        axes.scatter(
            [row["distortion"][0] for row in own if name in row], values(own, name), s=26, alpha=0.75, linewidth=0,
            color=COLOURS.get(kind, "C4"), marker=markers.get(kind, "P"), label=kind if kind not in shown else None,
        )  # fmt: skip
        shown.add(kind)
    axes.plot(*curve(rows, name), color="C0", linewidth=1, zorder=0, label="medians over \u03b2")
    axes.grid(alpha=0.3)


def write(found: Sequence[Row], held: Sequence[Row], biased: Sequence[Row], examples: int) -> None:
    """The results, a row a line."""
    about = {
        "examples": examples, "steps": STEPS, **OPTIONS, "dci_examples": DCI_EXAMPLES, "dci_trees": DCI_TREES,
        "draws": DRAWS, "in_use": IN_USE, "bias_latents": BIAS_LATENTS,
    }  # fmt: skip
    head = "".join(f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in about.items())
    lists = ",\n".join(
        f' "{name}": [\n  ' + ",\n  ".join(json.dumps(row) for row in part) + "\n ]"
        for name, part in (("rows", found), ("controls", held), ("bias", biased))
    )
    RESULTS.write_text(f"{{\n{head}{lists}\n}}\n", encoding="utf-8")


def draw() -> None:
    """Picture and tables from the results."""
    held = json.loads(RESULTS.read_text(encoding="utf-8"))
    tables: dict[str, Callable[[], str]] = {
        "scores": lambda: score_table(held["rows"], held["controls"]),
        "equal": lambda: equal_table(held["rows"]),
        "parts": lambda: parts_table(held["rows"]),
        "bias": lambda: bias_table(held["bias"]),
    }
    for mark, text in tables.items():
        put(DOCS / "independence.md", mark, text())
    figure(held["rows"]).savefig(DOCS / "images" / "disentanglement.png", dpi=80)


def main() -> None:
    """Trains what is missing, measures, writes and draws."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipes", nargs="*", default=list(RECIPES), metavar="recipe")
    parser.add_argument("--work", type=Path, help="folder of runs")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--draw", action="store_true", help="picture and tables only")
    arguments = parser.parse_args()
    if not arguments.draw:
        if arguments.work is None:
            parser.error("--work FOLDER is needed, where models are kept")
        data = sprites()
        found = list(rows(arguments.recipes, arguments.seeds, arguments.work, data))
        write(found, list(controls(data)), list(bias()), len(data.data))
    draw()


if __name__ == "__main__":
    main()
