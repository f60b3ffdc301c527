"""From symbols to pixels: the synthesis of a codec, window after window."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rdae.coding import tiles
from rdae.coding.coder import Coder
from rdae.coding.model import Model

__all__ = ["Coded", "Synthesis"]


class Coded(NamedTuple):
    """What a file says of a picture."""

    symbols: list[np.ndarray]  # of the whole picture, padded
    blends: list[np.ndarray]  # of each tile
    known: dict[str, np.ndarray] | None = None  # the coder's inputs of the synthesis, if they were made while decoding


class Synthesis:
    """Shows pictures.

    Args:
        model: the codec file.
        coder: its coder.
        tile: pixels along the side of a tile.
        halo: pixels around a tile that its own depend on.
    """

    def __init__(self, model: Model, coder: Coder, tile: int, halo: int) -> None:
        self._model, self._coder, self._tile, self._halo = model, coder, tile, halo

    def __call__(
        self, coded: Coded, level: int, size: tuple[int, int], *, grey: bool = False, deep: bool = False
    ) -> np.ndarray:
        """Pixels, `(H, W, 3)` or `(H, W, 1)`, uint8 or uint16.

        Args:
            coded: what is known of the picture.
            level: quality level.
            size: height and width.
            grey: one channel, the mean of the three.
            deep: 16 bits a sample.

        Raises:
            ModelError: the parts of the codec file do not fit together.
        """
        height, width = size
        out = np.empty((height, width, 1 if grey else 3), dtype=np.uint16 if deep else np.uint8)
        lam, unit = {"lam": self._model.lam_of(level)}, self._coder.unit
        whole = tiles.Box(0, 0, tiles.padded(height, unit), tiles.padded(width, unit))
        for tile, blend in zip(tiles.tiles(height, width, self._tile), coded.blends, strict=True):
            outer = tiles.window(tile, self._halo, height, width, unit)
            inputs = coded.known
            if inputs is None:
                seen = [
                    x[(slice(None), *outer.cut(whole, side))]
                    for x, side in zip(coded.symbols, self._coder.latents.values(), strict=True)
                ]
                inputs = self._coder.synthesis_inputs(seen, level)
            inputs = inputs | self._coder.maps(blend) | lam
            (shown,) = self._model.run_to("synthesis", inputs, [(outer.height, outer.width, 3)])
            y = shown[tile.cut(outer, 1)]
            if grey:
                y = y.mean(2, keepdims=True)
            y *= np.float32(65535 if deep else 255)  # in place: nobody else reads the output
            y += np.float32(0.5)
            out[tile.top : tile.bottom, tile.left : tile.right] = y
        return out
