"""EXIF to the byte as it came, and the part of a TIFF directory that says something of the picture."""

from __future__ import annotations

import logging
from typing import Any

from PIL import Image, TiffImagePlugin

__all__ = ["EXIF_PREFIX", "descriptive", "exif_of", "tiff_directory"]

log = logging.getLogger("rdae")
EXIF_PREFIX = b"Exif\x00\x00"
EXIF_IFD, GPS_IFD, INTEROP_IFD = 34665, 34853, 40965
# What a TIFF directory may say of a picture; its other tags say how one file is laid out and hold for no other:
# description, maker, model, orientation, resolution, software, date, artist, computer, rating, copyright, Windows' own
DESCRIPTIVE = {270, 271, 272, 274, 282, 283, 296, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)}


def exif_of(image: Image.Image) -> bytes | None:
    """EXIF to the byte as it came, unless the caller has changed it through `getexif`."""
    stored: bytes = (image.info.get("exif") or b"").removeprefix(EXIF_PREFIX)
    try:
        current = image.getexif()
        if hasattr(image, "tag_v2") and not stored:  # of a TIFF file, Pillow gives the whole directory
            return _described(current)
        untouched = Image.new("1", (1, 1))
        untouched.info = {key: image.info[key] for key in ("exif", "xmp", "XML:com.adobe.xmp") if key in image.info}
        written = current.tobytes()
        if written != untouched.getexif().tobytes():
            return written.removeprefix(EXIF_PREFIX) if len(current) else None
    except Exception as error:  # bytes from outside, which Pillow takes apart without many checks
        log.debug("EXIF cannot be taken apart (%s) and is kept as it is", error)
    return stored or None


def _described(exif: Image.Exif) -> bytes | None:
    """The descriptive part of a TIFF directory, as EXIF of its own; None if it says nothing."""
    tags = descriptive(exif)
    if not tags:
        return None
    own = Image.Exif()
    own.endian = exif.endian
    own.update(tags)
    return own.tobytes().removeprefix(EXIF_PREFIX)


def descriptive(exif: Image.Exif) -> dict[int, Any]:
    """The tags that say something of the picture, and not of how one file is laid out."""
    tags = {tag: exif[tag] for tag in sorted(DESCRIPTIVE) if tag in exif}
    for ifd in (EXIF_IFD, GPS_IFD):
        # the interoperability directory is a pointer into the old file; it states a file-naming rule of cameras
        if ifd in exif and (inner := {tag: value for tag, value in exif.get_ifd(ifd).items() if tag != INTEROP_IFD}):
            tags[ifd] = inner
    return tags


def tiff_directory(tags: dict[int, Any]) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Tags as Pillow's TIFF writer takes them."""
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        directory[tag] = value
    return directory
