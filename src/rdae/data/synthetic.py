"""Sources of which the answers are known: moments, density, entropy or rate-distortion function.

Each has `sample(n, seed)`, `mean`, `covariance`, and a `log_prob` where a density exists. Samples are NumPy arrays
`(n, dimension)` in float64; `rdae.data.sources.from_array` makes training data of them.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from rdae.errors import DataError, ShapeError

__all__ = [
    "BananaSource",
    "CircleSource",
    "GaussianSource",
    "MixtureSource",
    "SawbridgeSource",
    "Source",
]

LOG_TWO_PI = math.log(2 * math.pi)
Seed = int | np.random.Generator


class Source(Protocol):
    """What all sources share."""

    @property
    def dimension(self) -> int:
        """Elements of an example."""
        ...

    @property
    def mean(self) -> np.ndarray:
        """Exact mean, `(dimension,)`."""
        ...

    @property
    def covariance(self) -> np.ndarray:
        """Exact covariance, `(dimension, dimension)`."""
        ...

    def sample(self, n: int, seed: Seed) -> np.ndarray:
        """Independent examples, `(n, dimension)`, the same for the same seed; a generator moves on."""
        ...


def _points(y: ArrayLike, dimension: int) -> np.ndarray:
    array = np.asarray(y, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != dimension:
        raise ShapeError(f"y has shape {array.shape}, not (n, {dimension}). Pass one example a row.")
    return array


class GaussianSource:
    """A Gaussian vector. Its rate-distortion function is `measures.rate_distortion.water_filling(source.variances, D)`.

    Args:
        covariance: `(n, n)`, or the variances of independent elements, `(n,)`. Directions that do not vary are allowed.
        mean: `(n,)`; None: 0.

    Raises:
        ShapeError: shapes that do not fit.
        DataError: no covariance: not symmetric, a negative eigenvalue, or an entry that is not finite.
    """

    def __init__(self, covariance: ArrayLike, mean: ArrayLike | None = None) -> None:
        matrix = np.asarray(covariance, dtype=np.float64)
        matrix = np.diag(matrix) if matrix.ndim == 1 else matrix
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
            raise ShapeError(f"covariance has shape {matrix.shape}. Pass (n, n), or variances (n,).")
        if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T, rtol=1e-10, atol=0):
            raise DataError("covariance is not finite or not symmetric. Pass (covariance + covariance.T) / 2.")
        self.covariance = matrix
        self.mean = np.zeros(len(matrix)) if mean is None else np.asarray(mean, dtype=np.float64)
        if self.mean.shape != (len(matrix),):
            raise ShapeError(f"mean has shape {self.mean.shape}, not ({len(matrix)},). Pass a number for each element.")
        variances, basis = np.linalg.eigh(matrix)
        rounding = len(matrix) * np.finfo(np.float64).eps * abs(variances).max()
        if variances[0] < -rounding:
            raise DataError(f"covariance has the eigenvalue {variances[0]:g}. Pass one that is positive semi-definite.")
        self.variances = np.where(variances > rounding, variances, 0.0)[::-1]
        self.basis = basis[:, ::-1]

    @classmethod
    def rotated(cls, variances: ArrayLike, seed: Seed) -> GaussianSource:
        """One with these eigenvalues, `(n,)`, in a basis drawn uniformly from all rotations."""
        spectrum = np.asarray(variances, dtype=np.float64)
        if spectrum.ndim != 1:
            raise ShapeError(f"variances have shape {spectrum.shape}. Pass the eigenvalues, (n,).")
        drawn = np.random.default_rng(seed).standard_normal((len(spectrum), len(spectrum)))
        basis, triangle = np.linalg.qr(drawn)
        basis = basis * np.sign(np.diag(triangle))  # without the signs the law of Q is not uniform
        matrix = (basis * spectrum) @ basis.T
        return cls((matrix + matrix.T) / 2)

    @property
    def dimension(self) -> int:
        """Elements of an example."""
        return len(self.mean)

    @property
    def entropy(self) -> float:
        """Differential entropy in nats; minus infinity if a direction does not vary."""
        with np.errstate(divide="ignore"):
            return 0.5 * float(np.sum(1 + LOG_TWO_PI + np.log(self.variances)))

    def sample(self, n: int, seed: Seed) -> np.ndarray:
        """Independent examples, `(n, dimension)`."""
        white = np.random.default_rng(seed).standard_normal((n, self.dimension))
        return self.mean + (white * np.sqrt(self.variances)) @ self.basis.T

    def log_prob(self, y: ArrayLike) -> np.ndarray:
        """Log-density of each example, `(n, dimension)` to `(n,)`, nats.

        Raises:
            DataError: a direction does not vary, so that there is no density.
        """
        if not self.variances.all():
            raise DataError("The covariance is singular, so there is no density. Add a variance to its diagonal.")
        white = (_points(y, self.dimension) - self.mean) @ self.basis / np.sqrt(self.variances)
        return -0.5 * ((white**2).sum(1) + np.sum(LOG_TWO_PI + np.log(self.variances)))


class BananaSource:
    """The bent Gaussian in the plane of Ballé et al. 2020, "Nonlinear transform coding", and Yang & Mandt 2022.

    With a ~ N(0, 3²) and b ~ N(0, 0.5²), the point (a, b - a² / 10) is turned by -240 degrees and moved by (-1, -1).
    Bending, turning and moving keep areas, so that the entropy is that of (a, b).
    """

    SCALES = (3.0, 0.5)
    BEND = 0.1
    DEGREES = 240.0
    SHIFT = 1.0

    def __init__(self) -> None:
        angle = math.radians(self.DEGREES)
        self._turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])

    @property
    def dimension(self) -> int:
        """Elements of an example."""
        return 2

    @property
    def mean(self) -> np.ndarray:
        """Exact mean, `(2,)`; `E a² = 9`."""
        return np.array([0.0, -self.BEND * self.SCALES[0] ** 2]) @ self._turn - self.SHIFT

    @property
    def covariance(self) -> np.ndarray:
        """Exact covariance, `(2, 2)`; a and a² are uncorrelated, and the variance of a² is `2 * 3**4`."""
        along, across = self.SCALES
        bent = np.diag([along**2, across**2 + 2 * self.BEND**2 * along**4])
        return self._turn.T @ bent @ self._turn

    @property
    def entropy(self) -> float:
        """Differential entropy in nats, `ln(2 pi e * 3 * 0.5)`."""
        return 1 + LOG_TWO_PI + math.log(math.prod(self.SCALES))

    def sample(self, n: int, seed: Seed) -> np.ndarray:
        """Independent examples, `(n, 2)`."""
        along, across = np.random.default_rng(seed).standard_normal((n, 2)).T * np.array(self.SCALES)[:, None]
        return np.stack([along, across - self.BEND * along**2], 1) @ self._turn - self.SHIFT

    def log_prob(self, y: ArrayLike) -> np.ndarray:
        """Log-density of each example, `(n, 2)` to `(n,)`, nats."""
        along, bent = ((_points(y, 2) + self.SHIFT) @ self._turn.T).T
        white = np.stack([along, bent + self.BEND * along**2]) / np.array(self.SCALES)[:, None]
        return -0.5 * (white**2).sum(0) - LOG_TWO_PI - math.log(math.prod(self.SCALES))


class SawbridgeSource:
    """The sawbridge `t - 1[t > U]`, U uniform on (0, 1), at equally spaced t from 0 to 1.

    Wagner & Ballé 2021, "Neural networks optimally compress the sawbridge". One number makes the whole signal, but no
    linear subspace holds it: the covariance is that of the Brownian bridge. Sampled at finitely many t it is one of
    `points - 1` signals, all equally likely, so that its rate-distortion function can be computed.

    Args:
        points: number of t, 2 or more.
    """

    def __init__(self, points: int = 1024) -> None:
        if points < 2:
            raise DataError(f"points is {points}, but the signal has its ends at least. Pass 2 or more.")
        self.times = np.linspace(0, 1, points)

    @property
    def dimension(self) -> int:
        """Elements of an example."""
        return len(self.times)

    @property
    def mean(self) -> np.ndarray:
        """Exact mean: 0."""
        return np.zeros(self.dimension)

    @property
    def covariance(self) -> np.ndarray:
        """Exact covariance, `min(s, t) - s t`."""
        return np.minimum.outer(self.times, self.times) - np.outer(self.times, self.times)

    def letters(self) -> np.ndarray:
        """The signals that can occur, all equally likely, `(dimension - 1, dimension)`: row k jumps after t_k."""
        place = np.arange(self.dimension)
        return self.times - (place > place[:-1, None])

    def sample(self, n: int, seed: Seed) -> np.ndarray:
        """Independent examples, `(n, dimension)`."""
        jump = np.random.default_rng(seed).random((n, 1))
        return self.times - (self.times > jump)


class MixtureSource:
    """Equally wide round Gaussians, known from tests of which modes a generative model finds.

    Args:
        means: `(components, dimension)`.
        scale: standard deviation of each component along every axis.
        weights: `(components,)`, summing to 1; None: all alike.

    Raises:
        ShapeError: shapes that do not fit.
        DataError: a scale that is not positive, or weights that are no probabilities.
    """

    def __init__(self, means: ArrayLike, scale: float, weights: ArrayLike | None = None) -> None:
        self.means = np.asarray(means, dtype=np.float64)
        if self.means.ndim != 2 or not self.means.size:
            raise ShapeError(f"means have shape {self.means.shape}. Pass (components, dimension).")
        if not 0 < scale < math.inf:
            raise DataError(f"scale is {scale}, but a standard deviation is positive and finite. Pass scale > 0.")
        self.scale = float(scale)
        count = len(self.means)
        self.weights = np.full(count, 1 / count) if weights is None else np.asarray(weights, dtype=np.float64)
        if self.weights.shape != (count,):
            raise ShapeError(f"weights have shape {self.weights.shape}, not ({count},). Pass one for each component.")
        if not (self.weights >= 0).all() or not abs(self.weights.sum() - 1) <= 1e-9:
            raise DataError(f"weights sum to {self.weights.sum():g} or are negative. Divide them by their sum.")

    @classmethod
    def grid(cls) -> MixtureSource:
        """25 in the plane at {-4, -2, 0, 2, 4}², standard deviation 0.05, as VEEGAN and PacGAN are tested on."""
        line = np.arange(-4.0, 5.0, 2.0)
        return cls(np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2), 0.05)

    @classmethod
    def ring(cls) -> MixtureSource:
        """8 on the unit circle, standard deviation 0.01, as PacGAN is tested on."""
        angle = np.arange(8) * math.pi / 4
        return cls(np.stack([np.cos(angle), np.sin(angle)], 1), 0.01)

    @property
    def dimension(self) -> int:
        """Elements of an example."""
        return self.means.shape[1]

    @property
    def mean(self) -> np.ndarray:
        """Exact mean, `(dimension,)`."""
        return self.weights @ self.means

    @property
    def covariance(self) -> np.ndarray:
        """Exact covariance, `(dimension, dimension)`."""
        centred = self.means - self.mean
        return self.scale**2 * np.eye(self.dimension) + (centred.T * self.weights) @ centred

    def entropy_bounds(self) -> tuple[float, float]:
        """A lower and an upper bound on the differential entropy in nats; equal where components are far apart.

        From Chernoff and Kullback-Leibler divergences of pairs (Kolchinsky & Tracey 2017, "Estimating mixture entropy
        with pairwise distances").
        """
        means, weights = self.means[self.weights > 0], self.weights[self.weights > 0]
        apart = ((means[:, None] - means) ** 2).sum(2) / self.scale**2
        own = 0.5 * self.dimension * (1 + LOG_TWO_PI) + self.dimension * math.log(self.scale)
        lower, upper = (own - float(weights @ np.log(np.exp(-apart / k) @ weights)) for k in (8, 2))
        return lower, upper

    def sample(self, n: int, seed: Seed) -> np.ndarray:
        """Independent examples, `(n, dimension)`."""
        generator = np.random.default_rng(seed)
        component = generator.choice(len(self.means), size=n, p=self.weights)
        return self.means[component] + self.scale * generator.standard_normal((n, self.dimension))

    def log_prob(self, y: ArrayLike) -> np.ndarray:
        """Log-density of each example, `(n, dimension)` to `(n,)`, nats."""
        white = (_points(y, self.dimension)[:, None] - self.means) / self.scale
        with np.errstate(divide="ignore"):
            terms = np.log(self.weights) - 0.5 * (white**2).sum(2)
        peak = terms.max(1)
        total = peak + np.log(np.exp(terms - peak[:, None]).sum(1))
        return total - self.dimension * (0.5 * LOG_TWO_PI + math.log(self.scale))


class CircleSource:
    """A point uniform on a circle about 0; its rate-distortion function is `measures.rate_distortion.circle_rate`.

    Args:
        radius: of the circle.
    """

    def __init__(self, radius: float = 1.0) -> None:
        if not 0 < radius < math.inf:
            raise DataError(f"radius is {radius}, but must be positive and finite. Pass radius > 0.")
        self.radius = float(radius)

    @property
    def dimension(self) -> int:
        """Elements of an example."""
        return 2

    @property
    def mean(self) -> np.ndarray:
        """Exact mean: 0."""
        return np.zeros(2)

    @property
    def covariance(self) -> np.ndarray:
        """Exact covariance, `radius**2 / 2` in every direction."""
        return 0.5 * self.radius**2 * np.eye(2)

    def sample(self, n: int, seed: Seed) -> np.ndarray:
        """Independent examples, `(n, 2)`."""
        angle = 2 * math.pi * np.random.default_rng(seed).random(n)
        return self.radius * np.stack([np.cos(angle), np.sin(angle)], 1)
