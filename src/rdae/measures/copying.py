"""Does a sampler repeat its training data? Its samples' nearest training examples, against those of held-out data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rdae.errors import ShapeError
from rdae.measures.measure import Kind, Measure, mean_of
from rdae.measures.pairs import AT_ONCE, as_samples, squared_distances

__all__ = ["copied_share", "nearer_share", "nearest_squared"]

ROUNDING = 1e-12  # of the largest squared norm: more than float64 loses in a squared distance


@torch.no_grad()
def nearer_share(of_samples: Tensor, of_held_out: Tensor) -> Measure:
    """How often a sample is nearer to the training data than a held-out example is; ties are counted half.

    The test of data copying of Meehan et al. (2020, arXiv:2004.05675), as a share of pairs (Mann & Whitney 1947).
    1/2 where samples and held-out data are of one law. Above, samples hug the training data; below, they lie off the
    data. A sampler that does both can come out at 1/2.

    Args:
        of_samples: distance of each sample to the nearest training example, `(n,)`, as of `nearest_squared`.
        of_held_out: the same of data that the model has not seen, `(m,)`.

    Raises:
        ShapeError: not two lists of two numbers or more.
        DataError: a distance is not finite.
    """
    if of_samples.ndim != 1 or of_held_out.ndim != 1:
        raise ShapeError(f"Distances are {tuple(of_samples.shape)} and {tuple(of_held_out.shape)}. Pass (n,) and (m,).")
    a, b = (side[:, 0] for side in as_samples(of_samples[:, None], of_held_out[:, None]))
    # where each stands in the order of the others: the variance of Mann and Whitney's statistic comes from both sides
    beyond, beside = 1 - _below(b, a), _below(a, b)
    error = math.sqrt(float(beyond.var() / len(a) + beside.var() / len(b)))
    return Measure(float(beyond.mean()), error, "share", Kind.ESTIMATE)


def _below(values: Tensor, at: Tensor) -> Tensor:
    """Share of values below each of `at`, ties counted half."""
    values = values.sort().values
    return (torch.searchsorted(values, at) + torch.searchsorted(values, at, right=True)).double() / (2 * len(values))


@torch.no_grad()
def nearest_squared(x: Tensor, others: Tensor) -> Tensor:
    """Squared distance of each row of `(n, d)` to the nearest of `(m, d)`, `(n,)` float64.

    Raises:
        ShapeError: not two tables of one width.
        DataError: an element is not finite.
    """
    x, others = as_samples(x, others, least=1)
    return torch.cat([squared_distances(part, others).amin(1) for part in x.split(max(1, AT_ONCE // len(others)))])


def copied_share(of_samples: Tensor, training: Tensor) -> Measure:
    """Share of samples that are training examples, but for rounding.

    Args:
        of_samples: squared distances, as of `nearest_squared`.
        training: `(m, d)`, the examples they were measured to.
    """
    largest = float((training - training.mean(0)).square().sum(1).max())
    return mean_of((of_samples <= ROUNDING * largest).double(), "share", Kind.ESTIMATE)
