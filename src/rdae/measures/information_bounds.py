"""Bounds on mutual information I(y; z) from N pairs (y_i, z_i) drawn together (Poole et al. 2019, arXiv:1905.06922).

All are read off one table of all pairs: row i is of latent z_i, column j of datum y_j, so that true pairs lie on the
diagonal. With an encoder the table holds ln q(z_i | y_j); then

    lower, InfoNCE:       E ln [q(z_i | y_i) / ((1 / N)       sum_j   q(z_i | y_j))]  <=  I(y; z)
    upper, leave-one-out: E ln [q(z_i | y_i) / ((1 / (N - 1)) sum_j!=i q(z_i | y_j))]  >=  I(y; z)

The lower one never exceeds ln N: where I is larger it says no more than that. The upper one has no ceiling, and is far
too high where posteriors lie apart. Both approach I as N grows. Without an encoder's density the table may hold the
scores of a critic f(z_i, y_j), and what remains are lower bounds: InfoNCE again, with the same ceiling, and NWJ
(Nguyen, Wainwright & Jordan 2010, arXiv:0809.0853), which has none but whose variance grows like e**I. A critic is to
be learned from other examples than those it is judged on: with the same ones nothing is a bound.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from rdae.errors import DataError, ShapeError
from rdae.measures.measure import Kind, Measure
from rdae.measures.pairs import AT_ONCE

__all__ = ["InformationBounds", "infonce", "information_bounds", "leave_one_out", "nwj"]

UNIT = "nats per example"


class InformationBounds(NamedTuple):
    """I(y; z) of the population lies between the two, in expectation over sets of N examples."""

    lower: Measure  # InfoNCE
    upper: Measure  # leave-one-out
    ceiling: float  # ln N, nats: the lower bound cannot be above it


class _Terms(NamedTuple):
    """A statistic of a table as a mean over examples, `(N,)`, and to first order what each example does to it."""

    value: Tensor  # whose mean is the statistic
    influence: Tensor  # whose standard error is that of the statistic (infinitesimal jackknife)


@torch.no_grad()
def information_bounds(q: Distribution, draws: int = 16) -> InformationBounds:
    """Both bounds on I(y; z) that need nothing but an encoder, from the same latents.

    The lower one is the same mean as `rdae.measures.overlap.index_information`, which is the information of these N
    examples; here it is a statement on all data, and its error is over examples.

    Args:
        q: posteriors of N different examples, batch shape `(N,)`, of any family with a density.
        draws: latents drawn for each example. Time grows with `draws * N**2`.

    Raises:
        ShapeError: the posteriors are no list.
        DataError: fewer than two examples, or no draw.
    """
    if len(q.batch_shape) != 1:
        raise ShapeError(
            f"Posteriors have the batch shape {tuple(q.batch_shape)}. Pass those of all examples, (examples,)."
        )
    if draws < 1:
        raise DataError(f"{draws} latents of each example tell nothing. Pass draws=1 or more.")
    lower, upper = [], []
    for _ in range(draws):
        table = _checked(_log_densities(q, q.sample()))[0]
        lower.append(_infonce(table))
        upper.append(_leave_one_out(table))
    return InformationBounds(_measured(lower, Kind.LOWER), _measured(upper, Kind.UPPER), math.log(q.batch_shape[0]))


def _log_densities(q: Distribution, z: Tensor) -> Tensor:
    """ln q(z_i | y_j), `(N, N)`, row i of latent i."""
    rows = max(1, AT_ONCE // (len(z) * max(1, q.event_shape.numel())))
    return torch.cat([q.log_prob(part[:, None]) for part in z.split(rows)])


def infonce(scores: Tensor) -> Measure:
    """InfoNCE, a lower bound on I(y; z) for any scores, at most ln N (van den Oord et al. 2018, arXiv:1807.03748).

    Best scores are ln q(z_i | y_j); a function of z_i added to a row changes nothing.

    Args:
        scores: `(N, N)` or `(draws, N, N)`; [i, j] of latent i and datum j. Minus infinity off the diagonal is allowed.

    Returns:
        In nats per example; the standard error is over examples.

    Raises:
        ShapeError: no square table.
        DataError: fewer than two examples, NaN, infinity, or a true pair of score minus infinity.
    """
    return _measured([_infonce(table) for table in _checked(scores)], Kind.LOWER)


def leave_one_out(log_conditional: Tensor) -> Measure:
    """An upper bound on I(y; z): each latent's marginal density is the mean over all *other* posteriors.

    Infinite where a latent is impossible under all others.

    Args:
        log_conditional: ln q(z_i | y_j), true log-densities or log-probabilities and no scores, `(N, N)` or
            `(draws, N, N)`.

    Returns, raises: as `infonce`.
    """
    return _measured([_leave_one_out(table) for table in _checked(log_conditional)], Kind.UPPER)


def nwj(scores: Tensor) -> Measure:
    """`E f(z_i, y_i) - E e**(f(z_i, y_j) - 1)`, a lower bound on I(y; z) for any scores, without ceiling.

    Tight where f is `1 + ln [q(z | y) / q(z)]`; then pairs on the diagonal are e**I times as likely as off it, and
    unless N**2 is far above e**I the mean of the exponential rests on a few pairs, and its error bar is too small.

    Args, returns, raises: as `infonce`.
    """
    return _measured([_nwj(table) for table in _checked(scores)], Kind.LOWER)


def _checked(table: Tensor) -> Tensor:
    """`(draws, N, N)` in float64."""
    if table.ndim not in (2, 3) or table.shape[-1] != table.shape[-2]:
        raise ShapeError(
            f"The table is {tuple(table.shape)}. Pass a score for each latent and datum, (N, N) or (draws, N, N)."
        )
    if table.shape[-1] < 2 or not len(table):
        raise DataError(f"A table of {table.shape[-1]} examples has no pairs to compare. Pass two examples or more.")
    table = table.detach().double().reshape(-1, *table.shape[-2:])
    if bool((table.isnan() | table.isposinf()).any()):
        raise DataError("The table holds NaN or infinity. Look for a posterior whose standard deviation is 0.")
    if bool(table.diagonal(dim1=1, dim2=2).isneginf().any()):
        raise DataError("A latent is impossible under its own datum. Row i is of latent i, column j of datum j.")
    return table


def _measured(draws: list[_Terms], kind: Kind) -> Measure:
    value = torch.stack([terms.value for terms in draws]).mean()
    influence = torch.stack([terms.influence for terms in draws]).mean(0)
    return Measure(float(value), float(influence.std()) / math.sqrt(len(influence)), UNIT, kind)


def _infonce(table: Tensor) -> _Terms:
    marginal = table.logsumexp(1)
    value = table.diagonal() - marginal + math.log(len(table))
    return _Terms(value, value - (table - marginal[:, None]).exp().sum(0))


def _leave_one_out(table: Tensor) -> _Terms:
    others = table.clone().fill_diagonal_(-math.inf)
    marginal = others.logsumexp(1)
    value = table.diagonal() - marginal + math.log(len(table) - 1)
    return _Terms(value, value - (others - marginal[:, None]).exp().sum(0))


def _nwj(table: Tensor) -> _Terms:
    own, others = table.diagonal(), (table - 1).exp().fill_diagonal_(0) / (len(table) - 1)
    as_latent, as_datum = others.sum(1), others.sum(0)
    return _Terms(own - as_latent, own - as_latent - as_datum)
