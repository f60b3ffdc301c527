"""Are the coordinates of a latent independent of each other? Kernels, a permutation test, and the Gaussian answer."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rdae.errors import DataError, ShapeError
from rdae.measures.measure import Kind, Measure
from rdae.measures.mmd import Kernel, mmd
from rdae.measures.pairs import AT_ONCE, as_samples

__all__ = [
    "IndependenceTest", "dhsic", "dhsic_penalty", "gaussian_total_correlation", "independence_test",
    "mmd_to_marginals", "product_of_marginals", "sample_total_correlation",
]  # fmt: skip

SINGULAR = 1e-12  # smallest eigenvalue of a correlation matrix that is 0 but for rounding, of float32 too
MEDIAN_OF = 1000  # order statistics are enough for a median of distances


class IndependenceTest(NamedTuple):
    """dHSIC of a sample beside dHSIC where the dependence has been permuted away."""

    statistic: Measure
    null_mean: float  # over permutations: the floor of the statistic, which is never 0
    p_value: float  # uniform on multiples of 1 / (permutations + 1) where the columns are independent


# --- dHSIC ---------------------------------------------------------------------------------------------------------


def dhsic_penalty(z: Tensor) -> Tensor:
    """dHSIC, the Hilbert-Schmidt criterion for joint independence of d variables, a scalar with gradients.

    The squared MMD between the joint law and the product of its marginals under a product of Gaussian kernels,
    `mean_ij prod_k K_ij + prod_k mean_ij K_ij - 2 mean_i prod_k mean_j K_ij` over the d kernel matrices K (Pfister et
    al. 2018, arXiv:1603.00285). At least 0, and too large by some c / n.

    Args:
        z: `(n, d)`, a variable a column. Bandwidths are the median distances within columns, without gradient.

    Raises:
        ShapeError: not a table of two rows and columns or more.
        DataError: an element is not finite, or a column has mostly one value.
    """
    return _combined(*_row_means(z, _bandwidths(z)))


@torch.no_grad()
def dhsic(z: Tensor) -> Measure:
    """dHSIC of `(n, d)` in float64, with its standard error.

    The error is of first order in the draw, the bandwidths as they are: too large by half at independence, where the
    permutations of `independence_test` say more.

    Errors as in `dhsic_penalty`.
    """
    z = z.double()
    bandwidths = _bandwidths(z)
    rows, joint = _row_means(z, bandwidths)
    means, others = rows.mean(0), _products_of_others(rows)
    # derivative of the statistic by the weight of each point: both ends of every average over pairs
    crossed = torch.cat([
        sum(_gram(part, z, k, bandwidths) @ others[:, k] for k in range(z.shape[1])) / len(z)  # type: ignore[misc]
        for part in z.split(max(1, AT_ONCE // len(z)))
    ])  # fmt: skip
    loss = 2 * joint + 2 * rows @ _products_of_others(means[None])[0] - 2 * (rows.prod(1) + crossed)
    error = float(loss.std()) / math.sqrt(len(z))
    return Measure(float(_combined(rows, joint)), error, "dHSIC", Kind.ESTIMATE)


@torch.no_grad()
def independence_test(z: Tensor, generator: torch.Generator, permutations: int = 199) -> IndependenceTest:
    """Permutation test of the joint independence of the columns of `(n, d)`, by dHSIC.

    Permuting columns against each other keeps the marginals and removes the dependence. The p-value counts the sample
    among its permutations, `(1 + number at least as large) / (1 + permutations)`: rejecting at p <= a errs with
    probability a at most, at any n, provided that rows are independent.

    Args:
        z: a variable a column.
        generator: draws permutations.
        permutations: their number, 1 or more; p is never below `1 / (permutations + 1)`.

    Raises:
        ShapeError: not a table of two rows and columns or more.
        DataError: an element is not finite, a column has mostly one value, or there are no permutations.
    """
    if isinstance(permutations, bool) or not isinstance(permutations, int) or permutations < 1:
        raise DataError(
            f"There are {permutations!r} permutations to compare with. Pass a whole number, 1 or more: 199 can reject "
            "at 0.005, 19 at 0.05."
        )
    if z.is_complex():
        raise DataError("Latents are complex. Pass real and imaginary parts as columns of their own.")
    z = z.double()
    bandwidths = _bandwidths(z)  # of each column alone, whatever its order, so every permutation has the same
    statistic = dhsic(z)
    null = torch.stack([
        _combined(*_row_means(_permuted(z, generator), bandwidths)) for _ in range(permutations)
    ])  # fmt: skip
    rounding = 1e-12  # a permutation that changes nothing is a tie
    p_value = (1 + int((null >= statistic.value - rounding).sum())) / (1 + permutations)
    return IndependenceTest(statistic, float(null.mean()), p_value)


def _permuted(z: Tensor, generator: torch.Generator) -> Tensor:
    columns = (column[torch.randperm(len(z), generator=generator)] for column in z.mT[1:])
    return torch.stack([z[:, 0], *columns], 1)


def _combined(rows: Tensor, joint: Tensor) -> Tensor:
    return joint.mean() + rows.mean(0).prod() - 2 * rows.prod(1).mean()


def _row_means(z: Tensor, bandwidths: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the second point, of each kernel `(n, d)` and of their product `(n,)`."""
    rows, joint = [], []
    for part in z.split(max(1, AT_ONCE // len(z))):
        product, means = z.new_ones(()), []
        for k in range(z.shape[1]):
            gram = _gram(part, z, k, bandwidths)
            product = product * gram
            means.append(gram.mean(1))
        rows.append(torch.stack(means, 1))
        joint.append(product.mean(1))
    return torch.cat(rows), torch.cat(joint)


def _gram(part: Tensor, z: Tensor, k: int, bandwidths: Tensor) -> Tensor:
    return torch.exp((part[:, k, None] - z[:, k]).square() * (-0.5 / bandwidths[k] ** 2))


def _products_of_others(values: Tensor) -> Tensor:
    """In column k the product of all columns but k."""
    columns = range(values.shape[1])
    return torch.stack([values[:, [other for other in columns if other != k]].prod(1) for k in columns], 1)


@torch.no_grad()
def _bandwidths(z: Tensor) -> Tensor:
    """Median distance within each column, `(d,)`, from evenly spaced order statistics: the order of rows has no say."""
    if z.ndim != 2 or min(z.shape) < 2:
        raise ShapeError(f"Latents are {tuple(z.shape)}. Pass a table (n, d), 2 or more of each: a variable a column.")
    if not z.isfinite().all():
        raise DataError("An element is not finite. Look for it where the latents were made.")
    ordered = z.sort(0).values[:: math.ceil(len(z) / MEDIAN_OF)]
    first, second = torch.triu_indices(len(ordered), len(ordered), 1, device=z.device)
    medians = torch.stack([(column[second] - column[first]).median() for column in ordered.mT])
    if (medians == 0).any():
        column = int((medians == 0).nonzero()[0])
        raise DataError(f"Column {column} has mostly one value, so no distance to measure by. Leave such columns out.")
    return medians


# --- product of the marginals --------------------------------------------------------------------------------------


def product_of_marginals(z: Tensor, generator: torch.Generator) -> Tensor:
    """Points with the marginals of `(n, d)` and independent coordinates: rows shuffled, column k moved on by k rows.

    Every new point takes its coordinates from d different rows, so that its law is exactly the product of the
    marginals. Points less than d apart share rows and are not quite independent of each other. Gradients pass.

    Raises:
        ShapeError: fewer rows than columns.
    """
    if z.ndim != 2 or len(z) < z.shape[1]:
        raise ShapeError(f"Latents are {tuple(z.shape)}. Pass a table (n, d) with no fewer rows than columns.")
    shuffled = z[torch.randperm(len(z), generator=generator)]
    return torch.stack([column.roll(k) for k, column in enumerate(shuffled.mT)], 1)


def mmd_to_marginals(z: Tensor, kernel: Kernel, generator: torch.Generator) -> Measure:
    """MMD^2 between the law of a latent and the product of its marginals, under any kernel.

    One half of the sample stands for the law, `product_of_marginals` of the other half for the product, so that the
    two are independent of each other. Around 0 on either side where the coordinates are independent. For training:
    `mmd_penalty(z, product_of_marginals(other, generator), kernel)`, with z and other two parts of a batch.

    Args:
        z: `(n, d)`, n >= 8 and n >= 2 d.
        kernel: see `mmd`.
        generator: shuffles rows.

    Raises:
        ShapeError: too few rows.
        DataError: an element is not finite.
    """
    z = z[torch.randperm(len(z), generator=generator)]
    law, other = z[: len(z) // 2], z[len(z) // 2 :]
    return mmd(law, product_of_marginals(other, generator), kernel)


# --- Gaussian ------------------------------------------------------------------------------------------------------


def gaussian_total_correlation(covariance: Tensor) -> float:
    """Total correlation `KL(q(z) || prod_j q(z_j))` of a Gaussian, in nats: `-ln det(correlation) / 2`; exact.

    Args:
        covariance: `(d, d)`, or a correlation matrix. Infinite where it is singular: a coordinate is a combination of
            the others, such as one that is there twice.

    Raises:
        DataError: a variance is not positive.
    """
    covariance = covariance.double()
    variances = covariance.diagonal()
    if not (variances > 0).all():
        raise DataError("A variance is not positive: that coordinate is constant. Leave it out.")
    deviations = variances.sqrt()
    eigenvalues = torch.linalg.eigvalsh(covariance / deviations[:, None] / deviations)
    return -0.5 * float(eigenvalues.log().sum()) if eigenvalues[0] > SINGULAR else math.inf


@torch.no_grad()
def sample_total_correlation(z: Tensor) -> Measure:
    """Total correlation of the Gaussian with the covariance of `(n, d)`, in nats, with its standard error.

    It sees correlation only; other dependence is for dHSIC to find. Too large by about `d (d - 1) / (4 n)` on average.
    Infinite, without an error, where a column is a combination of the others, such as a copy.

    Raises:
        ShapeError: not more rows than columns.
        DataError: an element is not finite, or a column is constant.
    """
    z, _ = as_samples(z, z, least=z.shape[-1] + 1)
    if (constant := (z == z[0]).all(0)).any():
        raise DataError(f"Column {int(constant.nonzero()[0])} is constant. Leave it out: it depends on nothing.")
    centred = z - z.mean(0)
    covariance = centred.mT @ centred / (len(z) - 1)
    value = gaussian_total_correlation(covariance)
    if value == math.inf:
        return Measure(value, math.nan, "nats", Kind.ESTIMATE)
    # derivative by the weight of a point: half its squared length, columns scaled one by one, less that when whitened
    apart = (centred.square() / covariance.diagonal()).sum(1)
    whitened = (centred * torch.linalg.solve(covariance, centred.mT).mT).sum(1)
    error = 0.5 * float((apart - whitened).std()) / math.sqrt(len(z))
    return Measure(value, error, "nats", Kind.ESTIMATE)
