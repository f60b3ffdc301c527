"""What a coder of latents must offer: the part between the analysis graph and the stream of a tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from rdae.coding.rangecoder import SymbolSource
from rdae.errors import FormatError, TableError

__all__ = ["SYMBOL_LIMIT", "Coder", "Refine", "Run", "fitting"]

SYMBOL_LIMIT = 32767  # symbols are kept as int16

# (graph name, float32 inputs) -> outputs
Run = Callable[[str, dict[str, Any]], list[Any]]

# Chooses the symbols of a tile again: (pixels without padding, (H, W, 3) float32 in [0, 1]; symbols as a
# coder's `encode` returns them; lam; what the synthesis blends, `(ways,)` float32) -> symbols of the same shapes
Refine = Callable[[np.ndarray, list[np.ndarray], float, np.ndarray], list[np.ndarray]]


class Coder(Protocol):
    """Rounds and codes the latents of one tile, given the quality level.

    Attributes:
        unit: tiles are padded to multiples of so many pixels.
        latents: name of each latent, as the graphs call it, and pixels per sample along a side; coding order.
    """

    unit: int
    latents: dict[str, int]

    def shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Shapes of the symbols of `height x width` pixels, multiples of `unit`; in the order of `latents`."""
        ...

    def synthesis_inputs(self, symbols: list[np.ndarray], level: int) -> dict[str, np.ndarray]:
        """Inputs of the synthesis graph (all but `lam` and `maps`) for symbols of any window, of a quality level."""
        ...

    def blend(self, stream: bytes) -> np.ndarray:
        """What the stream of a tile tells the synthesis to blend, int8; nothing, where the synthesis blends nothing.

        Raises:
            FormatError: the stream is damaged.
        """
        ...

    def maps(self, blend: np.ndarray) -> dict[str, np.ndarray]:
        """The same as an input of the synthesis graph, if it has such an input."""
        ...

    def encode(self, latents: list[np.ndarray], level: int, visible: tuple[int, int]) -> tuple[bytes, list[np.ndarray]]:
        """Stream and int16 symbols of a tile whose latents are float32; `visible` is its size before padding."""
        ...

    def decode(self, stream: bytes, level: int, size: tuple[int, int], visible: tuple[int, int]) -> list[np.ndarray]:
        """Symbols of a tile of `size` pixels, of which `visible` are seen.

        Raises:
            FormatError: the stream is damaged.
        """
        ...

    def sample(
        self, source: SymbolSource, level: int, size: tuple[int, int], visible: tuple[int, int]
    ) -> list[np.ndarray]:
        """Symbols of a tile as `decode` gives them, every one from a source instead of a stream.

        Raises:
            FormatError: a symbol is larger than any that is kept.
            ModelError: this coder has no probabilities.
        """
        ...


def fitting(symbols: np.ndarray, error: type[TableError | FormatError]) -> np.ndarray:
    """Symbols as int16; `error` is raised where one does not fit."""
    if np.abs(symbols).max(initial=0) > SYMBOL_LIMIT:
        cure = "The file is damaged." if error is FormatError else "Use a lower quality."
        raise error(f"A symbol lies past {SYMBOL_LIMIT}, the largest that is kept. {cure}")
    return symbols.astype(np.int16)
