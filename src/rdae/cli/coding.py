"""Commands for images: compress, decompress, info, models."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from rdae.coding.container import MAX_PIXELS
from rdae.errors import ImageError, RdaeError, TargetError

if TYPE_CHECKING:
    from rdae.coding.files import Job, Plan

__all__ = ["compress", "decompress", "display", "info", "models", "run", "threads_of"]

Inputs = Annotated[list[Path], typer.Argument(help="Files and folders; folders are searched, nested.")]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Output file, or a folder. Default: beside each input.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist; they are skipped otherwise.")]
Jobs = Annotated[int, typer.Option("-j", "--jobs", min=1, help="Files at once.")]
Threads = Annotated[int, typer.Option("--threads", min=0, help="Threads for each file; 0: all cores over all jobs.")]
ModelName = Annotated[str | None, typer.Option("-m", "--model", help="Shipped model, or path of a codec file.")]
MaxPixels = Annotated[int, typer.Option("--max-pixels", min=1, help="Refuse larger images.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No report and no progress; errors only.")]


def compress(
    inputs: Inputs,
    output: Output = None,
    quality: Annotated[
        float | None, typer.Option("-q", "--quality", help="0 (smallest) to 100 (best), in halves. Default: 50.")
    ] = None,
    bpp: Annotated[float | None, typer.Option("--bpp", help="At most so many bits per pixel.")] = None,
    psnr: Annotated[float | None, typer.Option("--psnr", help="At least so many dB.")] = None,
    size: Annotated[int | None, typer.Option("--size", help="At most so many bytes.")] = None,
    model: ModelName = "photo",
    overwrite: Overwrite = False,
    verify: Annotated[bool, typer.Option("--verify", help="Decode each file and report its PSNR.")] = False,
    strip: Annotated[bool, typer.Option("--strip", help="Leave out ICC profile, EXIF and XMP.")] = False,
    jobs: Jobs = 1,
    threads: Threads = 0,
    max_pixels: MaxPixels = MAX_PIXELS,
    quiet: Quiet = False,
) -> int:
    """Compress images to .rdae files."""
    from PIL import Image

    from rdae.coding import files
    from rdae.coding.codec import check_wishes
    from rdae.coding.registry import load

    try:
        check_wishes(quality, bpp, psnr, size)
    except TargetError as error:
        raise typer.BadParameter(str(error)) from error
    plan = files.plan(inputs, output, files.SUFFIX, wanted=files.is_image)
    codec = load(model or "photo", threads=threads_of(threads, jobs))
    target: dict[str, Any] = {"quality": quality, "bpp": bpp, "psnr": psnr, "size": size}
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours is the limit that counts

    def work(job: Job) -> str:
        return files.compress_file(codec, job, verify=verify, strip=strip, max_pixels=max_pixels, **target)

    return run(plan, work, jobs, overwrite, quiet)


def decompress(
    inputs: Inputs,
    output: Output = None,
    format: Annotated[str, typer.Option("-f", "--format", help="Ending of the output names: png, tif ...")] = "png",
    model: ModelName = None,
    overwrite: Overwrite = False,
    jobs: Jobs = 1,
    threads: Threads = 0,
    max_pixels: MaxPixels = MAX_PIXELS,
    quiet: Quiet = False,
) -> int:
    """Decompress .rdae files to images."""
    from rdae.coding import files
    from rdae.coding.model import shipped_models
    from rdae.coding.registry import load

    try:
        ending = files.check_ending(format)
    except ImageError as error:
        raise typer.BadParameter(str(error)) from error
    plan = files.plan(inputs, output, ending, wanted=lambda p: p.suffix.lower() == files.SUFFIX)
    if overwrite and output is None:
        for job in plan.jobs:
            if job.target.exists():
                raise ImageError(
                    f"{job.target} stands beside {job.source} and may be its original. To replace it, say where the "
                    f"output goes: -o {job.target.parent}"
                )
    share = threads_of(threads, jobs)
    for name in shipped_models() if model is None else (model,):
        load(name, threads=share)  # once, before there are threads that would each load it

    def work(job: Job) -> str:
        return files.decompress_file(job, model=model, threads=share, max_pixels=max_pixels)

    return run(plan, work, jobs, overwrite, quiet)


def info(
    inputs: Annotated[list[Path], typer.Argument(help=".rdae files.")],
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


def threads_of(threads: int, jobs: int) -> int:
    from rdae.coding.model import usable_cores

    return threads or (max(1, usable_cores() // jobs) if jobs > 1 else 0)


def run(plan: Plan, work: Callable[[Job], str], jobs: int, overwrite: bool, quiet: bool) -> int:
    """Runs a plan and reports it. What existed before counts as done: a second run succeeds."""
    from rdae.coding.files import clear_partial, run_jobs

    total, skipped, failed = len(plan.jobs), 0, bool(plan.unreadable)
    clear_partial({job.target.parent for job in plan.jobs})
    running = run_jobs(plan.jobs, work, workers=jobs, overwrite=overwrite)
    with display(0 if quiet else total) as show, closing(running) as outcomes:
        for line in plan.unreadable:
            show(f"rdae: {line}", error=True)
        for outcome in outcomes:
            if outcome.error:
                failed = True
                show(f"rdae: {outcome.job.source}: {outcome.error}", error=True, step=1)
            elif outcome.skipped:
                skipped += 1
                show("", step=1)
            else:
                show("" if quiet else f"{outcome.job.target}: {outcome.report}", step=1)
    if skipped and not quiet:
        what = f"{plan.jobs[0].target} exists and was" if total == 1 else f"{skipped} of {total} files existed and were"
        print(f"rdae: {what} left alone; pass --overwrite to replace", file=sys.stderr)
    if not total:
        print("rdae: no files found", file=sys.stderr)
    return 1 if failed or not total else 0


class Show(Protocol):
    """Prints a line, if there is one, and counts `step` files as done."""

    def __call__(self, line: str, *, error: bool = False, step: int = 0) -> None: ...


@contextmanager
def display(total: int) -> Iterator[Show]:
    """Reports go to stdout and errors to stderr, whatever these are; with a bar where stderr is a terminal."""
    if total < 2 or not sys.stderr.isatty():

        def plain(line: str, *, error: bool = False, step: int = 0) -> None:
            if line:
                print(line, file=sys.stderr if error else sys.stdout, flush=True)

        yield plain
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), redirect_stdout=False, redirect_stderr=False) as progress:
        bar = progress.add_task("", total=total)

        def above(line: str, *, error: bool = False, step: int = 0) -> None:
            if line and (error or sys.stdout.isatty()):  # both are one screen, on which the bar has to move down
                progress.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
            elif line:
                print(line, flush=True)
            progress.advance(bar, step)

        yield above
