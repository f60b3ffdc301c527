"""One file for a whole folder: a zip of stored members, a manifest, and what of the model was adapted.

Any zip program lists it. Ours believes nothing in it before it is checked: the directory and its bounds first, then
names, then the manifest, and of each member size and SHA-256 before it is decoded. docs/archives.md has the layout.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import threading
import zipfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self, TypeVar

from rdae.coding.codec import Codec
from rdae.coding.container import MAX_PIXELS
from rdae.coding.delta import DELTA_MAX, apply_delta, make_delta, parent_identity
from rdae.coding.files import SUFFIX, Job, Outcome, whole_file
from rdae.coding.image import Picture, read_picture, write_picture
from rdae.coding.model import shipped_models, unpack_model
from rdae.coding.registry import load, shipped_as
from rdae.errors import FormatError, ImageError, LimitError, ModelError, RdaeError

__all__ = ["Archive", "ArchiveWriter", "Carried", "carried", "is_archive", "pack", "unpack_member", "verify"]

VERSION = 1
MANIFEST, DELTA = "manifest.json", "model.delta"
MEMBERS_MAX = 65_000  # a zip counts to 65,535 without extensions
DIRECTORY_MAX = 1 << 25
NAME_MAX = 512  # bytes
MEMBER_MAX = 1 << 30
MANIFEST_HEAD, MANIFEST_EACH = 1024, 256 + 2 * NAME_MAX  # bytes; a quoted character takes at most two for one
DATE = (1980, 1, 1, 0, 0, 0)
DAMAGED = "The archive is damaged or was not written by rdae: copy it again."

END, END_SIGNATURE = struct.Struct("<4s4H2IH"), b"PK\x05\x06"
LOCATOR, LOCATOR_SIGNATURE = struct.Struct("<4sIQI"), b"PK\x06\x07"
END64, END64_SIGNATURE = struct.Struct("<4sQ2H2I4Q"), b"PK\x06\x06"
ENTRY, ENTRY_SIGNATURE = struct.Struct("<4s6H3I5H2I"), b"PK\x01\x02"
LOCAL_HEAD = 30

Item = TypeVar("Item")
Result = TypeVar("Result")


class Carried(NamedTuple):
    """The model of an archive."""

    name: str
    identity: bytes  # of the codec file that the members were made with
    delta: bytes | None  # None: the model is shipped as it is


class _Claim(NamedTuple):
    """What the manifest says of a member."""

    size: int
    sha256: str


@dataclass(frozen=True)
class _Manifest:
    model: str
    identity: bytes
    members: dict[str, _Claim]


def carried(model: str | Path) -> Carried:
    """What an archive must carry so that whoever has the package can decode what this model made.

    Args:
        model: name of a shipped model, or path of a codec file adapted from one.

    Raises:
        ModelError: no such model, or one that was not adapted from a shipped one.
    """
    codec = load(model)
    if shipped_as(codec.model.identity) is not None:
        return Carried(codec.model.name, codec.model.identity, None)
    try:
        parent = _shipped_bytes(bytes.fromhex(str(codec.model.card.get("parent"))))
    except ValueError as error:
        raise ModelError(
            f"{model} was not adapted from a model that ships with the package, so no archive can carry it. Adapt one "
            "with `rdae train --from photo`, or compress single files and keep the codec file beside them."
        ) from error
    own = Path(model).read_bytes()
    delta = make_delta(parent, own)
    if apply_delta(parent, delta) != own:
        raise ModelError(f"{model} is not what `rdae train --from` writes: its weights lie between the delta's steps.")
    return Carried(codec.model.name, codec.model.identity, delta)


def _shipped_bytes(identity: bytes) -> bytes:
    name = shipped_as(identity)
    if name is None:
        raise ModelError(
            f"The model {identity.hex()} does not ship with this version of rdae. Install the one that ships it."
        )
    return shipped_models()[name].read_bytes()


def check_name(name: str) -> str:
    """The name of a member, if it is one that can be written below any folder: `part/part/name.rdae`.

    Raises:
        FormatError: absolute, leading out of the folder, or with characters that some system reads otherwise.
    """
    parts = name.split("/")
    try:
        long = len(name.encode("utf-8")) > NAME_MAX
    except UnicodeEncodeError:
        long = True
    bad = any(ord(letter) < 32 or 127 <= ord(letter) < 160 or letter in '\\:*?"<>|' for letter in name)
    if bad or long or any(part in ("", ".", "..") or part[-1] in ". " for part in parts) or not name.endswith(SUFFIX):
        raise FormatError(
            f"{name!r:.80} cannot be the name of a member: names are relative, end in {SUFFIX}, have at most "
            f'{NAME_MAX} bytes and none of \\ : * ? " < > |. Rename the file.'
        )
    return name


def is_archive(path: Path) -> bool:
    """Whether a file begins as a zip does."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


# --- writing -------------------------------------------------------------------------------------------------------


class ArchiveWriter:
    """Writes an archive that appears under its name only once it is complete. The same members give the same bytes.

    Args:
        path: of the archive.
        model: of all members.
    """

    def __init__(self, path: Path, model: Carried) -> None:
        self._path, self._model, self._stack = path, model, ExitStack()
        self.members: dict[str, _Claim] = {}

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
        self.members[name] = _Claim(len(data), hashlib.sha256(data).hexdigest())
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


# --- reading -------------------------------------------------------------------------------------------------------


class Archive:
    """An archive, open for reading. Safe to share between threads, not between processes.

    Args:
        path: of the archive.
        threads: of the networks; 0 takes all cores.

    Raises:
        FormatError: damaged, cut short, not ours, or made to harm.
        ImageError: it cannot be read.
        LimitError: it claims more members than an archive holds.
    """

    def __init__(self, path: str | Path, *, threads: int = 0) -> None:
        self.path, self._threads, self._lock = Path(path), threads, threading.Lock()
        self._codec: Codec | None = None
        try:
            self._file = open(self.path, "rb")  # noqa: SIM115 (closed by `close`)
        except OSError as error:
            raise ImageError(f"{self.path} cannot be read: {error.strerror}. Check the path.") from error
        try:
            self._entries, self._zip = _opened(self._file, str(self.path))
            self._manifest = self._read_manifest()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._zip.close()
        self._file.close()

    @property
    def names(self) -> list[str]:
        """Names of the pictures, sorted."""
        return sorted(name for name in self._manifest.members if name != DELTA)

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._manifest.model

    @property
    def identity(self) -> bytes:
        """Identity of the codec file that the pictures were made with."""
        return self._manifest.identity

    @property
    def size(self) -> int:
        """Bytes of the whole archive."""
        return self.path.stat().st_size

    @property
    def delta_size(self) -> int:
        """Bytes of what was adapted; 0 where the model is shipped."""
        return self.size_of(DELTA) if DELTA in self._manifest.members else 0

    def size_of(self, name: str) -> int:
        """Bytes of a member."""
        return self._claim(name).size

    def read(self, name: str) -> bytes:
        """The bytes of a member, once size and checksum are known to be right.

        Raises:
            FormatError: there is no such member, or it is damaged.
            LimitError: it is larger than any member.
        """
        claim = self._claim(name)
        data = self._bytes(name)
        if hashlib.sha256(data).hexdigest() != claim.sha256:
            raise FormatError(f"{self.path}: the checksum of {name} does not match. {DAMAGED}")
        return data

    def carried(self) -> Carried:
        """The model as it is carried."""
        return Carried(self.model, self.identity, self.read(DELTA) if DELTA in self._manifest.members else None)

    def codec(self) -> Codec:
        """The codec of all members: the shipped model, or what the archive makes of it.

        Raises:
            FormatError: the delta is damaged.
            ModelError: this version does not ship the model, or the delta gives another one than the archive names.
        """
        with self._lock:
            if self._codec is None:
                self._codec = self._made()
            return self._codec

    def picture(self, name: str, *, max_pixels: int | None = MAX_PIXELS) -> Picture:
        """A member, decoded.

        Raises:
            FormatError: there is no such member, or it is damaged.
            LimitError: it is larger than `max_pixels`.
            ModelError: as for `codec`.
        """
        data = self.read(name)
        return self.codec().decompress(data, name=f"{self.path}: {name}", max_pixels=max_pixels)

    def _made(self) -> Codec:
        delta = self.carried().delta
        if delta is None:
            name = shipped_as(self.identity)
            if name is None:
                raise ModelError(
                    f"{self.path} was made with model {self.identity.hex()}, which is not shipped with this version of "
                    "rdae. Install the one that ships it."
                )
            return load(name, threads=self._threads)
        label = f"{self.path}: {DELTA}"
        codec = apply_delta(_shipped_bytes(parent_identity(delta)), delta, label)
        model = unpack_model(codec, threads=self._threads)
        if model.identity != self.identity:
            raise ModelError(
                f"{label} gives the model {model.identity.hex()}, not {self.identity.hex()}, which made the pictures. "
                f"{DAMAGED}"
            )
        return Codec(model)

    def _claim(self, name: str) -> _Claim:
        try:
            return self._manifest.members[name]
        except KeyError:
            raise FormatError(f"{self.path} has no member {name!r}. `rdae list` names all.") from None

    def _bytes(self, name: str) -> bytes:
        """Of a member whose size was checked against the file."""
        try:
            return self._zip.read(self._entries[name])
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, struct.error) as error:
            raise FormatError(f"{self.path}: {name} cannot be read ({error}). {DAMAGED}") from error

    def _read_manifest(self) -> _Manifest:
        entry = self._entries.get(MANIFEST)
        if entry is None or entry.file_size > MANIFEST_HEAD + MANIFEST_EACH * len(self._entries):
            raise FormatError(f"{self.path} has no manifest, or one that is too long. {DAMAGED}")
        try:
            told = json.loads(self._bytes(MANIFEST).decode("utf-8"))
            version = told["version"]
            if version != VERSION:
                raise FormatError(
                    f"{self.path} has archive version {version!r:.20}; this package reads {VERSION}. "
                    "Install a newer rdae."
                )
            identity = bytes.fromhex(told["model"]["identity"])
            members = {name: _Claim(size, sha256) for name, (size, sha256) in told["members"].items()}
            manifest = _Manifest(str(told["model"]["name"]), identity, members)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"{self.path}: the manifest cannot be read ({error!r:.80}). {DAMAGED}") from error
        self._must_agree(manifest)
        return manifest

    def _must_agree(self, manifest: _Manifest) -> None:
        """Manifest and directory name the same members, of the same sizes."""
        sizes = {name: entry.file_size for name, entry in self._entries.items() if name != MANIFEST}
        wrong = sizes.keys() ^ manifest.members.keys()
        wrong |= {name for name in sizes.keys() - wrong if manifest.members[name].size != sizes[name]}
        if wrong:
            raise FormatError(f"{self.path}: manifest and directory disagree on {sorted(wrong)[0]!r:.80}. {DAMAGED}")
        if len(manifest.identity) != 8:
            raise FormatError(f"{self.path} names no model. {DAMAGED}")
        for name, claim in manifest.members.items():
            if name != DELTA:
                check_name(name)
            if claim.size > (DELTA_MAX if name == DELTA else MEMBER_MAX):
                raise LimitError(f"{self.path}: {name} has {claim.size} bytes, more than any such member.")


def _opened(file: BinaryIO, name: str) -> tuple[dict[str, zipfile.ZipInfo], zipfile.ZipFile]:
    """Entries of the directory, by name, once it is known to be of bounded size, with stored members side by side."""
    start = _check_directory(file, name)
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, struct.error) as error:
        raise FormatError(f"{name} cannot be read as an archive ({error}). {DAMAGED}") from error
    entries: dict[str, zipfile.ZipInfo] = {}
    end = 0
    for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset):
        label = f"{name}: {entry.orig_filename!r:.80}"
        if entry.filename in entries:
            raise FormatError(f"{label} occurs twice. {DAMAGED}")
        if entry.filename != entry.orig_filename:
            raise FormatError(f"{label} has a name that some systems read otherwise. {DAMAGED}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
            raise FormatError(f"{label} is compressed or encrypted; members are stored as they are. {DAMAGED}")
        if entry.header_offset < end:
            raise FormatError(f"{label} lies within another member. {DAMAGED}")
        end = entry.header_offset + LOCAL_HEAD + entry.file_size
        entries[entry.filename] = entry
    if end > start:
        raise FormatError(f"{name}: a member reaches beyond the end. {DAMAGED}")
    return entries, archive


def _check_directory(file: BinaryIO, name: str) -> int:
    """Where the directory begins, after its claims were compared with its bytes, before anything is made of it."""
    count, size, start, end = _end_record(file, name)
    if count > MEMBERS_MAX + 2 or size > DIRECTORY_MAX:
        raise LimitError(
            f"{name} claims {count} members in a directory of {size} bytes; an archive has at most {MEMBERS_MAX}. "
            "If you trust it, unpack it with a zip program."
        )
    if start + size != end:
        raise FormatError(f"{name}: its directory is not where it should be. {DAMAGED}")
    file.seek(start)
    directory, at = file.read(size), 0
    for _ in range(count):
        if len(directory) - at < ENTRY.size or directory[at : at + 4] != ENTRY_SIGNATURE:
            raise FormatError(f"{name}: its directory should name {count} members. {DAMAGED}")
        fields = ENTRY.unpack_from(directory, at)
        at += ENTRY.size + sum(fields[10:13])
    if at != size:
        raise FormatError(f"{name}: its directory names more than {count} members. {DAMAGED}")
    return start


def _end_record(file: BinaryIO, name: str) -> tuple[int, int, int, int]:
    """Number of entries, bytes and start of the directory, and where it should end."""
    total = file.seek(0, 2)
    tail = max(0, total - END.size - LOCATOR.size)
    file.seek(tail)
    data = file.read()
    if len(data) < END.size or data[-END.size :][:4] != END_SIGNATURE:
        raise FormatError(f"{name} is no archive of rdae, or is cut short: it does not end as one. Copy it again.")
    *_, count, size, start, _ = END.unpack(data[-END.size :])
    end = total - END.size
    if data[: LOCATOR.size][:4] == LOCATOR_SIGNATURE and len(data) == END.size + LOCATOR.size:
        *_, end, _ = LOCATOR.unpack(data[: LOCATOR.size])
        if end != tail - END64.size:
            raise FormatError(f"{name}: its directory is not where it should be. {DAMAGED}")
        file.seek(end)
        fields = END64.unpack(file.read(END64.size))
        if fields[0] != END64_SIGNATURE:
            raise FormatError(f"{name}: the end of its directory cannot be read. {DAMAGED}")
        count, size, start = fields[-3:]
    return count, size, start, end


# --- members -------------------------------------------------------------------------------------------------------


def unpack_member(archive: Archive, name: str, target: Path, *, max_pixels: int | None = MAX_PIXELS) -> str:
    """Decodes a member to the image format that the target's name says; returns a line of report."""
    picture = archive.picture(name, max_pixels=max_pixels)
    notes: list[str] = []
    with whole_file(target) as file:
        write_picture(picture, target, file, notes=notes)
    height, width = picture.size
    return f"{width} x {height}" + "".join(f", {note}" for note in notes)


def verify(archive: Archive, *, max_pixels: int | None = MAX_PIXELS) -> Iterator[tuple[str, str]]:
    """Name of each member, and what is wrong with it: nothing, if it has its checksum and decodes."""
    for name in archive.names:
        try:
            archive.picture(name, max_pixels=max_pixels)
            yield name, ""
        except RdaeError as error:
            yield name, str(error)
