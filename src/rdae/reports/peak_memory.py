"""The most memory that coding one picture takes, in a process that does nothing else."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from rdae.coding.peers import FileCodec, rgb_image

__all__ = ["Peak", "decoding_memory", "encoding_memory"]


class Peak(NamedTuple):
    """Bytes of resident memory: the highest of the whole process, and what it held before the codec was called."""

    highest: int
    before: int


def encoding_memory(codec: FileCodec, picture: Path, setting: float) -> Peak | None:
    """Of a fresh process that opens a picture and encodes it once; None where the system does not tell (Windows)."""
    return _fresh(_encode, codec, picture, setting)


def decoding_memory(codec: FileCodec, file: Path) -> Peak | None:
    """Of a fresh process that decodes a file once; None where the system does not tell."""
    return _fresh(_decode, codec, file)


def _fresh(work: Callable[..., Peak | None], *arguments: Any) -> Peak | None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _encode(codec: FileCodec, picture: Path, setting: float) -> Peak | None:
    image = rgb_image(picture)
    gc.collect()
    before = _highest()
    codec.encode(image, setting)
    return _peak(before)


def _decode(codec: FileCodec, file: Path) -> Peak | None:
    data = file.read_bytes()
    gc.collect()
    before = _highest()
    codec.decode(data)
    return _peak(before)


def _peak(before: int | None) -> Peak | None:
    after = _highest()
    return None if before is None or after is None else Peak(after, before)


def _highest() -> int | None:
    """The high-water mark of this process, bytes.

    Not `ru_maxrss` on Linux: a child inherits there what its parent held when it was started.
    """
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
        return None
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
