"""Modes, quality and reverse KL, against counting, binomial sums and perfect samplers."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from scipy.special import xlogy
from scipy.stats import binom
from test_mmd import generator, normal, spread

import rdae.measures.modes as module
from rdae.errors import DataError, ShapeError
from rdae.measures.measure import Kind
from rdae.measures.modes import histogram_floor, mode_coverage, modes_covered, perfect_share, reverse_kl

GRID = torch.cartesian_prod(torch.arange(-4, 5, 2), torch.arange(-4, 5, 2)).double()
SD = 0.05


def exact_floor(modes: int, samples: int) -> float:
    """E KL of a perfect sampler: each count is binomial."""
    counts = range(samples + 1)
    share = [c / samples for c in counts]
    masses = binom.pmf(counts, samples, 1 / modes)
    return modes * sum(masses[c] * float(xlogy(share[c], share[c] * modes)) for c in counts)


def test_a_perfect_sampler_reaches_the_ceiling_and_the_floor():
    g, n, repetitions = generator(), 2500, 40
    found = []
    for _ in range(repetitions):
        labels = torch.randint(25, (n,), generator=g)
        found.append(mode_coverage(GRID[labels] + SD * normal(n, 2, g), GRID, SD))
    assert all(f.covered == f.modes == 25 for f in found)
    mean, deviation, error = spread([f.high_quality for f in found])
    assert found[0].perfect == pytest.approx(1 - math.exp(-4.5), abs=1e-12)
    assert abs(mean - found[0].perfect) < 4 * deviation / math.sqrt(repetitions)
    assert error == pytest.approx(deviation, rel=0.5)  # 4 standard errors of a deviation from 40
    mean, deviation, error = spread([f.reverse_kl for f in found])
    assert abs(mean - found[0].reverse_kl_floor) < 4 * deviation / math.sqrt(repetitions)
    assert deviation < error < 2.5 * deviation  # sqrt(2) too large at equality, in theory


@pytest.mark.parametrize(("modes", "samples", "due"), [(25, 10_000, 0.0012), (1000, 26_000, 0.0192)])
def test_the_floor_is_the_first_term_of_a_binomial_sum(modes, samples, due):
    assert histogram_floor(modes, samples) == pytest.approx(due, abs=5e-5)
    # the next term is the square of the expected share's relative error, (modes / samples)^2 / 12
    gap = exact_floor(modes, samples) - histogram_floor(modes, samples)
    assert gap == pytest.approx((modes**2 - 1) / (12 * samples**2), rel=0.2)


@pytest.mark.parametrize("at_once", [1 << 22, 60])
def test_a_collapsed_sampler_is_counted(at_once, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    x = torch.cat([
        GRID[3].repeat(6, 1),
        GRID[7].repeat(3, 1) + torch.tensor([0.0, 2.9 * SD]),  # just good
        GRID[9].repeat(3, 1) + torch.tensor([0.0, 3.1 * SD]),  # just not: the mode is not covered
    ])  # fmt: skip
    found = mode_coverage(x, GRID, SD)
    assert found.covered == 2
    assert found.high_quality.value == pytest.approx(9 / 12)
    # all samples count for the histogram: shares 1/2, 1/4, 1/4
    assert found.reverse_kl.value == pytest.approx(math.log(25) - 1.5 * math.log(2))
    assert found.reverse_kl_floor == pytest.approx(24 / 24)


def test_reverse_kl_of_uneven_labels_and_its_error():
    shares = torch.tensor([0.5, 0.25, 0.125, 0.125, 0.0], dtype=torch.float64)
    due = math.log(5) - 1.75 * math.log(2)
    g, n, repetitions = generator(1), 500, 200
    found = [reverse_kl(shares.multinomial(n, replacement=True, generator=g), 5) for _ in range(repetitions)]
    mean, deviation, error = spread(found)
    assert abs(mean - due - histogram_floor(4, n)) < 4 * deviation / math.sqrt(repetitions)  # 4 shares to estimate
    assert error == pytest.approx(deviation, rel=0.2)
    assert found[0].kind is Kind.UPPER
    one = reverse_kl(torch.zeros(9, dtype=torch.long), 5)
    assert one.value == pytest.approx(math.log(5))
    assert one.standard_error == pytest.approx(0, abs=1e-12)


def test_covered_classes_and_perfect_shares():
    assert modes_covered(torch.tensor([4, 4, 0, 999])) == 3
    assert modes_covered(torch.tensor([], dtype=torch.long)) == 0
    assert perfect_share(2) == pytest.approx(0.98889, abs=5e-6)
    assert perfect_share(1) == pytest.approx(math.erf(3 / math.sqrt(2)), abs=1e-12)


def test_labels_out_of_range_are_refused():
    with pytest.raises(DataError, match="0 to 2"):
        reverse_kl(torch.tensor([0, 3]), 3)
    with pytest.raises(ShapeError, match="one integer a sample"):
        reverse_kl(torch.zeros(2, 2, dtype=torch.long), 3)
    with pytest.raises(DataError, match="1 or more"):
        histogram_floor(5, 0)
