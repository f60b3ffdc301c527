"""Encoder and decoder of the photograph codec: the wavelet pyramid, and what the decoder adds to it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rdae.networks.refine import SubbandRefiner
from rdae.networks.wavelet import Pyramid, opponent_to_rgb, rgb_to_opponent, wavelet_analysis, wavelet_synthesis

__all__ = ["PyramidDecoder", "PyramidEncoder", "step_of"]


def step_of(lam: Tensor) -> Tensor:
    """Rounding step in units of y that belongs to lam, `sqrt(6 / lam)`: at high rate `d rate / d distortion = -lam`."""
    return torch.sqrt(6.0 / lam)


class PyramidEncoder(nn.Module):
    """RGB in [0, 1], `(B, 3, H, W)`, to wavelet sub-bands in units of the step; sides multiples of `2**(levels+1)`."""

    def __init__(self, levels: int = 5) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, y: Tensor, lam: Tensor) -> Pyramid:
        return wavelet_analysis(rgb_to_opponent(y - 0.5), self.levels, step_of(lam))


class PyramidDecoder(nn.Module):
    """Symbols to RGB: a learned correction of the sub-bands, zero at the start, then the inverse wavelet."""

    def __init__(self, refiner: SubbandRefiner | None = None) -> None:
        super().__init__()
        self.refiner = refiner or SubbandRefiner()

    def forward(self, symbols: list[Tensor], lam: Tensor) -> Tensor:
        step = step_of(lam)
        refined = self.refiner(symbols, torch.log(255.0 * step))
        return opponent_to_rgb(wavelet_synthesis(refined, step)) + 0.5
