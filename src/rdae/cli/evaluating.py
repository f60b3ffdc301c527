"""Commands that evaluate codecs: evaluate."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rdae.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from rdae.reports.evaluation import Progress

__all__ = ["evaluate"]

EVERY = 15.0  # seconds between lines of progress where there is no terminal


def evaluate(
    models: Annotated[list[str], typer.Argument(help="Shipped models, or paths of codec files.", metavar="MODEL")],
    data: Annotated[Path, typer.Option("--data", help="A folder of pictures, searched nested, or one picture.")],
    against: Annotated[
        str, typer.Option("--against", help="Other codecs, with commas: jpeg, jpeg2000, webp, avif, jxl; or none.")
    ] = "jpeg,jpeg2000,webp,avif,jxl",
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of all files and of the report.")] = Path(
        "evaluation"
    ),
    rates: Annotated[int, typer.Option("--rates", min=2, help="Settings of each codec.")] = 8,
    span: Annotated[
        str, typer.Option("--range", help="BD rate: bits per pixel of the other codec from which to which.")
    ] = "0.1,1.0",
    anchors: Annotated[
        str | None, typer.Option("--anchors", help="Published curves beside ours: kodak, where DATA is that suite.")
    ] = None,
    jobs: Annotated[
        int, typer.Option("-j", "--jobs", min=1, help="Processes. Times can be compared with one only.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the tables.")] = False,
) -> int:
    """Evaluate codecs on pictures: real files, rate and distortion, BD rates, seconds, memory; a run can go on."""
    between = _span(span)
    with _reports_extra():
        from rdae.reports.evaluation_page import evaluation_page
    from rdae.coding.peers import Learned, peers_named
    from rdae.reports.evaluation import evaluate as carried_out
    from rdae.reports.evaluation_summary import facts, plain_text, published, summary
    from rdae.reports.measured_files import pictures_in
    from rdae.reports.page import write_report

    others = []
    for codec in peers_named("" if against == "none" else against):
        reason = codec.missing()
        if reason:
            print(f"rdae: {codec.label} is left out: {reason}", file=sys.stderr)
        else:
            others.append(codec)
    curves = published(anchors) if anchors else []
    with _progress() as progress:
        found = carried_out(
            [Learned(model) for model in models], others, pictures_in(data, out), out, count=rates, jobs=jobs,
            progress=progress,
        )  # fmt: skip
    whole = summary(found, curves, between)
    words = ["rdae", "evaluate", *(Path(model).name for model in models), "--data", data.name, "--against", against,
             "--rates", str(rates), "--range", span, "--jobs", str(jobs)]  # fmt: skip
    command = shlex.join(words + (["--anchors", anchors] if anchors else []))
    text = json.dumps({"command": command, **facts(whole)}, indent=1)
    title = f"{', '.join(codec.label for codec in found.codecs[: found.models])} evaluated on {data.resolve().name}"
    written = write_report(out / "evaluation", evaluation_page(whole, title=title, command=command), text)
    print(text if as_json else f"{plain_text(whole)}\n{written}")
    return 0


def _span(text: str) -> tuple[float, float]:
    try:
        low, high = (float(word) for word in text.split(","))
    except ValueError as error:
        raise DataError(f"--range {text} is not two numbers. Write for example --range 0.1,1.0.") from error
    if not 0 < low < high:
        raise DataError(f"--range {text} does not rise from above 0. Write for example --range 0.1,1.0.")
    return low, high


@contextmanager
def _reports_extra() -> Iterator[None]:
    try:
        yield
    except MissingExtraError as error:
        raise MissingExtraError(
            "The report draws curves with matplotlib, which is not installed. Install it with: "
            "pip install 'rdae[reports]'"
        ) from error


@contextmanager
def _progress() -> Iterator[Progress]:
    """On stderr: a bar where that is a terminal, else a line now and then."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

        columns = *Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task("files", total=None)
            yield lambda what, done, total: progress.update(bar, description=what, completed=done, total=total)
        return
    began = said = time.monotonic()

    def say(what: str, done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if done == total or now - said >= EVERY:
            said = now
            print(f"rdae: {done} of {total} {what}, {now - began:.0f} s", file=sys.stderr, flush=True)

    yield say
