"""Examples side by side: picture grids, and arrays for what is no picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from rdae.coding.files import whole_file
from rdae.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["image_grid", "pixel_grid", "write_examples"]

GAP = 2  # pixels between pictures
ENLARGED = 64  # smaller pictures are enlarged by a whole factor up to about this side


def image_grid(images: Tensor, columns: int) -> Image.Image:
    """Pictures in rows of `columns`, small ones enlarged.

    Args:
        images: `(n, channels, H, W)`, 1 or 3 channels, in [0, 1]; values beyond are clipped.
        columns: of the grid.

    Raises:
        ShapeError: these are no pictures.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ShapeError(f"Examples of shape {tuple(images.shape[1:])} are no pictures. Write them to a .npz file.")
    pixels = (images.clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy() * 255 + 0.5).astype(np.uint8)
    factor = max(1, ENLARGED // max(pixels.shape[1:3]))
    sheet = pixel_grid(pixels.repeat(factor, 1).repeat(factor, 2), columns)
    return Image.fromarray(sheet[..., 0] if sheet.shape[2] == 1 else sheet)


def pixel_grid(pictures: np.ndarray, columns: int) -> np.ndarray:
    """Pictures, `(n, H, W, channels)` uint8, in rows of `columns` on white: `(height, width, channels)`."""
    count, height, width, channels = pictures.shape
    rows = -(-count // columns)
    cells = np.pad(pictures, ((0, rows * columns - count), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    cells = cells.reshape(rows, columns, height + GAP, width + GAP, channels).swapaxes(1, 2)
    return cells.reshape(rows * (height + GAP), columns * (width + GAP), channels)[:-GAP, :-GAP]


def write_examples(path: Path, examples: Tensor, columns: int) -> None:
    """Writes examples, `(n, *event)`, to a picture or, where the path ends in .npz, to an array named `examples`."""
    with whole_file(path) as file:
        if path.suffix == ".npz":
            np.savez_compressed(file, examples=examples.cpu().numpy())
        else:
            kind = Image.registered_extensions().get(path.suffix.lower(), "PNG")
            image_grid(examples, columns).save(file, kind)
