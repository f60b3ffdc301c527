"""Images at half their size, for dense networks: a quarter of the numbers, and neighbours that are alike by nature.

Dense layers have to learn at each pixel anew that neighbours are alike. Given means of 2 x 2 pixels, and made to draw
at that size, they learn shapes before textures, as networks that grow with the image do (Karras et al. 2018,
arXiv:1710.10196), at half the cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from rdae.networks.critics import SLOPE
from rdae.networks.dense import dense
from rdae.networks.images import Framed, coarse

__all__ = ["Halved", "HalvedDecoder", "halved"]


def halved(y: Tensor) -> Tensor:
    """Means of 2 x 2 pixels, at an odd border of those there are: `(..., C, H, W)` to `(..., C, H / 2, W / 2)`."""
    flat = F.avg_pool2d(y.reshape(-1, *y.shape[-3:]), 2, ceil_mode=True, count_include_pad=False)
    return flat.reshape(*y.shape[:-2], *flat.shape[-2:])


class Halved(nn.Module):
    """`halved`, before a network that sees images of half the size."""

    def forward(self, y: Tensor) -> Tensor:
        return halved(y)


class HalvedDecoder(Framed):
    """`(batch, size)` to `(batch, features * channels, H, W)`: dense layers to half the size, made larger bilinearly.

    Weights start as large as keeps the size of what passes through them (He et al. 2015, arXiv:1502.01852):
    generators that start with fainter images than that lose modes early.

    Args:
        event: shape of one image, `(channels, H, W)`.
        size: latent variables.
        hidden: widths of the layers between.
        features: numbers for each element of an image, `distortion.features`.
        last: what the small image goes through before it is made larger, a sigmoid, say; without it nothing.
        bias: what the first feature starts at everywhere, of the shape `event`; without it zero.
    """

    def __init__(
        self,
        event: Sequence[int],
        size: int,
        hidden: Sequence[int] = (512, 512),
        features: int = 1,
        last: nn.Module | None = None,
        bias: Tensor | None = None,
    ) -> None:
        super().__init__(event, bias)
        self.grid = (features * event[0], *coarse(event, 1))
        activation, initialise = partial(nn.LeakyReLU, SLOPE), partial(nn.init.kaiming_normal_, a=SLOPE)
        self.layers = dense([size, *hidden, math.prod(self.grid)], activation, initialise)
        self.last = nn.Identity() if last is None else last

    def forward(self, z: Tensor) -> Tensor:
        small = self.last(self.layers(z).unflatten(1, self.grid))
        return self.framed(F.interpolate(small, scale_factor=2.0, mode="bilinear", align_corners=False))
