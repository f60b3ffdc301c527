"""The table of importance-weighted autoencoders on MNIST: ln p(y) of trained models, held against the published one.

    python scripts/iwae_table.py RUN [RUN ...]

RUN: folders that `rdae train iwae --data mnist --set samples=K ...` wrote. ln p(y) is estimated with 5,000 importance
samples for each test picture (or every n-th: --every n), binarised once. Writes docs/results/iwae.json, a shortened log
of each run and the table of docs/generative.md.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from figures import put, table

from rdae.data.arrays import Binarisation
from rdae.data.sources import open_data
from rdae.measures.likelihood import active_units, log_evidence
from rdae.measures.measure import Kind, mean_of
from rdae.recipes.model_file import open_model
from rdae.training.array_recipe import judged_on

DOCS = Path(__file__).parent.parent / "docs"
SAMPLES = 5000
PUBLISHED = {1: 86.76, 5: 85.54, 50: 84.78}  # Burda, Grosse & Salakhutdinov 2016, table 1: one layer, 3,280 passes
EVERY = 25  # lines of a log, of which one is kept


def judged(run: Path, y: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor]:
    """What is said of a run, and ln p(y) of each picture."""
    saved = open_model(run)
    torch.manual_seed(0)
    nats = log_evidence(saved.model, y, SAMPLES)
    measure = mean_of(-nats, "nats per example", Kind.UPPER)
    elbo = mean_of(log_evidence(saved.model, y, 1), "nats per example", Kind.LOWER)
    k, training = saved.card["options"].get("samples", 5), saved.card["training"]
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [line for n, line in enumerate(lines) if n % EVERY == 0 or '"valid"' in line]
    (DOCS / "results" / f"iwae-k{k}.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    result = {
        "samples_in_training": k, "nll_nats": measure.value, "standard_error": measure.standard_error,
        "elbo_nats": elbo.value, "active_units": active_units(saved.model, y), "published_nll_nats": PUBLISHED.get(k),
        "passes": training["steps"] * training["batch"] / training["examples"], "training": training,
    }  # fmt: skip
    return result, nats


def main() -> None:
    """Judges each run and fills in the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--every", type=int, default=1, help="judge every n-th of the 10,000 test pictures")
    arguments = parser.parse_args()
    y = judged_on(open_data("mnist", split="test"), Binarisation.DYNAMIC)[:: arguments.every]
    results = sorted((judged(run, y) for run in arguments.runs), key=lambda r: r[0]["samples_in_training"])
    gains = []
    for (before, a), (after, b) in pairwise(results):
        gain = mean_of(b - a, "nats per example", Kind.ESTIMATE)  # the same pictures: errors of the two cancel
        gains.append({
            "from": before["samples_in_training"], "to": after["samples_in_training"], "gain_nats": gain.value,
            "standard_error": gain.standard_error,
        })  # fmt: skip
    rows = [r for r, _ in results]
    text = json.dumps({"test_samples": SAMPLES, "test_pictures": len(y), "models": rows, "gains": gains}, indent=1)
    (DOCS / "results" / "iwae.json").write_text(text + "\n", encoding="utf-8")
    cells = [
        [
            f"{r['samples_in_training']}", f"{r['passes']:.0f}", f"{r['nll_nats']:.2f} ± {r['standard_error']:.2f}",
            f"{r['published_nll_nats']}", f"{r['nll_nats'] - r['published_nll_nats']:+.2f}", f"{-r['elbo_nats']:.2f}",
            f"{r['active_units']}",
        ]
        for r in rows
    ]  # fmt: skip
    head = [
        "K in training",
        "passes",
        "NLL, nats",
        "published (3,280 passes)",
        "distance",
        "minus ELBO, nats",
        "active units",
    ]
    said = "; ".join(
        f"from K = {g['from']} to {g['to']} the NLL falls by {g['gain_nats']:.2f} ± {g['standard_error']:.2f} nats"
        for g in gains
    )
    words = f"\n\n{len(y):,} test pictures" + (f"; on the same pictures, {said}." if said else ".")
    put(DOCS / "generative.md", "iwae", table(head, cells) + words)


if __name__ == "__main__":
    main()
