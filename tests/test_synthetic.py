"""Synthetic sources: samples have the moments, densities and entropies that the sources claim."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy import stats

from rdae.data.arrays import Kind
from rdae.data.sources import from_array
from rdae.data.synthetic import BananaSource, CircleSource, GaussianSource, MixtureSource, SawbridgeSource
from rdae.errors import DataError, ShapeError
from rdae.measures.rate_distortion import water_filling

COVARIANCE = np.array([[4.0, 1.0, 0.2], [1.0, 1.0, -0.3], [0.2, -0.3, 0.25]])
SOURCES = {
    "gaussian": GaussianSource(COVARIANCE, [1.0, -2.0, 0.5]),
    "singular": GaussianSource([2.0, 0.0]),
    "rotated": GaussianSource.rotated([4.0, 1.0, 0.25], 3),
    "banana": BananaSource(),
    "sawbridge": SawbridgeSource(9),
    "grid": MixtureSource.grid(),
    "ring": MixtureSource.ring(),
    "uneven mixture": MixtureSource([[0.0, 1.0], [2.0, -1.0], [5.0, 5.0]], 0.7, [0.5, 0.3, 0.2]),
    "circle": CircleSource(2.0),
}
DENSITIES = {name: source for name, source in SOURCES.items() if hasattr(source, "log_prob") and name != "singular"}
ENTROPIES = ("gaussian", "rotated", "banana")
DRAWS = 60_000


@pytest.fixture(params=SOURCES.values(), ids=SOURCES)
def source(request: pytest.FixtureRequest):
    return request.param


@pytest.fixture(params=DENSITIES.values(), ids=DENSITIES)
def density(request: pytest.FixtureRequest):
    return request.param


def test_samples_have_the_exact_mean_and_covariance(source):
    y = source.sample(DRAWS, 1)
    assert y.shape == (DRAWS, source.dimension)
    assert y.dtype == np.float64
    centred = y - source.mean
    error = centred.std(0) / math.sqrt(DRAWS)
    assert (abs(centred.mean(0)) <= 5 * error + 1e-12).all()
    products = centred[:, :, None] * centred[:, None, :]
    error = products.std(0) / math.sqrt(DRAWS)
    assert (abs(products.mean(0) - source.covariance) <= 5 * error + 1e-12).all()


def test_a_seed_means_the_same_samples(source):
    np.testing.assert_array_equal(source.sample(50, 4), source.sample(50, 4))
    assert (source.sample(50, 4) != source.sample(50, 5)).any()
    generator = np.random.default_rng(4)
    np.testing.assert_array_equal(source.sample(50, generator), source.sample(50, 4))
    assert (source.sample(50, generator) != source.sample(50, 4)).any()


def test_samples_become_training_data(source):
    data = from_array(source.sample(20, 0))
    assert data.kind is Kind.TABULAR
    assert data.values.shape == (20, source.dimension)


def test_a_density_has_total_mass_one(density):
    """Importance sampling from a wider Gaussian of the same moments."""
    wide = GaussianSource(2 * density.covariance, density.mean)
    y = wide.sample(DRAWS, 2)
    weight = np.exp(density.log_prob(y) - wide.log_prob(y))
    error = weight.std() / math.sqrt(DRAWS)
    assert weight.mean() == pytest.approx(1, abs=5 * error)
    assert error < 0.2  # else the test could not fail: the ring covers little of the plane that is searched


@pytest.mark.parametrize("name", ENTROPIES)
def test_the_entropy_is_minus_the_mean_log_density(name):
    density = SOURCES[name]
    nats = -density.log_prob(density.sample(DRAWS, 3))
    assert nats.mean() == pytest.approx(density.entropy, abs=5 * nats.std() / math.sqrt(DRAWS))


@pytest.mark.parametrize("name", ["grid", "ring", "uneven mixture"])
def test_the_entropy_of_a_mixture_lies_between_its_bounds(name):
    mixture = SOURCES[name]
    nats = -mixture.log_prob(mixture.sample(DRAWS, 3))
    lower, upper = mixture.entropy_bounds()
    error = 5 * nats.std() / math.sqrt(DRAWS)
    assert lower - error <= nats.mean() <= upper + error
    if name != "uneven mixture":  # modes 40 and 76 standard deviations apart
        expected = math.log(len(mixture.means)) + math.log(2 * math.pi * math.e * mixture.scale**2)
        assert lower == pytest.approx(expected, abs=1e-12)
        assert upper == pytest.approx(expected, abs=1e-12)
    else:
        assert upper - lower > 0.01


def test_points_of_another_size_are_refused(density):
    for wrong in (np.zeros(density.dimension), np.zeros((4, density.dimension + 1))):
        with pytest.raises(ShapeError, match="one example a row"):
            density.log_prob(wrong)


# --- Gaussian ---------------------------------------------------------------------------------------------------------


def test_the_gaussian_density_is_scipys():
    gaussian = SOURCES["gaussian"]
    y = gaussian.sample(100, 0)
    np.testing.assert_allclose(gaussian.log_prob(y), stats.multivariate_normal(gaussian.mean, COVARIANCE).logpdf(y))
    assert gaussian.entropy == pytest.approx(stats.multivariate_normal(gaussian.mean, COVARIANCE).entropy())


def test_a_rotation_keeps_spectrum_entropy_and_rate():
    plain, rotated = GaussianSource([4.0, 1.0, 0.25]), SOURCES["rotated"]
    np.testing.assert_allclose(rotated.variances, [4.0, 1.0, 0.25])
    np.testing.assert_allclose(np.linalg.eigvalsh(rotated.covariance), [0.25, 1.0, 4.0])
    assert abs(rotated.covariance[0, 1]) > 1e-3
    assert rotated.entropy == pytest.approx(plain.entropy)
    assert water_filling(rotated.variances, 1.5).rate == pytest.approx(1.163151, abs=5e-7)


def test_rotations_are_drawn_from_all_alike():
    """An element of a uniform rotation in the plane is the cosine of a uniform angle."""
    angles = [np.arctan2(*GaussianSource.rotated([2.0, 1.0], seed).basis[:, 0]) % math.pi for seed in range(400)]
    assert stats.kstest(angles, stats.uniform(0, math.pi).cdf).pvalue > 1e-3


def test_a_direction_that_does_not_vary():
    flat = SOURCES["singular"]
    assert (flat.sample(100, 0)[:, 1] == 0).all()
    assert flat.entropy == -math.inf
    with pytest.raises(DataError, match="Add a variance to its diagonal"):
        flat.log_prob(np.zeros((1, 2)))


def test_what_is_no_covariance_is_refused():
    with pytest.raises(DataError, match="positive semi-definite"):
        GaussianSource([[1.0, 2.0], [2.0, 1.0]])
    for wrong in ([[1.0, 0.5], [0.2, 1.0]], [math.nan, 1.0]):
        with pytest.raises(DataError, match="not finite or not symmetric"):
            GaussianSource(wrong)
    with pytest.raises(ShapeError, match=r"Pass \(n, n\), or variances"):
        GaussianSource(np.ones((2, 3)))
    with pytest.raises(ShapeError, match="a number for each element"):
        GaussianSource([1.0, 2.0], [0.0])
    with pytest.raises(ShapeError, match="Pass the eigenvalues"):
        GaussianSource.rotated(np.eye(2), 0)


# --- banana, sawbridge, mixtures, circle ------------------------------------------------------------------------------


def test_the_banana_is_that_of_its_papers():
    """By hand: (a, b) = (3, 0) becomes (3, -0.9), turned by -240 degrees, moved by (-1, -1)."""
    c, s = math.cos(math.radians(240)), math.sin(math.radians(240))
    y = np.array([[c * 3 + s * -0.9 - 1, -s * 3 + c * -0.9 - 1]])
    expected = -0.5 - math.log(2 * math.pi) - math.log(1.5)  # one standard deviation along, none across
    assert BananaSource().log_prob(y)[0] == pytest.approx(expected)
    assert BananaSource().entropy == pytest.approx(math.log(2 * math.pi * math.e * 1.5))


def test_the_banana_is_not_gaussian():
    banana = BananaSource()
    y = banana.sample(1000, 0)
    fitted = GaussianSource(banana.covariance, banana.mean)
    assert fitted.entropy > banana.entropy + 0.5
    assert banana.log_prob(y).mean() > fitted.log_prob(y).mean() + 0.5


def test_a_sawbridge_climbs_by_its_step_and_falls_once():
    y = SawbridgeSource(65).sample(200, 0)
    assert (y[:, 0] == 0).all()
    np.testing.assert_allclose(y[:, -1], 0, atol=1e-15)
    steps = np.diff(y, axis=1)
    falls = np.isclose(steps, 1 / 64 - 1)
    assert (falls.sum(1) == 1).all()
    assert np.isclose(steps[~falls], 1 / 64).all()


def test_the_letters_of_a_sawbridge_are_all_that_it_says_and_equally_likely():
    source = SawbridgeSource(9)
    letters = source.letters()
    assert len(letters) == 8
    np.testing.assert_allclose(letters.mean(0), source.mean, atol=1e-15)
    np.testing.assert_allclose(letters.T @ letters / 8, source.covariance, atol=1e-15)
    distance = ((source.sample(4000, 0)[:, None] - letters) ** 2).sum(2)
    assert distance.min(1).max() == 0
    assert stats.chisquare(np.bincount(distance.argmin(1), minlength=8)).pvalue > 1e-3


def test_the_spectrum_of_a_sawbridge_is_that_of_the_brownian_bridge():
    """Eigenvalues 1 / (pi k)² of the process; sampled at n + 1 points, divided by n, 1 / (2 n sin(pi k / 2n))²."""
    n = 64
    found = np.linalg.eigvalsh(SawbridgeSource(n + 1).covariance)[::-1] / n
    k = np.arange(1, n)
    np.testing.assert_allclose(found[: n - 1], 1 / (2 * n * np.sin(math.pi * k / (2 * n))) ** 2)
    assert found[0] == pytest.approx(1 / math.pi**2, rel=1e-3)


def test_a_perfect_sampler_of_the_grid_is_within_three_standard_deviations_as_often_as_it_should():
    grid = MixtureSource.grid()
    assert grid.means.shape == (25, 2)
    assert set(np.unique(grid.means)) == {-4.0, -2.0, 0.0, 2.0, 4.0}
    y = grid.sample(DRAWS, 6)
    distance = np.sqrt(((y[:, None] - grid.means) ** 2).sum(2))
    good = (distance.min(1) <= 3 * grid.scale).mean()
    expected = 1 - math.exp(-4.5)
    assert good == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / DRAWS))
    assert stats.chisquare(np.bincount(distance.argmin(1), minlength=25)).pvalue > 1e-3


def test_the_ring_lies_on_the_unit_circle():
    ring = MixtureSource.ring()
    np.testing.assert_allclose(np.hypot(*ring.means.T), 1)
    gaps = np.hypot(*(ring.means - np.roll(ring.means, 1, 0)).T)
    np.testing.assert_allclose(gaps, 2 * math.sin(math.pi / 8))
    assert ring.scale == 0.01


def test_a_mixture_of_one_is_a_gaussian_and_an_empty_component_is_none():
    one = MixtureSource([[1.0, 2.0, 3.0]], 0.5)
    gaussian = GaussianSource([0.25] * 3, [1.0, 2.0, 3.0])
    y = gaussian.sample(20, 0)
    np.testing.assert_allclose(one.log_prob(y), gaussian.log_prob(y))
    assert one.entropy_bounds() == pytest.approx((gaussian.entropy, gaussian.entropy))
    two = MixtureSource([[1.0, 2.0, 3.0], [99.0, 0.0, 0.0]], 0.5, [1.0, 0.0])
    np.testing.assert_allclose(two.log_prob(y), gaussian.log_prob(y))
    assert two.entropy_bounds() == pytest.approx((gaussian.entropy, gaussian.entropy))


def test_far_from_every_component_the_log_density_is_still_finite():
    y = np.array([[1e6, -1e6]])
    assert np.isfinite(MixtureSource.ring().log_prob(y)).all()


def test_points_of_a_circle_are_on_it_at_every_angle():
    y = CircleSource(2.0).sample(4000, 0)
    np.testing.assert_allclose(np.hypot(*y.T), 2.0)
    assert stats.kstest(np.arctan2(*y.T), stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-3


def test_what_is_no_mixture_sawbridge_or_circle_is_refused():
    for means in (np.zeros(3), np.zeros((0, 2))):
        with pytest.raises(ShapeError, match=r"Pass \(components, dimension\)"):
            MixtureSource(means, 1.0)
    with pytest.raises(DataError, match="Pass scale > 0"):
        MixtureSource([[0.0]], 0.0)
    with pytest.raises(ShapeError, match="one for each component"):
        MixtureSource([[0.0]], 1.0, [0.5, 0.5])
    for weights in ([0.5, 0.6], [1.5, -0.5], [math.nan, 1.0]):
        with pytest.raises(DataError, match="Divide them by their sum"):
            MixtureSource([[0.0], [1.0]], 1.0, weights)
    with pytest.raises(DataError, match="Pass 2 or more"):
        SawbridgeSource(1)
    with pytest.raises(DataError, match="Pass radius > 0"):
        CircleSource(0.0)
