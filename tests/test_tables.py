"""Probabilities to counts: sums, minimum, rounding, and messages with the cure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rdae.coding.tables import PRECISION, Tables, integer_table
from rdae.errors import TableError

masses = st.lists(st.floats(0, 1e6, allow_subnormal=True), min_size=1, max_size=400).filter(lambda m: sum(m) > 0)


@given(masses)
def test_counts_are_positive_and_sum_to_the_precision(mass):
    counts = integer_table(np.array(mass))
    assert counts.sum() == 2**PRECISION
    assert counts.min() >= 1


@given(masses)
def test_no_count_is_far_from_its_probability(mass):
    mass = np.array(mass)
    counts, exact = integer_table(mass), mass / mass.sum() * (2**PRECISION - mass.size)
    others = np.arange(mass.size) != mass.argmax()
    assert ((counts - exact)[others] <= 1 + 1e-6).all()  # 1 for all, then rounded down
    assert ((counts - exact)[others] > -1e-6).all()
    assert 0 <= counts[mass.argmax()] - exact.max() <= mass.size + 1


@given(masses, st.floats(1e-3, 1e3))
def test_masses_need_not_be_normalised(mass, factor):
    # a change of units can move a floor by one, never more
    assume(sum(mass) > 1e-300)  # smaller ones may underflow to nothing
    difference = integer_table(np.array(mass)) - integer_table(factor * np.array(mass))
    assert np.abs(difference).sum() <= 2 * len(mass)


def test_a_uniform_mass_that_just_fits_gives_ones():
    assert integer_table(np.ones(2**8), precision=8).tolist() == [1] * 2**8


def test_too_many_symbols_names_the_precision_that_would_do():
    with pytest.raises(TableError, match=r"257 symbols do not fit in 8 bits\. Pass precision=9"):
        integer_table(np.ones(257), precision=8)
    assert integer_table(np.ones(257), precision=9).sum() == 512


@pytest.mark.parametrize("mass", [[0.0, 0.0], [-1.0, 2.0], [np.nan, 1.0], [np.inf, 1.0], []])
def test_what_is_no_probability_is_refused(mass):
    with pytest.raises(TableError, match="finite, non-negative and not all zero"):
        integer_table(np.array(mass))


def example(reaches=(0, 2, 5)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return np.array(reaches), np.concatenate([integer_table(rng.exponential(size=2 * r + 2)) for r in reaches])


def test_tables_are_found_by_number():
    reach, counts = example()
    tables = Tables(reach, counts)
    assert len(tables) == 3
    assert [len(tables[n]) for n in range(3)] == [2, 6, 12]
    np.testing.assert_array_equal(np.concatenate([tables[n] for n in range(3)]), counts)


def damaged(reach, counts, kind):
    if kind == "a count too many":
        return reach, np.append(counts, 1)
    if kind == "a count too few":
        return reach, counts[:-1]
    if kind == "a sum that is off":
        return reach, counts + (np.arange(counts.size) == 4)
    if kind == "a zero":
        changed = counts.copy()
        changed[2], changed[3] = 0, changed[2] + changed[3]
        return reach, changed
    if kind == "a negative count":
        changed = counts.copy()
        changed[2], changed[3] = -1, changed[2] + changed[3] + 1
        return reach, changed
    if kind == "a negative reach":
        return np.array([-1, 3, 5]), counts
    if kind == "a reach beyond memory":
        return np.array([2**31 - 1, 2, 5]), counts
    return reach[:, None], counts


@pytest.mark.parametrize(
    "kind",
    [
        "a count too many", "a count too few", "a sum that is off", "a zero", "a negative count", "a negative reach",
        "a reach beyond memory", "a column",
    ],
)  # fmt: skip
def test_damaged_tables_are_refused(kind):
    with pytest.raises(TableError, match="fetch it again"):
        Tables(*damaged(*example(), kind))


def test_code_lengths_are_the_logarithms_of_the_counts():
    reach, counts = example()
    tables, clip = Tables(reach, counts), 9
    bits = tables.bits(clip)
    assert bits.shape == (3, 2 * clip + 1)
    for number, limit in enumerate(reach):
        for q in range(-clip, clip + 1):
            if abs(q) <= limit:
                expected = PRECISION - np.log2(tables[number][q + limit])
            else:  # the escape, a sign, and 2 floor(log2(d)) + 1 bits of Exp-Golomb
                distance = abs(q) - int(limit)
                expected = PRECISION - np.log2(tables[number][-1]) + 1 + 2 * (distance.bit_length() - 1) + 1
            assert bits[number, q + clip] == pytest.approx(expected, rel=1e-6)


def test_all_code_lengths_of_a_table_fulfil_krafts_inequality_with_equality():
    tables = Tables(*example())
    for number in range(3):
        assert np.exp2(np.log2(tables[number]) - PRECISION).sum() == pytest.approx(1.0, abs=1e-12)
    bits = tables.bits(4000).astype(np.float64)  # escapes to 4000: what is left out has probability below 1e-3
    total = np.exp2(-bits).sum(1)
    assert (total <= 1 + 1e-5).all()
    assert (total > 0.99).all()
