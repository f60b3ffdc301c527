"""The Fréchet distance against its Gaussian form, and its bias."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from scipy.linalg import sqrtm
from test_mmd import generator, normal, spread

from rdae.errors import ShapeError
from rdae.measures.frechet import frechet_distance, frechet_extrapolated
from rdae.measures.measure import Kind
from rdae.measures.transport import gaussian_transport


def with_moments(n: int, mean, covariance, seed: int) -> torch.Tensor:
    """A sample whose mean and covariance are exactly these."""
    x = normal(n, len(mean), generator(seed))
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / (n - 1))).T
    return x @ torch.linalg.cholesky(covariance).T + mean


A = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
B = torch.tensor([[1.0, -0.3], [-0.3, 3.0]], dtype=torch.float64)


def test_samples_with_known_moments_are_as_far_apart_as_the_gaussians():
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64)
    found = frechet_distance(with_moments(50, 0 * mean, A, 0), with_moments(70, mean, B, 1))
    assert found.value == pytest.approx(5 + 0.929312, abs=1e-6)
    assert found.value == pytest.approx(gaussian_transport(0 * mean, A, mean, B), rel=1e-10)
    assert found.kind is Kind.UPPER


def test_it_agrees_with_the_root_of_a_matrix():
    g = generator(2)
    x, y = normal(200, 12, g) @ normal(12, 12, g), normal(150, 12, g) @ normal(12, 12, g) + 1
    root = sqrtm((x.T.cov() @ y.T.cov()).numpy())
    due = (x.mean(0) - y.mean(0)).square().sum() + x.T.cov().trace() + y.T.cov().trace() - 2 * root.trace().real
    assert frechet_distance(x, y).value == pytest.approx(float(due), rel=1e-8)


@pytest.mark.parametrize("n", [3, 12, 40])
def test_singular_covariances_are_finite_and_never_imaginary(n):
    g = generator(3)
    x = normal(n, 20, g)  # fewer points than features, but for the last
    x[:, 5] = 7.0  # and a constant feature
    y = normal(n, 20, g) * 1e-3
    for a, b in ((x, y), (x, x[:, :1].expand(-1, 20)), (x.float(), y.float())):
        found = frechet_distance(a, b)
        assert math.isfinite(found.value)
        assert math.isfinite(found.standard_error)
        assert found.value > 0
    # equal samples: the singular values add up to the trace, to float64
    assert frechet_distance(x, x).value == pytest.approx(0, abs=1e-13 * float(x.square().sum()))
    assert frechet_distance(x, x + 2).value == pytest.approx(80, rel=1e-10)


def test_the_bias_is_positive_shrinks_as_1_over_n_and_is_extrapolated_away():
    g, repetitions, d = generator(4), 100, 5
    means = []
    for n in (100, 200, 400):
        mean, deviation, error = spread(
            [frechet_distance(normal(n, d, g), normal(n, d, g)) for _ in range(repetitions)]
        )
        # unit Gaussians: 2 d / n from the means; a covariance's errors D add tr D^2 / 4, of variance 2 / n per element
        due = (2 * d + d * (d + 1) / 2) / n
        # what goes as 1 / n^2 is some d / n of that
        assert abs(mean - due) < 4 * deviation / math.sqrt(repetitions) + due * 2 * d / n
        assert deviation < error < 2 * deviation  # on the safe side, as documented: sqrt(2) in theory
        means.append(mean)
    assert means[0] / means[1] == pytest.approx(2, rel=0.15)
    assert means[1] / means[2] == pytest.approx(2, rel=0.15)
    found = [frechet_extrapolated(normal(400, d, g), normal(400, d, g), g) for _ in range(repetitions)]
    mean, deviation, error = spread(found)
    assert abs(mean) < 4 * deviation / math.sqrt(repetitions)
    assert error == pytest.approx(deviation, rel=0.3)  # 4 standard errors of a deviation from 100


def test_far_apart_the_error_is_that_over_repetitions():
    g, repetitions = generator(5), 200
    found = [frechet_distance(normal(200, 4, g), 1.5 * normal(150, 4, g) + 0.5) for _ in range(repetitions)]
    _, deviation, error = spread(found)
    assert error == pytest.approx(deviation, rel=0.2)  # 4 standard errors of a deviation from 200
    extrapolated = [frechet_extrapolated(normal(200, 4, g), 1.5 * normal(150, 4, g) + 0.5, g) for _ in range(100)]
    mean, deviation, _ = spread(extrapolated)
    assert abs(mean - 4 * (0.25 + 0.25)) < 4 * deviation / 10


def test_extrapolation_needs_points_to_halve():
    with pytest.raises(ShapeError, match="4 rows or more"):
        frechet_extrapolated(torch.zeros(3, 2), torch.zeros(3, 2), generator())
