"""Pillow's images to pictures and back, and its errors to ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from rdae.coding.exif import EXIF_PREFIX, exif_of
from rdae.coding.picture import Picture, as_8_bit, from_array, to_array
from rdae.errors import ImageError, RdaeError

__all__ = ["METADATA", "cause_of", "converted", "foreseen", "from_pil", "raw_mode", "tiles_of", "to_pil"]

DEEP_MODES = {"I;16", "I;16L", "I;16B", "I;16N", "I"}
METADATA = (("icc", "icc_profile"), ("exif", "exif"), ("xmp", "xmp"))


def from_pil(image: Image.Image) -> Picture:
    """A picture from any Pillow image; palettes are resolved, CMYK and other colour spaces converted and noted.

    Raises:
        ImageError: it cannot be loaded, or its values fit neither 8 nor 16 bits.
    """
    with foreseen("The image"):
        return converted(image)


def converted(image: Image.Image) -> Picture:
    """As `from_pil`, but what Pillow raises passes through; for use within `foreseen`."""
    notes = []
    if image.format != "PSD" and getattr(image, "is_animated", False):  # Pillow calls layers frames; it merges them
        notes.append("one frame was kept of an image that has several")
    if image.mode not in DEEP_MODES and _more_than_8_bits(image):
        notes.append("reduced from 16 to 8 bits per channel (pass an array to keep them)")
    image.load()  # a PNG may hold metadata behind its pixels
    meta: dict[str, Any] = {
        "icc": image.info.get("icc_profile") or None,
        "exif": exif_of(image),
        "xmp": _as_bytes(image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")),
        "notes": notes,
    }
    mode = image.mode
    if mode in DEEP_MODES:
        wide = np.asarray(image).astype(np.int64)
        if wide.min(initial=0) < 0 or wide.max(initial=0) > 65535:
            raise ImageError("A 32-bit integer image reaches beyond 0...65535. Scale it to 16 bits first.")
        grey, clear = wide.astype(np.uint16), image.info.get("transparency")
        if isinstance(clear, int):  # one grey value stands for "transparent"
            grey = np.stack([grey, np.where(wide == clear, 0, 65535).astype(np.uint16)], 2)
        return replace(from_array(grey), **meta)
    if mode == "F":
        raise ImageError("Floating-point images are not supported. Scale to 8 or 16 bits and convert first.")
    if mode == "P" or mode == "PA":
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif mode == "1":
        image = image.convert("LA" if "transparency" in image.info else "L")
    elif mode in ("L", "RGB") and "transparency" in image.info:
        image = image.convert("RGBA" if mode == "RGB" else "LA")
    elif mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[mode])
    elif mode not in ("L", "LA", "RGB", "RGBA"):
        notes.append(f"converted from {mode} to RGB")
        meta["icc"] = None  # it described the other colour space
        image = image.convert("RGB")
    return replace(from_array(np.asarray(image)), **meta)


def _as_bytes(value: Any) -> bytes | None:
    return value.encode("utf-8") if isinstance(value, str) else value or None


def tiles_of(image: Image.Image) -> list[tuple[str, Any]]:
    """Decoder and arguments of each piece of a file that is open and not yet loaded."""
    return [(str(tile[0]), tile[3]) for tile in getattr(image, "tile", [])]


def raw_mode(arguments: Any) -> str:
    """How the bytes of a piece lie in the file, such as "RGB;16B", from its decoder's arguments."""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _more_than_8_bits(image: Image.Image) -> bool:
    return any(
        ";16" in raw_mode(arguments)
        or (decoder.startswith("ppm") and isinstance(arguments, tuple) and arguments[1] > 255)
        for decoder, arguments in tiles_of(image)
    )


def to_pil(picture: Picture) -> Image.Image:
    """A Pillow image with its metadata in `info`; 16-bit colour becomes 8-bit, which Pillow cannot hold otherwise."""
    if picture.deep and (picture.pixels.shape[2] == 3 or picture.alpha is not None):
        picture = as_8_bit(picture)
    image = Image.fromarray(to_array(picture))
    if picture.icc:
        image.info["icc_profile"] = picture.icc
    if picture.exif:
        image.info["exif"] = EXIF_PREFIX + picture.exif
    if picture.xmp:
        image.info["xmp"] = picture.xmp
    return image


@contextlib.contextmanager
def foreseen(name: object) -> Iterator[None]:
    """Whatever Pillow raises on bytes from outside becomes ours. Its decoders raise nearly everything there is."""
    try:
        yield
    except (RdaeError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image that Pillow can read. Convert it to PNG or TIFF first.") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the file system, not of the bytes
            raise ImageError(f"{name} cannot be read: {error.strerror}. Check the path and its permissions.") from error
        raise ImageError(
            f"{name} cannot be read: {cause_of(error)}. If other programs show it, convert it to PNG first."
        ) from error


def cause_of(error: Exception) -> str:
    """What an error says, to stand inside a sentence."""
    return str(error).rstrip(".") or type(error).__name__
