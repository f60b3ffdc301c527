"""Rate and distortion of a linear generator in closed form: what estimates for other generators are held against."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rdae.errors import ShapeError

__all__ = ["LinearCurve", "linear_curve"]


class LinearCurve(NamedTuple):
    """Best rate and distortion of each example at each beta, `(betas, n)`, float64."""

    rate: Tensor  # nats: KL(q(z | y) || N(0, I)) of the q with the least rate + beta * distortion
    distortion: Tensor  # mean squared error under q, summed over the example, in u^2


@torch.no_grad()
def linear_curve(weight: Tensor, offset: Tensor, y: Tensor, betas: Tensor) -> LinearCurve:
    """The curve of `G(z) = W z + b`, z ~ N(0, I), under squared error (Huang et al. 2020, arXiv:2008.06653).

    The best channel is Gaussian, `C = (I + 2 beta W^T W)^-1` and `m = 2 beta C W^T (y - b)`. Along the curve of each
    example, and of their mean, `dR/dD = -beta`.

    Args:
        weight: W, `(features, latent)`.
        offset: b, `(features,)`.
        y: `(n, features)`, in u.
        betas: `(betas,)`, nats per u^2.

    Raises:
        ShapeError: they do not fit together.
    """
    features, latent = weight.shape
    if offset.shape != (features,) or y.ndim != 2 or y.shape[1] != features or betas.ndim != 1:
        raise ShapeError(
            f"W is {tuple(weight.shape)}, b {tuple(offset.shape)}, y {tuple(y.shape)} and betas {tuple(betas.shape)}. "
            f"For this W pass b ({features},), y (n, {features}) and a vector of betas."
        )
    w, betas = weight.double(), betas.double()
    residual = y.double() - offset.double()
    gram = w.T @ w
    precision = torch.eye(latent, dtype=w.dtype) + 2 * betas[:, None, None] * gram
    covariance = torch.linalg.inv(precision)
    mean = 2 * betas[:, None, None] * (residual @ w) @ covariance
    spread = covariance.diagonal(dim1=1, dim2=2).sum(1) - latent + torch.logdet(precision)
    rate = 0.5 * (mean.square().sum(2) + spread[:, None])
    error = (residual - mean @ w.T).square().sum(2)
    return LinearCurve(rate, error + (covariance * gram).sum((1, 2))[:, None])
