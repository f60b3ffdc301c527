"""Bounds on mutual information, held against closed forms, enumeration and their own error bars."""

from __future__ import annotations

import itertools
import math

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MultivariateNormal, Normal

from rdae.errors import DataError, ShapeError
from rdae.measures.information import discrete_mutual_information
from rdae.measures.information_bounds import infonce, information_bounds, leave_one_out, nwj
from rdae.measures.measure import Kind, Measure
from rdae.measures.overlap import index_information

pytestmark = pytest.mark.usefixtures("in_double")
BOUNDS = {"infonce": infonce, "leave_one_out": leave_one_out, "nwj": nwj}


def gaussian(count: int, rho: float, size: int = 1) -> tuple[Tensor, Distribution]:
    """Data N(0, I), and posteriors of latents that correlate with them by rho in each of `size` coordinates."""
    y = torch.randn(count, size)
    return y, Independent(Normal(rho * y, math.sqrt(1 - rho**2) * torch.ones_like(y)), 1)


def true_information(rho: float, size: int = 1) -> float:
    return -size / 2 * math.log1p(-(rho**2))


def table(q: Distribution, z: Tensor) -> Tensor:
    return q.log_prob(z[:, None])


def log_ratio(count: int, rho: float, size: int = 1) -> Tensor:
    """ln [q(z_i | y_j) / q(z_i)] of fresh pairs; the marginal of z is N(0, I)."""
    _, q = gaussian(count, rho, size)
    z = q.sample()
    return table(q, z) - Normal(0.0, 1.0).log_prob(z).sum(1)[:, None]


# --- Gaussians ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rho", "size"), [(0.3, 1), (0.75, 1), (0.6, 3)])
def test_the_bounds_close_in_on_the_information_of_gaussians(rho, size):
    truth = true_information(rho, size)
    _, q = gaussian(700, rho, size)
    lower, upper, ceiling = information_bounds(q, draws=4)
    assert (lower.kind, upper.kind) == (Kind.LOWER, Kind.UPPER)
    assert ceiling == pytest.approx(math.log(700))
    assert lower.value == pytest.approx(truth, abs=4 * lower.standard_error + 0.01)  # off by some e**I / (2 N)
    assert upper.value == pytest.approx(truth, abs=4 * upper.standard_error + 0.01)
    assert lower.value < upper.value
    assert lower.standard_error < 0.05


def test_a_matrix_with_correlations_has_the_information_of_its_determinant():
    """z = y + noise of a covariance S, y ~ N(0, I): I = ln det(I + S^-1) / 2."""
    root = torch.tensor([[0.9, 0.0], [0.6, 0.5]])
    y = torch.randn(500, 2)
    truth = 0.5 * float(torch.logdet(torch.eye(2) + torch.linalg.inv(root @ root.T)))
    lower, upper, _ = information_bounds(MultivariateNormal(y, scale_tril=root), draws=4)
    assert truth - 4 * lower.standard_error - 0.01 < lower.value < upper.value < truth + 4 * upper.standard_error + 0.01


@pytest.mark.parametrize("count", [8, 64, 128])
def test_much_information_takes_the_lower_bound_to_its_ceiling_and_no_further(count):
    truth = true_information(0.95, 40)
    assert truth > 9 * math.log(count)
    lower, upper, ceiling = information_bounds(gaussian(count, 0.95, 40)[1])
    assert ceiling == math.log(count)
    assert lower.value == pytest.approx(ceiling, abs=1e-6)
    assert lower.value <= ceiling + 1e-12
    assert upper.value > truth


def test_the_lower_bound_rises_with_n_and_the_upper_one_falls():
    """Means over all sets of N from 2048 pairs."""
    _, q = gaussian(2048, 0.75**0.5, 2)
    z = q.sample()
    means = []
    for count in (4, 16, 64, 256):
        parts = [torch.arange(k, k + count) for k in range(0, 2048, count)]
        tables = torch.stack([table(gaussian_at(q, part), z[part]) for part in parts])
        means.append([sum(bound(t).value for t in tables) / len(tables) for bound in (infonce, leave_one_out)])
    lower, upper = zip(*means, strict=True)
    assert list(lower) == sorted(lower)
    assert list(upper) == sorted(upper, reverse=True)
    error = 4 * 0.027  # four standard errors of a mean over 2048 pairs, whose terms deviate by about 1.2
    assert lower[-1] - error < true_information(0.75**0.5, 2) < upper[-1] + error


def gaussian_at(q: Distribution, index: Tensor) -> Distribution:
    return Independent(Normal(q.mean[index], q.stddev[index]), 1)


def test_no_information_is_none():
    lower, upper, _ = information_bounds(Independent(Normal(torch.zeros(50, 3), torch.ones(50, 3)), 1))
    assert lower.value == pytest.approx(0, abs=1e-12)
    assert upper.value == pytest.approx(0, abs=1e-12)


# --- discrete, by enumeration -----------------------------------------------------------------------------------------

JOINT = torch.tensor([[0.30, 0.05, 0.05], [0.02, 0.18, 0.05], [0.05, 0.05, 0.25]], dtype=torch.float64)  # y by z


def expected(bound, count: int, critic: Tensor) -> float:
    """Mean of a bound over all sets of `count` pairs, each with its probability; critic is `(y, z)`."""
    cells = list(itertools.product(range(3), range(3)))
    total = 0.0
    for pairs in itertools.product(cells, repeat=count):
        y, z = (torch.tensor(side) for side in zip(*pairs, strict=True))
        total += float(JOINT[y, z].prod()) * bound(critic[y][:, z].T).value
    return total


@pytest.mark.parametrize("count", [2, 3])
def test_expectations_bound_the_information_of_a_table(count):
    truth = discrete_mutual_information(JOINT.numpy()).value
    conditional = (JOINT / JOINT.sum(1, keepdim=True)).log()
    lower, upper = (expected(bound, count, conditional) for bound in (infonce, leave_one_out))
    assert 0 < lower < truth < upper
    # the best critic makes NWJ tight at every N, to rounding
    assert expected(nwj, count, 1 + conditional - JOINT.sum(0).log()) == pytest.approx(truth, abs=1e-12)
    assert expected(nwj, count, conditional) < truth


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=9, max_size=9))
def test_no_critic_lifts_a_lower_bound_above_the_information(scores):
    truth = discrete_mutual_information(JOINT.numpy()).value
    critic = torch.tensor(scores).view(3, 3).double()
    assert expected(infonce, 2, critic) <= truth + 1e-12
    assert expected(nwj, 2, critic) <= truth + 1e-12


def test_a_discrete_encoder_is_as_good_as_a_gaussian_one():
    y = torch.multinomial(JOINT.sum(1), 800, replacement=True)
    lower, upper, _ = information_bounds(Categorical(probs=JOINT[y]), draws=2)
    truth = discrete_mutual_information(JOINT.numpy()).value
    assert lower.value == pytest.approx(truth, abs=4 * lower.standard_error + 0.002)
    assert upper.value == pytest.approx(truth, abs=4 * upper.standard_error + 0.002)


def test_a_latent_that_no_other_could_have_made_has_no_upper_bound():
    apart = torch.eye(4).log()  # 0 on the diagonal, minus infinity off it
    assert infonce(apart).value == pytest.approx(math.log(4))
    assert leave_one_out(apart).value == math.inf


# --- by hand, error bars, laws ----------------------------------------------------------------------------------------


def test_two_by_two_by_hand():
    scores = torch.tensor([[2.0, 1.0], [0.0, 3.0]]).log()  # e**scores; a pair has the densities 2 and 3
    scores[1, 0] = math.log(0.5)
    assert infonce(scores).value == pytest.approx((math.log(2 / 1.5) + math.log(3 / 1.75)) / 2)
    assert leave_one_out(scores).value == pytest.approx((math.log(2 / 1) + math.log(3 / 0.5)) / 2)
    assert nwj(scores).value == pytest.approx((math.log(2) + math.log(3)) / 2 - (1 + 0.5) / 2 / math.e)


@pytest.mark.parametrize("spoilt", [0.0, 1.0], ids=["best critic", "another"])
@pytest.mark.parametrize("name", BOUNDS)
def test_the_error_bar_is_the_spread_over_data_sets(name, spoilt):
    """Only with a critic that is not the best one does it matter, to first order, what a datum does to other rows."""
    tables = (1 + log_ratio(100, 0.6, 2) + spoilt * torch.randn(1, 100).sign() for _ in range(300))
    found = [BOUNDS[name](table) for table in tables]
    values, errors = (torch.tensor([getattr(m, field) for m in found]) for field in ("value", "standard_error"))
    # the deviation of a deviation of 300 numbers is 1/sqrt(600) = 4 %
    assert float(errors.mean()) == pytest.approx(float(values.std()), rel=0.12)


def test_nwj_has_no_ceiling():
    truth = true_information(0.95, 3)
    assert truth > math.log(20)
    found = torch.tensor([nwj(1 + log_ratio(20, 0.95, 3)).value for _ in range(500)])
    assert float(found.mean()) == pytest.approx(truth, abs=4 * float(found.std()) / 500**0.5)
    assert float(infonce(log_ratio(20, 0.95, 3)).value) <= math.log(20)


def test_a_function_of_the_latent_alone_changes_no_infonce():
    ratio = log_ratio(40, 0.7)
    assert infonce(ratio + torch.randn(40, 1)).value == pytest.approx(infonce(ratio).value, abs=1e-12)
    assert infonce(ratio + torch.randn(1, 40)).value != pytest.approx(infonce(ratio).value, abs=1e-3)


def test_the_lower_bound_is_the_information_of_the_index():
    """The same mean, with errors over examples and over draws."""
    _, q = gaussian(300, 0.8, 2)
    lower, index = information_bounds(q, draws=32).lower, index_information(q, draws=32)
    assert lower.value == pytest.approx(index.value, abs=6 * index.standard_error)
    assert lower.standard_error > index.standard_error


def test_draws_are_averaged():
    _, q = gaussian(30, 0.8)
    tables = torch.stack([table(q, q.sample()) for _ in range(5)])
    for bound in BOUNDS.values():
        many: Measure = bound(tables)
        each = [bound(one) for one in tables]
        assert many.value == pytest.approx(sum(m.value for m in each) / 5)
        assert many.standard_error <= sum(m.standard_error for m in each) / 5 + 1e-12


def test_large_tables_are_made_in_parts(monkeypatch):
    _, q = gaussian(50, 0.8, 3)
    whole = []
    for at_once in (1 << 22, 400):
        monkeypatch.setattr("rdae.measures.information_bounds.AT_ONCE", at_once)
        torch.manual_seed(3)
        whole.append(information_bounds(q, draws=2))
    assert whole[0] == whole[1]


@pytest.mark.parametrize(("scores", "error", "cure"), [
    (torch.zeros(3, 4), ShapeError, "a score for each latent and datum"),
    (torch.zeros(3), ShapeError, "a score for each latent and datum"),
    (torch.zeros(1, 1), DataError, "two examples or more"),
    (torch.tensor([[0.0, math.nan], [0.0, 0.0]]), DataError, "standard deviation"),
    (torch.tensor([[0.0, math.inf], [0.0, 0.0]]), DataError, "standard deviation"),
    (torch.tensor([[-math.inf, 0.0], [0.0, 0.0]]), DataError, "own datum"),
])  # fmt: skip
def test_what_is_no_table_is_refused(scores, error, cure):
    for bound in BOUNDS.values():
        with pytest.raises(error, match=cure):
            bound(scores)


def test_posteriors_that_are_no_list_are_refused():
    with pytest.raises(ShapeError, match="all examples"):
        information_bounds(Independent(Normal(torch.zeros(3), torch.ones(3)), 1))
    with pytest.raises(DataError, match="draws=1"):
        information_bounds(gaussian(4, 0.5)[1], draws=0)
