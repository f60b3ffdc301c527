"""Closed rate-distortion functions: known values, inverses, slopes, convexity, and bounds between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("torch")

from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special

from rdae.errors import DataError, ShapeError
from rdae.measures.rate_distortion import (
    bernoulli_distortion,
    bernoulli_lam,
    bernoulli_rate,
    binary_entropy,
    circle_lam,
    circle_rate,
    gaussian_distortion,
    gaussian_lam,
    gaussian_rate,
    laplace_distortion,
    laplace_lam,
    laplace_rate,
    shannon_lower_bound,
    shannon_lower_bound_lam,
    uniform_letters_lam,
    uniform_letters_rate,
    water_filling,
    water_filling_at_level,
    water_filling_at_rate,
)

EPS = float(np.finfo(np.float64).eps)
UNIFORM_ENTROPY = 0.0  # of a density that is 1 on (0, 1)
spectra = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8)
shares = st.floats(0.001, 0.999)


class Curve(NamedTuple):
    rate: Callable
    lam: Callable
    largest: float  # D from which the rate is 0
    at_zero: float  # rate without distortion


VARIANCES = [4.0, 1.0, 0.25]
CURVES = {
    "gaussian": Curve(lambda d: gaussian_rate(2.5, d), lambda d: gaussian_lam(2.5, d), 2.5, math.inf),
    "water-filling": Curve(
        lambda d: np.array([water_filling(VARIANCES, x).rate for x in np.atleast_1d(d)]),
        lambda d: np.array([water_filling(VARIANCES, x).lam for x in np.atleast_1d(d)]),
        5.25,
        math.inf,
    ),
    "bernoulli": Curve(lambda d: bernoulli_rate(0.3, d), lambda d: bernoulli_lam(0.3, d), 0.3, binary_entropy(0.3)),
    "letters": Curve(lambda d: uniform_letters_rate(5, d), lambda d: uniform_letters_lam(5, d), 0.8, math.log(5)),
    "laplace": Curve(lambda d: laplace_rate(1.7, d), lambda d: laplace_lam(1.7, d), 1.7, math.inf),
    "circle": Curve(lambda d: circle_rate(d, 1.5), lambda d: circle_lam(d, 1.5), 2.25, math.inf),
    "bound": Curve(
        lambda d: shannon_lower_bound(UNIFORM_ENTROPY, 1, d),
        lambda d: shannon_lower_bound_lam(UNIFORM_ENTROPY, 1, d),
        1 / (2 * math.pi * math.e),
        math.inf,
    ),
}


@pytest.fixture(params=CURVES.values(), ids=CURVES)
def curve(request: pytest.FixtureRequest) -> Curve:
    return request.param


# --- laws of all curves -----------------------------------------------------------------------------------------------


def test_a_curve_falls_and_is_convex(curve):
    d = np.linspace(0.001, 1.2, 400) * curve.largest
    rate = np.asarray(curve.rate(d))
    rounding = 100 * EPS * rate.max()
    assert (np.diff(rate) <= rounding).all()
    assert (np.diff(rate, 2) >= -rounding).all()


def test_the_rate_is_zero_from_the_largest_distortion_on(curve):
    d = np.array([1.0, 1.001, 10.0, math.inf]) * curve.largest
    np.testing.assert_allclose(curve.rate(d), 0, atol=10 * EPS)
    assert (np.asarray(curve.lam(d[1:])) == 0).all()
    assert float(np.squeeze(curve.rate(0.999 * curve.largest))) > 0


def test_without_distortion_the_rate_is_the_entropy(curve):
    assert float(np.squeeze(curve.rate(0.0))) == pytest.approx(curve.at_zero)
    assert float(np.squeeze(curve.lam(0.0))) == math.inf


def test_the_slope_is_minus_lam(curve):
    d = np.array([0.02, 0.1, 0.3, 0.55, 0.9]) * curve.largest
    step = 1e-5 * d  # central differences: error about step**2 R''' / 6 = 1e-10 of the slope, rounding 1e-16 / 1e-5
    slope = (np.asarray(curve.rate(d + step)) - np.asarray(curve.rate(d - step))) / (2 * step)
    np.testing.assert_allclose(-slope, curve.lam(d), rtol=1e-8)


def test_at_the_optimum_no_other_point_trades_better(curve):
    """lam is the weight for which rate + lam * distortion is least just there."""
    others = np.linspace(0.001, 1.1, 1000) * curve.largest
    for d in np.array([0.05, 0.4, 0.95]) * curve.largest:
        lam = float(np.squeeze(curve.lam(d)))
        least = float(np.squeeze(curve.rate(d))) + lam * d
        assert (np.asarray(curve.rate(others)) + lam * others >= least - 1e-12).all()


@pytest.mark.parametrize("distortion", [-1e-9, math.nan])
def test_a_negative_distortion_is_refused(curve, distortion):
    with pytest.raises(DataError, match="check its sign and unit"):
        curve.rate(distortion)
    with pytest.raises(DataError, match="check its sign and unit"):
        curve.lam(distortion)


# --- Gaussian ---------------------------------------------------------------------------------------------------------


def test_halving_the_error_of_a_gaussian_costs_a_nat_and_a_half_times_ln_two():
    assert gaussian_rate(1.0, 0.25) - gaussian_rate(1.0, 0.5) == pytest.approx(0.5 * math.log(2))
    assert isinstance(gaussian_rate(1.0, 0.5), float)
    assert gaussian_rate(np.ones((3, 1)), np.full(4, 0.1)).shape == (3, 4)


@given(st.floats(1e-6, 1e6), st.floats(0, 20))
def test_gaussian_rate_and_distortion_are_inverse(variance, rate):
    assert gaussian_rate(variance, gaussian_distortion(variance, rate)) == pytest.approx(rate, abs=1e-13)


def test_a_source_that_does_not_vary_costs_nothing():
    assert gaussian_rate(0.0, 0.0) == 0
    assert gaussian_lam(0.0, 0.0) == 0
    point = water_filling([0.0, 0.0], 0.0)
    assert (point.rate, point.distortion, point.lam) == (0, 0, 0)
    assert water_filling_at_rate([0.0, 0.0], 3.0).rate == 0


@pytest.mark.parametrize("variance", [-1.0, math.nan, math.inf])
def test_a_variance_that_is_none_is_refused(variance):
    for call in (gaussian_rate, gaussian_lam, lambda v, d: water_filling([1.0, v], d), gaussian_distortion):
        with pytest.raises(DataError, match="variance is"):
            call(variance, 0.1)


@pytest.mark.parametrize(
    ("distortion", "rate"), [(0.3, 3.453878), (0.75, 2.079442), (1.5, 1.163151), (3.0, 0.413339), (5.25, 0.0)]
)
def test_water_filling_of_four_one_and_a_quarter(distortion, rate):
    point = water_filling(VARIANCES, distortion)
    assert point.rate == pytest.approx(rate, abs=5e-7)
    assert point.distortion == pytest.approx(distortion, rel=4 * EPS)
    np.testing.assert_allclose(point.distortions, np.minimum(VARIANCES, point.level))


def test_water_stands_where_it_should_by_hand():
    point = water_filling(VARIANCES, 1.5)  # the smallest is under water: (1.5 - 0.25) / 2
    assert point.level == pytest.approx(0.625)
    assert point.lam == pytest.approx(0.8)
    assert point.rate == pytest.approx(0.5 * math.log(4 / 0.625) + 0.5 * math.log(1 / 0.625))


def test_no_other_division_of_the_error_is_cheaper():
    generator = np.random.default_rng(3)
    best = water_filling(VARIANCES, 1.5)
    for share in generator.dirichlet(np.ones(3), size=2000):
        assert gaussian_rate(VARIANCES, 1.5 * share).sum() >= best.rate - 1e-12


@given(spectra, shares)
def test_the_three_ways_to_a_point_of_water_filling_agree(variances, share):
    point = water_filling(variances, share * sum(variances))
    by_level = water_filling_at_level(variances, point.level)
    by_rate = water_filling_at_rate(variances, point.rate)
    for other in (by_level, by_rate):
        assert other.rate == pytest.approx(point.rate, rel=1e-9, abs=1e-12)
        assert other.distortion == pytest.approx(share * sum(variances), rel=1e-9)
        np.testing.assert_allclose(other.distortions, point.distortions, rtol=1e-9)


@given(spectra, shares, st.floats(0.01, 100), st.permutations(range(8)))
def test_water_filling_knows_neither_order_nor_unit(variances, share, unit, order):
    d = share * sum(variances)
    point = water_filling(variances, d)
    order = [i for i in order if i < len(variances)]
    mixed = water_filling([unit**2 * variances[i] for i in order], unit**2 * d)
    assert mixed.rate == pytest.approx(point.rate, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(mixed.distortions, unit**2 * point.distortions[order], rtol=1e-9)


def test_equal_variances_share_rate_and_error():
    point = water_filling(np.full(1000, 2.0), 500.0)
    assert point.rate == pytest.approx(1000 * gaussian_rate(2.0, 0.5))
    assert water_filling_at_rate(np.full(1000, 2.0), 0.0).distortion == pytest.approx(2000)


def test_the_ends_of_water_filling():
    assert water_filling(VARIANCES, 0.0).rate == math.inf
    assert water_filling([1.0, 0.0], 0.0).rate == math.inf
    assert water_filling_at_rate(VARIANCES, math.inf).distortion == 0
    assert water_filling_at_rate(VARIANCES, 0.0).distortion == 5.25
    assert water_filling_at_rate(VARIANCES, 0.0).lam == 0
    assert water_filling(VARIANCES, 100.0).distortion == 5.25


def test_what_is_no_spectrum_is_refused():
    for wrong in (np.eye(2), 1.0, []):
        with pytest.raises(ShapeError, match="eigvalsh"):
            water_filling(wrong, 1.0)
    with pytest.raises(DataError, match="Pass nats, 0 or more"):
        water_filling_at_rate(VARIANCES, -1.0)
    with pytest.raises(DataError, match="Pass a level of 0 or more"):
        water_filling_at_level(VARIANCES, -1.0)


# --- letters ----------------------------------------------------------------------------------------------------------


def test_a_fair_coin_with_one_error_in_ten():
    assert bernoulli_rate(0.5, 0.1) == pytest.approx(0.368064, abs=5e-7)
    assert bernoulli_rate(0.5, 0.1) / math.log(2) == pytest.approx(0.531004, abs=5e-7)
    assert bernoulli_lam(0.5, 0.1) == pytest.approx(2.197225, abs=5e-7)
    assert bernoulli_distortion(0.5, math.log(9)) == pytest.approx(0.1)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_coin_has_no_sides(p, distortion):
    assert bernoulli_rate(p, distortion) == pytest.approx(bernoulli_rate(1 - p, distortion), abs=1e-14)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_slope_leads_back_to_its_distortion(p, share):
    d = share * min(p, 1 - p)
    assert bernoulli_distortion(p, bernoulli_lam(p, d)) == pytest.approx(d)


def test_two_equal_letters_are_a_fair_coin():
    d = np.linspace(0, 1, 21)
    np.testing.assert_allclose(uniform_letters_rate(2, d), bernoulli_rate(0.5, d), atol=4 * EPS)


def test_what_is_no_probability_or_alphabet_is_refused():
    for p in (-0.1, 1.1, math.nan):
        with pytest.raises(DataError, match="Pass a probability"):
            bernoulli_rate(p, 0.1)
    with pytest.raises(DataError, match="A single letter costs nothing"):
        uniform_letters_rate(1, 0.1)


# --- Laplace, circle, lower bound -------------------------------------------------------------------------------------


@given(st.floats(1e-6, 1e6), st.floats(0, 20))
def test_laplace_rate_and_distortion_are_inverse(scale, rate):
    assert laplace_rate(scale, laplace_distortion(scale, rate)) == pytest.approx(rate, abs=1e-13)


def test_a_laplace_source_costs_ln_of_scale_over_error():
    assert laplace_rate(2.0, 0.5) == pytest.approx(math.log(4))


@pytest.mark.parametrize("kappa", [1e-3, 0.5, 3.0, 40.0, 3e3, 1e6])
def test_the_circle_against_quadrature_of_its_von_mises_density(kappa):
    """Rate and distortion of a channel whose y_hat, at radius rho, is von Mises about y; both integrals by scipy."""
    wide = min(math.pi, 12 / math.sqrt(kappa))

    def mean(f):
        law = integrate.quad(lambda t: math.exp(kappa * (math.cos(t) - 1)), -wide, wide, epsabs=0, epsrel=1e-13)[0]
        return (
            integrate.quad(
                lambda t: f(t, law) * math.exp(kappa * (math.cos(t) - 1)) / law, -wide, wide, epsabs=0, epsrel=1e-12
            )[0],
            law,
        )

    short, law = mean(lambda t, _: 2 * math.sin(t / 2) ** 2)  # 1 - A
    distortion = short * (2 - short)
    rate = -kappa * short - math.log(law / (2 * math.pi))
    assert circle_rate(distortion) == pytest.approx(rate, rel=1e-8, abs=1e-12)
    assert circle_lam(distortion) == pytest.approx(kappa / (2 * (1 - short)), rel=1e-7)


def test_no_reconstruction_of_the_circle_at_another_radius_does_better():
    """Csiszar's condition, which makes the closed form the optimum over all reconstructions in the plane."""
    for distortion in (0.02, 0.3, 0.9):
        lam, rho = circle_lam(distortion), math.sqrt(1 - distortion)
        r = np.linspace(0, 3, 3001)
        log_growth = [np.log(special.i0e(2 * lam * x)) + 2 * lam * x - lam * x**2 for x in (r, rho)]
        assert (log_growth[0] <= log_growth[1] + 1e-12).all()


def test_a_small_piece_of_the_circle_is_a_line():
    """At small distortion the arc is straight, and the bound of a density on a line is nearly reached."""
    assert circle_rate(1e-6) == pytest.approx(shannon_lower_bound(math.log(2 * math.pi), 1, 1e-6), abs=1e-6)


def test_the_circle_is_cheaper_than_the_gaussian_of_its_variances():
    for distortion in (0.01, 0.1, 0.5, 0.9):
        assert circle_rate(distortion) < water_filling([0.5, 0.5], distortion).rate


def test_the_bound_of_a_uniform_density():
    assert shannon_lower_bound(UNIFORM_ENTROPY, 1, 0.01) == pytest.approx(0.883647, abs=5e-7)


@given(spectra, shares)
def test_the_bound_lies_below_a_gaussian_curve_and_touches_it_at_small_errors(variances, share):
    entropy = 0.5 * float(np.sum(np.log(2 * math.pi * math.e * np.array(variances))))
    n = len(variances)
    d = share * sum(variances)
    assert shannon_lower_bound(entropy, n, d) <= water_filling(variances, d).rate + 1e-9
    small = share * n * min(variances)
    assert shannon_lower_bound(entropy, n, small) == pytest.approx(water_filling(variances, small).rate, abs=1e-9)


def test_what_has_no_density_has_no_bound_but_zero():
    assert shannon_lower_bound(-math.inf, 3, 0.1) == 0
    with pytest.raises(DataError, match="differential entropy of the source in nats"):
        shannon_lower_bound(math.nan, 3, 0.1)
    with pytest.raises(DataError, match="one element or more"):
        shannon_lower_bound(0.0, 0, 0.1)
