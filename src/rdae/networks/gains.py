"""Vectors that vary with lam: how one network serves all rates.

A vector is learned at a few values of ln lam and interpolated linearly between them. As logarithms of gains they
scale the channels of a latent, so that one rounding step of 1 stands for a coarse step at low rates and for a fine
one at high rates (Cui, Wang, Gao et al. 2021, "Asymmetric gained deep image compression with continuous rate
adaptation", arXiv:2003.02012).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rdae.errors import ModelError, ShapeError

__all__ = ["LAM_RANGE", "UNIT_LAM", "Gains", "Interpolated", "require_range"]

LAM_RANGE = (14.0, 50_000.0)  # nats per squared unit of y in [0, 1]: best rounding steps of 167 to 2.8 grey levels
UNIT_LAM = 6.0  # squared error at this lam is best rounded in steps of 1 (see `networks.pyramid.step_of`)


class Interpolated(nn.Module):
    """Learned vectors at `knots` values of ln lam, linear in between, constant outside; zero at the start.

    Args:
        channels: length of the vectors.
        lam: smallest and largest lam, where the outermost vectors stand.
        knots: number of vectors, at least 2.
    """

    def __init__(self, channels: int, lam: tuple[float, float] = LAM_RANGE, knots: int = 6) -> None:
        super().__init__()
        low, high = lam
        if not 0 < low < high or knots < 2:
            raise ShapeError(
                f"Vectors cannot be interpolated over lam from {low} to {high} with {knots} knots. "
                "Pass two positive numbers, the smaller one first, and at least two knots."
            )
        self.low, self.span = math.log(low), math.log(high / low)
        self.table = nn.Parameter(torch.zeros(knots, channels))

    def forward(self, lam: Tensor) -> Tensor:
        """Vectors, `(B, channels)`, of lam, `(B,)`; in the precision of the table also under autocast."""
        knots = self.table.shape[0]
        at = ((torch.log(lam) - self.low) * ((knots - 1) / self.span)).clamp(0, knots - 1)
        hats = (1 - (at[:, None] - torch.arange(knots, device=lam.device, dtype=at.dtype)).abs()).clamp_min(0)
        with torch.autocast(lam.device.type, enabled=False):  # of 8 bits, gains at one lam would differ by parts in 256
            return hats @ self.table


class Gains(nn.Module):
    """Positive factors per channel, `(lam / 6)**slope` times what is learned.

    Args:
        channels: number of factors.
        slope: 1/2 for an encoder, whose latents are in units of the step; -1/2 for a decoder; 0 for features.
        lam, knots: as for `Interpolated`.
    """

    learned: Interpolated

    def __init__(self, channels: int, slope: float, lam: tuple[float, float] = LAM_RANGE, knots: int = 6) -> None:
        super().__init__()
        self.slope = slope
        self.learned = Interpolated(channels, lam, knots)

    def log(self, lam: Tensor) -> Tensor:
        """Logarithms of the factors, `(B, channels)`, of lam, `(B,)`."""
        return self.slope * (torch.log(lam) - math.log(UNIT_LAM))[:, None] + self.learned(lam)

    def forward(self, lam: Tensor) -> Tensor:
        """Factors, `(B, channels, 1, 1)`, of lam, `(B,)`."""
        return torch.exp(self.log(lam))[..., None, None]


def require_range(model: nn.Module, lam: tuple[float, float]) -> None:
    """Checks that every vector of a model is learned over a range of lam; beyond it vectors would be constant.

    Args:
        model: any.
        lam: smallest and largest value that the model will be given.

    Raises:
        ModelError: a vector covers less.
    """
    for part in model.modules():
        if isinstance(part, Interpolated):
            low, high = math.exp(part.low), math.exp(part.low + part.span)
            if lam[0] < low * (1 - 1e-9) or lam[1] > high * (1 + 1e-9):
                raise ModelError(
                    f"The model's gains are learned for lam from {low:g} to {high:g}, but lam runs from {lam[0]:g} to "
                    f"{lam[1]:g}. Build encoder, decoder and prior with lam=({lam[0]:g}, {lam[1]:g}), or narrow the "
                    "recipe's lam."
                )
