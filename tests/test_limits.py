"""Bounds on the rate-distortion function of data, held against sources whose function is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.channels import GaussianChannel
from rdae.data.synthetic import BananaSource
from rdae.errors import DataError
from rdae.measures.blahut_arimoto import blahut_arimoto, squared_distances
from rdae.measures.rate_distortion import water_filling, water_filling_at_rate
from rdae.measures.rate_lower_bound import _log_largest, _log_means, learned_tangent
from rdae.objectives import BITS_PER_NAT
from rdae.priors.latent import StandardNormalPrior
from rdae.recipes.limits import Limits, axes_of, lams_for, limits_of, linear_point, measured
from rdae.reports.limits import VACUOUS, limits_table, write_limits


def gaussian(variances: np.ndarray, count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor(variances, dtype=torch.float32).sqrt()
    return scale * torch.randn(count, len(variances), generator=generator)


@pytest.mark.parametrize("dimension", [2, 4, 8])
@pytest.mark.parametrize("nats", [0.2, 0.6])
def test_a_tangent_lies_below_the_curve_of_a_gaussian(dimension, nats):
    variances = 2.0 ** -np.arange(dimension)
    point = water_filling_at_rate(variances, nats * dimension)
    y, judged = gaussian(variances, 4000, 0), gaussian(variances, 8000, 1)
    bound = learned_tangent(y, judged, point.lam, examples=500, steps=30).rate(point.distortion)
    assert bound.value < point.rate + 3 * bound.standard_error
    assert bound.value > 0.2 * point.rate  # and says something


def test_learning_raises_the_bound_and_so_do_more_examples():
    y, judged = gaussian(np.ones(2), 8000, 0), gaussian(np.ones(2), 8000, 1)
    point = water_filling_at_rate(np.ones(2), 2.0)

    def bound(examples: int, steps: int) -> float:
        return learned_tangent(y, judged, point.lam, examples=examples, steps=steps).rate(point.distortion).value

    few, many, learned = bound(100, 0), bound(1000, 0), bound(1000, 150)
    assert few < many < learned < point.rate


def test_the_banana_lies_between_its_bounds():
    source = BananaSource()
    y, judged = (torch.from_numpy(source.sample(n, seed=s)).float() for n, s in ((8000, 0), (8000, 1)))
    lam = 2.0
    bound = learned_tangent(y, judged, lam, examples=1000, steps=100)
    grid = source.sample(1500, seed=2)  # of the empirical law, whose curve lies below that of the source at its knee
    exact = blahut_arimoto(np.full(1500, 1 / 1500), squared_distances(grid, grid), lam, tolerance=1e-2)
    at = bound.rate(exact.distortion)
    assert 0.5 * exact.rate < at.value < exact.rate + 3 * at.standard_error + 0.05


def test_the_largest_mean_is_found():
    torch.manual_seed(0)
    y = torch.randn(300, 1)
    log_u = -0.3 * y[:, 0].square()
    height, _ = _log_largest(y, log_u, 8.0)
    grid = torch.linspace(-5, 5, 20_001)[:, None]
    assert float(height) == pytest.approx(float(_log_means(grid, y, log_u, 8.0).max()), abs=1e-5)


@pytest.mark.parametrize("lam", [0.0, -1.0, math.nan, math.inf])
def test_a_slope_must_be_positive(lam):
    with pytest.raises(DataError, match="lam is"):
        learned_tangent(torch.randn(10, 2), torch.randn(10, 2), lam)


def test_too_few_examples_are_refused():
    with pytest.raises(DataError, match="too few"):
        learned_tangent(torch.randn(1, 2), torch.randn(10, 2), 1.0)


def test_multipliers_are_those_of_a_gaussian():
    variances = np.array([4.0, 1.0, 0.25])
    (lam,) = lams_for(variances, [1.0])
    point = water_filling_at_rate(variances, 3 / BITS_PER_NAT)
    assert lam == pytest.approx(point.lam)
    y = gaussian(variances, 200_000, 0)
    assert axes_of(y).variances == pytest.approx(np.sort(variances), rel=0.02)
    with pytest.raises(DataError, match="nothing to code"):
        lams_for(np.zeros(3))


class _Best(nn.Module):
    """Encoder or decoder of the best channel of N(0, 1) at squared error D: z | y Gaussian, scaled to N(0, 1)."""

    def __init__(self, distortion: float, *, decoder: bool) -> None:
        super().__init__()
        self.d, self.decoder = distortion, decoder
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = math.sqrt(1 - self.d)
        if self.decoder:
            return kept * x
        return torch.cat([kept * x, torch.full_like(x, 0.5 * math.log(self.d))], 1)


def test_a_model_that_is_the_best_channel_lies_on_the_curve():
    d = 0.25
    model = NoisyChannelAutoencoder(
        _Best(d, decoder=False), GaussianChannel(1), StandardNormalPrior(1), _Best(d, decoder=True)
    )
    y = gaussian(np.ones(1), 20_000, 3)
    (limit,) = limits_of([model], [learned_tangent(y, y, 1 / (2 * d), examples=200, steps=0)], axes_of(y), y)
    assert limit.distortion.value == pytest.approx(d, abs=4 * limit.distortion.standard_error)
    assert limit.upper.value == pytest.approx(0.5 * math.log(1 / d), abs=4 * limit.upper.standard_error)
    for measure, of_model in zip(limit.linear, (limit.upper, limit.distortion), strict=True):
        assert measure.value == pytest.approx(of_model.value, abs=5 * of_model.standard_error)
    assert limit.lower.value < limit.upper.value


def test_the_command_from_data_to_report(tmp_path):
    np.save(tmp_path / "data.npy", gaussian(np.array([1.0, 0.5]), 400, 0).numpy())
    found = measured(
        str(tmp_path / "data.npy"), tmp_path / "runs", lams=[5.0, 1.0], steps=5, lower_steps=2, examples=40,
        options={"latent": 2, "hidden": (8,), "batch": 32},
    )  # fmt: skip
    assert [limit.lam for limit in found.limits] == [1.0, 5.0]
    assert found.examples == (320, 80, 10)
    table = write_limits(found, tmp_path / "runs")
    assert table == limits_table(found)
    kept = json.loads((tmp_path / "runs" / "limits.json").read_text())
    assert kept["limits"][0]["upper_nats"][0] == pytest.approx(found.limits[0].upper.value)
    assert (tmp_path / "runs" / "limits.png").stat().st_size > 1000


def test_where_the_bound_is_below_zero_the_table_says_so():
    y, judged = gaussian(np.ones(40), 200, 0), gaussian(np.ones(40), 200, 1)
    tangent = learned_tangent(y, judged, 10.0, examples=50, steps=0)
    assert tangent.examples == 25  # an eighth of those to judge by
    model = NoisyChannelAutoencoder(
        _Best(0.05, decoder=False), GaussianChannel(40), StandardNormalPrior(40), _Best(0.05, decoder=True)
    )
    limits = limits_of([model], [tangent], axes_of(y), judged)
    assert limits[0].vacuous  # at most ln 25, where 60 nats are due
    table = limits_table(Limits("x", 40, (200, 200, 25), limits, [tangent]))
    assert VACUOUS in table


@pytest.mark.parametrize("count", [100, 400])
def test_a_channel_fitted_to_few_examples_is_still_an_upper_bound(count):
    """R(D) of a covariance estimated from 100 examples of 50 dimensions would be 8 nats too low."""
    variances = np.ones(50)
    point = water_filling_at_rate(variances, 35.0)
    axes, judged = axes_of(gaussian(variances, count, 0)), gaussian(variances, 5000, 1)
    rate, distortion = linear_point(axes, point.lam, judged)
    exact = water_filling(variances, distortion.value).rate
    assert rate.value > exact - 4 * (rate.standard_error + point.lam * distortion.standard_error)
    rate, distortion = linear_point(axes_of(gaussian(variances, 200_000, 2)), point.lam, judged)
    exact = water_filling(variances, distortion.value).rate
    assert rate.value == pytest.approx(exact, abs=4 * (rate.standard_error + point.lam * distortion.standard_error))


def test_limits_of_other_data_are_not_mixed_up(tmp_path):
    small = {"lams": [1.0], "steps": 2, "lower_steps": 0, "examples": 8, "options": {"latent": 2, "hidden": (4,)}}
    for k in (0, 1):
        np.save(tmp_path / f"{k}.npy", gaussian(np.ones(2), 100, k).numpy())
    measured(str(tmp_path / "0.npy"), tmp_path / "runs", **small)
    with pytest.raises(DataError, match=r"other data. Choose another --out"):
        measured(str(tmp_path / "1.npy"), tmp_path / "runs", **small)
    with pytest.raises(DataError, match="steps 2 and not 3"):
        measured(str(tmp_path / "0.npy"), tmp_path / "runs", **(small | {"steps": 3}))
    with pytest.raises(DataError, match="binarisation out"):
        measured(str(tmp_path / "0.npy"), tmp_path / "x", **(small | {"options": {"binarisation": "static"}}))
    with pytest.raises(DataError, match="Hold out data of the same sort"):
        np.save(tmp_path / "wide.npy", np.ones((20, 3), dtype=np.float32))
        measured(str(tmp_path / "0.npy"), tmp_path / "x", valid=str(tmp_path / "wide.npy"), **small)
