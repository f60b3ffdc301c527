"""Probes: a closed form for the linear one, enumeration for the neighbours, chance, invariances, refusals."""

from __future__ import annotations

import math
import sys
from collections import Counter
from typing import NamedTuple

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from torch import Tensor
from torch.distributions import Normal

from rdae.errors import DataError, MissingExtraError, ShapeError
from rdae.measures.features import linear_probe, nearest_neighbours
from rdae.measures.measure import Kind

BOTH = pytest.mark.parametrize("probe", [linear_probe, nearest_neighbours])


class Split(NamedTuple):
    """The four arguments of a probe."""

    x: Tensor
    label: Tensor
    x_test: Tensor
    label_test: Tensor


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, rng: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def clusters(n: int = 300, classes: int = 3, apart: float = 2.0, seed: int = 1) -> Split:
    """Classes around points of a plane, overlapping, in four dimensions."""
    rng = drawn(seed)
    centres = apart * torch.tensor([[math.cos(a), math.sin(a), 0.0, 0.0] for a in range(classes)], dtype=torch.float64)
    labels = [torch.randint(classes, (n,), generator=rng) for _ in range(2)]
    x, x_test = (centres[label] + normal(n, 4, rng=rng) for label in labels)
    return Split(x, labels[0], x_test, labels[1])


# --- known answers -------------------------------------------------------------------------------------------------


@BOTH
def test_separable_classes_are_all_found(probe):
    measure = probe(*clusters(apart=100.0))
    assert measure.value == 1
    assert measure.standard_error == 0
    assert measure.kind is Kind.ESTIMATE


@BOTH
@pytest.mark.parametrize("classes", [2, 10])
def test_features_that_know_nothing_of_the_label_give_chance(probe, classes):
    rng = drawn(2)
    x, x_test = normal(500, 8, rng=rng), normal(4000, 8, rng=rng)
    labels, labels_test = (torch.randint(classes, (n,), generator=rng) for n in (500, 4000))
    measure = probe(x, labels, x_test, labels_test)
    # whatever it predicts, a label drawn apart agrees with probability 1 / classes
    assert abs(measure.value - 1 / classes) < 3 * measure.standard_error
    assert measure.standard_error == pytest.approx(math.sqrt((1 - 1 / classes) / classes / 4000), rel=0.1)


@pytest.mark.parametrize("share", [0.5, 0.85])
def test_the_linear_probe_is_as_good_as_the_bayes_rule_of_two_gaussians(share):
    """Of equal covariance: the rule is linear and right with probability
    `p1 Phi(d/2 + t/d) + p0 Phi(d/2 - t/d)`, d the Mahalanobis distance of the means and `t = ln p1 / p0`."""
    rng, n = drawn(3), 20_000
    factor = torch.tensor([[1.0, 0, 0], [3.0, 0.2, 0], [-40.0, 5.0, 30.0]], dtype=torch.float64)
    shift = factor @ torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
    distance, odds = 1.5, math.log(share / (1 - share))
    phi = Normal(0.0, 1.0).cdf
    right = share * phi(torch.tensor(distance / 2 + odds / distance)) + (1 - share) * phi(
        torch.tensor(distance / 2 - odds / distance)
    )

    def examples() -> tuple[Tensor, Tensor]:
        label = (torch.rand(n, generator=rng) < share).long()
        return normal(n, 3, rng=rng) @ factor.T + label[:, None] * shift, label

    measure = linear_probe(*examples(), *examples())
    # fitting three weights to 20,000 examples costs some 3 / 20,000 at most, a sixteenth of the standard error
    assert abs(measure.value - float(right)) < 3 * measure.standard_error
    assert measure.standard_error < 0.004


def test_many_idle_features_do_not_drown_the_useful_ones():
    """200 weights without a penalty follow the noise of 220 examples. With a strong one they become the difference of
    the class means w, whose mistakes are known: `Phi(m.w / |w|)` is right, m half the true difference, and of its
    estimate `E m.w = |m|^2`, `E |w|^2 = |m|^2 + 200 / 220`."""
    rng, m2 = drawn(4), 20 * 0.4**2
    signs = [2 * (torch.arange(n) % 2) - 1 for n in (220, 4000)]
    x, x_test = (normal(len(sign), 200, rng=rng) for sign in signs)
    for some, sign in zip((x, x_test), signs, strict=True):
        some[:, :20] += 0.4 * sign[:, None]
    measure = linear_probe(x, signs[0], x_test, signs[1])
    z = m2 / math.sqrt(m2 + 200 / 220)
    means, bayes = Normal(0.0, 1.0).cdf(torch.tensor([z, math.sqrt(m2)])).tolist()
    # m.w has the standard deviation sqrt(m2 / 220): what this draw of training examples adds to the error
    draw = math.sqrt(m2 / 220) / math.sqrt(m2 + 200 / 220) * math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    assert measure.value > means - 3 * math.hypot(draw, measure.standard_error)
    assert measure.value < bayes + 3 * measure.standard_error


@pytest.mark.parametrize(("k", "found"), [(1, [0, 0, 1, 1]), (3, [0, 1, 1, 1]), (4, [0, 0, 0, 1]), (5, [1, 1, 1, 1])])
def test_neighbours_of_a_line_are_counted_by_hand(k, found):
    """Points 0, 1 of class 0 and 2, 2.5, 10 of class 1. Of the four next to 2.6 two are of either: the smaller wins."""
    x, label = torch.tensor([[0.0], [1.0], [2.0], [2.5], [10.0]]), torch.tensor([0, 0, 1, 1, 1])
    for at, expected in zip((0.4, 1.4, 2.6, 8.0), found, strict=True):
        measure = nearest_neighbours(x, label, torch.tensor([[at]]), torch.tensor([expected]), k=k)
        assert measure.value == 1, f"k = {k} at {at}"


@pytest.mark.parametrize("k", [1, 2, 5, 40])
def test_neighbours_are_those_of_a_double_loop(k):
    split = clusters(n=40)
    right = 0
    for y, label in zip(split.x_test.tolist(), split.label_test.tolist(), strict=True):
        near = sorted((math.dist(y, x), own) for x, own in zip(split.x.tolist(), split.label.tolist(), strict=True))
        votes = Counter(own for _, own in near[:k])
        right += min(votes, key=lambda own: (-votes[own], own)) == label
    measure = nearest_neighbours(*split, k=k)
    assert measure.value == pytest.approx(right / 40, abs=1e-12)
    assert measure.standard_error == pytest.approx(math.sqrt(right / 40 * (1 - right / 40) / 39), abs=1e-12)


# --- invariances ---------------------------------------------------------------------------------------------------


def test_units_of_features_mean_nothing_to_the_linear_probe():
    split = clusters()
    scale = torch.tensor([2.0**-20, 1.0, 2.0**10, -4.0], dtype=torch.float64)  # powers of two: nothing is rounded
    moved = linear_probe(split.x * scale, split.label, split.x_test * scale, split.label_test)
    assert moved == linear_probe(*split)


def test_a_feature_that_never_changes_means_nothing_to_the_linear_probe():
    split = clusters()
    wider = [torch.cat([x, torch.full_like(x[:, :1], 7.0)], 1) for x in (split.x, split.x_test)]
    assert linear_probe(wider[0], split.label, wider[1], split.label_test) == linear_probe(*split)


def test_rotation_shift_and_scale_mean_nothing_to_neighbours():
    split = clusters()
    turn = torch.linalg.qr(normal(4, 4, rng=drawn(5))).Q
    moved = nearest_neighbours(30 * split.x @ turn + 5, split.label, 30 * split.x_test @ turn + 5, split.label_test)
    assert moved == nearest_neighbours(*split)


@BOTH
def test_names_of_classes_mean_nothing(probe):
    split = clusters()
    named = torch.tensor([-3, 40, 1000])  # in the same order, which breaks ties
    assert probe(split.x, named[split.label], split.x_test, named[split.label_test]) == probe(*split)


@BOTH
def test_test_examples_are_judged_one_by_one(probe):
    """The share found is the mean over parts: what is fitted and chosen cannot have seen the test set."""
    split = clusters()
    parts = [
        probe(split.x, split.label, split.x_test[part], split.label_test[part]).value
        for part in (slice(100), slice(100, 300))
    ]
    assert (parts[0] + 2 * parts[1]) / 3 == pytest.approx(probe(*split).value, abs=1e-12)


@BOTH
def test_the_same_call_gives_the_same_number(probe):
    split = clusters()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert probe(*split) == probe(*split)
    assert torch.equal(before, torch.get_rng_state())


@BOTH
def test_features_may_be_single_precision_and_carry_gradients(probe):
    split = clusters(apart=100.0)
    assert probe(split.x.float().requires_grad_(), split.label.int(), split.x_test.float(), split.label_test).value == 1


# --- refusals ------------------------------------------------------------------------------------------------------


WRONG = {
    "images": ({"x": torch.zeros(300, 2, 2)}, ShapeError, "flatten"),
    "no features": ({"x_test": torch.zeros(300, 0)}, ShapeError, "check that there are any"),
    "other features": ({"x_test": torch.zeros(300, 5)}, ShapeError, "same model"),
    "too few labels": ({"label": torch.zeros(299).long()}, ShapeError, "one label for each example"),
    "one-hot": ({"label_test": torch.zeros(300, 3).long()}, ShapeError, "one label for each example"),
    "real labels": ({"label": torch.zeros(300)}, DataError, r"\.long\(\)"),
    "no number": ({"x": torch.full((300, 4), math.nan)}, DataError, r"\[0, 0\] is nan.*diverged"),
    "infinite": ({"x_test": torch.full((300, 4), -math.inf)}, DataError, "test_features.*diverged"),
    "one class": ({"label": torch.ones(300).long()}, DataError, "at least two classes"),
    "unknown class": ({"label_test": torch.full((300,), 7)}, DataError, "class 7.*every class"),
}


@BOTH
@pytest.mark.parametrize(("change", "error", "cure"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(probe, change, error, cure):
    with pytest.raises(error, match=cure):
        probe(*clusters()._replace(**change))


def test_a_class_too_small_to_hold_any_out_is_refused():
    split = clusters()
    label = torch.where(torch.arange(300) < 4, 9, split.label)
    with pytest.raises(DataError, match=r"Class 9 has 4 training examples.*nearest_neighbours"):
        linear_probe(split.x, label, split.x_test, split.label_test)


@pytest.mark.parametrize("k", [0, -1, 301])
def test_more_neighbours_than_examples_are_refused(k):
    with pytest.raises(DataError, match="Choose k from 1"):
        nearest_neighbours(*clusters(), k=k)


@BOTH
def test_a_missing_package_is_named(probe, monkeypatch):
    for name in ("sklearn.linear_model", "sklearn.neighbors"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match="pip install"):
        probe(*clusters())
