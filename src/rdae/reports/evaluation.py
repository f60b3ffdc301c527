"""Codecs on a folder of pictures: a real file for every picture and setting, measured once, and gone on with later.

Each measured file is a line of `rows.jsonl`, written as it is ready. A second run finds the lines and the files that
fit what it is to do (the same picture, codec, versions and setting) and does the rest.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from rdae.coding.fidelity import gmsd, ms_ssim, psnr, psnr_luma_chroma
from rdae.coding.files import is_image, plan, whole_file
from rdae.coding.peers import FileCodec, rgb_image
from rdae.errors import DataError, ShapeError
from rdae.measures.bd_rate import RateCurve, bd_rate
from rdae.reports.peak_memory import Peak, decoding_memory, encoding_memory

__all__ = [
    "MEASURES", "Evaluation", "Memory", "Photograph", "Row", "as_quality", "curve_of", "evaluate", "machine",
    "pictures_in",
]  # fmt: skip

ROWS, FILES = "rows.jsonl", "files"
WARM = (176, 176)  # pixels of what each process codes first, so that no row pays for loading
EQUAL_PICTURES, EQUAL_BPP = 3, 0.2  # of the crops at equal bytes; more bits where a codec makes no files so small
MEASURES = ("psnr", "psnr_luma", "psnr_chroma", "ms_ssim", "gmsd")

Progress = Callable[[str, int, int], None]  # of what, done, of how many
Value = TypeVar("Value")


class Photograph(NamedTuple):
    """A picture to code: where it is, its name without ending, its size, and what its file holds."""

    path: Path
    name: str
    width: int
    height: int
    digest: str


@dataclass(frozen=True)
class Row:
    """A measured file.

    Args:
        codec, conditions: what made it, see `FileCodec`.
        picture, digest: of what, see `Photograph`.
        setting: that it was made with; None where a size was asked for.
        wished: that size, bytes; None where a setting was given.
        file: its path below the folder of the run.
        bytes: of the file on disk.
        psnr, psnr_luma, psnr_chroma: dB; None where there is no error.
        ms_ssim: None where the picture is too small for it.
        gmsd: see `rdae.coding.fidelity`.
        encode_s, decode_s: seconds of one run, memory to memory, on one thread; of the whole search for a size.
        encode_cpu_s, decode_cpu_s: of them, those that the processor worked on it.
        jobs, machine: what else ran, and where.
    """

    codec: str
    conditions: str
    picture: str
    digest: str
    setting: float | None
    wished: int | None
    file: str
    bytes: int
    bpp: float
    psnr: float | None
    psnr_luma: float | None
    psnr_chroma: float | None
    ms_ssim: float | None
    gmsd: float
    encode_s: float
    encode_cpu_s: float
    decode_s: float
    decode_cpu_s: float
    jobs: int
    machine: str


@dataclass(frozen=True)
class Memory:
    """Peak memory of coding one picture at one setting, each way in a process of its own."""

    codec: str
    conditions: str
    picture: str
    digest: str
    setting: float
    encode: Peak | None
    decode: Peak | None


class Task(NamedTuple):
    """A file to make and measure: at a setting, or of at most `wished` bytes."""

    codec: FileCodec
    conditions: str
    photograph: Photograph
    setting: float | None
    wished: int | None
    between: tuple[float, float] | None
    out: Path
    jobs: int

    @property
    def file(self) -> str:
        """Where it goes, below the folder of the run."""
        kind = f"{self.setting:g}" if self.wished is None else f"{self.wished}-bytes"
        return f"{FILES}/{self.codec.name}/{kind}/{self.photograph.name}{self.codec.suffix}"


class Seconds(NamedTuple):
    """Of a call: waited, and of the processor."""

    waited: float
    cpu: float


def _timed(call: Callable[[], Value]) -> tuple[Value, Seconds]:
    began, worked = time.perf_counter(), time.process_time()
    value = call()
    return value, Seconds(time.perf_counter() - began, time.process_time() - worked)


def measured(task: Task) -> Row:
    """Makes the file of a task and measures it."""
    image = _image(task.photograph)
    _warm_up(task.codec)
    if task.wished is not None:
        data, encoded = _timed(lambda: task.codec.of_size(image, task.wished or 0, task.between))
    else:
        data, encoded = _timed(lambda: task.codec.encode(image, task.setting or 0.0))
    with whole_file(task.out / task.file) as file:
        file.write(data)
    data = (task.out / task.file).read_bytes()
    shown, decoded = _timed(lambda: task.codec.decode(data))
    original = np.asarray(image)
    luma, chroma = psnr_luma_chroma(original, shown)
    return Row(
        codec=task.codec.name, conditions=task.conditions, picture=task.photograph.name,
        digest=task.photograph.digest, setting=task.setting, wished=task.wished, file=task.file, bytes=len(data),
        bpp=8 * len(data) / (image.width * image.height), psnr=_finite(psnr(original, shown)),
        psnr_luma=_finite(luma), psnr_chroma=_finite(chroma), ms_ssim=_ms_ssim(original, shown),
        gmsd=gmsd(original, shown), encode_s=encoded.waited, encode_cpu_s=encoded.cpu, decode_s=decoded.waited,
        decode_cpu_s=decoded.cpu, jobs=task.jobs, machine=machine(),
    )  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _ms_ssim(a: np.ndarray, b: np.ndarray) -> float | None:
    try:
        return ms_ssim(a, b)
    except ShapeError:
        return None


@lru_cache(2)
def _image(photograph: Photograph) -> Image.Image:
    return rgb_image(photograph.path)


@lru_cache(None)
def _warm_up(codec: FileCodec) -> None:
    low = codec.settings(2)[0]
    codec.decode(codec.encode(Image.new("RGB", WARM, (90, 120, 150)), low))


@lru_cache(1)
def machine() -> str:
    """Processor and system, as far as they tell."""
    try:
        names = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")]
        processor = names[0].partition(":")[2].strip()
    except (OSError, IndexError):
        processor = platform.processor() or platform.machine()
    return f"{processor}, {platform.system()}, Python {platform.python_version()}"


def pictures_in(folder: Path, out: Path) -> list[Photograph]:
    """The pictures of a folder, nested, by name, without those that a run has written to its own folder `out`.

    Raises:
        DataError: there are none.
        ImageError: two differ in their endings only, or one cannot be read.
    """
    own = out.resolve()

    def wanted(path: Path) -> bool:
        return is_image(path) and not path.resolve().is_relative_to(own)

    found = [job.source for job in plan([folder], None, ".coded", wanted=wanted).jobs]
    if not found:
        raise DataError(f"{folder} holds no pictures. Name a folder of PNG files, or of any that Pillow reads.")
    root = folder if folder.is_dir() else folder.parent
    named = []
    for path in found:
        width, height = rgb_image(path).size
        name = path.relative_to(root).with_suffix("").as_posix()
        named.append(Photograph(path, name, width, height, hashlib.sha256(path.read_bytes()).hexdigest()[:16]))
    return named


class Journal:
    """What earlier runs measured, by what it depends on; each new line is written as it comes."""

    def __init__(self, out: Path) -> None:
        self._out, self._path = out, out / ROWS
        out.mkdir(parents=True, exist_ok=True)
        self._found: dict[tuple, Row | Memory] = {}
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        for line in text.splitlines():
            try:
                row = _parsed(json.loads(line))
            except (ValueError, TypeError):  # the last line of a run that was killed, or of another version
                continue
            self._found[_key(row)] = row
        if text and not text.endswith("\n"):
            with open(self._path, "a", encoding="utf-8") as file:
                file.write("\n")

    def row(self, task: Task) -> Row | None:
        """The line of a task, if its file is still there."""
        key = ("row", task.codec.name, task.conditions, task.photograph.name, task.photograph.digest, task.setting,
               task.wished)  # fmt: skip
        row = self._found.get(key)
        if not isinstance(row, Row):
            return None
        file = self._out / row.file
        return row if file.is_file() and file.stat().st_size == row.bytes else None

    def memory(self, codec: FileCodec, conditions: str, photograph: Photograph, setting: float) -> Memory | None:
        """The line of a codec's memory."""
        found = self._found.get(("memory", codec.name, conditions, photograph.name, photograph.digest, setting))
        return found if isinstance(found, Memory) else None

    def add(self, row: Row | Memory) -> None:
        """Writes a line."""
        self._found[_key(row)] = row
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": type(row).__name__.lower(), **asdict(row)}) + "\n")


def _parsed(line: dict[str, Any]) -> Row | Memory:
    kind = line.pop("kind")
    if kind == "row":
        return Row(**line)
    peaks = {side: None if line[side] is None else Peak(*line[side]) for side in ("encode", "decode")}
    return Memory(**{**line, **peaks})


def _key(row: Row | Memory) -> tuple:
    if isinstance(row, Row):
        return "row", row.codec, row.conditions, row.picture, row.digest, row.setting, row.wished
    return "memory", row.codec, row.conditions, row.picture, row.digest, row.setting


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
