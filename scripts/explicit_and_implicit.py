"""One decoder trained four ways on MNIST, VAE, WAE, GAN and WGAN, and judged alike: docs/explicit-and-implicit.md.

    python scripts/explicit_and_implicit.py --work runs/explicit [--kinds NAME ...] [--seeds N ...]
    python scripts/explicit_and_implicit.py --draw

Each kind is trained once per seed by the package's own loop, for about the same CPU time. A run takes one or two
minutes of a core; one that is in the work folder is not made again unless its options have changed, and an unfinished
one begins anew. Writes docs/results/explicit-and-implicit.json, a picture of samples and the tables of the page from
all runs found in the work folder; --draw only fills in the tables.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
import torch
from figures import put, table
from seeds import DOCS, by_line, is_made, keep, made, make_runs, parser_of, result_of, span
from torch import Tensor, nn

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.data.arrays import ArrayData, as_floats
from rdae.data.named import load_named
from rdae.data.samples import drawn_samples, like_data
from rdae.distortions import squared_error
from rdae.likelihoods import Gaussian
from rdae.measures.classifier import see
from rdae.measures.frechet import frechet_distance
from rdae.measures.likelihood import log_evidence
from rdae.measures.prior_sampling import prior_log_likelihood
from rdae.measures.sharpness import gradient_energy, independent_ratio, paired_ratio
from rdae.networks.critics import SLOPE
from rdae.networks.dense import DenseDecoder
from rdae.recipes import generative_recipe
from rdae.reports.judgement import judgement
from rdae.reports.sharpness import picture_rows
from rdae.training.adversarial_recipe import AdversarialRecipe
from rdae.training.array_recipe import ArrayRecipe
from rdae.training.checkpoint import load_newest
from rdae.training.generative_recipe import GenerativeRecipe
from rdae.training.loop import Settings, train
from rdae.training.recipe import Point

RESULTS = DOCS / "results" / "explicit-and-implicit.json"
LATENT, HIDDEN, BATCH = 8, (128, 128), 32
JUDGED = 1000  # samples
LOOKS, LOOKED_AT = 8, 500  # Fréchet distances during a run, and samples of each
LIKELY, WEIGHTS = 200, 200  # pictures of which ln p(y) is bounded, and draws for each
SHOWN = 20
WEIGHTS_FILE = "weights.pt"
FEW = 1000
CLEARLY = 1.02  # what counts as farther: same latents, so little chance is in it
AVERAGE = 0.995  # decay of the moving average of the weights; runs are short
COMMON: dict[str, Any] = {"network": "dense", "latent": LATENT, "hidden": HIDDEN, "batch": BATCH}
RATES = {"learning_rate": 1e-3, "critic_learning_rate": 1e-3}  # of both players of a game


class Contestant(NamedTuple):
    """A kind: its recipe, the turns of all players together, options, and the number that training shows."""

    name: str
    recipe: str
    turns: int
    options: dict[str, Any]
    signal: str


KINDS = {
    "vae": Contestant("VAE", "gaussian_vae", 3600, {"learning_rate": 1e-3}, "loss"),
    "wae": Contestant("WAE", "wae_mmd", 3200, {"learning_rate": 1e-3, "weight": 100.0}, "loss"),
    "gan": Contestant("GAN", "gan", 4160, {"r1": 1.0, **RATES}, "generator_loss"),
    "wgan": Contestant("WGAN", "wgan_gp", 3960, {"critic_steps": 2, **RATES}, "gap"),
}


# --- the four kinds ------------------------------------------------------------------------------------------------


def decoder(event: tuple[int, ...]) -> nn.Module:
    """The network that all kinds share, as the recipes of games build it."""
    return nn.Sequential(DenseDecoder(event, LATENT, HIDDEN, activation=partial(nn.LeakyReLU, SLOPE)), nn.Sigmoid())


def looks(model: Any, test: ArrayData, features: Tensor) -> list[Point]:
    """How far samples are from held-out data."""
    fake = see(drawn_samples(model, test, LOOKED_AT, seed=0)).features
    return [{"frechet": frechet_distance(features, fake).value}]


@cache
def reference() -> tuple[ArrayData, Tensor]:
    """Held-out pictures and their features."""
    test = load_named("mnist", split="test")
    return test, torch.cat([see(part).features for part in test.values.split(1000)])


@dataclass(frozen=True, kw_only=True)
class WatchedAutoencoder(GenerativeRecipe):
    """An autoencoder whose samples are looked at while it learns."""

    def held_out(self, folder: Path | None) -> Tensor:
        return reference()[1]

    def validate(self, model: Any, held_out: Tensor) -> list[Point]:
        return looks(model, reference()[0], held_out)


@dataclass(frozen=True, kw_only=True)
class WatchedGame(AdversarialRecipe):
    """The same of a game."""

    def held_out(self, folder: Path | None) -> Tensor:
        return reference()[1]

    def validate(self, model: Any, held_out: Tensor) -> list[Point]:
        return looks(model, reference()[0], held_out)


def recipe_of(kind: str, data: ArrayData, options: dict[str, Any], turns: int) -> ArrayRecipe:
    """The package's recipe with the shared decoder, watched."""
    few = ArrayData(data.values[:FEW], data.kind, name=data.name)  # what networks are centred by, at each look anew
    plain = generative_recipe(KINDS[kind].recipe, few, None, options)
    game = isinstance(plain, AdversarialRecipe)

    def autoencoder() -> NoisyChannelAutoencoder:
        built = plain.model()
        built.decoder = decoder(data.event)
        return built

    cls: Any = WatchedGame if game else WatchedAutoencoder
    own = {f.name: getattr(plain, f.name) for f in fields(plain)}
    return replace(cls(**own), data=data, steps=turns, average=AVERAGE, model=plain.model if game else autoencoder)


def opened(run: Path) -> tuple[Any, dict[str, Any]]:
    """A trained model of the work folder, in `eval()` mode, and its result."""
    kept = result_of(run)
    recipe = recipe_of(kept["kind"], load_named("mnist"), kept["options"], kept["turns"])
    return recipe.trained(torch.load(run / WEIGHTS_FILE, weights_only=True)), kept


# --- a run ---------------------------------------------------------------------------------------------------------


def run(kind: str, seed: int, folder: Path, changes: dict[str, Any]) -> None:
    """Trains one kind with one seed; leaves weights, pictures and what they are worth in the folder."""
    kind_of = KINDS[kind]
    turns = changes.get("turns", kind_of.turns)
    options = COMMON | kind_of.options | {name: value for name, value in changes.items() if name != "turns"}
    if is_made(folder, options, turns=turns):
        return
    shutil.rmtree(folder, ignore_errors=True)
    test, _ = reference()
    recipe = recipe_of(kind, load_named("mnist"), options, turns)
    critic_steps = recipe.critic_steps if isinstance(recipe, AdversarialRecipe) else 0
    every = turns // LOOKS
    settings = Settings(
        data=folder, out=folder, seed=seed, accelerator="cpu", devices="1", checkpoint_minutes=60.0,
        validate_steps=every,
    )  # fmt: skip
    cpu = time.process_time()
    train(recipe, settings)
    cpu = time.process_time() - cpu
    state = load_newest(folder / "checkpoints")
    assert state is not None
    torch.save(state["average"]["average"], folder / WEIGHTS_FILE)
    model = recipe.trained(state["average"]["average"])
    found = {
        "kind": kind, "seed": seed, "turns": turns, "updates": turns // (critic_steps + 1),
        "cpu_seconds": round(cpu), **path_of(folder / "log.jsonl", every, kind_of.signal), **measures(model, test),
    }  # fmt: skip
    shutil.rmtree(folder / "checkpoints")
    shutil.rmtree(folder / "tensorboard")
    keep(folder, found, options)


def path_of(log: Path, every: int, signal: str) -> dict[str, list[float]]:
    """Fréchet distance at each look, and the mean of the number that training shows since the look before."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    looked = [line for line in lines if line.get("valid")]
    shown = [[line[signal] for line in lines if not line.get("valid") and at - every < line["step"] <= at]
             for at in (line["step"] for line in looked)]  # fmt: skip
    return {
        "frechet_path": [round(line["frechet"], 2) for line in looked],
        "signal_path": [round(float(np.mean(values)), 5) for values in shown],
    }


@torch.no_grad()
def measures(model: Any, test: ArrayData) -> dict[str, float]:
    """Everything that the page tells of one model."""
    samples = drawn_samples(model, test, JUDGED, seed=0)
    rows = judgement(samples, test, name="mnist", seed=0).rows
    detail = gradient_energy(as_floats(test.values, test.kind))
    sharp = gradient_energy(as_floats(samples, test.kind))
    found = {row.key: row.value.value for row in rows} | {"sharpness": independent_ratio(sharp, detail).value}
    if isinstance(model, NoisyChannelAutoencoder):
        found |= of_encoder(model, test, detail)
        if isinstance(model.distortion, Gaussian):
            found |= of_density(model, test, detail)
    return {name: float(f"{value:.5g}") for name, value in found.items()}


def of_encoder(model: NoisyChannelAutoencoder, test: ArrayData, detail: Tensor) -> dict[str, float]:
    """Reconstructions of held-out pictures: their error, their sharpness, their distance from other pictures."""
    y = as_floats(test.values, test.kind)
    y_hat = torch.cat([model.reconstruct(part) for part in y.split(1000)])
    back = see(like_data(y_hat[:JUDGED], test, "Reconstructions")).features
    return {
        "error": float(squared_error(y, y_hat).mean()),
        "sharpness_reconstructed": paired_ratio(gradient_energy(y_hat), detail).value,
        "frechet_reconstructed": frechet_distance(reference()[1][JUDGED : 2 * JUDGED], back).value,
    }


def of_density(model: NoisyChannelAutoencoder, test: ArrayData, detail: Tensor) -> dict[str, float]:
    """Bounds on ln p(y), rate and spread, and draws from p(y | z) in the place of its mean."""
    torch.manual_seed(0)
    y = as_floats(test.values, test.kind)
    terms = [model(part).terms for part in y.split(1000)]
    rate, distortion = (float(torch.cat([getattr(t, name) for t in terms]).mean()) for name in ("rate", "distortion"))
    likelihood = model.distortion
    assert isinstance(likelihood, Gaussian)
    draws = likelihood.sample(model.decoder(model.code().sample((JUDGED,)))).clamp(0, 1)
    seen = see(like_data(draws, test, "Draws")).features
    return {
        "rate_nats": rate,
        "elbo_nats": -rate - distortion,
        "bound_nats": float(log_evidence(model, y[:LIKELY], WEIGHTS).mean()),
        "elbo_of_these_nats": float(log_evidence(model, y[:LIKELY], 1).mean()),
        "prior_nats": prior_log_likelihood(model, y[:LIKELY], WEIGHTS).value,
        "sharpness_drawn": independent_ratio(gradient_energy(draws), detail).value,
        "frechet_drawn": frechet_distance(reference()[1][JUDGED : 2 * JUDGED], seen).value,
    }


# --- the page ------------------------------------------------------------------------------------------------------

SAMPLED = {  # measure to its name and digits
    "frechet": ("Fréchet distance", 1), "precision": ("precision", 3), "recall": ("recall", 3),
    "density": ("density", 3), "coverage": ("coverage", 3), "covered": ("digits of 10", 0),
    "reverse_kl": ("reverse KL of digits, nats", 3), "sharpness": ("gradient energy, ratio to data", 2),
    "updates": ("updates of the decoder", 0), "cpu_seconds": ("CPU seconds", 0),
}  # fmt: skip
INFERRED = {
    "error": ("squared error of a reconstruction", 1),
    "sharpness_reconstructed": ("gradient energy of reconstructions, ratio to data", 2),
    "frechet_reconstructed": ("Fréchet distance of reconstructions", 1),
    "sharpness_drawn": ("gradient energy of draws from p(y\u2223z)", 2),
    "frechet_drawn": ("Fréchet distance of draws from p(y\u2223z)", 1),
    "rate_nats": ("rate, nats", 1), "elbo_nats": ("evidence lower bound, nats", 0),
    "elbo_of_these_nats": (f"bound on ln p(y) of {LIKELY} pictures, nats: 1 draw of q", 0),
    "bound_nats": (f"the same, {WEIGHTS} draws of q", 0),
    "prior_nats": (f"the same, {WEIGHTS} draws of the prior", 0),
}  # fmt: skip


def rises(path: list[float]) -> int:
    """Looks at which samples were clearly farther from data than at the look before."""
    return sum(later > CLEARLY * before for before, later in pairwise(path))


def rank_correlation(one: list[float], other: list[float]) -> float:
    """Spearman's."""
    return float(scipy.stats.spearmanr(one, other).statistic)


def tables(about: dict[str, Any]) -> dict[str, str]:
    """The tables of the page, by mark."""
    runs = {kind: own for kind, own in about["runs"].items() if own}
    names = [KINDS[kind].name for kind in runs]

    def rows(measured: dict[str, tuple[str, int]], more: bool) -> list[list[str]]:
        made = []
        for key, (name, digits) in measured.items():
            cells = [span([r[key] for r in own], digits) if key in own[0] else "\u2013" for own in runs.values()]
            floor = about["floor"].get(key)
            own_floor = f"{floor['mean']:.{digits}f} ± {floor['spread']:.{digits}f}" if floor else ""
            made.append([name, *cells, *([own_floor] if more else [])])
        return made

    stable = []
    for kind, own in runs.items():
        paths = [r["frechet_path"] for r in own]
        last, best = [r["frechet"] for r in own], [min(path) for path in paths]
        tied = [rank_correlation(r["frechet_path"], r["signal_path"]) for r in own]
        ends = rank_correlation(last, [r["signal_path"][-1] for r in own])
        ratios = [path[-1] / least for path, least in zip(paths, best, strict=True)]
        stable.append([
            KINDS[kind].name, KINDS[kind].signal.replace("_", " "), f"{len(own)}", f"{max(last) / min(last):.2f}",
            f"{sum(map(rises, paths))} of {sum(len(path) - 1 for path in paths)}", f"{max(ratios):.2f}", span(tied, 2),
            f"{ends:.1f}",
        ])  # fmt: skip
    return {
        "samples": table(["measure", *names, "data against data"], rows(SAMPLED, True)),
        "inference": table(["measure", *names], rows(INFERRED, False)),
        "stability": table(
            ["kind", "number shown in training", "seeds", "worst seed / best seed", "looks that were worse",
             "end / best look, worst seed", "number with distance, in a run", "between seeds"], stable, words=2,
        ),
    }  # fmt: skip


def picture(work: Path, docs: Path) -> None:
    """Data, and the first seed's samples of each kind."""
    test, _ = reference()
    rows = {"data": as_floats(test.values[:SHOWN], test.kind)}
    for kind, (name, *_) in KINDS.items():
        if (work / f"{kind}-0" / "result.json").exists():
            model, _ = opened(work / f"{kind}-0")
            rows[name] = as_floats(drawn_samples(model, test, SHOWN, seed=1), test.kind)
            if name in ("VAE", "WAE"):
                rows[f"{name}, data\nreconstructed"] = model.reconstruct(rows["data"])
    picture_rows(rows).savefig(docs / "images" / "explicit-and-implicit.png", dpi=100)


def main() -> None:
    """Trains what is not trained yet, and writes what all of it came to."""
    parser = parser_of("kinds", list(KINDS))
    parser.add_argument("--draw", action="store_true", help="only the tables, from the results")
    arguments = parser.parse_args()
    results = arguments.docs / "results" / RESULTS.name
    if not arguments.draw:
        if arguments.work is None:
            parser.error("name a folder with --work")
        if not make_runs(arguments, run):
            return
        results.write_text(found_in(arguments.work), encoding="utf-8")
        picture(arguments.work, arguments.docs)
    for mark, text in tables(json.loads(results.read_text(encoding="utf-8"))).items():
        put(arguments.docs / "explicit-and-implicit.md", mark, text)


def found_in(work: Path) -> str:
    """All finished runs under today's options, and the floor, as JSON."""
    runs = {kind: made(work, kind, COMMON | own.options, turns=own.turns) for kind, own in KINDS.items()}
    test, _ = reference()
    train_split = load_named("mnist")
    some = torch.randperm(len(train_split), generator=torch.Generator().manual_seed(0))[:JUDGED]
    perfect = judgement(train_split.values[some], test, name="mnist", seed=0)  # its floor is that of every run
    detail = gradient_energy(as_floats(test.values, test.kind))
    halves = [detail[torch.randperm(len(detail), generator=torch.Generator().manual_seed(k))] for k in range(10)]
    ratios = [independent_ratio(d[:JUDGED], d[JUDGED:]).value for d in halves]
    floor = {row.key: {"mean": row.floor.mean, "spread": row.floor.spread} for row in perfect.rows}
    floor["sharpness"] = {"mean": float(np.mean(ratios)), "spread": float(np.std(ratios, ddof=1))}
    about = {
        "data": "mnist", "judged": JUDGED, "latent": LATENT, "hidden": HIDDEN, "batch": BATCH, "average": AVERAGE,
        "looks": LOOKS,
        "options": {kind: {"recipe": own.recipe, "turns": own.turns, **own.options} for kind, own in KINDS.items()},
        "floor": floor, "runs": runs,
    }  # fmt: skip
    return by_line(about, "kind")


if __name__ == "__main__":
    main()
