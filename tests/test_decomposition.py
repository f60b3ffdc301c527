"""The rate in three parts from a batch: enumerated over all batches, and against Gaussians in closed form."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import pytest

torch = pytest.importorskip("torch")

from torch.distributions import Independent, MultivariateNormal, Normal

import rdae.decomposition as module
from rdae.decomposition import decomposed, log_aggregate, minibatch_stratified, minibatch_weighted
from rdae.errors import DataError, ModelError
from rdae.measures.independence import gaussian_total_correlation

EXAMPLES, UNITS = 6, 3


def posteriors(count: int = EXAMPLES, units: int = UNITS) -> Independent:
    g = torch.Generator().manual_seed(0)
    mean = torch.randn(count, units, generator=g, dtype=torch.float64)
    std = 0.8 + torch.rand(count, units, generator=g, dtype=torch.float64)
    return Independent(Normal(mean, std), 1)


def chosen(q: Independent, index: list[int]) -> Independent:
    return Independent(Normal(q.base_dist.loc[index], q.base_dist.scale[index]), 1)


def unit(q: Independent, j: int) -> Independent:
    return Independent(Normal(q.base_dist.loc[:, [j]], q.base_dist.scale[:, [j]]), 1)


def mixture_of(q: Independent, z: torch.Tensor) -> torch.Tensor:
    """ln q(z) of all examples, summed one by one."""
    return sum(chosen(q, [k]).log_prob(z).exp() for k in range(EXAMPLES)).log() - math.log(EXAMPLES)


def product_of_mixtures(q: Independent, z: torch.Tensor) -> torch.Tensor:
    """sum_j ln q(z_j), unit by unit."""
    return sum(mixture_of(unit(q, j), z[:, [j]]) for j in range(UNITS))


def latents(q: Independent) -> torch.Tensor:
    torch.manual_seed(0)
    return q.sample()


@pytest.mark.parametrize("at_once", [1, 1 << 23])
def test_with_the_whole_set_for_a_batch_the_mixture_is_exact(at_once, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    q = posteriors()
    z = latents(q)
    mixture, product = mixture_of(q, z), product_of_mixtures(q, z)
    joint, marginals = log_aggregate(q, z, minibatch_stratified(EXAMPLES, EXAMPLES))
    torch.testing.assert_close(joint, mixture, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(marginals, product, rtol=1e-12, atol=1e-12)
    joint, marginals = log_aggregate(q, z, minibatch_weighted(EXAMPLES, EXAMPLES))  # short by a factor of N
    torch.testing.assert_close(joint, mixture - math.log(EXAMPLES), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(marginals, product - UNITS * math.log(EXAMPLES), rtol=1e-12, atol=1e-12)


def over_all_batches(batch: int, estimator) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimates of q(z) and of q(z_1) at a latent of example 0, one for each batch that holds it."""
    q = posteriors()
    z = latents(q)
    rows = []
    for others in combinations(range(1, EXAMPLES), batch - 1):
        index = [0, *others]
        joint, _ = log_aggregate(chosen(q, index), z[index], estimator(batch, EXAMPLES))
        marginal, _ = log_aggregate(unit(chosen(q, index), 1), z[index][:, [1]], estimator(batch, EXAMPLES))
        rows.append(torch.stack([joint[0], marginal[0]]))
    return torch.stack(rows), z


@pytest.mark.parametrize("batch", [2, 3, 5, 6])
def test_the_stratified_average_over_all_batches_is_the_mixture(batch):
    logs, z = over_all_batches(batch, minibatch_stratified)
    q = posteriors()
    truth = torch.stack([mixture_of(q, z)[0], mixture_of(unit(q, 1), z[:, [1]])[0]])
    torch.testing.assert_close(logs.exp().mean(0), truth.exp(), rtol=1e-12, atol=1e-14)
    assert bool((logs.mean(0) <= truth + 1e-12).all())  # of the logarithm: too small
    if batch < EXAMPLES:
        assert bool((logs.mean(0) < truth - 1e-12).all())


@pytest.mark.parametrize("batch", [2, 3, 5])
def test_the_weighted_average_is_what_its_docstring_says(batch):
    logs, z = over_all_batches(batch, minibatch_weighted)
    each = posteriors().log_prob(z[0]).exp()
    due = (each[0] + (batch - 1) * each[1:].mean()) / (EXAMPLES * batch)
    torch.testing.assert_close(logs.exp().mean(0)[0], due, rtol=1e-12, atol=1e-14)
    assert float(due) < float(each.mean())


def test_even_weights_are_the_mean_over_orders_of_the_published_ones():
    """Chen et al.: 1 / N for itself, 1 / m for all others but one, (N - m) / (N m) for that one; m = M - 1."""
    batch = 4
    m = batch - 1
    published = torch.tensor([1 / m] * (m - 1) + [(EXAMPLES - m) / (EXAMPLES * m)], dtype=torch.float64)
    mean = torch.stack([published[list(order)] for order in permutations(range(m))]).mean(0)
    weights = minibatch_stratified(batch, EXAMPLES).exp()
    torch.testing.assert_close(weights[0, 1:], mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(weights.diagonal(), torch.full((batch,), 1 / EXAMPLES, dtype=torch.float64))


def test_the_three_parts_are_those_of_a_gaussian():
    """y ~ N(0, I), z = A y + noise: q(z) is Gaussian, and every part is known."""
    torch.manual_seed(0)
    a = torch.tensor([[1.0, 0.0], [0.9, 0.4]], dtype=torch.float64)
    noise, count = 0.5, 2000
    y = torch.randn(count, 2, dtype=torch.float64)
    y = (y - y.mean(0)) / y.std(0)
    q = Independent(Normal(y @ a.T, torch.full((count, 2), noise, dtype=torch.float64)), 1)
    p = Independent(Normal(torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)), 1)
    parts = decomposed(q, p, q.sample(), minibatch_stratified(count, count))
    covariance = a @ a.T + noise**2 * torch.eye(2, dtype=torch.float64)
    information = 0.5 * torch.logdet(covariance / noise**2)
    marginal = [0.5 * (v - 1 - math.log(v)) for v in covariance.diagonal().tolist()]
    due = {
        "index_information": float(information),
        "total_correlation": gaussian_total_correlation(covariance),
        "dimension_wise": sum(marginal),
    }
    for name, value in due.items():
        own = getattr(parts, name)
        # of the latents, and as much again for the examples, which stand for their law; 1 / N of bias a component
        assert abs(float(own.mean()) - value) < 4 * math.sqrt(2 * float(own.var()) / count) + 0.005, name
    rate = q.base_dist.loc.square().sum(1) / 2 + 2 * (noise**2 / 2 - 0.5 - math.log(noise))
    assert abs(float(sum(part.mean() for part in parts) - rate.mean())) < 4 * math.sqrt(2 / count)


def test_parts_sum_to_the_log_ratio_and_carry_gradients():
    q = posteriors()
    q.base_dist.loc.requires_grad_()
    p = Independent(Normal(torch.zeros(UNITS, dtype=torch.float64), torch.ones(UNITS, dtype=torch.float64)), 1)
    z = q.rsample()
    parts = decomposed(q, p, z, minibatch_stratified(EXAMPLES, 50))
    torch.testing.assert_close(sum(parts), q.log_prob(z) - p.log_prob(z), rtol=1e-12, atol=1e-12)
    parts.total_correlation.mean().backward()
    assert bool(q.base_dist.loc.grad.abs().sum() > 0)


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(DataError, match="batch no larger than the data"):
        minibatch_stratified(5, 4)
    full = MultivariateNormal(torch.zeros(3, 2), torch.eye(2))
    with pytest.raises(ModelError, match="GaussianChannel"):
        log_aggregate(full, torch.zeros(3, 2), minibatch_stratified(3, 3))
    assert float(minibatch_stratified(1, 10)) == pytest.approx(-math.log(10))
