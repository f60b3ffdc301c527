"""Critics: one number for each example, of any shape.

None of them normalises over a batch: the slope of a critic at an example would then depend on the others, and
penalties on it would mean nothing. Their last layer starts at zero, so that a critic begins by knowing nothing: one
that began with slopes of the wrong sign could be held there by a gradient penalty, which wants slopes of 1 and has no
way between -1 and 1 but uphill.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from rdae.networks.dense import DenseEncoder

__all__ = ["ConvolutionalCritic", "DenseCritic"]

SLOPE = 0.2  # of the activation below zero


class DenseCritic(nn.Module):
    """`(batch, *event)` to `(batch,)`, fully connected.

    Args:
        event: shape of one example, or of a pack of them.
        hidden: widths between.
        mean, scale: of the data, `event`; the first layer sees `(y - mean) / scale`. Without them y itself.
    """

    def __init__(
        self,
        event: Sequence[int],
        hidden: Sequence[int] = (128, 128, 128),
        mean: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.network = DenseEncoder(event, 1, hidden, partial(nn.LeakyReLU, SLOPE), mean, scale)
        nn.init.zeros_(cast(nn.Linear, self.network.layers[-1]).weight)

    def forward(self, y: Tensor) -> Tensor:
        return self.network(y).squeeze(1)


class ConvolutionalCritic(nn.Module):
    """`(batch, channels, H, W)` to `(batch,)`: 5 x 5 convolutions of stride 2, then one linear layer.

    Args:
        event: shape of one image, or of a pack of them, `(channels, H, W)`; H and W may be any size, a side of n
            pixels becomes one of ceil(n / 2).
        widths: channels after each halving.
        mean, scale: of the data, `event`; the first layer sees `(y - mean) / scale`. Without them `y - 1/2`.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        event: Sequence[int],
        widths: Sequence[int] = (32, 64, 128),
        mean: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(0.5) if mean is None else mean.detach().clone())
        self.register_buffer("scale", torch.tensor(1.0) if scale is None else scale.detach().clone())
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((event[0], *widths)):
            conv = nn.Conv2d(inputs, outputs, 5, stride=2, padding=2)
            nn.init.kaiming_normal_(conv.weight, a=SLOPE)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            layers += [conv, nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers)
        coarse = [-(-side // 2 ** len(widths)) for side in event[1:]]
        self.last = nn.Linear(widths[-1] * math.prod(coarse), 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, y: Tensor) -> Tensor:
        return self.last(self.layers((y - self.mean) / self.scale).flatten(1)).squeeze(1)
