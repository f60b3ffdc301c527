"""Entropies and mutual informations against numbers known by other ways, and what they do when units change."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

import rdae.measures.information as module
from rdae.errors import DataError, ShapeError, TableError
from rdae.measures.information import (
    differential_entropy,
    discrete_mutual_information,
    gaussian_channel_capacity,
    gaussian_cross_entropy,
    gaussian_mutual_information,
    mutual_information,
    quantised_entropy,
    rounded_channel,
)
from rdae.measures.measure import Kind
from rdae.measures.rate_distortion import gaussian_rate

FAMILIES = {"gaussian": stats.norm, "laplace": stats.laplace, "logistic": stats.logistic}
every_family = pytest.mark.parametrize("family", FAMILIES)


def correlated(rho: float, d: int) -> np.ndarray:
    """Covariance of d independent pairs, x before y."""
    return np.block([[np.eye(d), rho * np.eye(d)], [rho * np.eye(d), np.eye(d)]])


def random_covariance(n: int, seed: int) -> np.ndarray:
    root = np.random.default_rng(seed).normal(size=(n, n + 2))
    return root @ root.T


# --- entropy of rounded numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "bits"), [(0.25, 0.31247), (0.5, 1.24120), (1.0, 2.10483), (2.0, 3.06197), (8.0, 5.04803)]
)
def test_a_gaussian_rounded_to_whole_numbers(scale, bits):
    assert quantised_entropy(scale, 1.0).value / math.log(2) == pytest.approx(bits, abs=5e-6)


@pytest.mark.parametrize(
    ("scale", "bits"), [(0.25, 0.04710), (0.5, 1.04710), (1.0, 2.04710), (2.0, 3.04710), (8.0, 5.04710)]
)
def test_the_differential_entropy_of_a_gaussian(scale, bits):
    assert differential_entropy(scale).value / math.log(2) == pytest.approx(bits, abs=5e-6)


@every_family
@pytest.mark.parametrize(("scale", "step", "offset"), [(1.0, 1.0, 0.0), (0.3, 1.0, 0.4), (2.0, 0.25, -7.3)])
def test_rounded_entropy_is_the_sum_over_bins_of_scipys_distribution(family, scale, step, offset):
    law = FAMILIES[family](offset, scale)
    edges = step * (np.arange(-3000, 3002) - 0.5)
    mass = np.where(
        edges[:-1] > offset, law.sf(edges[:-1]) - law.sf(edges[1:]), law.cdf(edges[1:]) - law.cdf(edges[:-1])
    )
    expected = -(mass[mass > 0] * np.log(mass[mass > 0])).sum()
    found = quantised_entropy(scale, step, family, offset)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert (found.standard_error, found.unit, found.kind) == (0.0, "nats", Kind.EXACT)


@every_family
def test_differential_entropy_is_scipys(family):
    assert differential_entropy(1.7, family).value == pytest.approx(FAMILIES[family](0, 1.7).entropy())


@every_family
def test_each_halving_of_the_step_costs_a_bit_without_end(family):
    steps = 2.0 ** -np.arange(2, 11)
    nats = np.array([quantised_entropy(1.0, step, family).value for step in steps])
    h = differential_entropy(1.0, family).value
    # second order: the bins of a density with kinks at most are exact to step**2 times its Fisher information / 24
    assert (abs(nats - (h - np.log(steps))) <= 1.1 * steps**2 / 24).all()
    np.testing.assert_allclose(np.diff(nats)[3:], math.log(2), atol=1e-4)


@given(st.floats(0.05, 20), st.floats(0.05, 20), st.floats(0.1, 10))
def test_only_scale_over_step_matters(scale, step, unit):
    found = quantised_entropy(unit * scale, unit * step).value
    assert found == pytest.approx(quantised_entropy(scale, step).value, rel=1e-9, abs=1e-12)


def test_rounding_to_steps_far_too_wide_leaves_nothing():
    assert quantised_entropy(1e-3, 1.0).value == 0
    assert quantised_entropy(1e-3, 1.0, offset=0.5).value == pytest.approx(math.log(2))


@every_family
def test_a_fine_step_is_summed_in_parts_and_a_finer_one_not_at_all(family, monkeypatch):
    whole = quantised_entropy(1.0, 2e-4, family, 0.3).value
    monkeypatch.setattr(module, "MOST_CELLS", 10_000)
    assert quantised_entropy(1.0, 2e-4, family, 0.3).value == pytest.approx(whole, abs=1e-11)
    h, edge = differential_entropy(1.0, family).value, 1.001 / module.FINE
    # at the edge sum and limit agree to the second order and the rounding of a sum of ten million terms
    monkeypatch.undo()
    assert quantised_entropy(1.0, edge, family).value == pytest.approx(h - math.log(edge), abs=1e-10)
    assert quantised_entropy(1.0, 1e-12, family).value == pytest.approx(h - math.log(1e-12))


def test_a_channel_rounded_very_finely_tells_all_it_can():
    found = rounded_channel(0.5, 1e-12)
    assert found.information[0] == pytest.approx(found.limit[0])


def test_bad_scales_steps_and_families_are_refused():
    for scale, step in ((0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (1.0, math.nan), (math.inf, 1.0)):
        with pytest.raises(DataError, match="must be positive and finite"):
            quantised_entropy(scale, step)
    for call in (lambda: quantised_entropy(1.0, 1.0, "cauchy"), lambda: differential_entropy(1.0, "cauchy")):
        with pytest.raises(ShapeError, match="no family 'cauchy'"):
            call()


# --- units ------------------------------------------------------------------------------------------------------------


@given(st.floats(1e-3, 1e3), st.integers(1, 6))
def test_cross_entropy_moves_with_the_unit_and_mutual_information_does_not(unit, d):
    """R32, R35: z -> a z adds ln a for each element to the cross-entropy and nothing to I."""
    generator = np.random.default_rng(d)
    mean, model_mean = generator.normal(size=(2, d))
    scale, model_scale = generator.uniform(0.5, 2, size=(2, d))
    before = gaussian_cross_entropy(mean, scale, model_mean, model_scale).value
    after = gaussian_cross_entropy(unit * mean, unit * scale, unit * model_mean, unit * model_scale).value
    assert after - before == pytest.approx(d * math.log(unit), abs=1e-9)
    matrix = random_covariance(2 * d, d)
    units = np.concatenate([np.ones(d), np.full(d, unit)])
    scaled = gaussian_mutual_information(matrix * np.outer(units, units), d).value
    assert scaled == pytest.approx(gaussian_mutual_information(matrix, d).value, rel=1e-9)


def test_a_narrow_density_has_negative_cross_entropy():
    assert gaussian_cross_entropy(0.0, 1e-3, 0.0, 1e-3).value < -5
    assert gaussian_cross_entropy(0.0, 1.0, 0.0, 1.0).value == pytest.approx(differential_entropy(1.0).value)


def test_cross_entropy_against_quadrature():
    p, q = stats.norm(0.3, 0.8), stats.norm(-1.0, 1.7)
    expected = -integrate.quad(lambda z: p.pdf(z) * q.logpdf(z), -12, 12)[0]
    assert gaussian_cross_entropy(0.3, 0.8, -1.0, 1.7).value == pytest.approx(expected, abs=1e-9)
    with pytest.raises(DataError, match="model_scale > 0"):
        gaussian_cross_entropy(0.0, 1.0, 0.0, 0.0)


# --- mutual information -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rho", "d", "nats"), [(0.9, 1, 0.830366), (0.5, 20, 2.876821), (0.75, 1, 0.413), (0.0, 3, 0.0)]
)
def test_correlated_gaussians(rho, d, nats):
    found = gaussian_mutual_information(correlated(rho, d), d)
    assert found.value == pytest.approx(nats, abs=5e-4 if rho == 0.75 else 5e-7)
    assert found.value == pytest.approx(-0.5 * d * math.log(1 - rho**2))
    assert found.kind is Kind.EXACT


@pytest.mark.parametrize(("n", "first"), [(2, 1), (5, 2), (9, 4)])
def test_information_is_the_difference_of_entropies(n, first):
    matrix = random_covariance(n, n)
    x, y, both = (np.linalg.slogdet(m)[1] for m in (matrix[:first, :first], matrix[first:, first:], matrix))
    assert gaussian_mutual_information(matrix, first).value == pytest.approx(0.5 * (x + y - both))


def test_any_invertible_change_of_x_or_y_keeps_the_information():
    matrix, generator = random_covariance(5, 1), np.random.default_rng(2)
    change = np.zeros((5, 5))
    change[:2, :2], change[2:, 2:] = generator.normal(size=(2, 2)), generator.normal(size=(3, 3))
    before = gaussian_mutual_information(matrix, 2).value
    assert gaussian_mutual_information(change @ matrix @ change.T, 2).value == pytest.approx(before)
    swapped = np.roll(matrix, (3, 3), (0, 1))  # y before x
    assert gaussian_mutual_information(swapped, 3).value == pytest.approx(before)


def test_noise_later_on_the_way_loses_information():
    """x, then z = x + noise, then w = z + more noise: I(x; w) <= I(x; z)."""
    gains = [gaussian_mutual_information([[1.0, 1.0], [1.0, 1.0 + n]], 1).value for n in (0.1, 0.5, 2.0)]
    assert gains == sorted(gains, reverse=True)
    np.testing.assert_allclose(gains, [0.5 * math.log(1 + 1 / n) for n in (0.1, 0.5, 2.0)])


def test_a_copy_tells_everything():
    assert gaussian_mutual_information([[1.0, 2.0], [2.0, 4.0]], 1).value == math.inf


def test_what_is_no_joint_covariance_is_refused():
    cases = [
        ([[1.0, 2.0], [2.0, 1.0]], 1, "the matrix is no covariance"),
        ([[1.0, 0.5], [0.1, 1.0]], 1, "not symmetric"),
        ([[1.0, 0.0], [0.0, 0.0]], 1, "Leave out what does not vary"),
        ([[math.nan, 0.0], [0.0, 1.0]], 1, "Leave out what does not vary"),
        ([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], 2, "covariance of x is singular"),
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0]], 1, "covariance of y is singular"),
    ]
    for matrix, first, message in cases:
        with pytest.raises(DataError, match=message):
            gaussian_mutual_information(matrix, first)
    for matrix, first in ((np.eye(2), 0), (np.eye(2), 2), (np.ones((2, 3)), 1), (np.ones(4), 1)):
        with pytest.raises(ShapeError, match="the length of x"):
            gaussian_mutual_information(matrix, first)


def test_the_estimate_from_samples_agrees_with_the_closed_form():
    """R37: E ln [p(z | y) / p(z)] with z = y + noise."""
    generator = torch.Generator().manual_seed(5)
    y, eps = torch.randn(2, 50_000, generator=generator, dtype=torch.float64)
    z = y + 0.5 * eps
    conditional = torch.distributions.Normal(y, 0.5).log_prob(z)
    marginal = torch.distributions.Normal(0.0, math.sqrt(1.25)).log_prob(z)
    found = mutual_information(conditional, marginal)
    assert found.value == pytest.approx(0.5 * math.log(5), abs=4 * found.standard_error)
    assert 0 < found.standard_error < 0.01
    assert (found.unit, found.kind) == ("nats", Kind.ESTIMATE)
    # with a model in place of the marginal: the cross information, larger by KL(marginal | model)
    cross = mutual_information(conditional, torch.distributions.Normal(0.0, 2.0).log_prob(z))
    divergence = math.log(2 / math.sqrt(1.25)) + 1.25 / 8 - 0.5
    assert cross.value == pytest.approx(0.5 * math.log(5) + divergence, abs=4 * cross.standard_error)
    with pytest.raises(ShapeError, match="one number for each pair"):
        mutual_information(conditional, marginal[:, None])


def test_a_table_of_two_coins():
    eps = 0.1
    joint = 0.5 * np.array([[1 - eps, eps], [eps, 1 - eps]])
    assert discrete_mutual_information(joint).value == pytest.approx(math.log(2) - stats.bernoulli(eps).entropy())
    assert discrete_mutual_information(np.outer([0.2, 0.8], [0.5, 0.1, 0.4])).value == pytest.approx(0, abs=1e-15)
    assert discrete_mutual_information(np.diag([0.25, 0.75])).value == pytest.approx(stats.bernoulli(0.25).entropy())
    for wrong in ([[0.5, 0.6]], [[1.5, -0.5]], [[math.nan, 1.0]]):
        with pytest.raises(TableError, match="divided by its sum"):
            discrete_mutual_information(wrong)
    with pytest.raises(ShapeError, match=r"Pass a table"):
        discrete_mutual_information([0.5, 0.5])


# --- capacity ---------------------------------------------------------------------------------------------------------


def test_the_capacity_of_one_gaussian_channel():
    assert gaussian_channel_capacity(4.0, 1.0).value == pytest.approx(0.5 * math.log(5))
    assert gaussian_channel_capacity(0.0, 1.0).value == 0


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_capacity_is_the_information_of_a_gaussian_input_in_any_unit(power, noise):
    capacity = gaussian_channel_capacity(power, noise).value
    information = gaussian_mutual_information([[power, power], [power, power + noise]], 1).value
    assert information == pytest.approx(capacity, rel=1e-9)
    assert gaussian_channel_capacity(7 * power, 7 * noise).value == pytest.approx(capacity)
    # sent backwards it is a rate: y of variance P + N at distortion N costs what the channel carries
    assert gaussian_rate(power + noise, noise) == pytest.approx(capacity, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("power", [0.1, 1.0, 10.0])
def test_no_division_of_power_carries_more_than_the_capacity(power):
    noise = np.array([0.2, 1.0, 3.0])
    capacity = gaussian_channel_capacity(power, noise).value
    given_ = np.random.default_rng(0).dirichlet(np.full(3, 0.5), size=3000) * power
    carried = 0.5 * np.log1p(given_ / noise).sum(1)
    assert carried.max() <= capacity + 1e-12
    assert carried.max() > capacity - 0.02


def test_an_input_of_two_values_carries_less_than_the_capacity():
    """The capacity is a largest value over inputs: x = +1 or -1 has the power 1 but not the information."""

    def density(z):
        return 0.5 * (stats.norm.pdf(z, 1) + stats.norm.pdf(z, -1))

    entropy = -integrate.quad(lambda z: density(z) * math.log(density(z)), -12, 12)[0]
    carried = entropy - differential_entropy(1.0).value
    assert 0.3 < carried < gaussian_channel_capacity(1.0, 1.0).value


def test_bad_powers_and_noises_are_refused():
    for power in (-1.0, math.nan, math.inf):
        with pytest.raises(DataError, match="Check its sign"):
            gaussian_channel_capacity(power, 1.0)
    for noise in (0.0, -1.0, math.nan, []):
        with pytest.raises(DataError, match="Pass variances > 0"):
            gaussian_channel_capacity(1.0, noise)


# --- the figure -------------------------------------------------------------------------------------------------------


def test_code_length_grows_without_end_while_information_does_not():
    steps = 2.0 ** -np.arange(-2, 7)
    found = rounded_channel(0.5, steps)
    limit = 0.5 * math.log(5)
    np.testing.assert_allclose(found.limit, limit)
    assert (np.diff(found.code_length)[3:] > 0.99 * math.log(2)).all()
    np.testing.assert_allclose(found.code_length[4:], found.differential[4:], atol=3e-3)
    assert (np.diff(found.information) > 0).all()  # the coarser grid's edges are edges of the finer one, nearly
    assert (found.information < limit).all()
    assert found.information[-1] == pytest.approx(limit, abs=1e-3)
    assert (found.information <= found.code_length).all()


def test_multiplied_latents_cost_more_and_tell_the_same():
    scales = 2.0 ** np.arange(-5, 4)
    found = rounded_channel(0.5, 1.0, scales)
    np.testing.assert_allclose(np.diff(found.differential), math.log(2))
    assert found.differential[0] < 0 < found.differential[-1]
    np.testing.assert_allclose(found.limit, 0.5 * math.log(5))
    same = rounded_channel(0.5, scales, scales)  # step and latent in another unit: the same code
    np.testing.assert_allclose(same.code_length, same.code_length[0])
    np.testing.assert_allclose(same.information, same.information[0])


@pytest.mark.parametrize(("noise", "step"), [(0.5, 1.0), (0.2, 2.0), (1.5, 0.3)])
def test_the_information_of_a_rounded_channel_by_another_way(noise, step):
    """I(y; n) = sum over n of E_y p(n | y) ln [p(n | y) / p(n)], with scipy's quadrature for each n."""
    spread = math.hypot(1, noise)

    def mass(n, mean, scale):
        return stats.norm.cdf((n + 0.5) * step, mean, scale) - stats.norm.cdf((n - 0.5) * step, mean, scale)

    y = np.linspace(-9, 9, 3601)
    weight = stats.norm.pdf(y) * (y[1] - y[0])
    total = 0.0
    for n in range(-math.ceil(8 * spread / step), math.ceil(8 * spread / step) + 1):
        p = np.maximum(mass(n, y, noise), 1e-300)
        total += float(weight @ (p * np.log(p / max(mass(n, 0.0, spread), 1e-300))))
    assert rounded_channel(noise, step).information[0] == pytest.approx(total, abs=1e-9)


def test_a_channel_needs_positive_numbers():
    for noise, step, scale in ((0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, 0.0)):
        with pytest.raises(DataError, match="must be positive and finite"):
            rounded_channel(noise, step, scale)
