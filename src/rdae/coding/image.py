"""Any image to an array and what belongs to it, and back."""

from __future__ import annotations

import io
import logging
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from rdae.coding.container import MAX_SIDE, Colour
from rdae.errors import ImageError

__all__ = ["Picture", "from_array", "from_pil", "read_picture", "to_pil", "write_picture"]

log = logging.getLogger("rdae")
DEEP_MODES = {"I;16", "I;16L", "I;16B", "I;16N", "I"}


@dataclass
class Picture:
    """An image as the codec sees it.

    Args:
        pixels: `(H, W, 1)` or `(H, W, 3)`, uint8 or uint16.
        alpha: `(H, W)` of the same type, or None.
        icc, exif, xmp: metadata as raw bytes; EXIF without the "Exif" prefix of JPEG.
        kind: how the caller gave it, "array" or "pil", and the array's number of dimensions.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def colour(self) -> int:
        """Colour type, see `container.Colour`."""
        colour = Colour.RGB if self.pixels.shape[2] == 3 else Colour.GREY
        return colour + (2 if self.alpha is not None else 0) + (Colour.DEEP if self.deep else 0)

    @property
    def deep(self) -> bool:
        """16 bits per channel."""
        return self.pixels.dtype == np.uint16

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]


def from_array(array: np.ndarray) -> Picture:
    """A picture from `(H, W)`, `(H, W, 1)`, `(H, W, 3)`, or with alpha `(H, W, 2)`, `(H, W, 4)`; uint8 or uint16.

    Raises:
        ImageError: another shape or type.
    """
    array = np.asarray(array)
    if array.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            f"An image array must be uint8 or uint16, not {array.dtype}. "
            "Scale floats to 0...255 and convert: (255 * x).round().astype('uint8')."
        )
    if array.ndim == 2:
        array = array[..., None]
    if 0 in array.shape or max(array.shape[:2], default=0) > MAX_SIDE:
        raise ImageError(
            f"An image needs 1 to {MAX_SIDE} rows and columns, but this one is {array.shape}. "
            "Cut larger ones into pieces."
        )
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4):
        raise ImageError(
            f"An image array must be (H, W), (H, W, 3) or (H, W, 4), not {array.shape}. "
            "Move channels last with array.transpose(1, 2, 0)."
        )
    if array.shape[2] in (2, 4):
        return Picture(np.ascontiguousarray(array[..., :-1]), np.ascontiguousarray(array[..., -1]))
    return Picture(np.ascontiguousarray(array))


def from_pil(image: Image.Image) -> Picture:
    """A picture from any Pillow image; palettes are resolved, CMYK and other colour spaces converted and noted."""
    exif = image.info.get("exif") or b""
    if not exif and len(image.getexif()):
        exif = image.getexif().tobytes()
    meta: dict[str, Any] = {
        "icc": image.info.get("icc_profile") or None,
        "exif": exif.removeprefix(b"Exif\x00\x00") or None,
        "xmp": _as_bytes(image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")),
    }
    notes = []
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
        image = image.convert("RGBA" if mode == "PA" or "transparency" in image.info else "RGB")
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
    return replace(from_array(np.asarray(image)), **meta, notes=notes)


def _as_bytes(value: Any) -> bytes | None:
    return value.encode("utf-8") if isinstance(value, str) else value or None


def read_picture(source: str | os.PathLike | BinaryIO | bytes) -> Picture:
    """A picture from a file, an open file or bytes in any format that Pillow reads.

    Raises:
        ImageError: missing, unreadable, damaged or not an image.
    """
    name = source if isinstance(source, (str, os.PathLike)) else "data"
    try:
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(opened) as image:  # type: ignore[arg-type]
            reduced = any(";16" in str(tile) for tile in image.tile) and image.mode not in DEEP_MODES
            image.load()
            picture = from_pil(image)
            if reduced:
                picture.notes.append("reduced from 16 to 8 bits per channel (pass an array to keep them)")
            return picture
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image that Pillow can read. Convert it to PNG or TIFF first.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{name} cannot be read: {error}") from error


def to_pil(picture: Picture) -> Image.Image:
    """A Pillow image with its metadata in `info`; 16-bit colour becomes 8-bit, which Pillow cannot hold otherwise."""
    pixels, alpha = picture.pixels, picture.alpha
    if picture.deep and pixels.shape[2] == 1 and alpha is None:
        image = Image.fromarray(pixels[..., 0])
    else:
        if picture.deep:
            pixels = _to_8_bit(pixels)
            alpha = None if alpha is None else _to_8_bit(alpha)
        planes = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], 2)
        image = Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes, _mode(planes.shape[2]))
    if picture.icc:
        image.info["icc_profile"] = picture.icc
    if picture.exif:
        image.info["exif"] = b"Exif\x00\x00" + picture.exif
    if picture.xmp:
        image.info["xmp"] = picture.xmp
    return image


def _mode(channels: int) -> str:
    return {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]


def _to_8_bit(x: np.ndarray) -> np.ndarray:
    return ((x.astype(np.uint32) + 128) // 257).astype(np.uint8)


def to_array(picture: Picture) -> np.ndarray:
    """`(H, W)` for grey, `(H, W, 3)` for colour, one channel more with alpha."""
    if picture.alpha is not None:
        return np.concatenate([picture.pixels, picture.alpha[..., None]], 2)
    return picture.pixels[..., 0] if picture.pixels.shape[2] == 1 else picture.pixels


def write_picture(picture: Picture, path: Path, file: BinaryIO) -> None:
    """Writes a picture to an open file in the format that the name of `path` says, with its metadata.

    Raises:
        ImageError: Pillow has no writer for that name, or the format cannot hold the image.
    """
    Image.init()
    kind = Image.EXTENSION.get(path.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise ImageError(f"No image format is known for the name {path.name!r}. Use .png, .tif, .jpg or .ppm.")
    if picture.deep and picture.pixels.shape[2] == 3:
        log.warning("%s: Pillow writes 16-bit colour as 8 bits; from Python the array keeps all 16", path)
    image = to_pil(picture)
    if kind == "JPEG" and image.mode in ("RGBA", "LA"):
        raise ImageError("JPEG has no alpha channel. Write a .png or .tif instead.")
    options: dict[str, Any] = {name: image.info[name] for name in ("icc_profile", "exif", "xmp") if name in image.info}
    if kind == "JPEG":
        options["quality"], options["subsampling"] = 95, 0
    elif kind == "PNG":
        options["compress_level"] = 3  # half the time of the default for a few percent of size
    if kind not in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF"):
        options = {}
    try:
        image.save(file, kind, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ImageError(f"{path} cannot be written as {kind}: {error}") from error
