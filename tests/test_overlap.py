"""Overlap of posteriors, and what a latent tells of its example: closed forms, quadrature, bounds, a linear model."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
)

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.channels import GaussianChannel
from rdae.errors import DataError, ModelError
from rdae.likelihoods import Gaussian
from rdae.measures.measure import Kind
from rdae.measures.overlap import (
    aggregated_divergence,
    aggregated_posterior,
    bhattacharyya_distance,
    index_information,
    mean_over_pairs,
    mean_overlap,
    pairwise_distances,
)
from rdae.objectives import divergence
from rdae.priors.latent import StandardNormalPrior
from rdae.training.weighing import Beta

pytestmark = pytest.mark.usefixtures("in_double")
BETAS = (0.1, 0.5, 1.0, 2.0, 4.0, 10.0)


def diagonal(mean: Tensor, std: Tensor) -> Independent:
    return Independent(Normal(mean, std), mean.ndim - 1)


def full(mean: Tensor, factor: Tensor) -> MultivariateNormal:
    return MultivariateNormal(mean, scale_tril=factor)


def random_factors(count: int, size: int) -> Tensor:
    return 0.4 * torch.randn(count, size, size).tril(-1) + torch.diag_embed(torch.rand(count, size) + 0.3)


# --- the closed form -----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.1, 3), st.floats(0.1, 3))
def test_the_coefficient_is_the_integral_of_the_root_of_the_product(mean_a, mean_b, std_a, std_b):
    a, b = (diagonal(torch.tensor([[m]]), torch.tensor([[s]])) for m, s in ((mean_a, std_a), (mean_b, std_b)))
    z = torch.linspace(-40, 40, 8001).view(-1, 1)
    integral = torch.exp((a.log_prob(z) + b.log_prob(z)) / 2).sum() * 1e-2
    # the trapezoid rule is exact to rounding for densities as smooth as these
    assert float(torch.exp(-bhattacharyya_distance(a, b))) == pytest.approx(float(integral), rel=1e-9, abs=1e-12)


def test_the_coefficient_of_correlated_gaussians_is_the_integral_in_two_dimensions():
    a, b = (full(torch.randn(1, 2), random_factors(1, 2)) for _ in range(2))
    axis = torch.linspace(-12, 12, 801)
    z = torch.cartesian_prod(axis, axis)
    integral = torch.exp((a.log_prob(z) + b.log_prob(z)) / 2).sum() * (24 / 800) ** 2
    assert float(torch.exp(-bhattacharyya_distance(a, b))) == pytest.approx(float(integral), rel=1e-9)


def test_a_matrix_with_a_diagonal_is_a_diagonal():
    mean, std = torch.randn(5, 3), torch.rand(5, 3) + 0.2
    plain, matrix = diagonal(mean, std), full(mean, torch.diag_embed(std))
    torch.testing.assert_close(pairwise_distances(plain), pairwise_distances(matrix))
    other = full(torch.randn(5, 3), random_factors(5, 3))
    torch.testing.assert_close(bhattacharyya_distance(plain, other), bhattacharyya_distance(matrix, other))
    low = LowRankMultivariateNormal(mean, torch.zeros(5, 3, 1), std.square())
    torch.testing.assert_close(pairwise_distances(plain), pairwise_distances(low))


def test_latents_with_space_are_counted_whole():
    mean, std = torch.randn(4, 2, 3, 3), torch.rand(4, 2, 3, 3) + 0.2
    torch.testing.assert_close(
        pairwise_distances(diagonal(mean, std)), pairwise_distances(diagonal(mean.flatten(1), std.flatten(1)))
    )


@pytest.mark.parametrize("q", [
    diagonal(torch.randn(7, 3).double(), torch.rand(7, 3).double() + 0.1),
    full(torch.randn(7, 3).double(), random_factors(7, 3).double()),
], ids=["diagonal", "full"])  # fmt: skip
def test_equal_laws_overlap_by_one_and_all_others_by_less(q, monkeypatch):
    distance = pairwise_distances(q)
    torch.testing.assert_close(distance.diagonal(), torch.zeros(7), rtol=0, atol=1e-12)
    torch.testing.assert_close(distance, distance.T)
    assert bool((distance + 9 * torch.eye(7) > 0).all())
    monkeypatch.setattr("rdae.measures.overlap.AT_ONCE", 50)  # in several parts
    torch.testing.assert_close(pairwise_distances(q), distance, rtol=0, atol=0)


def test_the_coefficient_does_not_depend_on_the_coordinates():
    q = full(torch.randn(6, 3), random_factors(6, 3))
    turn = random_factors(1, 3)[0]
    moved = full(q.mean @ turn.T + 2.0, turn @ q.scale_tril)
    torch.testing.assert_close(pairwise_distances(moved), pairwise_distances(q), rtol=1e-9, atol=1e-10)


def test_the_mean_overlap_by_hand():
    """Three unit Gaussians at 0, 2 and 6: exp(-d^2 / 8) of the distances 2, 6 and 4."""
    q = diagonal(torch.tensor([[0.0], [2.0], [6.0]]), torch.ones(3, 1))
    measure = mean_overlap(q)
    assert measure.value == pytest.approx((math.exp(-0.5) + math.exp(-4.5) + math.exp(-2)) / 3)
    assert measure.kind is Kind.ESTIMATE


def test_the_error_of_a_mean_over_pairs_is_its_spread_over_data_sets():
    """Mean of (x_i - x_j)^2 / 2 is the sample variance, whose spread is known: sqrt(2 / (N - 1)) for N(0, 1)."""
    measures = []
    for _ in range(400):
        x = torch.randn(60)
        measures.append(mean_over_pairs((x[:, None] - x).square() / 2, "u2"))
        assert measures[-1].value == pytest.approx(float(x.var()))
    errors = torch.tensor([m.standard_error for m in measures])
    assert float(errors.mean()) == pytest.approx(math.sqrt(2 / 59), rel=0.1)


# --- information ---------------------------------------------------------------------------------------------------


def test_two_posteriors_far_apart_tell_one_bit_and_two_equal_ones_nothing():
    far = index_information(diagonal(torch.tensor([[-50.0], [50.0]]), torch.ones(2, 1)))
    assert far.value == pytest.approx(math.log(2), abs=1e-12)
    same = index_information(diagonal(torch.zeros(2, 1), torch.ones(2, 1)))
    assert same.value == pytest.approx(0, abs=1e-12)


def test_information_of_two_overlapping_posteriors_by_quadrature():
    q = diagonal(torch.tensor([[-1.0], [1.0]]), torch.tensor([[1.0], [0.5]]))
    z = torch.linspace(-12, 12, 24_001).view(-1, 1, 1)
    each, mixed = q.log_prob(z), torch.logsumexp(q.log_prob(z), 1) - math.log(2)
    exact = float((each.exp() * (each - mixed[:, None])).sum() * 1e-3 / 2)
    measure = index_information(q, 20_000)
    assert measure.value == pytest.approx(exact, abs=4 * measure.standard_error)
    assert measure.standard_error < 0.01


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 9), st.floats(0.0, 6.0), st.floats(0.05, 2.0), st.integers(0, 1000))
def test_information_is_at_most_ln_n(count, spread, std, seed):
    torch.manual_seed(seed)
    q = diagonal(spread * torch.randn(count, 2), torch.full((count, 2), std))
    measure = index_information(q)
    assert -4 * measure.standard_error - 1e-9 <= measure.value <= math.log(count) + 1e-9


def test_the_aggregated_posterior_is_the_mean_of_the_densities():
    q = full(torch.randn(5, 2), random_factors(5, 2))
    z = torch.randn(9, 2)
    mean = q.log_prob(z[:, None]).exp().mean(1)
    torch.testing.assert_close(aggregated_posterior(q).log_prob(z).exp(), mean)


@pytest.mark.parametrize("law", ["diagonal", "full", "space"])
def test_information_and_divergence_of_the_aggregate_add_up_to_the_rate(law, monkeypatch):
    monkeypatch.setattr("rdae.measures.overlap.AT_ONCE", 1000)  # in several parts
    p: Distribution = StandardNormalPrior(2)()
    if law == "space":
        p = StandardNormalPrior(1, 2, 1)()
        q: Distribution = diagonal(torch.randn(30, 1, 2, 1), torch.rand(30, 1, 2, 1) + 0.1)
    elif law == "diagonal":
        q = diagonal(torch.randn(30, 2), torch.rand(30, 2) + 0.1)
    else:
        q = full(torch.randn(30, 2), random_factors(30, 2))
    rate = float(divergence(q, p).mean())
    information, rest = index_information(q, 200), aggregated_divergence(q, p, 200)
    error = math.hypot(information.standard_error, rest.standard_error)  # drawn independently
    assert information.value + rest.value == pytest.approx(rate, abs=3 * error)
    assert error < 0.02 * rate
    assert 0 < rest.value < rate


def test_the_error_of_the_information_is_its_spread_over_draws():
    q = diagonal(torch.randn(8, 1), torch.rand(8, 1) + 0.2)
    measures = [index_information(q, 10) for _ in range(400)]
    spread = float(torch.tensor([m.value for m in measures]).std())
    mean_square = sum(m.standard_error**2 for m in measures) / 400
    assert math.sqrt(mean_square) == pytest.approx(spread, rel=0.12)  # 3.5 % is one standard error of a spread of 400


def test_what_cannot_be_measured_is_refused():
    q = diagonal(torch.zeros(3, 1), torch.ones(3, 1))
    with pytest.raises(DataError, match="draws=2"):
        index_information(q, 1)
    with pytest.raises(DataError, match="two examples"):
        mean_overlap(diagonal(torch.zeros(1, 1), torch.ones(1, 1)))
    with pytest.raises(ModelError, match="Categorical is not Gaussian"):
        bhattacharyya_distance(Categorical(torch.ones(3, 2)), q)


# --- a linear beta-VAE: posteriors overlap when the KL is enforced strongly -----------------------------------------

WEIGHT, SPREAD, DATA_VARIANCE = 1.5, 0.6, 2.0


def best_posterior(y: Tensor, beta: float) -> Independent:
    """Of `y = w z + s eps` with the KL charged beta-fold: `q ~ p(y | z)^(1 / beta) p(z)`, normalised."""
    total = WEIGHT**2 + beta * SPREAD**2
    return diagonal(WEIGHT * y / total, torch.full_like(y, math.sqrt(beta * SPREAD**2 / total)))


def linear(weight: float) -> NoisyChannelAutoencoder:
    encoder, decoder = nn.Linear(1, 2), nn.Linear(1, 1, bias=False)
    with torch.no_grad():  # of one sign: from opposite ones a run has to pass the saddle at zero
        encoder.weight.copy_(torch.tensor([[0.5], [0.0]]))
        encoder.bias.zero_()
        decoder.weight.fill_(weight)
    return NoisyChannelAutoencoder(encoder, GaussianChannel(1), StandardNormalPrior(1), decoder, Gaussian(SPREAD))


def scaled_data(count: int) -> Tensor:
    """Quantiles of a Gaussian, their variance exactly `DATA_VARIANCE`, `(count, 1)`."""
    y = Normal(0.0, 1.0).icdf((torch.arange(count) + 0.5) / count)
    return (y * (DATA_VARIANCE / y.square().mean()).sqrt())[:, None]


def fit(model: NoisyChannelAutoencoder, parameters: list[nn.Parameter], beta: float, steps: int = 400) -> None:
    y, weigh = scaled_data(1000), Beta(beta=beta)
    optimizer = torch.optim.Adam(parameters, lr=0.1)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        optimizer.zero_grad()
        weigh(model(y).terms, step).mean().backward()
        optimizer.step()
        falling.step()


@pytest.mark.parametrize("beta", BETAS)
def test_no_other_posterior_of_the_linear_model_is_better(beta):
    """Gradient of `E -ln p(y | z) + beta KL` at the closed form, by autograd of the two closed terms."""
    y = torch.tensor([[0.7], [-1.9]])
    q = best_posterior(y, beta)
    mean, std = (x.clone().requires_grad_() for x in (q.base_dist.loc, q.base_dist.scale))
    error = (y - WEIGHT * mean).square() + (WEIGHT * std).square()
    loss = error.sum() / (2 * SPREAD**2) + beta * divergence(diagonal(mean, std), StandardNormalPrior(1)()).sum()
    for gradient in torch.autograd.grad(loss, (mean, std)):
        torch.testing.assert_close(gradient, torch.zeros(2, 1), rtol=0, atol=1e-12)


def test_separation_over_variance_falls_and_overlap_rises_with_beta():
    y = torch.tensor([[0.0], [1.3]])
    ratios, overlaps = [], []
    for beta in BETAS:
        q = best_posterior(y, beta)
        ratio = float((q.mean[1] - q.mean[0]).square() / q.variance[0])
        noise = beta * SPREAD**2
        assert ratio == pytest.approx(WEIGHT**2 * 1.3**2 / ((WEIGHT**2 + noise) * noise))
        ratios.append(ratio)
        overlaps.append(mean_overlap(q).value)
        assert overlaps[-1] == pytest.approx(math.exp(-ratio / 8))
    assert ratios == sorted(ratios, reverse=True)
    assert overlaps == sorted(overlaps)
    assert overlaps[0] < 0.01
    assert overlaps[-1] > 0.9


@pytest.mark.parametrize("beta", [0.25, 1.0, 4.0])
def test_a_trained_encoder_finds_the_posterior_of_the_closed_form(beta):
    model = linear(WEIGHT)
    fit(model, list(model.encoder.parameters()), beta)
    y = torch.linspace(-2, 2, 5)[:, None]
    found, due = model.posterior(y), best_posterior(y, beta)
    # what sampling leaves: the variances of four runs were within 1.6 % of it
    torch.testing.assert_close(found.mean, due.mean, rtol=0.03, atol=0.02)
    torch.testing.assert_close(found.variance, due.variance, rtol=0.05, atol=0)


def test_overlap_rises_with_beta_in_models_trained_whole():
    """With the decoder learned too, `w^2 = v - beta s^2` for data of variance v, and the posterior follows w."""
    overlaps = []
    for beta in (0.25, 1.0, 3.0):
        model = linear(1.0)
        fit(model, list(model.parameters()), beta)
        model.requires_grad_(False)
        weight = model.decoder.weight.item()
        assert weight**2 == pytest.approx(DATA_VARIANCE - beta * SPREAD**2, rel=0.05)
        q = model.posterior(scaled_data(200))
        assert float(q.variance.mean()) == pytest.approx(beta * SPREAD**2 / DATA_VARIANCE, rel=0.05)
        overlaps.append(mean_overlap(q))
    for low, high in pairwise(overlaps):
        assert high.value > low.value + 3 * (low.standard_error + high.standard_error)
