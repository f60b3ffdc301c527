"""Decoder of the photograph codec: sub-bands corrected in networks of bytes, the inverse wavelet, pixels corrected.

A zero is not the best estimate of a coefficient that was rounded to zero next to an edge, and the middle of a bin is
not its mean. From coarse to fine, a network reads the symbols of a level, those of the coarser one and what it thought
there, and adds to each coefficient a correction in 64ths of the step. Its last layers start at zero, so training starts
at the linear path. What the inverse wavelet makes of them is corrected once more, see `networks.block_corrector`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdae.errors import ModelError
from rdae.networks.blending import Blend
from rdae.networks.block_corrector import BLOCK, BlockCorrector, contrast
from rdae.networks.bytes import ByteBlock, ByteConv, split_signs, to_byte, to_signed
from rdae.networks.exact import compand
from rdae.networks.gains import LAM_RANGE
from rdae.networks.pyramid import step_of
from rdae.networks.shuffle import depth_to_space, space_to_depth
from rdae.networks.wavelet import Steps, opponent_to_rgb, wavelet_synthesis

__all__ = [
    "BYTES_PER_STEP", "FOLDED_BANDS", "HANDED", "KNOTS", "SubbandCorrector", "SubbandDecoder", "planes",
    "quality_bytes", "raised",
]  # fmt: skip

BYTES_PER_STEP = 64
FOLDED_BANDS = 36  # nine bands of four phases
KNOTS = 8  # of lam
HANDED = 20  # channels handed on to pixels: with 72 of symbols and 8 of the quality a multiple of 4, which is fastest


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


def folded_bytes(symbols: Tensor) -> Tensor:
    """What networks of bytes read of the symbols of a level, `(B, 9, H, W)`: `(B, 72, H / 2, W / 2)`."""
    return split_signs(space_to_depth(compand(symbols)))


class SubbandCorrector(nn.Module):
    """Corrections to levels of a symbol pyramid, in bytes from coarse to fine; the finest one is left to its pixels.

    Args:
        widths: channels at level 2, 3, ...; coarser levels are not corrected.
        blocks: at each level, after the first layer.
    """

    def __init__(self, widths: tuple[int, ...] = (64, 64), blocks: tuple[int, ...] = (1, 1)) -> None:
        super().__init__()
        self.coarsest = len(widths) + 1
        coarser = (*(raised(width) for width in widths[1:]), 0)
        self.raise_ = nn.ModuleList(
            ByteConv(width, 4 * more) for width, more in zip(widths, (HANDED, *coarser), strict=False)
        )
        self.read = nn.ModuleList(
            ByteConv(2 * FOLDED_BANDS + 18 + more + KNOTS, width, 3, planes=KNOTS)
            for width, more in zip(widths, coarser, strict=True)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ByteBlock(width) for _ in range(n))) for width, n in zip(widths, blocks, strict=True)
        )
        self.write = nn.ModuleList(ByteConv(width, FOLDED_BANDS, gain=0.0) for width in widths)

    def forward(self, symbols: list[Tensor], quality: Tensor) -> tuple[list[Tensor], Tensor]:
        """Folded corrections in units of the step, coarse to fine, and bytes that it hands on, `(B, 20, h, w)`.

        Args:
            symbols: as the encoder lays them out, the finest last.
            quality: `quality_bytes`, `(B, 8)`.
        """
        corrections = []
        handed: list[Tensor] = []
        for level in range(self.coarsest, 1, -1):
            k = level - 2
            own = folded_bytes(symbols[-level])
            inputs = [own, split_signs(compand(symbols[-level - 1])), *handed, planes(quality, own)]
            h = self.blocks[k](to_byte(self.read[k](torch.cat(inputs, 1))))
            corrections.append(to_signed(self.write[k](h)) / BYTES_PER_STEP)
            handed = [depth_to_space(to_byte(self.raise_[k](h)))]
        return corrections, handed[0]


class SubbandDecoder(nn.Module):
    """Symbols to RGB: corrected sub-bands, the inverse wavelet, corrected pixels.

    Args:
        corrector: of sub-bands; None builds one of the usual size.
        width: channels of the corrector of pixels.
        steps: of the bands, those of the encoder; None for equal ones.
    """

    def __init__(self, corrector: SubbandCorrector | None = None, width: int = 64, steps: Steps | None = None) -> None:
        super().__init__()
        self.corrector, self.steps = corrector or SubbandCorrector(), steps
        self.finisher = BlockCorrector(2 * FOLDED_BANDS + HANDED + KNOTS, KNOTS, width)
        self.blend = Blend()

    def forward(self, symbols: list[Tensor], lam: Tensor, blend: Tensor | None = None) -> Tensor:
        """The reconstruction, `(B, 3, H, W)`, not clipped.

        Args:
            symbols: rounded sub-bands in units of the step, of the shapes that the encoder gives.
            lam: `(B,)`, that of the encoder.
            blend: what the picture's file says, see `networks.blending`; None for nothing.

        Raises:
            ModelError: the pyramid has too few levels.
        """
        with torch.autocast(lam.device.type, enabled=False):  # bytes do not survive 16-bit floats
            blocks, told = self.blocks([q.float() for q in symbols], lam.float())
            return self.pixels(self.blend(blocks, self.change(blocks, told), blend), lam.float())

    def blocks(self, symbols: list[Tensor], lam: Tensor) -> tuple[Tensor, Tensor]:
        """What the inverse wavelet makes of corrected sub-bands, in units of the step, and what its corrector is told.

        Returns:
            `(B, 48, H / 4, W / 4)`, see `block_corrector.contrast`, and bytes of as many rows and columns.

        Raises:
            ModelError: the pyramid has too few levels.
        """
        least = self.corrector.coarsest + 1  # the coarsest level that is corrected reads the one above it
        if len(symbols) <= least:
            raise ModelError(
                f"The decoder needs a low band and at least {least} levels, but got {len(symbols)} sub-bands in all. "
                f"Build encoder and prior with levels={least} or more."
            )
        quality = quality_bytes(lam)
        corrections, handed = self.corrector(symbols, quality)
        *bands, finest = symbols
        first = len(bands) - len(corrections)
        changed = [q + depth_to_space(c) for q, c in zip(bands[first:], corrections, strict=True)]
        shown = wavelet_synthesis([*bands[:first], *changed, finest], steps=self.steps)
        return F.pixel_unshuffle(shown, BLOCK), self.told(finest, handed, quality)

    def told(self, finest: Tensor, handed: Tensor, quality: Tensor) -> Tensor:
        """Bytes that the corrector of pixels reads beside the picture: finest symbols, what was handed on, quality."""
        return torch.cat([folded_bytes(finest), handed, planes(quality, handed)], 1)

    def change(self, blocks: Tensor, told: Tensor) -> Tensor:
        """Correction of blocks, in units of the step."""
        return self.finisher(contrast(blocks), told) / BYTES_PER_STEP

    def pixels(self, blocks: Tensor, lam: Tensor) -> Tensor:
        """Pixels, `(B, 3, H, W)`, of blocks in units of the step."""
        return opponent_to_rgb(F.pixel_shuffle(blocks, BLOCK) * step_of(lam)[:, None, None, None]) + 0.5
