"""Encoder of the photograph codec: the wavelet pyramid in units of the rounding step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rdae.networks.wavelet import Pyramid, rgb_to_opponent, wavelet_analysis

__all__ = ["PyramidEncoder", "step_of"]


def step_of(lam: Tensor) -> Tensor:
    """Rounding step in units of y that belongs to lam, `sqrt(6 / lam)`: at high rate `d rate / d distortion = -lam`."""
    return torch.sqrt(6.0 / lam)


class PyramidEncoder(nn.Module):
    """RGB to wavelet sub-bands in units of the step.

    Args:
        levels: of the wavelet.
    """

    def __init__(self, levels: int = 5) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, y: Tensor, lam: Tensor) -> Pyramid:
        """Sub-bands, coarse to fine: `(B, 3, h, w)` of the low band, `(B, 9, h, w)` of each level.

        Args:
            y: `(B, 3, H, W)` in [0, 1], sides multiples of `2**(levels + 1)`.
            lam: `(B,)`, nats per squared unit of y; it sets the step.
        """
        return wavelet_analysis(rgb_to_opponent(y - 0.5), self.levels, step_of(lam))
