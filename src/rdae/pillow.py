"""Pillow plugin: after `import rdae.pillow`, `Image.open` and `save` know .rdae files.

Opening reads the header only, so that size and mode are known and Pillow's limits act before anything is decoded.
"""

from __future__ import annotations

from typing import IO, Any

from PIL import Image, ImageFile

from rdae.coding.codec import Codec, codec_for, load
from rdae.coding.container import SIGNATURE, parse_header
from rdae.coding.image import from_pil, to_pil
from rdae.errors import RdaeError

__all__ = ["RdaeImageFile"]


class RdaeImageFile(ImageFile.ImageFile):
    """A .rdae file, decoded when its pixels are first asked for."""

    format = "RDAE"
    format_description = "Rate-distortion autoencoder image"

    def _open(self) -> None:
        assert self.fp is not None  # Pillow opens it before it calls
        try:
            header = parse_header(self.fp.read(96), str(self.filename or "data"))
        except RdaeError as error:
            raise SyntaxError(str(error)) from error
        self._size = (header.width, header.height)
        if header.deep and header.grey and not header.alpha:
            self._mode = "I;16"
        else:
            self._mode = ("L" if header.grey else "RGB") if not header.alpha else ("LA" if header.grey else "RGBA")

    def load(self) -> Any:
        """Decodes the file.

        Raises:
            OSError: it is damaged, or needs a model that is not at hand.
        """
        if self.fp is not None and self._im is None:
            self.fp.seek(0)
            data = self.fp.read()
            try:
                codec = codec_for(data, name=str(self.filename or "data"))
                image = to_pil(codec.decompress(data, name=str(self.filename or "data"), max_pixels=None))
            except RdaeError as error:
                raise OSError(str(error)) from error
            self.im = image.im
            self.info.update(image.info)
            if self._exclusive_fp:
                self.fp.close()
            self.fp = None
        return super().load()


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    options = dict(image.encoderinfo)
    codec: Codec = load(options.get("model", "photo"))
    picture = from_pil(image)
    for name, key in (("icc", "icc_profile"), ("exif", "exif"), ("xmp", "xmp")):
        if key in options:
            value = options[key]
            value = value.tobytes() if isinstance(value, Image.Exif) else value
            setattr(picture, name, value.removeprefix(b"Exif\x00\x00") if value else None)
    target = {name: options[name] for name in ("quality", "bpp", "psnr", "size") if options.get(name) is not None}
    file.write(codec.compress_picture(picture, **target).data)


Image.register_open(RdaeImageFile.format, RdaeImageFile, lambda prefix: prefix.startswith(SIGNATURE))
Image.register_save(RdaeImageFile.format, _save)
Image.register_extension(RdaeImageFile.format, ".rdae")
Image.register_mime(RdaeImageFile.format, "image/x-rdae")
