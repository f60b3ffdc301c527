"""Commands that measure: measure."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from rdae.cli.generating import examples_of, opened

__all__ = ["measure"]


def measure(
    model: Annotated[Path, typer.Argument(help="A .model file that training wrote, or the folder of its run.")],
    data: Annotated[str, typer.Option("--data", help="Held-out examples, as for training; of a named set its test.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Written as OUT.html and OUT.json.")] = Path("measures"),
    examples: Annotated[int, typer.Option("--examples", min=2, help="Examples looked at.")] = 1000,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Importance samples of each.")] = 500,
    searched: Annotated[
        int, typer.Option("--searched", min=2, help="Examples that are annealed and searched for.")
    ] = 50,
    temperatures: Annotated[int, typer.Option("--temperatures", min=0, help="Of annealing; 0 for none.")] = 300,
    search_steps: Annotated[int, typer.Option("--search-steps", min=0, help="Of the search; 0 for none.")] = 300,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is drawn.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> int:
    """Measure a model: rate, distortion, ln p(y) from several sides, what its latent says, what its encoder loses."""
    saved = opened(model, seed)
    from rdae.data.arrays import Kind
    from rdae.reports.model_page import model_page
    from rdae.reports.model_report import Budget, model_report
    from rdae.reports.page import write_report

    y = examples_of(data, saved.card, examples, fewer=True)
    budget = Budget(examples=examples, samples=samples, searched=searched, temperatures=temperatures,
                    search_steps=search_steps, seed=seed)  # fmt: skip
    binary = saved.card["binarisation"] != "none"
    found = model_report(saved.model, y, Kind.BINARY if binary else Kind(saved.card["kind"]), budget)
    named = Path(data).name
    words = ["rdae", "measure", model.name, "--data", named]
    for name, value in budget._asdict().items():
        if name != "latent_examples" and value != getattr(Budget(), name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    command = shlex.join(words)
    facts = json.dumps(
        {"model": model.name, "data": named, "command": command, "budget": budget._asdict(), **found.as_json()},
        indent=1,
    )
    page = model_page(found, f"{model.resolve().name}, measured on {named}", command)
    written = write_report(out, page, facts)
    print(facts if as_json else f"{found.text()}\n{written}")
    return 0
