"""Compressed pictures as training data: decoded when asked for, from an archive or from a folder of .rdae files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from rdae.coding.archive import Archive, is_archive
from rdae.coding.container import MAX_PIXELS
from rdae.coding.files import SUFFIX
from rdae.coding.registry import codec_for
from rdae.data.photographs import rgb_of
from rdae.errors import DataError

__all__ = ["CompressedImages"]


class CompressedImages(Dataset):
    """Item n is picture n in the order of names, `(3, H, W)` uint8, as it should be seen: turned as its EXIF says, grey
    in three channels, 16 bits rounded to 8, alpha left out.

    Works in the worker processes of a `DataLoader`: each opens file and networks for itself. Pictures of several sizes
    need a `collate_fn`, or `batch_size=None`.

    Args:
        path: an archive of `rdae pack`, or a folder that is searched for .rdae files, nested.
        model: codec file of the files in a folder, where it is not a shipped one; an archive brings its own.
        max_pixels: refuse larger pictures before memory is taken; None for no limit.

    Raises:
        DataError: neither an archive nor a folder, or there is no picture in it.
        FormatError: the archive is damaged.
    """

    def __init__(
        self, path: str | Path, *, model: str | Path | None = None, max_pixels: int | None = MAX_PIXELS
    ) -> None:
        self.path, self._model, self._max_pixels = Path(path), model, max_pixels
        self._archive: Archive | None = None
        self._process = 0
        if self.path.is_dir():
            found = (p for p in self.path.rglob(f"*{SUFFIX}") if p.is_file())
            self.names = sorted(p.relative_to(self.path).as_posix() for p in found)
        elif is_archive(self.path):
            with Archive(self.path) as archive:
                self.names = archive.names
        else:
            raise DataError(f"{path} is neither an archive nor a folder. Pass what `rdae pack` wrote, or .rdae files.")
        if not self.names:
            raise DataError(f"{path} holds no compressed picture. Make some with `rdae pack` or `rdae compress`.")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        """A picture.

        Raises:
            FormatError: it is damaged.
            LimitError: it is larger than `max_pixels`.
            ModelError: the model it was made with is not at hand.
        """
        name = self.names[index]
        if self.path.is_dir():
            file = self.path / name
            data = file.read_bytes()
            codec = codec_for(data, self._model, name=str(file), threads=1)
            picture = codec.decompress(data, name=str(file), max_pixels=self._max_pixels)
        else:
            picture = self._opened().picture(name, max_pixels=self._max_pixels)
        return torch.from_numpy(rgb_of(picture).copy()).permute(2, 0, 1).contiguous()

    def _opened(self) -> Archive:
        """The archive, opened by this very process: a worker must not share the place in a file with others."""
        if self._archive is None or self._process != os.getpid():
            self._archive, self._process = Archive(self.path, threads=1), os.getpid()
        return self._archive

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_archive": None}
