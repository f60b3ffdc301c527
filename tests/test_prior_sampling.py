"""Naive Monte Carlo over the prior: unbiased, and hopeless as latents grow in number."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.distributions import Independent, MultivariateNormal, Normal

from rdae.exact import FactorAnalysis, linear_autoencoder
from rdae.measures.likelihood import log_evidence
from rdae.measures.measure import Kind
from rdae.measures.prior_sampling import log_second_moment, prior_log_evidence, prior_log_likelihood


def linear_model(latent: int, features: int, std: float = 0.7) -> FactorAnalysis:
    weight = torch.randn(features, latent, generator=torch.Generator().manual_seed(1)).double()
    return FactorAnalysis.of(weight, torch.ones(features), std).requires_grad_(False)


def test_the_mean_over_the_prior_is_unbiased_for_p_and_low_for_its_logarithm():
    model = linear_model(1, 2)
    torch.manual_seed(0)
    y = model.sample(1)
    neural, exact = linear_autoencoder(model), model.log_prob(y)
    off = torch.cat([prior_log_evidence(neural, y, 4, seed=seed).log_evidence - exact for seed in range(1000)])
    error = float(off.exp().std()) / math.sqrt(len(off))
    assert abs(float(off.exp().mean()) - 1) < 4 * error
    assert float(off.mean()) < -3 * float(off.std()) / math.sqrt(len(off))


def test_parts_of_the_draws_add_up(monkeypatch):
    model = linear_model(2, 3)
    torch.manual_seed(0)
    y, neural = model.sample(30), linear_autoencoder(model)
    monkeypatch.setattr("rdae.measures.prior_sampling.AT_ONCE", 3 * 700)  # 29 parts, the last one smaller
    estimate = prior_log_evidence(neural, y, 20_000)
    off = estimate.log_evidence - model.log_prob(y)
    assert float(off.abs().max()) < 0.3
    measure = prior_log_likelihood(neural, y, 20_000)
    assert measure.kind is Kind.LOWER
    assert measure.value == pytest.approx(float(estimate.log_evidence.mean()))


def test_effective_samples_are_those_of_the_chi_square_divergence():
    model = linear_model(2, 3)
    torch.manual_seed(0)
    y = model.sample(20)
    found = prior_log_evidence(linear_autoencoder(model), y, 200_000).effective_samples
    needed = log_second_moment(model.posterior(y)).exp()
    torch.testing.assert_close(200_000 / found, needed, rtol=0.1, atol=0)


def test_the_second_moment_is_that_of_quadrature():
    z = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    for mean, std in ((0.7, 0.3), (-2.0, 0.9), (0.0, 1.0), (0.5, 1.2)):
        ratio = 2 * Normal(mean, std).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
        exact = float(torch.logsumexp(ratio, 0)) + math.log(1e-3)
        q = Independent(Normal(torch.tensor([[mean]]).double(), torch.tensor([[std]]).double()), 1)
        assert float(log_second_moment(q)) == pytest.approx(exact, abs=1e-6)
        full = MultivariateNormal(q.mean, torch.tensor([[[std**2]]]).double())
        assert float(log_second_moment(full)) == pytest.approx(exact, abs=1e-6)
    wide = Independent(Normal(torch.zeros(1, 1), torch.full((1, 1), 1.5)), 1)  # the integral diverges
    assert float(log_second_moment(wide)) == math.inf


def test_draws_of_the_prior_are_hopeless_as_latents_grow_in_number_and_those_of_a_posterior_are_not():
    naive, importance, needed = [], [], []
    for latent in (1, 4, 16):
        model = linear_model(latent, 2 * latent, std=0.5)
        torch.manual_seed(0)
        y = model.sample(30)
        exact = model.log_prob(y)
        naive.append(float((exact - prior_log_evidence(linear_autoencoder(model), y, 1000).log_evidence).mean()))
        rough = linear_autoencoder(model, diagonal=True)
        importance.append(float((exact - log_evidence(rough, y, 1000)).mean()))
        needed.append(float(log_second_moment(model.posterior(y)).mean()))
    assert naive[0] < 0.1
    assert naive[1] > 0.3
    assert naive[2] > 10
    assert naive[2] > 20 * importance[2]
    assert needed[2] - needed[1] > 2 * (needed[1] - needed[0])  # in nats: exponential growth of the draws
