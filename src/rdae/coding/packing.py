"""Writing archives: members in the order of their names, the manifest last, the whole file at once or not at all."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

from rdae.coding.archive import DELTA, MANIFEST, MEMBER_MAX, VERSION, Archive, Carried, Claim, check_name
from rdae.coding.codec import Codec
from rdae.coding.container import MAX_PIXELS
from rdae.coding.files import Job, Outcome, whole_file
from rdae.coding.picture_reading import read_picture
from rdae.coding.zip_directory import MEMBERS_MAX
from rdae.errors import FormatError, ImageError, LimitError, RdaeError

__all__ = ["ArchiveWriter", "pack"]

DATE = (1980, 1, 1, 0, 0, 0)

Item = TypeVar("Item")
Result = TypeVar("Result")


class ArchiveWriter:
    """Writes an archive that appears under its name only once it is complete. The same members give the same bytes.

    Args:
        path: of the archive.
        model: of all members.
    """

    def __init__(self, path: Path, model: Carried) -> None:
        self._path, self._model, self._stack = path, model, ExitStack()
        self.members: dict[str, Claim] = {}

    def __enter__(self) -> Self:
        file = self._stack.enter_context(whole_file(self._path))
        self._zip = self._stack.enter_context(zipfile.ZipFile(file, "w", zipfile.ZIP_STORED))
        if self._model.delta is not None:
            self._write(DELTA, self._model.delta)
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            if error[0] is None:
                self._stored(MANIFEST, self._manifest())
        except BaseException:
            self._stack.__exit__(*sys.exc_info())
            raise
        self._stack.__exit__(*error)

    def _manifest(self) -> bytes:
        told = {
            "version": VERSION,
            "model": {"name": self._model.name, "identity": self._model.identity.hex()},
            "members": {name: list(claim) for name, claim in self.members.items()},
        }
        return json.dumps(told, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode("utf-8")

    def add(self, name: str, data: bytes) -> None:
        """Adds a member, the bytes of a .rdae file.

        Raises:
            FormatError: a name that no member can have, or one that is taken.
            LimitError: more members, or a larger one, than an archive holds.
        """
        if check_name(name) in self.members:
            raise FormatError(f"There are two members {name!r}. Rename one.")
        if len(self.members) >= MEMBERS_MAX or len(data) > MEMBER_MAX:
            raise LimitError(
                f"{name} with {len(data)} bytes is too much: an archive holds {MEMBERS_MAX} members of at most "
                f"{MEMBER_MAX} bytes. Make several archives."
            )
        self._write(name, data)

    def _write(self, name: str, data: bytes) -> None:
        self.members[name] = Claim(len(data), hashlib.sha256(data).hexdigest())
        self._stored(name, data)

    def _stored(self, name: str, data: bytes) -> None:
        entry = zipfile.ZipInfo(name, DATE)
        entry.create_system, entry.external_attr = 3, 0o644 << 16  # the same on every system
        self._zip.writestr(entry, data)


def pack(
    path: Path,
    jobs: Iterable[Job],
    codec: Codec,
    model: Carried,
    *,
    workers: int = 1,
    base: Archive | None = None,
    max_pixels: int | None = MAX_PIXELS,
    **target: float | int | None,
) -> Generator[Outcome, None, None]:
    """Compresses pictures into one archive; yields an outcome for each. An error stops only its own picture.

    The archive appears when the last outcome was taken, and not at all if the generator is closed before.

    Args:
        path: of the archive.
        jobs: `source`, a picture, and `target`, the name of its member. Members are in the order of names.
        codec: to compress with.
        model: what the archive carries of it, see `carried`.
        workers: pictures compressed at once.
        base: an archive of the same model, whose members are taken over.
        max_pixels: refuse larger images before memory is taken; None for no limit.
        target: quality, bpp, psnr or size, as for `Codec.compress`.
    """

    def attempt(job: Job) -> tuple[Outcome, bytes]:
        try:
            check_name(job.target.as_posix())
            picture = read_picture(job.source, max_pixels=max_pixels)
            result = codec.compress_picture(picture, **target)  # type: ignore[arg-type]
            height, width = picture.size
            report = f"{width} x {height}, {len(result.data)} bytes, quality {result.quality:g}"
            return Outcome(job, report=report + "".join(f", {note}" for note in result.notes)), result.data
        except (RdaeError, OSError) as error:
            return Outcome(job, error=str(error) or type(error).__name__), b""
        except MemoryError:
            return Outcome(job, error="not enough memory. Run fewer files at once (--jobs), or make it smaller."), b""

    kept = deque(base.names if base else ())
    with ArchiveWriter(path, model) as writer:
        for outcome, data in _in_order(attempt, sorted(jobs, key=lambda job: job.target.as_posix()), workers):
            name = outcome.job.target.as_posix()
            while base and kept and kept[0] < name:
                writer.add(kept[0], base.read(kept.popleft()))
            if not outcome.error:
                writer.add(name, data)
            yield outcome
        while base and kept:
            writer.add(kept[0], base.read(kept.popleft()))
        if base:
            base.close()  # it may be the very file that is now replaced
        if not writer.members.keys() - {DELTA}:
            raise ImageError(f"No picture could be compressed, so {path} was not written.")


def _in_order(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Results in the order of the items, of which a few are worked on at once."""
    if workers == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[Result]] = deque()
        try:
            for item in items:
                running.append(pool.submit(work, item))
                if len(running) == 2 * workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
