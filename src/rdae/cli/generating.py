"""Commands for generative models: sample, reconstruct, interpolate, traverse. Codecs can be sampled too."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from rdae.cli.training import training_extra
from rdae.errors import DataError, ModelError, TargetError

__all__ = ["examples_of", "interpolate", "opened", "reconstruct", "sample", "traverse"]

SIDE = 256  # of a picture of a codec, in pixels

Model = Annotated[Path, typer.Argument(help="A .model file that training wrote, or the folder of its run.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="A picture (.png, ...) or an array (.npz).")]
Count = Annotated[int, typer.Option("-n", "--count", min=1, help="How many.")]
Data = Annotated[str, typer.Option("--data", help="Examples to begin with; as for training.")]
Seed = Annotated[int, typer.Option("--seed", help="Of what is drawn.")]
Steps = Annotated[int, typer.Option("--steps", min=2, help="Pictures from one end to the other.")]


def opened(path: Path, seed: int) -> Any:
    """A model read from its file, and PyTorch seeded."""
    with training_extra():
        import torch

        from rdae.recipes.model_file import open_model
    torch.manual_seed(seed)
    return open_model(path)


def examples_of(source: str, card: dict[str, Any], count: int, *, fewer: bool = False) -> Any:
    """The first examples of a data set, as the model takes them; `fewer` takes what there is."""
    from rdae.data.arrays import Binarisation, Kind
    from rdae.data.sources import has_test, open_data
    from rdae.training.array_recipe import judged_on

    event = tuple(card["event"])
    named = has_test(source)
    pictures = len(event) == 3 and not named and Path(source).is_dir()
    data = open_data(
        source,
        split="test" if named else "train",
        kind=None if named or pictures else card["kind"],
        size=(event[1], event[2]) if pictures else None,
    )
    if data.kind is not Kind(card["kind"]):
        raise DataError(f"{source} is {data.kind}; the model was trained on {card['kind']} data. Pass such data.")
    if data.event != event:
        raise DataError(f"{source} holds examples of shape {data.event}; the model was trained on {event}.")
    if len(data) < count and not fewer:
        raise DataError(f"{source} holds {len(data)} examples, fewer than the {count} asked for.")
    return judged_on(data, Binarisation(card["binarisation"]))[:count]


def _write(path: Path, examples: Any, columns: int) -> int:
    from rdae.reports.grids import write_examples

    write_examples(path, examples, columns)
    print(f"{path}: {len(examples)} examples")
    return 0


def _on_spheres(model: Any) -> bool:
    """Whether a model's latents lie on a sphere or torus."""
    from rdae.channels.sphere import on_spheres

    return hasattr(model, "code") and on_spheres(model.code())


def _is_codec(model: Path) -> bool:
    """Whether a model is a codec file, or named like a shipped one and no run's folder."""
    from rdae.coding.model import CODEC_SUFFIX, shipped_models

    return model.suffix == CODEC_SUFFIX or (str(model) in shipped_models() and not any(model.glob("*.model")))


def _refuse(given: dict[str, Any], kind: str) -> None:
    names = [f"--{name}" for name, value in given.items() if value is not None and value is not False]
    if names:
        raise typer.BadParameter(f"{' and '.join(names)} cannot be used here: {kind}")


def sample(
    model: Annotated[
        Path, typer.Argument(help="A .model file, the folder of its run, a codec file, or the name of a shipped codec.")
    ],
    out: Out,
    count: Annotated[
        int | None, typer.Option("-n", "--count", min=1, help="How many. Default: 64; 1 of a codec.")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            min=0.0,
            help="Latents' distances from the prior's mean are multiplied by it; below 1 is more typical.",
        ),
    ] = None,
    seed: Seed = 0,
    height: Annotated[int | None, typer.Option("--height", min=1, help=f"Codecs: in pixels. Default: {SIDE}.")] = None,
    width: Annotated[int | None, typer.Option("--width", min=1, help=f"Codecs: in pixels. Default: {SIDE}.")] = None,
    quality: Annotated[
        float | None, typer.Option("-q", "--quality", help="Codecs: 0 to 100, as for compress. Default: 50.")
    ] = None,
    bits: Annotated[bool, typer.Option("--bits", help="Codecs: decode random bits; the same law.")] = False,
) -> int:
    """Draw new examples: latents from the prior, through the decoder."""
    of_codecs = {"height": height, "width": width, "quality": quality, "bits": bits}
    if _is_codec(model):
        _refuse({"temperature": temperature}, "a codec's latents are whole numbers, drawn from its tables.")
        return _sample_codec(model, out, count or 1, (height or SIDE, width or SIDE), quality, seed, bits)
    _refuse(of_codecs, f"{model} is no codec, which only a .codec file or the name of a shipped one is.")
    saved, count = opened(model, seed), count or 64
    if temperature is not None and temperature != 1 and _on_spheres(saved.model):
        raise typer.BadParameter(
            "--temperature cannot be used here: the model's latents have length one, and all are equally likely."
        )
    examples = saved.model.sample(count, temperature=1.0 if temperature is None else temperature)
    return _write(out, examples, math.isqrt(count - 1) + 1)


def _sample_codec(
    model: Path, out: Path, count: int, size: tuple[int, int], quality: float | None, seed: int, bits: bool
) -> int:
    """Pictures of a codec in a grid, or as an array, `(n, H, W, 3)` uint8; needs no PyTorch."""
    import numpy as np

    from rdae.coding.files import check_ending, whole_file
    from rdae.coding.picture import from_array
    from rdae.coding.picture_writing import write_picture
    from rdae.coding.registry import load
    from rdae.coding.wishes import check_wishes
    from rdae.reports.grids import pixel_grid

    try:
        check_wishes(quality)
    except TargetError as error:
        raise typer.BadParameter(str(error)) from error
    if seed < 0:
        raise typer.BadParameter(f"--seed {seed} is negative. Of a codec it is a whole number from 0.")
    as_array = out.suffix == ".npz"
    if not as_array:
        check_ending(out.suffix)
    codec, rng = load(str(model)), np.random.default_rng(seed)
    pictures = np.stack([codec.sample(*size, quality, seed=rng, bits=bits) for _ in range(count)])
    with whole_file(out) as file:
        if as_array:
            np.savez_compressed(file, examples=pictures)
        else:
            write_picture(from_array(pixel_grid(pictures, math.isqrt(count - 1) + 1)), out, file)
    print(f"{out}: {count} examples")
    return 0


def reconstruct(model: Model, out: Out, data: Data, count: Count = 16, seed: Seed = 0) -> int:
    """Examples and, below each row of them, what encoder and decoder make of them."""
    import torch

    saved = opened(model, seed)
    if not hasattr(saved.model, "reconstruct"):
        raise ModelError(
            f"A model of recipe {saved.card['recipe']} has no encoder and can reconstruct nothing. Sample."
        )
    y = examples_of(data, saved.card, count)
    columns = min(count, 16)
    back = saved.model.reconstruct(y)
    rows = [part for pair in zip(y.split(columns), back.split(columns), strict=True) for part in pair]
    return _write(out, torch.cat(rows), columns)


def interpolate(
    model: Model,
    out: Out,
    data: Annotated[
        str | None, typer.Option("--data", help="Walk from example to example, not between draws of the prior.")
    ] = None,
    count: Count = 8,
    steps: Steps = 10,
    spherical: Annotated[bool, typer.Option("--spherical", help="Along an arc, not a straight line.")] = False,
    seed: Seed = 0,
) -> int:
    """From one point of the latent space to another, `count` times."""
    from rdae.generating import drawn_latents, latents_of
    from rdae.generating import interpolate as walked

    saved = opened(model, seed)
    if data is None:
        ends = drawn_latents(saved.model, 2 * count)
    else:
        ends = latents_of(saved.model, examples_of(data, saved.card, 2 * count))
    return _write(out, walked(saved.model, ends[0::2], ends[1::2], steps, spherical=spherical).flatten(0, 1), steps)


def traverse(
    model: Model,
    out: Out,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", help="Begin at its first example, not at the prior's mean (at a draw on a sphere or torus)."
        ),
    ] = None,
    units: Annotated[
        str | None,
        typer.Option("--units", help="Which units, such as 0,3,7; else the ten that matter most at the start."),
    ] = None,
    steps: Steps = 9,
    reach: Annotated[
        float,
        typer.Option(
            "--reach", min=0.0, help="How far, in standard deviations of the prior; in radians on a sphere or torus."
        ),
    ] = 3.0,
    seed: Seed = 0,
) -> int:
    """What each latent unit does: one row a unit, moved from one side to the other."""
    from rdae.generating import centre_and_spread, drawn_latents, latents_of
    from rdae.generating import traverse as moved

    saved = opened(model, seed)
    curved = _on_spheres(saved.model)
    if data is not None:
        z = latents_of(saved.model, examples_of(data, saved.card, 1))[0]
    else:
        z = drawn_latents(saved.model, 1)[0] if curved else centre_and_spread(saved.model.code())[0]
    if units is not None:
        try:
            chosen = [int(unit) for unit in units.split(",")]
        except ValueError as error:
            raise DataError(f"--units {units} is no list of numbers. Write for example --units 0,3,7.") from error
    else:
        ends = moved(saved.model, z, list(range(len(z))), 2, min(reach, math.pi / 2) if curved else reach)
        change = (ends[:, 0] - ends[:, 1]).flatten(1).square().sum(1)
        chosen = change.argsort(descending=True)[:10].tolist()
    return _write(out, moved(saved.model, z, chosen, steps, reach).flatten(0, 1), steps)
