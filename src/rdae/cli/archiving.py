"""Commands for archives: pack, unpack, list, verify."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rdae.cli.coding import Jobs, MaxPixels, Overwrite, Quiet, Threads, display, run, threads_of
from rdae.coding.container import MAX_PIXELS
from rdae.errors import ImageError, ModelError, TargetError

if TYPE_CHECKING:
    from rdae.coding.archive import Archive

__all__ = ["list_members", "pack", "unpack", "verify"]

DELTA_SHARE = 0.05  # of an archive; what was adapted should not take more

ArchivePath = Annotated[Path, typer.Argument(help="An archive that `rdae pack` wrote.")]


def pack(
    folder: Annotated[Path, typer.Argument(help="Folder of images, nested or not.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The archive, such as photos.zip.")],
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="Shipped model, or a codec adapted from one. Default: photo.")
    ] = None,
    quality: Annotated[
        float | None, typer.Option("-q", "--quality", help="0 (smallest) to 100 (best), in halves. Default: 50.")
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Add to an archive, with its own model.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an archive that exists.")] = False,
    jobs: Jobs = 1,
    threads: Threads = 0,
    max_pixels: MaxPixels = MAX_PIXELS,
    quiet: Quiet = False,
) -> int:
    """Compress a folder of images to one archive, with all that unpacking needs."""
    from PIL import Image

    from rdae.coding import archive, files
    from rdae.coding.codec import check_wishes
    from rdae.coding.packing import pack as packed
    from rdae.coding.registry import load

    try:
        check_wishes(quality)
    except TargetError as error:
        raise typer.BadParameter(str(error)) from error
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder. Name the folder whose images are to be packed.")
    if output.exists() and not (append or overwrite):
        raise ImageError(f"{output} exists. Pass --append to add to it, or --overwrite to replace it.")
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours is the limit that counts
    plan = files.plan([folder], Path("."), files.SUFFIX, wanted=files.is_image)
    base = archive.Archive(output, threads=threads_of(threads, jobs)) if append and output.exists() else None
    codec = base.codec() if base else load(model or "photo", threads=threads_of(threads, jobs))
    if base and model is not None and load(model).model.identity != base.identity:
        raise ModelError(f"{output} was made with another model than {model}. Leave --model out: it carries its own.")
    carried = base.carried() if base else archive.carried(model or "photo")
    known = set(base.names) if base else set()
    new = [job for job in plan.jobs if job.target.as_posix() not in known]
    failed = bool(plan.unreadable)
    with display(0 if quiet else len(new)) as show:
        for line in plan.unreadable:
            show(f"rdae: {line}", error=True)
        packing = packed(output, new, codec, carried, workers=jobs, base=base, max_pixels=max_pixels, quality=quality)
        for outcome in packing:
            failed = failed or bool(outcome.error)
            if outcome.error:
                show(f"rdae: {outcome.job.source}: {outcome.error}", error=True, step=1)
            else:
                show("" if quiet else f"{outcome.job.target.as_posix()}: {outcome.report}", step=1)
    if len(new) < len(plan.jobs) and not quiet:
        print(f"rdae: {len(plan.jobs) - len(new)} names were in {output} before and were left alone", file=sys.stderr)
    with archive.Archive(output) as written:
        if not quiet:
            print(f"{output}: {_summary(written)}")
        if written.delta_size > DELTA_SHARE * written.size:
            print(
                f"rdae: the adapted model takes {100 * written.delta_size / written.size:.0f} % of the archive; for so "
                "few pictures the shipped one may be better",
                file=sys.stderr,
            )
    return 1 if failed else 0


def unpack(
    archive: ArchivePath,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the images.")],
    members: Annotated[list[str] | None, typer.Argument(help="Names as `rdae list` gives them. Default: all.")] = None,
    format: Annotated[str, typer.Option("-f", "--format", help="Ending of the output names: png, tif ...")] = "png",
    overwrite: Overwrite = False,
    jobs: Jobs = 1,
    threads: Threads = 0,
    max_pixels: MaxPixels = MAX_PIXELS,
    quiet: Quiet = False,
) -> int:
    """Decompress the images of an archive, or some of them, into a folder."""
    from rdae.coding import archive as archives
    from rdae.coding import files

    try:
        ending = files.check_ending(format)
    except ImageError as error:
        raise typer.BadParameter(str(error)) from error
    with archives.Archive(archive, threads=threads_of(threads, jobs)) as opened:
        for name in members or ():
            opened.size_of(name)  # a name that is not there is said before anything is written
        places = {output / Path(name).with_suffix(ending): name for name in members or opened.names}
        plan = files.Plan([files.Job(archive, target) for target in places])
        if places:
            opened.codec()  # once, and before anything is written

        def work(job: files.Job) -> str:
            inside = job.target.resolve().is_relative_to(output.resolve())
            if not inside:  # by a link that lies in the folder
                raise ImageError(f"{job.target} leads out of {output}. Remove the link, or unpack elsewhere.")
            return archives.unpack_member(opened, places[job.target], job.target, max_pixels=max_pixels)

        return run(plan, work, jobs, overwrite, quiet)


def list_members(
    archive: ArchivePath,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one object for the archive.")] = False,
) -> int:
    """List what an archive holds, without decoding it."""
    from rdae.coding.archive import Archive

    with Archive(archive) as opened:
        if as_json:
            facts = {
                "file": str(archive), "bytes": opened.size, "model": opened.model, "identity": opened.identity.hex(),
                "adapted_bytes": opened.delta_size, "members": {name: opened.size_of(name) for name in opened.names},
            }  # fmt: skip
            print(json.dumps(facts))
        else:
            for name in opened.names:
                print(f"{opened.size_of(name):>12}  {name}")
            print(f"{archive}: {_summary(opened)}")
    return 0


def verify(archive: ArchivePath, max_pixels: MaxPixels = MAX_PIXELS, quiet: Quiet = False) -> int:
    """Check every checksum of an archive and decode every image."""
    from rdae.coding import archive as archives

    failed = 0
    with archives.Archive(archive) as opened, display(0 if quiet else len(opened.names)) as show:
        for _, wrong in archives.verify(opened, max_pixels=max_pixels):
            failed += bool(wrong)
            show(f"rdae: {wrong}" if wrong else "", error=True, step=1)
        if not quiet:
            show(f"{archive}: {len(opened.names) - failed} of {len(opened.names)} images are whole")
    return 1 if failed else 0


def _summary(archive: Archive) -> str:
    model = f"model {archive.model} {archive.identity.hex()}"
    if archive.delta_size:
        model += f", adapted: {archive.delta_size} bytes, {100 * archive.delta_size / archive.size:.2f} %"
    return f"{len(archive.names)} images, {archive.size} bytes, {model}"
