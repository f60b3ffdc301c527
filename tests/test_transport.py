"""Optimal transport against linear programming, closed forms, and bounds from duals."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.stats import norm, wasserstein_distance
from test_mmd import generator, normal, spread

import rdae.measures.transport as module
from rdae.errors import DataError, MissingExtraError, ShapeError
from rdae.measures.measure import Kind
from rdae.measures.pairs import squared_distances
from rdae.measures.transport import dual_bound, exact_transport, gaussian_transport, sliced_transport, transport_1d


def by_linear_programming(x, y, power: float) -> float:
    """The least mean cost over all plans with the right margins."""
    n, m = len(x), len(y)
    costs = (squared_distances(x, y) ** (power / 2)).numpy()
    margins = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    due = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    return linprog(costs.ravel(), A_eq=margins, b_eq=due).fun


def quantiles(n: int, mean: float, sd: float) -> torch.Tensor:
    """The midpoints of n equal shares of a Gaussian."""
    return torch.from_numpy(norm.ppf((np.arange(n) + 0.5) / n, mean, sd))


# --- one dimension -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "sd", "due"),
    [(1.0, 1.0, 1.0), (0.0, 2.0, math.sqrt(2 / math.pi)), (1.0, 2.0, 1.166631)],
)
def test_w1_of_gaussians(mean, sd, due):
    n = 20_000
    # the midpoint rule cuts the tails: it misses about sd * quantile / n beyond the last point
    assert transport_1d(quantiles(n, 0, 1), quantiles(n, mean, sd)).value == pytest.approx(due, abs=10 / n)
    g = generator()
    found = transport_1d(normal(4000, 1, g)[:, 0], sd * normal(5000, 1, g)[:, 0] + mean)
    assert abs(found.value - due) < 3 * found.standard_error
    assert found.kind is Kind.UPPER


@settings(deadline=None, max_examples=40)
@given(n=st.integers(2, 7), m=st.integers(2, 7), seed=st.integers(0, 99), power=st.sampled_from([1, 1.5, 2]))
def test_sorting_solves_the_linear_programme_of_unequal_sizes(n, m, seed, power):
    g = generator(seed)
    x, y = normal(n, 1, g), 2 * normal(m, 1, g) + 0.5
    assert transport_1d(x[:, 0], y[:, 0], power).value == pytest.approx(by_linear_programming(x, y, power), abs=1e-7)


def test_w1_agrees_with_scipy_on_ties():
    x, y = torch.tensor([0.0, 0.0, 1.0, 3.0]), torch.tensor([1.0, 1.0, 0.0, 0.0, 2.0, 2.0])
    assert transport_1d(x, y).value == pytest.approx(wasserstein_distance(x, y), abs=1e-12)
    assert transport_1d(x, x.flip(0)).value == 0


@pytest.mark.parametrize("power", [1, 2])
def test_the_error_in_one_dimension_is_that_over_repetitions(power):
    g, repetitions = generator(1), 300
    found = [transport_1d(normal(200, 1, g)[:, 0], 2 * normal(150, 1, g)[:, 0] + 1, power) for _ in range(repetitions)]
    _, deviation, error = spread(found)
    assert error == pytest.approx(deviation, rel=0.16)  # 4 standard errors of a deviation from 300


# --- any dimension -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize(("n", "m"), [(6, 6), (5, 7)])
def test_exact_transport_solves_the_linear_programme(n, m, power):
    pytest.importorskip("ot")
    g = generator(2)
    x, y = normal(n, 3, g), 1e4 * (normal(m, 3, g) + 1)  # large costs used to stop POT early
    found = exact_transport(x, y, power)
    assert found.cost.value == pytest.approx(by_linear_programming(x, y, power), rel=1e-7)
    costs = squared_distances(x, y) ** (power / 2)
    torch.testing.assert_close((found.plan * costs).sum().item(), found.cost.value, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.plan.sum(1), torch.full((n,), 1 / n, dtype=torch.float64))
    torch.testing.assert_close(found.plan.sum(0), torch.full((m,), 1 / m, dtype=torch.float64))
    # the dual proves it: nowhere above the cost, and equal in total
    slack = costs - found.potential_x[:, None] - found.potential_y
    assert slack.min() > -1e-9 * costs.max()
    assert found.cost.value == pytest.approx(float(found.potential_x.mean() + found.potential_y.mean()), rel=1e-9)


def test_exact_transport_agrees_with_sorting():
    pytest.importorskip("ot")
    g = generator(3)
    x, y = normal(60, 1, g), 2 * normal(45, 1, g)
    for power in (1, 2):
        exact, sorted_ = exact_transport(x, y, power).cost, transport_1d(x[:, 0], y[:, 0], power)
        assert exact.value == pytest.approx(sorted_.value, rel=1e-9)
        assert exact.standard_error == pytest.approx(sorted_.standard_error, rel=0.1)  # duals are not unique


def test_any_lipschitz_function_bounds_w1_from_below_and_the_identity_attains_a_shift():
    pytest.importorskip("ot")
    g = generator(4)
    x, y = normal(80, 2, g) + 1, normal(70, 2, g)
    exact = exact_transport(x, y).cost.value
    for seed in range(20):
        direction = normal(1, 2, generator(seed))
        bend = lambda s, d=direction: torch.sin(s @ d[0]) + 0.5 * (s - d).norm(dim=1)  # noqa: E731
        bound = dual_bound(bend(x), bend(y), lipschitz=float(direction.norm()) + 0.5)
        assert bound.value <= exact + 1e-9
        assert bound.kind is Kind.LOWER
    shifted = dual_bound(x[:, 0] + 3, x[:, 0])
    assert shifted.value == pytest.approx(transport_1d(x[:, 0] + 3, x[:, 0]).value)


def test_the_error_of_a_dual_bound_is_that_of_a_difference_of_means():
    g = generator(5)
    _, deviation, error = spread(
        [dual_bound(3 * normal(50, 1, g)[:, 0], normal(20, 1, g)[:, 0], 2.0) for _ in range(300)]
    )
    assert error == pytest.approx(math.sqrt(9 / 50 + 1 / 20) / 2, rel=0.05)
    assert error == pytest.approx(deviation, rel=0.16)


def test_transport_refuses_what_would_crash_or_not_fit(monkeypatch):
    x = torch.zeros(5, 2)
    with pytest.raises(ShapeError, match="Pass \\(n,\\)"):
        transport_1d(x, x)
    with pytest.raises(DataError, match="Pass 1 for W_1"):
        transport_1d(x[:, 0], x[:, 0], power=0.5)
    pytest.importorskip("ot")
    with pytest.raises(DataError, match="not finite"):
        exact_transport(x, torch.full((5, 2), math.inf))
    assert exact_transport(x, x).cost.value == 0
    monkeypatch.setattr(module, "MOST_PAIRS", 16)
    with pytest.raises(DataError, match="at most 4 rows"):
        exact_transport(x, x)


def test_without_pot_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ot", None)
    with pytest.raises(MissingExtraError, match=r"rdae\[measures\]"):
        exact_transport(torch.zeros(5, 2), torch.zeros(5, 2))


# --- slices --------------------------------------------------------------------------------------------------------


def test_slices_of_a_shift_have_a_closed_form():
    g, d = generator(6), 5
    shift = torch.arange(1.0, d + 1, dtype=torch.float64)
    x = normal(40, d, g)
    # a shifted copy is |m . t| away along every direction t, whose square is |m|^2 / d on average
    squared = sliced_transport(x + shift, x, g, 2000, power=2)
    assert abs(squared.value - float(shift.square().sum()) / d) < 3 * squared.standard_error
    first = sliced_transport(x + shift, x, g, 2000)
    due = float(shift.norm()) * math.gamma(d / 2) / (math.sqrt(math.pi) * math.gamma((d + 1) / 2))
    assert abs(first.value - due) < 3 * first.standard_error


def test_slices_of_shifted_gaussians():
    g, d = generator(7), 3
    shift = torch.tensor([2.0, 0.0, 1.0]).double()
    found = [sliced_transport(normal(1000, d, g) + shift, normal(800, d, g), g, 100, power=2) for _ in range(10)]
    mean, deviation, _ = spread(found)
    # sampling adds about the cost between two samples of one law, some log log n / n a side
    own = sliced_transport(normal(1000, d, g), normal(800, d, g), g, 100, power=2).value
    assert abs(mean - own - 5 / 3) < 4 * deviation / math.sqrt(10)


def test_one_slice_is_the_line_and_blocks_do_not_matter(monkeypatch):
    g = generator(8)
    x, y = normal(30, 1, g), 2 * normal(20, 1, g)
    sliced = sliced_transport(x, y, generator(1), 4)
    assert sliced.value == pytest.approx(
        transport_1d(x[:, 0], y[:, 0]).value, rel=1e-12
    )  # one direction, up to its sign
    x, y = normal(30, 3, g), 2 * normal(20, 3, g)
    whole = sliced_transport(x, y, generator(1), 7)
    monkeypatch.setattr(module, "AT_ONCE", 100)
    assert sliced_transport(x, y, generator(1), 7) == pytest.approx(whole)


# --- Gaussians -----------------------------------------------------------------------------------------------------


def test_bures_of_two_known_gaussians():
    a, b = torch.tensor([[2.0, 0.5], [0.5, 1.0]]), torch.tensor([[1.0, -0.3], [-0.3, 3.0]])
    zero = torch.zeros(2)
    assert gaussian_transport(zero, a, zero, b) == pytest.approx(0.929312, abs=1e-6)
    assert gaussian_transport(zero, a, torch.tensor([3.0, 4.0]), a) == pytest.approx(25, abs=1e-6)
    assert gaussian_transport(
        zero, torch.diag(torch.tensor([4.0, 0.0])), zero, torch.diag(torch.tensor([1.0, 9.0]))
    ) == (
        pytest.approx(1 + 9, rel=1e-6)  # squared differences of standard deviations: (2 - 1)^2 + (0 - 3)^2
    )
    with pytest.raises(DataError, match="eigenvalue"):
        gaussian_transport(zero, torch.diag(torch.tensor([1.0, -1.0])), zero, a)


def test_exact_transport_of_gaussians_nears_bures_from_above():
    pytest.importorskip("ot")
    g = generator(9)
    a = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, -0.3], [-0.3, 3.0]], dtype=torch.float64)
    factors = [torch.linalg.cholesky(c).T for c in (a, b)]
    excess = []
    for n in (50, 400):
        found = [exact_transport(normal(n, 2, g) @ factors[0], normal(n, 2, g) @ factors[1], 2).cost for _ in range(8)]
        mean, deviation, _ = spread(found)
        excess.append(mean - 0.929312)
    assert excess[1] < excess[0] / 2  # in the plane it falls as ln n / n
    assert -3 * deviation / math.sqrt(8) < excess[1] < 0.2


def test_slices_and_duals_of_too_little_are_refused():
    x = torch.rand(10, 2)
    for projections in (0, 1):
        with pytest.raises(DataError, match="Pass 2 or more"):
            sliced_transport(x, x, generator(), projections)
    for power in (0.5, math.nan, math.inf):
        with pytest.raises(DataError, match="power is"):
            sliced_transport(x, x, generator(), power=power)
    for other in (x[:0], x[:1], torch.rand(10, 3), x[:, :0]):
        with pytest.raises(ShapeError, match="Pass tables"):
            sliced_transport(x, other, generator())
    with pytest.raises(DataError, match="not finite"):
        sliced_transport(x, x * math.nan, generator())
    f = torch.rand(10)
    for other in (f[:0], f[:1], f[:, None]):
        with pytest.raises(ShapeError, match="Pass"):
            dual_bound(f, other)
    with pytest.raises(DataError, match="not finite"):
        dual_bound(f, f * math.nan)
    for slope in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(DataError, match="lipschitz is"):
            dual_bound(f, f, slope)
