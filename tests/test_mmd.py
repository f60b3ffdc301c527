"""MMD and its relatives, against closed forms, integrals, and their own spread over repetitions."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from scipy.stats import norm

import rdae.measures.mmd as module
from rdae.errors import DataError, ShapeError
from rdae.measures.measure import Kind, Measure
from rdae.measures.mmd import (
    WAE_SCALES,
    cubic,
    energy_distance,
    gaussian_mmd,
    inverse_multiquadric,
    kid,
    median_distance,
    mmd,
    mmd_penalty,
    rbf,
)
from rdae.measures.pairs import squared_distances

KERNELS = {
    "rbf": rbf(1.3),
    "rbf, scales": rbf(1.0, (0.5, 2.0)),
    "imq": inverse_multiquadric(6.0),
    "imq, scales": inverse_multiquadric(6.0, WAE_SCALES),
    "cubic": cubic,
}
EVERY_KERNEL = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(n: int, d: int, g: torch.Generator) -> torch.Tensor:
    return torch.randn(n, d, generator=g, dtype=torch.float64)


def by_hand(x, y, kernel) -> float:
    """The U-statistic, pair by pair."""
    n, m = len(x), len(y)
    k = [[float(kernel(a[None], b[None])) for b in torch.cat([x, y])] for a in torch.cat([x, y])]
    within_x = sum(k[i][j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(k[n + i][n + j] for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(k[i][n + j] for i in range(n) for j in range(m)) / (n * m)


def spread(measures: list[Measure]) -> tuple[float, float, float]:
    """Mean of the values, their standard deviation, and the root mean square of their standard errors."""
    values = torch.tensor([m.value for m in measures], dtype=torch.float64)
    errors = torch.tensor([m.standard_error for m in measures], dtype=torch.float64)
    return float(values.mean()), float(values.std()), float(errors.square().mean().sqrt())


@EVERY_KERNEL
def test_it_is_the_u_statistic_whatever_the_blocks(kernel, monkeypatch):
    g = generator()
    x, y = normal(7, 3, g), normal(5, 3, g) + 1
    for at_once in (1 << 22, 11):  # all at once; one or two rows at a time
        monkeypatch.setattr(module, "AT_ONCE", at_once)
        assert mmd(x, y, kernel).value == pytest.approx(by_hand(x, y, kernel), rel=1e-10)
        assert float(mmd_penalty(x, y, kernel)) == pytest.approx(by_hand(x, y, kernel), rel=1e-10)


def test_the_kernels_are_what_their_formulas_say():
    a, b = torch.tensor([[1.0, 2.0]]).double(), torch.tensor([[3.0, -1.0]]).double()  # 13 apart, product 1
    assert float(rbf(2.0)(a, b)) == pytest.approx(math.exp(-13 / 8))
    assert float(rbf(2.0, (1.0, 2.0))(a, b)) == pytest.approx(math.exp(-13 / 8) + math.exp(-13 / 32))
    assert float(inverse_multiquadric(4.0)(a, b)) == pytest.approx(4 / 17)
    assert float(inverse_multiquadric(4.0, (1.0, 0.5))(a, b)) == pytest.approx(4 / 17 + 2 / 15)
    assert float(cubic(a, b)) == pytest.approx(1.5**3)


@EVERY_KERNEL
def test_samples_of_one_law_are_0_apart_on_average_and_the_error_says_how_far(kernel):
    g, repetitions = generator(1), 200
    mean, deviation, error = spread([mmd(normal(40, 3, g), normal(30, 3, g), kernel) for _ in range(repetitions)])
    assert abs(mean) < 4 * deviation / math.sqrt(repetitions)
    # the witness' part, kept at 0 or above, adds about a quarter; its own noise left in would make that sqrt(2)
    assert 0.85 * deviation < error < 1.35 * deviation


@EVERY_KERNEL
def test_far_from_equality_the_error_is_that_over_repetitions(kernel):
    g, repetitions = generator(2), 300
    _, deviation, error = spread([mmd(normal(60, 3, g), normal(40, 3, g) + 0.7, kernel) for _ in range(repetitions)])
    # a deviation from 300 repetitions has a relative error of 4 % if Gaussian; twice that with the tails of a cube
    assert error == pytest.approx(deviation, rel=0.25)


def test_it_equals_the_closed_form_for_gaussians_and_grows_with_the_shift():
    g, repetitions = generator(3), 40
    factor = torch.tensor([[1.0, 0.0], [0.8, 0.6]]).double()
    zero, one = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    values = []
    for shift in (0.25, 0.5, 1.0, 2.0):
        to = torch.full((2,), shift, dtype=torch.float64)
        found = [mmd(normal(200, 2, g), normal(150, 2, g) @ factor.T + to, rbf(0.9)) for _ in range(repetitions)]
        mean, _, error = spread(found)
        due = gaussian_mmd(zero, one, to, factor @ factor.T, 0.9)
        assert abs(mean - due) < 3 * error / math.sqrt(repetitions)
        values.append(mean)
    assert values == sorted(values)
    assert found[0].kind is Kind.ESTIMATE


def test_the_closed_form_agrees_with_quadrature_and_with_points():
    t = torch.linspace(-14, 14, 2801, dtype=torch.float64)
    difference = 0.01 * torch.from_numpy(norm.pdf(t) - norm.pdf(t, 0.7, 1.5))
    due = difference @ rbf(0.8)(t[:, None], t[:, None]) @ difference
    one = torch.ones(1, 1, dtype=torch.float64)
    assert gaussian_mmd(0 * one[0], one, 0.7 * one[0], 1.5**2 * one, 0.8) == pytest.approx(float(due), rel=1e-9)
    points = gaussian_mmd(torch.zeros(2), torch.zeros(2, 2), torch.ones(2), torch.zeros(2, 2), 1.0)
    assert points == pytest.approx(2 - 2 * math.exp(-1), rel=1e-12)  # without spread: k(a, a) + k(b, b) - 2 k(a, b)


@EVERY_KERNEL
def test_the_penalty_has_the_gradient_of_finite_differences(kernel):
    g = generator(4)
    x, y = normal(5, 2, g).requires_grad_(), normal(4, 2, g).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: mmd_penalty(a, b, kernel), (x, y))


def test_the_penalty_moves_a_sample_onto_the_prior():
    g = generator(5)
    y, prior = normal(200, 2, g), normal(200, 2, g)
    mean, sd = (torch.full((2,), v, dtype=torch.float64, requires_grad=True) for v in (2.0, 0.3))
    for _ in range(80):
        slopes = torch.autograd.grad(mmd_penalty(mean + sd * y, prior, inverse_multiquadric(4.0)), (mean, sd))
        mean, sd = ((v - 2 * slope).detach().requires_grad_() for v, slope in zip((mean, sd), slopes, strict=True))
    # as close as two means, and two standard deviations, of 200 points each are: 1 / 10 and 1 / 14
    assert mean.abs().max() < 3 / 10
    assert (sd - 1).abs().max() < 3 / 14


def test_energy_distance_is_twice_the_squared_distance_of_distribution_functions():
    g = generator(6)
    x, y = normal(9, 1, g), 2 * normal(6, 1, g) + 1
    edges = torch.cat([x, y]).flatten().sort().values
    middles = (edges[1:] + edges[:-1]) / 2
    gap = (x < middles).double().mean(0) - (y < middles).double().mean(0)
    integral = 2 * float((gap.square() * edges.diff()).sum())
    # the integral counts pairs of a point with itself, at distance 0: undo it
    own = [float((s - s.T).abs().mean()) / (len(s) - 1) for s in (x, y)]
    assert energy_distance(x, y).value == pytest.approx(integral - sum(own), rel=1e-7)


def test_energy_distance_of_shifted_gaussians():
    g, m = generator(7), 1.0
    # E|x - y| of N(m, 2), a folded Gaussian, and 2 / sqrt(pi) within
    across = 2 / math.sqrt(math.pi) * math.exp(-(m**2) / 4) + m * math.erf(m / 2)
    found = energy_distance(normal(3000, 1, g), normal(3000, 1, g) + m)
    assert abs(found.value - (2 * across - 4 / math.sqrt(math.pi))) < 3 * found.standard_error
    assert found.unit == "unit of the samples"


def test_kid_is_unbiased_and_its_error_is_that_over_repetitions():
    g, repetitions = generator(8), 100
    # in one dimension (1 + x y)^3 compares moments: 3 (E x - E y)^2 + 3 (E x^2 - E y^2)^2 + (E x^3 - E y^3)^2
    m = 0.5
    due = 3 * m**2 + 3 * m**4 + (3 * m + m**3) ** 2
    found = [kid(normal(400, 1, g), normal(300, 1, g) + m, g, subset=30) for _ in range(repetitions)]
    mean, deviation, error = spread(found)
    assert abs(mean - due) < 4 * deviation / math.sqrt(repetitions)
    assert error == pytest.approx(deviation, rel=0.3)  # 10 subsets: an error known to a quarter, averaged over 100


def test_kid_does_not_mind_sorted_data():
    g = generator(9)
    x = torch.cat([normal(200, 2, g) - 3, normal(200, 2, g) + 3])
    found = kid(x, x[torch.randperm(400, generator=g)], g, subset=40)
    assert abs(found.value) < 4 * found.standard_error


def test_the_median_distance():
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[5.0]])
    assert median_distance(x, y) == pytest.approx(4.0)  # of 1, 5, 4
    g = generator(10)
    # |a - b| of two standard Gaussians has median 0.95387; s.e. of a median from 2000 points about 1 %
    assert median_distance(normal(6000, 1, g), normal(6000, 1, g)) == pytest.approx(0.95387, rel=0.05)
    with pytest.raises(DataError, match="Name a scale"):
        median_distance(torch.ones(10, 2) / 3, torch.ones(10, 2) / 3)


def test_distances_survive_a_far_away_origin():
    g = generator(11)
    a, b = normal(20, 4, g), normal(30, 4, g)
    due = (a[:, None] - b).square().sum(2)
    torch.testing.assert_close(squared_distances(a, b), due, rtol=1e-12, atol=1e-12)
    # adding 1e6 costs 10 digits of 1e6 itself, whoever subtracts; the product of norms would cost all
    torch.testing.assert_close(squared_distances(a + 1e6, b + 1e6), due, rtol=1e-7, atol=1e-8)


def test_what_cannot_be_compared_is_refused():
    x = torch.zeros(10, 2)
    for other in (torch.zeros(10, 3), torch.zeros(3, 2), torch.zeros(10, 2, 1)):
        with pytest.raises(ShapeError, match="Pass tables"):
            mmd(x, other, cubic)
    with pytest.raises(ShapeError, match="Flatten both"):
        mmd_penalty(x, torch.zeros(10, 3), cubic)
    with pytest.raises(DataError, match="second sample"):
        mmd(x, torch.full((10, 2), math.nan), cubic)
    with pytest.raises(ShapeError, match="20 rows or more"):
        kid(x, x, generator(), subset=10)


@pytest.mark.parametrize("subset", [-1, 0, 1])
def test_subsets_without_pairs_are_refused(subset):
    with pytest.raises(DataError, match="2 or more"):
        kid(torch.rand(10, 2), torch.rand(10, 2), generator(), subset)


def test_a_kernel_distance_of_too_little_is_refused():
    x = torch.rand(10, 2)
    for n in (0, 1):
        with pytest.raises(ShapeError, match="rows or more"):
            kid(x[:n], x, generator(), 2)
    with pytest.raises(ShapeError, match="subset=2"):
        kid(x, x, generator(), 6)
    with pytest.raises(ShapeError, match="one width"):
        kid(x, torch.rand(10, 3), generator(), 2)
    with pytest.raises(DataError, match="not finite"):
        kid(x, x * math.nan, generator(), 2)
