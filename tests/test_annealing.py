"""Annealed importance sampling against models whose ln p(y) is known: linear Gaussian ones, and quadrature in 1-D."""

from __future__ import annotations

import math
from functools import partial

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn

from rdae.adversarial.model import ImplicitModel
from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.channels import GaussianChannel
from rdae.distortions import squared_error
from rdae.errors import DataError, ModelError
from rdae.exact import FactorAnalysis, linear_autoencoder
from rdae.ladder import LadderAutoencoder
from rdae.likelihoods import Bernoulli, Gaussian
from rdae.measures.annealing import (
    _slope_of,
    anneal,
    annealed_log_evidence,
    annealed_log_likelihood,
    bdmc,
    linear_ladder,
    sigmoid_ladder,
    tuned_steps,
)
from rdae.measures.latent_model import LatentModel, latent_model, prior_draws
from rdae.measures.likelihood import log_evidence
from rdae.measures.measure import Kind
from rdae.measures.prior_sampling import prior_log_evidence
from rdae.priors.latent import MixturePrior, StandardNormalPrior


def linear_model(latent: int = 3, features: int = 6, std: float = 0.7) -> FactorAnalysis:
    weight = torch.randn(features, latent, generator=torch.Generator().manual_seed(1)).double()
    return FactorAnalysis.of(weight, torch.ones(features), std).requires_grad_(False)


def data(model: FactorAnalysis, count: int) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return model.sample(count)


def surely_near(values: Tensor, expected: float, tolerance: float = 0.0) -> None:
    """The mean is the expected one, give or take the tolerance and four standard errors."""
    error = float(values.std()) / math.sqrt(len(values))
    assert abs(float(values.mean()) - expected) < 4 * error + tolerance


@pytest.mark.parametrize("make", [linear_ladder, sigmoid_ladder])
def test_ladders_rise_from_zero_to_one(make):
    ladder = make(20)
    assert ladder.shape == (21,)
    assert (float(ladder[0]), float(ladder[-1])) == (0.0, 1.0)
    assert bool((ladder.diff() > 0).all())
    torch.testing.assert_close(ladder + ladder.flip(0), torch.ones_like(ladder))


def test_weights_are_unbiased_forward_and_backward():
    """Their means are p(y) and 1 / p(y) however short the ladder is: with five temperatures and coarse steps too."""
    model, n, chains = linear_model(1, 2), 40, 500
    target, y, ladder = latent_model(linear_autoencoder(model)), data(model, n), linear_ladder(5)
    generator = torch.Generator().manual_seed(0)
    steps = tuned_steps(target, y, ladder, chains=16, leapfrog=3, generator=generator)
    exact = model.log_prob(y)
    prior = prior_draws(target.prior, chains * n, generator).unflatten(0, (chains, n))
    posterior = model.posterior(y)
    noise = torch.randn(chains, n, 1, generator=generator, dtype=torch.float64)
    exact_draws = posterior.mean + noise @ posterior.scale_tril[0].T
    starts = ((prior, ladder, steps, exact), (exact_draws, ladder.flip(0), steps.flip(0), -exact))
    for z, rungs, lengths, expected in starts:
        *_, last = anneal(target, y, z, rungs, lengths, leapfrog=3, generator=generator)
        ratio = torch.exp(last.log_weight - expected)
        assert float(last.log_weight.var(0).mean()) > 0.05  # else there would be nothing to average out
        surely_near(ratio.flatten(), 1.0)


def test_the_forward_estimate_is_below_and_the_reverse_above():
    model = linear_model()
    sandwich = bdmc(linear_autoencoder(model), 100, sigmoid_ladder(4), chains=2)
    exact = model.log_prob(sandwich.y)
    below, above = sandwich.lower - exact, sandwich.upper - exact
    for off in (-below, above):
        assert float(off.mean()) > 3 * float(off.std()) / 10
    assert sandwich.lower_bound().kind is Kind.LOWER
    assert sandwich.upper_bound().kind is Kind.UPPER
    assert sandwich.gap().value == pytest.approx(float((above - below).mean()))


def test_both_sides_come_within_a_twentieth_of_a_nat():
    model = linear_model()
    sandwich = bdmc(linear_autoencoder(model), 50, sigmoid_ladder(400), leapfrog=5)
    exact = model.log_prob(sandwich.y)
    assert abs(float((sandwich.lower - exact).mean())) < 0.05
    assert abs(float((sandwich.upper - exact).mean())) < 0.05
    assert sandwich.gap().value < 0.1


def test_an_implicit_model_has_the_evidence_of_its_observation_law():
    model, std = linear_model(), 0.7
    generator = nn.Linear(3, 6).double()
    with torch.no_grad():
        generator.weight.copy_(model.weight)
        generator.bias.copy_(model.mean)
    implicit = ImplicitModel(StandardNormalPrior(3).double(), generator)
    y = data(model, 40)
    off = annealed_log_evidence(implicit, y, sigmoid_ladder(120), distortion=Gaussian(std)) - model.log_prob(y)
    surely_near(off, 0.0, 0.02)
    assert abs(float(off.mean())) < 0.05


class Bent(nn.Module):
    """A decoder of one latent that is not linear."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([3 * torch.sin(2 * z), z.square() - 1, 2 * torch.tanh(z)], 1)


def test_a_mixture_prior_and_a_bent_decoder_agree_with_quadrature():
    torch.manual_seed(0)
    prior = MixturePrior(3, 1, spread=2.0).double()
    model = NoisyChannelAutoencoder(nn.Linear(3, 2).double(), GaussianChannel(1), prior, Bent(), Bernoulli()).eval()
    y = torch.tensor([[int(b) for b in f"{k:03b}"] for k in range(8)]).double().repeat(4, 1)
    with torch.no_grad():
        z = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None]
        law, out = model.code().log_prob(z), model.decoder(z)
        width = math.log(24 / 20_000)
        exact = torch.stack([torch.logsumexp(law - Bernoulli()(one.expand_as(out), out), 0) + width for one in y])
    assert float(exact[:8].exp().sum()) == pytest.approx(1, abs=1e-6)
    surely_near(annealed_log_evidence(model, y, sigmoid_ladder(60)) - exact, 0.0, 0.02)


def test_a_ladder_of_layers_is_one_latent_for_these_measures():
    torch.manual_seed(0)
    encoders, heads = [nn.Linear(4, 5), nn.Linear(5, 5)], [nn.Linear(5, 4), nn.Linear(5, 2)]
    model = LadderAutoencoder(
        encoders, heads, (2, 1), StandardNormalPrior(1), [nn.Linear(1, 4)], nn.Linear(2, 4), Gaussian(0.5)
    ).eval().requires_grad_(False)  # fmt: skip
    y = model.sample(20) + 0.5 * torch.randn(20, 4)
    known = log_evidence(model, y, 20_000).double()
    assert latent_model(model).prior.event_shape == (3,)
    surely_near(prior_log_evidence(model, y, 50_000).log_evidence - known, 0.0, 0.02)
    surely_near(annealed_log_evidence(model, y, sigmoid_ladder(60), leapfrog=5) - known, 0.0, 0.02)


def test_the_closed_slope_of_bernoulli_is_that_of_autograd():
    torch.manual_seed(0)
    y, out = torch.bernoulli(torch.full((5, 7), 0.5)).double(), 3 * torch.randn(5, 7).double()

    class Same(Bernoulli):
        pass

    torch.testing.assert_close(_slope_of(Bernoulli(), y, out.clone()), _slope_of(Same(), y, out.clone()))


def test_steps_are_tuned_for_each_example_and_are_accepted_as_wished():
    model = linear_model()
    target, y, ladder = latent_model(linear_autoencoder(model)), data(model, 30), sigmoid_ladder(100)
    generator = torch.Generator().manual_seed(0)
    steps = tuned_steps(target, y, ladder, chains=16, leapfrog=10, generator=generator)
    assert steps.shape == (101, 30)
    z = prior_draws(target.prior, 16 * 30, generator).unflatten(0, (16, 30))
    stages = list(anneal(target, y, z, ladder, steps, leapfrog=10, generator=generator))
    accepted = torch.stack([stage.acceptance for stage in stages])
    assert 0.55 < float(accepted.mean()) < 0.75
    assert float(accepted.mean(0).min()) > 0.4
    assert bool((steps[-1] < steps[0]).all())  # posteriors are narrower than the prior


def test_the_same_seed_gives_the_same_and_leaves_the_generator_of_torch_alone():
    model = linear_model()
    neural, y = linear_autoencoder(model), data(model, 5)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = (
        annealed_log_evidence(neural, y, linear_ladder(5), chains=2, seed=seed) for seed in (3, 3, 4)
    )
    bdmc(neural, 3, linear_ladder(3), chains=2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in neural.parameters())


def test_the_mean_is_a_lower_bound_with_its_error():
    model = linear_model()
    y, ladder = data(model, 10), linear_ladder(5)
    measure = annealed_log_likelihood(linear_autoencoder(model), y, ladder)
    nats = annealed_log_evidence(linear_autoencoder(model), y, ladder)
    assert measure.kind is Kind.LOWER
    assert measure.value == pytest.approx(float(nats.mean()))
    assert measure.standard_error == pytest.approx(float(nats.std()) / math.sqrt(10))


def test_what_is_no_density_has_no_evidence():
    implicit = ImplicitModel(StandardNormalPrior(2), nn.Linear(2, 3))
    y = torch.zeros(4, 3)
    with pytest.raises(ModelError, match="Pass a distortion"):
        annealed_log_evidence(implicit, y)
    for call in (annealed_log_evidence, partial(prior_log_evidence, samples=5)):
        with pytest.raises(ModelError, match=r"Pass one of rdae\.likelihoods"):
            call(implicit, y, distortion=squared_error)


@pytest.mark.parametrize("ladder", [torch.tensor([0.0]), torch.tensor([0.0, 0.5]), torch.tensor([0.0, 0.6, 0.5, 1.0])])
def test_what_is_no_ladder_is_refused(ladder):
    model = LatentModel(StandardNormalPrior(2)(), nn.Identity(), Gaussian())
    with pytest.raises(DataError, match="sigmoid_ladder"):
        annealed_log_evidence(model, torch.zeros(3, 2), ladder)


def test_examples_of_the_model_itself_are_not_made_of_the_draws_that_judge_them():
    weight = torch.randn(12, 6, generator=torch.Generator().manual_seed(3)).double()
    model = FactorAnalysis.of(weight, torch.ones(12), 0.3).requires_grad_(False)
    neural = linear_autoencoder(model)
    simulated = bdmc(neural, 20, sigmoid_ladder(3), chains=1, leapfrog=1).y
    exact = model.log_prob(simulated)
    for seed in (0, 1):
        assert float((prior_log_evidence(neural, simulated, 200, seed=seed).log_evidence - exact).mean()) < -1
