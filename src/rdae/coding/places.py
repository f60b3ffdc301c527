"""Where files are: a path of this machine, or a URL of any store that fsspec reaches.

A URL comes as a `UPath`, which has the interface of a `Path`. What differs stands here: errors of any type, listings
that are not to be believed, and stores that show a file while it is still being written.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from rdae.errors import ImageError, MissingExtraError, RdaeError

__all__ = [
    "PARTIAL", "PUT_WHOLE", "State", "at_hand", "check_writable", "fetch", "name_of", "partial_name", "place", "placed",
    "put_whole", "reaching", "readable", "remote", "search", "state",
]  # fmt: skip

PARTIAL = ".partial"
READ_ONLY = {"data", "git", "github", "http", "https", "libarchive", "reference", "tar", "zip"}
# A file appears once all of it is there, and replaces another in one step: stores of objects.
PUT_WHOLE = {"abfs", "abfss", "adl", "az", "gcs", "gs", "hf", "memory", "oci", "oss", "s3", "s3a"}
MOVE_REPLACES = {"sftp", "ssh"}  # elsewhere a file is not moved onto one that exists
CHANGING = (  # what stores say of a file that becomes another when it is written again
    "size", "mtime", "modified", "modify", "LastModified", "last_modified", "modificationTime", "updated", "created",
    "ETag", "etag", "generation",
)  # fmt: skip
URL = re.compile(r"([a-z][a-z0-9+.-]+)(://|::.*://)")  # two letters or more: C:// is a drive

State = tuple[Any, ...]


def place(text: str) -> Path:
    """What a user calls a place: a path, or a URL such as s3://bucket/folder or zip://inside::https://host/a.zip.

    Raises:
        ConnectionError: its host does not answer, or not as it should.
        ImageError: there are no such URLs.
        MissingExtraError: what reads URLs of this kind is not installed.
    """
    url = URL.match(text)
    if url is None:
        return Path(text)
    if url[1] in ("file", "local") and url[2] == "://":
        return Path(text[url.end() :])
    try:
        from upath import UPath
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{text} is a URL, and those need the package universal-pathlib, which is not installed. Install it with: "
            'pip install "rdae[remote]"'
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of stores that UPath knows by their common interface only
            found = UPath(text)
            found.fs  # noqa: B018 (connects)
    except ImportError as error:
        raise MissingExtraError(
            f"{text} needs a driver of {url[1]}, which is not installed ({error}). Install it with pip; "
            'pip install "rdae[remote]" brings those of http, ftp, zip and memory.'
        ) from error
    except ValueError as error:
        raise ImageError(f"{text} cannot be used: {_cause(error)}. Check how it is written.") from error
    except Exception as error:
        raise ConnectionError(
            f"{text} cannot be reached: {_cause(error)}. Check the address and your rights."
        ) from error
    return cast(Path, found)


def remote(path: Path) -> Any | None:
    """A place as the `UPath` it is, or None for a path of this machine."""
    return None if isinstance(path, PurePath) else path


def check_writable(path: Path) -> None:
    """Tells before any work is done that nothing can be written to URLs of some kinds.

    Raises:
        ImageError: this is one.
    """
    url = remote(path)
    if url is not None and url.protocol in READ_ONLY:
        raise ImageError(f"{path} cannot be written: {url.protocol} URLs are only read. Name another output with -o.")


def name_of(path: Path) -> str:
    """The last part of a place's name, of a web page without the query."""
    url = remote(path)
    if url is None or url.protocol not in ("http", "https"):
        return path.name
    return PurePosixPath(urlsplit(str(path)).path).name or "page"


@contextmanager
def reaching(path: Path, done: str) -> Iterator[None]:
    """What a store raises, of whatever type, becomes an `ImageError` that names the URL; of paths nothing changes.

    Args:
        path: the place.
        done: with it, in the participle: "read".
    """
    try:
        yield
    except (RdaeError, MemoryError):
        raise
    except FileNotFoundError as error:
        if remote(path) is None:
            raise
        raise ImageError(f"{path} cannot be {done}: there is no such file. Check the address.") from error
    except Exception as error:
        if remote(path) is None:
            raise
        raise ImageError(f"{path} cannot be {done}: {_cause(error)}. Check the address and your rights.") from error


def _cause(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


def search(folder: Path, unreadable: list[str]) -> Iterator[PurePath]:
    """Files of a folder at a URL that are not hidden, nor in a hidden folder, relative to it.

    A listing is a claim of whoever wrote the page or the archive: what would lead out of the folder is left out.

    Args:
        folder: the URL.
        unreadable: takes a line for each folder that cannot be searched.
    """
    url: Any = remote(folder)
    root = url.fs._strip_protocol(url.path)
    folders = [""]
    while folders:
        at = folders.pop()
        here = "/".join(part for part in (root.rstrip("/"), at.rstrip("/")) if part)
        try:
            with reaching(folder / at, "searched"):
                listing = url.fs.ls(here or root, detail=True)
        except RdaeError as error:
            unreadable.append(str(error))
            continue
        for entry in listing:
            name = _child(entry["name"], here)
            if name and entry["type"] == "directory":
                folders.append(f"{at}{name}/")
            elif name:
                yield PurePath(f"{at}{name}")


def _child(path: str, folder: str) -> str | None:
    """Name of what lies in a folder, if it lies there and is not hidden."""
    prefix = f"{folder}/" if folder else ("/" if path.startswith("/") else "")
    if not path.startswith(prefix):
        return None
    name = path[len(prefix) :].rstrip("/")
    return None if not name or name.startswith(".") or "/" in name or PurePath(name).name != name else name


def state(path: Path) -> State | None:
    """What tells a file from the one that takes its place when it is written again; None where there is none."""
    url = remote(path)
    if url is None:
        with suppress(OSError), os.scandir(path.parent) as listing:
            next(listing, None)  # a folder on the network is asked, where it would be remembered
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_size, found.st_mtime_ns
    with reaching(path, "looked up"):
        url.fs.invalidate_cache()  # what was listed before may have changed since
        try:
            info = url.fs.info(url.path)
        except FileNotFoundError:
            return None
        return tuple(str(info.get(key)) for key in CHANGING)


class _Fetched:
    """An open file whose bytes are fetched, all at once, when it is first read; it cannot go back."""

    def __init__(self, url: Path) -> None:
        self._url = url

    def __str__(self) -> str:
        return str(self._url)

    def seekable(self) -> bool:
        return False

    def read(self) -> bytes:
        with reaching(self._url, "read"):
            return self._url.read_bytes()


def readable(path: Path) -> Path | BinaryIO:
    """A place as `read_picture` takes it: a path, or an open file that is called as the URL."""
    return path if remote(path) is None else cast(BinaryIO, _Fetched(path))


def fetch(path: Path, copy: Path) -> None:
    """Copies what is at a URL to a path of this machine.

    Raises:
        ImageError: there is no such file, or the store does not answer.
    """
    url: Any = remote(path)
    with reaching(path, "read"), url.open("rb") as source, open(copy, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


@contextmanager
def at_hand(path: Path) -> Iterator[Path]:
    """A path of this machine with the contents of a place: itself, or a copy of a URL, removed at the end."""
    if remote(path) is None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="rdae-") as folder:
        copy = Path(folder, path.name or "copy")
        with _called(path, copy):
            fetch(path, copy)
            yield copy


@contextmanager
def placed(path: Path) -> Iterator[Path]:
    """A path of this machine to write a file to: the place itself, or one whose file is put at the URL in the end.

    Nothing is put if an error leaves the block.

    Raises:
        ImageError: nothing can be written there.
    """
    if remote(path) is None:
        yield path
        return
    check_writable(path)
    with tempfile.TemporaryDirectory(prefix="rdae-") as folder:
        copy = Path(folder, path.name or "copy")
        with _called(path, copy):
            yield copy
        put_whole(copy, path)


@contextmanager
def _called(path: Path, copy: Path) -> Iterator[None]:
    """An error that names a copy names what it is a copy of."""
    try:
        yield
    except RdaeError as error:
        raise type(error)(str(error).replace(str(copy), str(path))) from error


def put_whole(file: Path, path: Path) -> None:
    """Copies a file of this machine to a URL, where it appears under its name only once it is complete.

    Raises:
        ImageError: the store does not take it.
    """
    url: Any = remote(path)
    with reaching(path, "written"):
        if url.protocol in PUT_WHOLE:
            url.fs.put_file(str(file), url.path)
            return
        partial = url.with_name(partial_name())
        url.fs.makedirs(url.parent.path, exist_ok=True)
        try:
            url.fs.put_file(str(file), partial.path)
            if url.protocol not in MOVE_REPLACES and url.fs.exists(url.path):
                url.fs.rm(url.path)
            url.fs.mv(partial.path, url.path)
        except BaseException:
            with suppress(Exception):
                url.fs.rm(partial.path)
            raise


def partial_name() -> str:
    """Of a file that is not complete; short, because the name it will get may be of any length."""
    return f".rdae-{secrets.token_hex(8)}{PARTIAL}"
