"""Large images in bounded memory: tiles for the entropy coder, windows with a halo for the transforms.

Tiles partition the picture; each is a stream of its own and codes without its neighbours. The transforms are not cut:
a window extends its tile by a halo at least as wide as their receptive field, so that a tiled image equals the whole.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Box", "padded", "pixels_of", "tiles", "window"]


class Box(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    def cut(self, outer: Box, unit: int) -> tuple[slice, slice]:
        """Where this box lies inside `outer`, in units of `unit` pixels."""
        rows = slice((self.top - outer.top) // unit, (self.bottom - outer.top) // unit)
        return rows, slice((self.left - outer.left) // unit, (self.right - outer.left) // unit)


def padded(side: int, multiple: int) -> int:
    """The next multiple."""
    return -(-side // multiple) * multiple


def tiles(height: int, width: int, size: int) -> list[Box]:
    """Tiles in reading order; those at the right and bottom may be smaller."""
    return [
        Box(top, left, min(top + size, height), min(left + size, width))
        for top in range(0, height, size)
        for left in range(0, width, size)
    ]


def window(tile: Box, halo: int, height: int, width: int, multiple: int) -> Box:
    """A tile and its halo, not beyond the picture padded to multiples of `multiple`."""
    return Box(
        max(0, tile.top - halo),
        max(0, tile.left - halo),
        min(padded(height, multiple), padded(tile.bottom, multiple) + halo),
        min(padded(width, multiple), padded(tile.right, multiple) + halo),
    )


def pixels_of(pixels: np.ndarray, box: Box) -> np.ndarray:
    """Pixels of a box, `(H, W, C)`; beyond the picture its last row and column are repeated."""
    height, width = pixels.shape[:2]
    inside = pixels[box.top : min(box.bottom, height), box.left : min(box.right, width)]
    below, right = box.height - inside.shape[0], box.width - inside.shape[1]
    if below or right:
        inside = np.pad(inside, ((0, below), (0, right), (0, 0)), mode="edge")
    return inside
