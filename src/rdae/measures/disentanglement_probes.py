"""How well predictors find known factors in a latent, and in how many of its coordinates: SAP, DCI and explicitness.

Latents are a table, `z` `(n, d)`, factors another, `(n, k)` of whole numbers. Every predictor is fitted on one half of
the examples and judged on the other, and the other way round, halves being balanced in the factor. On what the scores
mean, and why one seed is not enough, see `rdae.measures.disentanglement`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rdae.errors import DataError, MissingExtraError
from rdae.measures.disentanglement import FactorTable, factor_table, two_best
from rdae.measures.measure import Kind, Measure, mean_of

__all__ = ["DCI", "completeness", "dci", "disentanglement", "explicitness", "sap_score"]

NEEDS = "These scores need scikit-learn ({}). Install it with: pip install 'rdae[measures]'"


class DCI(NamedTuple):
    """Disentanglement, completeness, informativeness."""

    disentanglement: Measure  # does a coordinate matter for one factor only?
    completeness: Measure  # does one coordinate suffice for a factor?
    informativeness: Measure  # mean accuracy of the predictors
    importance: Tensor  # (d, k): share of each coordinate in predicting a factor, columns summing to 1


def sap_score(z: Tensor, factors: Tensor, unordered: Collection[int] = ()) -> Measure:
    """SAP, separated attribute predictability (Kumar et al. 2018, arXiv:1711.00848).

    Of each factor: how much better the best single coordinate predicts it than the second best; then the mean over
    factors. 0 to 1. An ordered factor is predicted by a line, scored by R^2, with the number of the value as its place.
    An unordered one is predicted by thresholds on the coordinate, one fewer than it has values, scored by its accuracy
    on other examples, each value counting the same; the largest difference is then 1 - 1 / values.

    Args:
        z: `(n, d)`.
        factors: `(n, k)` whole numbers, in order unless said otherwise.
        unordered: columns of factors without an order, such as a shape or an angle.

    Raises:
        ShapeError, DataError: as `factor_table`; DataError too where `unordered` names no column.
        MissingExtraError: there are unordered factors, and scikit-learn is not installed.
    """
    table = factor_table(z, factors)
    d, k = table.z.shape[1], len(table.values)
    if strangers := set(unordered) - set(range(k)):
        raise DataError(f"There is no factor {min(strangers)}. Number the columns from 0 to {k - 1}.")
    scores, influence = torch.zeros(d, k).double(), torch.zeros(len(table.z), d + 1, k).double()
    chance = torch.tensor([1 / v if f in unordered else 0.0 for f, v in enumerate(table.values)]).double()
    for f in range(k):
        by = _thresholds if f in unordered else _line
        for j in range(d):
            scores[j, f], influence[:, j, f] = by(table, j, f)
    best, second = two_best(scores, chance)
    every, padded = torch.arange(k), torch.cat([scores, chance[None]])
    value = (padded[best, every] - padded[second, every]).mean()
    change = (influence[:, best, every] - influence[:, second, every]).mean(1)
    return Measure(float(value), float(change.std()) / math.sqrt(len(change)), "score", Kind.ESTIMATE)


def _line(table: FactorTable, j: int, f: int) -> tuple[Tensor, Tensor]:
    """R^2 of a straight line, and what each example does to it."""
    x, y = table.z[:, j], table.labels[:, f].double()
    x, y = ((v - v.mean()) / v.std(correction=0).clamp_min(1e-300) for v in (x, y))
    r = (x * y).mean()
    return r.square(), 2 * r * (x * y - r * (x.square() + y.square()) / 2)


def _thresholds(table: FactorTable, j: int, f: int) -> tuple[Tensor, Tensor]:
    """Balanced accuracy of thresholds, and what each example does to it."""
    try:
        from sklearn.tree import DecisionTreeClassifier
    except ImportError as error:
        raise MissingExtraError(NEEDS.format(error)) from error
    x, label = table.z[:, [j]].numpy(), table.labels[:, f]
    right = torch.zeros(len(x), dtype=torch.float64)
    for fitted, judged in _halves(label):
        tree = DecisionTreeClassifier(max_leaf_nodes=table.values[f], class_weight="balanced", random_state=0)
        tree.fit(x[fitted], label[fitted].numpy())
        right[judged] = torch.from_numpy(tree.predict(x[judged]) == label[judged].numpy()).double()
    counts = torch.bincount(label).double()
    accuracy = torch.zeros_like(counts).index_add_(0, label, right) / counts
    weight = len(x) / (len(counts) * counts[label])
    return accuracy.mean(), weight * (right - accuracy[label])


def dci(z: Tensor, factors: Tensor, trees: int = 100) -> DCI:
    """DCI (Eastwood & Williams 2018, openreview.net/forum?id=By-7dz-AZ), with gradient boosting of trees.

    A classifier of each factor sees all coordinates; how much each counts for it (the mean fall of impurity at their
    splits) is its importance. `disentanglement` and `completeness` of that table are 0 to 1. Informativeness is the
    accuracy on examples that were not fitted, from the share of the commonest value to 1, mean over factors; many
    report the error instead, which is 1 minus it.

    Args:
        z: `(n, d)`.
        factors: `(n, k)` whole numbers, k at least 2.
        trees: of each value of a factor. Time grows with n, d, trees, and values: a minute for a factor of 8 values,
            10 coordinates and 20,000 examples; a few thousand examples are enough.

    Returns:
        Values are means over the two halves. The errors of the first two are from their difference, one degree of
        freedom: an order of magnitude, no more.

    Raises:
        ShapeError, DataError: as `factor_table`.
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import GradientBoostingClassifier
    except ImportError as error:
        raise MissingExtraError(NEEDS.format(error)) from error
    if trees < 1:
        raise DataError(f"{trees} trees cannot classify. Pass 1 or more.")
    table = factor_table(z, factors, least=2)
    x = table.z.numpy()
    importance = torch.zeros(2, x.shape[1], len(table.values), dtype=torch.float64)
    right = torch.zeros(len(x), dtype=torch.float64)
    for f, label in enumerate(table.labels.T):
        for half, (fitted, judged) in enumerate(_halves(label)):
            forest = GradientBoostingClassifier(n_estimators=trees, random_state=0)
            forest.fit(x[fitted], label[fitted].numpy())
            importance[half, :, f] = torch.from_numpy(forest.feature_importances_)
            found = torch.from_numpy(forest.predict(x[judged]) == label[judged].numpy())
            right[judged] += found.double() / len(table.values)
    return DCI(
        mean_of(torch.tensor([disentanglement(part) for part in importance]), "score", Kind.ESTIMATE),
        mean_of(torch.tensor([completeness(part) for part in importance]), "score", Kind.ESTIMATE),
        mean_of(right, "accuracy", Kind.ESTIMATE),
        importance.mean(0),
    )


def disentanglement(importance: Tensor) -> float:
    """1 less the entropy of what each coordinate is important for, in units of ln k; mean weighted by importance.

    Args:
        importance: `(d, k)`, none negative, of any predictor.

    Raises:
        DataError: an importance is negative or not finite, or all are 0.
    """
    _check(importance)
    purity, weight = _purity(importance.double()), importance.double().sum(1)
    return float((purity * weight).sum() / weight.sum())


def completeness(importance: Tensor) -> float:
    """1 less the entropy of which coordinates are important for each factor, in units of ln d; mean over factors.

    Arguments and errors as for `disentanglement`. A factor that nothing is important for counts as 0.
    """
    _check(importance)
    return float(_purity(importance.double().T).mean())


def _check(importance: Tensor) -> None:
    if importance.ndim != 2 or not (importance >= 0).all() or not 0 < float(importance.sum()) < math.inf:
        raise DataError(
            "Importances are no table of finite numbers of 0 and more, some above 0. Take absolute values; where all "
            "are 0, the predictors have learned nothing."
        )


def _purity(rows: Tensor) -> Tensor:
    """1 for a row with all its weight in one place, 0 for an even one, `(rows,)`."""
    if rows.shape[1] == 1:
        return torch.ones(len(rows), dtype=rows.dtype)
    total = rows.sum(1, keepdim=True)
    even = torch.full_like(rows, 1 / rows.shape[1])
    share = torch.where(total > 0, rows / total.clamp_min(1e-300), even)
    return 1 - torch.special.entr(share).sum(1) / math.log(rows.shape[1])


def explicitness(z: Tensor, factors: Tensor) -> Measure:
    """Explicitness (Ridgeway & Mozer 2018, arXiv:1802.05312): can factors be read off linearly from all coordinates?

    The mean, over values of a factor, then over factors, of the area under the ROC curve of a logistic regression that
    tells this value from the others. 1/2 (chance) to 1, not stretched to 0 to 1. How many coordinates it takes does not
    matter: an invertible linear map of z changes it little.

    Args:
        z: `(n, d)`.
        factors: `(n, k)` whole numbers.

    Raises:
        ShapeError, DataError: as `factor_table`.
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise MissingExtraError(NEEDS.format(error)) from error
    table = factor_table(z, factors)
    x, k = table.z.numpy(), len(table.values)
    influence, total = torch.zeros(len(x), dtype=torch.float64), 0.0
    for label, values in zip(table.labels.T, table.values, strict=True):
        for fitted, judged in _halves(label):
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            model.fit(x[fitted], label[fitted].numpy())
            odds = torch.from_numpy(model.predict_proba(x[judged]))
            for value in range(values):
                area, change = _area(odds[:, value], label[judged] == value)
                total += area / (2 * k * values)
                influence[judged] += change / (k * values)
    return Measure(total, float(influence.std()) / math.sqrt(len(x)), "area under the ROC curve", Kind.ESTIMATE)


def _area(score: Tensor, positive: Tensor) -> tuple[float, Tensor]:
    """Share of pairs, a positive and a negative, in order, ties counting half; and what each example does to it."""
    ups, downs = score[positive].sort().values, score[~positive].sort().values
    placed = torch.zeros_like(score)
    for mine, others in ((positive, downs), (~positive, ups)):
        own = score[mine].contiguous()
        below, upto = (torch.searchsorted(others, own, right=right).double() for right in (False, True))
        placed[mine] = (below + upto) / (2 * len(others))
    placed[~positive] = 1 - placed[~positive]
    area = float(placed[positive].mean())
    share = torch.where(positive, positive.double().mean(), (~positive).double().mean())
    return area, (placed - area) / share


def _halves(label: Tensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit on and rows to judge on, twice."""
    from sklearn.model_selection import StratifiedKFold

    return StratifiedKFold(2, shuffle=True, random_state=0).split(np.zeros(len(label)), label.numpy())
