"""Encoder of the photograph codecs: the wavelet pyramid in units of the rounding step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rdae.networks.masking import leaning, visibility
from rdae.networks.wavelet import Pyramid, Steps, rgb_to_opponent, wavelet_analysis

__all__ = ["PyramidEncoder", "step_of"]


def step_of(lam: Tensor) -> Tensor:
    """Rounding step in units of y that belongs to lam, `sqrt(6 / lam)`: at high rate `d rate / d distortion = -lam`."""
    return torch.sqrt(6.0 / lam)


class PyramidEncoder(nn.Module):
    """RGB to wavelet sub-bands in units of the step.

    Args:
        levels: of the wavelet.
        steps: of the bands, in units of the step, low band first, then coarse to fine; None for equal ones.
        masked: whether errors count less where the picture is busy (see `networks.masking`).
    """

    def __init__(self, levels: int = 5, steps: Steps | None = None, *, masked: bool = False) -> None:
        super().__init__()
        self.levels, self.steps, self.masked = levels, steps, masked

    def forward(self, y: Tensor, lam: Tensor) -> Pyramid:
        """Sub-bands, coarse to fine: `(B, 3, h, w)` of the low band, `(B, 9, h, w)` of each level.

        Args:
            y: `(B, 3, H, W)` in [0, 1], sides multiples of `2**(levels + 1)`.
            lam: `(B,)`, nats per squared unit of y; it sets the step.
        """
        bands = wavelet_analysis(rgb_to_opponent(y - 0.5), self.levels, step_of(lam), self.steps)
        if not self.masked:
            return bands
        low, *details = bands
        seen = visibility(y, self.levels)
        return Pyramid([low, *(leaning(z, weight) for z, weight in zip(details, seen, strict=True))])
