"""Decoder of the photograph codec: corrections to dequantised sub-bands in networks of bytes, then the inverse wavelet.

A zero is not the best estimate of a coefficient that was rounded to zero next to an edge, and the middle of a bin is
not its mean. From coarse to fine, a network reads the symbols of a level, those of the coarser one and what it thought
there, and adds to each coefficient a correction in 64ths of the step. Its last layers start at zero, so training starts
at the linear path.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rdae.errors import ModelError
from rdae.networks.bytes import ByteBlock, ByteConv, split_signs, to_byte, to_signed
from rdae.networks.exact import compand
from rdae.networks.gains import LAM_RANGE
from rdae.networks.pyramid import step_of
from rdae.networks.shuffle import depth_to_space, space_to_depth
from rdae.networks.wavelet import Pyramid, Steps, opponent_to_rgb, wavelet_synthesis

__all__ = [
    "BYTES_PER_STEP", "FOLDED_BANDS", "KNOTS", "SubbandCorrector", "SubbandDecoder", "planes", "quality_bytes",
    "raised",
]  # fmt: skip

BYTES_PER_STEP = 64
FOLDED_BANDS = 36  # nine bands of four phases
KNOTS = 8  # of lam


def raised(width: int) -> int:
    """Channels that a coarser level's state has at the next: with 18 parents a multiple of 4, which is fastest."""
    return width // 4 + 2


def quality_bytes(lam: Tensor) -> Tensor:
    """What networks of bytes are told of lam, `(B,)`: hats over ln lam, `(B, 8)`, of which two neighbours are not 0.

    As planes of constant bytes they act like a bias that is interpolated between eight learned ones.
    """
    low, high = (math.log(value) for value in LAM_RANGE)
    at = ((torch.log(lam) - low) * ((KNOTS - 1) / (high - low))).clamp(0, KNOTS - 1)
    hats = 1 - (at[:, None] - torch.arange(KNOTS, device=lam.device, dtype=at.dtype)).abs()
    return (255 * hats.clamp_min(0)).round()


def planes(values: Tensor, like: Tensor) -> Tensor:
    """Constant planes, `(B, n, H, W)`, of `(B, n)` values and of the size of a tensor."""
    return values[..., None, None].expand(-1, -1, *like.shape[-2:])


class SubbandCorrector(nn.Module):
    """Corrections to the finest levels of a symbol pyramid, in bytes from coarse to fine.

    Args:
        widths: channels at level 1, 2, ...; coarser levels are not corrected.
        blocks: at each level, after the first layer.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 64, 64), blocks: tuple[int, ...] = (1, 1, 1)) -> None:
        super().__init__()
        self.corrected = len(widths)
        coarser = (*(raised(width) for width in widths[1:]), 0)
        self.raise_ = nn.ModuleList(ByteConv(width, 4 * raised(width)) for width in widths[1:])
        self.read = nn.ModuleList(
            ByteConv(2 * FOLDED_BANDS + 18 + more + KNOTS, width, 3, planes=KNOTS)
            for width, more in zip(widths, coarser, strict=True)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ByteBlock(width) for _ in range(n))) for width, n in zip(widths, blocks, strict=True)
        )
        self.write = nn.ModuleList(ByteConv(width, FOLDED_BANDS, gain=0.0) for width in widths)

    def forward(self, symbols: list[Tensor], lam: Tensor) -> list[Tensor]:
        """Folded corrections in units of the step, coarse to fine; symbols as the encoder lays them out."""
        with torch.autocast(lam.device.type, enabled=False):  # bytes do not survive 16-bit floats
            return self._corrections([q.float() for q in symbols[-self.corrected - 1 :]], quality_bytes(lam.float()))

    def _corrections(self, symbols: list[Tensor], quality: Tensor) -> list[Tensor]:
        corrections = []
        h: Tensor | None = None
        for level in range(self.corrected, 0, -1):
            k = level - 1
            own = split_signs(space_to_depth(compand(symbols[-level])))
            inputs = [own, split_signs(compand(symbols[-level - 1]))]
            if h is not None:
                inputs.append(depth_to_space(to_byte(self.raise_[k](h))))
            h = to_byte(self.read[k](torch.cat([*inputs, planes(quality, own)], 1)))
            h = self.blocks[k](h)
            corrections.append(to_signed(self.write[k](h)) / BYTES_PER_STEP)
        return corrections


class SubbandDecoder(nn.Module):
    """Symbols to RGB: corrected sub-bands, then the inverse wavelet.

    Args:
        corrector: computes the corrections; None builds one of the usual size.
        steps: of the bands, those of the encoder; None for equal ones.
    """

    def __init__(self, corrector: SubbandCorrector | None = None, steps: Steps | None = None) -> None:
        super().__init__()
        self.corrector, self.steps = corrector or SubbandCorrector(), steps

    def forward(self, symbols: list[Tensor], lam: Tensor) -> Tensor:
        """The reconstruction, `(B, 3, H, W)`, not clipped.

        Args:
            symbols: rounded sub-bands in units of the step, of the shapes that the encoder gives.
            lam: `(B,)`, that of the encoder.

        Raises:
            ModelError: the pyramid has too few levels.
        """
        least = self.corrector.corrected + 1  # the coarsest level that is corrected reads the one above it
        if len(symbols) <= least:
            raise ModelError(
                f"The decoder needs a low band and at least {least} levels, but got {len(symbols)} sub-bands in all. "
                f"Build encoder and prior with levels={least} or more."
            )
        corrections = self.corrector(symbols, lam)
        kept = len(symbols) - len(corrections)
        changed = [q + depth_to_space(c) for q, c in zip(symbols[kept:], corrections, strict=True)]
        return opponent_to_rgb(wavelet_synthesis(Pyramid([*symbols[:kept], *changed]), step_of(lam), self.steps)) + 0.5
