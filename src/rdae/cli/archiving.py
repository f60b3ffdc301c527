"""Commands for archives: pack, unpack, list, verify."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rdae.cli.running import (
    Format,
    Jobs,
    MaxPixels,
    Overwrite,
    Quality,
    Quiet,
    Threads,
    as_argument,
    display,
    place_of,
    report,
    run,
    threads_of,
)
from rdae.coding.container import MAX_PIXELS
from rdae.errors import ImageError, ModelError

if TYPE_CHECKING:
    from rdae.coding.archive import Archive, Carried
    from rdae.coding.codec import Codec
    from rdae.coding.files import Job

__all__ = ["list_members", "pack", "unpack", "verify"]

DELTA_SHARE = 0.05  # of an archive; what was adapted should not take more

ArchivePath = Annotated[Path, typer.Argument(parser=place_of, help="An archive that `rdae pack` wrote, or its URL.")]


def pack(
    folder: Annotated[Path, typer.Argument(parser=place_of, help="Folder of images, nested or not, or its URL.")],
    output: Annotated[Path, typer.Option("-o", "--output", parser=place_of, help="The archive, such as photos.zip.")],
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="Shipped model, or a codec adapted from one. Default: photo.")
    ] = None,
    quality: Quality = None,
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
    from rdae.coding.packing import pack as packed
    from rdae.coding.places import placed, reaching
    from rdae.coding.wishes import check_wishes

    with as_argument():
        check_wishes(quality)
    with reaching(folder, "looked up"):
        if not folder.is_dir():
            raise ImageError(f"{folder} is not a folder. Name the folder whose images are to be packed.")
    with reaching(output, "looked up"):
        exists = output.exists()
    if exists and not (append or overwrite):
        raise ImageError(f"{output} exists. Pass --append to add to it, or --overwrite to replace it.")
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours is the limit that counts
    plan = files.plan([folder], Path("."), files.SUFFIX, wanted=files.is_image)
    with placed(output) as path:
        base = _base(output, path, threads_of(threads, jobs)) if append and exists else None
        new = _new(plan.jobs, base)
        codec, carried = _codec_of(base, model, threads_of(threads, jobs), output)
        packing = packed(path, new, codec, carried, workers=jobs, base=base, max_pixels=max_pixels, quality=quality)
        failed, _ = report(packing, len(new), plan.unreadable, quiet)
        with archive.Archive(path) as written:
            summary, share = _summary(written), written.delta_size / written.size
    if len(new) < len(plan.jobs) and not quiet:
        print(f"rdae: {len(plan.jobs) - len(new)} names were in {output} before and were left alone", file=sys.stderr)
    if not quiet:
        print(f"{output}: {summary}")
    if share > DELTA_SHARE:
        print(
            f"rdae: the adapted model takes {100 * share:.0f} % of the archive; for so few pictures the shipped one "
            "may be better",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _base(output: Path, path: Path, threads: int) -> Archive:
    """The archive that is added to, from a path of this machine, to which it is fetched if it is not there."""
    from rdae.coding.archive import Archive
    from rdae.coding.places import fetch, remote

    if remote(output) is not None:
        fetch(output, path)
    return Archive(path, threads=threads)


def _codec_of(base: Archive | None, model: str | None, threads: int, output: Path) -> tuple[Codec, Carried]:
    """The codec that pictures are packed with, and what the archive carries of it."""
    from rdae.coding.archive import carried
    from rdae.coding.registry import load

    if base is None:
        return load(model or "photo", threads=threads), carried(model or "photo")
    codec = base.codec()
    if model is not None and load(model).model.identity != base.identity:
        raise ModelError(f"{output} was made with another model than {model}. Leave --model out: it carries its own.")
    return codec, base.carried()


def _new(jobs: list[Job], base: Archive | None) -> list[Job]:
    """Jobs whose names are not in an archive yet; what is at a URL is fetched when its turn comes."""
    from rdae.coding.files import Job
    from rdae.coding.places import readable

    known = set(base.names) if base else set()
    new = [job for job in jobs if job.target.as_posix() not in known]
    return [Job(readable(job.source), job.target) for job in new]  # type: ignore[arg-type]


def unpack(
    archive: ArchivePath,
    output: Annotated[Path, typer.Option("-o", "--output", parser=place_of, help="Folder for the images.")],
    members: Annotated[
        list[str] | None, typer.Argument(metavar="MEMBER", help="Names as `rdae list` gives them. Default: all.")
    ] = None,
    format: Format = "png",
    overwrite: Overwrite = False,
    jobs: Jobs = 1,
    threads: Threads = 0,
    max_pixels: MaxPixels = MAX_PIXELS,
    quiet: Quiet = False,
) -> int:
    """Decompress the images of an archive, or some of them, into a folder."""
    from rdae.coding import archive as archives
    from rdae.coding import files
    from rdae.coding.places import at_hand, check_writable

    with as_argument():
        ending = files.check_ending(format)
    check_writable(output)
    with at_hand(archive) as path, archives.Archive(path, threads=threads_of(threads, jobs)) as opened:
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
    from rdae.coding.places import at_hand

    with at_hand(archive) as path, Archive(path) as opened:
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
    from rdae.coding.places import at_hand

    failed = 0
    with (
        at_hand(archive) as path,
        archives.Archive(path) as opened,
        display(0 if quiet else len(opened.names)) as show,
    ):
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
