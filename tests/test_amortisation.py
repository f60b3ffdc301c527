"""Search against generation on linear Gaussian models, where the best posterior of a family is known."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.distortions import squared_error
from rdae.errors import ModelError
from rdae.exact import FactorAnalysis, diagonal_gap, linear_autoencoder
from rdae.measures.amortisation import amortisation
from rdae.measures.measure import Kind


def linear_model() -> FactorAnalysis:
    weight = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).double()
    return FactorAnalysis.of(weight, torch.ones(6), 0.7).requires_grad_(False)


def wrong_encoder(model: FactorAnalysis):
    """Means too small and spreads too large, of independent latents."""
    neural = linear_autoencoder(model, diagonal=True)
    with torch.no_grad():
        neural.encoder.weight.mul_(0.7)
        neural.encoder.bias[model.latent :] += 0.5
    return neural


def near(values, tolerance: float) -> bool:
    return abs(float(values.mean())) < tolerance + 4 * float(values.std()) / math.sqrt(len(values))


def test_search_finds_the_best_diagonal_posterior_where_the_encoder_is_wrong():
    model = linear_model()
    torch.manual_seed(0)
    y = model.sample(40)
    neural = wrong_encoder(model)
    weights = {name: value.clone() for name, value in neural.state_dict().items()}
    state = torch.get_rng_state()
    found = amortisation(neural, y, steps=300, samples=1000)
    generated = model.bound(y, neural.posterior(y)).detach()
    best = model.log_prob(y) - diagonal_gap(model)
    assert float((best - generated).mean()) > 0.5
    assert near(found.generated - generated, 0)
    assert near(found.searched - best, 0.02)
    assert found.gap().value == pytest.approx(float((best - generated).mean()), abs=0.1)
    assert found.gap().kind is found.searched_bound().kind is found.generated_bound().kind is Kind.LOWER
    assert found.approximation_gap(model.log_prob(y)).value == pytest.approx(diagonal_gap(model), abs=0.05)
    assert float((found.searched - found.generated).min()) > -0.05
    assert found.search_seconds > 10 * found.generation_seconds > 0
    assert all(torch.equal(value, weights[name]) for name, value in neural.state_dict().items())
    assert all(parameter.grad is None for parameter in neural.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("diagonal", [False, True])
def test_there_is_nothing_to_search_where_the_encoder_is_right(diagonal):
    model = linear_model()
    torch.manual_seed(0)
    y = model.sample(20)
    found = amortisation(linear_autoencoder(model, diagonal=diagonal), y, steps=50, samples=500)
    assert abs(found.gap().value) < 0.02


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_seconds_on_a_gpu_are_those_of_the_work_and_not_of_its_order():
    neural = linear_autoencoder(linear_model()).cuda()
    y = torch.zeros(2, 6).double().cuda()
    amortisation(neural, y, steps=1, samples=2)  # loads the kernels

    def wait(module, inputs) -> None:
        torch.cuda._sleep(10**9)  # clock cycles: more than a third of a second below 3 GHz

    neural.encoder.register_forward_pre_hook(wait)
    found = amortisation(neural, y, steps=1, samples=2)
    assert found.generation_seconds > 0.3 > found.search_seconds


def test_a_bound_needs_a_likelihood():
    neural = linear_autoencoder(linear_model())
    neural = NoisyChannelAutoencoder(neural.encoder, neural.channel, neural.prior, neural.decoder, squared_error)
    with pytest.raises(ModelError, match=r"rdae\.likelihoods"):
        amortisation(neural, torch.zeros(2, 6).double())
