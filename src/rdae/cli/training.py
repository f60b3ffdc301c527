"""Commands for learning: train."""

from __future__ import annotations

import enum
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from rdae.errors import MissingExtraError

__all__ = ["RecipeName", "train"]


class RecipeName(enum.StrEnum):
    """Recipes of `rdae.recipes`; named here so that `--help` need not import PyTorch."""

    photo = "photo"
    hyperprior = "hyperprior"
    factorised = "factorised"
    magnitude = "magnitude"


def train(
    recipe: Annotated[RecipeName, typer.Argument(help="What to train; photo is what the package ships.")],
    data: Annotated[Path, typer.Option("--data", help="Folder of images, nested or not.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder of the run; an unfinished run goes on."),
    ] = None,
    valid: Annotated[Path | None, typer.Option("--valid", help="Folder of held-out images to validate on.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Training steps.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Crops per step, over all processes.")] = None,
    size: Annotated[int | None, typer.Option("--size", min=64, help="Side of a crop, a multiple of 64.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of weights, crops and noise.")] = 0,
    accelerator: Annotated[str, typer.Option("--accelerator", help="cpu, gpu or auto.")] = "auto",
    devices: Annotated[str, typer.Option("--devices", help="How many, or auto. CPU: processes.")] = "1",
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Machines.")] = 1,
    precision: Annotated[str, typer.Option("--precision", help="32-true, bf16-mixed or 16-mixed.")] = "32-true",
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that read images.")] = 0,
    validate_steps: Annotated[int, typer.Option("--validate-steps", min=1, help="Steps between validations.")] = 1000,
    terms: Annotated[str, typer.Option("--terms", help="Licence of the data, for the model card.")] = "not stated",
) -> int:
    """Train a codec on a folder of images; ends with a codec file ready to use."""
    try:
        from rdae.coding.files import whole_file
        from rdae.recipes import RECIPES
        from rdae.training.codec_file import codec_file
        from rdae.training.loop import Settings
        from rdae.training.loop import train as run
    except ImportError as error:
        raise MissingExtraError(
            f"Training needs PyTorch and friends ({error}). Install them with: pip install 'rdae[train]'"
        ) from error
    parts = RECIPES[recipe.value]()
    parts = replace(parts, steps=steps or parts.steps, batch=batch or parts.batch, size=size or parts.size)
    folder = out or Path("runs") / parts.name
    settings = Settings(
        data=data, out=folder, valid=valid, seed=seed, accelerator=accelerator, devices=devices, nodes=nodes,
        precision=precision, workers=workers, validate_steps=validate_steps,
    )  # fmt: skip
    checkpoint = run(parts, settings)
    if checkpoint is None:  # not the first process
        return 0
    target = folder / f"{parts.name}.codec"
    packed = codec_file(parts, checkpoint, data=data, terms=terms, command=shlex.join(["rdae", *sys.argv[1:]]))
    with whole_file(target) as file:
        file.write(packed)
    print(f"{target}: {len(packed)} bytes; use it with: rdae compress --model {target} IMAGE")
    return 0
