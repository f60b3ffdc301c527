"""How ln p(y) is missed as latents grow in number: naive Monte Carlo, importance weighting, annealing, the exact value.

    python scripts/likelihood_by_dimension.py             # some minutes of one core
    python scripts/likelihood_by_dimension.py --draw      # picture and table from docs/results

Linear Gaussian models of 2 to 20 latent variables, twice as many features, random weights N(0, 1), noise 0.7.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from figures import put, table
from torch import Tensor
from torch.distributions import kl_divergence

from rdae.exact import FactorAnalysis, linear_autoencoder
from rdae.measures.annealing import annealed_log_evidence, bdmc, sigmoid_ladder
from rdae.measures.likelihood import log_evidence
from rdae.measures.measure import Kind, mean_of
from rdae.measures.prior_sampling import log_second_moment, prior_log_evidence
from rdae.reports.drawing import Figure, colormaps

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = DOCS / "results" / "likelihood-by-dimension.json"
LATENTS = (2, 5, 10, 20)
SAMPLES = (100, 1000, 10_000, 100_000)
IMPORTANCE = 10_000
TEMPERATURES, CHAINS, LEAPFROG = 300, 16, 10
EXAMPLES, STD = 50, 0.7
Row = dict[str, Any]


def told(missing: Tensor) -> dict[str, float]:
    """Mean and standard error of what is missing, nats."""
    measure = mean_of(missing, "nats per example", Kind.ESTIMATE)
    return {"nats": measure.value, "standard_error": measure.standard_error}


def row(latent: int) -> Row:
    """What each estimate misses of the exact value on data of the model."""
    generator = torch.Generator().manual_seed(latent)
    weight = torch.randn(2 * latent, latent, generator=generator).double()
    model = FactorAnalysis.of(weight, torch.zeros(2 * latent), STD).requires_grad_(False)
    torch.manual_seed(0)
    y = model.sample(EXAMPLES)
    exact, posterior = model.log_prob(y), model.posterior(y)
    neural, rough = linear_autoencoder(model), linear_autoencoder(model, diagonal=True)
    naive = {n: prior_log_evidence(neural, y, n) for n in SAMPLES}
    with torch.no_grad():
        importance = log_evidence(rough, y, IMPORTANCE)
    ladder, settings = sigmoid_ladder(TEMPERATURES), {"chains": CHAINS, "leapfrog": LEAPFROG}
    began = time.perf_counter()
    annealed = annealed_log_evidence(neural, y, ladder, **settings)
    seconds = time.perf_counter() - began
    sandwich = bdmc(neural, EXAMPLES, ladder, **settings)
    return {
        "latent": latent, "exact_nats": float(exact.mean()), "rate_nats": float(kl(posterior, model).mean()),
        "log_second_moment_nats": float(log_second_moment(posterior).mean()),
        "naive": {str(n): told(exact - e.log_evidence) for n, e in naive.items()},
        "effective_samples": {str(n): float(e.effective_samples.median()) for n, e in naive.items()},
        "importance": told(exact - importance), "annealed": told(exact - annealed),
        "reverse": told(model.log_prob(sandwich.y) - sandwich.upper), "annealing_seconds": seconds,
    }  # fmt: skip


def kl(posterior: torch.distributions.MultivariateNormal, model: FactorAnalysis) -> Tensor:
    """The rate of the exact posterior, nats."""
    zero = torch.zeros(model.latent).double()
    return kl_divergence(posterior, torch.distributions.MultivariateNormal(zero, torch.eye(model.latent).double()))


def figure(rows: list[Row]) -> Figure:
    """Left: what is missing. Right: the logarithm of the draws it takes."""
    drawn = Figure(figsize=(9.5, 4), layout="constrained")
    left, right = drawn.subplots(1, 2)
    latents = [r["latent"] for r in rows]
    shades = colormaps["Blues"]([0.35, 0.5, 0.7, 0.95])
    for n, colour in zip(SAMPLES, shades, strict=True):
        left.plot(latents, [r["naive"][str(n)]["nats"] for r in rows], "o-", color=colour, label=f"prior, {n:,} draws")
    said = (
        ("importance", "C1", f"diagonal posterior, {IMPORTANCE:,} draws"), ("annealed", "C2", "annealing, forward"),
        ("reverse", "C3", "annealing, reverse"),
    )  # fmt: skip
    for name, colour, label in said:
        values = [r[name]["nats"] for r in rows]
        errors = [2 * r[name]["standard_error"] for r in rows]
        left.errorbar(latents, values, errors, fmt="s-", color=colour, label=label, capsize=2, markersize=4)
    left.axhline(0, color="black", linewidth=0.8)
    left.set_yscale("symlog", linthresh=0.1)
    left.set_ylabel("exact ln p(y) minus estimate, nats")
    left.set_ylim(bottom=-500)  # room for the legend
    left.legend(fontsize=7, loc="lower left")
    right.plot(latents, [r["log_second_moment_nats"] for r in rows], "o-", label="ln(1 + χ²): relative error 1")
    right.plot(latents, [r["rate_nats"] for r in rows], "s-", label="KL(posterior ‖ prior), the rate")
    for n in (1000, 10**6, 10**9):
        right.axhline(math.log(n), color="grey", linewidth=0.7, linestyle=":")
        right.text(latents[-1], math.log(n), f"{n:,}", fontsize=7, ha="right", va="bottom", color="grey")
    right.set_ylabel("ln of the draws needed")
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(latents, [str(k) for k in latents])
        axes.minorticks_off()
        axes.set_xlabel("latent variables")
        axes.spines[["top", "right"]].set_visible(False)
    return drawn


def page_table(rows: list[Row]) -> str:
    """The table of docs/likelihood.md."""

    def shown(measure: dict[str, float]) -> str:
        digits = 2 if abs(measure["nats"]) < 10 else 1
        return f"{measure['nats']:.{digits}f} ± {measure['standard_error']:.{digits}f}"

    head = [
        "latents", "rate, nats", "draws for relative error 1", *(f"prior, {n:,} draws" for n in (1000, 100_000)),
        f"diagonal posterior, {IMPORTANCE:,}", "annealing", "annealing, reverse",
    ]  # fmt: skip
    cells = [
        [
            f"{r['latent']}", f"{r['rate_nats']:.1f}", f"10^{r['log_second_moment_nats'] / math.log(10):.1f}",
            shown(r["naive"]["1000"]), shown(r["naive"]["100000"]), shown(r["importance"]), shown(r["annealed"]),
            shown(r["reverse"]),
        ]
        for r in rows
    ]  # fmt: skip
    return table(head, cells)


def main() -> None:
    """Measures, draws and fills in the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draw", action="store_true")
    if not parser.parse_args().draw:
        rows = []
        for latent in LATENTS:
            rows.append(row(latent))
            print(rows[-1], flush=True)
        about = {
            "examples": EXAMPLES, "std": STD, "importance_samples": IMPORTANCE, "temperatures": TEMPERATURES,
            "chains": CHAINS, "leapfrog": LEAPFROG, "rows": rows,
        }  # fmt: skip
        RESULTS.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    figure(rows).savefig(DOCS / "images" / "likelihood-by-dimension.png", dpi=100)
    if (DOCS / "likelihood.md").exists():
        put(DOCS / "likelihood.md", "dimension", page_table(rows))


if __name__ == "__main__":
    main()
