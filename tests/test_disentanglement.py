"""Scores of disentanglement against values computed by hand on small tables of factors."""

from __future__ import annotations

import math
import sys

import pytest

torch = pytest.importorskip("torch")

from test_mmd import generator, normal, spread
from torch import Tensor

import rdae.measures.disentanglement as module
from rdae.errors import DataError, MissingExtraError, ShapeError
from rdae.measures.disentanglement import (
    factor_table,
    factor_vae_score,
    modularity,
    mutual_information_gap,
    mutual_information_table,
)
from rdae.measures.disentanglement_probes import completeness, dci, disentanglement, explicitness, sap_score
from rdae.measures.measure import Kind, Measure

LN2 = math.log(2)


def grid(*counts: int, times: int = 1) -> Tensor:
    """Every combination of factors, each so many times."""
    every = torch.cartesian_prod(*(torch.arange(c) for c in counts))
    return every.reshape(-1, len(counts)).repeat(times, 1)


def noisy(v: Tensor, g: torch.Generator, noise: float = 0.7) -> Tensor:
    return v.double() + noise * normal(*v.shape, g)


# --- MIG and modularity --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "mig", "modular"), [
    ("factors", 1.0, 1.0),
    ("moved, scaled, permuted", 1.0, 1.0),
    ("one twice", 0.5, 1.0),  # the gap of the doubled factor is 0
    ("both in one", 1.0, 1 - (math.log(3) / math.log(4)) ** 2),  # a gap to nothing: MIG does not mind
    ("one alone", 0.5, 1.0),
], ids=lambda v: v if isinstance(v, str) else "")  # fmt: skip
def test_gap_and_modularity_by_hand(name, mig, modular):
    v = grid(4, 3, times=2)
    a, b = v[:, :1], v[:, 1:]
    z = {
        "factors": v,
        "moved, scaled, permuted": torch.cat([-10.0 * b + 3, a * 1e-3], 1),
        "one twice": torch.cat([a, b, -a], 1),
        "both in one": 3 * a + b,
        "one alone": torch.cat([a, 0 * a], 1),  # what is constant tells nothing, and has no modularity
    }[name]
    assert mutual_information_gap(z, v).value == pytest.approx(mig)
    assert modularity(z, v).value == pytest.approx(modular)


def test_sum_and_difference_of_two_coins():
    """1 and 1 of 2 bits: each coordinate tells half a bit of each coin, so no gap, no modularity, no SAP."""
    v = grid(2, 2, times=3)
    z = torch.stack([v[:, 0] + v[:, 1], v[:, 0] - v[:, 1]], 1)
    torch.testing.assert_close(mutual_information_table(z, v), torch.full((2, 2), 0.5 * LN2).double())
    assert mutual_information_gap(z, v).value == pytest.approx(0, abs=1e-12)
    assert modularity(z, v).value == pytest.approx(0, abs=1e-12)
    assert sap_score(z, v).value == pytest.approx(0, abs=1e-12)  # each R^2 is 1/2


def test_a_coin_seen_through_noise():
    """Wrong in one of ten: ln 2 - H(0.1) of ln 2; the parity of two coins tells of neither."""
    v = grid(2, 2, times=10)
    wrong = torch.arange(40) // 4 == 0
    seen = torch.where(wrong, 1 - v[:, 0], v[:, 0])
    entropy = -0.1 * math.log(0.1) - 0.9 * math.log(0.9)
    z = torch.stack([seen, v[:, 0] ^ v[:, 1]], 1)
    table = mutual_information_table(z, v)
    torch.testing.assert_close(table[0, 0], torch.tensor(LN2 - entropy).double())
    torch.testing.assert_close(table[1], torch.zeros(2).double(), rtol=0, atol=1e-12)
    assert mutual_information_gap(z[:, :1], v[:, :1]).value == pytest.approx(1 - entropy / LN2)


def test_bins_have_equal_width_and_hold_the_largest():
    v = torch.tensor([[0], [0], [1], [1]])
    z = torch.tensor([[0.0], [0.49], [0.51], [1.0]])
    assert mutual_information_gap(z, v, bins=2).value == pytest.approx(1)
    z[1] = 0.51  # now three in the upper bin
    assert mutual_information_gap(z, v, bins=2).value == pytest.approx(0.75 * math.log(4 / 3) / LN2)


def test_random_latents_have_no_gap_and_the_bias_that_is_documented():
    v, g = grid(4, 4, times=100), generator(1)
    table = torch.stack([mutual_information_table(torch.rand(1600, 5, generator=g), v) for _ in range(10)])
    assert float(table.mean()) == pytest.approx(19 * 3 / (2 * 1600), rel=0.1)  # 100 values, each spread by a quarter
    assert mutual_information_gap(normal(1600, 5, g), v).value < 0.01


def test_a_rotation_lowers_every_score_but_explicitness():
    pytest.importorskip("sklearn")
    g = generator(2)
    v = grid(5, 5, times=10)
    z = noisy(v, g, 0.1) - 2
    turned = z @ torch.tensor([[1.0, -1.0], [1.0, 1.0]]).double() / math.sqrt(2)
    for score in (mutual_information_gap, modularity, sap_score):
        assert score(z, v).value > 0.9
        assert score(turned, v).value < 0.1
    assert factor_vae_score(z, v, g).value > 0.99
    assert factor_vae_score(turned, v, g).value < 0.6
    before, after = dci(z, v, trees=10), dci(turned, v, trees=10)
    assert min(before.disentanglement.value, before.completeness.value) > 0.95
    assert max(after.disentanglement.value, after.completeness.value) < 0.1
    assert explicitness(turned, v).value == pytest.approx(explicitness(z, v).value, abs=0.01)


# --- FactorVAE score -----------------------------------------------------------------------------------------------


def test_the_votes_are_all_right_for_the_factors_themselves():
    v = grid(3, 4, 5, times=4)
    for z in (v, torch.cat([v, v[:, :1]], 1), v * torch.tensor([5.0, -1.0, 0.5]) + 7):
        assert factor_vae_score(z.double(), v, generator()) == (1.0, 0.0, "share of votes", Kind.ESTIMATE)


def test_the_votes_of_one_coordinate_and_of_noise_are_chance():
    v, g = grid(4, 4, times=50), generator(3)
    one = factor_vae_score(v[:, :1].double(), v, g, votes=2000)  # it keeps still whatever is held
    assert one.value == pytest.approx(0.5, abs=4 * one.standard_error)
    random = factor_vae_score(normal(800, 6, g), v, g, votes=2000)
    assert random.value == pytest.approx(0.5, abs=4 * random.standard_error)
    assert one.standard_error == pytest.approx(math.sqrt(0.25 / 2000), rel=0.01)


def test_a_coordinate_out_of_use_has_no_say():
    v, g = grid(3, 3, times=30), generator(4)
    idle = 1e-3 * normal(270, 1, g)
    z = torch.cat([v.double(), idle], 1)
    assert factor_vae_score(z, v, g).value == 1
    with pytest.raises(DataError, match="lower least_variance"):
        factor_vae_score(idle, v, g)
    assert factor_vae_score(torch.cat([1e-3 * v, idle], 1), v, g, least_variance=0.0).value == 1


def test_votes_hold_their_factor_and_come_from_every_value(monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 1000)  # in many blocks
    v = torch.tensor([[0, 0]] * 6 + [[0, 1]] * 2 + [[1, 1]] * 4)
    table, g = factor_table(torch.arange(12.0)[:, None], v), generator(5)
    taken = []
    monkeypatch.setattr(Tensor, "var", lambda self, *_: taken.append(self) or self.mean(1))
    held, _ = module._votes(table.z, table, g, 600, 5)
    rows = torch.cat(taken)[..., 0].long()
    chosen = v[rows, held[:, None]]
    assert bool((chosen == chosen[:, :1]).all())
    counts = torch.bincount(rows[held == 1].flatten(), minlength=12).double()
    assert float(counts.min()) > 0.5 * float(counts.mean())  # some 125 each


# --- SAP -----------------------------------------------------------------------------------------------------------


def test_sap_by_hand():
    v = grid(3, 2, times=10)
    assert sap_score(v, v).value == pytest.approx(1)
    assert sap_score(torch.cat([v, -v[:, :1]], 1), v).value == pytest.approx(0.5)  # a double leaves no gap
    assert sap_score(torch.cat([v, 0 * v], 1), v).value == pytest.approx(1)


def test_sap_of_an_unordered_factor_is_by_thresholds():
    """The square of -1, 0, 1 tells 0 from the rest: right in two of three values; a line sees nothing of it."""
    pytest.importorskip("sklearn")
    v = grid(3, times=20)
    z = (v - 1).square()
    assert sap_score(z, v).value == pytest.approx(0, abs=1e-12)
    assert sap_score(z, v, unordered=[0]).value == pytest.approx(2 / 3 - 1 / 3)
    both = torch.cat([z, 0 * z], 1)  # with a second coordinate that tells nothing
    assert sap_score(both, v, unordered=[0]).value == pytest.approx(2 / 3 - 1 / 3)
    assert sap_score(v, v, unordered=[0]).value == pytest.approx(1 - 1 / 3)
    with pytest.raises(DataError, match="no factor 1"):
        sap_score(z, v, unordered=[1])


# --- DCI and explicitness ------------------------------------------------------------------------------------------


def test_disentanglement_and_completeness_of_importances_by_hand():
    assert disentanglement(torch.eye(3)) == completeness(torch.eye(3)) == 1
    assert disentanglement(torch.ones(4, 2)) == completeness(torch.ones(4, 2)) == pytest.approx(0)
    mixed = torch.tensor([[1.0, 0.5], [0.0, 0.5]])
    entropy = -(2 / 3) * math.log2(2 / 3) - (1 / 3) * math.log2(1 / 3)
    assert disentanglement(mixed) == pytest.approx(0.75 * (1 - entropy) + 0.25)
    assert completeness(mixed) == pytest.approx(0.5)
    assert completeness(torch.ones(1, 3)) == 1  # one coordinate suffices for each factor
    assert disentanglement(torch.ones(1, 3)) == pytest.approx(0)
    assert completeness(torch.tensor([[1.0, 0.0], [0.0, 0.0]])) == pytest.approx(0.5)
    for wrong in (torch.zeros(2, 2), -torch.eye(2), torch.full((2, 2), math.nan), torch.ones(3)):
        with pytest.raises(DataError, match="absolute values"):
            disentanglement(wrong)


def test_dci_of_the_factors_of_noise_and_of_a_divided_factor():
    pytest.importorskip("sklearn")
    g = generator(6)
    v = grid(4, 4, times=25)
    found = dci(v, v, trees=10)
    for measure in found[:3]:
        assert measure.value == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(found.importance, torch.eye(2).double(), rtol=0, atol=1e-6)
    noise = dci(normal(400, 4, g), v, trees=10)
    assert max(noise.disentanglement.value, noise.completeness.value) < 0.1
    chance = noise.informativeness
    assert chance.value == pytest.approx(0.25, abs=4 * chance.standard_error)
    # the two bits of the first factor in a coordinate each: disentangled, not complete
    divided = dci(torch.stack([v[:, 0] // 2, v[:, 0] % 2, v[:, 1]], 1), v, trees=10)
    assert divided.disentanglement.value == pytest.approx(1, abs=1e-6)
    assert divided.completeness.value == pytest.approx((1 + 1 - LN2 / math.log(3)) / 2, abs=0.01)
    assert divided.informativeness.value == 1


def test_explicitness_by_hand():
    pytest.importorskip("sklearn")
    v = grid(2, 2, times=200)
    assert explicitness(v, v).value == pytest.approx(1)
    parity = (v[:, :1] + v[:, 1:]) % 2  # tells of neither by itself
    assert explicitness(parity, v).value == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(400))
    three = grid(3, times=20)
    # the square of -1, 0, 1: area 1 for the middle; for either end half of its pairs are ties
    assert explicitness((three - 1).square(), three).value == pytest.approx((1 + 0.75 + 0.75) / 3)
    g = generator(7)
    random = explicitness(normal(900, 3, g), grid(3, 3, times=100))
    assert random.value == pytest.approx(0.5, abs=4 * random.standard_error)


# --- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [mutual_information_gap, modularity, sap_score])
def test_the_error_is_the_spread_over_draws_of_examples(score):
    g = generator(8)

    def once() -> Measure:
        v = torch.randint(3, (400, 2), generator=g)
        return score(noisy(v, g) @ torch.tensor([[1.0, 0.3], [0.3, 1.0]]).double(), v)

    _, deviation, error = spread([once() for _ in range(150)])
    assert error == pytest.approx(deviation, rel=0.25)  # 4 standard errors of a deviation from 150


def test_the_error_of_scores_with_predictors_is_the_spread_too():
    """Rough: the two halves are cut alike in every draw, and the fit varies too."""
    pytest.importorskip("sklearn")
    g = generator(9)

    def once(score) -> Measure:
        v = torch.randint(3, (300, 1), generator=g)
        return score(torch.cat([noisy(v, g), normal(300, 1, g)], 1), v)

    for score in (explicitness, lambda z, v: sap_score(z, v, unordered=[0])):
        _, deviation, error = spread([once(score) for _ in range(60)])
        assert error == pytest.approx(deviation, rel=0.45)


def test_tables_that_cannot_be_scored_are_refused():
    v, z = grid(2, 2, times=3), torch.rand(12, 2)
    for latents, factors in ((z[:5], v), (z[0], v), (z, v[:, 0]), (z[:, :0], v)):
        with pytest.raises(ShapeError, match="a row an example"):
            mutual_information_gap(latents, factors)
    with pytest.raises(ShapeError, match="2 or more factors"):
        modularity(z, v[:, :1])
    with pytest.raises(DataError, match=r"as \.long\(\)"):
        mutual_information_gap(z, v.float())
    with pytest.raises(DataError, match="not finite"):
        mutual_information_gap(z / 0, v)
    with pytest.raises(DataError, match="Factor 1 is 0 in all examples"):
        mutual_information_gap(z, v * torch.tensor([1, 0]))
    with pytest.raises(DataError, match="put into bins first"):
        mutual_information_gap(z, torch.arange(12)[:, None])
    with pytest.raises(DataError, match="two or more"):
        mutual_information_gap(z, v, bins=1)
    with pytest.raises(DataError, match="all are constant"):
        modularity(0 * z, v)
    for votes, batch in ((0, 64), (10, 1)):
        with pytest.raises(DataError, match="one vote or more"):
            factor_vae_score(z, v, generator(), votes, batch)


def test_without_scikit_learn_the_message_names_the_extra(monkeypatch):
    for name in ("sklearn.tree", "sklearn.ensemble", "sklearn.linear_model"):
        monkeypatch.setitem(sys.modules, name, None)
    v = grid(2, 2, times=3)
    for call in (lambda: dci(v, v), lambda: explicitness(v, v), lambda: sap_score(v, v, unordered=[0])):
        with pytest.raises(MissingExtraError, match="pip install 'rdae"):
            call()
    assert sap_score(v, v).value == pytest.approx(1)  # needs none
