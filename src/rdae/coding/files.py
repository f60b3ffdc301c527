"""Many files: which input becomes which output, whole files or none, several at once, safe to run again."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePath
from typing import BinaryIO

from PIL import Image

from rdae.coding.formats import format_of
from rdae.coding.places import (
    PARTIAL,
    PUT_WHOLE,
    check_writable,
    name_of,
    partial_name,
    placed,
    reaching,
    remote,
    search,
)
from rdae.errors import ImageError, RdaeError

__all__ = [
    "SUFFIX", "Job", "Outcome", "Plan", "attempt", "check_ending", "clear_partial", "is_image", "plan", "run_jobs",
    "whole_file", "write_text",
]  # fmt: skip

SUFFIX = ".rdae"
STALE = 24 * 3600  # seconds without a write after which a partial file belongs to no run
NOT_PICTURES = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF"}  # Pillow knows their names and cannot read their pixels


@dataclass(frozen=True)
class Job:
    """One file to read and the file to write, paths or what `places.place` makes of URLs."""

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
    for path in inputs if output is None else [output]:
        check_writable(path)
    one_file = len(inputs) == 1 and _is_file(inputs[0])
    to_file = False
    if output is not None:
        with reaching(output, "looked up"):
            to_file = one_file and bool(output.suffix) and not output.is_dir()
            _check_output(output, suffix, to_file)
    found = Plan([])
    for source in inputs:
        with reaching(source, "looked up"):
            found.jobs += _jobs_of(source, output, suffix, to_file, wanted, found.unreadable)
    _check_targets(found.jobs)
    return found


def _is_file(path: Path) -> bool:
    with reaching(path, "looked up"):
        return path.is_file() and not (remote(path) and path.is_dir())  # a folder of a web server is a page as well


def _jobs_of(
    source: Path, output: Path | None, suffix: str, to_file: bool, wanted: Callable[[Path], bool], unreadable: list[str]
) -> list[Job]:
    if source.is_dir():
        folder = source if output is None else output
        names = sorted((_search if remote(source) is None else search)(source, unreadable))
        found = [(source / name.as_posix(), name) for name in names]
        return [Job(path, folder / name.with_suffix(suffix).as_posix()) for path, name in found if wanted(path)]
    if str(source) == "-":
        raise ImageError("Standard input cannot be read. Write it to a file and name that.")
    if not source.exists():
        raise ImageError(f"{source} does not exist. Check the path.")
    if not source.is_file():
        raise ImageError(f"{source} is neither a file nor a folder. Write what it gives to a file and name that.")
    if output is None:
        return [Job(source, source.with_suffix(suffix))]
    return [Job(source, output if to_file else output / Path(name_of(source)).with_suffix(suffix))]


def _search(folder: Path, unreadable: list[str]) -> Iterator[PurePath]:
    """As `places.search`, for a folder of this machine."""
    for at, folders, names in os.walk(folder, onerror=lambda error: unreadable.append(f"cannot be searched: {error}")):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(at, name)
            try:
                regular = stat.S_ISREG(path.stat().st_mode)
            except OSError:
                regular = True  # its own job says why it cannot be read
            if regular and not name.startswith("."):
                yield path.relative_to(folder)


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
    sources, seen = {_identity(job.source) for job in jobs} - {None}, dict[str, Path]()
    for job in jobs:
        path = str(job.target) if remote(job.target) else os.path.abspath(job.target)
        if path in seen:
            raise ImageError(
                f"{seen[path]} and {job.source} would both be written to {job.target}. "
                "Rename one, or give them different output folders."
            )
        seen[path] = job.source
        if _identity(job.target) in sources:
            raise ImageError(f"{job.target} is an input and would be written over. Name another output with -o.")


def _identity(path: Path) -> Hashable:
    """What tells one file from another, whatever it is called; None where there is none. A URL is called one thing."""
    if remote(path) is not None:
        return str(path)
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing that appears under its name only once it is complete.

    Several may write to one name at once; the last to finish stays. A run that is killed leaves its partial file, see
    `clear_partial`. At a URL the file is put in the end, see `places.put_whole`.
    """
    if remote(path) is not None:
        with placed(path) as copy, open(copy, "xb") as file:
            yield file
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(partial_name())
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
        url = remote(folder)
        if url is not None and url.protocol in PUT_WHOLE:
            continue  # there are none
        with suppress(OSError, RdaeError), reaching(folder, "searched"):  # gone by now, or not ours to remove
            for path in folder.glob(f".rdae-*{PARTIAL}"):
                changed = path.stat().st_mtime
                if (changed or url is None) and time.time() - changed > STALE:  # not every store knows the time
                    path.unlink()


def attempt(job: Job, work: Callable[[Job], str]) -> Outcome:
    """What becomes of a job; whatever goes wrong is its own trouble."""
    try:
        return Outcome(job, report=work(job))
    except (RdaeError, OSError) as error:
        return Outcome(job, error=str(error) or type(error).__name__)
    except MemoryError:
        return Outcome(job, error="not enough memory. Run fewer files at once (--jobs), or make it smaller.")
    except Exception as error:  # a defect: of rdae or of what reads pictures; the other files are not to suffer
        return Outcome(job, error=f"unforeseen {type(error).__name__}: {error}. Please report it with the file.")


def run_jobs(
    jobs: list[Job], work: Callable[[Job], str], *, workers: int, overwrite: bool
) -> Generator[Outcome, None, None]:
    """Runs jobs, several at once, and yields an outcome for each as it finishes; an error stops only its own job."""

    def unless_done(job: Job) -> Outcome:
        try:
            with reaching(job.target, "looked up"):
                exists = job.target.exists()
        except (RdaeError, OSError) as error:
            return Outcome(job, error=str(error))
        return Outcome(job, skipped=True) if exists and not overwrite else attempt(job, work)

    if workers == 1:
        for job in jobs:
            yield unless_done(job)
        return
    with ThreadPoolExecutor(workers) as pool:
        running: set[Future[Outcome]] = set()
        remaining = iter(jobs)
        try:
            while True:
                for job in islice(remaining, 2 * workers - len(running)):  # a million files are not queued at once
                    running.add(pool.submit(unless_done, job))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


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
    kind = format_of(ending)
    return None if kind in NOT_PICTURES else kind
