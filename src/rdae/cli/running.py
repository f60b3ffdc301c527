"""What commands on many files share: their options, and a report of every file."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol

import typer

from rdae.errors import ImageError, TargetError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from rdae.coding.files import Job, Outcome, Plan

__all__ = [
    "Dask", "Format", "Inputs", "Jobs", "MaxPixels", "ModelName", "Output", "Overwrite", "Quality", "Quiet",
    "StepBars", "Threads", "as_argument", "display", "place_of", "report", "run", "threads_of",
]  # fmt: skip


@contextmanager
def as_argument() -> Iterator[None]:
    """A value that nothing can be done with is told as the parser tells what it cannot read, with its exit code."""
    try:
        yield
    except (ImageError, TargetError) as error:
        raise typer.BadParameter(str(error)) from error


def place_of(text: str) -> Path:
    """A path or URL of the command line."""
    from rdae.coding.places import place

    with as_argument():
        return place(text)


Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="INPUT", parser=place_of, help="Files and folders, also as URLs; folders are searched, nested."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", parser=place_of, help="Output file, or a folder. Default: beside each input."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist; they are skipped otherwise.")]
Jobs = Annotated[int, typer.Option("-j", "--jobs", min=1, help="Files at once.")]
Threads = Annotated[int, typer.Option("--threads", min=0, help="Threads for each file; 0: all cores over all jobs.")]
Dask = Annotated[
    str | None, typer.Option("--dask", help="Address of a Dask scheduler; its workers see inputs and outputs.")
]
ModelName = Annotated[
    str | None, typer.Option("-m", "--model", help="photo (PSNR), photo-ssim (MS-SSIM), or path of a codec file.")
]
Quality = Annotated[
    float | None, typer.Option("-q", "--quality", help="0 (smallest) to 100 (best), in halves. Default: 50.")
]
Format = Annotated[str, typer.Option("-f", "--format", help="Ending of the output names: png, tif ...")]
MaxPixels = Annotated[int, typer.Option("--max-pixels", min=1, help="Refuse larger images.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No report and no progress; errors only.")]


def threads_of(threads: int, jobs: int, dask: str | None = None) -> int:
    """Threads of the networks for each file: as asked for, or an equal share of the cores; 0 for all of them.

    On a cluster a worker takes as many files at once as it has threads, so that each gets one.

    Raises:
        typer.BadParameter: files at once are asked for, where a cluster decides.
    """
    from rdae.coding.model import usable_cores

    if dask is not None:
        if jobs > 1:
            raise typer.BadParameter("--jobs is for this machine; on a cluster its workers decide. Leave it out.")
        return threads or 1
    return threads or (max(1, usable_cores() // jobs) if jobs > 1 else 0)


def run(
    plan: Plan,
    work: Callable[[Job], str],
    jobs: int,
    overwrite: bool,
    quiet: bool,
    dask: str | None = None,
    bars: StepBars | None = None,
) -> int:
    """Runs a plan and reports it. What existed before counts as done: a second run succeeds.

    Args:
        plan: what to do.
        work: done to each job; with `dask` it can be pickled.
        jobs: at once.
        overwrite: files that exist are replaced.
        quiet: tell of errors only.
        dask: address of the scheduler whose workers do it; None for this machine.
        bars: told by `work` of its steps.

    Returns:
        The exit code.
    """
    from rdae.coding.files import clear_partial, run_jobs
    from rdae.coding.spread import spread_jobs

    total = len(plan.jobs)
    clear_partial({job.target.parent for job in plan.jobs})
    if dask is None:
        running = run_jobs(plan.jobs, work, workers=jobs, overwrite=overwrite)
    else:
        running = spread_jobs(plan.jobs, work, address=dask, overwrite=overwrite)
    failed, skipped = report(running, total, plan.unreadable, quiet, bars)
    if skipped and not quiet:
        what = f"{plan.jobs[0].target} exists and was" if total == 1 else f"{skipped} of {total} files existed and were"
        print(f"rdae: {what} left alone; pass --overwrite to replace", file=sys.stderr)
    if not total:
        print("rdae: no files found", file=sys.stderr)
    return 1 if failed or not total else 0


class Counts(NamedTuple):
    """How many files and folders failed, and how many files were left alone."""

    failed: int
    skipped: int


def report(
    running: Generator[Outcome, None, None],
    total: int,
    unreadable: list[str],
    quiet: bool,
    bars: StepBars | None = None,
) -> Counts:
    """Tells of every outcome as it comes; of those of a plan that could not be read first.

    Args:
        running: outcomes; closed at the end.
        total: how many there will be.
        unreadable: lines about folders.
        quiet: tell of errors only.
        bars: told by the work on a file of its steps.
    """
    failed, skipped = len(unreadable), 0
    with display(0 if quiet else total, bars) as show, closing(running) as outcomes:
        for line in unreadable:
            show(f"rdae: {line}", error=True)
        for outcome in outcomes:
            if outcome.error:
                failed += 1
                show(f"rdae: {outcome.job.source}: {outcome.error}", error=True, step=1)
            elif outcome.skipped:
                skipped += 1
                show("", step=1)
            else:
                show("" if quiet else f"{outcome.job.target}: {outcome.report}", step=1)
    return Counts(failed, skipped)


class Show(Protocol):
    """Prints a line, if there is one, and counts `step` files as done."""

    def __call__(self, line: str, *, error: bool = False, step: int = 0) -> None: ...


class StepBars:
    """Bars for work that takes long on a single file, one for each thread at work, while `display` shows bars."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self._bars: dict[int, TaskID] = {}

    def __call__(self, done: int, total: int) -> None:
        """Steps of the calling thread's work; its bar goes once all are done."""
        if self.progress is None:
            return
        thread = threading.get_ident()
        if done == total:
            if thread in self._bars:
                self.progress.remove_task(self._bars.pop(thread))
            return
        if thread not in self._bars:
            self._bars[thread] = self.progress.add_task("")
        words = f"step {done + 1} of {total}"
        self.progress.update(self._bars[thread], description=words, completed=done, total=total, refresh=True)


@contextmanager
def display(total: int, bars: StepBars | None = None) -> Iterator[Show]:
    """Reports go to stdout and errors to stderr, whatever these are; with a bar where stderr is a terminal.

    Args:
        total: number of files; a single one has no bar.
        bars: told by the work on a file of its steps.
    """
    if total < (2 if bars is None else 1) or not sys.stderr.isatty():

        def plain(line: str, *, error: bool = False, step: int = 0) -> None:
            if line:
                print(line, file=sys.stderr if error else sys.stdout, flush=True)

        yield plain
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), redirect_stdout=False, redirect_stderr=False) as progress:
        bar = progress.add_task("", total=total, visible=total > 1)
        if bars is not None:
            bars.progress = progress

        def above(line: str, *, error: bool = False, step: int = 0) -> None:
            if line and (error or sys.stdout.isatty()):  # both are one screen, on which the bar has to move down
                progress.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
            elif line:
                print(line, flush=True)
            progress.advance(bar, step)

        yield above
