"""Fréchet distance of features: that between the Gaussians with the means and covariances of two samples."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rdae.measures.measure import Kind, Measure
from rdae.measures.pairs import as_samples

__all__ = ["frechet_distance", "frechet_extrapolated"]

UNIT = "unit of the features squared"


@torch.no_grad()
def frechet_distance(real: Tensor, fake: Tensor) -> Measure:
    """`|m_1 - m_2|^2 + tr(A + B - 2 (A^(1/2) B A^(1/2))^(1/2))` of means m and covariances A and B.

    After Dowson & Landau (1982), as a measure of samples by their features Heusel et al. (2017, arXiv:1706.08500).
    It comes from the singular values of a product of two triangular factors, never from the root of a matrix: it is
    real, at least 0, and finite where covariances are singular, as with fewer points than features.

    It is too large on average, by about c / N at N points each: an upper bound in expectation. Compare only values of
    one N, quote the floor (`measures.floor`), or see `frechet_extrapolated`. The standard error is that of first
    order in the draw of both samples. Where the laws are equal it is too large, by a factor near sqrt(2).

    Args:
        real: features `(n, d)`, n >= 2.
        fake: features `(m, d)`.

    Returns:
        Squared, as is the custom, although called a distance.

    Raises:
        ShapeError: not two tables of one width.
        DataError: an element is not finite.
    """
    real, fake = as_samples(real, fake)
    between = real.mean(0) - fake.mean(0)
    a, b = _centred(real), _centred(fake)
    q_a, r_a = torch.linalg.qr(a)
    q_b, r_b = torch.linalg.qr(b)
    left, singular, right = torch.linalg.svd(r_a @ r_b.mT, full_matrices=False)
    value = between.square().sum() + a.square().sum() + b.square().sum() - 2 * singular.sum()

    turn = left @ right  # arbitrary where a singular value is 0, but there it meets a direction without variance
    # where the optimal map sends each point, in the scale of a and b; its loss is the derivative by a point's weight
    loss_a = 2 * a @ between * math.sqrt(len(a) - 1) + (len(a) - 1) * (a * (a - q_a @ turn @ r_b)).sum(1)
    loss_b = -2 * b @ between * math.sqrt(len(b) - 1) + (len(b) - 1) * (b * (b - q_b @ turn.mT @ r_a)).sum(1)
    error = math.sqrt(float(loss_a.var() / len(a) + loss_b.var() / len(b)))
    return Measure(max(0.0, float(value)), error, UNIT, Kind.UPPER)


def _centred(x: Tensor) -> Tensor:
    """`(n, d)` whose `x' x` is the unbiased covariance."""
    return (x - x.mean(0)) / math.sqrt(len(x) - 1)


def frechet_extrapolated(real: Tensor, fake: Tensor, generator: torch.Generator) -> Measure:
    """The Fréchet distance at infinitely many points: a line in 1/N through N and N/2 (after Chong & Forsyth 2020).

    `2 F(N) - (F of the first halves + F of the second halves) / 2`: what goes as 1/N cancels, so that equal laws come
    out around 0, on either side. What goes as 1/N^2 stays: N should be many times the number of features.

    Args:
        real: features `(n, d)`, n >= 4.
        fake: features `(m, d)`.
        generator: shuffles both before they are halved.

    Raises:
        ShapeError: not two tables of one width.
        DataError: an element is not finite.
    """
    real, fake = as_samples(real, fake, least=4)
    real, fake = (x[torch.randperm(len(x), generator=generator)][: len(x) // 2 * 2] for x in (real, fake))
    whole = frechet_distance(real, fake)
    halves = [frechet_distance(a, b).value for a, b in zip(real.chunk(2), fake.chunk(2), strict=True)]
    return Measure(2 * whole.value - sum(halves) / 2, whole.standard_error, UNIT, Kind.ESTIMATE)
