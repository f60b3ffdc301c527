"""A decoder between dense and convolutional: dense layers lay out what an image shows, one filter draws it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from rdae.networks.images import biased, coarse

__all__ = ["MixedDecoder"]

SLOPE = 0.2  # of the activation below zero


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
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((size, *hidden, width * self.grid[1] * self.grid[2])):
            layer = nn.Linear(inputs, outputs)
            nn.init.kaiming_normal_(layer.weight, a=SLOPE)
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers)
        self.last = nn.ConvTranspose2d(width, features * event[0], 4, stride=2, padding=1)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias.detach().clone()))

    def forward(self, z: Tensor) -> Tensor:
        out = self.last(self.layers(z).unflatten(1, self.grid))
        return biased(out[..., : self.size[0], : self.size[1]], self.bias)
