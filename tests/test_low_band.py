"""The low band: what is known around a sample names its table, the same in coder and training."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch

from rdae.coding.low_band import LowBandTables, walk_low
from rdae.coding.pyramid_order import LOW_DEPTHS, LOW_UNIT, MAGNITUDES
from rdae.coding.tables import Tables
from rdae.errors import TableError
from rdae.priors.low_band import LowBandPrior
from rdae.training.density_tables import density_tables

SIZES = [(2, 2), (2, 14), (10, 2), (8, 12), (24, 16), (2, 40), (34, 66)]  # the last two deeper than the table goes


class Sent:
    """The encoder's end; keeps how far off predictions were and by which tables that was sent."""

    misfit = TableError

    def __init__(self, q: np.ndarray) -> None:
        self.q, self.errors, self.numbers = q, [], []

    def low(self, where: tuple, guess: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        error = self.q[where] - guess
        self.errors.append(error.ravel())
        self.numbers.append(np.broadcast_to(numbers, error.shape).ravel())
        return error


class Received:
    """The decoder's end."""

    misfit = TableError

    def __init__(self, errors: list[np.ndarray]) -> None:
        self.errors, self.numbers = iter(errors), []

    def low(self, where: tuple, guess: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        self.numbers.append(np.broadcast_to(numbers, guess.shape).ravel())
        return next(self.errors).reshape(guess.shape)


def prior_of(seed: int) -> LowBandPrior:
    """A prior that looks at everything, with numbers that a codec file holds exactly."""
    generator = torch.Generator().manual_seed(seed)
    prior = LowBandPrior()
    with torch.no_grad():
        for numbers, spread in ((prior.index, 4.0), (prior.terms, 2.0)):
            numbers += spread * torch.randn(numbers.shape, generator=generator)
            numbers.copy_((numbers * LOW_UNIT).round() / LOW_UNIT)
    return prior


def tables_of(prior: LowBandPrior) -> LowBandTables:
    reach, counts = density_tables(prior.density, 1, 400)
    whole = [(x.detach() * LOW_UNIT).numpy().astype(np.int32) for x in (prior.index, prior.terms)]
    return LowBandTables(Tables(reach, counts), np.array([50, 50, 50]), *whole)


def band(height: int, width: int, size: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    steps = rng.laplace(0, size, (3, height, width)).cumsum(1).cumsum(2) / 4
    return np.round(steps).astype(np.int32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [0.5, 20, 500])
def test_a_band_comes_back(size, scale):
    q, tables = band(*size, scale), tables_of(prior_of(1))
    sent = Sent(q)
    again, residual = walk_low(sent, tables, size)
    np.testing.assert_array_equal(again, q)
    assert sum(part.size for part in sent.errors) == q.size
    received = Received(sent.errors)
    got, same = walk_low(received, tables, size)
    np.testing.assert_array_equal(got, q)
    for a, b in zip(received.numbers, sent.numbers, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(same, residual)


@pytest.mark.parametrize("size", [(2, 2), (34, 66), (2, 1024)])
@pytest.mark.parametrize("largest", [-(2**24) - 400, 2**24 + 400])
def test_the_largest_errors_that_a_stream_can_hold_are_refused(size, largest):
    """All of them at once: no sum runs over, whatever is added to the numbers of tables."""
    plain = tables_of(prior_of(6))
    for terms in (-(2**15), 2**15 - 1):
        tables = plain._replace(terms=np.full_like(plain.terms, terms))

        class Extreme(Received):
            def low(self, where: tuple, guess: np.ndarray, numbers: np.ndarray) -> np.ndarray:
                assert numbers.min() >= 0
                assert numbers.max() < 64
                return np.full(guess.shape, largest, dtype=np.int32)

        with np.errstate(over="raise"), pytest.raises(TableError):
            walk_low(Extreme([]), tables, size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [0.5, 20, 500])
def test_training_rates_a_band_by_the_tables_that_files_use(size, scale, monkeypatch):
    """Errors of prediction and scale indices of every sample, call by call; the corner has a table of its own."""
    q, prior = band(*size, scale, seed=2), prior_of(3)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    log_prob = prior.density.log_prob

    def spy(error: torch.Tensor, index: torch.Tensor, skew: torch.Tensor) -> torch.Tensor:
        seen.append((error, index))
        return log_prob(error, index, skew)

    monkeypatch.setattr(prior.density, "log_prob", spy)
    with torch.no_grad():
        nats, residual = prior(torch.from_numpy(q).float()[None])
    sent = Sent(q)
    _, coded = walk_low(sent, tables_of(prior), size)
    np.testing.assert_array_equal(residual[0].numpy(), coded)
    wanted = [(x[0, c].ravel().numpy(), np.broadcast_to(index[0, c], x[0, c].shape).ravel())
              for x, index in seen[1:] for c in range(3)]  # fmt: skip
    for (error, index), own, number in zip(wanted, sent.errors[1:], sent.numbers[1:], strict=True):
        np.testing.assert_array_equal(error, own)
        np.testing.assert_array_equal(np.clip(np.floor(index + 0.5), 0, 63), number)
    assert float(nats) > 0


def test_a_colour_knows_those_before_it_and_nothing_else():
    """Errors at the same place change tables of later colours only; those of neighbours change all of a later set."""
    tables, plain = tables_of(prior_of(4)), band(4, 4, 10, seed=5)
    other = plain.copy()
    other[1, 3, 3] += 30  # in the last but one of the calls for diagonal neighbours of stride 1
    calls = []
    for q in (plain, other):
        sent = Sent(q)
        walk_low(sent, tables, (4, 4))
        calls.append(sent.numbers)
    differ = [k for k, (a, b) in enumerate(zip(*calls, strict=True)) if (a != b).any()]
    # call 0 is the corner; 1 to 9 are of stride 2, three sets of three colours; 10, 11, 12 the diagonal set of stride 1
    assert min(differ) == 12
    assert set(differ) >= {12, 13, 14, 15}


def test_magnitudes_are_half_octaves():
    assert MAGNITUDES[:8] == (1, 2, 3, 4, 6, 8, 12, 16)
    assert len(MAGNITUDES) == 23
    assert all(a < b for a, b in pairwise(MAGNITUDES))


def test_weights_that_knew_the_spread_alone_are_taken():
    """By octave of the spread; the same scale index where depth and kind made no difference."""
    octaves = torch.arange(8.0)
    old = (torch.tensor([3.0, 5.0, 7.0])[:, None] + torch.tensor([2.0, 1.0, 4.0])[:, None] * octaves).expand(
        LOW_DEPTHS, 2, 3, 8
    )
    prior = LowBandPrior()
    state = copy.deepcopy(prior.state_dict())
    del state["terms"]
    prior.load_state_dict(state | {"index": old.clone()})
    index, terms = prior.index.detach(), prior.terms.detach()
    for k, least in enumerate((0, *MAGNITUDES)):
        octave = min(7, (1 + least).bit_length() - 1)
        for colour in range(3):
            torch.testing.assert_close(index[2, 1, colour] + terms[colour, colour, k], old[2, 1, colour, octave])
    terms[torch.arange(3), torch.arange(3)] = 0
    assert not terms.any()
