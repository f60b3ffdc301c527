"""Real messages with bits back: nothing is lost, and the length is minus the bound."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rdae.errors import DataError, ShapeError
from rdae.exact import JointTable
from rdae.exact.bits_back import bits_back_decode, bits_back_encode, other_message

COUNT = 20_000
SLACK = 64  # bits: where a stream ends is known to a word or two


@pytest.fixture(scope="module")
def model() -> JointTable:
    torch.manual_seed(0)
    return JointTable.of(torch.rand(6, 9).double() ** 3).requires_grad_(False)


@pytest.fixture(scope="module")
def y(model):
    torch.manual_seed(1)
    return model.sample(COUNT)


def wrong(model: JointTable) -> torch.Tensor:
    """Posteriors halfway to even ones."""
    exact = model.posterior(torch.arange(9)).probs
    return 0.5 * exact + 0.5 / 6


def test_with_the_exact_posterior_the_length_is_minus_ln_p(model, y):
    message = bits_back_encode(model, y)
    found, other = bits_back_decode(model, message, COUNT)
    assert torch.equal(found, y)
    np.testing.assert_array_equal(other, other_message(COUNT, 6, seed=0))  # the bits are back
    exact = -float(model.log_prob(y).sum()) / math.log(2)
    assert message.net_bits == pytest.approx(exact, abs=SLACK + 1e-3 * exact)
    assert message.net_bits < exact + message.latent_bits - message.returned_bits  # less than naming the latents too


@pytest.mark.parametrize("posterior", [None, "wrong"])
def test_the_latents_cost_their_divergence_and_not_their_code_length(model, y, posterior):
    table = wrong(model) if posterior else model.posterior(torch.arange(9)).probs
    message = bits_back_encode(model, y, posterior=table if posterior else None)
    q, prior = table[y], model.prior().probs
    divergence = float((q * (q.log() - prior.log())).sum()) / math.log(2)
    spread = float((q * (q.log() - prior.log()).square()).sum().sqrt()) / math.log(2)  # of a sum of independent draws
    assert message.latent_bits - message.returned_bits == pytest.approx(divergence, abs=4 * spread)
    assert message.latent_bits > 2 * divergence


def test_a_wrong_posterior_costs_its_gap_and_decodes_all_the_same(model, y):
    table = wrong(model)
    message = bits_back_encode(model, y, posterior=table)
    found, other = bits_back_decode(model, message, COUNT, posterior=table)
    assert torch.equal(found, y)
    np.testing.assert_array_equal(other, other_message(COUNT, 6, seed=0))
    q = torch.distributions.Categorical(probs=table[y])
    bound = -float(model.bound(y, q).sum()) / math.log(2)
    exact = -float(model.log_prob(y).sum()) / math.log(2)
    assert bound > 1.02 * exact
    assert message.net_bits == pytest.approx(bound, rel=0.01)


def test_what_cannot_be_coded_is_refused(model):
    with pytest.raises(DataError):
        bits_back_encode(model, torch.tensor([9]))
    with pytest.raises(ShapeError, match="sum to one"):
        bits_back_encode(model, torch.tensor([0]), posterior=torch.ones(9, 6))
    with pytest.raises(DataError, match="count"):
        bits_back_decode(model, bits_back_encode(model, torch.tensor([0])), -1)
