"""Commands for many trainings: sweep, limits."""

from __future__ import annotations

import ast
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rdae.cli.training import RECIPES, Accelerator, Kind, On, RecipeName, option, published, training_extra
from rdae.errors import DataError

__all__ = ["limits", "sweep"]

Data = Annotated[str, typer.Option("--data", help="As for train.")]
Valid = Annotated[str | None, typer.Option("--valid", help="Held-out data, which runs are judged by.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Training steps of each run.")]
Size = Annotated[int | None, typer.Option("--size", min=1, help="Side of resized images.")]
Options = Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE, an option of the recipe; repeatable.")]
Dask = Annotated[str | None, typer.Option("--dask", help="Address of a Dask scheduler; its workers see the folder.")]


def _values(text: str) -> tuple[str, list[Any]]:
    """NAME=VALUE,VALUE,...; one Python literal a value where it is one."""
    name, equals, values = text.partition("=")
    if not equals or not name.strip() or not values.strip():
        raise DataError(f"--over {text} is not NAME=VALUE,VALUE,... Write for example --over lam=10,30,100.")
    try:
        found = ast.literal_eval(values)
        listed = list(found) if isinstance(found, tuple) else [found]
    except (ValueError, SyntaxError):
        listed = [option(f"x={value}")[1] for value in values.split(",")]
    return name.strip().replace("-", "_"), listed


def _whole(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as error:
        raise DataError(f"--seeds {text} is no list of whole numbers. Write for example --seeds 0,1,2.") from error


def sweep(
    recipe: Annotated[RecipeName, typer.Argument(metavar="RECIPE", show_choices=False, help=RECIPES)],
    data: Data,
    over: Annotated[
        list[str] | None, typer.Option("--over", help="NAME=VALUE,VALUE,... of the recipe's options; repeatable.")
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Such as 0,1,2: each combination once with each.")] = "0",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder of all runs; a sweep goes on.")] = None,
    valid: Valid = None,
    steps: Steps = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Examples per step.")] = None,
    size: Size = None,
    kind: Kind = None,
    options: Options = None,
    validate_steps: Annotated[int, typer.Option("--validate-steps", min=1, help="Steps between validations.")] = 1000,
    accelerator: On = Accelerator.auto,
    dask: Dask = None,
) -> int:
    """Train a recipe with every combination of some options and seeds, into one table and one curve."""
    with training_extra():
        from rdae.recipes.order import Order
        from rdae.recipes.sweep import settings_of, trials
        from rdae.recipes.sweep import sweep as carried_out
        from rdae.reports.sweep import write_sweep
    folder = out or Path("runs") / f"{recipe.value}-sweep"
    order = Order(
        recipe=recipe.value, data=data, out=folder, valid=valid, steps=steps, batch=batch, size=size, kind=kind,
        options=dict(option(text) for text in options or []), command=published(sys.argv[1:]),
        settings={"accelerator": accelerator.value, "devices": "1", "validate_steps": validate_steps},
    )  # fmt: skip
    varied = [_values(text) for text in over or []]
    if len(dict(varied)) < len(varied):
        raise DataError(f"--over names an option twice: {', '.join(name for name, _ in varied)}. Name each once.")
    runs = trials(order, dict(varied), _whole(seeds))
    rows = settings_of(runs, carried_out(runs, dask))
    print(write_sweep(rows, folder))
    return 0


def limits(
    data: Data,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of all runs and of the report.")] = Path(
        "runs/limits"
    ),
    valid: Annotated[
        str | None,
        typer.Option("--valid", help="Held-out data, which both bounds come from; else a fifth is held out."),
    ] = None,
    lams: Annotated[
        str | None, typer.Option("--lam", help="Slopes, nats per unit of squared error, such as 1,10,100.")
    ] = None,
    steps: Steps = None,
    kind: Kind = None,
    size: Size = None,
    options: Options = None,
    examples: Annotated[
        int, typer.Option("--examples", min=2, help="Averaged over below: the bound tightens with their logarithm.")
    ] = 2048,
    lower_steps: Annotated[int, typer.Option("--lower-steps", min=0, help="Of learning each lower bound.")] = 500,
    accelerator: Annotated[
        Accelerator, typer.Option("--accelerator", help="What models are trained on; bounds are computed on the CPU.")
    ] = Accelerator.auto,
    dask: Dask = None,
) -> int:
    """How few nats would do: the rate-distortion function of data, squared error, from above and from below."""
    with training_extra():
        from rdae.recipes.limits import measured
        from rdae.reports.limits import write_limits
    chosen = None
    if lams is not None:
        if not lams.strip():
            raise DataError("--lam is empty. Write for example --lam 1,10,100, or leave it out.")
        name, chosen = _values(f"lam={lams}")
        if not all(isinstance(lam, int | float) and 0 < lam < math.inf for lam in chosen):
            raise DataError(f"--{name} {lams} is no list of positive numbers. Write for example --lam 1,10,100.")
    found = measured(
        data, out, valid=valid, lams=chosen, steps=steps, kind=kind, size=size,
        options=dict(option(text) for text in options or []), examples=examples, lower_steps=lower_steps,
        accelerator=accelerator.value, dask=dask, command=published(sys.argv[1:]),
    )  # fmt: skip
    print(write_limits(found, out))
    return 0
