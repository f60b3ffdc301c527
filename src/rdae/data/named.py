"""MNIST and Fashion-MNIST: from a folder, from the cache, or downloaded once; and the idx files they are kept in."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import math
import os
import urllib.request
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from rdae.data.arrays import ArrayData, Kind
from rdae.errors import DataError

__all__ = ["NAMED", "cache_folder", "load_named", "read_idx"]

log = logging.getLogger("rdae")
GZIP = b"\x1f\x8b"
MOST_DEFLATED = 1032  # deflate packs no better than 1032 to 1: a longer claim is a lie
IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
LARGEST_DOWNLOAD = 64 << 20
CHUNK = 1 << 20
MOST_DIMENSIONS = 8
TIMEOUT = 60.0  # seconds
PARTS = {"train": ("train", 60000), "test": ("t10k", 10000)}
DAMAGED = "The file is cut short or damaged: copy it again."
STEMS = {"images": "images-idx3-ubyte", "labels": "labels-idx1-ubyte"}


@dataclass(frozen=True)
class NamedSet:
    """Where a set is published and what its files hold.

    Args:
        mirrors: addresses of folders, tried in turn. What they send is believed only if its checksum is right.
        prefixes: what the name of a file in the user's folder may begin with.
        sums: SHA-256 of the *unpacked* files, by part; packed ones differ from packer to packer.
    """

    mirrors: tuple[str, ...]
    prefixes: tuple[str, ...]
    sums: dict[str, str]


NAMED = {
    "mnist": NamedSet(
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        ("mnist-", "", "MNIST/raw/"),
        {
            "train-images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fashion-mnist": NamedSet(
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",  # no https; the checksum guards it
        ),
        ("fashion-", "fashion-mnist-", "", "FashionMNIST/raw/"),
        {
            "train-images": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
}


def cache_folder() -> Path:
    """Where downloads are kept: `RDAE_CACHE`, else `rdae` in `XDG_CACHE_HOME`, else `~/.cache/rdae`."""
    own = os.environ.get("RDAE_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rdae"


def part_of(split: str) -> tuple[str, int]:
    """How the files of a split are called, and its number of examples.

    Raises:
        DataError: there is no such split.
    """
    if split not in PARTS:
        raise DataError(f"{split!r} is no split. Choose split 'train' or 'test'.")
    return PARTS[split]


def load_named(name: str, *, split: str = "train", folder: str | Path | None = None) -> ArrayData:
    """MNIST or Fashion-MNIST, `(60000, 1, 28, 28)` for training or `(10000, 1, 28, 28)`, 8-bit, labels `(n,)` int64.

    Args:
        name: "mnist" or "fashion-mnist".
        split: "train" or "test".
        folder: holds the idx files, packed or not, under their published names, the same with "fashion-" or "mnist-"
            before, or as torchvision keeps them. None: the cache, and the network for what is not in it yet.

    Raises:
        DataError: a file is missing or is not the published one, or it cannot be downloaded.
    """
    part, count = part_of(split)
    arrays = {}
    for what, shape in (("images", (count, 28, 28)), ("labels", (count,))):
        content = _published(name, f"{part}-{what}", 4 + 4 * len(shape) + math.prod(shape), folder)
        arrays[what] = parse_idx(io.BytesIO(content), len(content), name)
    images, labels = (torch.from_numpy(arrays[what]) for what in ("images", "labels"))
    return ArrayData(images[:, None], Kind.BYTES, labels.long(), f"{name} {split}")


def _published(name: str, part: str, length: int, folder: str | Path | None) -> bytes:
    """The unpacked bytes of a file, checksum verified."""
    known = NAMED[name]
    stem = part.split("-")[0] + "-" + STEMS[part.split("-")[1]]
    cache = cache_folder() / name / f"{stem}.gz"
    if folder is None:
        if cache.is_file():
            content = _unpacked(cache.read_bytes(), length)
            if _is(content, known.sums[part]):
                return content
            log.warning("%s is damaged; it is downloaded again", cache)
        return _download(name, part, length, cache)
    folder = Path(folder)
    paths = [folder / f"{prefix}{stem}{end}" for prefix in known.prefixes for end in ("", ".gz")]
    found = [path for path in paths if path.is_file()]
    for path in found:
        content = _unpacked(path.read_bytes(), length)
        if _is(content, known.sums[part]):
            return content
    if found:
        raise DataError(
            f"{found[0]} is not the published file of {name}: its SHA-256, unpacked, is not {known.sums[part]}. "
            "It is damaged or another set: copy it again, or leave out folder to download it."
        )
    raise DataError(
        f"{folder} holds no {stem}(.gz) of {name}, under that name or {known.prefixes[0]}{stem}(.gz). "
        "Check the folder, or leave it out to download the set."
    )


def _is(content: bytes, sha256: str) -> bool:
    return hashlib.sha256(content).hexdigest() == sha256


def _unpacked(data: bytes, length: int) -> bytes:
    """What is packed in `data`, at most one byte more than `length`; nothing if it is damaged."""
    if not data.startswith(GZIP):
        return data
    try:
        with gzip.open(io.BytesIO(data)) as file:
            return file.read(length + 1)
    except (OSError, EOFError, zlib.error):
        return b""


def _download(name: str, part: str, length: int, target: Path) -> bytes:
    known, problems = NAMED[name], []
    for mirror in known.mirrors:
        url = mirror + target.name
        try:
            packed = fetch(url)
        except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError
            problems.append(f"{url}: {error}")
            continue
        content = _unpacked(packed, length)
        if not _is(content, known.sums[part]):
            problems.append(f"{url}: sent something else than the published file (SHA-256 differs)")
            continue
        _keep(packed, target)
        return content
    raise DataError(
        f"{name} is not in the cache {target.parent} and could not be downloaded ({'; '.join(problems)}). "
        f"Connect to the network, or put {target.name} into a folder and name it with folder=."
    )


def _keep(packed: bytes, target: Path) -> None:
    """Writes a file into the cache, whole or not at all, whoever else is doing the same."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(packed)
        os.replace(partial, target)
    except OSError as error:  # the set is at hand all the same
        log.warning("%s cannot be kept (%s); set RDAE_CACHE to a folder that can be written", target, error)


def fetch(url: str) -> bytes:
    """What the address sends, cut off beyond 64 MiB."""
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
        return response.read(LARGEST_DOWNLOAD)


def read_idx(path: str | Path) -> np.ndarray:
    """The array of an idx file, packed with gzip or not, in the machine's byte order.

    Raises:
        DataError: damaged, cut short or longer than it says, or no idx file.
    """
    path = Path(path)
    size = path.stat().st_size
    with open(path, "rb") as file:
        packed = file.read(2) == GZIP
        file.seek(0)
        if not packed:
            return parse_idx(file, size, str(path))
        try:
            with gzip.open(file) as unpacked:
                return parse_idx(unpacked, size * MOST_DEFLATED, str(path))  # type: ignore[arg-type]
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} cannot be unpacked: {error}. It is cut short or damaged: copy it again.") from None


def parse_idx(file: BinaryIO, most: int, name: str) -> np.ndarray:
    """The array in an idx stream of at most `most` bytes; nothing is allocated for a claim beyond that."""
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX_TYPES:
        raise DataError(f"{name} is no idx file: it begins with {head!r}. Pass the file that holds the array.")
    sizes = file.read(4 * head[3])
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
    dtype = np.dtype(IDX_TYPES[head[2]])
    length, left = math.prod(shape) * dtype.itemsize, most - 4 - 4 * head[3]
    if len(sizes) < 4 * head[3] or not 0 < head[3] <= MOST_DIMENSIONS:
        raise DataError(f"{name} claims an array of {head[3]} dimensions. {DAMAGED}")
    if length == 0:
        raise DataError(f"{name} is empty: its shape is {shape}. Check what wrote it.")
    if length > left:
        raise DataError(f"{name} claims an array of {shape}, {length} bytes, but holds at most {left}. {DAMAGED}")
    content = bytearray()
    while len(content) <= length and (more := file.read(min(CHUNK, length + 1 - len(content)))):
        content += more  # as it comes: even a claim that packing could meet is only believed byte by byte
    if len(content) != length:
        found = "more" if len(content) > length else str(len(content))
        raise DataError(f"{name} claims an array of {shape}, {length} bytes, but holds {found}. {DAMAGED}")
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
