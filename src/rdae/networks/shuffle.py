"""Space and depth exchanged: how a decoder doubles its resolution.

A stride-1 convolution computes four times the wanted number of channels, and `depth_to_space`
lays each group of four out as a 2 x 2 block of pixels:

    out[b, c, 2*i + a1, 2*j + a2] = x[b, 4*c + 2*a1 + a2, i, j],   a1, a2 in {0, 1}

This is not a reshape of the memory: a plain `(B, 4C, H, W) -> (B, C, 2H, 2W)` reshape would put the
channels of one pixel side by side in a row and mix neighbours.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from rdae.errors import ShapeError

__all__ = ["depth_to_space", "space_to_depth"]


def depth_to_space(x: Tensor) -> Tensor:
    """Rearranges `(B, 4C, H, W)` to `(B, C, 2H, 2W)`; the exact inverse of `space_to_depth`.

    Raises:
        ShapeError: the number of channels is not a multiple of 4.
    """
    if x.shape[-3] % 4:
        raise ShapeError(
            f"depth_to_space needs a multiple of 4 channels, but x is {tuple(x.shape)}. "
            "Let the convolution before it compute 4 x the channels you want."
        )
    return F.pixel_shuffle(x, 2)


def space_to_depth(x: Tensor) -> Tensor:
    """Rearranges `(B, C, 2H, 2W)` to `(B, 4C, H, W)`; channel `4*c + 2*a1 + a2` holds phase `(a1, a2)`.

    Raises:
        ShapeError: height or width is odd.
    """
    if x.shape[-1] % 2 or x.shape[-2] % 2:
        raise ShapeError(
            f"space_to_depth needs an even height and width, but x is {tuple(x.shape)}. Pad x to even sides first."
        )
    return F.pixel_unshuffle(x, 2)
