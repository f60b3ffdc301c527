"""Any image to an array and what belongs to it, and back."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from rdae.coding.container import MAX_PIXELS, MAX_SIDE, Colour
from rdae.coding.formats import format_of
from rdae.errors import ImageError, LimitError, RdaeError

__all__ = ["Picture", "from_array", "from_pil", "read_picture", "to_array", "to_pil", "write_picture"]

log = logging.getLogger("rdae")
DEEP_MODES = {"I;16", "I;16L", "I;16B", "I;16N", "I"}
DEEP_COLOUR = {f"{mode};16{order}" for mode in ("RGB", "RGBA") for order in "BLN"}  # of a file; Pillow halves it
DEEP_GREY_ALPHA = "LA;16B"
EXIF_PREFIX = b"Exif\x00\x00"
EXIF_IFD, GPS_IFD, INTEROP_IFD, XMP_TAG = 34665, 34853, 40965, 700
# What a TIFF directory may say of a picture; its other tags say how one file is laid out and hold for no other:
# description, maker, model, orientation, resolution, software, date, artist, computer, rating, copyright, Windows' own
DESCRIPTIVE = {270, 271, 272, 274, 282, 283, 296, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)}
WITH_ALPHA = {"PNG", "TIFF", "WEBP", "AVIF", "JPEG2000", "TGA"}
WITH_16_BIT_GREY = {"PNG", "TIFF", "PPM", "JPEG2000"}
WITH_METADATA = {"JPEG", "PNG", "TIFF", "WEBP", "AVIF"}
METADATA = (("icc", "icc_profile"), ("exif", "exif"), ("xmp", "xmp"))


@dataclass
class Picture:
    """An image as the codec sees it.

    Args:
        pixels: `(H, W, 1)` or `(H, W, 3)`, uint8 or uint16.
        alpha: `(H, W)` of the same type, or None.
        icc, exif, xmp: metadata as raw bytes; EXIF without the "Exif" prefix of JPEG.
        notes: what was lost or changed when the image was read, a phrase each: "converted from CMYK to RGB".
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
    """A picture from any Pillow image; palettes are resolved, CMYK and other colour spaces converted and noted.

    Raises:
        ImageError: it cannot be loaded, or its values fit neither 8 nor 16 bits.
    """
    with _foreseen("The image"):
        return _from_pil(image)


def _from_pil(image: Image.Image) -> Picture:
    notes = []
    if image.format != "PSD" and getattr(image, "is_animated", False):  # Pillow calls layers frames; it merges them
        notes.append("one frame was kept of an image that has several")
    if image.mode not in DEEP_MODES and _more_than_8_bits(image):
        notes.append("reduced from 16 to 8 bits per channel (pass an array to keep them)")
    image.load()  # a PNG may hold metadata behind its pixels
    meta: dict[str, Any] = {
        "icc": image.info.get("icc_profile") or None,
        "exif": _exif_of(image),
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


def _tiles(image: Image.Image) -> list[tuple[str, Any]]:
    """Decoder and arguments of each piece of a file that is open and not yet loaded."""
    return [(str(tile[0]), tile[3]) for tile in getattr(image, "tile", [])]


def _raw_mode(arguments: Any) -> str:
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _more_than_8_bits(image: Image.Image) -> bool:
    return any(
        ";16" in _raw_mode(arguments)
        or (decoder.startswith("ppm") and isinstance(arguments, tuple) and arguments[1] > 255)
        for decoder, arguments in _tiles(image)
    )


def _exif_of(image: Image.Image) -> bytes | None:
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
    tags = _descriptive(exif)
    if not tags:
        return None
    own = Image.Exif()
    own.endian = exif.endian
    own.update(tags)
    return own.tobytes().removeprefix(EXIF_PREFIX)


def _descriptive(exif: Image.Exif) -> dict[int, Any]:
    tags = {tag: exif[tag] for tag in sorted(DESCRIPTIVE) if tag in exif}
    for ifd in (EXIF_IFD, GPS_IFD):
        # the interoperability directory is a pointer into the old file; it states a file-naming rule of cameras
        if ifd in exif and (inner := {tag: value for tag, value in exif.get_ifd(ifd).items() if tag != INTEROP_IFD}):
            tags[ifd] = inner
    return tags


@contextlib.contextmanager
def _foreseen(name: object) -> Iterator[None]:
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
            f"{name} cannot be read: {_cause(error)}. If other programs show it, convert it to PNG first."
        ) from error


def _cause(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


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
    with _foreseen(name), contextlib.ExitStack() as stack:
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
            modes = {_raw_mode(arguments) for _, arguments in _tiles(image)}
            clear = image.info.get("transparency")
            picture = _from_pil(image)
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
            raw = change(_raw_mode(tile[3]))
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
        image.info["exif"] = EXIF_PREFIX + picture.exif
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
            f"{path} cannot be written as {kind}: {_cause(error)}. Write a .png instead, or leave out the metadata."
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
        alpha = None if picture.alpha is None else _to_8_bit(picture.alpha)
        picture = replace(picture, pixels=_to_8_bit(picture.pixels), alpha=alpha)
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
            directory = _directory(_descriptive(exif))
            (directory if kind == "TIFF" else exif).tobytes()  # now, while it can still be left out
            if kind == "TIFF":
                options["tiffinfo"] = directory
        except Exception as error:
            lost.append(f"EXIF is damaged ({_cause(error)}) and was left out; a .png keeps its bytes")
            del options["exif"]
        if kind == "TIFF":
            options.pop("exif", None)
    if kind == "TIFF" and "xmp" in options:
        directory = options.setdefault("tiffinfo", _directory({}))
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


def _directory(tags: dict[int, Any]) -> TiffImagePlugin.ImageFileDirectory_v2:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        directory[tag] = value
    return directory


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
