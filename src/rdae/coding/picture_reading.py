"""Pictures from files in any format that Pillow reads; 16 bits where it would keep 8."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image

from rdae.coding.container import MAX_PIXELS
from rdae.coding.picture import Picture, from_array, to_array
from rdae.coding.pil_images import converted, foreseen, raw_mode, tiles_of
from rdae.errors import LimitError

__all__ = ["read_picture"]

DEEP_COLOUR = {f"{mode};16{order}" for mode in ("RGB", "RGBA") for order in "BLN"}  # of a file; Pillow halves it
DEEP_GREY_ALPHA = "LA;16B"


def read_picture(source: str | os.PathLike | BinaryIO | bytes, *, max_pixels: int | None = MAX_PIXELS) -> Picture:
    """A picture from a file, an open file or bytes in any format that Pillow reads. PNG and TIFF keep 16 bits.

    Args:
        source: a path, a file open for reading bytes, or the bytes themselves.
        max_pixels: refuse larger images before memory is taken; None for no limit. It stands in place of Pillow's.

    Raises:
        ImageError: missing, unreadable, damaged or not an image.
        LimitError: larger than `max_pixels`.
    """
    name = source if isinstance(source, (str, os.PathLike)) else "data"
    with foreseen(name), contextlib.ExitStack() as stack:
        if isinstance(source, (str, os.PathLike)):
            file = cast(BinaryIO, stack.enter_context(open(source, "rb")))
        else:
            file = io.BytesIO(source) if isinstance(source, bytes) else source
        if not file.seekable():  # a pipe
            file = io.BytesIO(file.read())
        with _opened(file) as image:
            width, height = image.size
            if max_pixels is not None and width * height > max_pixels:
                raise LimitError(
                    f"{name} has {width} x {height} pixels, more than the limit of {max_pixels}. "
                    "If you trust the file, raise the limit (max_pixels, --max-pixels), or cut the image into pieces."
                )
            modes = {raw_mode(arguments) for _, arguments in tiles_of(image)}
            clear = image.info.get("transparency")
            picture = converted(image)
        if modes == {DEEP_GREY_ALPHA}:  # four bytes a pixel: read as four channels, they are all there
            return _deepened(picture, _decoded_as(file, lambda _: "RGBA").view(">u2").astype(np.uint16), None)
        if modes and modes <= DEEP_COLOUR:  # Pillow gave the high bytes; with the order swapped it gives the low ones
            low = _decoded_as(file, _other_order)
            high = to_array(picture)[..., : low.shape[2]]
            return _deepened(picture, np.left_shift(high, 8, dtype=np.uint16) | low, clear)
        return picture


def _opened(file: BinaryIO) -> Image.Image:
    """`Image.open`, but without its limit on pixels, which holds for a whole process: our caller's comes after."""
    try:
        return Image.open(file)
    except Image.DecompressionBombError:
        file.seek(0)
        prefix = file.read(16)
        for factory, accept in list(Image.OPEN.values()):
            if accept is None or accept(prefix) is True:
                with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # not this format
                    file.seek(0)
                    return factory(file, "")
        raise


def _decoded_as(file: BinaryIO, change: Callable[[str], str]) -> np.ndarray:
    """The pixels of a file, with another reading of its bytes than the one Pillow chose."""
    with _opened(file) as image:
        tiles: list[Any] = getattr(image, "tile", [])
        for at, tile in enumerate(tiles):
            raw = change(raw_mode(tile[3]))
            tiles[at] = tile._replace(args=(raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw)
        image.load()
        return np.array(image)


def _other_order(raw: str) -> str:
    little = raw[-1] == "L" or (raw[-1] == "N" and sys.byteorder == "little")
    return raw[:-1] + ("B" if little else "L")


def _deepened(picture: Picture, values: np.ndarray, clear: Any) -> Picture:
    if values.shape[2] == 3 and isinstance(clear, tuple):  # one colour stands for "transparent"
        solid = (values != np.array(clear)).any(2, keepdims=True)
        values = np.concatenate([values, np.where(solid, 65535, 0).astype(np.uint16)], 2)
    deep = from_array(values)
    notes = [note for note in picture.notes if not note.startswith("reduced from 16")]
    return replace(picture, pixels=deep.pixels, alpha=deep.alpha, notes=notes)
