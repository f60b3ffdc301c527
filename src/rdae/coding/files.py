"""Many files: which input becomes which output, whole files or none, several at once, safe to run again."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from rdae.coding.codec import Codec
from rdae.coding.container import MAX_PIXELS
from rdae.coding.fidelity import psnr
from rdae.coding.image import Picture, read_picture, write_picture
from rdae.coding.registry import codec_for
from rdae.errors import FormatError, ImageError, RdaeError

__all__ = [
    "SUFFIX", "Job", "Outcome", "Plan", "check_ending", "clear_partial", "compress_file", "decompress_file", "is_image",
    "plan", "run_jobs", "whole_file", "write_text",
]  # fmt: skip

SUFFIX = ".rdae"
PARTIAL = ".partial"
STALE = 24 * 3600  # seconds without a write after which a partial file belongs to no run
NOT_PICTURES = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF"}  # Pillow knows their names and cannot read their pixels


@dataclass(frozen=True)
class Job:
    """One file to read and the file to write."""

    source: Path
    target: Path


@dataclass
class Plan:
    """What is to be done, and the folders that could not be searched, a line for each."""

    jobs: list[Job]
    unreadable: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """What became of a job: a report, a reason to have skipped it, or an error."""

    job: Job
    report: str = ""
    skipped: bool = False
    error: str = ""


def plan(inputs: list[Path], output: Path | None, suffix: str, *, wanted: Callable[[Path], bool]) -> Plan:
    """Pairs of files. Folders are searched, nested, but for what is hidden; their structure is kept below `output`.

    Args:
        inputs: files and folders.
        output: a file (for one input file), or a folder, made if it does not exist; beside the input if None.
        suffix: of the outputs.
        wanted: which files of a folder to take; files named directly are always taken.

    Raises:
        ImageError: an input does not exist, an output cannot be one, two inputs would be written to one file, or an
            input would be written over.
    """
    one_file = len(inputs) == 1 and inputs[0].is_file()
    to_file = one_file and output is not None and bool(output.suffix) and not output.is_dir()
    if output is not None:
        _check_output(output, suffix, to_file)
    found = Plan([])
    for source in inputs:
        if source.is_dir():
            folder = source if output is None else output
            found.jobs += [
                Job(p, folder / p.relative_to(source).with_suffix(suffix))
                for p in sorted(_search(source, found.unreadable))
                if wanted(p)
            ]
        elif str(source) == "-":
            raise ImageError("Standard input cannot be read. Write it to a file and name that.")
        elif not source.exists():
            raise ImageError(f"{source} does not exist. Check the path.")
        elif not source.is_file():
            raise ImageError(f"{source} is neither a file nor a folder. Write what it gives to a file and name that.")
        elif output is None:
            found.jobs.append(Job(source, source.with_suffix(suffix)))
        else:
            found.jobs.append(Job(source, output if to_file else output / source.with_suffix(suffix).name))
    _check_targets(found.jobs)
    return found


def _search(folder: Path, unreadable: list[str]) -> Iterator[Path]:
    """Files of a folder that are not hidden, nor in a hidden one; what cannot be searched is noted."""
    for at, folders, names in os.walk(folder, onerror=lambda error: unreadable.append(f"cannot be searched: {error}")):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(at, name)
            try:
                regular = stat.S_ISREG(path.stat().st_mode)
            except OSError:
                regular = True  # its own job says why it cannot be read
            if regular and not name.startswith("."):
                yield path


def _check_output(output: Path, suffix: str, to_file: bool) -> None:
    if str(output) == "-" or (output.exists() and not (output.is_dir() or output.is_file())):
        raise ImageError(f"The output {output} is neither a file nor a folder. Name a file, and read that.")
    if not to_file:
        if output.is_file():
            raise ImageError(f"{output} is a file, where a folder for the outputs is due. Name another with -o.")
    elif suffix != SUFFIX:
        check_ending(output.suffix)
    elif output.suffix.lower() != SUFFIX and _kind(output.suffix) is not None:
        raise ImageError(
            f"{output} is named like a picture, but would hold a compressed file. "
            f"Name it {output.with_suffix(SUFFIX).name}."
        )


def _check_targets(jobs: list[Job]) -> None:
    sources, seen = {_place(job.source) for job in jobs} - {None}, dict[str, Path]()
    for job in jobs:
        path = os.path.abspath(job.target)
        if path in seen:
            raise ImageError(
                f"{seen[path]} and {job.source} would both be written to {job.target}. "
                "Rename one, or give them different output folders."
            )
        seen[path] = job.source
        if _place(job.target) in sources:
            raise ImageError(f"{job.target} is an input and would be written over. Name another output with -o.")


def _place(path: Path) -> tuple[int, int] | None:
    """What tells one file on disk from another, whatever it is called; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing that appears under its name only once it is complete.

    Several may write to one name at once; the last to finish stays. A run that is killed leaves its partial file, see
    `clear_partial`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".rdae-{secrets.token_hex(8)}{PARTIAL}")  # short: the name of `path` may be of any length
    try:
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a file of UTF-8 text, whole or not at all."""
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))


def clear_partial(folders: Iterable[Path]) -> None:
    """Removes what runs that were killed a day or longer ago left half written."""
    for folder in folders:
        with suppress(OSError):  # gone by now, or not ours to remove: it is in nobody's way
            for path in folder.glob(f".rdae-*{PARTIAL}"):
                if time.time() - path.stat().st_mtime > STALE:
                    path.unlink()


def run_jobs(
    jobs: list[Job], work: Callable[[Job], str], *, workers: int, overwrite: bool
) -> Generator[Outcome, None, None]:
    """Runs jobs, several at once, and yields an outcome for each as it finishes; an error stops only its own job."""

    def attempt(job: Job) -> Outcome:
        if job.target.exists() and not overwrite:
            return Outcome(job, skipped=True)
        try:
            return Outcome(job, report=work(job))
        except (RdaeError, OSError) as error:
            return Outcome(job, error=str(error) or type(error).__name__)
        except MemoryError:
            return Outcome(job, error="not enough memory. Run fewer files at once (--jobs), or make it smaller.")
        except Exception as error:  # a defect: of rdae or of what reads pictures; the other files are not to suffer
            return Outcome(job, error=f"unforeseen {type(error).__name__}: {error}. Please report it with the file.")

    if workers == 1:
        for job in jobs:
            yield attempt(job)
        return
    with ThreadPoolExecutor(workers) as pool:
        running: set[Future[Outcome]] = set()
        remaining = iter(jobs)
        try:
            while True:
                for job in islice(remaining, 2 * workers - len(running)):  # a million files are not queued at once
                    running.add(pool.submit(attempt, job))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def compress_file(
    codec: Codec,
    job: Job,
    *,
    verify: bool,
    strip: bool = False,
    max_pixels: int | None = MAX_PIXELS,
    **target: float | int | None,
) -> str:
    """Compresses one file; returns a line of report.

    Args:
        codec: to compress with.
        job: what to read and write.
        verify: decode what is to be written, compare all that is kept without loss, and report the PSNR.
        strip: leave out ICC profile, EXIF and XMP.
        max_pixels: refuse larger images before memory is taken; None for no limit.
        target: quality, bpp, psnr or size, as for `Codec.compress`.

    Raises:
        ImageError: the file cannot be read as a picture.
        LimitError: larger than `max_pixels`.
        FormatError: verification failed; nothing was written.
    """
    began = time.perf_counter()
    picture = read_picture(job.source, max_pixels=max_pixels)
    if strip:
        picture.icc = picture.exif = picture.xmp = None
    result = codec.compress_picture(picture, **target)  # type: ignore[arg-type]
    seconds = time.perf_counter() - began
    height, width = picture.size
    report = (
        f"{width} x {height}, {len(result.data)} bytes, {8 * len(result.data) / (width * height):.3f} bpp, "
        f"quality {result.quality:g}, {seconds:.2f} s, {width * height / seconds / 1e6:.1f} MP/s"
    )
    if verify:
        shown = codec.decompress(result.data, name=str(job.target), max_pixels=None)
        _check_kept(picture, shown, job)
        report += f", verified, {psnr(picture.pixels, shown.pixels):.2f} dB"
    with whole_file(job.target) as file:
        file.write(result.data)
    return report + "".join(f", {note}" for note in result.notes)


def _check_kept(picture: Picture, shown: Picture, job: Job) -> None:
    """Everything but the colours must come back as it was."""
    same = {
        "size": picture.pixels.shape == shown.pixels.shape and picture.pixels.dtype == shown.pixels.dtype,
        "alpha": (picture.alpha is None) == (shown.alpha is None)
        and (picture.alpha is None or shown.alpha is None or np.array_equal(picture.alpha, shown.alpha)),
        "ICC profile": picture.icc == shown.icc,
        "EXIF": picture.exif == shown.exif,
        "XMP": picture.xmp == shown.xmp,
    }
    wrong = [name for name, equal in same.items() if not equal]
    if wrong:
        raise FormatError(
            f"{' and '.join(wrong)} of {job.source} did not come back as they were; {job.target} was not written. "
            "Please report it with the file."
        )


def decompress_file(
    job: Job, *, model: str | Path | None = None, threads: int = 0, max_pixels: int | None = MAX_PIXELS
) -> str:
    """Decompresses one file to the image format that the target's name says; returns a line of report."""
    began = time.perf_counter()
    data = job.source.read_bytes()
    codec = codec_for(data, model, name=str(job.source), threads=threads)
    picture = codec.decompress(data, name=str(job.source), max_pixels=max_pixels)
    notes: list[str] = []
    with whole_file(job.target) as file:
        write_picture(picture, job.target, file, notes=notes)
    seconds = time.perf_counter() - began
    height, width = picture.size
    report = f"{width} x {height}, {seconds:.2f} s, {width * height / seconds / 1e6:.1f} MP/s"
    return report + "".join(f", {note}" for note in notes)


def is_image(path: Path) -> bool:
    """A name of pictures that Pillow knows how to read."""
    kind = _kind(path.suffix)
    # MPO, pairs of JPEG pictures, is read by JPEG's reader
    return kind is not None and (kind in Image.OPEN or kind == "MPO") and path.suffix.lower() != SUFFIX


def check_ending(ending: str) -> str:
    """The ending of a name, such as ".png", for "png" or ".png".

    Raises:
        ImageError: Pillow writes no pictures of that name.
    """
    ending = f".{ending.lstrip('.')}"
    if _kind(ending) not in Image.SAVE or ending.lower() == SUFFIX:
        raise ImageError(f"No picture can be written with the ending {ending!r}. Use .png, .tif, .jpg or .ppm.")
    return ending


def _kind(ending: str) -> str | None:
    """Pillow's name of the format of pictures with an ending such as ".png"."""
    Image.init()
    kind = Image.EXTENSION.get(ending.lower())
    return None if kind in NOT_PICTURES else kind
