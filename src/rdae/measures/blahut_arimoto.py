"""The rate-distortion function of any discrete source, by the algorithm of Blahut and Arimoto, with its error known.

For a weight lam the algorithm minimises `rate + lam * distortion` over channels from letters to reproductions, the two
factors of the channel in turn (Blahut 1972, "Computation of channel capacity and rate-distortion functions"). After
every step the true R(D) is known to lie between two numbers, so that it stops when it is close enough, and says how
close.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rdae.errors import DataError, ShapeError, TableError

__all__ = ["RatePoint", "blahut_arimoto", "conditional_law", "rate_distortion_curve", "squared_distances"]

SUM_TOLERANCE = 1e-9  # of probabilities; float64 adds a million of them to 1e-10
FLOOR = 1e-290  # of a reproduction's probability: one that has become unlikely can still return
SPREAD = 1e-3  # part of a warm start that is spread over all reproductions


class RatePoint(NamedTuple):
    """A point of a rate-distortion curve.

    R(distortion) lies between `rate_lower` and `rate`. The lower bound holds for every distortion D, as the line
    `rate_lower + lam * (distortion - D)`. Both are exact but for rounding, whatever the number of iterations.

    Args:
        lam: weight of distortion; `-lam` is the slope of the curve here. Nats per unit of distortion.
        rate: nats, mutual information of the source and its reproduction, reached at `distortion`.
        rate_lower: nats, lower bound on R(distortion); may be a little below 0.
        distortion: mean distortion.
        reproduction: q, `(reproductions,)`. The channel `conditional_law(distortions, point)` is `q exp(-lam d)`,
            normalised for each letter; at the optimum q is also the law of its output.
        iterations: made.
    """

    lam: float
    rate: float
    rate_lower: float
    distortion: float
    reproduction: np.ndarray
    iterations: int

    @property
    def gap(self) -> float:
        """Nats by which `rate` can be too high."""
        return self.rate - self.rate_lower


def blahut_arimoto(
    probabilities: ArrayLike,
    distortions: ArrayLike,
    lam: float,
    *,
    start: ArrayLike | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = 10_000,
) -> RatePoint:
    """The point of the rate-distortion curve at which its slope is -lam.

    Args:
        probabilities: of the letters of the source, `(letters,)`; zeros are allowed.
        distortions: d, `(letters, reproductions)`, 0 or more; infinite where a reproduction is forbidden.
        lam: weight of distortion, above 0, in nats per unit of distortion.
        start: q to begin with, `(reproductions,)`; None: all equally likely. Every reproduction stays possible.
        tolerance: stops when `gap` is at most so many nats.
        max_iterations: stops there in any case; `gap` says how good the point is then.

    Raises:
        ShapeError: sizes that do not fit together.
        TableError: probabilities that are negative, NaN or do not sum to 1.
        DataError: distortions that are NaN or negative, a letter for which all are infinite, or lam not above 0.
    """
    p, d = _source(probabilities, distortions)
    if not 0 < lam < math.inf:
        raise DataError(f"lam is {lam}, but a slope is positive and finite. The end at rate 0 is D_max = min(p @ d).")
    q = np.full(d.shape[1], 1 / d.shape[1]) if start is None else _started(start, d.shape[1])
    return _iterated(p, d, lam, q, tolerance, max_iterations)


def _source(probabilities: ArrayLike, distortions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Letters that occur, and their rows."""
    p, d = np.asarray(probabilities, dtype=np.float64), np.asarray(distortions, dtype=np.float64)
    if p.ndim != 1 or d.ndim != 2 or len(p) != len(d) or not d.size:
        raise ShapeError(
            f"probabilities have shape {p.shape}, distortions {d.shape}. "
            "Pass (letters,) and (letters, reproductions), a row for each letter."
        )
    _check_law("probabilities", p)
    if not (d >= 0).all():
        at = tuple(int(i) for i in np.argwhere(~(d >= 0))[0])
        raise DataError(f"distortions{list(at)} is {d[at]:g}, but a distortion is 0 or more. Check how d was computed.")
    p, d = p[p > 0], d[p > 0]
    if np.isinf(d).all(1).any():
        raise DataError("A letter has no reproduction of finite distortion. Allow it one, or give it probability 0.")
    return p, d


def _check_law(name: str, p: np.ndarray) -> None:
    if not (p >= 0).all():
        raise TableError(f"{name} hold {p[~(p >= 0)][0]:g}. Pass numbers of 0 or more that sum to 1.")
    if not abs(p.sum() - 1) <= SUM_TOLERANCE:
        raise TableError(f"{name} sum to {p.sum():.12g}, not 1. Divide them by their sum.")


def _started(start: ArrayLike, reproductions: int) -> np.ndarray:
    q = np.asarray(start, dtype=np.float64)
    if q.shape != (reproductions,):
        raise ShapeError(
            f"start has shape {q.shape}, not ({reproductions},). Pass a probability for each reproduction."
        )
    _check_law("start", q)
    return q


def _kernel(d: np.ndarray, lam: float) -> tuple[np.ndarray, np.ndarray]:
    """`d - least` and `exp(-lam (d - least))`: each row's largest entry is 1, so that no row underflows."""
    excess = d - d.min(1, keepdims=True)
    with np.errstate(over="ignore"):
        return excess, np.exp(-lam * excess)


def _floored(q: np.ndarray) -> np.ndarray:
    q = np.maximum(q, FLOOR)
    return q / q.sum()


def _iterated(p: np.ndarray, d: np.ndarray, lam: float, q: np.ndarray, tolerance: float, most: int) -> RatePoint:
    excess, kernel = _kernel(d, lam)
    q = _floored(q)
    iterations = 0
    while True:
        partition = kernel @ q
        growth = (p / partition) @ kernel  # Blahut's c: at most 1 at the optimum, and 1 where q is used
        log_growth = np.log(np.maximum(growth, FLOOR))
        mean_log_growth = float((q * growth) @ log_growth)
        if float(log_growth.max()) - mean_log_growth <= tolerance or iterations >= most:
            break
        q = _floored(q * growth)
        iterations += 1
    spent = np.multiply(kernel, excess, out=np.zeros_like(kernel), where=kernel > 0)  # 0 where d is infinite
    distance = float((p / partition) @ (spent @ q))  # above the least possible distortion
    line = -lam * distance - float(p @ np.log(partition))
    rate = max(line - mean_log_growth, 0.0)
    lower = min(line - float(log_growth.max()), rate)
    return RatePoint(lam, rate, lower, distance + float(p @ d.min(1)), q, iterations)


def rate_distortion_curve(
    probabilities: ArrayLike,
    distortions: ArrayLike,
    lams: Sequence[float],
    *,
    tolerance: float = 1e-4,
    max_iterations: int = 10_000,
) -> list[RatePoint]:
    """`blahut_arimoto` for each of several weights, in their order, each started from its neighbour's result.

    Args, errors: as for `blahut_arimoto`.
    """
    points: list[RatePoint] = []
    for lam in lams:
        start = None
        if points:
            previous = points[-1].reproduction
            start = (1 - SPREAD) * previous + SPREAD / len(previous)
        points.append(
            blahut_arimoto(
                probabilities, distortions, lam, start=start, tolerance=tolerance, max_iterations=max_iterations
            )
        )
    return points


def conditional_law(distortions: ArrayLike, point: RatePoint) -> np.ndarray:
    """The channel of a point, p(reproduction | letter), `(letters, reproductions)`; rows sum to 1."""
    d = np.asarray(distortions, dtype=np.float64)
    if d.ndim != 2 or d.shape[1] != len(point.reproduction):
        raise ShapeError(
            f"distortions have shape {d.shape}, the point has {len(point.reproduction)} reproductions. "
            "Pass the distortions it was computed with."
        )
    weight = _kernel(d, point.lam)[1] * point.reproduction
    return weight / weight.sum(1, keepdims=True)


def squared_distances(y: ArrayLike, y_hat: ArrayLike) -> np.ndarray:
    """Squared error of each letter against each reproduction, summed over elements, `(letters, reproductions)`.

    Args:
        y: letters, `(letters,)` or `(letters, n)`.
        y_hat: reproductions, `(reproductions,)` or `(reproductions, n)`.

    Raises:
        ShapeError: other shapes.
    """
    left, right = (np.asarray(x, dtype=np.float64) for x in (y, y_hat))
    left, right = (x[:, None] if x.ndim == 1 else x for x in (left, right))
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise ShapeError(
            f"y has shape {np.shape(y)}, y_hat {np.shape(y_hat)}. Pass vectors of the same length, one a row."
        )
    total = np.zeros((len(left), len(right)))
    for a, b in zip(left.T, right.T, strict=True):  # no |a|² - 2ab + |b|², which cancels
        total += np.subtract.outer(a, b) ** 2
    return total
