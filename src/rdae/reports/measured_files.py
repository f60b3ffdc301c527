"""A picture coded by a codec: its file on disk, what was measured of it, and the journal of all such files.

Each measured file is a line of `rows.jsonl`, written as it is ready. A second run finds the lines and the files that
fit what it is to do: the same picture, codec, versions and setting.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from rdae.coding.fidelity import gmsd, ms_ssim, psnr, psnr_luma_chroma
from rdae.coding.files import is_image, plan, whole_file
from rdae.coding.peers import FileCodec, rgb_image
from rdae.errors import DataError, ShapeError
from rdae.reports.peak_memory import Peak

__all__ = ["ROWS", "Journal", "Memory", "Photograph", "Row", "Task", "machine", "measured", "pictures_in"]

ROWS, FILES = "rows.jsonl", "files"
WARM = (176, 176)  # pixels of what each process codes first, so that no row pays for loading

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
