"""Codec: images to bytes and back with one model."""

from __future__ import annotations

import logging
import math
import os
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from rdae.coding import fidelity, tiles
from rdae.coding.alpha import alpha_chunk, alpha_of
from rdae.coding.blending import NOTHING, PER_WAY
from rdae.coding.coder import Coder, Refine
from rdae.coding.container import (
    LEVELS_PER_QUALITY,
    MAX_PIXELS,
    MAX_SIDE,
    QUALITY_LEVELS,
    Chunk,
    Contents,
    Header,
    Tag,
    parse,
    serialise,
)
from rdae.coding.convolutional import FactorisedCoder, HyperpriorCoder, UniversalCoder
from rdae.coding.model import Model
from rdae.coding.picture import Picture, from_array
from rdae.coding.picture_reading import read_picture
from rdae.coding.pil_images import from_pil
from rdae.coding.pyramid import PyramidCoder
from rdae.coding.rangecoder import SymbolSource
from rdae.coding.sampling import RandomBits, TableSampler
from rdae.coding.second_look import look_again, shown_and_blend
from rdae.coding.synthesis import Coded, Synthesis
from rdae.coding.targets import largest_within, lowest_reaching, smallest_from
from rdae.coding.wishes import check_wishes
from rdae.errors import FormatError, ImageError, LimitError, ModelError

__all__ = ["DEFAULT_QUALITY", "Codec", "Compressed", "Source", "as_picture", "file_bytes"]

log = logging.getLogger("rdae")

DEFAULT_QUALITY = 50.0
LOOK_UP_PIXELS = 1 << 17  # larger pictures are coded once; see `smallest_from`
DRAWS_MAX = 100  # of one tile, until all its symbols are such as a file can hold
SIZE_MAX = 1 << 62  # bytes; a wish beyond it is as good as none
CODERS: dict[str, Callable[[Model], Coder]] = {
    "pyramid": PyramidCoder.of,
    "factorised": FactorisedCoder.of,
    "hyperprior": HyperpriorCoder.of,
    "universal": UniversalCoder.of,
}
METADATA = ((Tag.ICC, "icc"), (Tag.EXIF, "exif"), (Tag.XMP, "xmp"))

Source = Image.Image | np.ndarray | str | os.PathLike | bytes


class Compressed(NamedTuple):
    """A compressed image and what is known of it without decoding."""

    data: bytes
    quality: float
    notes: list[str]


class Codec:
    """Compresses and decompresses images with one model. Safe to share between threads.

    Args:
        model: see `rdae.coding.model.load_model`.
        refine: chooses the symbols of each tile again before they are written, see `rdae.recipes.effort`.

    Raises:
        ModelError: the parts of the model do not fit together, or its symbols cannot be chosen again.
    """

    def __init__(self, model: Model, refine: Refine | None = None) -> None:
        self.model, self._refine = model, refine
        kind = str(model.card["coder"])
        if kind not in CODERS:
            raise ModelError(
                f"Model {model.name!r} needs the coder {kind!r}, which this version of rdae lacks. Install a newer one."
            )
        self._coder = CODERS[kind](model)
        if refine is not None and not isinstance(self._coder, PyramidCoder):
            raise ModelError(f"The symbols of a {kind} codec cannot be chosen again. Use effort 0.")
        self._unit = self._coder.unit
        self._tile = model.whole("tile", 1, MAX_SIDE)
        self._encoder_halo, halo = model.pair("halo", 0, MAX_SIDE)
        sides = self._tile, self._encoder_halo, halo
        if any(side % self._unit for side in sides):
            raise ModelError(f"Tile and halos {sides} of model {model.name!r} must be multiples of {self._unit}.")
        self._synthesise = Synthesis(model, self._coder, self._tile, halo)

    def compress(
        self,
        image: Source,
        quality: float | None = None,
        *,
        bpp: float | None = None,
        psnr: float | None = None,
        size: int | None = None,
    ) -> bytes:
        """Bytes of an image. At most one of quality and the three targets may be given.

        Args:
            image: a Pillow image, an array (`(H, W)`, `(H, W, 1)`, `(H, W, 3)`, or with alpha `(H, W, 2)`,
                `(H, W, 4)`; uint8 or uint16), a path, or the bytes of an image file. What of an image cannot be kept
                is logged as a warning.
            quality: 0 to 100, in steps of a half; 50 if nothing is given. Bytes do not fall as it rises: where symbols
                are so few that they might, in files below 8 KiB of pictures of up to 131,072 pixels, a better quality
                that is smaller takes the place of the one asked for.
            bpp: the largest number of bits per pixel; the best quality that keeps to it is taken.
            psnr: the smallest PSNR in dB over all colour channels; the lowest quality that reaches it is taken.
            size: the largest number of bytes; the best quality that keeps to it is taken.

        Raises:
            ImageError: the image cannot be read.
            TargetError: two wishes, a wish out of range, or a target that no quality reaches.
        """
        check_wishes(quality, bpp, psnr, size)  # before the image is read
        result = self.compress_picture(as_picture(image), quality, bpp=bpp, psnr=psnr, size=size)
        for note in result.notes:
            log.warning("%s: %s", image if isinstance(image, (str, os.PathLike)) else "image", note)
        return result.data

    def compress_picture(
        self,
        picture: Picture,
        quality: float | None = None,
        *,
        bpp: float | None = None,
        psnr: float | None = None,
        size: int | None = None,
    ) -> Compressed:
        """Like `compress`, for a picture already read; also says the quality that was found."""
        check_wishes(quality, bpp, psnr, size)
        if bpp is not None:
            size = math.floor(min(bpp, SIZE_MAX) * (picture.size[0] * picture.size[1] / 8))
        extra = self._chunks(picture)
        beside = sum(len(chunk.payload) for chunk in extra)

        def encode(level: int) -> bytes:
            return self._encode(picture, level, extra)[0]

        if size is not None:
            level, data = largest_within(min(size, SIZE_MAX), encode, QUALITY_LEVELS, beside=beside)
        elif psnr is not None:
            level, data = lowest_reaching(psnr, lambda level: self._attempt(picture, level, extra), QUALITY_LEVELS)
        else:
            level = self.level(DEFAULT_QUALITY if quality is None else quality)
            # a large picture is not coded twice for the sake of a few bytes that its symbols hardly ever give
            levels = QUALITY_LEVELS if picture.size[0] * picture.size[1] <= LOOK_UP_PIXELS else level + 1
            level, data = smallest_from(level, encode, levels, beside=beside)
        return Compressed(data, self.quality(level), picture.notes)

    def level(self, quality: float) -> int:
        """Nearest quality level, a row of the model's tables.

        Raises:
            TargetError: quality is not between 0 and 100.
        """
        check_wishes(quality)
        return int(quality * LEVELS_PER_QUALITY + 0.5)

    def quality(self, level: int) -> float:
        """Quality of a level."""
        return level / LEVELS_PER_QUALITY

    def decompress(
        self, data: bytes | str | os.PathLike, *, name: str = "data", max_pixels: int | None = MAX_PIXELS
    ) -> Picture:
        """The picture in the bytes of a file.

        Args:
            data: the whole file, or its path.
            name: for messages.
            max_pixels: refuse larger images before memory is taken; None for no limit.

        Raises:
            FormatError: damaged, cut short or not ours.
            ImageError: no file of that path can be read.
            ModelError: the file was made with another model.
            LimitError: larger than `max_pixels`.
        """
        data, name = file_bytes(data, name)
        contents = parse(data, name, max_pixels)
        header = contents.header
        if header.model != self.model.identity:
            raise ModelError(
                f"{name} was made with model {header.model.hex()}; this is {self.model.name} "
                f"({self.model.identity.hex()}). Pass the codec file it was made with (--model)."
            )
        coded = self._decode_symbols(contents, name)
        size = header.height, header.width
        pixels = self._synthesise(coded, header.level, size, grey=header.grey, deep=header.deep)
        picture = Picture(pixels, alpha_of(contents, name))
        for tag, attribute in METADATA:
            setattr(picture, attribute, contents.find(tag))
        return picture

    def sample(
        self, height: int, width: int, quality: float | None = None, *, seed: int | np.random.Generator = 0,
        bits: bool = False,
    ) -> np.ndarray:  # fmt: skip
        """A picture drawn from the model: noise, decompressed. No encoder has a part in it.

        Each symbol is drawn from the table that a decoder would take for it, given the symbols before. A tile with a
        symbol that no file can hold is drawn again.

        Args:
            height, width: in pixels, 1 to 2**20 each, together at most `MAX_PIXELS`.
            quality: as for `compress`: how finely the model describes what it makes up.
            seed: or a generator, to draw several.
            bits: send random bits through the range decoder in place of drawing from the tables. Another picture, of
                the same law.

        Returns:
            `(H, W, 3)` uint8.

        Raises:
            LimitError: such a picture is too large.
            ModelError: the coder has no probabilities (universal), or none of a tile that fits a file.
            TargetError: quality is out of range.
        """
        level = self.level(DEFAULT_QUALITY if quality is None else quality)
        if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and height * width <= MAX_PIXELS):
            raise LimitError(
                f"A picture of {height} x {width} pixels cannot be drawn. Sides are 1 to {MAX_SIDE}, and all pixels "
                f"at most {MAX_PIXELS}."
            )
        rng = np.random.default_rng(seed)
        source = RandomBits(rng) if bits else TableSampler(rng)
        coded = self._nothing(height, width)
        for tile in tiles.tiles(height, width, self._tile):
            self._put(coded, tile, self._drawn(source, tile, level), NOTHING)
        return self._synthesise(coded, level, (height, width))

    def _encode(self, picture: Picture, level: int, extra: list[Chunk]) -> tuple[bytes, Coded]:
        height, width = picture.size
        header = Header(picture.colour, level, width, height, self.model.identity)
        contents = Contents(header, chunks=list(extra))
        coded = self._nothing(height, width)
        for tile in tiles.tiles(height, width, self._tile):
            stream, symbols, blend = self._tile_stream(picture, tile, level)
            contents.tiles.append(struct.pack("<I", _checksum(symbols)) + stream)
            self._put(coded, tile, symbols, blend)
        if picture.deep:  # for measurement data a bound that holds for this very image is worth its decoding
            shown = self._synthesise(coded, level, picture.size, grey=header.grey, deep=True)
            worst = int(np.abs(shown.astype(np.int32) - picture.pixels).max())
            contents.chunks.append(Chunk(Tag.ERROR, struct.pack("<H", worst)))
        return serialise(contents), coded

    def _tile_stream(self, picture: Picture, tile: tiles.Box, level: int) -> tuple[bytes, list[np.ndarray], np.ndarray]:
        """Stream, symbols and blend of a tile."""
        size = tile.height, tile.width
        latents, blend = self._latents(picture, tile, level)
        if not isinstance(self._coder, PyramidCoder):
            return *self._coder.encode(latents, level, size), blend
        stream, symbols = self._coder.encode(latents, level, size, blend=blend)
        if self._refine is None:
            return stream, symbols, blend
        y = np.ascontiguousarray(_in_unit(picture, tile))
        better = self._refine(y, symbols, float(self.model.lam[level]), blend.astype(np.float32) / PER_WAY)
        blend = self._blend(picture, tile, level, better)
        chosen = [x.astype(np.float32) for x in better]
        return *self._coder.encode(chosen, level, size, blend=blend, chosen=True), blend

    def _blend(self, picture: Picture, tile: tiles.Box, level: int, symbols: list[np.ndarray]) -> np.ndarray:
        """The best blend for the symbols of a tile, found as if it were a picture of its own."""
        assert isinstance(self._coder, PyramidCoder)
        y = np.ascontiguousarray(_in_unit(picture, self._padded(tile)).transpose(2, 0, 1)[None])
        return shown_and_blend(self.model, self._coder, y, level, symbols, (tile.height, tile.width))[1]

    def _latents(self, picture: Picture, tile: tiles.Box, level: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Latents of a tile, to be rounded, and what the synthesis is to blend."""
        outer, y = self._window(picture, tile)
        latents, blend = self._first_look(y, level), NOTHING
        if isinstance(self._coder, PyramidCoder):
            visible = min(picture.size[0], outer.bottom) - outer.top, min(picture.size[1], outer.right) - outer.left
            grey = picture.pixels.shape[2] == 1
            latents, blend = look_again(self.model, self._coder, y, level, latents, visible, grey=grey)
        return self._within(latents, tile, outer), blend

    def _window(self, picture: Picture, tile: tiles.Box) -> tuple[tiles.Box, np.ndarray]:
        """What the encoder looks at for a tile, and its pixels, `(1, 3, H, W)`."""
        outer = tiles.window(tile, self._encoder_halo, *picture.size, self._unit)
        return outer, np.ascontiguousarray(_in_unit(picture, outer).transpose(2, 0, 1)[None])

    def _first_look(self, y: np.ndarray, level: int) -> list[np.ndarray]:
        """Latents of a window, `(1, C, h, w)`, that look at the picture alone."""
        shapes = [(1, *shape) for shape in self._coder.shapes(*y.shape[-2:])]
        return self.model.run_to("analysis", {"y": y, "lam": self.model.lam_of(level)}, shapes)

    def _within(self, latents: list[np.ndarray], tile: tiles.Box, outer: tiles.Box) -> list[np.ndarray]:
        """The part of a window's latents that is the tile's."""
        inner, units = self._padded(tile), self._coder.latents.values()
        return [x[0][(slice(None), *inner.cut(outer, unit))] for x, unit in zip(latents, units, strict=True)]

    def _decode_symbols(self, contents: Contents, name: str) -> Coded:
        header = contents.header
        boxes = tiles.tiles(header.height, header.width, self._tile)
        if len(boxes) != len(contents.tiles):
            raise FormatError(
                f"{name} should hold {len(boxes)} tiles but holds {len(contents.tiles)}. "
                "The file is cut short or damaged: copy it again."
            )
        coded = self._nothing(header.height, header.width)
        for tile, payload in zip(boxes, contents.tiles, strict=True):
            if len(payload) < 5:
                raise FormatError(f"{name}: a tile has only {len(payload)} bytes. The file is damaged: copy it again.")
            padded = self._padded(tile)
            sizes = (padded.height, padded.width), (tile.height, tile.width)
            if len(boxes) == 1 and isinstance(self._coder, PyramidCoder):
                symbols, known = self._coder.decode_ahead(payload[4:], header.level, *sizes)
                coded = coded._replace(known=known)
            else:
                symbols = self._coder.decode(payload[4:], header.level, *sizes)
            if _checksum(symbols) != struct.unpack("<I", payload[:4])[0]:
                raise FormatError(
                    f"{name}: decoded symbols do not match their checksum. The file is damaged, or this machine "
                    "computes the entropy model wrongly: please report it with the output of `rdae --version`."
                )
            self._put(coded, tile, symbols, self._coder.blend(payload[4:]))
        return coded

    def _drawn(self, source: SymbolSource, tile: tiles.Box, level: int) -> list[np.ndarray]:
        padded = self._padded(tile)
        for _ in range(DRAWS_MAX):
            try:
                return self._coder.sample(source, level, (padded.height, padded.width), (tile.height, tile.width))
            except FormatError:  # one of its symbols is past what a file can hold
                continue
        raise ModelError(
            f"Each of {DRAWS_MAX} draws of a tile held symbols that no file can hold: the tables of model "
            f"{self.model.name!r} hardly know its latents. Train it longer, or ask for a smaller picture."
        )

    def _attempt(self, picture: Picture, level: int, extra: list[Chunk]) -> tuple[bytes, float]:
        data, coded = self._encode(picture, level, extra)
        shown = self._synthesise(coded, level, picture.size, grey=picture.pixels.shape[2] == 1, deep=picture.deep)
        return data, fidelity.psnr(picture.pixels, shown)

    def _chunks(self, picture: Picture) -> list[Chunk]:
        chunks = [
            Chunk(tag, value) for tag, attribute in METADATA if (value := getattr(picture, attribute)) is not None
        ]
        if picture.alpha is not None:
            chunks.append(alpha_chunk(picture.alpha))
        return chunks

    def _padded(self, tile: tiles.Box) -> tiles.Box:
        return tiles.Box(
            tile.top, tile.left, tiles.padded(tile.bottom, self._unit), tiles.padded(tile.right, self._unit)
        )

    def _nothing(self, height: int, width: int) -> Coded:
        """Where tiles are put."""
        shapes = self._coder.shapes(tiles.padded(height, self._unit), tiles.padded(width, self._unit))
        return Coded([np.zeros(shape, dtype=np.int16) for shape in shapes], [])

    def _put(self, coded: Coded, tile: tiles.Box, symbols: list[np.ndarray], blend: np.ndarray) -> None:
        """Puts what is known of a tile to the others; tiles come in reading order."""
        coded.blends.append(blend)
        whole = tiles.Box(0, 0, 0, 0)
        for x, own, unit in zip(coded.symbols, symbols, self._coder.latents.values(), strict=True):
            x[(slice(None), *self._padded(tile).cut(whole, unit))] = own


def _in_unit(picture: Picture, box: tiles.Box) -> np.ndarray:
    """Pixels of a box that may reach beyond the picture, `(H, W, 3)` float32 in [0, 1]."""
    pixels = tiles.pixels_of(picture.pixels, box)
    if pixels.shape[2] == 1:
        pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    return pixels * np.float32(1 / (65535 if picture.deep else 255))


def _checksum(symbols: list[np.ndarray]) -> int:
    value = 0
    for x in symbols:
        value = zlib.crc32(np.ascontiguousarray(x, dtype="<i2").data, value)
    return value


def as_picture(image: Source) -> Picture:
    """A picture from anything that `Codec.compress` takes.

    Raises:
        ImageError: not an image, or one that cannot be read to its end.
    """
    if isinstance(image, Image.Image):
        return from_pil(image)
    if isinstance(image, np.ndarray):
        return from_array(image)
    if isinstance(image, (str, os.PathLike, bytes)):
        return read_picture(image)
    raise ImageError(f"Cannot compress a {type(image).__name__}. Pass a Pillow image, a NumPy array, a path or bytes.")


def file_bytes(data: bytes | str | os.PathLike, name: str = "data") -> tuple[bytes, str]:
    """Bytes of a compressed file given as bytes or as a path, and a name for messages.

    Raises:
        ImageError: no file of that path can be read.
        FormatError: neither bytes nor a path.
    """
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data), name
    if not isinstance(data, (str, os.PathLike)):
        raise FormatError(f"Cannot decompress a {type(data).__name__}. Pass the bytes of a file, or its path.")
    try:
        with open(data, "rb") as file:
            return file.read(), str(data) if name == "data" else name
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise ImageError(f"{data} cannot be read: {error}. Check the path.") from error
