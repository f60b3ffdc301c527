"""Vectors of length one: what a decoder of latents on spheres reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["UnitVectors", "unit"]

SHORTEST = 1e-6  # of a vector that is taken to have a direction


def unit(x: Tensor) -> Tensor:
    """`x / |x|` along the last dimension; a vector without a direction becomes the first axis, without a gradient."""
    length = x.norm(dim=-1, keepdim=True)
    axis = torch.zeros_like(x)
    axis[..., 0] = 1
    return torch.where(length > SHORTEST, x / length.clamp_min(SHORTEST), axis)


class UnitVectors(nn.Module):
    """`(batch, *, size)` to `(batch, -1)`: each vector along the last dimension is brought to length one.

    Nothing changes for latents on spheres. Means of a channel lie within the sphere, and points of a straight line
    between two latents too; in front of a decoder this takes them back to the sphere, along the radius.
    """

    def forward(self, z: Tensor) -> Tensor:
        return unit(z).flatten(1)
