"""Convolutional encoders and decoders for images of any size and number of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdae.networks.shuffle import depth_to_space

__all__ = ["Framed", "ImageDecoder", "ImageEncoder", "coarse"]


def coarse(event: Sequence[int], halvings: int) -> tuple[int, int]:
    """Height and width after so many halvings, rounded up."""
    return -(-event[1] // 2**halvings), -(-event[2] // 2**halvings)


class _Residual(nn.Module):
    """Two 3 x 3 convolutions beside the identity; zero at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


class Framed(nn.Module):
    """What decoders of images end with: a crop to the size of the data, and where the first feature starts.

    Args:
        event: shape of one image, `(channels, H, W)`.
        bias: what the first feature starts at everywhere, of the shape `event`; without it zero.
    """

    bias: Tensor | None

    def __init__(self, event: Sequence[int], bias: Tensor | None) -> None:
        super().__init__()
        self.size = tuple(event[1:])
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias.detach().clone()))

    def framed(self, out: Tensor) -> Tensor:
        """`(batch, features * channels, H or more, W or more)` cropped, `bias` added to the first feature."""
        out = out[..., : self.size[0], : self.size[1]]
        if self.bias is None:
            return out
        return torch.cat([out[:, : len(self.bias)] + self.bias, out[:, len(self.bias) :]], 1)


class ImageEncoder(nn.Module):
    """`(batch, channels, H, W)` to `(batch, features)`: stride-2 convolutions, then one linear layer.

    Args:
        event: shape of one image, `(channels, H, W)`; H and W may be any size, edges are extended.
        features: outputs, `channel.features`.
        widths: channels after each halving.
    """

    def __init__(self, event: Sequence[int], features: int, widths: Sequence[int] = (32, 64, 128)) -> None:
        super().__init__()
        self.coarse = coarse(event, len(widths))
        self.pad = [0, self.coarse[1] * 2 ** len(widths) - event[2], 0, self.coarse[0] * 2 ** len(widths) - event[1]]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((event[0], *widths)):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), _Residual(outputs), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(widths[-1] * math.prod(self.coarse), features)

    def forward(self, y: Tensor) -> Tensor:
        return self.last(self.layers(F.pad(2 * y - 1, self.pad, mode="replicate")).flatten(1))


class ImageDecoder(Framed):
    """`(batch, size)` to `(batch, features * channels, H, W)`: convolutions to four times the channels, depth to space.

    Args:
        event: shape of one image, `(channels, H, W)`.
        size: latent variables.
        features: numbers for each element of an image, `distortion.features`.
        widths: channels before each doubling, coarse to fine.
        bias: what the first feature starts at everywhere, of the shape `event`; without it zero.
    """

    def __init__(
        self,
        event: Sequence[int],
        size: int,
        features: int = 1,
        widths: Sequence[int] = (128, 64, 32),
        bias: Tensor | None = None,
    ) -> None:
        super().__init__(event, bias)
        self.coarse, self.width = coarse(event, len(widths)), widths[0]
        self.first = nn.Linear(size, widths[0] * math.prod(self.coarse))
        self.blocks = nn.ModuleList(_Residual(width) for width in widths)
        self.ups = nn.ModuleList(nn.Conv2d(a, 4 * b, 3, padding=1) for a, b in pairwise((*widths, widths[-1])))
        self.last = nn.Conv2d(widths[-1], features * event[0], 3, padding=1)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, z: Tensor) -> Tensor:
        h = self.first(z).unflatten(1, (self.width, *self.coarse))
        for block, up in zip(self.blocks, self.ups, strict=True):
            h = depth_to_space(F.silu(up(block(h))))
        return self.framed(self.last(h))
