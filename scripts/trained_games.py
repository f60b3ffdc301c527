"""Critics trained between known laws, held against exact values: the first half of docs/games.md.

    python scripts/trained_games.py [--seeds 5]

Discriminators between Gaussians against -ln 4 + 2 JS; Wasserstein critics, held back in three ways, against W_1 on the
line and against the transport program in the plane; and the gradient of a critic along the segments of the best plan.
Writes docs/results/games.json, two pictures and the tables of docs/games.md.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import torch
from figures import put, table
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from rdae.adversarial import (
    GradientPenalty,
    Minimax,
    Wasserstein,
    clip_weights,
    grid,
    slopes,
    spectrally_normalised,
    value,
    value_draws,
)
from rdae.adversarial.ramp import Ramp
from rdae.data.synthetic import MixtureSource
from rdae.measures.measure import Kind, mean_of
from rdae.measures.transport import dual_bound, exact_transport
from rdae.networks.critics import DenseCritic
from rdae.reports.games import along_segments, segments_figure
from rdae.training.critic import Sampler, fit_critic

DOCS = Path(__file__).parent.parent / "docs"
FRESH = 200_000  # draws of each law that a trained critic is judged on
SHIFTS = {1.0: -1.163451, 2.0: -0.712633, 4.0: -0.120854}  # N(0, 1) against N(m, 1): -ln 4 + 2 JS
PAIRS = {  # mean and standard deviation of the generated law; the real one is N(0, 1): W_1
    (1.0, 1.0): 1.0,
    (0.0, 2.0): math.sqrt(2 / math.pi),
    (1.0, 2.0): 1.166631,
}
LINE = grid([-16.0], [18.0], 6000)
POINTS = 512  # of each sample in the plane
STEEP_AT = 4096  # draws among which the steepest place of a critic is looked for


class Way(NamedTuple):
    """A way to hold a Wasserstein critic back."""

    weight: float | None = None  # of a gradient penalty
    start: float = 0.1  # from which it rises in the first half of the run, while slopes may still change their sign
    spectral: bool = False
    clip: float | None = None
    rate: float = 1e-2


WAYS = {
    "gradient penalty, weight 10": Way(10.0),
    "gradient penalty, weight 100": Way(100.0),
    "the same, from the first step": Way(100.0, start=100.0),
    "spectral normalisation": Way(spectral=True),
    "weights clipped at 0.1": Way(clip=0.1, rate=3e-3),
}


def normal(mean_: float, std: float) -> Sampler:
    """Draws of a Gaussian on the line."""
    return lambda count: mean_ + std * torch.randn(count, 1)


def law(mean_: float, std: float) -> Independent:
    """The same law with its density, in float64."""
    return Independent(Normal(torch.tensor([mean_]).double(), torch.tensor([std]).double()), 1)


def discriminator(shift: float, seed: int) -> dict[str, float]:
    """V of a trained discriminator, on fresh draws and by quadrature."""
    torch.manual_seed(seed)
    critic = DenseCritic((1,), (32, 32))
    real, fake = normal(0.0, 1.0), normal(shift, 1.0)
    fit_critic(critic, Minimax(), real, fake)
    with torch.no_grad():
        found = mean_of(value_draws(critic(real(FRESH)), critic(fake(FRESH))), "nats", Kind.LOWER)
        exact = value(law(0.0, 1.0).log_prob, law(shift, 1.0).log_prob, LINE, critic.double())
    return {"value": found.value, "standard_error": found.standard_error, "quadrature": exact}


def fitted(way: Way, real: Sampler, fake: Sampler, event: int, hidden: int, steps: int) -> nn.Module:
    """A Wasserstein critic, held back."""
    critic = DenseCritic((event,), (hidden, hidden))
    if way.spectral:
        spectrally_normalised(critic, iterations=2)
    if way.clip is not None:
        critic.network.layers[-1].reset_parameters()  # a critic of small weights that starts at 0 stays there
    after: Callable[[nn.Module], None] | None = None
    if way.clip is not None:
        bound = way.clip
        after = lambda network: clip_weights(network, bound)  # noqa: E731
    penalties = [Ramp(GradientPenalty(way.start), steps // 2, way.weight / way.start)] if way.weight else []
    fit_critic(critic, Wasserstein(), real, fake, penalties, steps=steps, learning_rate=way.rate, after=after)
    return critic


def judged(critic: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """The estimate of a critic on two samples, its steepest slope there and between, and the bound that gives."""
    with torch.no_grad():
        f_x, f_y = critic(x), critic(y)
    ends = x[:STEEP_AT], y[torch.randperm(len(y))[:STEEP_AT]]
    between = torch.lerp(*ends, torch.rand(len(ends[0]), 1))
    steepest = max(float(slopes(critic, places).detach().max()) for places in (*ends, between))
    estimate, bound = dual_bound(f_x, f_y), dual_bound(f_x, f_y, steepest)
    return {
        "estimate": estimate.value, "standard_error": estimate.standard_error, "steepest": steepest,
        "bound": bound.value,
    }  # fmt: skip


def best_penalised(mean_: float, std: float, weight: float) -> float:
    """What the best critic under a gradient penalty estimates, by quadrature.

    It maximises the integral of `s |F_r - F_g| - weight * p_x (s - 1)**2` over its slope s, p_x the law of the
    interpolates, so that `s = 1 + |F_r - F_g| / (2 weight p_x)`; where F_r - F_g changes sign so does f'.
    """
    y = LINE.points[:, 0]
    apart = (Normal(0.0, 1.0).cdf(y) - Normal(mean_, std).cdf(y)).abs()
    t = ((torch.arange(2000, dtype=torch.float64) + 0.5) / 2000)[:, None]
    between = Normal((1 - t) * mean_, (t**2 + (1 - t) ** 2 * std**2).sqrt()).log_prob(y).exp().mean(0)
    seen = between > 1e-12
    steep = 1 + apart[seen] / (2 * weight * between[seen])
    return LINE.cell * float((apart[seen] * steep).sum())


def on_the_line(pair: tuple[float, float], name: str, seed: int) -> dict[str, float]:
    """One critic between two Gaussians, judged on fresh draws."""
    torch.manual_seed(seed)
    real, fake = normal(0.0, 1.0), normal(*pair)
    critic = fitted(WAYS[name], real, fake, 1, 32, 600)
    return judged(critic, real(FRESH), fake(FRESH))


def planes(seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Pairs of samples in the plane, real and generated."""
    g = torch.Generator().manual_seed(seed)
    turned = torch.tensor([[1.2, 0.5], [0.0, 0.6]])
    shifted = torch.randn(POINTS, 2, generator=g) @ turned + torch.tensor([3.0, 1.0])
    ring = 3 * torch.from_numpy(MixtureSource.ring().sample(POINTS, seed)).float()
    return {
        "N(0, I) and a Gaussian at (3, 1)": (torch.randn(POINTS, 2, generator=g), shifted),
        "ring of 8, radius 3, and N(0, I / 9)": (ring, torch.randn(POINTS, 2, generator=g) / 3),
    }


def of_rows(sample: Tensor) -> Sampler:
    """Draws from a sample, with replacement."""
    return lambda count: sample[torch.randint(len(sample), (count,))]


def in_the_plane(pair: str, name: str, seed: int) -> tuple[dict[str, float], nn.Module]:
    """One critic between two samples, judged on the same samples, as the program is."""
    x, y = planes(seed)[pair]
    torch.manual_seed(seed)
    critic = fitted(WAYS[name], of_rows(x), of_rows(y), 2, 64, 1000)
    return judged(critic, x, y), critic


def summary(runs: list[dict[str, float]]) -> dict[str, float]:
    """Mean over seeds of each number, and the spread of the first."""
    first = next(iter(runs[0]))
    means = {name: mean(run[name] for run in runs) for name in runs[0]}
    return means | {"spread": stdev([run[first] for run in runs]) if len(runs) > 1 else 0.0}


def rounded(value_: Any) -> Any:
    """Six digits."""
    if isinstance(value_, float):
        return float(f"{value_:.6g}")
    if isinstance(value_, dict):
        return {name: rounded(part) for name, part in value_.items()}
    return [rounded(part) for part in value_] if isinstance(value_, list) else value_


def measured(seeds: range) -> tuple[dict[str, Any], nn.Module]:
    """All numbers, and the critic of the picture."""
    result: dict[str, Any] = {"seeds": len(seeds), "discriminators": [], "line": [], "plane": []}
    for shift, exact in SHIFTS.items():
        runs = [discriminator(shift, seed) for seed in seeds]
        worst = max(abs(run["value"] - exact) for run in runs)
        result["discriminators"].append({"shift": shift, "exact": exact, **summary(runs), "worst": worst})
    for pair, exact in PAIRS.items():
        for name, way in WAYS.items():
            predicted = best_penalised(*pair, way.weight) if way.weight else None
            runs = [on_the_line(pair, name, seed) for seed in seeds]
            row = {"mean": pair[0], "std": pair[1], "way": name, "exact": exact, "predicted": predicted}
            result["line"].append(row | summary(runs))
    shown: nn.Module
    for pair_ in planes(0):
        for name in WAYS:
            costs, runs = [], []
            for seed in seeds:
                x, y = planes(seed)[pair_]
                costs.append(exact_transport(x, y).cost)
                run, critic = in_the_plane(pair_, name, seed)
                runs.append(run | {"ratio": run["estimate"] / costs[-1].value})
                if seed == 0 and name == "gradient penalty, weight 100" and pair_.startswith("ring"):
                    shown = critic
            row = {"pair": pair_, "way": name, "transport": mean(c.value for c in costs)}
            result["plane"].append(row | summary(runs))
    return result, shown


def picture(critic: nn.Module, images: Path) -> dict[str, float]:
    """The gradient along the segments of the best plan, drawn, and in numbers."""
    x, y = planes(0)["ring of 8, radius 3, and N(0, I / 9)"]
    plan = exact_transport(x, y)
    segments_figure(critic, x, y, plan).savefig(images / "transport-segments.png", dpi=90)
    found = along_segments(critic, x, y, plan)
    slope, cosine = found.slope.flatten(), found.cosine.flatten()
    low, middle, high = (float(slope.quantile(q)) for q in (0.05, 0.5, 0.95))
    return {
        "slope_mean": float(slope.mean()), "slope_5": low, "slope_median": middle, "slope_95": high,
        "cosine_mean": float(cosine.mean()), "cosine_5": float(cosine.quantile(0.05)),
    }  # fmt: skip


def tables(result: dict[str, Any]) -> dict[str, str]:
    """The tables of docs/games.md by mark."""
    discriminators = [
        [
            f"N(0, 1), N({r['shift']:g}, 1)", f"{r['exact']:.6f}", f"{r['value']:.4f} ± {r['standard_error']:.4f}",
            f"{r['quadrature']:.4f}", f"{r['worst']:.4f}",
        ]
        for r in result["discriminators"]
    ]  # fmt: skip
    line = [
        [
            f"N({r['mean']:g}, {r['std'] ** 2:g})", r["way"], f"{r['exact']:.4f}",
            "" if r["predicted"] is None else f"{r['predicted']:.4f}", f"{r['estimate']:.4f} ± {r['spread']:.4f}",
            f"{100 * (r['estimate'] / r['exact'] - 1):+.1f} %", f"{r['steepest']:.3f}",
            f"{100 * (r['bound'] / r['exact'] - 1):+.1f} %",
        ]
        for r in result["line"]
    ]  # fmt: skip
    plane = [
        [
            r["pair"], r["way"], f"{r['transport']:.4f}", f"{r['estimate']:.4f}", f"{100 * (r['ratio'] - 1):+.1f} %",
            f"{r['steepest']:.3f}", f"{100 * (r['bound'] / r['transport'] - 1):+.1f} %",
        ]
        for r in result["plane"]
    ]  # fmt: skip
    s = result["segments"]
    segments = (
        f"At nine points on each of {POINTS} segments the gradient has the length {s['slope_mean']:.3f} on average "
        f"(90 % between {s['slope_5']:.3f} and {s['slope_95']:.3f}), and the cosine of its angle with the segment is "
        f"{s['cosine_mean']:.4f} (95 % above {s['cosine_5']:.4f})."
    )
    return {
        "segments": segments,
        "discriminators": table(
            ["laws", "\u2212ln 4 + 2 JS", "trained, fresh draws", "trained, quadrature", "largest error of a seed"],
            discriminators,
        ),
        "line": table(
            ["generated law", "critic held back by", "W₁", "best under the penalty", "estimate", "error",
             "largest slope", "estimate / slope"], line, words=2,
        ),
        "plane": table(
            ["samples", "critic held back by", "W₁ by transport", "estimate", "error", "largest slope",
             "estimate / slope"], plane, words=2,
        ),
    }  # fmt: skip


def main() -> None:
    """Trains, measures, draws and fills in the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    began = time.process_time()
    result, critic = measured(range(arguments.seeds))
    result["segments"] = picture(critic, DOCS / "images")
    result["cpu_seconds"] = round(time.process_time() - began)
    text = json.dumps(rounded(result), indent=1)
    (DOCS / "results" / "games.json").write_text(text + "\n", encoding="utf-8")
    for mark, rows in tables(result).items():
        put(DOCS / "games.md", mark, rows)
    print(text)


if __name__ == "__main__":
    main()
