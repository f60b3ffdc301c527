"""Fully connected encoders and decoders, for data of any shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["DenseDecoder", "DenseEncoder", "dense"]


def dense(
    sizes: Sequence[int],
    activation: Callable[[], nn.Module] = nn.Tanh,
    initialise: Callable[[Tensor], object] = nn.init.xavier_uniform_,
) -> nn.Sequential:
    """Linear layers of these sizes with an activation between them, none after the last; `initialise` fills weights."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layer = nn.Linear(inputs, outputs)
        initialise(layer.weight)
        nn.init.zeros_(layer.bias)
        layers += [layer, activation()]
    return nn.Sequential(*layers[:-1])


class DenseEncoder(nn.Module):
    """`(batch, *event)` to `(batch, features)`.

    Args:
        event: shape of one example.
        features: outputs, `channel.features`.
        hidden: widths between.
        activation: of the hidden layers.
        mean, scale: of the data, `event`; the first layer sees `(y - mean) / scale`. Without them y itself.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        event: Sequence[int],
        features: int,
        hidden: Sequence[int] = (200, 200),
        activation: Callable[[], nn.Module] = nn.Tanh,
        mean: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.layers = dense([math.prod(event), *hidden, features], activation)
        self.register_buffer("mean", torch.zeros(*event) if mean is None else mean.detach().clone())
        self.register_buffer("scale", torch.ones(*event) if scale is None else scale.detach().clone())

    def forward(self, y: Tensor) -> Tensor:
        return self.layers(((y - self.mean) / self.scale).flatten(1))


class DenseDecoder(nn.Module):
    """`(batch, size)` to `(batch, features * channels, *space)`.

    Args:
        event: shape of one example, `(channels, *space)`.
        size: latent variables.
        hidden: widths between.
        features: numbers for each element of an example, `distortion.features`.
        activation: of the hidden layers.
        bias: what the first feature starts at everywhere, of the shape `event`; without it zero.
    """

    def __init__(
        self,
        event: Sequence[int],
        size: int,
        hidden: Sequence[int] = (200, 200),
        features: int = 1,
        activation: Callable[[], nn.Module] = nn.Tanh,
        bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.shape = (features * event[0], *event[1:])
        self.layers = dense([size, *hidden, math.prod(self.shape)], activation)
        if bias is not None:
            last = cast(nn.Linear, self.layers[-1])
            with torch.no_grad():
                last.bias[: bias.numel()] = bias.flatten()

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).unflatten(1, self.shape)
