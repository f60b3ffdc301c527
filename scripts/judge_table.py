"""The table of docs/judge.md: samples of a shipped model, and training digits in their place, against test digits.

RDAE_CACHE=FOLDER python scripts/judge_table.py       # a minute of one core; MNIST is downloaded once
python scripts/judge_table.py --draw                  # the table from docs/results/judge.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from figures import put, table

from rdae.data.arrays import ArrayData
from rdae.data.named import load_named
from rdae.data.samples import drawn_samples
from rdae.recipes.model_file import open_model
from rdae.reports.judgement import judgement

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results" / "judge.json"
SAMPLES, SEED = 2000, 0


def measured() -> dict[str, Any]:
    """Both judgements, as JSON."""
    test, train = load_named("mnist", split="test"), load_named("mnist")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(SEED))
    shown, rest = order[:SAMPLES], order[SAMPLES:]
    learned = ArrayData(train.values[rest], train.kind, name="mnist train, but for those judged")
    sources = {
        "training digits": (train.values[shown], learned),
        "iwae, k = 5": (
            drawn_samples(open_model(ROOT / "models" / "iwae" / "k5.model").model, test, SAMPLES, SEED),
            train,
        ),
    }
    return {
        name: judgement(samples, test, name="mnist", training=training, seed=SEED).as_json()
        for name, (samples, training) in sources.items()
    }


def tabulated(found: dict[str, Any]) -> str:
    """A row for each measure, a column for each source, and the floor."""
    names = list(found)
    rows = []
    for measures in zip(*(found[name]["measures"] for name in names), strict=True):
        cells = [
            f"{m['value']:.0f} {m['unit']}"
            if m["unit"].startswith("of ")
            else f"{m['value']:.3g} ± {m['standard_error']:.2g}"
            for m in measures
        ]
        floor = measures[0]["data_against_data"]
        rows.append([measures[0]["name"], *cells, f"{floor['mean']:.3g} ± {floor['spread']:.2g}"])
    return table(["measure", *names, "test digits against test digits"], rows)


def main() -> None:
    """Measures unless told not to, and fills in the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="only fill in the table")
    if not parser.parse_args().draw:
        RESULTS.write_text(json.dumps(measured(), indent=1) + "\n", encoding="utf-8")
    put(ROOT / "docs" / "judge.md", "judge", tabulated(json.loads(RESULTS.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
