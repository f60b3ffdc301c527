"""Commands for images: compress, decompress, info, models."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rdae.cli.running import (
    Dask,
    Format,
    Inputs,
    Jobs,
    MaxPixels,
    ModelName,
    Output,
    Overwrite,
    Quality,
    Quiet,
    StepBars,
    Threads,
    as_argument,
    place_of,
    run,
    threads_of,
)
from rdae.coding.container import MAX_PIXELS
from rdae.errors import ImageError, MissingExtraError, RdaeError

if TYPE_CHECKING:
    from rdae.coding.codec import Codec

__all__ = ["compress", "decompress", "info", "models"]


def compress(
    inputs: Inputs,
    output: Output = None,
    quality: Quality = None,
    bpp: Annotated[float | None, typer.Option("--bpp", help="At most so many bits per pixel.")] = None,
    psnr: Annotated[float | None, typer.Option("--psnr", help="At least this PSNR, in dB.")] = None,
    size: Annotated[
        int | None, typer.Option("--size", help="At most so many bytes. One of -q, --bpp, --psnr, --size.")
    ] = None,
    effort: Annotated[
        int,
        typer.Option("-e", "--effort", min=0, max=9, help="Above 0: takes longer, smaller files; needs rdae[train]."),
    ] = 0,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0, help="Limit of effort, for each tile of 1024 x 1024 pixels.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="For effort with a codec of your own: the run that made it.")
    ] = None,
    model: ModelName = "photo",
    overwrite: Overwrite = False,
    verify: Annotated[bool, typer.Option("--verify", help="Decode each file and report its PSNR.")] = False,
    strip: Annotated[bool, typer.Option("--strip", help="Leave out ICC profile, EXIF and XMP.")] = False,
    jobs: Jobs = 1,
    threads: Threads = 0,
    dask: Dask = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    quiet: Quiet = False,
) -> int:
    """Compress images to .rdae files."""
    from PIL import Image

    from rdae.coding import files, one_file, registry
    from rdae.coding.wishes import check_wishes

    with as_argument():
        check_wishes(quality, bpp, psnr, size)
    plan = files.plan(inputs, output, files.SUFFIX, wanted=files.is_image)
    share, name = threads_of(threads, jobs, dask), _anywhere(model or "photo")
    bars = StepBars() if effort and dask is None else None
    opened = registry.load if effort == 0 else _with_effort(effort, seconds, weights, bars)
    identity = opened(name, threads=share).model.identity  # once, before there are threads that would each load it
    work = partial(
        one_file.compress_file, model=name, opened=opened, identity=identity, threads=share,
        verify=verify, strip=strip, max_pixels=max_pixels, quality=quality, bpp=bpp, psnr=psnr, size=size,
    )  # fmt: skip
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours is the limit that counts
    return run(plan, work, jobs, overwrite, quiet, dask, bars)


def decompress(
    inputs: Inputs,
    output: Output = None,
    format: Format = "png",
    model: ModelName = None,
    overwrite: Overwrite = False,
    jobs: Jobs = 1,
    threads: Threads = 0,
    dask: Dask = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    quiet: Quiet = False,
) -> int:
    """Decompress .rdae files to images."""
    from rdae.coding import files, one_file, registry
    from rdae.coding.places import reaching

    with as_argument():
        ending = files.check_ending(format)
    plan = files.plan(inputs, output, ending, wanted=lambda p: p.suffix.lower() == files.SUFFIX)
    if overwrite and output is None:
        for job in plan.jobs:
            with reaching(job.target, "looked up"):
                exists = job.target.exists()
            if exists:
                raise ImageError(
                    f"{job.target} stands beside {job.source} and may be its original. To replace it, say where the "
                    f"output goes: -o {job.target.parent}"
                )
    share, name = threads_of(threads, jobs, dask), None if model is None else _anywhere(model)
    if name is not None:
        registry.load(name, threads=share)  # a wrong one is told once, not for each file
    work = partial(one_file.decompress_file, model=name, threads=share, max_pixels=max_pixels)
    return run(plan, work, jobs, overwrite, quiet, dask)


def _with_effort(
    effort: int, seconds: float | None, weights: Path | None, bars: StepBars | None
) -> Callable[..., Codec]:
    """What opens a codec that chooses symbols again."""
    try:
        from rdae.recipes.effort import codec_with_effort
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("rdae"):
            raise
        raise MissingExtraError(
            f"Effort above 0 needs {error.name}, which is not installed. Install it with: pip install 'rdae[train]'"
        ) from error
    run = None if weights is None else str(weights.absolute())
    return partial(codec_with_effort, effort=effort, seconds=seconds, weights=run, progress=bars)


def _anywhere(model: str) -> str:
    """The name of a shipped model, or a whole path: a worker may stand in another folder."""
    from rdae.coding.model import shipped_models

    path = Path(model)
    return model if model in shipped_models() or not path.exists() else str(path.absolute())


def info(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", parser=place_of, help=".rdae files, also as URLs.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one object per line.")] = False,
) -> int:
    """Say what compressed files hold, without decoding them."""
    failed = False
    for path in inputs:
        try:
            facts = _facts(path)
        except (RdaeError, OSError) as error:
            failed = True
            print(f"rdae: {error}", file=sys.stderr)
            continue
        if as_json:
            print(json.dumps(facts))
        else:
            print("\n".join(f"{name.replace('_', ' ')}: {_plain(value)}" for name, value in facts.items()))
    return 1 if failed else 0


def _facts(path: Path) -> dict[str, Any]:
    from rdae.coding import container
    from rdae.coding.places import reaching

    with reaching(path, "read"):
        if path.is_dir():
            raise ImageError(f"{path} is a folder. Name the files in it.")
        data = path.read_bytes()
    contents = container.parse(data, str(path), max_pixels=None)
    header = contents.header
    facts = {
        "file": str(path),
        "bytes": len(data),
        "width": header.width,
        "height": header.height,
        "bits_per_pixel": round(8 * len(data) / (header.width * header.height), 4),
        "colour": container.Colour.NAMES[header.colour & 3],
        "bits_per_channel": 16 if header.deep else 8,
        "quality": header.level / container.LEVELS_PER_QUALITY,
        "model": header.model.hex(),
        "tiles": len(contents.tiles),
        "tile_bytes": sum(len(tile) for tile in contents.tiles),
        "chunks": {container.Tag.NAMES.get(c.tag, str(c.tag)): len(c.payload) for c in contents.chunks},
    }
    if contents.largest_error is not None:
        facts["largest_error"] = contents.largest_error
    return facts


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {size} bytes" for name, size in value.items()) or "none"
    return str(value)


def models(as_json: Annotated[bool, typer.Option("--json", help="As JSON, one object per line.")] = False) -> int:
    """List the models that ship with the package."""
    from rdae.coding.model import load_model, shipped_models

    for name, path in shipped_models().items():
        model = load_model(name)
        facts = {"name": name, "identity": model.identity.hex(), "bytes": path.stat().st_size, **model.card}
        if as_json:
            print(json.dumps(facts))
        else:
            print(f"{name}  {model.identity.hex()}  {path.stat().st_size} bytes  {model.card.get('summary', '')}")
    return 0
