"""`rdae limits` on sources whose rate-distortion function is known: Gaussians up to 16 dimensions, and the banana.

    python scripts/limits_accepted.py --work runs/accepted

Writes docs/results/limits-accepted.json, a picture of the banana's curve between its bounds, and a table of
docs/limits.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from figures import put, table

from rdae.data.synthetic import BananaSource, GaussianSource, Source
from rdae.measures.blahut_arimoto import rate_distortion_curve, squared_distances
from rdae.measures.rate_distortion import water_filling, water_filling_at_rate
from rdae.objectives import BITS_PER_NAT
from rdae.recipes.limits import Limits, measured
from rdae.reports.limits import limits_figure

DOCS = Path(__file__).parent.parent / "docs"
DIMENSIONS = (2, 4, 8, 16)
DECAY = 0.5  # of variances from one dimension to the next
LEARNED_FROM, JUDGED_BY = 50_000, 20_000
SIDE = 90  # cells of the banana's plane, along each side
STEPS, LOWER_STEPS, EXAMPLES = 2000, 200, 1024
LAMS_OF_BANANA = (0.1, 0.3, 1.0, 3.0)
OPTIONS = {"hidden": (64, 64), "batch": 250, "learning_rate": 3e-3}


def banana_curve(source: BananaSource) -> tuple[np.ndarray, np.ndarray]:
    """Distortions and rates of the banana put on a grid: letters at the centres of cells, by their density."""
    y = source.sample(200_000, seed=5)
    low, high = y.min(0) - 0.2, y.max(0) + 0.2
    axes = [np.linspace(a, b, SIDE) for a, b in zip(low, high, strict=True)]
    letters = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    mass = np.exp(source.log_prob(letters))
    kept = mass > 1e-6 * mass.max()
    letters, mass = letters[kept], mass[kept] / mass[kept].sum()
    points = rate_distortion_curve(
        mass, squared_distances(letters, letters), np.geomspace(LAMS_OF_BANANA[0] / 2, LAMS_OF_BANANA[-1] * 2, 8),
        tolerance=5e-3,
    )  # fmt: skip
    return np.array([p.distortion for p in points]), np.array([p.rate for p in points])


def held(source: Source, name: str, work: Path, lams: tuple[float, ...] | None, latent: int) -> Limits:
    """Both bounds, from samples alone."""
    work.mkdir(parents=True, exist_ok=True)
    paths = []
    for part, count, seed in (("learned", LEARNED_FROM, 1), ("judged", JUDGED_BY, 2)):
        paths.append(work / f"{name}-{part}.npy")
        np.save(paths[-1], source.sample(count, seed).astype(np.float32))
    return measured(
        str(paths[0]), work / name, valid=str(paths[1]), lams=lams, steps=STEPS, options={**OPTIONS, "latent": latent},
        examples=EXAMPLES, lower_steps=LOWER_STEPS,
    )  # fmt: skip


def rows(name: str, found: Limits, exact: Callable[[float], float]) -> list[dict[str, Any]]:
    """Bounds beside the exact rate, in nats."""
    return [
        {
            "source": name, "lam": limit.lam, "distortion": limit.distortion.value,
            "lower": list(limit.lower[:2]), "exact": exact(limit.distortion.value), "upper": list(limit.upper[:2]),
        }
        for limit in found.limits
    ]  # fmt: skip


def main() -> None:
    """Measures, draws, fills the table in."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, default=DOCS)
    arguments = parser.parse_args()
    result: list[dict[str, Any]] = []
    for size in DIMENSIONS:
        source = GaussianSource.rotated(DECAY ** np.arange(size), seed=size)
        variances = source.variances
        # 0.3 to 5 nats in all, whatever the dimension
        lams = tuple(water_filling_at_rate(variances, nats).lam for nats in (0.3, 1.0, 2.5, 5.0))
        found = held(source, f"gaussian-{size}", arguments.work, lams, size)
        result += rows(f"Gaussian, {size}", found, lambda d, v=variances: water_filling(v, d).rate)
    banana = BananaSource()
    found = held(banana, "banana", arguments.work, LAMS_OF_BANANA, 2)
    distortions, rates = banana_curve(banana)
    order = np.argsort(distortions)
    result += rows("banana", found, lambda d: float(np.interp(d, distortions[order], rates[order])))
    (arguments.output / "results").mkdir(parents=True, exist_ok=True)
    (arguments.output / "results" / "limits-accepted.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    figure = limits_figure(found)
    axes = figure.axes[0]
    inside = (distortions >= axes.get_xlim()[0]) & (distortions <= axes.get_xlim()[1])
    axes.plot(distortions[inside], rates[inside] * BITS_PER_NAT, "k:", label="R(D), Blahut and Arimoto")
    axes.legend(fontsize=8)
    figure.savefig(arguments.output / "images" / "limits-banana.png", dpi=100)
    text = table(
        ["source, dimensions", "λ", "squared error", "at least, nats", "R(D), nats", "at most, nats"],
        [[r["source"], f"{r['lam']:.3g}", f"{r['distortion']:.3g}", f"{r['lower'][0]:.3f} ± {r['lower'][1]:.3f}",
          f"{r['exact']:.3f}", f"{r['upper'][0]:.3f} ± {r['upper'][1]:.3f}"] for r in result],
    )  # fmt: skip
    print(text)
    page = arguments.output / "limits.md"
    if page.exists():
        put(page, "accepted", text)


if __name__ == "__main__":
    main()
