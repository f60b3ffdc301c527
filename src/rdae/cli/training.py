"""Commands for learning: train."""

from __future__ import annotations

import ast
import contextlib
import enum
import itertools
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from rdae.errors import DataError, MissingExtraError

__all__ = ["RECIPES", "Accelerator", "Precision", "RecipeName", "option", "published", "train", "training_extra"]

EXTRA = {"lightning_fabric", "onnx", "tensorboard", "torch"}  # what the extra `train` installs
HIDDEN = "--dask"  # an address of the user's network
PRIVATE = ("--data", "--valid", "--out", "-o", "--from")  # options whose values are places on the user's machine


class RecipeName(enum.StrEnum):
    """Recipes of `rdae.recipes`; named here so that `--help` need not import PyTorch."""

    photo = "photo"
    photo_ssim = "photo-ssim"
    hyperprior = "hyperprior"
    factorised = "factorised"
    magnitude = "magnitude"
    gaussian_rda = "gaussian_rda"
    gaussian_vae = "gaussian_vae"
    beta_vae = "beta_vae"
    iwae = "iwae"
    vamp_vae = "vamp_vae"
    ladder_vae = "ladder_vae"
    sphere_vae = "sphere_vae"
    torus_vae = "torus_vae"
    beta_tcvae = "beta_tcvae"
    factor_vae = "factor_vae"
    hsic_vae = "hsic_vae"
    wae_mmd = "wae_mmd"
    wae_gan = "wae_gan"
    gan = "gan"
    wgan_gp = "wgan_gp"
    r3gan = "r3gan"


RECIPES = f"What to train: {', '.join(RecipeName)}."


class Accelerator(enum.StrEnum):
    """What a run computes on, as Lightning Fabric names it."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"
    mps = "mps"


On = Annotated[Accelerator, typer.Option("--accelerator", help="What to compute on.")]
Kind = Annotated[str | None, typer.Option("--kind", help="What an array holds: binary, 8-bit, real or tabular.")]


class Precision(enum.StrEnum):
    """In what a run computes, as Lightning Fabric names it."""

    whole = "32-true"
    bfloat = "bf16-mixed"


def _devices(value: str) -> str:
    if value != "auto" and not (value.isascii() and value.isdigit() and int(value)):
        raise typer.BadParameter(f"{value!r} is neither a number of devices, 1 or more, nor auto.")
    return value


@contextlib.contextmanager
def training_extra() -> Iterator[None]:
    """Says how to install what the extra `train` lacks. An import that fails for another reason fails as it is.

    Raises:
        MissingExtraError: a package of the extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        raise MissingExtraError(
            f"This command needs PyTorch and friends, but {error.name} is not installed. "
            "Install them with: pip install 'rdae[train]'"
        ) from error


def published(arguments: list[str]) -> str:
    """A command for a model card: as typed, but of each folder or file only its name, not where it lies.

    Args:
        arguments: what followed `rdae`.
    """
    shown, words = ["rdae"], iter(arguments)
    for argument in words:
        option, equals, value = argument.partition("=")
        if option == HIDDEN:
            if not equals:
                next(words, None)
        elif argument in PRIVATE:
            shown += [argument, *map(_name, itertools.islice(words, 1))]
        elif equals and option in PRIVATE:
            shown.append(f"{option}={_name(value)}")
        else:
            shown.append("-o" + _name(argument[2:]) if argument.startswith("-o") else argument)
    return shlex.join(shown)


def _name(place: str) -> str:
    return Path(place).name or "FOLDER"


def train(
    data: Annotated[
        str,
        typer.Option(
            "--data", help="Folder of images; for a generative model also a .npy, .npz or idx file, mnist, sprites, ..."
        ),
    ],
    recipe: Annotated[
        RecipeName | None,
        typer.Argument(
            metavar="RECIPE", show_choices=False, help=f"{RECIPES} Shipped: photo and photo-ssim. --from tells it too."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Begin with weights: photo or photo-ssim, a run's folder or a checkpoint."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder of the run; an unfinished run goes on."),
    ] = None,
    valid: Annotated[str | None, typer.Option("--valid", help="Held-out data to validate on.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Training steps.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Examples per step, over all processes.")] = None,
    size: Annotated[
        int | None, typer.Option("--size", min=1, help="Side of a crop, a multiple of 64; of resized images.")
    ] = None,
    kind: Kind = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of a generative recipe; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of weights, batches and noise.")] = 0,
    accelerator: On = Accelerator.auto,
    devices: Annotated[
        str, typer.Option("--devices", callback=_devices, help="How many devices, or auto; of CPUs, processes.")
    ] = "1",
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Machines.")] = 1,
    precision: Annotated[Precision, typer.Option("--precision", help="Kind of numbers.")] = Precision.whole,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that read images.")] = 0,
    validate_steps: Annotated[int, typer.Option("--validate-steps", min=1, help="Steps between validations.")] = 1000,
    terms: Annotated[str, typer.Option("--terms", help="Licence of the data, for the model card.")] = "not stated",
) -> int:
    """Train a codec on a folder of images, or a generative model on any data; ends with a file ready to use.

    With --from photo and no recipe the shipped codec is adapted to a collection of your own.
    """
    if recipe is None and start is None:
        raise typer.BadParameter("name a recipe, or weights to begin with (--from).")
    with training_extra():
        from rdae.recipes.order import Order
        from rdae.training.start import find_start
    name, own = (recipe.value, "") if recipe else (find_start(str(start)).recipe, "-adapted")
    order = Order(
        recipe=name, start=start, data=data, out=out or Path("runs") / f"{name}{own}",
        valid=valid, steps=steps, batch=batch, size=size, kind=kind,
        options=dict(option(text) for text in options or []), terms=terms, command=published(sys.argv[1:]),
        settings={
            "seed": seed, "accelerator": accelerator.value, "devices": devices, "nodes": nodes,
            "precision": precision.value, "workers": workers, "validate_steps": validate_steps,
        },
    )  # fmt: skip
    target = order.carry_out()
    if target is not None:  # None in all processes but the first
        use = f"rdae compress --model {target} IMAGE" if order.is_codec else f"rdae sample {target} -o samples.png"
        print(f"{target}: {target.stat().st_size} bytes; use it with: {use}")
    return 0


def option(text: str) -> tuple[str, Any]:
    """NAME=VALUE; the value a Python literal where it is one, or else the text itself."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise DataError(f"--set {text} is not NAME=VALUE. Write for example --set latent=10.")
    try:
        return name.strip().replace("-", "_"), ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name.strip().replace("-", "_"), value
