"""Measures of dependence: definitions, Gaussian closed forms, and a test that errs as often as it says."""

from __future__ import annotations

import math
from itertools import product

import pytest

torch = pytest.importorskip("torch")

from scipy.stats import kstwo
from test_mmd import generator, normal, spread

import rdae.measures.independence as module
from rdae.errors import DataError, ShapeError
from rdae.measures.independence import (
    dhsic,
    dhsic_penalty,
    gaussian_total_correlation,
    independence_test,
    mmd_to_marginals,
    product_of_marginals,
    sample_total_correlation,
)
from rdae.measures.mmd import WAE_SCALES, inverse_multiquadric, rbf


def correlated(n: int, d: int, g: torch.Generator, rho: float = 0.8) -> torch.Tensor:
    """Standard Gaussians, the first two correlated."""
    z = normal(n, d, g)
    z[:, 1] = rho * z[:, 0] + math.sqrt(1 - rho**2) * z[:, 1]
    return z


def by_enumeration(z: torch.Tensor, bandwidths: torch.Tensor) -> float:
    """MMD^2 of the sample's law and the product of its marginals, all n^d points of it enumerated."""
    n, d = z.shape
    points = torch.stack([z[list(rows), range(d)] for rows in product(range(n), repeat=d)])
    kernel = rbf(1.0)
    a, b = z / bandwidths, points / bandwidths
    return float(kernel(a, a).mean() + kernel(b, b).mean() - 2 * kernel(a, b).mean())


@pytest.mark.parametrize("at_once", [1 << 22, 15])
def test_dhsic_is_the_mmd_to_all_points_of_the_product(at_once, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    z = correlated(7, 3, generator())
    medians = torch.stack([torch.pdist(column[:, None]).sort().values[10] for column in z.T])  # of 21 distances
    due = by_enumeration(z, medians)
    assert dhsic(z).value == pytest.approx(due, rel=1e-9)
    assert float(dhsic_penalty(z)) == pytest.approx(due, rel=1e-9)


def test_dhsic_is_near_0_for_independent_columns_and_positive_for_dependent_ones():
    g = generator(1)
    apart, together = dhsic(normal(500, 3, g)), dhsic(correlated(500, 3, g))
    assert 0 <= apart.value < 0.002  # some c / n
    assert together.value > 10 * apart.value
    assert together.value > 4 * together.standard_error
    ring = torch.rand(500, generator=g, dtype=torch.float64) * 2 * math.pi
    uncorrelated = torch.stack([ring.cos(), ring.sin()], 1)  # a correlation would not see it
    assert dhsic(uncorrelated).value > 4 * dhsic(uncorrelated).standard_error
    # of three coins, the third the product of the others, every two are independent: only the joint criterion sees it
    coins = normal(500, 3, g)
    coins[:, 2] = coins[:, 2].abs() * (coins[:, 0] * coins[:, 1]).sign()
    test = independence_test(coins, g, 99)
    assert test.p_value == 0.01
    assert independence_test(coins[:, [0, 2]], g, 99).p_value > 0.01


def test_the_error_of_dhsic_is_that_over_repetitions(monkeypatch):
    fixed = torch.full((3,), 0.95, dtype=torch.float64)
    monkeypatch.setattr(module, "_bandwidths", lambda z: fixed)  # "with the bandwidths as they are"
    g, repetitions = generator(2), 100
    _, deviation, error = spread([dhsic(correlated(300, 3, g)) for _ in range(repetitions)])
    assert error == pytest.approx(deviation, rel=0.3)  # 4 standard errors of a deviation from 100


def test_the_penalty_has_the_gradient_of_finite_differences_and_undoes_dependence():
    z = correlated(6, 3, generator(3)).requires_grad_()
    bandwidths = module._bandwidths(z)
    assert torch.autograd.gradcheck(lambda a: module._combined(*module._row_means(a, bandwidths)), (z,))
    z = correlated(200, 2, generator(3))
    turn = torch.eye(2, dtype=torch.float64, requires_grad=True)
    for _ in range(60):
        (slope,) = torch.autograd.grad(dhsic_penalty(z @ turn), turn)
        turn = (turn - 2 * slope).detach().requires_grad_()
    # what is independent has a correlation of 1 / sqrt(n) = 0.07, give or take
    assert torch.corrcoef((z @ turn).detach().T)[0, 1].abs() < 3 / math.sqrt(200)


def test_p_values_are_uniform_where_columns_are_independent():
    g, repetitions, permutations = generator(4), 100, 19
    found = torch.tensor([
        independence_test(normal(30, 3, g), g, permutations).p_value for _ in range(repetitions)
    ])  # fmt: skip
    # p takes the values i / 20; against the continuous uniform law that alone may cost a step of 1 / 20
    steps = torch.arange(1, permutations + 2) / (permutations + 1)
    gap = max(abs(float((found <= s + 1e-9).double().mean()) - float(s)) for s in steps)
    assert gap < kstwo.ppf(0.999, repetitions)  # Kolmogorov's test at one in a thousand; conservative on a grid


def test_the_test_finds_dependence_and_a_constant_column_is_refused():
    g = generator(5)
    found = independence_test(correlated(80, 3, g), g, 49)
    assert found.p_value == 1 / 50
    assert found.statistic.value > found.null_mean
    z = correlated(80, 3, g)
    z[:60, 2] = 1.0
    with pytest.raises(DataError, match="Column 2 has mostly one value"):
        independence_test(z, g)
    with pytest.raises(ShapeError, match="a variable a column"):
        dhsic(z[:, :1])


def test_the_product_of_marginals_keeps_them_and_drops_the_dependence():
    z = correlated(4000, 3, generator(6))
    drawn = product_of_marginals(z, generator(6))
    torch.testing.assert_close(drawn.sort(0).values, z.sort(0).values, rtol=0, atol=0)
    correlations = torch.corrcoef(drawn.T).triu(1)
    assert correlations.abs().max() < 4 / math.sqrt(4000)
    rows = torch.arange(9.0)[:, None].expand(9, 4)
    assert all(len(row.unique()) == 4 for row in product_of_marginals(rows, generator()))  # d different rows each
    with pytest.raises(ShapeError, match="no fewer rows"):
        product_of_marginals(torch.zeros(2, 3), generator())


def test_mmd_to_the_marginals_is_0_on_average_for_independent_columns_only():
    g, repetitions = generator(7), 100
    kernel = inverse_multiquadric(6.0, WAE_SCALES)
    mean, deviation, error = spread([mmd_to_marginals(normal(120, 3, g), kernel, g) for _ in range(repetitions)])
    assert abs(mean) < 4 * deviation / math.sqrt(repetitions)
    assert 0.7 * deviation < error < 1.5 * deviation
    found = mmd_to_marginals(correlated(1000, 3, g), kernel, g)
    assert found.value > 4 * found.standard_error


def test_total_correlation_of_gaussians():
    found = gaussian_total_correlation(torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64))
    assert found == pytest.approx(0.830366, abs=1e-6)
    scaled = gaussian_total_correlation(torch.tensor([[4.0, 5.4], [5.4, 9.0]], dtype=torch.float64))
    assert scaled == pytest.approx(0.830366, abs=1e-6)  # standard deviations 2 and 3
    three = torch.eye(3, dtype=torch.float64)
    three[0, 1] = three[1, 0] = 0.5
    assert gaussian_total_correlation(three) == pytest.approx(-0.5 * math.log(0.75))
    assert gaussian_total_correlation(torch.ones(2, 2)) == math.inf
    with pytest.raises(DataError, match="Leave it out"):
        gaussian_total_correlation(torch.zeros(2, 2))


def test_total_correlation_of_samples_its_bias_and_its_error():
    g, repetitions, n = generator(8), 300, 200
    scale = torch.tensor([1.0, 10.0, 0.1]).double()
    mean, deviation, error = spread([
        sample_total_correlation(scale * correlated(n, 3, g, 0.9) + 5) for _ in range(repetitions)
    ])  # fmt: skip
    assert abs(mean - 0.830366 - 6 / (4 * n)) < 4 * deviation / math.sqrt(repetitions)
    assert error == pytest.approx(deviation, rel=0.16)  # 4 standard errors of a deviation from 300
    with pytest.raises(ShapeError, match="4 rows or more"):
        sample_total_correlation(torch.zeros(3, 3))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, -3.0, 0.1])
def test_total_correlation_of_a_column_that_is_there_twice_is_infinite(kind, scale):
    z = normal(200, 3, generator(9)).to(kind) + 5
    found = sample_total_correlation(torch.cat([z, scale * z[:, :1]], 1))
    assert found.value == math.inf
    assert math.isnan(found.standard_error)
    assert sample_total_correlation(torch.cat([z, z[:, :1] + z[:, 1:2]], 1)).value == math.inf
    close = torch.cat([z, z[:, :1] + 1e-3 * normal(200, 1, generator(10))], 1)
    # less the variances of the rest, which are not 1 in a sample, -ln(1 - rho^2) / 2 of rho^2 = 1 / (1 + 1e-6)
    assert sample_total_correlation(close).value == pytest.approx(math.log(1e3), abs=0.3)


def test_a_constant_column_is_refused_though_its_mean_is_rounded():
    z = normal(30, 3, generator(11))
    z[:, 1] = 0.1
    with pytest.raises(DataError, match="Column 1 is constant"):
        sample_total_correlation(z)


@pytest.mark.parametrize("permutations", [0, -1, 2.5, True, None])
def test_a_test_without_permutations_is_refused(permutations):
    with pytest.raises(DataError, match="whole number, 1 or more"):
        independence_test(normal(20, 2, generator()), generator(), permutations)


def test_small_and_strange_tables_are_tested_or_refused():
    g = generator(12)
    assert independence_test(normal(2, 2, g), g, 9).p_value == 1  # either order of two pairs has the same statistic
    assert 0 < independence_test(torch.arange(12).view(6, 2), g, 1).p_value <= 1  # whole numbers
    with pytest.raises(DataError, match="columns of their own"):
        independence_test(torch.ones(5, 2, dtype=torch.complex64), g)
    for z in (torch.zeros(5), torch.zeros(1, 3), torch.zeros(0, 2)):
        with pytest.raises(ShapeError, match="a variable a column"):
            independence_test(z, g)
    with pytest.raises(DataError, match="not finite"):
        independence_test(torch.full((5, 2), math.nan), g)
