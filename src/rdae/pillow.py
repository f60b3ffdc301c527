"""Pillow plugin: after `import rdae.pillow`, `Image.open` and `save` know .rdae files.

Opening reads what stands before the pixels, so that size, mode and metadata are known and Pillow's limits act before
anything is decoded.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageFile

from rdae.coding.codec import Codec
from rdae.coding.container import SIGNATURE, Tag, parse, parse_header
from rdae.coding.exif import EXIF_PREFIX
from rdae.coding.pil_images import METADATA, from_pil, to_pil
from rdae.coding.registry import codec_for, load
from rdae.errors import ImageError, RdaeError

__all__ = ["RdaeImageFile", "add_model"]

log = logging.getLogger("rdae")
INFO = {Tag.ICC: "icc_profile", Tag.EXIF: "exif", Tag.XMP: "xmp"}
_models: dict[bytes, Codec] = {}


def add_model(path: str | Path) -> None:
    """Lets `Image.open` decode the files made with a codec file of one's own.

    Args:
        path: of the codec file.

    Raises:
        ModelError: it is missing or damaged.
    """
    codec = load(path)
    _models[codec.model.identity] = codec


class RdaeImageFile(ImageFile.ImageFile):
    """A .rdae file, decoded when its pixels are first asked for."""

    format = "RDAE"
    format_description = "Rate-distortion autoencoder image"

    def _open(self) -> None:
        assert self.fp is not None  # Pillow opens it before it calls
        head = self.fp.read(96)
        if not head.startswith(SIGNATURE):
            raise SyntaxError("not an rdae file")  # Pillow then asks the next plugin
        try:
            header = parse_header(head, self._name)
        except RdaeError as error:
            raise OSError(str(error)) from error
        self._size = (header.width, header.height)
        if header.deep and header.grey and not header.alpha:
            self._mode = "I;16"
        else:
            self._mode = ("L" if header.grey else "RGB") if not header.alpha else ("LA" if header.grey else "RGBA")
        at = len(SIGNATURE)
        self.fp.seek(at + 1 + head[at] + 4)  # length, fields, checksum
        self._read_metadata(self.fp)

    @property
    def _name(self) -> str:
        return str(self.filename or "data")

    def _read_metadata(self, file: IO[bytes]) -> None:
        """Fills `info` from the chunks before the first tile, where our writer puts them. Stops at the first that is
        damaged: loading says what is wrong with it.
        """
        at = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(at)
        while (tag := file.read(1)) and tag[0] != Tag.TILE:
            length, coded = 0, b""
            while len(coded) < 5 and (byte := file.read(1)):
                length |= (byte[0] & 127) << 7 * len(coded)
                coded += byte
                if byte[0] < 128:
                    break
            if length + 4 > end - file.tell():  # a claim: memory is taken for what is there only
                return
            payload, stored = file.read(length), file.read(4)
            if struct.unpack("<I", stored)[0] != zlib.crc32(tag + coded + payload):
                return
            if tag[0] in INFO:
                prefix = EXIF_PREFIX if tag[0] == Tag.EXIF else b""
                self.info.setdefault(INFO[tag[0]], prefix + payload)

    def verify(self) -> None:
        """Compares all checksums without decoding; closes the file.

        Raises:
            OSError: it is damaged or cut short.
        """
        if self.fp is None:
            raise RuntimeError("verify must be called directly after open")
        self.fp.seek(0)
        try:
            parse(self.fp.read(), self._name, None)
        except RdaeError as error:
            raise OSError(str(error)) from error
        super().verify()

    def load(self) -> Any:
        """Decodes the file.

        Raises:
            OSError: it is damaged, or needs a model that is not at hand.
        """
        if self.fp is not None and self._im is None:
            self.fp.seek(0)
            data = self.fp.read()
            try:
                codec = _models.get(parse_header(data, self._name).model) or codec_for(data, name=self._name)
                image = to_pil(codec.decompress(data, name=self._name, max_pixels=None))
            except RdaeError as error:
                raise OSError(str(error)) from error
            self.im = image.im
            if "exif" in image.info and "exif" not in self.info:  # it stood after the first tile
                self._exif = None
            self.info = {**image.info, **self.info}  # the caller may have changed some since opening
            if self._exclusive_fp:
                self.fp.close()
            self.fp = None
        return super().load()


def _metadata(key: str, value: Any) -> bytes | None:
    if isinstance(value, Image.Exif):
        value = value.tobytes()
    if isinstance(value, str):
        value = value.encode()
    if not value:
        return None
    if not isinstance(value, (bytes, bytearray)):
        raise ImageError(f"{key} must be bytes, not {type(value).__name__}. Encode it first.")
    return bytes(value).removeprefix(EXIF_PREFIX if key == "exif" else b"") or None


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    options = dict(image.encoderinfo)
    codec: Codec = load(options.get("model", "photo"))
    picture = from_pil(image)
    for name, key in METADATA:
        if key in options:
            setattr(picture, name, _metadata(key, options[key]))
    target = {name: options[name] for name in ("quality", "bpp", "psnr", "size") if options.get(name) is not None}
    result = codec.compress_picture(picture, **target)
    for note in result.notes:
        log.warning("%s: %s", filename or "image", note)
    file.write(result.data)


Image.register_open(RdaeImageFile.format, RdaeImageFile, lambda prefix: prefix.startswith(SIGNATURE))
Image.register_save(RdaeImageFile.format, _save)
Image.register_extension(RdaeImageFile.format, ".rdae")
Image.register_mime(RdaeImageFile.format, "image/x-rdae")
