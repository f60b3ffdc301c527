"""Do samples lie where the data lie, and the data where the samples lie? Judged by balls about nearest neighbours.

A sample's *manifold* is the union of balls about its points, each with the distance to the k-th neighbour within the
sample as radius. The numbers of real and fake points must be equal: radii, and so all values, depend on them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rdae.errors import DataError, ShapeError
from rdae.measures.measure import Kind, Measure, mean_of
from rdae.measures.pairs import AT_ONCE, as_samples, squared_distances

__all__ = ["DensityCoverage", "PrecisionRecall", "density_coverage", "expected_coverage", "precision_recall"]

ROUNDING = 1e-12  # of the largest squared norm: more than float64 loses in a squared distance


class PrecisionRecall(NamedTuple):
    """Shares from 0 to 1; errors are over the points that are judged, with the balls as they are."""

    precision: Measure  # share of fake points in a ball about a real one: quality
    recall: Measure  # share of real points in a ball about a fake one: variety


class DensityCoverage(NamedTuple):
    """Errors are over the points that are judged, with the balls as they are."""

    density: Measure  # real balls about a fake point, divided by k; 1 on average for equal laws, may exceed it
    coverage: Measure  # share of real points with a fake one in their ball


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991).

    Both are 1 for a copy of the data, but not for a second sample of the data, and an outlier has a ball that takes in
    much: read them beside their values between two samples of the data (`measures.floor`).

    Args:
        real: features `(n, d)`.
        fake: features `(n, d)`, as many.
        k: the neighbour that sets a radius.

    Raises:
        ShapeError: unequal numbers, other widths, or not more than k points.
        DataError: an element is not finite, or k is below 1.
    """
    real, fake, slack = _prepared(real, fake, k)
    inside_real, inside_fake = [], torch.zeros(len(real), dtype=torch.bool, device=real.device)
    radii_real, radii_fake = _radii(real, k) + slack, _radii(fake, k) + slack
    for start, distances in _blocks(fake, real):
        inside_real.append((distances <= radii_real).any(1))
        inside_fake |= (distances <= radii_fake[start : start + len(distances), None]).any(0)
    return PrecisionRecall(_share(torch.cat(inside_real)), _share(inside_fake))


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020, arXiv:2002.09797): only real balls count, so fake outliers do not.

    A copy of the data has density and coverage 1. A second sample of the data has coverage `expected_coverage(n, k)` on
    average, 0.97 at k = 5: read it beside that.

    Args:
        real: features `(n, d)`.
        fake: features `(n, d)`, as many.
        k: the neighbour that sets a radius.

    Raises:
        ShapeError: unequal numbers, other widths, or not more than k points.
        DataError: an element is not finite, or k is below 1.
    """
    real, fake, slack = _prepared(real, fake, k)
    radii = _radii(real, k)
    density, covered = [], torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for _, distances in _blocks(fake, real):
        # the k-th neighbour lies on the sphere: without it a copy counts k balls, and density is 1
        density.append((distances < radii - slack).sum(1).double() / k)
        covered |= (distances <= radii + slack).any(0)
    return DensityCoverage(mean_of(torch.cat(density), "real balls / k", Kind.ESTIMATE), _share(covered))


def expected_coverage(n: int, k: int = 5) -> float:
    """Mean coverage between two independent samples of n points of one law: `1 - prod_{i=1..k} (n - i) / (2n - i)`.

    A real point is missed where its k nearest among the 2n - 1 others are all real. Whatever the law and the dimension;
    close to `1 - 2^-k`.

    Raises:
        DataError: k is below 1, or not below n.
    """
    _check_neighbour(k)
    if k >= n:
        raise DataError(f"{n} points have no {k}-th neighbour. Pass k from 1 to {n - 1}, or more points.")
    return 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))


def _prepared(real: Tensor, fake: Tensor, k: int) -> tuple[Tensor, Tensor, float]:
    """Both samples about one middle, and the error of a squared distance."""
    _check_neighbour(k)
    real, fake = as_samples(real, fake)
    if len(real) != len(fake):
        raise ShapeError(f"There are {len(real)} real and {len(fake)} fake points. Cut both to one number.")
    if len(real) <= k:
        raise ShapeError(f"{len(real)} points have no neighbour number {k}. Pass {k + 1} rows or more, or a smaller k.")
    middle = real.mean(0)
    real, fake = real - middle, fake - middle
    return real, fake, ROUNDING * float(torch.cat([real, fake]).square().sum(1).max())


def _check_neighbour(k: int) -> None:
    if k < 1:
        raise DataError(f"k is {k}, but the nearest neighbour is number 1. Pass k of 1 or more.")


def _blocks(a: Tensor, b: Tensor):
    rows = max(1, AT_ONCE // len(b))
    return ((start, squared_distances(a[start : start + rows], b)) for start in range(0, len(a), rows))


def _radii(x: Tensor, k: int) -> Tensor:
    """Squared distance of each point to its k-th neighbour; the nearest of all is the point itself."""
    return torch.cat([distances.kthvalue(k + 1, 1).values for _, distances in _blocks(x, x)])


def _share(inside: Tensor) -> Measure:
    return mean_of(inside.double(), "share", Kind.ESTIMATE)
