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
        low, *details = wavelet_analysis(rgb_to_opponent(y - 0.5), self.levels, step_of(lam), self.steps)
        return Pyramid([low, *self._masked(y, details)])

    def again(self, y: Tensor, shown: Tensor, lam: Tensor, symbols: list[Tensor]) -> list[Tensor]:
        """Sub-bands for rounding once more, when it is known what the decoder makes of a first choice of symbols.

        The decoder moves coefficients from where their symbols put them. Symbols plus what is still missing, in place
        of the coefficients, are what it would have to be given if it went on moving them so.

        Args:
            y: the picture, as for `forward`.
            shown: what the decoder made of it, of the same shape.
            lam: as for `forward`.
            symbols: of all levels, coarse to fine, `(B, 9, h, w)`.

        Returns:
            Of all levels, the same shapes; the low band stays as it is.
        """
        _, *missing = wavelet_analysis(rgb_to_opponent(y - shown), self.levels, step_of(lam), self.steps)
        return self._masked(y, [q + z for q, z in zip(symbols, missing, strict=True)])

    def _masked(self, y: Tensor, details: list[Tensor]) -> list[Tensor]:
        if not self.masked:
            return details
        return [leaning(z, weight) for z, weight in zip(details, visibility(y, self.levels), strict=True)]
