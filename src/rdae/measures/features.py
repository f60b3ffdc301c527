"""How useful a representation is as features: what a simple classifier makes of it (Alain & Bengio 2016,
arXiv:1610.01644).

The classifiers are kept simple on purpose. What they cannot read off, the representation has not laid open, even where
it has kept it. Both look at labelled training features and are judged on test features; the representation itself
has seen no label.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rdae.errors import DataError, MissingExtraError, ShapeError
from rdae.measures.measure import Kind, Measure, mean_of

__all__ = ["STRENGTHS", "linear_probe", "nearest_neighbours"]

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # variances of a Gaussian prior of the weights
FOLDS = 5  # of the cross-validation that chooses between them
STEPS_MOST = 1000  # of L-BFGS
NEEDS = "Probes need scikit-learn ({}). Install it with: pip install 'rdae[measures]'"


class _Examples(NamedTuple):
    x: np.ndarray  # (n, features) float64
    label: np.ndarray  # (n,)


def linear_probe(train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor) -> Measure:
    """Accuracy of a multinomial logistic regression.

    Features are standardised with mean and standard deviation of the training features, so that their units do not
    matter. Weights, not biases, are penalised by `|w|^2 / (2 C)` nats beside the sum of the examples' cross-entropies,
    as if drawn from a Gaussian of variance C. C is the one of `STRENGTHS` with the best accuracy in a five-fold
    cross-validation within the training examples. Test examples have no part in the choice.

    Args:
        train_features: `(n, features)`, in any unit.
        train_labels: `(n,)`, whole numbers; at least two classes, five examples of each.
        test_features: `(m, features)`.
        test_labels: `(m,)`, of the same classes.

    Returns:
        Share of the test examples whose class is found, and its binomial standard error (0 where all are, or none).
        The error is that of the test examples alone: another draw of training examples is not in it.

    Raises:
        ShapeError: features or labels do not fit together.
        DataError: an element is no finite number, a label no class of the training examples, or a class too small.
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, StratifiedKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise MissingExtraError(NEEDS.format(error)) from error
    train, test = _checked(train_features, train_labels, test_features, test_labels)
    classes, counts = np.unique(train.label, return_counts=True)
    if counts.min() < FOLDS:
        raise DataError(
            f"Class {classes[counts.argmin()]} has {counts.min()} training examples, but a linear probe needs {FOLDS} "
            "of each. Add examples, leave the class out, or use nearest_neighbours."
        )
    probe = GridSearchCV(  # of strengths that are equally good the first
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=STEPS_MOST)),
        {"logisticregression__C": STRENGTHS},
        cv=StratifiedKFold(FOLDS, shuffle=True, random_state=0),
        error_score="raise",
    ).fit(train.x, train.label)
    return _accuracy(probe.predict(test.x), test.label)


def nearest_neighbours(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor, k: int = 5
) -> Measure:
    """Accuracy of the majority among the k nearest training examples, in Euclidean distance.

    Nothing is fitted and nothing is standardised: a rotation, a shift or one scale for all features change nothing, but
    a feature in a smaller unit counts for more. Of classes with equally many neighbours the smallest label wins.

    Args:
        train_features: `(n, features)`, all in one unit.
        train_labels: `(n,)`, whole numbers; at least two classes.
        test_features: `(m, features)`.
        test_labels: `(m,)`, of the same classes.
        k: neighbours asked, 1 to n.

    Returns:
        As `linear_probe`.

    Raises:
        ShapeError, DataError, MissingExtraError: as `linear_probe`; DataError too where there are fewer than k
            examples.
    """
    try:
        from sklearn.neighbors import KNeighborsClassifier
    except ImportError as error:
        raise MissingExtraError(NEEDS.format(error)) from error
    train, test = _checked(train_features, train_labels, test_features, test_labels)
    if not 1 <= k <= len(train.x):
        raise DataError(f"k is {k}, but there are {len(train.x)} training examples. Choose k from 1 to that.")
    neighbours = KNeighborsClassifier(k, algorithm="brute").fit(train.x, train.label)
    return _accuracy(neighbours.predict(test.x), test.label)


def _accuracy(found: np.ndarray, label: np.ndarray) -> Measure:
    return mean_of(torch.from_numpy(found == label), "of the test examples", Kind.ESTIMATE)


def _checked(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor
) -> tuple[_Examples, _Examples]:
    """Both sets of examples, of the same features and classes."""
    train, test = _examples("train", train_features, train_labels), _examples("test", test_features, test_labels)
    if train.x.shape[1] != test.x.shape[1]:
        raise ShapeError(
            f"train_features has {train.x.shape[1]} features but test_features {test.x.shape[1]}. "
            "Compute both with the same model."
        )
    classes = np.unique(train.label)
    if len(classes) < 2:
        raise DataError(f"All training examples are of class {classes[0]}. Pass examples of at least two classes.")
    strangers = np.setdiff1d(test.label, classes)
    if len(strangers):
        raise DataError(
            f"test_labels hold class {strangers[0]}, which no training example is of. "
            "Train on examples of every class, or leave those of this one out of the test."
        )
    return train, test


def _examples(name: str, features: Tensor, labels: Tensor) -> _Examples:
    if features.ndim != 2 or 0 in features.shape:
        raise ShapeError(
            f"{name}_features has shape {tuple(features.shape)}, not (examples, features). "
            "Flatten each example with .flatten(1), and check that there are any."
        )
    if labels.shape != features.shape[:1]:
        raise ShapeError(
            f"{name}_labels has shape {tuple(labels.shape)}, but there are {len(features)} examples. "
            "Pass one label for each example, in the same order."
        )
    if labels.is_floating_point() or labels.is_complex():
        raise DataError(f"{name}_labels are {labels.dtype}, but a class is a whole number. Convert them with .long().")
    bad = ~torch.isfinite(features)
    if bad.any():
        row, column = bad.nonzero()[0].tolist()
        raise DataError(
            f"{name}_features: element [{row}, {column}] is {float(features[row, column])}. "
            "Features are finite numbers: leave this example out, or look for where its model diverged."
        )
    return _Examples(features.detach().double().cpu().numpy(), labels.cpu().numpy())
