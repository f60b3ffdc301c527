"""Codecs on a folder of pictures: a real file for every picture and setting, measured once, and gone on with later."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

import numpy as np

from rdae.coding.peers import FileCodec
from rdae.errors import DataError
from rdae.measures.bd_rate import RateCurve, bd_rate
from rdae.reports.measured_files import Journal, Memory, Photograph, Row, Task, measured
from rdae.reports.peak_memory import decoding_memory, encoding_memory

__all__ = ["MEASURES", "Evaluation", "Progress", "as_quality", "curve_of", "evaluate"]

EQUAL_PICTURES, EQUAL_BPP = 3, 0.2  # of the crops at equal bytes; more bits where a codec makes no files so small
MEASURES = ("psnr", "psnr_luma", "psnr_chroma", "ms_ssim", "gmsd")

Progress = Callable[[str, int, int], None]  # of what, done, of how many


@dataclass(frozen=True)
class Evaluation:
    """All that was measured.

    Args:
        out: the folder with the files.
        codecs: ours first.
        conditions: of each, by name.
        models: how many of the codecs are ours.
        pictures: what was coded.
        rows: a file each, at the settings.
        equal: files of equal bytes, of a few pictures; sizes in `wished`.
        memory: by name of the codec.
        fresh: how many rows were measured in this run.
    """

    out: Path
    codecs: list[FileCodec]
    conditions: dict[str, str]
    models: int
    pictures: list[Photograph]
    rows: list[Row]
    equal: list[Row]
    memory: dict[str, Memory]
    fresh: int

    def of(self, codec: str, picture: str | None = None) -> list[Row]:
        """The rows of a codec, of one picture or all."""
        return [row for row in self.rows if row.codec == codec and picture in (None, row.picture)]

    def means(self, codec: str) -> list[dict[str, float | None]]:
        """At each setting of a codec, from small files to large ones: means over pictures.

        `setting`, `bpp` and each of `MEASURES`; a measure is None where a picture has none.
        """
        grouped: dict[float | None, list[Row]] = {}
        for row in self.of(codec):
            grouped.setdefault(row.setting, []).append(row)
        return [
            {"setting": setting, **{name: _mean(rows, name) for name in ("bpp", *MEASURES)}}
            for setting, rows in grouped.items()
        ]

    def curve(self, codec: str, measure: str, picture: str | None = None) -> RateCurve:
        """Bits per pixel and a measure, more being better (see `as_quality`): of one picture, or of the means over all.

        Settings at which a picture has no such measure are left out.
        """
        if picture is None:
            points = [(point["bpp"], point[measure]) for point in self.means(codec)]
        else:
            points = [(row.bpp, getattr(row, measure)) for row in self.of(codec, picture)]
        return curve_of([(bpp, as_quality(measure, value)) for bpp, value in points])

    @property
    def comparable_times(self) -> bool:
        """All rows were timed on one machine, one at a time."""
        return {(row.jobs, row.machine) for row in self.rows} == {(1, self.rows[0].machine)}


def as_quality(measure: str, value: float | None) -> float | None:
    """A measure as curves have it: MS-SSIM in dB, -10 log10(1 - MS-SSIM), and GMSD with its sign turned."""
    if value is None or (measure == "ms_ssim" and value >= 1):
        return None
    return {"ms_ssim": lambda x: -10 * math.log10(1 - x), "gmsd": lambda x: -x}.get(measure, lambda x: x)(value)


def curve_of(points: Iterable[tuple[float | None, float | None]]) -> RateCurve:
    """A curve of the points that have both, a rate and a quality."""
    whole = [(rate, quality) for rate, quality in points if rate is not None and quality is not None]
    return RateCurve.of([rate for rate, _ in whole], [quality for _, quality in whole])


def _mean(rows: Sequence[Row], name: str) -> float | None:
    values = [getattr(row, name) for row in rows]
    return None if any(value is None for value in values) else fmean(values)


def evaluate(
    models: Sequence[FileCodec],
    others: Sequence[FileCodec],
    pictures: Sequence[Photograph],
    out: Path,
    *,
    count: int,
    jobs: int = 1,
    progress: Progress = lambda what, done, total: None,
) -> Evaluation:
    """Codes every picture with every codec at `count` settings and measures the files.

    Args:
        models: ours.
        others: to compare with; all can run here.
        pictures: see `pictures_in`.
        out: folder of the run; what it holds is not done again.
        count: settings of each codec.
        jobs: processes; times are comparable with one only.
        progress: called with what is counted, how many are done and how many there are.

    Raises:
        DataError: two codecs have one name.
    """
    codecs = [*models, *others]
    names = [codec.name for codec in codecs]
    double = [name for name in names if names.count(name) > 1]
    if double:
        raise DataError(f"Two codecs are called {double[0]}. Rename one of the files.")
    journal = Journal(out)
    conditions = {codec.name: codec.conditions() for codec in codecs}

    def task(codec: FileCodec, photograph: Photograph, setting: float | None, wished: int | None = None) -> Task:
        between = None if wished is None else _between(rows, codec.name, photograph.name, wished)
        return Task(codec, conditions[codec.name], photograph, setting, wished, between, out, jobs)

    rows: list[Row] = []
    tasks = [task(codec, p, setting) for p in pictures for codec in codecs for setting in codec.settings(count)]
    rows, fresh = _carried_out("files", tasks, journal, jobs, progress)
    shown = _shown(pictures, rows, names[:1] + [codec.name for codec in others[:1]])
    tasks = [task(codec, p, None, _common_size(p, rows)) for p in shown for codec in codecs]
    equal, more = _carried_out("files of equal bytes", tasks, journal, jobs, progress)
    largest = max(pictures, key=lambda p: p.width * p.height)
    memory = {}
    for k, codec in enumerate(codecs):
        progress("peaks of memory", k, len(codecs))
        memory[codec.name] = _memory(journal, codec, conditions[codec.name], largest, count, out)
    progress("peaks of memory", len(codecs), len(codecs))
    return Evaluation(
        out, codecs, conditions, len(models), list(pictures), rows, equal, memory, fresh + more
    )  # fmt: skip


def _carried_out(
    what: str, tasks: list[Task], journal: Journal, jobs: int, progress: Progress
) -> tuple[list[Row], int]:
    """A row for each task, in their order, and how many were new."""
    rows: dict[int, Row] = {}
    for k, task in enumerate(tasks):
        row = journal.row(task)
        if row is not None:
            rows[k] = row
    left = [k for k in range(len(tasks)) if k not in rows]
    progress(what, len(rows), len(tasks))
    for k, row in _results(tasks, left, jobs):
        journal.add(row)
        rows[k] = row
        progress(what, len(rows), len(tasks))
    return [rows[k] for k in range(len(tasks))], len(left)


def _results(tasks: list[Task], left: list[int], jobs: int) -> Iterator[tuple[int, Row]]:
    if jobs == 1:
        yield from ((k, measured(tasks[k])) for k in left)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(measured, tasks[k]): k for k in left}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _between(rows: Sequence[Row], codec: str, picture: str, size: int) -> tuple[float, float] | None:
    """The neighbouring settings whose files are just small enough and just too large, if there are both."""
    own = [row for row in rows if (row.codec, row.picture) == (codec, picture) and row.setting is not None]
    small = max((row for row in own if row.bytes <= size), key=lambda row: row.bytes, default=None)
    large = min((row for row in own if row.bytes > size), key=lambda row: row.bytes, default=None)
    if small is None or large is None or small.setting is None or large.setting is None:
        return None
    return (small.setting, large.setting) if small.setting < large.setting else None


def _common_size(photograph: Photograph, rows: Sequence[Row]) -> int:
    """Bytes of the crops: `EQUAL_BPP`, or the largest of the codecs' smallest files."""
    smallest: dict[str, int] = {}
    for row in rows:
        if row.picture == photograph.name:
            smallest[row.codec] = min(row.bytes, smallest.get(row.codec, row.bytes))
    return max(int(EQUAL_BPP * photograph.width * photograph.height / 8), *smallest.values())


def _shown(pictures: Sequence[Photograph], rows: Sequence[Row], pair: Sequence[str]) -> list[Photograph]:
    """Where the first codec of a pair does best against the second, about as it mostly does, and worst: BD rate."""

    def lead(photograph: Photograph) -> float:
        own = [[row for row in rows if (row.codec, row.picture) == (name, photograph.name)] for name in pair]
        curves = [curve_of((row.bpp, row.psnr) for row in half) for half in own]
        found = bd_rate(curves[0], curves[1]) if len(curves) == 2 else None
        return found.percent if found else 0.0

    ordered = sorted(pictures, key=lead)
    at = np.linspace(0, len(ordered) - 1, min(EQUAL_PICTURES, len(ordered))).round()
    return [ordered[int(k)] for k in at]


def _memory(journal: Journal, codec: FileCodec, conditions: str, largest: Photograph, count: int, out: Path) -> Memory:
    setting = codec.settings(count)[-1]
    found = journal.memory(codec, conditions, largest, setting)
    if found is None:
        file = out / Task(codec, conditions, largest, setting, None, None, out, 1).file
        found = Memory(
            codec.name, conditions, largest.name, largest.digest, setting,
            encoding_memory(codec, largest.path, setting), decoding_memory(codec, file),
        )  # fmt: skip
        journal.add(found)
    return found
