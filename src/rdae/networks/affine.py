"""Affine maps between latent spaces, `z = mean + L z'`, L diagonal or lower triangular."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["LatentAffine"]


class LatentAffine(nn.Module):
    """`z = mean + scale * z'` per element, or `z = mean + L z'` for vectors.

    Args:
        mean: `(size, *space)`.
        scale: positive, of the shape of mean; or a lower triangular matrix L, `(size, size)`, with a positive diagonal.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.detach().clone())
        self.register_buffer("scale", scale.detach().clone())

    @property
    def full(self) -> bool:
        """Whether the scale is a matrix."""
        return self.scale.ndim == 2 and self.mean.ndim == 1

    def forward(self, z: Tensor) -> Tensor:
        """`(..., size, *space)` to the same shape."""
        return self.mean + (z @ self.scale.T if self.full else self.scale * z)

    def inverse(self, z: Tensor) -> Tensor:
        """Solves `forward(z') = z`."""
        centred = z - self.mean
        if not self.full:
            return centred / self.scale
        return torch.linalg.solve_triangular(self.scale, centred[..., None], upper=False).squeeze(-1)
