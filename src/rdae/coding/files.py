"""Many files: which input becomes which output, whole files or none, several at once, safe to run again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from rdae.coding.codec import Codec, codec_for
from rdae.coding.container import MAX_PIXELS
from rdae.coding.image import read_picture, write_picture
from rdae.coding.quality import psnr
from rdae.errors import ImageError, RdaeError

__all__ = ["SUFFIX", "Job", "Outcome", "compress_file", "decompress_file", "is_image", "plan", "run_jobs", "whole_file"]

SUFFIX = ".rdae"


@dataclass(frozen=True)
class Job:
    """One file to read and the file to write."""

    source: Path
    target: Path


@dataclass
class Outcome:
    """What became of a job: a report, a reason to have skipped it, or an error."""

    job: Job
    report: str = ""
    skipped: bool = False
    error: str = ""


def plan(inputs: list[Path], output: Path | None, suffix: str, *, wanted: Callable[[Path], bool]) -> list[Job]:
    """Pairs of files. Folders are searched, nested; their structure is kept below `output`.

    Args:
        inputs: files and folders.
        output: a file (for one input file), or a folder, made if it does not exist; beside the input if None.
        suffix: of the outputs.
        wanted: which files of a folder to take; files named directly are always taken.

    Raises:
        ImageError: an input does not exist, or two inputs would be written to one file.
    """
    one_file = len(inputs) == 1 and inputs[0].is_file()
    jobs = []
    for source in inputs:
        if source.is_dir():
            found = sorted(p for p in source.rglob("*") if p.is_file() and wanted(p) and not p.name.startswith("."))
            folder = source if output is None else output
            jobs += [Job(p, folder / p.relative_to(source).with_suffix(suffix)) for p in found]
        elif not source.exists():
            raise ImageError(f"{source} does not exist. Check the path.")
        elif output is None:
            jobs.append(Job(source, source.with_suffix(suffix)))
        elif one_file and not output.is_dir() and output.suffix:
            jobs.append(Job(source, output))
        else:
            jobs.append(Job(source, output / source.with_suffix(suffix).name))
    seen: dict[Path, Path] = {}
    for job in jobs:
        if job.target in seen:
            raise ImageError(
                f"{seen[job.target]} and {job.source} would both be written to {job.target}. "
                "Rename one, or give them different output folders."
            )
        seen[job.target] = job.source
    return jobs


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing that appears under its name only once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def run_jobs(jobs: list[Job], work: Callable[[Job], str], *, workers: int, overwrite: bool) -> Iterator[Outcome]:
    """Runs jobs, several at once, and yields an outcome for each as it finishes; an error stops only its own job."""

    def attempt(job: Job) -> Outcome:
        if job.target.exists() and not overwrite:
            return Outcome(job, skipped=True)
        try:
            return Outcome(job, report=work(job))
        except (RdaeError, OSError, MemoryError) as error:
            return Outcome(job, error=str(error) or type(error).__name__)

    if workers == 1:
        for job in jobs:
            yield attempt(job)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future[Outcome]] = []
        remaining = iter(jobs)
        try:
            for job in remaining:
                waiting.append(pool.submit(attempt, job))
                if len(waiting) >= 2 * workers:  # bounded: a folder of a million files is not queued at once
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def compress_file(codec: Codec, job: Job, *, verify: bool, strip: bool = False, **target: float | int | None) -> str:
    """Compresses one file; returns a line of report.

    Args:
        codec: to compress with.
        job: what to read and write.
        verify: decode what was written and report its PSNR.
        strip: leave out ICC profile, EXIF and XMP.
        target: quality, bpp, psnr or size, as for `Codec.compress`.
    """
    began = time.perf_counter()
    picture = read_picture(job.source)
    if strip:
        picture.icc = picture.exif = picture.xmp = None
    result = codec.compress_picture(picture, **target)  # type: ignore[arg-type]
    with whole_file(job.target) as file:
        file.write(result.data)
    seconds = time.perf_counter() - began
    height, width = picture.size
    report = (
        f"{width} x {height}, {len(result.data)} bytes, {8 * len(result.data) / (width * height):.3f} bpp, "
        f"quality {result.quality:g}, {seconds:.2f} s, {width * height / seconds / 1e6:.1f} MP/s"
    )
    if verify:
        shown = codec.decompress(job.target.read_bytes(), name=str(job.target), max_pixels=None)
        report += f", verified, {psnr(picture.pixels, shown.pixels):.2f} dB"
    return report + "".join(f", {note}" for note in result.notes)


def decompress_file(
    job: Job, *, model: str | Path | None = None, threads: int = 0, max_pixels: int | None = MAX_PIXELS
) -> str:
    """Decompresses one file to the image format that the target's name says; returns a line of report."""
    began = time.perf_counter()
    data = job.source.read_bytes()
    codec = codec_for(data, model, name=str(job.source), threads=threads)
    picture = codec.decompress(data, name=str(job.source), max_pixels=max_pixels)
    with whole_file(job.target) as file:
        write_picture(picture, job.target, file)
    seconds = time.perf_counter() - began
    height, width = picture.size
    return f"{width} x {height}, {seconds:.2f} s, {width * height / seconds / 1e6:.1f} MP/s"


def is_image(path: Path) -> bool:
    """A name that Pillow knows how to read."""
    Image.init()
    return path.suffix.lower() in Image.EXTENSION and path.suffix.lower() != SUFFIX
