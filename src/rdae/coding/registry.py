"""Which codec a file needs: shipped and own models, each loaded once; and the functions of the package on top."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from PIL import Image

from rdae.coding.codec import Codec, Source, file_bytes
from rdae.coding.container import MAX_PIXELS, parse_header
from rdae.coding.model import load_model, shipped_models
from rdae.coding.picture import to_array
from rdae.coding.pil_images import to_pil
from rdae.errors import ModelError

__all__ = ["codec_for", "compress", "decompress", "load", "shipped_as", "shipped_bytes"]

Value = TypeVar("Value")


class _Recent(Generic[Value]):
    """The values asked for last, each made once, however many threads ask."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._held: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        with self._lock:
            value = self._held[key] if key in self._held else make()
            self._held[key] = value
            self._held.move_to_end(key)
            while len(self._held) > self._most:
                self._held.popitem(last=False)
            return value


_codecs: _Recent[Codec] = _Recent(8)
_identities: _Recent[bytes] = _Recent(16)


def _state(model: str | Path) -> tuple[str, int, int]:
    """What names the present contents of a codec file: path, time of change, size."""
    path = shipped_models().get(str(model), Path(model))
    try:
        status = path.stat()
        return str(path.resolve()), status.st_mtime_ns, status.st_size
    except (OSError, ValueError):
        return str(path), 0, 0  # whoever loads it says what is wrong


def load(model: str | Path = "photo", *, threads: int = 0) -> Codec:
    """A codec by the name of a shipped model or the path of a codec file; the same object while the file is the same.

    Args:
        model: name of a shipped model, or a path.
        threads: of the networks; 0 takes all cores.

    Raises:
        ModelError: no such model, or no codec file of this version.
    """
    return _codecs.get((_state(model), threads), lambda: Codec(load_model(model, threads=threads)))


def shipped_as(identity: bytes) -> str | None:
    """Name of the shipped model of an identity; None where this version ships no such model."""
    for name, path in shipped_models().items():
        if _identities.get(_state(path), lambda path=path: load_model(path).identity) == identity:  # type: ignore[misc]
            return name
    return None


def shipped_bytes(identity: bytes) -> bytes:
    """The shipped codec file of an identity.

    Raises:
        ModelError: this version ships no such model.
    """
    name = shipped_as(identity)
    if name is None:
        raise ModelError(
            f"The model {identity.hex()} does not ship with this version of rdae. Install the one that ships it."
        )
    return shipped_models()[name].read_bytes()


def codec_for(data: bytes, model: str | Path | None = None, *, name: str = "data", threads: int = 0) -> Codec:
    """The codec that a file needs: the given model, or the shipped one that the file names.

    Raises:
        FormatError: not a file of ours.
        ModelError: no shipped model is the one the file names, or the given one cannot be loaded.
    """
    if model is not None:
        return load(model, threads=threads)
    wanted = parse_header(data, name).model
    shipped = shipped_as(wanted)
    if shipped is not None:
        return load(shipped, threads=threads)
    raise ModelError(
        f"{name} was made with model {wanted.hex()}, which is not shipped with this version of rdae. "
        "Pass the codec file it was made with (model=..., --model)."
    )


def compress(image: Source, quality: float | None = None, *, model: str | Path = "photo", **target: Any) -> bytes:
    """Bytes of an image: `Codec.compress` with a shipped model or a codec file.

    Raises:
        ImageError: the image cannot be read.
        ModelError: no such model.
        TargetError: two wishes, a wish out of range, or a target that no quality reaches.
    """
    return load(model).compress(image, quality, **target)


def decompress(
    data: bytes | str | os.PathLike,
    *,
    model: str | Path | None = None,
    as_array: bool = False,
    max_pixels: int | None = MAX_PIXELS,
) -> Image.Image | np.ndarray:
    """The image in a file.

    Args:
        data: the bytes of the whole file, or its path.
        model: of the file, where it is not a shipped one.
        as_array: return an array, `(H, W)`, `(H, W, 3)` or with alpha `(H, W, 2)`, `(H, W, 4)`, uint8 or uint16;
            otherwise a Pillow image.
        max_pixels: refuse larger images before memory is taken; None for no limit.

    Raises:
        FormatError: damaged, cut short or not ours.
        ImageError: no file of that path can be read.
        LimitError: larger than `max_pixels`.
        ModelError: the file was made with a model that is not at hand.
    """
    data, name = file_bytes(data)
    picture = codec_for(data, model, name=name).decompress(data, name=name, max_pixels=max_pixels)
    return to_array(picture) if as_array else to_pil(picture)
