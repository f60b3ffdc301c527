"""The three parts of the rate: quadrature, enumeration, Gaussian closed forms, and what is refused."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Laplace, MultivariateNormal, Normal

import rdae.measures.decomposition as module
from rdae.errors import DataError, ModelError, ShapeError
from rdae.exact.enumerable import JointTable
from rdae.measures.decomposition import RateParts, aggregated_total_correlation, coordinates, rate_parts
from rdae.measures.independence import gaussian_total_correlation
from rdae.measures.information import gaussian_mutual_information
from rdae.measures.measure import Kind
from rdae.measures.overlap import aggregated_divergence, index_information
from rdae.objectives import divergence
from rdae.priors.latent import FullNormalPrior, MixturePrior, NormalPrior, StandardNormalPrior

pytestmark = pytest.mark.usefixtures("in_double")
PARTS = RateParts._fields


def diagonal(mean: Tensor, std: Tensor) -> Independent:
    return Independent(Normal(mean, std), mean.ndim - 1)


def posteriors(kind: str) -> Distribution:
    """Five laws in the plane."""
    mean, std = 1.5 * torch.randn(5, 2), 0.3 + torch.rand(5, 2)
    if kind == "diagonal":
        return diagonal(mean, std)
    if kind == "laplace":
        return Independent(Laplace(mean, std), 1)
    factor = torch.diag_embed(std)
    factor[:, 1, 0] = 0.5 * torch.randn(5)
    return MultivariateNormal(mean, scale_tril=factor)


def by_quadrature(q: Distribution, p: Distribution) -> dict[str, float]:
    """Sums over a grid of the plane; marginals by sums over its lines, so that no closed form of them is needed."""
    points, reach = 501, 14.0
    axis, step = torch.linspace(-reach, reach, points), 2 * reach / (points - 1)
    z = torch.cartesian_prod(axis, axis)[:, None]
    each = q.log_prob(z).exp()  # (points, 5)
    mixed = each.mean(1)
    square = mixed.view(points, points)
    product = torch.outer(square.sum(1), square.sum(0)).flatten() * step**2
    prior = p.log_prob(z[:, 0]).exp()

    def expected(density: Tensor, above: Tensor, below: Tensor) -> float:
        used = density > 1e-200
        return float((density * torch.where(used, (above / below).log(), 0.0)).sum() * step**2)

    floor = 1e-250
    return {
        "index_information": expected(each, each + floor, mixed[:, None] + floor) / 5,
        "total_correlation": expected(mixed, mixed + floor, product + floor),
        "dimension_wise": expected(mixed, product + floor, prior + floor),
        "rate": expected(each, each + floor, prior[:, None] + floor) / 5,
    }


@pytest.mark.parametrize("kind", ["diagonal", "full", "laplace"])
def test_the_parts_are_those_of_quadrature(kind, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 3000)  # in many blocks
    q, p = posteriors(kind), StandardNormalPrior(2)()
    due, found = by_quadrature(q, p), rate_parts(q, p, 4000)
    assert due["index_information"] + due["total_correlation"] + due["dimension_wise"] == pytest.approx(due["rate"])
    for name in PARTS:
        measure = getattr(found, name)
        # densities with kinks (Laplace) are summed to some 1e-3 by this grid
        assert measure.value == pytest.approx(due[name], abs=4 * measure.standard_error + 2e-3)
        assert measure.standard_error < 0.05
    assert due["total_correlation"] > 0.1  # else nothing was tested
    alone = aggregated_total_correlation(q, 4000)
    assert alone.value == pytest.approx(due["total_correlation"], abs=4 * alone.standard_error + 2e-3)


def test_the_parts_add_up_to_the_closed_form_of_the_rate():
    p = NormalPrior(2, 1, 2)
    with torch.no_grad():
        p.mean.normal_()
        p.log_std.uniform_(-0.5, 0.5)
    q = diagonal(torch.randn(30, 2, 1, 2), torch.rand(30, 2, 1, 2) + 0.1)
    found = rate_parts(q, p(), 200)
    assert sum(getattr(found, name).value for name in PARTS[:3]) == pytest.approx(found.rate.value, rel=1e-12)
    exact = float(divergence(q, p()).detach().mean())
    assert found.rate.value == pytest.approx(exact, abs=4 * found.rate.standard_error)
    assert found.rate.standard_error < 0.01 * exact
    assert found.rate[2:] == ("nats per example", Kind.ESTIMATE)


def test_two_of_the_parts_are_the_divergence_of_the_aggregate():
    q, p = posteriors("full"), StandardNormalPrior(2)()
    found, information, rest = rate_parts(q, p, 4000), index_information(q, 4000), aggregated_divergence(q, p, 4000)
    assert found.index_information.value == pytest.approx(information.value, abs=6 * information.standard_error)
    both = found.total_correlation.value + found.dimension_wise.value
    assert both == pytest.approx(rest.value, abs=6 * rest.standard_error)


# --- enumeration ---------------------------------------------------------------------------------------------------


def test_discrete_latents_by_enumeration():
    """Six examples, two latents of three values: each part is a sum over nine cells."""
    logits, prior = torch.randn(6, 2, 3) * 2, torch.randn(2, 3)
    q, p = Independent(Categorical(logits=logits), 1), Independent(Categorical(logits=prior), 1)
    found = rate_parts(q, p, 5000)
    a, b = q.base_dist.probs[:, 0], q.base_dist.probs[:, 1]
    each = a[:, :, None] * b[:, None]
    mixed, product = each.mean(0), torch.outer(a.mean(0), b.mean(0))
    under = torch.outer(*p.base_dist.probs)
    due = RateParts(
        (each * (each / mixed).log()).sum() / 6,
        (mixed * (mixed / product).log()).sum(),
        (mixed * (product / under).log()).sum(),
        (each * (each / under).log()).sum() / 6,
    )
    for name in PARTS:
        measure = getattr(found, name)
        assert measure.value == pytest.approx(float(getattr(due, name)), abs=4 * measure.standard_error)
        assert measure.standard_error < 0.02
    assert found.total_correlation.value > 10 * found.total_correlation.standard_error


def test_one_latent_has_no_total_correlation_and_the_information_of_its_table():
    table = torch.rand(4, 8)
    model = JointTable.of(table / table.sum(0))  # examples equally likely, as in a data set
    found = rate_parts(model.posterior(torch.arange(8)), model.prior(), 5000)
    assert found.total_correlation.value == pytest.approx(0, abs=1e-12)
    assert found.dimension_wise.value == pytest.approx(0, abs=1e-12)  # the prior is the aggregate
    exact = float(model.mutual_information().detach())
    assert found.index_information.value == pytest.approx(exact, abs=4 * found.index_information.standard_error)
    assert found.index_information.standard_error < 0.1 * exact


# --- Gaussian aggregates -------------------------------------------------------------------------------------------


def test_an_aggregate_that_is_exactly_gaussian():
    """Posteriors that all are one Gaussian of correlation 0.9: 0.830366 nats of total correlation, no information."""
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    mean = torch.tensor([0.5, -1.0])
    q = MultivariateNormal(mean.expand(3, 2), covariance.expand(3, 2, 2))
    found = rate_parts(q, StandardNormalPrior(2)(), 20_000)
    assert found.index_information.value == pytest.approx(0, abs=1e-9)
    measure = found.total_correlation
    assert measure.value == pytest.approx(0.830366, abs=4 * measure.standard_error)
    assert measure.standard_error < 0.005
    measure = found.dimension_wise  # of unit variances: half the squares of the means
    assert measure.value == pytest.approx(0.625, abs=4 * measure.standard_error)


def test_a_linear_model_of_a_thousand_examples():
    """z = a x + noise with x at the quantiles of N(0, 1): information and total correlation of the Gaussian limit."""
    x = Normal(0.0, 1.0).icdf((torch.arange(1000) + 0.5) / 1000)
    a, noise = torch.tensor([1.2, -0.9]), torch.tensor([0.5, 0.8])
    q = diagonal(x[:, None] * a, noise.expand(1000, 2))
    found = rate_parts(q, StandardNormalPrior(2)(), 4)
    covariance = torch.outer(a, a) + torch.diag(noise**2)
    together = torch.cat([torch.cat([torch.ones(1), a])[None], torch.cat([a[:, None], covariance], 1)])
    information = gaussian_mutual_information(together.numpy(), 1).value
    correlation = gaussian_total_correlation(covariance)
    assert correlation > 0.2
    assert found.index_information.value == pytest.approx(information, abs=0.05)
    assert found.total_correlation.value == pytest.approx(correlation, abs=0.05)
    assert max(found.index_information.standard_error, found.total_correlation.standard_error) < 0.0125


def test_the_standard_errors_are_spreads_over_draws():
    q, p = posteriors("diagonal"), StandardNormalPrior(2)()
    found = [rate_parts(q, p, 10) for _ in range(300)]
    for name in PARTS:
        values = torch.tensor([getattr(parts, name).value for parts in found])
        squares = torch.tensor([getattr(parts, name).standard_error for parts in found]).square()
        assert float(squares.mean().sqrt()) == pytest.approx(float(values.std()), rel=0.16)  # 4 errors of a spread


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prior", [FullNormalPrior(2), MixturePrior(3, 2)], ids=["full", "mixture"]
)  # fmt: skip
def test_a_prior_that_does_not_factorise_is_refused_and_told_why(prior):
    with pytest.raises(ModelError, match=r"only if p\(z\) = prod_j p\(z_j\).*rdae.measures.overlap"):
        rate_parts(posteriors("diagonal"), prior())
    aggregated_total_correlation(posteriors("diagonal"))  # has no use for it


def test_a_flow_prior_is_refused():
    pytest.importorskip("zuko")
    from rdae.priors.latent import FlowPrior

    with pytest.raises(ModelError, match="factorised prior"):
        rate_parts(posteriors("diagonal"), FlowPrior.spline(2, transforms=1, hidden=4)())


def test_other_arguments_that_cannot_be_measured():
    q, p = posteriors("diagonal"), StandardNormalPrior(2)()
    with pytest.raises(DataError, match="draws=2"):
        rate_parts(q, p, 1)
    for wrong in (StandardNormalPrior(3)(), Normal(torch.zeros(2), torch.ones(2))):
        with pytest.raises(ShapeError, match="Independent makes a batch an event"):
            rate_parts(q, wrong)
    with pytest.raises(ShapeError, match="those of all examples"):
        aggregated_total_correlation(p)
    mixture = MixturePrior(3, 2)()
    with pytest.raises(ModelError, match="independent coordinates"):
        coordinates(mixture)


def test_marginals_of_a_full_gaussian():
    q = posteriors("full")
    marginals = coordinates(q)
    assert marginals.batch_shape == (5, 2)
    torch.testing.assert_close(marginals.variance, torch.diagonal(q.covariance_matrix, dim1=1, dim2=2))
    assert math.isclose(float(marginals.mean.sum()), float(q.mean.sum()))
