"""Image codecs by other hands, through Pillow: JPEG, JPEG 2000, WebP, AVIF and JPEG XL, a class each; and ours beside.

All run on one thread, so that their times can be compared with each other. None of them is given metadata.
"""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import PIL
from PIL import Image, features

from rdae.coding.codec import Codec
from rdae.coding.files import SUFFIX
from rdae.coding.picture import Picture
from rdae.coding.picture_reading import read_picture
from rdae.coding.pil_images import to_pil
from rdae.coding.registry import load
from rdae.errors import DataError, TargetError

__all__ = [
    "PEERS", "Avif", "FileCodec", "Jpeg", "Jpeg2000", "JpegXl", "Learned", "WebP", "peers_named", "rgb_image",
]  # fmt: skip


class FileCodec(ABC):
    """A codec that takes a Pillow image in RGB and a setting, and gives the bytes of a whole file.

    Attributes:
        name: of its files and of its rows in a table, such as "avif-420".
        label: for people.
        suffix: of its files.
    """

    name: str
    label: str
    suffix: str

    @abstractmethod
    def conditions(self) -> str:
        """What besides the setting its files depend on: versions, and whatever is not left to choose."""

    @abstractmethod
    def missing(self) -> str:
        """Why it cannot run here, and the cure; empty if it can."""

    @abstractmethod
    def settings(self, count: int) -> list[float]:
        """So many settings, from small files to large ones."""

    @abstractmethod
    def encode(self, image: Image.Image, setting: float) -> bytes:
        """The bytes of a file."""

    @abstractmethod
    def of_size(self, image: Image.Image, size: int, between: tuple[float, float] | None = None) -> bytes:
        """The best file of at most `size` bytes, or the smallest there is.

        Args:
            image: RGB.
            size: bytes.
            between: two settings, the file of the first known to be small enough, that of the second to be too large.
        """

    def decode(self, data: bytes) -> np.ndarray:
        """Pixels, `(H, W, 3)` uint8."""
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))


class _ByQuality(FileCodec):
    """A codec of Pillow with whole-numbered quality.

    Attributes:
        writer: Pillow's name of the format.
        lowest, highest: qualities that can be searched for a size.
        low, high: the first and last of a row of settings.
    """

    writer: ClassVar[str]
    lowest, highest = 0, 100
    low: ClassVar[float]
    high: ClassVar[float]

    def missing(self) -> str:
        Image.init()
        return "" if self.writer in Image.SAVE else f"this Pillow ({PIL.__version__}) writes no {self.writer}"

    def settings(self, count: int) -> list[float]:
        return [float(q) for q in dict.fromkeys(np.linspace(self.low, self.high, count).round())]

    def options(self) -> dict[str, Any]:
        """What Pillow is asked for besides the quality."""
        return {}

    def encode(self, image: Image.Image, setting: float) -> bytes:
        return _saved(image, self.writer, quality=round(setting), **self.options())

    def of_size(self, image: Image.Image, size: int, between: tuple[float, float] | None = None) -> bytes:
        low, high = (self.lowest, self.highest + 1) if between is None else map(round, between)
        best = self.encode(image, low)
        while high - low > 1:
            middle = (low + high) // 2
            data = self.encode(image, middle)
            if len(data) <= size:
                low, best = middle, data
            else:
                high = middle
        return best


@dataclass(frozen=True)
class Jpeg(_ByQuality):
    """Baseline JPEG with Huffman tables made for the picture, 4:2:0 as Pillow has it by default."""

    name = "jpeg"
    label = "JPEG 4:2:0"
    suffix = ".jpg"
    writer = "JPEG"
    lowest, highest = 1, 95
    low, high = 5, 92

    def settings(self, count: int) -> list[float]:
        """A constant ratio apart: low qualities differ most in bytes."""
        return [float(q) for q in dict.fromkeys(np.geomspace(self.low, self.high, count).round())]

    def conditions(self) -> str:
        turbo = features.version_feature("libjpeg_turbo")
        return f"{_pillow()}, {f'libjpeg-turbo {turbo}' if turbo else 'libjpeg'}, baseline, 4:2:0, optimised tables"

    def options(self) -> dict[str, Any]:
        return {"optimize": True}

    def from_size(self, image: Image.Image, size: int) -> bytes:
        """The smallest file of at least `size` bytes: JPEG's steps are coarse, and this is the larger neighbour."""
        files = (self.encode(image, quality) for quality in range(self.lowest, self.highest + 1))
        return next((data for data in files if len(data) >= size), self.encode(image, self.highest))


@dataclass(frozen=True)
class Jpeg2000(FileCodec):
    """JPEG 2000 at a rate in bits per pixel: irreversible 9/7 wavelet with the colour transform, a bare code stream."""

    name = "jpeg2000"
    label = "JPEG 2000"
    suffix = ".j2k"
    low: ClassVar[float] = 0.06
    high: ClassVar[float] = 1.6

    def conditions(self) -> str:
        return f"{_pillow()}, OpenJPEG {features.version('jpg_2000')}, irreversible 9/7, colour transform, one layer"

    def missing(self) -> str:
        return "" if features.check("jpg_2000") else f"this Pillow ({PIL.__version__}) writes no JPEG 2000"

    def settings(self, count: int) -> list[float]:
        return [round(float(bpp), 4) for bpp in np.geomspace(self.low, self.high, count)]

    def encode(self, image: Image.Image, setting: float) -> bytes:
        ratio = 8 * len(image.getbands()) / setting
        return _saved(
            image, "JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True,
            mct=1 if image.mode == "RGB" else 0, no_jp2=True,
        )  # fmt: skip

    def of_size(self, image: Image.Image, size: int, between: tuple[float, float] | None = None) -> bytes:
        """A file aimed at `size` bytes, and lower while it is over."""
        aim = size
        data = self.encode(image, 8 * aim / (image.width * image.height))
        while len(data) > size and aim > 1:
            aim = max(2 * aim - size - (len(data) - size), 1)  # twice as far below as before, and by what is over
            data = self.encode(image, 8 * aim / (image.width * image.height))
        return data


@dataclass(frozen=True)
class WebP(_ByQuality):
    """Lossy WebP, which is 4:2:0 always, with the slowest search."""

    name = "webp"
    label = "WebP"
    suffix = ".webp"
    writer = "WEBP"
    low, high = 0, 92

    def conditions(self) -> str:
        return f"{_pillow()}, libwebp {features.version('webp')}, lossy, 4:2:0, method 6"

    def options(self) -> dict[str, Any]:
        return {"method": 6}


@dataclass(frozen=True)
class Avif(_ByQuality):
    """AVIF: AV1 in its image container.

    Args:
        subsampling: of chroma, "4:2:0" or "4:4:4".
        speed: of the encoder, 0 (slowest) to 10.
    """

    subsampling: str = "4:2:0"
    speed: int = 4

    suffix = ".avif"
    writer = "AVIF"
    low, high = 5, 85

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"avif-{self.subsampling.replace(':', '')}"

    @property
    def label(self) -> str:  # type: ignore[override]
        return f"AVIF {self.subsampling}, speed {self.speed}"

    def missing(self) -> str:
        reason = super().missing()
        return f"{reason}; install Pillow 11.3 or newer" if reason else ""

    def conditions(self) -> str:
        return f"{_pillow()}, libavif {features.version('avif')}, {_av1()}, {self.subsampling}, speed {self.speed}"

    def options(self) -> dict[str, Any]:
        return {"speed": self.speed, "subsampling": self.subsampling, "max_threads": 1}

    def decode(self, data: bytes) -> np.ndarray:
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # there is no other way to ask
        return super().decode(data)


@dataclass(frozen=True)
class JpegXl(_ByQuality):
    """JPEG XL, lossy (VarDCT), through a plugin of Pillow's."""

    name = "jxl"
    label = "JPEG XL, effort 7"
    suffix = ".jxl"
    writer = "JXL"
    low, high = 5, 92
    effort: ClassVar[int] = 7

    def missing(self) -> str:
        _register_jxl()
        reason = super().missing()
        return f"{reason}; install one that does with: pip install pillow-jxl-plugin" if reason else ""

    def conditions(self) -> str:
        from importlib.metadata import PackageNotFoundError, version

        try:
            plugin = f"pillow-jxl-plugin {version('pillow-jxl-plugin')}"
        except PackageNotFoundError:
            plugin = "its own JPEG XL"
        return f"{_pillow()}, {plugin}, effort {self.effort}"

    def options(self) -> dict[str, Any]:
        return {"effort": self.effort, "num_threads": 0}  # 0: none besides the caller's

    def encode(self, image: Image.Image, setting: float) -> bytes:
        _register_jxl()
        return super().encode(image, setting)

    def decode(self, data: bytes) -> np.ndarray:
        _register_jxl()
        return super().decode(data)


def _register_jxl() -> None:
    """Lets Pillow know of the plugin, if there is one, in this process."""
    with suppress(ImportError):
        from pillow_jxl import JpegXLImagePlugin

        JpegXLImagePlugin.DECODE_THREADS = 0


@dataclass(frozen=True)
class Learned(FileCodec):
    """A codec of this package, by quality.

    Args:
        model: name of a shipped one, or path of a codec file.
    """

    model: str

    suffix = SUFFIX
    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 60.0

    @property
    def name(self) -> str:  # type: ignore[override]
        return Path(self.model).stem

    @property
    def label(self) -> str:  # type: ignore[override]
        return f"rdae {self.name}"

    def missing(self) -> str:
        return ""

    def conditions(self) -> str:
        from importlib.metadata import version

        model = self._codec().model
        return f"rdae {version('rdae')}, model {model.identity.hex()}, ONNX Runtime {version('onnxruntime')}"

    def settings(self, count: int) -> list[float]:
        return [round(2 * float(q)) / 2 for q in np.linspace(self.low, self.high, count)]

    def encode(self, image: Image.Image, setting: float) -> bytes:
        return self._codec().compress(image, setting)

    def of_size(self, image: Image.Image, size: int, between: tuple[float, float] | None = None) -> bytes:
        try:
            return self._codec().compress(image, size=size)
        except TargetError:
            return self.encode(image, 0)

    def decode(self, data: bytes) -> np.ndarray:
        return self._codec().decompress(data).pixels

    def _codec(self) -> Codec:
        return load(self.model, threads=1)


PEERS: dict[str, tuple[FileCodec, ...]] = {
    "jpeg": (Jpeg(),),
    "jpeg2000": (Jpeg2000(),),
    "webp": (WebP(),),
    "avif": (Avif("4:2:0"), Avif("4:4:4")),
    "avif-420": (Avif("4:2:0"),),
    "avif-444": (Avif("4:4:4"),),
    "jxl": (JpegXl(),),
}


def peers_named(names: str) -> list[FileCodec]:
    """The codecs of a list such as "jpeg,avif", each once; "avif" is both its 4:2:0 and its 4:4:4.

    Raises:
        DataError: a name is none of `PEERS`.
    """
    wanted = [name.strip().lower() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in PEERS]
    if unknown:
        raise DataError(f"No codec is called {unknown[0]!r}. Choose from {', '.join(PEERS)}.")
    return list(dict.fromkeys(peer for name in wanted for peer in PEERS[name]))


def rgb_image(path: str | os.PathLike) -> Image.Image:
    """A picture as all codecs are given it: 8-bit RGB, without alpha and metadata.

    Raises:
        ImageError: not a picture that can be read.
    """
    pixels = read_picture(path).pixels
    return to_pil(Picture(np.broadcast_to(pixels, (*pixels.shape[:2], 3))))


def _saved(image: Image.Image, writer: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, writer, **options)
    return buffer.getvalue()


def _pillow() -> str:
    return f"Pillow {PIL.__version__}"


def _av1() -> str:
    """Pillow's AV1 codecs and their versions."""
    from PIL import _avif  # type: ignore[attr-defined]

    return " ".join(str(_avif.codec_versions()).replace(",", " and").split())
