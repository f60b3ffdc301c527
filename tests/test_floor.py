"""Floors: data against data, at the size of the comparison."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from test_mmd import generator, normal

from rdae.errors import DataError
from rdae.measures.floor import Floor, WithFloor, floor, independence_floor, with_floor
from rdae.measures.frechet import frechet_distance
from rdae.measures.independence import dhsic, sample_total_correlation
from rdae.measures.manifold import density_coverage, expected_coverage
from rdae.measures.measure import Kind, Measure
from rdae.measures.mmd import mmd, rbf


def test_the_two_samples_are_disjoint_and_of_the_size_asked_for():
    seen = []

    def measure(a, b):
        seen.append((a, b))
        return Measure(float(len(seen)), 0.0, "", Kind.EXACT)

    found = floor(measure, torch.arange(10.0)[:, None], 4, generator(), repetitions=3)
    for a, b in seen:
        assert a.shape == b.shape == (4, 1)
        assert len(torch.cat([a, b]).unique()) == 8
    assert not torch.equal(seen[0][0], seen[1][0])
    assert found == Floor(2.0, 1.0, 3)  # values 1, 2, 3


def test_the_floor_of_the_frechet_distance_is_its_bias():
    x = normal(8000, 4, generator(1))
    found = floor(frechet_distance, x, 200, generator(1), repetitions=20)
    due = (2 * 4 + 4 * 5 / 2) / 200  # to first order in 1 / n, see test_frechet; the next is d / n of it
    assert abs(found.mean - due) < 4 * found.spread / math.sqrt(20) + 0.05 * due


def test_a_perfect_sampler_sits_on_the_floor_and_a_poor_one_above():
    g = generator(2)
    data, kernel = normal(4000, 3, g), rbf(1.5)
    measure = lambda real, fake: mmd(real, fake, kernel)  # noqa: E731
    good, poor = with_floor(measure, data, normal(400, 3, g), g), with_floor(measure, data, normal(400, 3, g) + 0.3, g)
    assert isinstance(good, WithFloor)
    assert abs(good.floor.mean) < 4 * good.floor.spread / math.sqrt(10)  # an unbiased measure has floor 0
    # 10 repetitions: Student's t, 4.78 at one in a thousand
    assert abs(good.value.value - good.floor.mean) < 4.78 * good.floor.spread * math.sqrt(1.1)
    assert poor.value.value - poor.floor.mean > 4.78 * poor.floor.spread * math.sqrt(1.1)
    assert str(poor).startswith(str(poor.value))
    assert f"data against data {poor.floor.mean:.4f} +- " in str(poor)


def test_the_ceiling_of_coverage_is_the_expected_one():
    data = normal(4000, 2, generator(3))
    found = floor(lambda a, b: density_coverage(a, b).coverage, data, 100, generator(3), repetitions=30)
    assert abs(found.mean - expected_coverage(100)) < 4 * found.spread / math.sqrt(30)


def test_dependence_is_judged_against_columns_moved_apart():
    g = generator(4)
    z = normal(300, 3, g)
    z[:, 1] = 0.9 * z[:, 0] + math.sqrt(0.19) * z[:, 1]
    found = independence_floor(sample_total_correlation, z, g, repetitions=40)
    assert abs(found.mean - 6 / (4 * 300)) < 4 * found.spread / math.sqrt(40)  # its bias, d (d - 1) / (4 n)
    assert dhsic(z).value > 10 * independence_floor(dhsic, z, g, repetitions=4).mean


def test_too_little_data_is_said():
    with pytest.raises(DataError, match="Two samples of 6 need 12"):
        floor(frechet_distance, torch.zeros(10, 2), 6, generator())
    with pytest.raises(DataError, match="Ask for 2 or more"):
        floor(frechet_distance, torch.zeros(10, 2), 4, generator(), repetitions=1)
