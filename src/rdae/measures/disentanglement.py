"""How well single coordinates of a latent stand for known factors of variation: scores from counts and from variances.

All look at a table of latents, `z` `(n, d)`, beside a table of factors, `(n, k)` of whole numbers. Scores that fit
predictors are in `rdae.measures.disentanglement_probes`. None of them says that a model is good: they judge how what is
kept is divided among coordinates, some of them whether it is kept at all.

Their standard errors are over examples, as if drawn independently. The seed of a training matters far more (Locatello
et al. 2019, arXiv:1811.12359): report several, with their spread.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rdae.errors import DataError, ShapeError
from rdae.measures.measure import Kind, Measure, mean_of
from rdae.measures.pairs import AT_ONCE

__all__ = [
    "FactorTable", "factor_table", "factor_vae_score", "modularity", "mutual_information_gap",
    "mutual_information_table", "two_best",
]  # fmt: skip

BINS = 20  # of equal width between smallest and largest: those of the published comparisons


class FactorTable(NamedTuple):
    """Latents and the factors of the same examples, checked."""

    z: Tensor  # (n, d) float64
    labels: Tensor  # (n, k) int64, each factor's values numbered from 0
    values: tuple[int, ...]  # how many values each factor takes


def factor_table(z: Tensor, factors: Tensor, least: int = 1) -> FactorTable:
    """Latents in float64, cut off from gradients, and factors whose values are numbered without gaps.

    Args:
        z: `(n, d)`, such as posterior means or draws.
        factors: `(n, k)`, whole numbers; what they mean does not matter, only which are equal.
        least: factors that there must be.

    Raises:
        ShapeError: no two tables of equally many rows, or too few factors.
        DataError: a latent is not finite, a factor no whole number or the same in all examples, or one of its values
            has a single example.
    """
    if z.ndim != 2 or factors.ndim != 2 or len(z) != len(factors) or 0 in z.shape or factors.shape[1] < least:
        raise ShapeError(
            f"Latents are {tuple(z.shape)} and factors {tuple(factors.shape)}. Pass tables (n, d) and (n, k), a row an "
            f"example, with {least} or more factors; flatten latents with space."
        )
    if factors.is_floating_point() or factors.is_complex():
        raise DataError(f"Factors are {factors.dtype}, but their values are counted. Pass whole numbers, as .long().")
    if not z.isfinite().all():
        raise DataError("An element of the latents is not finite. Look for it where they were made.")
    index, values = [], []
    for k, column in enumerate(factors.T):
        found, numbered, counts = column.unique(return_inverse=True, return_counts=True)
        if len(found) < 2:
            raise DataError(
                f"Factor {k} is {int(found[0])} in all examples, so nothing can be told of it. Leave it out."
            )
        if counts.min() < 2:
            raise DataError(
                f"Factor {k} is {int(found[counts.argmin()])} in one example only. Pass two of each value or more; "
                "a factor with real values has to be put into bins first."
            )
        index.append(numbered)
        values.append(len(found))
    return FactorTable(z.detach().double(), torch.stack(index, 1), tuple(values))


def two_best(scores: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the largest and the second largest score in each column, `(k,)` each.

    Args:
        scores: `(d, k)`.
        chance: scores of a coordinate that tells nothing, `(k,)`: row 1, the second best, where there is one alone.
    """
    order = (scores if len(scores) > 1 else torch.cat([scores, chance[None]])).sort(dim=0, descending=True, stable=True)
    return order.indices[0], order.indices[1]


# --- mutual information --------------------------------------------------------------------------------------------


def mutual_information_table(z: Tensor, factors: Tensor, bins: int = BINS) -> Tensor:
    """I(z_j; v_k) of each coordinate and factor in nats, `(d, k)`, from a histogram of z_j with bins of equal width.

    Too large by about `(bins - 1) (values - 1) / (2 n)` where there is none.

    Errors as in `factor_table`; DataError too for fewer than two bins.
    """
    return _pointwise(factor_table(z, factors), bins).mean(0)


def mutual_information_gap(z: Tensor, factors: Tensor, bins: int = BINS) -> Measure:
    """MIG (Chen et al. 2018, arXiv:1802.04942): how far one coordinate is ahead of all others in telling of a factor.

    Of each factor: the difference of the two largest I(z_j; v_k), divided by the entropy of the factor; then the mean
    over factors. 0 to 1; 1 where every factor can be read off one coordinate and off no other. A coordinate that tells
    of several factors is not punished; see `modularity`.

    Args:
        z: `(n, d)`. The source has draws of the posterior; published comparisons mostly have its means, which show no
            noise, and in bins not even how little a coordinate varies.
        factors: `(n, k)` whole numbers.
        bins: of the histogram of a coordinate.

    Raises:
        ShapeError, DataError: as `mutual_information_table`.
    """
    table = factor_table(z, factors)
    pointwise = _pointwise(table, bins)
    surprise = torch.stack([_surprise(column) for column in table.labels.T], 1)  # -ln p(v), (n, k)
    entropy = surprise.mean(0)
    first, second = two_best(pointwise.mean(0), torch.zeros_like(entropy))
    ahead = _column(pointwise, first) - _column(pointwise, second)
    gap = ahead.mean(0) / entropy
    return _with_influence(gap.mean(), ((ahead - gap * surprise) / entropy).mean(1))


def modularity(z: Tensor, factors: Tensor, bins: int = BINS) -> Measure:
    """Modularity (Ridgeway & Mozer 2018, arXiv:1802.05312): whether a coordinate tells of one factor only.

    Of each coordinate: `1 - sum of the squared informations but the largest / (largest^2 (k - 1))`; then the mean over
    coordinates. 0 to 1; 1 where each tells of at most one factor. Coordinates without any information are left out.
    One that tells of nothing *but for chance* has a value like any other: choose the coordinates that are in use first.

    Args:
        z: `(n, d)`.
        factors: `(n, k)` whole numbers, k at least 2.
        bins: of the histogram of a coordinate.

    Raises:
        ShapeError: as `mutual_information_table`.
        DataError: likewise, and where no coordinate varies.
    """
    pointwise = _pointwise(factor_table(z, factors, least=2), bins)
    information = pointwise.mean(0)
    used = information.amax(1) > 0
    if not used.any():
        raise DataError(
            "No coordinate tells anything of a factor: all are constant. Train a model that uses its latent."
        )
    pointwise, information = pointwise[:, used], information[used]
    d, k = information.shape
    largest, at = information.max(1, keepdim=True)
    others = information.scatter(1, at, 0.0)
    delta = others.square().sum(1, keepdim=True) / (largest.square() * (k - 1))
    slope = (-2 * others / (largest.square() * (k - 1))).scatter(1, at, 2 * delta / largest) / d
    influence = ((pointwise - information) * slope).sum((1, 2))
    return _with_influence(1 - delta.mean(), influence)


def _pointwise(table: FactorTable, bins: int) -> Tensor:
    """ln p(bin, v) / (p(bin) p(v)) at each example, `(n, d, k)`: its mean is the information."""
    if bins < 2:
        raise DataError(f"{bins} bins tell nothing apart. Pass two or more.")
    low, high = table.z.amin(0), table.z.amax(0)
    width = torch.where(high > low, (high - low) / bins, torch.ones_like(high))
    which = ((table.z - low) / width).long().clamp(0, bins - 1)  # the largest belongs to the last
    columns = []
    for k, count in enumerate(table.values):
        cell = which * count + table.labels[:, k, None]
        joint = torch.stack([_surprise(column) for column in cell.T], 1)
        own = torch.stack([_surprise(column) for column in which.T], 1)
        columns.append(own + _surprise(table.labels[:, k])[:, None] - joint)
    return torch.stack(columns, 2)


def _surprise(label: Tensor) -> Tensor:
    """-ln of the share of examples with the same label, `(n,)`."""
    return -(torch.bincount(label)[label].double() / len(label)).log()


def _column(values: Tensor, row: Tensor) -> Tensor:
    """`values[:, row[k], k]`, `(n, k)`, 0 for the row behind the last."""
    padded = torch.cat([values, torch.zeros_like(values[:, :1])], 1)
    return padded[:, row, torch.arange(len(row))]


def _with_influence(value: Tensor, influence: Tensor) -> Measure:
    """A score and its error to first order: the spread of what each example does to it, `(n,)`."""
    return Measure(float(value), float(influence.std()) / math.sqrt(len(influence)), "score", Kind.ESTIMATE)


# --- variances -----------------------------------------------------------------------------------------------------


def factor_vae_score(
    z: Tensor,
    factors: Tensor,
    generator: torch.Generator,
    votes: int = 800,
    batch: int = 64,
    least_variance: float = 0.01,
) -> Measure:
    """FactorVAE score (Kim & Mnih 2018, arXiv:1802.05983): which coordinate keeps still when a factor is held?

    A vote: choose a factor and a value of it, draw a batch of examples that have it, and find the coordinate whose
    variance in the batch is smallest beside its variance over all examples. The coordinate is taken for the factor most
    often held when it was found; the score is how often that is right in as many other votes. About 1 / k to 1.

    Args:
        z: `(n, d)`, usually posterior means.
        factors: `(n, k)` whole numbers. Values should have many examples, else the batch repeats few.
        generator: draws factors, values and examples.
        votes: to assign coordinates, and as many to judge; 1 or more.
        batch: examples of a vote, 2 or more.
        least_variance: of a coordinate that has a say, in the unit of z squared; 0.01 is that of an active unit
            where the prior is N(0, 1). A coordinate out of use would keep as still as any.

    Returns:
        Its standard error is over votes.

    Raises:
        ShapeError: as `factor_table`.
        DataError: likewise, or too few votes or examples of a vote, or no coordinate varies.
    """
    table = factor_table(z, factors)
    if votes < 1 or batch < 2:
        raise DataError(f"There are {votes} votes of {batch} examples. Pass one vote or more, of two examples or more.")
    variance = table.z.var(0)
    used = variance > max(0.0, least_variance)
    if not used.any():
        raise DataError(
            f"No coordinate has a variance above {least_variance}: none is in use. Train a model that uses its latent, "
            "or lower least_variance if the latent has a small unit."
        )
    scaled = table.z[:, used] / variance[used].sqrt()
    held, stillest = _votes(scaled, table, generator, 2 * votes, batch)
    k = len(table.values)
    counts = torch.bincount(stillest[:votes] * k + held[:votes], minlength=scaled.shape[1] * k).view(-1, k)
    right = counts.argmax(1)[stillest[votes:]] == held[votes:]
    return mean_of(right.double(), "share of votes", Kind.ESTIMATE)


def _votes(
    scaled: Tensor, table: FactorTable, generator: torch.Generator, count: int, batch: int
) -> tuple[Tensor, Tensor]:
    """Factor held and coordinate with the smallest variance, of each vote, `(count,)` both."""
    n, k = table.labels.shape
    held = torch.randint(k, (count,), generator=generator)
    value = table.labels[torch.randint(n, (count,), generator=generator), held]
    order = table.labels.argsort(0)  # of each factor: its examples, value by value
    sizes = torch.zeros(k, max(table.values), dtype=torch.long).scatter_add_(
        1, table.labels.T, torch.ones_like(table.labels.T)
    )
    starts = sizes.cumsum(1) - sizes
    place = torch.rand(count, batch, generator=generator, dtype=torch.float64)
    within = (place * sizes[held, value][:, None]).long()
    rows = order[starts[held, value][:, None] + within, held[:, None]]
    at_once = max(1, AT_ONCE // (batch * scaled.shape[1]))
    return held, torch.cat([scaled[part].var(1).argmin(1) for part in rows.split(at_once)])
