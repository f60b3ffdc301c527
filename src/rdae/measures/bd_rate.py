"""Two curves of rate and quality in one number: Bjøntegaard's mean difference in rate at equal quality, over PCHIP.

Bjøntegaard (2001, VCEG-M33) integrates ln rate over quality between the curves' common qualities. He joined four points
by one cubic, which overshoots; the field has since moved to the piecewise cubic of Fritsch & Butland (1984), which is
monotone between monotone points and is what MATLAB and SciPy call PCHIP.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from rdae.errors import ShapeError

__all__ = ["BdRate", "MonotoneCubic", "RateCurve", "bd_rate"]


class MonotoneCubic:
    """PCHIP through points: as smooth as it can be without a turn that the points do not have.

    Args:
        x: `(n,)`, rising, at least two.
        y: `(n,)`.

    Raises:
        ShapeError: too few points, or x does not rise.
    """

    def __init__(self, x: Iterable[float], y: Iterable[float]) -> None:
        self._x, self._y = (np.array(list(z), dtype=np.float64) for z in (x, y))
        if len(self._x) < 2 or self._x.shape != self._y.shape or not (np.diff(self._x) > 0).all():
            raise ShapeError(f"A curve needs two or more points with rising x, but x is {self._x}. Sort them first.")
        self._slopes = _slopes(np.diff(self._x), np.diff(self._y) / np.diff(self._x))

    def __call__(self, at: Iterable[float] | float) -> np.ndarray:
        """Values at places of any shape; NaN outside the points."""
        at = np.asarray(at, dtype=np.float64)
        k = np.clip(np.searchsorted(self._x, at, side="right") - 1, 0, len(self._x) - 2)
        width = self._x[k + 1] - self._x[k]
        t = (at - self._x[k]) / width
        value = (
            (1 + 2 * t) * (1 - t) ** 2 * self._y[k] + t**2 * (3 - 2 * t) * self._y[k + 1]
            + t * (1 - t) ** 2 * width * self._slopes[k] - t**2 * (1 - t) * width * self._slopes[k + 1]
        )  # fmt: skip
        return np.where((at >= self._x[0]) & (at <= self._x[-1]), value, np.nan)

    def integral(self, low: float, high: float) -> float:
        """Between two places within the points; exact, for Simpson's rule is exact for the cubic between two knots."""
        inner = self._x[(self._x > low) & (self._x < high)]
        knots = np.array([low, *inner, high])
        ends, middles = self(knots), self((knots[1:] + knots[:-1]) / 2)
        return float((np.diff(knots) * (ends[:-1] + 4 * middles + ends[1:]) / 6).sum())


def _slopes(widths: np.ndarray, secants: np.ndarray) -> np.ndarray:
    """The curve's slope at each point: a harmonic mean of the secants beside it, 0 where they turn."""
    if len(secants) == 1:
        return np.repeat(secants, 2)
    left, right = secants[:-1], secants[1:]
    near_left, near_right = widths[:-1] + 2 * widths[1:], 2 * widths[:-1] + widths[1:]
    inner = np.zeros(len(left))
    same = left * right > 0
    weights = (near_left + near_right)[same]
    inner[same] = weights / (near_left[same] / left[same] + near_right[same] / right[same])
    ends = _end(widths[:2], secants[:2]), _end(widths[:-3:-1], secants[:-3:-1])
    return np.array([ends[0], *inner, ends[1]])


def _end(widths: np.ndarray, secants: np.ndarray) -> float:
    """At an end: that of the parabola through three points, held back where it would leave the points' way."""
    (near, far), (first, second) = widths, secants
    slope = ((2 * near + far) * first - near * second) / (near + far)
    if slope * first <= 0:
        return 0.0
    if first * second < 0 and abs(slope) > 3 * abs(first):
        return float(3 * first)
    return float(slope)


class RateCurve(NamedTuple):
    """Points of a codec: rates, in any unit, and qualities, such as PSNR in dB, both rising.

    Args:
        rates: `(n,)`.
        qualities: `(n,)`; more is better.
    """

    rates: np.ndarray
    qualities: np.ndarray

    @classmethod
    def of(cls, rates: Iterable[float], qualities: Iterable[float]) -> RateCurve:
        """The points nobody would do without: sorted by rate, less those that a smaller or equal file surpasses."""
        rates, qualities = np.asarray(list(rates), dtype=np.float64), np.asarray(list(qualities), dtype=np.float64)
        order = np.lexsort((-qualities, rates))
        best = np.maximum.accumulate(qualities[order])
        kept = order[np.concatenate([[True], best[1:] > best[:-1]])] if len(order) else order
        return cls(rates[kept], qualities[kept])

    def quality_at(self, rates: Iterable[float] | float) -> np.ndarray:
        """Quality at given rates, PCHIP over ln rate; NaN beyond the points."""
        return MonotoneCubic(np.log(self.rates), self.qualities)(np.log(np.asarray(rates, dtype=np.float64)))


class BdRate(NamedTuple):
    """Mean difference in rate at equal quality, percent (less than 0: fewer bits), and the qualities it is over."""

    percent: float
    low: float
    high: float


def bd_rate(curve: RateCurve, anchor: RateCurve, rates: tuple[float, float] | None = None) -> BdRate | None:
    """How many percent more bits a codec takes than the anchor at equal quality.

    `100 (exp(mean over qualities of ln rate - ln rate of the anchor) - 1)`, the mean taken over every quality that both
    curves reach.

    Args:
        curve, anchor: two or more points each.
        rates: look at those qualities only that the anchor has between these two rates.

    Returns:
        None where the curves have no such quality in common, or one is a single point.
    """
    if min(len(curve.rates), len(anchor.rates)) < 2:
        return None
    low = max(curve.qualities[0], anchor.qualities[0])
    high = min(curve.qualities[-1], anchor.qualities[-1])
    if rates is not None:
        reached = np.clip(rates, anchor.rates[0], anchor.rates[-1])
        first, last = anchor.quality_at(reached)
        low, high = max(low, first), min(high, last)
    if not low < high:
        return None
    mine, theirs = (MonotoneCubic(c.qualities, np.log(c.rates)).integral(low, high) for c in (curve, anchor))
    return BdRate(float(100 * np.expm1((mine - theirs) / (high - low))), float(low), float(high))
