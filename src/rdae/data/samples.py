"""Samples of a model, drawn or read from a file, in the form of the data that they are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from rdae.data.arrays import ArrayData, Kind
from rdae.data.sources import image_folder, read_array
from rdae.errors import DataError, ShapeError

__all__ = ["Sampler", "drawn_samples", "like_data", "read_samples"]

AT_ONCE = 256  # samples drawn together
ROUNDED = 1e-3  # beyond [0, 1] is rounding


class Sampler(Protocol):
    """A generative model."""

    def sample(self, count: int) -> Tensor:
        """New examples, `(count, *event)`."""
        ...


def drawn_samples(model: Sampler, data: ArrayData, count: int, seed: int) -> Tensor:
    """Samples drawn in batches, as `like_data`; what `rdae sample` writes, of a likelihood its mean.

    The global state of random numbers is left as it was.

    Raises:
        ShapeError: they have another shape than the data.
        DataError: one is not finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = [
            like_data(model.sample(min(AT_ONCE, count - start)).cpu(), data, "The model")
            for start in range(0, count, AT_ONCE)
        ]
    return torch.cat(parts)


def read_samples(path: str | Path, data: ArrayData) -> Tensor:
    """Samples of a `.npy` or `.npz` file, or of a folder of images, which are cut to the size of the data.

    Raises:
        ShapeError: they have another shape than the data.
        DataError: they cannot be read, or have elements that data of this kind have not.
    """
    path = Path(path)
    if path.is_dir():
        if len(data.event) != 3:
            raise ShapeError(f"{path} is a folder of images, but examples of {data.name} have shape {data.event}.")
        return like_data(image_folder(path, (data.event[1], data.event[2])), data, str(path))
    array = read_array(path)
    if array.dtype.kind not in "buif":
        raise DataError(f"{path} holds {array.dtype}, not numbers. Save an array of numbers.")
    return like_data(torch.from_numpy(array.astype(array.dtype.newbyteorder("="))), data, str(path))


def like_data(values: Tensor, data: ArrayData, name: str) -> Tensor:
    """Values as `judgement` takes them: uint8 levels beside 8-bit data, float32 beside all others.

    Args:
        values: `(n, *event)`; grey pictures without a dimension for channels, and colours last, are laid out anew.
            Beside 8-bit data floats are in [0, 1] and integers are levels.
        data: whose form they take.
        name: of the samples, for messages.

    Raises:
        ShapeError: they have another shape than the data.
        DataError: an element is not finite, or out of range.
    """
    values = _laid_out(values, data, name)
    if values.is_floating_point() and not bool(values.isfinite().all()):
        raise DataError(f"{name}: a sample is not finite. Look for it where it was made.")
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    if data.kind is not Kind.BYTES:
        return values.float()
    if values.is_floating_point():
        if not -ROUNDED <= low <= high <= 1 + ROUNDED:
            raise DataError(
                f"{name}: samples reach from {low:g} to {high:g}. Beside 8-bit data, floats are brightness from 0 to "
                "1: divide levels by 255, or clip."
            )
        return (values.clamp(0, 1) * 255).round().to(torch.uint8)
    if not 0 <= low <= high <= 255:
        raise DataError(f"{name}: samples reach from {low:g} to {high:g}, but levels go from 0 to 255. Rescale them.")
    return values.to(torch.uint8)


def _laid_out(values: Tensor, data: ArrayData, name: str) -> Tensor:
    event = data.event
    if tuple(values.shape[1:]) == event:
        return values
    if len(event) == 3 and event[0] == 1 and tuple(values.shape[1:]) == event[1:]:
        return values[:, None]
    if len(event) == 3 and tuple(values.shape[1:]) == (*event[1:], event[0]):
        return values.movedim(3, 1)
    if len(event) == 3 and tuple(values.shape[1:]) == (1, *event[1:]):  # a folder of pictures that are all grey
        return values.expand(-1, event[0], -1, -1)
    raise ShapeError(
        f"{name}: samples have shape {tuple(values.shape[1:])}, but examples of {data.name} have {event}. "
        "Judge them on data of their shape."
    )
