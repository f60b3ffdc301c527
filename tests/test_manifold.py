"""Precision, recall, density and coverage, by brute force and where the answer is known."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from test_mmd import generator, normal, spread

import rdae.measures.manifold as module
from rdae.errors import DataError, ShapeError
from rdae.measures.manifold import density_coverage, expected_coverage, precision_recall


def by_hand(real, fake, k: int) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage, point by point."""
    n = len(real)
    distance = lambda a, b: float((a - b).square().sum())  # noqa: E731
    radius = lambda x, i: sorted(distance(x[i], x[j]) for j in range(n) if j != i)[k - 1]  # noqa: E731
    of_real, of_fake = [radius(real, i) for i in range(n)], [radius(fake, i) for i in range(n)]
    near = [[distance(real[i], fake[j]) for j in range(n)] for i in range(n)]
    precision = sum(any(near[i][j] <= of_real[i] for i in range(n)) for j in range(n)) / n
    recall = sum(any(near[i][j] <= of_fake[j] for j in range(n)) for i in range(n)) / n
    density = sum(near[i][j] < of_real[i] for i in range(n) for j in range(n)) / (k * n)
    coverage = sum(min(near[i]) <= of_real[i] for i in range(n)) / n
    return precision, recall, density, coverage


@pytest.mark.parametrize("k", [1, 3])
def test_they_count_what_their_definitions_say_whatever_the_blocks(k, monkeypatch):
    g = generator()
    real, fake = normal(25, 2, g), 1.2 * normal(25, 2, g) + 1
    due = by_hand(real, fake, k)
    assert 0 < due[0] < 1  # the case tells the four apart from trivial answers
    assert 0 < due[1] < 1
    for at_once in (1 << 22, 60):
        monkeypatch.setattr(module, "AT_ONCE", at_once)
        found = (*precision_recall(real, fake, k), *density_coverage(real, fake, k))
        assert [m.value for m in found] == pytest.approx(due, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_copy_of_the_data_is_perfect(dtype):
    g = generator(1)
    x = (normal(300, 8, g) + 100).to(dtype)
    found = (*precision_recall(x, x[torch.randperm(300, generator=g)]), *density_coverage(x, x))
    assert [m.value for m in found] == [1, 1, 1, 1]
    assert found[0].standard_error == 0


def test_repeated_points_are_found_in_spite_of_rounding():
    g = generator(2)
    real = normal(20, 41, g).repeat(2, 1)  # every nearest neighbour is a copy: all radii are 0
    fake = real[torch.randperm(40, generator=g)]
    fake = torch.cat([fake[:25], fake[25:] + 50])
    found = (*precision_recall(real, fake, 1), *density_coverage(real, fake, 1))
    assert [m.value for m in found] == pytest.approx(by_hand(real, fake, 1), abs=1e-12)


@pytest.mark.parametrize("d", [1, 5])
def test_two_samples_of_one_law_have_the_expected_coverage_and_density(d):
    g, n, repetitions = generator(3), 60, 150
    found = [density_coverage(normal(n, d, g), normal(n, d, g)) for _ in range(repetitions)]
    mean, deviation, _ = spread([f.coverage for f in found])
    assert abs(mean - expected_coverage(n)) < 4 * deviation / math.sqrt(repetitions)
    # a point outside is within the k-th distance of another as often as one inside is: k of n - 1, times n points
    mean, deviation, _ = spread([f.density for f in found])
    assert abs(mean - 1) < 4 * deviation / math.sqrt(repetitions) + 1 / n
    precision, recall = zip(*(precision_recall(normal(n, d, g), normal(n, d, g)) for _ in range(20)), strict=True)
    mean, deviation, _ = spread([a._replace(value=a.value - b.value) for a, b in zip(precision, recall, strict=True)])
    assert abs(mean) < 4 * deviation / math.sqrt(20)  # neither is 1, but the two are alike
    assert 0.5 < precision[0].value < 1


def test_expected_coverage_by_hand_and_in_the_limit():
    assert expected_coverage(2, 1) == pytest.approx(1 - 1 / 3)  # of 3 others the nearest is the real one in 1 of 3
    assert expected_coverage(10**6, 5) == pytest.approx(1 - 2**-5, abs=1e-5)
    assert expected_coverage(1000, 5) == pytest.approx(0.969, abs=5e-4)


def test_each_number_sees_its_own_fault():
    g = generator(4)
    real = torch.cat([normal(200, 2, g), normal(200, 2, g) + 20])
    dropped = normal(400, 2, g)  # one mode of two
    assert precision_recall(real, dropped).precision.value > 0.9
    assert precision_recall(real, dropped).recall.value < 0.55
    assert density_coverage(real, dropped).coverage.value < 0.55
    noisy = torch.cat([real[::2] + 1e-3, 100 + 50 * normal(200, 2, g)])  # half of the samples lie nowhere
    assert precision_recall(real, noisy).precision.value == pytest.approx(0.5, abs=0.02)
    assert density_coverage(real, noisy).density.value < 0.65
    outlier = real.clone()
    outlier[0] = 1e3  # its ball takes in all that lies between
    between = normal(400, 2, g) + 100
    assert precision_recall(outlier, between).precision.value == 1
    assert density_coverage(outlier, between).density.value < 0.5


def test_unequal_numbers_are_refused():
    for measure in (precision_recall, density_coverage):
        with pytest.raises(ShapeError, match="Cut both to one number"):
            measure(torch.zeros(10, 2), torch.zeros(9, 2))
        with pytest.raises(ShapeError, match="rows or more"):
            measure(torch.zeros(3, 2), torch.zeros(3, 2))


def test_neighbours_that_do_not_exist_are_refused():
    x = torch.rand(10, 2)
    for measure in (precision_recall, density_coverage):
        with pytest.raises(DataError, match="1 or more"):
            measure(x, x, 0)
        with pytest.raises(ShapeError, match=r"no neighbour number 10.*11 rows or more"):
            measure(x, x, 10)
        with pytest.raises(ShapeError, match="one width"):
            measure(x, torch.rand(10, 3))
        with pytest.raises(ShapeError, match="of 1 or more"):
            measure(x[:, :0], x[:, :0])
        with pytest.raises(DataError, match="not finite"):
            measure(x, x * math.nan)
        for n in (0, 1):
            with pytest.raises(ShapeError, match="rows or more"):
                measure(x[:n], x[:n], 1)
    for n, k, message in ((10, 0, "1 or more"), (10, 10, "from 1 to 9")):
        with pytest.raises(DataError, match=message):
            expected_coverage(n, k)
