"""Commands for images: compress, decompress, info, models."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rdae.coding.container import MAX_PIXELS

if TYPE_CHECKING:
    from rdae.coding.files import Job, Outcome

__all__ = ["compress", "decompress", "info", "models"]

Inputs = Annotated[list[Path], typer.Argument(help="Files and folders; folders are searched, nested.")]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Output file, or a folder. Default: beside each input.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist; they are skipped otherwise.")]
Jobs = Annotated[int, typer.Option("-j", "--jobs", min=1, help="Files at once.")]
Threads = Annotated[int, typer.Option("--threads", min=0, help="Threads for each file; 0: all cores over all jobs.")]
ModelName = Annotated[str | None, typer.Option("-m", "--model", help="Shipped model, or path of a codec file.")]
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
    quiet: Quiet = False,
) -> int:
    """Compress images to .rdae files."""
    from rdae.coding import files
    from rdae.coding.codec import load

    planned = files.plan(inputs, output, files.SUFFIX, wanted=files.is_image)
    codec = load(model or "photo", threads=_threads(threads, jobs))
    target: dict[str, Any] = {"quality": quality, "bpp": bpp, "psnr": psnr, "size": size}

    def work(job: Job) -> str:
        return files.compress_file(codec, job, verify=verify, strip=strip, **target)

    return _run(planned, work, jobs, overwrite, quiet)


def decompress(
    inputs: Inputs,
    output: Output = None,
    format: Annotated[str, typer.Option("-f", "--format", help="Ending of the output names: png, tif ...")] = "png",
    model: ModelName = None,
    overwrite: Overwrite = False,
    jobs: Jobs = 1,
    threads: Threads = 0,
    max_pixels: Annotated[int, typer.Option("--max-pixels", help="Refuse larger images.")] = MAX_PIXELS,
    quiet: Quiet = False,
) -> int:
    """Decompress .rdae files to images."""
    from rdae.coding import files

    planned = files.plan(inputs, output, f".{format.lstrip('.')}", wanted=lambda p: p.suffix.lower() == files.SUFFIX)

    def work(job: Job) -> str:
        return files.decompress_file(job, model=model, threads=_threads(threads, jobs), max_pixels=max_pixels)

    return _run(planned, work, jobs, overwrite, quiet)


def info(
    inputs: Annotated[list[Path], typer.Argument(help=".rdae files.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one object per line.")] = False,
) -> int:
    """Say what compressed files hold, without decoding them."""
    from rdae.coding import container

    for path in inputs:
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
        worst = contents.find(container.Tag.ERROR)
        if worst is not None:
            facts["largest_error"] = int.from_bytes(worst[:2], "little")
        if as_json:
            print(json.dumps(facts))
        else:
            print("\n".join(f"{name.replace('_', ' ')}: {_plain(value)}" for name, value in facts.items()))
    return 0


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


def _threads(threads: int, jobs: int) -> int:
    return threads or (max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else 0)


def _run(planned: list[Job], work: Callable[[Job], str], jobs: int, overwrite: bool, quiet: bool) -> int:
    from rdae.coding.files import run_jobs

    failed = skipped = 0
    outcomes = run_jobs(planned, work, workers=jobs, overwrite=overwrite)
    for outcome in _progress(outcomes, len(planned), quiet):
        if outcome.error:
            failed += 1
            print(f"rdae: {outcome.job.source}: {outcome.error}", file=sys.stderr)
        elif outcome.skipped:
            skipped += 1
            if not quiet and len(planned) == 1:
                print(f"rdae: {outcome.job.target} exists; pass --overwrite to replace it", file=sys.stderr)
        elif not quiet:
            print(f"{outcome.job.target}: {outcome.report}", flush=True)
    if skipped and len(planned) > 1 and not quiet:
        print(f"rdae: {skipped} of {len(planned)} files existed and were left alone", file=sys.stderr)
    if not planned:
        print("rdae: no files found", file=sys.stderr)
    return 1 if failed or not planned or (skipped and len(planned) == 1) else 0


def _progress(outcomes: Iterable[Outcome], total: int, quiet: bool) -> Iterable[Outcome]:
    if quiet or total < 2 or not sys.stderr.isatty():
        return outcomes
    from rich.console import Console
    from rich.progress import track

    return track(outcomes, total=total, console=Console(stderr=True), description="")
