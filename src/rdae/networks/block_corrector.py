"""Corrections to decoded pictures, in bytes, block of 4 x 4 pixels by block.

The inverse wavelet knows nothing of edges: where coefficients were rounded to zero it rings and smears. A network that
sees the picture so made, less its local mean, and the symbols of the finest level, adds to each sample a correction in
64ths of the step. Its last layer starts at zero, so training starts at the picture as it is.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from rdae.coding.blending import BLOCK, SAMPLES
from rdae.networks.bytes import ByteBlock, ByteConv, to_byte, to_signed

__all__ = ["BLOCK", "SAMPLES", "BlockCorrector", "contrast"]

CONTRAST_PER_STEP = 16  # the network sees up to eight steps either way


def contrast(blocks: Tensor) -> Tensor:
    """Samples of blocks less the mean of 3 x 3 blocks around them, in 16ths of the step, neither rounded nor clipped.

    Args:
        blocks: `(B, 48, h, w)` in units of the step; channel `16 * colour + 4 * row + column`.
    """
    colours = blocks.unflatten(1, (3, BLOCK**2))
    around = F.avg_pool2d(colours.mean(2), 3, 1, 1, count_include_pad=False)
    return CONTRAST_PER_STEP * (colours - around[:, :, None]).flatten(1, 2)


class BlockCorrector(nn.Module):
    """Corrections to blocks of pixels.

    Args:
        told: channels of bytes that it reads beside the picture.
        planes: so many of these, the last ones, are constant planes.
        width: channels of its layers.
        blocks: after the first layer.
    """

    def __init__(self, told: int, planes: int, width: int = 64, blocks: int = 3) -> None:
        super().__init__()
        self.read = ByteConv(SAMPLES, width, 3)
        self.hear = ByteConv(told, width, planes=planes)
        self.blocks = nn.Sequential(*(ByteBlock(width) for _ in range(blocks)))
        self.write = ByteConv(width, SAMPLES, gain=0.0)

    def forward(self, seen: Tensor, told: Tensor) -> Tensor:
        """Corrections in 64ths of the step, whole numbers, `(B, 48, h, w)`.

        Args:
            seen: `contrast` of the blocks.
            told: bytes, `(B, told, h, w)`.
        """
        h = to_byte(to_signed(self.read(to_signed(seen))) + to_signed(self.hear(told)))
        return to_signed(self.write(self.blocks(h)))
