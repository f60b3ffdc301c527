"""Pictures to files in any format that Pillow writes, with their metadata, and what that format loses."""

from __future__ import annotations

import logging
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin

from rdae.coding.exif import descriptive, tiff_directory
from rdae.coding.formats import format_of
from rdae.coding.picture import Picture, as_8_bit, to_array
from rdae.coding.pil_images import METADATA, cause_of, to_pil
from rdae.errors import ImageError

__all__ = ["write_picture"]

log = logging.getLogger("rdae")
XMP_TAG = 700
WITH_ALPHA = {"PNG", "TIFF", "WEBP", "AVIF", "JPEG2000", "TGA"}
WITH_16_BIT_GREY = {"PNG", "TIFF", "PPM", "JPEG2000"}
WITH_METADATA = {"JPEG", "PNG", "TIFF", "WEBP", "AVIF"}


def write_picture(picture: Picture, path: Path, file: BinaryIO, *, notes: list[str] | None = None) -> None:
    """Writes a picture to an open file in the format that the name of `path` says, with its metadata.

    Args:
        picture: to write.
        path: its suffix names the format.
        file: open for writing bytes.
        notes: takes what the format could not keep, a phrase each; without it they are logged as warnings.

    Raises:
        ImageError: Pillow has no writer for that name, or the format cannot hold the image.
    """
    kind = format_of(path.suffix)
    if kind is None or kind not in Image.SAVE:
        raise ImageError(f"No image format is known for the name {path.name!r}. Use .png, .tif, .jpg or .ppm.")
    if picture.alpha is not None and kind not in WITH_ALPHA:
        raise ImageError(f"{kind} has no alpha channel, or not one of all levels. Write a .png or .tif instead.")
    lost: list[str] = []
    try:
        if kind == "PNG" and picture.deep and (picture.pixels.shape[2] == 3 or picture.alpha is not None):
            _write_deep_png(picture, file)
        else:
            image, options = _prepared(picture, kind, lost)
            image.save(file, kind, **options)
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        raise ImageError(
            f"{path} cannot be written as {kind}: {cause_of(error)}. Write a .png instead, or leave out the metadata."
        ) from error
    if notes is not None:
        notes += lost
    else:
        for note in lost:
            log.warning("%s: %s", path, note)


def _prepared(picture: Picture, kind: str, lost: list[str]) -> tuple[Image.Image, dict[str, Any]]:
    """An image and the options to save it with; adds to `lost` what will not be kept."""
    if picture.deep and (kind not in WITH_16_BIT_GREY or picture.pixels.shape[2] == 3 or picture.alpha is not None):
        lost.append(f"16 bits per channel became 8, as {kind} is written by Pillow; a .png keeps all")
        picture = as_8_bit(picture)
    image = to_pil(picture)
    options = {key: image.info.pop(key) for _, key in METADATA if key in image.info}
    if kind not in WITH_METADATA:
        if options:
            lost.append(f"{kind} keeps no ICC profile, EXIF or XMP; a .png does")
        options = {}
    if kind in ("TIFF", "AVIF") and "exif" in options:  # their writers take it apart
        try:
            exif = Image.Exif()
            exif.load(options["exif"])
            directory = tiff_directory(descriptive(exif))
            (directory if kind == "TIFF" else exif).tobytes()  # now, while it can still be left out
            if kind == "TIFF":
                options["tiffinfo"] = directory
        except Exception as error:
            lost.append(f"EXIF is damaged ({cause_of(error)}) and was left out; a .png keeps its bytes")
            del options["exif"]
        if kind == "TIFF":
            options.pop("exif", None)
    if kind == "TIFF" and "xmp" in options:
        directory = options.setdefault("tiffinfo", tiff_directory({}))
        directory.tagtype[XMP_TAG] = 1  # bytes
        directory[XMP_TAG] = options.pop("xmp")
    elif kind == "PNG":
        options["compress_level"] = 3  # half the time of the default for a few percent of size
        if "xmp" in options:
            options["pnginfo"] = PngImagePlugin.PngInfo()
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", options.pop("xmp"))
    elif kind == "JPEG":
        options["quality"], options["subsampling"] = 95, 0
    elif kind == "WEBP":
        options["lossless"] = options["exact"] = True
    elif kind == "AVIF":
        options["quality"], options["subsampling"] = 95, "4:4:4"
        lost.append("AVIF was written with some loss of its own; a .png has none")
    elif kind == "GIF":
        lost.append("GIF holds 256 colours only; a .png holds all")
    return image, options


def _write_deep_png(picture: Picture, file: BinaryIO) -> None:
    """A PNG of 16-bit colour, or of 16-bit grey with alpha, which Pillow cannot write."""
    values = to_array(picture)
    height, width, channels = values.shape
    rows = values.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2  # each row is stored as its difference from the one above
    filtered[:, 1:] = rows
    filtered[1:, 1:] -= rows[:-1]

    def chunk(tag: bytes, data: bytes) -> None:
        file.write(struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)))

    file.write(b"\x89PNG\r\n\x1a\n")
    chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0))
    if picture.icc:
        chunk(b"iCCP", b"ICC Profile\x00\x00" + zlib.compress(picture.icc))
    if picture.exif:
        chunk(b"eXIf", picture.exif)
    if picture.xmp:
        chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + picture.xmp)
    packer = zlib.compressobj(3)
    for top in range(0, height, 64):
        if data := packer.compress(filtered[top : top + 64].data):
            chunk(b"IDAT", data)
    chunk(b"IDAT", packer.flush())
    chunk(b"IEND", b"")
