"""Encoder and decoder of the photograph codec: the wavelet pyramid, and what the decoder adds to it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rdae.errors import ModelError
from rdae.networks.refine import REFINED_LEVELS, SubbandRefiner
from rdae.networks.wavelet import Pyramid, opponent_to_rgb, rgb_to_opponent, wavelet_analysis, wavelet_synthesis

__all__ = ["LEVELS_MIN", "PyramidDecoder", "PyramidEncoder", "step_of"]

LEVELS_MIN = REFINED_LEVELS + 2  # the coarsest level to be refined reads the two above it


def step_of(lam: Tensor) -> Tensor:
    """Rounding step in units of y that belongs to lam, `sqrt(6 / lam)`: at high rate `d rate / d distortion = -lam`."""
    return torch.sqrt(6.0 / lam)


class PyramidEncoder(nn.Module):
    """RGB to wavelet sub-bands in units of the step.

    Args:
        levels: of the wavelet, at least 5.

    Raises:
        ModelError: fewer levels than the decoder reads.
    """

    def __init__(self, levels: int = 5) -> None:
        super().__init__()
        if levels < LEVELS_MIN:
            raise ModelError(f"A pyramid of {levels} levels is too low. Build it with levels={LEVELS_MIN} or more.")
        self.levels = levels

    def forward(self, y: Tensor, lam: Tensor) -> Pyramid:
        """Sub-bands, coarse to fine: `(B, 3, h, w)` of the low band, `(B, 9, h, w)` of each level.

        Args:
            y: `(B, 3, H, W)` in [0, 1], sides multiples of `2**(levels + 1)`.
            lam: `(B,)`, nats per squared unit of y; it sets the step.
        """
        return wavelet_analysis(rgb_to_opponent(y - 0.5), self.levels, step_of(lam))


class PyramidDecoder(nn.Module):
    """Symbols to RGB: a learned correction of the sub-bands, zero at the start, then the inverse wavelet.

    Args:
        refiner: computes the corrections; None builds one of the usual size.
    """

    def __init__(self, refiner: SubbandRefiner | None = None) -> None:
        super().__init__()
        self.refiner = refiner or SubbandRefiner()

    def forward(self, symbols: list[Tensor], lam: Tensor) -> Tensor:
        """The reconstruction, `(B, 3, H, W)`, not clipped.

        Args:
            symbols: rounded sub-bands in units of the step, of the shapes that the encoder gives.
            lam: `(B,)`, that of the encoder.

        Raises:
            ModelError: the pyramid has too few levels.
        """
        if len(symbols) <= LEVELS_MIN:
            raise ModelError(
                f"The decoder needs a low band and at least {LEVELS_MIN} levels, but got {len(symbols)} sub-bands in "
                f"all. Build encoder and prior with levels={LEVELS_MIN} or more."
            )
        step = step_of(lam)
        refined = self.refiner(symbols, torch.log(255.0 * step))
        return opponent_to_rgb(wavelet_synthesis(refined, step)) + 0.5
