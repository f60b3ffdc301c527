"""The algorithm of Blahut and Arimoto against closed forms, and its own bounds against the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from rdae.data.synthetic import SawbridgeSource
from rdae.errors import DataError, ShapeError, TableError
from rdae.measures.blahut_arimoto import blahut_arimoto, conditional_law, rate_distortion_curve, squared_distances
from rdae.measures.information import discrete_mutual_information
from rdae.measures.rate_distortion import (
    bernoulli_distortion,
    bernoulli_rate,
    circle_rate,
    gaussian_rate,
    uniform_letters_rate,
    water_filling_at_level,
)

HAMMING = 1 - np.eye(2)
ROUNDING = 1e-12


def random_source(seed: int, letters: int = 6, reproductions: int = 5) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.dirichlet(np.ones(letters)), generator.exponential(size=(letters, reproductions))


def quantised_gaussian(step: float, reach: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Masses of N(0, 1) rounded to a grid and held within it; the grid; the rms error of that rounding."""
    grid = step * np.arange(-reach, reach + 1)
    edges = np.concatenate([[-np.inf], (grid[1:] + grid[:-1]) / 2, [np.inf]])
    p = np.diff(norm.cdf(edges))
    y = np.linspace(-12, 12, 240_001)
    nearest = np.clip(np.round(y / step), -reach, reach) * step
    error = math.sqrt(np.sum((y - nearest) ** 2 * norm.pdf(y)) * (y[1] - y[0]))
    return p / p.sum(), grid, error


# --- closed forms -----------------------------------------------------------------------------------------------------


def test_a_fair_coin_exactly():
    point = blahut_arimoto([0.5, 0.5], HAMMING, math.log(9))
    assert point.distortion == pytest.approx(0.1, abs=ROUNDING)
    assert point.rate == pytest.approx(0.368064, abs=5e-7)
    assert point.rate == pytest.approx(bernoulli_rate(0.5, 0.1), abs=ROUNDING)
    assert point.gap <= ROUNDING
    np.testing.assert_allclose(conditional_law(HAMMING, point), [[0.9, 0.1], [0.1, 0.9]], atol=ROUNDING)


@pytest.mark.parametrize("p", [0.5, 0.3, 0.05])
@pytest.mark.parametrize("lam", [0.5, 2.0, 6.0])
def test_a_bent_coin(p, lam):
    point = blahut_arimoto([p, 1 - p], HAMMING, lam, tolerance=1e-10)
    assert point.gap <= 1e-10
    # both are near lines of slope -lam: a gap of 1e-10 in rate lets D be off by about sqrt(1e-10 / R'')
    assert point.distortion == pytest.approx(bernoulli_distortion(p, lam), abs=1e-4)
    assert point.rate_lower - ROUNDING <= bernoulli_rate(p, point.distortion) <= point.rate + ROUNDING


@pytest.mark.parametrize("letters", [3, 10])
def test_equal_letters_under_hamming_distortion(letters):
    point = blahut_arimoto(np.full(letters, 1 / letters), 1 - np.eye(letters), 1.5)
    assert point.rate == pytest.approx(uniform_letters_rate(letters, point.distortion), abs=ROUNDING)
    assert point.gap <= ROUNDING


def test_an_erasure_may_be_chosen_but_no_error():
    """Infinite distortion for a wrong bit, 1 for '?': R(D) = (1 - D) ln 2, a line of slope -ln 2."""
    d = np.array([[0, np.inf, 1], [np.inf, 0, 1]])
    for lam, distortion in ((0.5, 1.0), (math.log(2), None), (1.5, 0.0)):
        point = blahut_arimoto([0.5, 0.5], d, lam, tolerance=1e-12)
        assert point.rate == pytest.approx((1 - point.distortion) * math.log(2), abs=1e-9)
        if distortion is not None:
            assert point.distortion == pytest.approx(distortion, abs=1e-6)


@pytest.mark.parametrize("lam", [0.7, 1.0, 5.0])
def test_a_gaussian_on_a_grid_within_proven_bounds(lam):
    """Rounding y by e (rms) moves distortions by the triangle inequality, and a grid of reproductions by half a step:
    R((sqrt(D) + e)²) <= R_grid(D) and R_grid((sqrt(D) + e + step / 2)²) <= R(D), R being ln(1 / D) / 2."""
    step = 0.05
    p, grid, error = quantised_gaussian(step, 120)
    point = blahut_arimoto(p, squared_distances(grid, grid), lam, tolerance=1e-3)
    root = math.sqrt(point.distortion)
    assert point.gap <= 1e-3
    assert gaussian_rate(1.0, (root + error) ** 2) <= point.rate + ROUNDING
    assert point.rate_lower - ROUNDING <= gaussian_rate(1.0, (root - error - step / 2) ** 2)
    assert abs(point.rate - gaussian_rate(1.0, point.distortion)) < 2e-3  # and they are in fact as close as the gap
    assert point.distortion == pytest.approx(1 / (2 * lam), rel=0.02)


def test_letters_on_a_circle_approach_the_circle():
    angle = np.arange(48) * 2 * math.pi / 48
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    radii = np.linspace(0.02, 1, 50)
    plane = (radii[:, None, None] * circle).reshape(-1, 2)
    point = blahut_arimoto(np.full(48, 1 / 48), squared_distances(circle, plane), 2.5, tolerance=1e-5)
    # reproductions at radii 0.02 apart: at most 0.01 from the best one, lam * 0.01**2 = 2.5e-4 nats dearer
    assert circle_rate(point.distortion) == pytest.approx(point.rate, abs=3e-4)


def test_a_gaussian_in_the_plane_is_filled_with_water():
    """Two independent Gaussians on grids: rates of each at one slope add up."""
    p, grid, _ = quantised_gaussian(0.4, 9)
    scales = np.array([2.0, 0.5])
    lam = 0.5  # level 1: the second lies under water
    d = [squared_distances(s * grid, s * grid) for s in scales]
    joint = (d[0][:, None, :, None] + d[1][None, :, None, :]).reshape(len(grid) ** 2, -1)
    together = blahut_arimoto(np.outer(p, p).ravel(), joint, lam, tolerance=1e-3)
    expected = water_filling_at_level(scales**2, 1 / (2 * lam))
    alone = [blahut_arimoto(p, one, lam, tolerance=1e-3) for one in d]
    # lam D + R is known to within the gaps; rates and distortions of both sum to it
    total = together.rate + lam * together.distortion
    assert total == pytest.approx(sum(x.rate + lam * x.distortion for x in alone), abs=3e-3)
    assert total == pytest.approx(expected.rate + lam * expected.distortion, abs=0.05)  # a coarse grid


# --- bounds and laws --------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 20))
def test_the_true_rate_lies_between_the_bounds_at_any_step(seed, lam):
    p, d = random_source(seed)
    truth = blahut_arimoto(p, d, lam, tolerance=1e-9, max_iterations=100_000)
    for iterations in (0, 1, 3, 10):
        early = blahut_arimoto(p, d, lam, tolerance=0, max_iterations=iterations)
        assert early.iterations == iterations
        least = truth.rate + lam * truth.distortion  # min of R + lam D, to within truth.gap
        assert early.rate + lam * early.distortion >= least - truth.gap - ROUNDING
        assert early.rate_lower + lam * early.distortion <= least + ROUNDING


def test_rate_and_distortion_are_those_of_the_channel():
    p, d = random_source(7)
    for iterations in (0, 2, 50):
        point = blahut_arimoto(p, d, 3.0, tolerance=0, max_iterations=iterations)
        joint = p[:, None] * conditional_law(d, point)
        assert point.distortion == pytest.approx((joint * d).sum(), abs=ROUNDING)
        assert point.rate == pytest.approx(discrete_mutual_information(joint).value, abs=ROUNDING)


def test_at_convergence_the_law_of_the_output_is_the_reproduction_law():
    p, d = random_source(11)
    point = blahut_arimoto(p, d, 3.0, tolerance=1e-12, max_iterations=100_000)
    np.testing.assert_allclose(p @ conditional_law(d, point), point.reproduction, atol=1e-6)


def test_a_curve_falls_is_convex_and_has_the_slopes_it_was_asked_for():
    p, d = random_source(2, 8, 8)
    lams = np.geomspace(0.3, 30, 40)
    points = rate_distortion_curve(p, d, lams, tolerance=1e-9, max_iterations=50_000)
    rate, distortion = (np.array([getattr(x, name) for x in points]) for name in ("rate", "distortion"))
    assert (np.diff(rate) >= -1e-9).all()
    assert (np.diff(distortion) <= 1e-9).all()
    moved = np.diff(distortion) < -1e-5  # a kink keeps its point for many slopes
    chord = -np.diff(rate)[moved] / np.diff(distortion)[moved]
    assert (chord >= lams[:-1][moved] - 1e-3).all()  # a chord's slope lies between those of its ends
    assert (chord <= lams[1:][moved] + 1e-3).all()
    for x in points:  # each lower bound is a line below all points
        assert (rate >= x.rate_lower + x.lam * (x.distortion - distortion) - ROUNDING).all()


@pytest.mark.parametrize("order", [1, -1], ids=["rising", "falling"])
def test_a_warm_start_changes_the_work_and_not_the_curve(order):
    p, grid, _ = quantised_gaussian(0.2, 25)
    d = squared_distances(grid, grid)
    lams = np.geomspace(0.6, 20, 8)[::order]
    warm = rate_distortion_curve(p, d, lams)
    for point, lam in zip(warm, lams, strict=True):
        cold = blahut_arimoto(p, d, lam)
        assert point.gap <= 1e-4
        assert point.rate + lam * point.distortion == pytest.approx(cold.rate + lam * cold.distortion, abs=1e-4)


def test_a_reproduction_that_the_start_excludes_comes_back():
    point = blahut_arimoto([0.5, 0.5], HAMMING, math.log(9), start=[1.0, 0.0], tolerance=1e-9)
    assert point.gap <= 1e-9
    assert point.distortion == pytest.approx(0.1, abs=1e-4)


def test_names_of_letters_do_not_matter():
    p, d = random_source(5)
    point = blahut_arimoto(p, d, 2.0)
    rows, columns = np.random.default_rng(1).permutation(6), np.random.default_rng(2).permutation(5)
    mixed = blahut_arimoto(p[rows], d[rows][:, columns], 2.0)
    assert (mixed.rate, mixed.distortion) == pytest.approx((point.rate, point.distortion))
    np.testing.assert_allclose(mixed.reproduction, point.reproduction[columns], atol=1e-9)


def test_letters_that_never_occur_change_nothing():
    p, d = random_source(5)
    point = blahut_arimoto(p, d, 2.0)
    more = blahut_arimoto([*p, 0.0], np.vstack([d, np.full(5, 1e9)]), 2.0)
    assert (more.rate, more.distortion) == pytest.approx((point.rate, point.distortion), abs=ROUNDING)
    nothing = blahut_arimoto([1.0, 0.0], HAMMING, 2.0, tolerance=1e-9)
    assert nothing.rate == pytest.approx(0, abs=1e-8)
    assert nothing.distortion == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("unit", [1e-12, 1e12])
def test_the_unit_of_distortion_does_not_matter(unit):
    p, d = random_source(5)
    point, scaled = blahut_arimoto(p, d, 2.0), blahut_arimoto(p, unit * d, 2.0 / unit)
    assert scaled.rate == pytest.approx(point.rate)
    assert scaled.distortion == pytest.approx(unit * point.distortion)


def test_what_is_added_to_a_row_is_only_distortion():
    p, d = random_source(5)
    point = blahut_arimoto(p, d, 2.0)
    shifted = blahut_arimoto(p, d + 1e4 * np.arange(6)[:, None], 2.0)
    assert shifted.rate == pytest.approx(point.rate, abs=1e-7)  # 2 * 5e4 nats of offset, 1e-16 of them
    assert shifted.distortion == pytest.approx(point.distortion + 1e4 * p @ np.arange(6))


def test_a_steep_slope_leads_to_the_entropy_and_a_flat_one_to_nothing():
    p, grid, _ = quantised_gaussian(0.5, 80)  # letters of probability down to 1e-308
    d = squared_distances(grid, grid)
    steep = blahut_arimoto(p, d, 1e9)
    assert steep.rate == pytest.approx(-(p[p > 0] * np.log(p[p > 0])).sum(), abs=1e-4)
    assert steep.distortion == pytest.approx(0, abs=1e-6)
    flat = blahut_arimoto(p, d, 1e-6)
    assert flat.rate < 1e-4


def test_the_sawbridge_is_one_of_its_letters():
    """All signals are equally likely, so that no distortion costs ln(points - 1); and cells of N neighbouring jumps
    cost ln(jumps / N) at most, which no rate-distortion function may exceed."""
    source = SawbridgeSource(33)
    letters = source.letters()
    cells = {n: letters.reshape(-1, n, 33).mean(1) for n in (1, 2, 4, 8)}  # 32 jumps in 32 / n cells
    d = squared_distances(letters, np.vstack(list(cells.values())))
    p = np.full(32, 1 / 32)
    assert blahut_arimoto(p, d, 1e3).rate == pytest.approx(math.log(32), abs=1e-4)
    for n, centres in cells.items():
        distortion = squared_distances(letters, centres).min(1).mean()
        for lam in (0.3, 1.0, 3.0):
            point = blahut_arimoto(p, d, lam)
            assert math.log(32 / n) >= point.rate_lower + lam * (point.distortion - distortion)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [[0.5, 0.4], [0.5, 0.6], [1.5, -0.5], [math.nan, 0.5], [math.inf, 0.0]])
def test_what_is_no_law_is_refused(p):
    with pytest.raises(TableError, match="sum"):
        blahut_arimoto(p, HAMMING, 1.0)
    with pytest.raises(TableError, match="start"):
        blahut_arimoto([0.5, 0.5], HAMMING, 1.0, start=p)


@pytest.mark.parametrize("worst", [math.nan, -1e-9, -math.inf])
def test_a_distortion_that_is_none_is_refused(worst):
    d = HAMMING.copy()
    d[1, 0] = worst
    with pytest.raises(DataError, match=r"distortions\[1, 0\] is .* 0 or more"):
        blahut_arimoto([0.5, 0.5], d, 1.0)


def test_a_letter_without_a_reproduction_is_refused_if_it_occurs():
    d = np.array([[0.0, 1.0], [math.inf, math.inf]])
    with pytest.raises(DataError, match="Allow it one"):
        blahut_arimoto([0.5, 0.5], d, 1.0)
    assert blahut_arimoto([1.0, 0.0], d, 1.0).rate < 1e-4


@pytest.mark.parametrize("lam", [0.0, -1.0, math.inf, math.nan])
def test_a_slope_that_is_none_is_refused(lam):
    with pytest.raises(DataError, match="a slope is positive and finite"):
        blahut_arimoto([0.5, 0.5], HAMMING, lam)


def test_shapes_that_do_not_fit_are_refused():
    for p, d in (([1.0], HAMMING), ([[0.5, 0.5]], HAMMING), ([0.5, 0.5], [0.0, 1.0]), ([], np.ones((0, 2)))):
        with pytest.raises(ShapeError, match="a row for each letter"):
            blahut_arimoto(p, d, 1.0)
    with pytest.raises(ShapeError, match="for each reproduction"):
        blahut_arimoto([0.5, 0.5], HAMMING, 1.0, start=[1.0])
    with pytest.raises(ShapeError, match="it was computed with"):
        conditional_law(np.ones((2, 3)), blahut_arimoto([0.5, 0.5], HAMMING, 1.0))
    with pytest.raises(ShapeError, match="the same length"):
        squared_distances(np.ones((2, 3)), np.ones((2, 2)))


def test_squared_distances_sum_over_elements():
    y, y_hat = np.random.default_rng(0).normal(size=(2, 5, 3))
    np.testing.assert_allclose(squared_distances(y, y_hat), ((y[:, None] - y_hat) ** 2).sum(2))
    assert squared_distances([1.0, 4.0], [1.0]).tolist() == [[0.0], [9.0]]
