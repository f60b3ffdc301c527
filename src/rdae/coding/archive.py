"""One file for a whole folder: a zip of stored members, a manifest, and what of the model was adapted.

Any zip program lists it. Ours believes nothing in it before it is checked: the directory and its bounds first, then
names, then the manifest, and of each member size and SHA-256 before it is decoded. docs/archives.md has the layout.
"""

from __future__ import annotations

import hashlib
import json
import struct
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from rdae.coding.codec import Codec
from rdae.coding.container import MAX_PIXELS
from rdae.coding.delta import DELTA_MAX, apply_delta, make_delta, parent_identity
from rdae.coding.files import SUFFIX, whole_file
from rdae.coding.model import unpack_model
from rdae.coding.picture import Picture
from rdae.coding.picture_writing import write_picture
from rdae.coding.registry import load, shipped_as, shipped_bytes
from rdae.coding.zip_directory import DAMAGED, open_zip
from rdae.errors import FormatError, ImageError, LimitError, ModelError, RdaeError

__all__ = [
    "DELTA", "MANIFEST", "MEMBER_MAX", "VERSION", "Archive", "Carried", "Claim", "carried", "check_name", "is_archive",
    "unpack_member", "verify",
]  # fmt: skip

VERSION = 1
MANIFEST, DELTA = "manifest.json", "model.delta"
NAME_MAX = 512  # bytes
MEMBER_MAX = 1 << 30
MANIFEST_HEAD, MANIFEST_EACH = 1024, 256 + 2 * NAME_MAX  # bytes; a quoted character takes at most two for one


class Carried(NamedTuple):
    """The model of an archive."""

    name: str
    identity: bytes  # of the codec file that the members were made with
    delta: bytes | None  # None: the model is shipped as it is


class Claim(NamedTuple):
    """What the manifest says of a member."""

    size: int
    sha256: str


@dataclass(frozen=True)
class _Manifest:
    model: str
    identity: bytes
    members: dict[str, Claim]


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
        parent = shipped_bytes(bytes.fromhex(str(codec.model.card.get("parent"))))
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
            self._entries, self._zip = open_zip(self._file, str(self.path))
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
        codec = apply_delta(shipped_bytes(parent_identity(delta)), delta, label)
        model = unpack_model(codec, threads=self._threads)
        if model.identity != self.identity:
            raise ModelError(
                f"{label} gives the model {model.identity.hex()}, not {self.identity.hex()}, which made the pictures. "
                f"{DAMAGED}"
            )
        return Codec(model)

    def _claim(self, name: str) -> Claim:
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
            members = {name: Claim(size, sha256) for name, (size, sha256) in told["members"].items()}
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
