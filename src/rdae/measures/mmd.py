"""Maximum mean discrepancy: how far apart the mean features of two samples are under a kernel; its relatives.

`MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)` (Gretton et al. 2012). The estimate here is the U-statistic, which
leaves out pairs of a point with itself: its mean is MMD^2 at every sample size. Where both samples come from one law it
is 0 on average, hence often negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rdae.errors import DataError, ShapeError
from rdae.measures.measure import Kind, Measure, mean_of
from rdae.measures.pairs import AT_ONCE, as_samples, squared_distances

__all__ = [
    "WAE_SCALES", "Kernel", "cubic", "energy_distance", "gaussian_mmd",
    "inverse_multiquadric", "kid", "median_distance", "mmd", "mmd_penalty", "negative_distance", "rbf",
]  # fmt: skip

Kernel = Callable[[Tensor, Tensor], Tensor]  # (n, d) and (m, d) to (n, m)
MEDIAN_OF = 2000  # rows are enough for a median of distances
WAE_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # factors of 2 d sigma^2 (Tolstikhin et al. 2018)


# --- kernels -------------------------------------------------------------------------------------------------------


def rbf(bandwidth: float, scales: tuple[float, ...] = (1.0,)) -> Kernel:
    """Gaussian kernel `exp(-|a - b|^2 / (2 s^2))`, summed over `s = scale * bandwidth`."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        distances = squared_distances(a, b)
        return _sum(torch.exp(distances * (-0.5 / (scale * bandwidth) ** 2)) for scale in scales)

    return kernel


def inverse_multiquadric(constant: float, scales: tuple[float, ...] = (1.0,)) -> Kernel:
    """Kernel `C / (C + |a - b|^2)`, summed over `C = scale * constant`.

    Its tails are heavy, so that outliers still feel a force. To match N(0, sigma^2 I) in d dimensions Tolstikhin et al.
    (2018, arXiv:1711.01558) take `constant = 2 d sigma^2`, which is E|z - z'|^2, and `scales = WAE_SCALES`.
    """

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        distances = squared_distances(a, b)
        return _sum(scale * constant / (scale * constant + distances) for scale in scales)

    return kernel


def cubic(a: Tensor, b: Tensor) -> Tensor:
    """Kernel `(a . b / d + 1)^3`: compares means, covariances and third moments; that of the kernel distance KID."""
    return (a @ b.mT / a.shape[1] + 1) ** 3


def negative_distance(a: Tensor, b: Tensor) -> Tensor:
    """Kernel `-|a - b|`, whose MMD^2 is the energy distance."""
    return -torch.cdist(a, b)


def median_distance(x: Tensor, y: Tensor) -> float:
    """Median distance between points of both samples together, the usual bandwidth of `rbf`.

    Of more than 2000 points every so manieth is looked at.

    Raises:
        DataError: most points are equal.
    """
    pooled = torch.cat(as_samples(x, y, least=1))
    pooled = pooled[:: math.ceil(len(pooled) / MEDIAN_OF)]
    above = torch.triu_indices(len(pooled), len(pooled), 1, device=pooled.device)
    median = float(squared_distances(pooled, pooled)[above[0], above[1]].median().sqrt())
    if median < 1e-7 * float(pooled.std(0).norm()) or median == 0:
        raise DataError("More than half of the pairs of points are equal, so their median distance is 0. Name a scale.")
    return median


def _sum(terms: Iterator[Tensor]) -> Tensor:
    total = next(terms)
    for term in terms:
        total = total + term
    return total


# --- estimates -----------------------------------------------------------------------------------------------------


def mmd_penalty(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """Unbiased MMD^2 between two samples, a scalar with gradients: what WAE-MMD adds to its distortion.

    Args:
        x: `(n, d)`, n >= 2, such as encoded examples.
        y: `(m, d)`, m >= 2, such as draws of the prior.
        kernel: such as `inverse_multiquadric(2 * d, WAE_SCALES)`.

    Raises:
        ShapeError: not two tables of one width with two rows or more.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ShapeError(
            f"Latents are {tuple(x.shape)} and {tuple(y.shape)}. Flatten both to (n, d) with n of 2 or more."
        )
    with torch.autocast(x.device.type, enabled=False):  # differences of means that are nearly equal
        x, y = (v.to(torch.promote_types(v.dtype, torch.float32)) for v in (x, y))
        across = sum((kernel(part, y).sum() for _, part in _parts(x, len(y))), x.new_zeros(()))
        return _mean_within(x, kernel) + _mean_within(y, kernel) - 2 / (len(x) * len(y)) * across


def _mean_within(x: Tensor, kernel: Kernel) -> Tensor:
    total = x.new_zeros(())
    for start, part in _parts(x, len(x)):
        values = kernel(part, x)
        total = total + values.sum() - values.diagonal(start).sum()
    return total / (len(x) * (len(x) - 1))


def _parts(x: Tensor, others: int) -> Iterator[tuple[int, Tensor]]:
    """Blocks of rows, with the number of their first, such that a block against `others` rows stays in bounds."""
    rows = max(1, AT_ONCE // others)
    return ((start, x[start : start + rows]) for start in range(0, len(x), rows))


@torch.no_grad()
def mmd(x: Tensor, y: Tensor, kernel: Kernel, unit: str = "MMD squared") -> Measure:
    """Unbiased MMD^2 between two samples of independent points, with its standard error.

    The variance has five parts that do not overlap (Hoeffding): the witness function at the points of x and of y, and
    what is left of the kernel on pairs within x, within y and across. Each is estimated without bias, so that the error
    holds far from equality, and at it, where the first two vanish and the usual formula of first order fails. There it
    comes out about a quarter too large, because their estimate is not let below 0.

    Args:
        x: `(n, d)`, n >= 4.
        y: `(m, d)`, m >= 4.
        kernel: of which memory sees a block at a time.
        unit: for the table.

    Raises:
        ShapeError: not two tables of one width, or too few rows.
        DataError: an element is not finite.
    """
    x, y = as_samples(x, y, least=4)
    n, m = len(x), len(y)
    within_x, within_y, across = _within(x, kernel), _within(y, kernel), _across(x, y, kernel)
    value = within_x.mean + within_y.mean - 2 * across.mean
    witness_x = (within_x.rows / (n - 2) - across.rows / m).var() - within_x.left / (n - 2) - across.left / m
    witness_y = (within_y.rows / (m - 2) - across.columns / n).var() - within_y.left / (m - 2) - across.left / n
    points = max(0.0, 4 * float(witness_x / n + witness_y / m))  # less its own noise, so it may come out below 0
    pairs = 2 * within_x.left / (n * (n - 1)) + 2 * within_y.left / (m * (m - 1)) + 4 * across.left / (n * m)
    return Measure(value, math.sqrt(points + pairs), unit, Kind.ESTIMATE)


class _Pairs(NamedTuple):
    rows: Tensor  # sums over rows
    columns: Tensor  # sums over columns
    mean: float  # over pairs
    left: float  # mean square of the kernel, less what a sum of a row's and a column's value explains


def _across(x: Tensor, y: Tensor, kernel: Kernel) -> _Pairs:
    n, m = len(x), len(y)
    rows, columns, squares = [], y.new_zeros(m), 0.0
    for _, part in _parts(x, m):
        values = kernel(part, y)
        rows.append(values.sum(1))
        columns += values.sum(0)
        squares += float(values.square().sum())
    sums, total = torch.cat(rows), float(columns.sum())
    # residual of the two-way table: its mean square has the interaction for its mean
    left = squares - float(sums.square().sum()) / m - float(columns.square().sum()) / n + total**2 / (n * m)
    return _Pairs(sums, columns, total / (n * m), max(0.0, left / ((n - 1) * (m - 1))))


def _within(x: Tensor, kernel: Kernel) -> _Pairs:
    n = len(x)
    rows, squares = [], 0.0
    for start, part in _parts(x, n):
        values = kernel(part, x)
        values.diagonal(start).zero_()
        rows.append(values.sum(1))
        squares += float(values.square().sum())
    sums = torch.cat(rows)
    total = float(sums.sum())
    # as above for pairs i != j (Song et al. 2012, unbiased HSIC of a sample with itself)
    left = squares + total**2 / ((n - 1) * (n - 2)) - 2 * float(sums.square().sum()) / (n - 2)
    return _Pairs(sums, sums, total / (n * (n - 1)), max(0.0, left / (n * (n - 3))))


def energy_distance(x: Tensor, y: Tensor) -> Measure:
    """`2 E|x - y| - E|x - x'| - E|y - y'|`, unbiased, in the unit of the samples; 0 only for equal laws.

    In one dimension this is `2 * integral (F - G)^2` of the distribution functions (Szekely & Rizzo 2013). It has no
    bandwidth to choose. Arguments and errors as in `mmd`.
    """
    return mmd(x, y, negative_distance, "unit of the samples")


def kid(real: Tensor, fake: Tensor, generator: torch.Generator, subset: int = 1000) -> Measure:
    """Kernel distance of features: unbiased MMD^2 under `cubic`, the mean over disjoint subsets of both samples.

    The original draws overlapping subsets (Binkowski et al. 2018, arXiv:1801.01401), whose spread says nothing of the
    error; disjoint ones are independent, and the standard error is theirs. `mmd(real, fake, cubic)` uses all pairs at
    once and is somewhat sharper, at a cost that grows with the square of the sample.

    Args:
        real: features `(n, d)`.
        fake: features `(m, d)`.
        generator: shuffles both; data are often sorted.
        subset: points of each sample that are compared at once.

    Raises:
        ShapeError: not two tables of one width, or fewer than two subsets fit into one of them.
        DataError: an element is not finite, or a subset is of fewer than 2 points.
    """
    if subset < 2:
        raise DataError(f"subset is {subset}, but only two points or more make a pair. Pass 2 or more.")
    real, fake = as_samples(real, fake)
    count = min(len(real), len(fake)) // subset
    if count < 2:
        raise ShapeError(
            f"Samples of {len(real)} and {len(fake)} have no two subsets of {subset}, and one has no spread. Pass "
            f"{2 * subset} rows or more, or subset={max(2, min(len(real), len(fake)) // 4)}; or use mmd with cubic."
        )
    shuffled = (sample[torch.randperm(len(sample), generator=generator)] for sample in (real, fake))
    pairs = zip(*(sample[: count * subset].chunk(count) for sample in shuffled), strict=True)
    values = torch.stack([mmd_penalty(a, b, cubic) for a, b in pairs])
    return mean_of(values, "MMD squared", Kind.ESTIMATE)


def gaussian_mmd(mean_x: Tensor, covariance_x: Tensor, mean_y: Tensor, covariance_y: Tensor, bandwidth: float) -> float:
    """MMD^2 between two Gaussians under `rbf(bandwidth)`, in closed form.

    A difference of two draws is Gaussian with mean m and covariance C, and
    `E exp(-|u|^2 / (2 s^2)) = det(I + C / s^2)^(-1/2) exp(-m' (s^2 I + C)^-1 m / 2)`.

    Args:
        mean_x: `(d,)`; likewise `mean_y`.
        covariance_x: `(d, d)`, may be singular; likewise `covariance_y`.
        bandwidth: s.
    """

    def expected(mean: Tensor, covariance: Tensor) -> float:
        spread = covariance.double() + bandwidth**2 * torch.eye(len(mean), dtype=torch.float64, device=mean.device)
        form = mean @ torch.linalg.solve(spread, mean)
        return math.exp(-0.5 * float(torch.logdet(spread) + form) + len(mean) * math.log(bandwidth))

    mean = (mean_x - mean_y).double()
    within = expected(0 * mean, 2 * covariance_x) + expected(0 * mean, 2 * covariance_y)
    return within - 2 * expected(mean, covariance_x + covariance_y)
