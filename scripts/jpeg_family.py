"""JPEG and JPEG 2000 through Pillow, at a wished size."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

__all__ = ["jpeg", "jpeg2000", "jpeg2000_of_size", "jpeg_from_size", "jpeg_of_size", "pixels_of"]


def jpeg(image: Image.Image, quality: int) -> bytes:
    """Baseline JPEG with optimised tables, Pillow's default 4:2:0."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def jpeg_of_size(image: Image.Image, size: int) -> bytes:
    """The best JPEG of at most `size` bytes, or the smallest JPEG there is."""
    return _best(lambda quality: jpeg(image, quality), 1, 95, size)


def jpeg_from_size(image: Image.Image, size: int) -> bytes:
    """The smallest JPEG of at least `size` bytes: JPEG's steps are coarse, and this one is given the larger share."""
    files = (jpeg(image, quality) for quality in range(1, 96))
    return next((data for data in files if len(data) >= size), jpeg(image, 95))


def jpeg2000(image: Image.Image, bpp: float) -> bytes:
    """JPEG 2000 at a rate in bits per pixel: irreversible 9/7 with the multi-component transform."""
    buffer = io.BytesIO()
    ratio = 8 * len(image.getbands()) / bpp
    image.save(
        buffer, "JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True,
        mct=1 if image.mode == "RGB" else 0, no_jp2=True,
    )  # fmt: skip
    return buffer.getvalue()


def jpeg2000_of_size(image: Image.Image, size: int) -> bytes:
    """JPEG 2000 aimed at `size` bytes."""
    return jpeg2000(image, 8 * size / (image.width * image.height))


def _best(make: Callable[[int], bytes], low: int, high: int, size: int) -> bytes:
    best = make(low)
    while low < high:
        middle = (low + high + 1) // 2
        data = make(middle)
        if len(data) <= size:
            low, best = middle, data
        else:
            high = middle - 1
    return best


def pixels_of(data: bytes) -> np.ndarray:
    """Decoded pixels."""
    return np.asarray(Image.open(io.BytesIO(data)))
