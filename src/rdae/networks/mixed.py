"""A decoder between dense and convolutional: dense layers lay out what an image shows, one filter draws it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from rdae.networks.critics import SLOPE
from rdae.networks.dense import dense
from rdae.networks.images import biased, coarse

__all__ = ["MixedDecoder"]


class MixedDecoder(nn.Module):
    """`(batch, size)` to `(batch, features * channels, H, W)`: dense to half the size, then a transposed convolution.

    Dense layers alone have to learn at each pixel anew that neighbours are alike, and a decoder of convolutions alone
    costs several times as much for small images. Weights of the dense layers start as large as keeps the size of what
    passes through them (He et al. 2015, arXiv:1502.01852): generators that start with fainter images than that lose
    modes early.

    Args:
        event: shape of one image, `(channels, H, W)`.
        size: latent variables.
        hidden: widths of the dense layers between.
        features: numbers for each element of an image, `distortion.features`.
        width: channels of the image of half the size.
        bias: what the first feature starts at everywhere, of the shape `event`; without it zero.
    """

    bias: Tensor | None

    def __init__(
        self,
        event: Sequence[int],
        size: int,
        hidden: Sequence[int] = (512, 512),
        features: int = 1,
        width: int = 16,
        bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.size, self.grid = tuple(event[1:]), (width, *coarse(event, 1))
        activation, initialise = partial(nn.LeakyReLU, SLOPE), partial(nn.init.kaiming_normal_, a=SLOPE)
        self.layers = dense([size, *hidden, math.prod(self.grid)], activation, initialise).append(activation())
        self.last = nn.ConvTranspose2d(width, features * event[0], 4, stride=2, padding=1)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias.detach().clone()))

    def forward(self, z: Tensor) -> Tensor:
        out = self.last(self.layers(z).unflatten(1, self.grid))
        return biased(out[..., : self.size[0], : self.size[1]], self.bias)
