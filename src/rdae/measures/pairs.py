"""Pairs of rows of two samples: their checks, their distances, and how many are held at once."""

from __future__ import annotations

from torch import Tensor

from rdae.errors import DataError, ShapeError

__all__ = ["AT_ONCE", "as_samples", "squared_distances"]

AT_ONCE = 1 << 22  # pairs held in memory together


def as_samples(x: Tensor, y: Tensor, least: int = 2) -> tuple[Tensor, Tensor]:
    """Both samples in float64, cut off from gradients.

    Args:
        x: `(n, d)`.
        y: `(m, d)`.
        least: rows that n and m must reach.

    Raises:
        ShapeError: not two tables of one width, or too few rows.
        DataError: an element is not finite.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < least or not x.shape[1]:
        raise ShapeError(
            f"The samples are {tuple(x.shape)} and {tuple(y.shape)}. Pass tables (n, d) and (m, d) of one width d "
            f"of 1 or more, with {least} rows or more; flatten pictures first."
        )
    for name, sample in (("first", x), ("second", y)):
        if not sample.isfinite().all():
            raise DataError(f"The {name} sample holds an element that is not finite. Look for it where it was made.")
    return x.detach().double(), y.detach().double()


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """`|a_i - b_j|^2` of all pairs, `(n, d)` and `(m, d)` to `(n, m)`.

    By one matrix product, about the mean of b: exact to some 1e-15 (float64) of the largest squared distance from
    that mean, so that two equal points may be that far from 0.
    """
    middle = b.detach().mean(0)
    a, b = a - middle, b - middle
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.mT).clamp_min(0)
