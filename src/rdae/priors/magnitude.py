"""The lectures' rate surrogate: the size of a latent in bits, `sum (log2 |z|)^+`, read before rounding.

It is a penalty and not a code length: it charges neither sign nor the end of a number, and no prefix code has such
lengths, for `sum_n 2**-(log2 |n|)^+` diverges (Kraft). Hence two faces. In `train()` mode this prior charges the
penalty, which has a gradient; in `eval()` mode, and in files, the bits of a universal code for the rounded latent
(`coding.universal`). `penalty_gap` reports both.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rdae.channels import Channel, Coded, round_half_up
from rdae.coding.universal import code_bits

__all__ = ["MagnitudePrior", "PenaltyGap", "magnitude_bits", "penalty_gap", "universal_bits"]


def magnitude_bits(z: Tensor, *, smooth: bool = False) -> Tensor:
    """The penalty of each example in bits, `(B, ...)` to `(B,)`.

    Args:
        z: latent before rounding.
        smooth: `sum log2(1 + |z|)` instead of `sum (log2 |z|)^+`; it also pulls at latents within (-1, 1).
    """
    size = z.abs()
    bits = torch.log1p(size) if smooth else torch.log(size.clamp_min(1))
    return bits.flatten(1).sum(1) / math.log(2)


@torch.no_grad()
def universal_bits(q: Tensor) -> Tensor:
    """Bits of the universal code of each example's whole numbers, `(B, ...)` to `(B,)`; padding not counted."""
    return torch.tensor([float(code_bits(x.cpu().numpy())) for x in q.double()], dtype=q.dtype, device=q.device)


class PenaltyGap(NamedTuple):
    """Penalty and true code length of the same latents, bits per example, `(B,)` each."""

    penalty_bits: Tensor
    code_bits: Tensor

    @property
    def gap_bits(self) -> Tensor:
        """What the penalty leaves out."""
        return self.code_bits - self.penalty_bits


def penalty_gap(z: Tensor, *, smooth: bool = False) -> PenaltyGap:
    """How far the penalty is from the bits of a file.

    Args:
        z: latent before rounding, `(B, ...)`.
        smooth: as for `magnitude_bits`.
    """
    return PenaltyGap(magnitude_bits(z, smooth=smooth), universal_bits(round_half_up(z)))


class MagnitudePrior(nn.Module):
    """Penalises magnitudes in training, counts the bits of the universal code otherwise; has no parameters.

    Args:
        smooth: `log2(1 + |z|)` instead of `(log2 |z|)^+`.
    """

    def __init__(self, *, smooth: bool = True) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, z: Tensor, channel: Channel, lam: Tensor) -> Coded:
        """Sends z, `(B, C, H, W)` in units of the rounding step, and charges it; lam is not used.

        The rate is in nats: bits times ln 2.
        """
        sent = channel(z)
        bits = magnitude_bits(z, smooth=self.smooth) if self.training else universal_bits(sent.rate)
        return Coded(sent.decoder, bits * math.log(2))
