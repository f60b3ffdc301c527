"""Random crops of the images in a folder, the same ones whenever the same step is asked for."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from rdae.coding.picture import Picture
from rdae.coding.picture_reading import read_picture
from rdae.coding.pil_images import to_pil
from rdae.errors import DataError, RdaeError

__all__ = ["Crops", "decoded_images", "find_images", "read_rgb", "rgb_of", "whole_images"]

log = logging.getLogger("rdae")
CACHE_BYTES = 1 << 30
SIXTEEN_BIT = {"PNG", "PPM"}  # formats whose files of mode "I" hold 16 bits; elsewhere it says nothing of the range


def find_images(folder: str | Path) -> list[tuple[Path, int]]:
    """Images below a folder, sorted, with their number of pixels.

    What cannot be opened is reported and skipped, and so are images of floats or of 32-bit integers: their files do
    not say which value is white.

    Raises:
        DataError: the folder does not exist or holds no image that can be opened.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Pass --data a folder with images in it, nested or not.")
    Image.init()
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in Image.EXTENSION or not path.is_file():
            continue
        try:
            with Image.open(path) as image:
                if image.mode == "F" or (image.mode == "I" and image.format not in SIXTEEN_BIT):
                    kind = "floats" if image.mode == "F" else "32-bit integers"
                    log.warning("skipped %s: it holds %s, of no declared range; scale it to 8 or 16 bits", path, kind)
                    continue
                found.append((path, image.width * image.height))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            log.warning("skipped %s: %s", path, error)
    if not found:
        raise DataError(f"{folder} holds no image that Pillow can open. Check the path and the file extensions.")
    return found


def read_rgb(path: Path) -> np.ndarray:
    """Pixels of an image file as it should be seen, `(H, W, 3)` uint8; 16 bits are rounded to 8, alpha is left out.

    Raises:
        ImageError: the file is damaged, or its values have no declared range.
        LimitError: it has more pixels than the codec takes.
    """
    return rgb_of(read_picture(path))


def rgb_of(picture: Picture) -> np.ndarray:
    """Pixels of a picture as it should be seen, as of `read_rgb`."""
    pixels = picture.pixels
    if picture.deep:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.asarray(ImageOps.exif_transpose(to_pil(replace(picture, pixels=pixels, alpha=None))).convert("RGB"))


def decoded_images(folder: str | Path) -> Iterator[tuple[Path, np.ndarray]]:
    """Path and pixels, as of `read_rgb`, of every image below a folder that decodes; the others are reported.

    Raises:
        DataError: as for `find_images`.
    """
    for path, _ in find_images(folder):
        try:
            yield path, read_rgb(path)
        except RdaeError as error:
            log.warning("skipped: %s", error)


@dataclass
class _Cache:
    """Decoded images, the least recently used dropped first."""

    budget: int
    used: int = 0
    images: OrderedDict[Path, np.ndarray] = field(default_factory=OrderedDict)

    def get(self, path: Path) -> np.ndarray:
        if path in self.images:
            self.images.move_to_end(path)
            return self.images[path]
        image = read_rgb(path)
        self.images[path] = image
        self.used += image.nbytes
        while self.used > self.budget and len(self.images) > 1:
            self.used -= self.images.popitem(last=False)[1].nbytes
        return image


class Crops(Dataset):
    """Item n is the batch of step n: `(batch, 3, size, size)` uint8, with random flips.

    Every draw comes from `(seed, n)`, so a run that resumes at step n sees what it would have seen. Images are drawn
    in proportion to their pixels. A file that opens but does not decode is reported once and another one drawn.

    Args:
        files: paths and pixel counts, as from `find_images`.
        size: side of a crop; smaller images are extended by mirroring.
        batch: crops per step, over all processes.
        steps: number of items.
        seed: of the draws.
        rank, world: this process takes its contiguous share of each batch.
        cache_bytes: decoded images kept in memory by each process that reads, the least recently used dropped first.
            A crop of an image that is not kept decodes all of it: where the data do not fit, reading is most of a
            step, and more memory or smaller files are the cure.
    """

    def __init__(
        self,
        files: list[tuple[Path, int]],
        *,
        size: int,
        batch: int,
        steps: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if batch % world:
            raise DataError(f"A batch of {batch} does not split over {world} processes. Choose a multiple of {world}.")
        self.paths = [path for path, _ in files]
        weights = np.array([pixels for _, pixels in files], dtype=np.float64)
        self.cumulative = np.cumsum(weights / weights.sum())
        self.size, self.batch, self.steps, self.seed = size, batch, steps, seed
        self.share = slice(rank * batch // world, (rank + 1) * batch // world)
        self._cache = _Cache(cache_bytes)
        self._broken: set[Path] = set()

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Tensor:
        crops = [self._crop(step, example) for example in range(self.batch)[self.share]]
        return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)

    def _crop(self, step: int, example: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, step, example])
        image = self._image(rng)
        height, width = image.shape[:2]
        top = int(rng.integers(0, height - self.size + 1))
        left = int(rng.integers(0, width - self.size + 1))
        crop = image[top : top + self.size, left : left + self.size]
        return crop[:, ::-1] if rng.random() < 0.5 else crop

    def _image(self, rng: np.random.Generator) -> np.ndarray:
        while len(self._broken) < len(self.paths):
            path = self.paths[min(int(np.searchsorted(self.cumulative, rng.random())), len(self.paths) - 1)]
            if path in self._broken:
                continue
            try:
                return _at_least(self._cache.get(path), self.size)
            except RdaeError as error:
                self._broken.add(path)
                log.warning("skipped: %s", error)
        raise DataError("None of the images can be decoded. Check the files named above.")


def _at_least(image: np.ndarray, size: int) -> np.ndarray:
    """Mirrors an image outward until both sides reach `size`."""
    height, width = image.shape[:2]
    if min(height, width) >= size:
        return image
    pad = ((0, max(0, size - height)), (0, max(0, size - width)), (0, 0))
    return np.pad(image, pad, mode="symmetric")


def whole_images(folder: str | Path, *, multiple: int, largest: int = 1024) -> list[Tensor]:
    """Images for validation, `(1, 3, H, W)` uint8, cut at the centre to multiples of `multiple` and at most `largest`.

    Images smaller than `multiple` on a side are reported and left out.

    Raises:
        DataError: no image is as large as `multiple` on both sides.
    """
    images = []
    for path, pixels in decoded_images(folder):
        height, width = (min(side, largest) // multiple * multiple for side in pixels.shape[:2])
        if height and width:
            top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
            pixels = pixels[top : top + height, left : left + width]
            images.append(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
        else:
            rows, columns = pixels.shape[:2]
            log.warning("not validated on %s: %d x %d pixels, below %d a side", path, columns, rows, multiple)
    if not images:
        raise DataError(f"{folder} has no image of at least {multiple} x {multiple} pixels to validate on.")
    return images
