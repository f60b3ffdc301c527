"""Gaussian noisy channels: the law of the latent given the data, q(z | y).

A channel turns what an encoder computes into a distribution of `torch.distributions` over latents, from which one
draws `z = mean + L eps`, differentiable in mean and L (the reparameterisation trick). Gaussians are given by mean and
standard deviation (or a Cholesky factor L), never by variance.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, LowRankMultivariateNormal, MultivariateNormal, Normal

from rdae.errors import ShapeError
from rdae.networks.bounded import bounded

__all__ = [
    "FullGaussianChannel", "GaussianChannel", "LowRankGaussianChannel", "NoisyChannel", "SharedNoiseChannel",
]  # fmt: skip

LOG_STD_MIN, LOG_STD_MAX = -7.0, 5.0  # beyond these a channel is closed or open for every practical purpose


def _std(log_std: Tensor) -> Tensor:
    return torch.exp(bounded(log_std, LOG_STD_MIN, LOG_STD_MAX))


class NoisyChannel(nn.Module):
    """Base: `channel(h)` is the distribution of the latent given the encoder's output h.

    Args:
        size: number of latent variables, or of latent channels where the latent has a height and width.

    Attributes:
        features: how many numbers (or channels) an encoder has to compute.
    """

    features: int

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, h: Tensor) -> Distribution:
        """Distribution over `(batch, size, *space)`, for h of shape `(batch, features, *space)`.

        Raises:
            ShapeError: h has another number of features.
        """
        if h.ndim < 2 or h.shape[1] != self.features:
            raise ShapeError(
                f"{type(self).__name__}({self.size}) needs {self.features} features from the encoder, but it computed "
                f"{tuple(h.shape)}. Build the encoder with channel.features outputs."
            )
        return self.law(h)

    def law(self, h: Tensor) -> Distribution:
        """What `forward` returns; h has been checked."""
        raise NotImplementedError


class GaussianChannel(NoisyChannel):
    """`z = mean(y) + std(y) * eps`, independent over elements; h holds mean and ln std."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.features = 2 * size

    def law(self, h: Tensor) -> Distribution:
        mean, log_std = h.chunk(2, 1)
        return Independent(Normal(mean, _std(log_std), validate_args=False), h.ndim - 1, validate_args=False)


class SharedNoiseChannel(NoisyChannel):
    """`z = mean(y) + std * eps`: noise whose law does not depend on y; h holds the mean.

    Args:
        size: number of latent variables or channels.
        std: of the noise; at the start, where it is learned.
        learned: one std per latent variable (channel) is learned.
    """

    def __init__(self, size: int, std: float = 1.0, *, learned: bool = False) -> None:
        super().__init__(size)
        self.features = size
        log_std = torch.full((size,), math.log(std))
        if learned:
            self.log_std = nn.Parameter(log_std)
        else:
            self.register_buffer("log_std", log_std)

    def law(self, h: Tensor) -> Distribution:
        std = _std(cast(Tensor, self.log_std)).view(-1, *(1,) * (h.ndim - 2)).expand_as(h)
        return Independent(Normal(h, std, validate_args=False), h.ndim - 1, validate_args=False)


class FullGaussianChannel(NoisyChannel):
    """`z = mean(y) + L(y) eps`, L lower triangular with a positive diagonal; h holds mean, ln diagonal, the rest of L.

    For vectors only. Its cost grows with the square of `size`.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.features = 2 * size + size * (size - 1) // 2
        rows, columns = torch.tril_indices(size, size, offset=-1)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def law(self, h: Tensor) -> Distribution:
        _vectors_only(self, h)
        mean, log_diagonal, below = h.split([self.size, self.size, self.features - 2 * self.size], 1)
        factor = torch.diag_embed(_std(log_diagonal))
        factor[:, self.rows, self.columns] = below
        return MultivariateNormal(mean, scale_tril=factor, validate_args=False)


class LowRankGaussianChannel(NoisyChannel):
    """`z = mean(y) + W(y) e1 + std(y) * e2`, W of `rank` columns: correlations at a cost linear in `size`.

    For vectors only; h holds mean, ln std and W.
    """

    def __init__(self, size: int, rank: int) -> None:
        super().__init__(size)
        self.rank = rank
        self.features = (2 + rank) * size

    def law(self, h: Tensor) -> Distribution:
        _vectors_only(self, h)
        mean, log_std, factor = h.split([self.size, self.size, self.rank * self.size], 1)
        return LowRankMultivariateNormal(
            mean, factor.unflatten(1, (self.size, self.rank)), _std(log_std).square(), validate_args=False
        )


def _vectors_only(channel: NoisyChannel, h: Tensor) -> None:
    if h.ndim != 2:
        raise ShapeError(
            f"{type(channel).__name__} is for vectors, but the encoder computed {tuple(h.shape)}. "
            "Flatten its output, or use GaussianChannel."
        )
