"""Entropy and mutual information where they are known: why a rate is measured by the second and not by the first.

An exact real number has infinite entropy: rounded to ever smaller steps, a latent costs `h - ln(step)` nats, which
grows without bound. What remains finite of it, the differential entropy h, depends on units and may be negative. The
mutual information of a latent with noise and what it tells of is finite, never negative, and the same in every unit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rdae.errors import DataError, ShapeError, TableError
from rdae.measures.measure import Kind, Measure, mean_of
from rdae.priors.factorised import LOG_CUMULATIVES, unit_bin_log_mass

__all__ = [
    "RoundedChannel",
    "differential_entropy",
    "discrete_mutual_information",
    "gaussian_channel_capacity",
    "gaussian_cross_entropy",
    "gaussian_mutual_information",
    "mutual_information",
    "quantised_entropy",
    "rounded_channel",
]

UNIT = "nats"
TAIL = 50.0  # scales summed on either side of the mean: e**-50 = 2e-22 of a Laplace or logistic density is left out
SUM_TOLERANCE = 1e-9
SINGULAR = 1e-12  # a correlation so close to 1 is 1, but for rounding
QUADRATURE_SPREAD = 9.0  # standard deviations; 2e-19 of a Gaussian lies outside
QUADRATURE_STEP = 0.2  # of the narrower of noise and signal
WINDOW = 12.0  # standard deviations of the noise, plus a step, within which a rounded output is counted
MOST_CELLS = 1 << 22
FINE = 1e5  # scales over step from which on entropy is h - ln(step) to some (step / scale)**2 / 24 = 4e-12 nats


def _exact(value: float | Tensor | np.floating) -> Measure:
    return Measure(float(value), 0.0, UNIT, Kind.EXACT)


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise DataError(f"{name} is {value}, but must be positive and finite. Pass {name} > 0.")
    return float(value)


def quantised_entropy(scale: float, step: float, family: str = "gaussian", offset: float = 0.0) -> Measure:
    """Entropy of a density rounded to multiples of a step, in nats, by summation over all multiples that matter.

    As the step falls it approaches `differential_entropy(scale, family) - ln(step)`, which is taken where the step is
    below 1e-5 scales: it is as exact there as the sum, and the multiples are too many. Memory is bounded.

    Args:
        scale: of the family: standard deviation of "gaussian", the usual scale of "logistic" and "laplace".
        step: distance of neighbouring multiples, in the unit of the scale.
        family: a key of `rdae.priors.factorised.LOG_CUMULATIVES`.
        offset: mean of the density, in the unit of the scale: it may lie between multiples.

    Raises:
        DataError: scale or step not positive.
        ShapeError: no such family.
    """
    _positive("scale", scale)
    _positive("step", step)
    if scale / step > FINE:
        return _exact(differential_entropy(scale, family).value - math.log(step))
    middle, spread = (torch.tensor(x, dtype=torch.float64) for x in (offset / step, scale / step))
    reach = math.ceil(TAIL * spread) + 1
    middle = middle - middle.round()  # whole steps of the mean only rename the multiples
    total = 0.0
    for first in range(-reach, reach + 1, MOST_CELLS):
        bins = torch.arange(first, min(first + MOST_CELLS, reach + 1), dtype=torch.float64)
        total += float(_terms(unit_bin_log_mass(bins, middle, spread, family)).sum())
    return _exact(total)


def _terms(log_mass: Tensor) -> Tensor:
    """`-p ln p`, 0 where p is."""
    mass = log_mass.exp()
    return mass * torch.where(mass > 0, -log_mass, torch.zeros_like(mass))


def differential_entropy(scale: float, family: str = "gaussian") -> Measure:
    """`-E ln p(z)` of a density in nats; grows by ln a if z is multiplied by a, and is negative for narrow densities.

    Args:
        scale, family: as for `quantised_entropy`.

    Raises:
        DataError: scale not positive.
        ShapeError: no such family.
    """
    at_one = {"gaussian": 0.5 * math.log(2 * math.pi * math.e), "laplace": 1 + math.log(2), "logistic": 2.0}
    if family not in at_one:
        raise ShapeError(f"There is no family {family!r} of densities. Choose one of {', '.join(LOG_CUMULATIVES)}.")
    return _exact(at_one[family] + math.log(_positive("scale", scale)))


def gaussian_cross_entropy(mean: ArrayLike, scale: ArrayLike, model_mean: ArrayLike, model_scale: ArrayLike) -> Measure:
    """`-E ln p(z)` in nats for independent Gaussian z and a Gaussian model p, summed over elements. Shapes broadcast.

    If z and p are both multiplied by a, it grows by ln a an element: no number of nats to be sent.

    Args:
        mean, scale: of z, mean and standard deviation.
        model_mean, model_scale: of p.

    Raises:
        DataError: a standard deviation of the model that is not positive, or of z that is negative.
    """
    m, s, mu, sigma = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (mean, scale, model_mean, model_scale)))
    if not (sigma > 0).all() or not (s >= 0).all():
        raise DataError("A standard deviation is negative, or that of the model 0. Pass scale >= 0, model_scale > 0.")
    nats = 0.5 * math.log(2 * math.pi) + np.log(sigma) + (s**2 + (m - mu) ** 2) / (2 * sigma**2)
    return _exact(nats.sum())


def mutual_information(log_conditional: Tensor, log_marginal: Tensor) -> Measure:
    """Estimate of `I(y; z) = E ln [p(z | y) / p(z)]` from samples, in nats.

    Args:
        log_conditional: ln p(z | y) of each pair (y, z) drawn together, `(n,)`.
        log_marginal: ln p(z) of the same z, `(n,)`: the true law of z, the mean of p(z | y) over y. With a model in
            its place the result estimates an upper bound, the cross mutual information.

    Raises:
        ShapeError: other shapes.
    """
    if log_conditional.ndim != 1 or log_conditional.shape != log_marginal.shape:
        raise ShapeError(
            f"log_conditional is {tuple(log_conditional.shape)}, log_marginal {tuple(log_marginal.shape)}. "
            "Pass one number for each pair in both, (n,)."
        )
    return mean_of(log_conditional.double() - log_marginal.double(), UNIT, Kind.ESTIMATE)


def discrete_mutual_information(joint: ArrayLike) -> Measure:
    """I of two discrete variables from the table of their joint probabilities, `(rows, columns)`, in nats.

    Raises:
        ShapeError: no table.
        TableError: entries that are negative, NaN or do not sum to 1.
    """
    p = np.asarray(joint, dtype=np.float64)
    if p.ndim != 2:
        raise ShapeError(f"joint has shape {p.shape}. Pass a table (rows, columns).")
    if not (p >= 0).all() or not abs(p.sum() - 1) <= SUM_TOLERANCE:
        raise TableError(f"joint sums to {p.sum():.12g} or has a negative entry. Pass p >= 0 divided by its sum.")
    product = np.outer(p.sum(1), p.sum(0))
    used = p > 0
    return _exact(max(float((p[used] * np.log(p[used] / product[used])).sum()), 0.0))


def gaussian_mutual_information(covariance: ArrayLike, first: int) -> Measure:
    """I(x; y) of jointly Gaussian vectors from their covariance, in nats: `-sum_i ln(1 - rho_i**2) / 2`.

    The rho are the canonical correlations. Infinite if a combination of x is a combination of y.

    Args:
        covariance: of x and y together, `(n, n)`, symmetric.
        first: length of x; the other rows are y.

    Raises:
        ShapeError: no square matrix, or nothing left for x or y.
        DataError: not symmetric, no covariance, or x or y has a combination that does not vary.
    """
    matrix = np.asarray(covariance, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not 0 < first < len(matrix):
        raise ShapeError(
            f"covariance has shape {matrix.shape}, and first is {first}. "
            "Pass (n, n) and the length of x, at least 1 and less than n."
        )
    deviation = np.sqrt(np.maximum(np.diag(matrix), 0.0))
    if not np.isfinite(matrix).all() or not (deviation > 0).all():
        raise DataError("The covariance holds NaN, infinities or variances of 0. Leave out what does not vary.")
    correlation = matrix / deviation / deviation[:, None]
    if not np.allclose(correlation, correlation.T, rtol=0, atol=1e-8):
        raise DataError("The covariance is not symmetric. Pass (covariance + covariance.T) / 2 if it should be.")
    whitened = _whitened(correlation[:first, :first], correlation[:first, first:], "x")
    whitened = _whitened(correlation[first:, first:], whitened.T, "y")
    rho = np.linalg.svd(whitened, compute_uv=False)
    if rho.max() > 1 + 1e-8:
        raise DataError(f"A correlation is {rho.max():g}: the matrix is no covariance. Estimate x and y together.")
    if rho.max() > 1 - SINGULAR:
        return _exact(math.inf)
    return _exact(-0.5 * float(np.log1p(-(rho**2)).sum()))


def _whitened(own: np.ndarray, other: np.ndarray, name: str) -> np.ndarray:
    """`L^-1 other` for the Cholesky factor L of a correlation matrix."""
    try:
        factor = np.linalg.cholesky(own)
    except np.linalg.LinAlgError:
        raise DataError(
            f"The covariance of {name} is singular or none. Leave out elements of {name} that others determine."
        ) from None
    return np.linalg.solve(factor, other)


def gaussian_channel_capacity(power: float, noise: ArrayLike) -> Measure:
    """Capacity of Gaussian channels used side by side: the largest I(x; x + noise) over all laws of x, in nats.

    One channel has `ln(1 + P / N) / 2`. Several share the power by water-filling: the quietest get most, the noisiest
    perhaps none. It is a maximum over inputs; the mutual information of a given input is a rate that can be reached.

    Args:
        power: P, the largest mean of `x**2` summed over channels.
        noise: N, variance of the noise, one number or `(channels,)`.

    Raises:
        DataError: a negative power, or a noise that is not positive.
    """
    variances = np.sort(np.atleast_1d(np.asarray(noise, dtype=np.float64)).ravel())
    if not 0 <= power < math.inf:
        raise DataError(f"power is {power}, but a mean square is 0 or more and finite. Check its sign.")
    if not variances.size or not (variances > 0).all() or not np.isfinite(variances).all():
        raise DataError("noise has no channel, or one without noise, whose capacity is infinite. Pass variances > 0.")
    used = np.arange(1, len(variances) + 1)
    levels = (power + np.cumsum(variances)) / used  # of the water, if so many channels are used
    level = levels[np.flatnonzero(levels >= variances)[-1]]
    return _exact(0.5 * float(np.log(np.maximum(level / variances, 1.0)).sum()))


class RoundedChannel(NamedTuple):
    """A noisy latent z = a (y + noise), y ~ N(0, 1), rounded to multiples of a step. Each is an array over the cases.

    Args:
        scale: a.
        step: of rounding.
        code_length: entropy of the rounded z, nats.
        differential: `h(z) - ln(step)`, which the code length approaches, nats.
        information: I(y; round(z)), nats: what of the code length tells of y.
        limit: I(y; z), nats, which rounding with no step exceeds.
    """

    scale: np.ndarray
    step: np.ndarray
    code_length: np.ndarray
    differential: np.ndarray
    information: np.ndarray
    limit: np.ndarray


def rounded_channel(noise: float, steps: ArrayLike, scales: ArrayLike = 1.0) -> RoundedChannel:
    """Code length against mutual information as rounding gets finer, or as the latent is multiplied by a number.

    Args:
        noise: standard deviation of the noise beside y, whose standard deviation is 1.
        steps: of rounding, one or `(cases,)`.
        scales: a, one or `(cases,)`.

    Raises:
        DataError: a number that is not positive.
    """
    sigma = _positive("noise", noise)
    step, scale = np.broadcast_arrays(np.atleast_1d(np.asarray(steps, float)), np.atleast_1d(np.asarray(scales, float)))
    spread = math.hypot(1, sigma)
    rows = []
    for one_step, one_scale in zip(step, scale, strict=True):
        unit = _positive("scale", one_scale) / _positive("step", one_step)  # a / step: only it matters to what is sent
        length = quantised_entropy(spread, 1 / unit).value
        differential = differential_entropy(spread * one_scale).value - math.log(one_step)
        joint = [[1.0, one_scale], [one_scale, (one_scale * spread) ** 2]]
        limit = gaussian_mutual_information(joint, 1).value
        rows.append((length, differential, length - _noise_entropy(sigma, 1 / unit), limit))
    return RoundedChannel(scale.copy(), step.copy(), *np.array(rows).T)


def _noise_entropy(sigma: float, step: float) -> float:
    """E_y H(round(y + noise) | y) for y ~ N(0, 1): quadrature over y, summation over the bins near it."""
    if sigma / step > FINE:
        return differential_entropy(sigma).value - math.log(step)
    spacing = QUADRATURE_STEP * min(sigma, 1.0)
    count = math.ceil(QUADRATURE_SPREAD / spacing)
    y = spacing * torch.arange(-count, count + 1, dtype=torch.float64)
    weight = torch.exp(-(y**2) / 2)
    weight /= weight.sum()
    reach = math.ceil(WINDOW * sigma / step) + 1
    near = torch.arange(-reach, reach + 1, dtype=torch.float64)
    scale = torch.tensor(sigma / step, dtype=torch.float64)
    rows = max(1, MOST_CELLS // len(near))
    total = 0.0
    for part, share in zip(y.split(rows), weight.split(rows), strict=True):
        mean = part[:, None] / step
        total += float(share @ _terms(unit_bin_log_mass(mean.round() + near, mean, scale, "gaussian")).sum(1))
    return total
