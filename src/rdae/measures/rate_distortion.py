"""Rate-distortion functions in closed form: the fewest nats at which a source can be sent with a distortion.

R(D) is the smallest mutual information I(y; y_hat) over all channels whose mean distortion is at most D. It falls, is
convex, and is 0 from D_max on, where a constant reconstruction will do. Where a codec or a model that minimises
`rate + lam * distortion` stands on the curve, `dR/dD = -lam`: the functions named `..._lam` give that multiplier.

Rates are in nats per example, distortions sums over an example's elements. Arguments broadcast; scalars give scalars.
All of it is in Cover & Thomas 2006, "Elements of Information Theory", chapter 10, except where a docstring says more.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from rdae.errors import DataError, ShapeError

__all__ = [
    "WaterFilling",
    "bernoulli_distortion",
    "bernoulli_lam",
    "bernoulli_rate",
    "binary_entropy",
    "circle_lam",
    "circle_rate",
    "gaussian_distortion",
    "gaussian_lam",
    "gaussian_rate",
    "laplace_distortion",
    "laplace_lam",
    "laplace_rate",
    "shannon_lower_bound",
    "shannon_lower_bound_lam",
    "uniform_letters_lam",
    "uniform_letters_rate",
    "water_filling",
    "water_filling_at_level",
    "water_filling_at_rate",
]

BISECTIONS = 64  # of an interval of ln kappa 80 wide
LARGE_KAPPA = 1e4  # from where a series is more exact than the difference of two Bessel functions
LOG_KAPPA = (-40.0, 40.0)  # beyond, the distortion of the circle is 0 or 1 to the last digit


def _checked(name: str, values: ArrayLike, cure: str, *, positive: bool = False, top: float = math.inf) -> np.ndarray:
    """Float64 numbers from 0 (or above it, if `positive`) to `top`."""
    array = np.asarray(values, dtype=np.float64)
    bad = ~((array > 0) & (array < top) if positive else (array >= 0) & (array <= top))  # NaN is bad
    if bad.any():
        least = "above 0" if positive else "0 or more"
        most = "" if top == math.inf else f", at most {top:g}"
        raise DataError(f"{name} is {array[bad].flat[0]:g}, but must be {least}{most}. {cure}")
    return array


def _distortion(distortion: ArrayLike) -> np.ndarray:
    return _checked("distortion", distortion, "A mean distortion cannot be negative: check its sign and unit.")


def _rate(rate: ArrayLike) -> np.ndarray:
    return _checked("rate", rate, "Pass nats, 0 or more.")


def _log_ratio(above: np.ndarray, below: np.ndarray) -> Any:
    """`max(0, ln(above / below))`; 0 where both are 0, infinite where only `below` is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below >= above, 0.0, np.log(above) - np.log(below))[()]


def gaussian_rate(variance: ArrayLike, distortion: ArrayLike) -> Any:
    """`max(0, ln(variance / D) / 2)`, a Gaussian source under squared error, in nats.

    Args:
        variance: of the source, in u².
        distortion: mean squared error of one element, in u². At 0 the rate is infinite.

    Raises:
        DataError: an argument is negative or NaN.
    """
    return _log_ratio(_variances(variance), _distortion(distortion)) / 2


def gaussian_distortion(variance: ArrayLike, rate: ArrayLike) -> Any:
    """The inverse of `gaussian_rate`, `variance * exp(-2 R)`, in u²."""
    return _variances(variance) * np.exp(-2 * _rate(rate))


def gaussian_lam(variance: ArrayLike, distortion: ArrayLike) -> Any:
    """`-dR/dD` of `gaussian_rate`, `1 / (2 D)` below the variance and 0 above it, in nats per u²."""
    return _reciprocal(2 * _distortion(distortion), _variances(variance) > _distortion(distortion))


def _variances(variance: ArrayLike) -> np.ndarray:
    array = _checked("variance", variance, "Pass variances, not standard deviations with a sign.")
    if np.isinf(array).any():
        raise DataError("variance is infinite. Leave such components out: they cannot be sent with finite error.")
    return array


def _reciprocal(x: np.ndarray, where: np.ndarray) -> Any:
    """`1 / x` where wanted, else 0."""
    with np.errstate(divide="ignore"):
        return np.where(where, 1 / x, 0.0)[()]


class WaterFilling(NamedTuple):
    """A point of the rate-distortion function of a Gaussian vector.

    Args:
        rate: nats.
        distortion: summed squared error, in u².
        level: of the water, in u²: what each component that is coded keeps as its error.
        distortions: of each component, `min(level, variance)`, in the order of the variances.
        lam: `-dR/dD = 1 / (2 level)`, in nats per u²; 0 where the water covers all.
    """

    rate: float
    distortion: float
    level: float
    distortions: np.ndarray
    lam: float


def water_filling_at_level(variances: ArrayLike, level: float) -> WaterFilling:
    """The point of a Gaussian vector's rate-distortion function at a water level: the curve, parameterised.

    Components whose variance lies below the level are not coded; the others all have the error `level`.

    Args:
        variances: of independent components, `(n,)`, in u²; of any Gaussian vector the eigenvalues of its covariance.
        level: in u².

    Raises:
        ShapeError: variances are no vector.
        DataError: an argument is negative or NaN.
    """
    array = _spectrum(variances)
    water = float(_checked("level", level, "Pass a level of 0 or more, in squared units of the data."))
    distortions = np.minimum(array, water)
    rate = float(np.sum(gaussian_rate(array, water)))
    lam = float(gaussian_lam(array.max(), water))
    return WaterFilling(rate, float(distortions.sum()), water, distortions, lam)


def _spectrum(variances: ArrayLike) -> np.ndarray:
    array = _variances(variances)
    if array.ndim != 1 or not len(array):
        raise ShapeError(
            f"variances have shape {array.shape}, not (n,). Pass the eigenvalues of a covariance, "
            "numpy.linalg.eigvalsh(covariance)."
        )
    return array


def water_filling(variances: ArrayLike, distortion: float) -> WaterFilling:
    """The rate of a Gaussian vector at a summed squared error, by reverse water-filling.

    Args:
        variances: of independent components, `(n,)`, in u²; of any Gaussian vector the eigenvalues of its covariance.
        distortion: mean of the squared error summed over components, in u². From the sum of variances on the rate is 0.

    Raises:
        ShapeError: variances are no vector.
        DataError: an argument is negative or NaN.
    """
    array, total = _spectrum(variances), float(_distortion(distortion))
    if total >= array.sum():
        return water_filling_at_level(array, float(array.max()))
    rising = np.sort(array)
    below = np.concatenate([[0.0], np.cumsum(rising)[:-1]])  # error of the k smallest components
    above = len(array) - np.arange(len(array))  # components that share the rest
    full = below + above * rising  # error when the water stands at each variance
    k = min(int(np.searchsorted(full, total, side="right")), len(array) - 1)
    return water_filling_at_level(array, (total - below[k]) / above[k])


def water_filling_at_rate(variances: ArrayLike, rate: float) -> WaterFilling:
    """The inverse of `water_filling`: the least summed squared error of a Gaussian vector at a rate in nats.

    At an infinite rate the error is 0.
    """
    array, nats = _spectrum(variances), float(_rate(rate))
    falling = np.sort(array[array > 0])[::-1]
    if nats == 0 or not len(falling):
        return water_filling_at_level(array, float(array.max()))
    if nats == math.inf:
        return water_filling_at_level(array, 0.0)
    logs = np.log(falling)
    coded = np.arange(1, len(falling) + 1)
    rates = (np.cumsum(logs) - coded * logs) / 2  # when the water stands at each variance
    k = int(np.searchsorted(rates, nats, side="right"))
    return water_filling_at_level(array, math.exp((logs[:k].sum() - 2 * nats) / k))


def binary_entropy(p: ArrayLike) -> Any:
    """`-p ln p - (1 - p) ln(1 - p)` in nats, 0 at 0 and 1."""
    array = _checked("p", p, "Pass a probability.", top=1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (np.where(x > 0, -x * np.log(x), 0.0) for x in (array, 1 - array))
    return (first + second)[()]


def bernoulli_rate(p: ArrayLike, distortion: ArrayLike) -> Any:
    """`h(p) - h(D)`, a coin under Hamming distortion, in nats; 0 from `D = min(p, 1 - p)` on.

    Args:
        p: probability of one of the two letters.
        distortion: probability of an error.

    Raises:
        DataError: p is no probability, or the distortion negative.
    """
    h, d = binary_entropy(p), _distortion(distortion)
    least = np.minimum(p, 1 - np.asarray(p))
    return np.where(d < least, h - binary_entropy(np.minimum(d, 0.5)), 0.0)[()]


def bernoulli_distortion(p: ArrayLike, lam: ArrayLike) -> Any:
    """The error probability at which a coin has the slope -lam: `1 / (1 + exp(lam))`, at most `min(p, 1 - p)`."""
    probability = _checked("p", p, "Pass a probability.", top=1.0)
    multiplier = _checked("lam", lam, "Pass nats per error, 0 or more.")
    return np.minimum(np.exp(-np.logaddexp(0, multiplier)), np.minimum(probability, 1 - probability))


def bernoulli_lam(p: ArrayLike, distortion: ArrayLike) -> Any:
    """`-dR/dD` of `bernoulli_rate`, `ln((1 - D) / D)` or 0, in nats per error."""
    probability = _checked("p", p, "Pass a probability.", top=1.0)
    d = _distortion(distortion)
    return np.where(d < np.minimum(probability, 1 - probability), _log_ratio(1 - np.minimum(d, 0.5), d), 0.0)[()]


def uniform_letters_rate(letters: int, distortion: ArrayLike) -> Any:
    """`ln m - h(D) - D ln(m - 1)`: m equally likely letters under Hamming distortion, in nats; 0 from `1 - 1 / m` on.

    Raises:
        DataError: fewer than two letters, or a negative distortion.
    """
    d = np.minimum(_distortion(distortion), 1 - 1 / _letters(letters))
    return np.maximum(math.log(letters) - binary_entropy(d) - d * math.log(letters - 1), 0.0)


def uniform_letters_lam(letters: int, distortion: ArrayLike) -> Any:
    """`-dR/dD` of `uniform_letters_rate`, `ln((m - 1) (1 - D) / D)` or 0, in nats per error."""
    d = _distortion(distortion)
    return _log_ratio((_letters(letters) - 1) * (1 - np.minimum(d, 1.0)), d)


def _letters(letters: int) -> int:
    if letters < 2:
        raise DataError(f"letters is {letters}, but a source needs two or more. A single letter costs nothing.")
    return letters


def laplace_rate(scale: ArrayLike, distortion: ArrayLike) -> Any:
    """`max(0, ln(b / D))`, a Laplace source under absolute error, in nats.

    Args:
        scale: b of the density `exp(-|y - mean| / b) / (2 b)`, which is also its mean absolute deviation, in u.
        distortion: mean absolute error of one element, in u. At 0 the rate is infinite.

    Raises:
        DataError: an argument is negative or NaN.
    """
    return _log_ratio(_scale(scale), _distortion(distortion))


def laplace_distortion(scale: ArrayLike, rate: ArrayLike) -> Any:
    """The inverse of `laplace_rate`, `b exp(-R)`, in u."""
    return _scale(scale) * np.exp(-_rate(rate))


def laplace_lam(scale: ArrayLike, distortion: ArrayLike) -> Any:
    """`-dR/dD` of `laplace_rate`, `1 / D` below b and 0 above it, in nats per u."""
    return _reciprocal(_distortion(distortion), _scale(scale) > _distortion(distortion))


def _scale(scale: ArrayLike) -> np.ndarray:
    return _checked("scale", scale, "Pass the mean absolute deviation of the density.")


def circle_rate(distortion: ArrayLike, radius: float = 1.0) -> Any:
    """A point uniform on a circle under squared error in the plane, in nats; 0 from `radius**2` on.

    The best reconstructions lie on a circle of radius `rho = radius * A(kappa)`, `A = I_1 / I_0` (Bessel functions),
    and y given y_hat has the von Mises density of concentration kappa about it: then `D = radius**2 - rho**2` and
    `R = kappa A - ln I_0(kappa)`. No other reconstruction does better, because `exp(-lam r**2) I_0(2 lam radius r)` has
    its largest value over all r at `r = rho` where `lam = kappa / (2 radius rho)`: Csiszar's condition.

    Args:
        distortion: mean squared distance.
        radius: of the circle.

    Raises:
        DataError: a negative distortion, or a radius that is not positive.
    """
    kappa = _concentration(distortion, radius)
    return np.where(np.isfinite(kappa), np.maximum(_circle_information(kappa), 0.0), np.inf)[()]


def circle_lam(distortion: ArrayLike, radius: float = 1.0) -> Any:
    """`-dR/dD` of `circle_rate`, `kappa / (2 radius rho)` in nats per squared unit; 0 from `radius**2` on."""
    kappa = _concentration(distortion, radius)
    zero, one = _bessel(kappa)
    with np.errstate(divide="ignore", invalid="ignore"):
        lam = kappa / (2 * radius**2 * one / zero)
    return np.where(np.isinf(kappa), np.inf, np.where(kappa > 0, lam, 0.0))[()]


def _bessel(kappa: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`I_0` and `I_1`, both times `exp(-kappa)`."""
    k = torch.as_tensor(kappa, dtype=torch.float64)
    return torch.special.i0e(k).numpy(), torch.special.i1e(k).numpy()


def _shortfall(kappa: np.ndarray) -> np.ndarray:
    """`1 - I_1(kappa) / I_0(kappa)`."""
    zero, one = _bessel(np.minimum(kappa, LARGE_KAPPA))
    x = 1 / np.maximum(kappa, LARGE_KAPPA)
    return np.where(kappa < LARGE_KAPPA, (zero - one) / zero, x / 2 + x**2 / 8 + x**3 / 8)


def _circle_information(kappa: np.ndarray) -> np.ndarray:
    """`kappa A - ln I_0(kappa)`, without the large kappa that cancels."""
    finite = np.where(np.isfinite(kappa), kappa, 0.0)
    return -finite * _shortfall(finite) - np.log(_bessel(finite)[0])


def _concentration(distortion: ArrayLike, radius: float) -> np.ndarray:
    """Kappa at which `1 - A**2` is the distortion in squared radii: 0 at one, infinite at none."""
    side = _checked("radius", radius, "Pass the radius of the circle.", positive=True)
    d = np.asarray(_distortion(distortion) / side**2)
    low, high = (np.full(d.shape, bound) for bound in LOG_KAPPA)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        short = _shortfall(np.exp(middle))
        over = short * (2 - short) > d
        low, high = np.where(over, middle, low), np.where(over, high, middle)
    return np.where(d == 0, np.inf, np.where(d >= 1, 0.0, np.exp(low)))


def shannon_lower_bound(entropy: ArrayLike, dimension: int, distortion: ArrayLike) -> Any:
    """`max(0, h - (n / 2) ln(2 pi e D / n))`, a lower bound on R(D) under summed squared error, in nats.

    Tight for a Gaussian with equal variances, for any Gaussian while D / n is below its smallest variance, and for
    every density as D falls to 0.

    Args:
        entropy: differential entropy h of the source, in nats; negative for narrow densities.
        dimension: n, elements of an example.
        distortion: squared error summed over the elements, in u².

    Raises:
        DataError: an entropy that is NaN, a dimension below 1, or a negative distortion.
    """
    h, d = np.asarray(entropy, dtype=np.float64), _distortion(distortion)
    if np.isnan(h).any():
        raise DataError("entropy is NaN. Pass the differential entropy of the source in nats.")
    if dimension < 1:
        raise DataError(f"dimension is {dimension}, but an example has one element or more. Pass their number.")
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = h - 0.5 * dimension * np.log(2 * math.pi * math.e * d / dimension)
    return np.where(bound > 0, bound, 0.0)[()]


def shannon_lower_bound_lam(entropy: ArrayLike, dimension: int, distortion: ArrayLike) -> Any:
    """`-dR/dD` of `shannon_lower_bound`, `n / (2 D)` where the bound is above 0, in nats per u²."""
    bound = shannon_lower_bound(entropy, dimension, distortion)
    return _reciprocal(2 * _distortion(distortion) / dimension, bound > 0)
