"""How much Gaussian posteriors overlap: in pairs, and as a whole in what a latent tells of the example it came from.

The mean rate of N examples has two parts (Hoffman & Johnson 2016, "ELBO surgery"):

    mean KL(q(z | y_n) || p(z)) = I_q(n; z) + KL(q(z) || p(z)),    q(z) = (1/N) sum_n q(z | y_n)

The first is at most ln N, and ln N only where no two posteriors overlap. In expectation over data sets of N examples
it is a lower bound on I(y; z) of the population, and the second an upper bound on its KL(q(z) || p(z)).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from rdae.errors import DataError, ModelError
from rdae.measures.measure import Kind, Measure, over_draws

__all__ = [
    "aggregated_divergence", "aggregated_posterior", "bhattacharyya_distance", "gaussian_parameters",
    "index_information", "mean_over_pairs", "mean_overlap", "pairwise_distances",
]  # fmt: skip

AT_ONCE = 1 << 22  # numbers held at once


def gaussian_parameters(q: Distribution) -> tuple[Tensor, Tensor]:
    """Mean, `(*batch, size)`, and standard deviation of the same shape or Cholesky factor, `(*batch, size, size)`.

    Raises:
        ModelError: q is not Gaussian.
    """
    batch = len(q.batch_shape)
    if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        return q.base_dist.loc.double().flatten(batch), q.base_dist.scale.double().flatten(batch)
    if isinstance(q, MultivariateNormal | LowRankMultivariateNormal):
        return q.loc.double(), q.scale_tril.double()
    raise ModelError(f"A {type(q).__name__} is not Gaussian, and has no closed form. Use a Gaussian channel.")


def bhattacharyya_distance(a: Distribution, b: Distribution) -> Tensor:
    """`-ln` of the integral of `sqrt(a(z) b(z))`, in closed form; its exponential `exp(-d)` is the overlap.

    The overlap, the Bhattacharyya coefficient, is 1 for equal laws and 0 for laws that share no ground.

    Args:
        a, b: Gaussians whose batch shapes broadcast, diagonal or with a matrix.

    Returns:
        In nats, of the broadcast batch shape, float64.
    """
    return _distance(gaussian_parameters(a), gaussian_parameters(b))


def _distance(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    (mean_a, spread_a), (mean_b, spread_b) = a, b
    apart = mean_a - mean_b
    if spread_a.ndim == mean_a.ndim and spread_b.ndim == mean_b.ndim:
        total = spread_a.square() + spread_b.square()
        return (apart.square() / (4 * total) + 0.5 * torch.log(total / (2 * spread_a * spread_b))).sum(-1)
    factor_a, factor_b = (s if s.ndim > m.ndim else torch.diag_embed(s) for m, s in (a, b))
    between = torch.linalg.cholesky((factor_a @ factor_a.mT + factor_b @ factor_b.mT) / 2)
    whitened = torch.linalg.solve_triangular(between, apart[..., None], upper=False)[..., 0]
    log_volumes = _log_volume(between) - (_log_volume(factor_a) + _log_volume(factor_b)) / 2
    return whitened.square().sum(-1) / 8 + log_volumes


def _log_volume(factor: Tensor) -> Tensor:
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


@torch.no_grad()
def pairwise_distances(q: Distribution) -> Tensor:
    """`bhattacharyya_distance` of each posterior from each, `(N, N)`, for q of batch shape `(N,)`."""
    mean, spread = gaussian_parameters(q)
    rows = max(1, AT_ONCE // (len(mean) * spread[0].numel()))
    return torch.cat([
        _distance((m[:, None], s[:, None]), (mean, spread))
        for m, s in zip(mean.split(rows), spread.split(rows), strict=True)
    ])  # fmt: skip


def mean_overlap(q: Distribution) -> Measure:
    """Mean Bhattacharyya coefficient of two different examples, between 0 (all apart) and 1 (all the same).

    Args:
        q: posteriors of the examples, batch shape `(N,)`.
    """
    return mean_over_pairs(torch.exp(-pairwise_distances(q)), "coefficient")


def mean_over_pairs(values: Tensor, unit: str) -> Measure:
    """Mean of a symmetric function of two different examples; its error is over the choice of examples, by jackknife.

    Args:
        values: `(N, N)`, symmetric; the diagonal is not looked at.
        unit: of the values.

    Raises:
        DataError: there are not two examples.
    """
    count = len(values)
    if count < 2:
        raise DataError(f"Pairs need two examples, not {count}. Pass more examples.")
    means = (values.sum(1) - values.diagonal()) / (count - 1)  # of each example with all others
    value = float(means.mean())
    error = (
        2 / (count - 2) * math.sqrt((count - 1) / count * float((means - value).square().sum()))
        if count > 2
        else math.nan
    )
    return Measure(value, error, unit, Kind.ESTIMATE)


def aggregated_posterior(q: Distribution) -> MixtureSameFamily:
    """q(z), the equal mixture of the N posteriors, a distribution over one latent."""
    even = Categorical(logits=torch.zeros(q.batch_shape, device=q.mean.device))
    return MixtureSameFamily(even, q, validate_args=False)


def index_information(q: Distribution, draws: int = 16) -> Measure:
    """I_q(n; z): what a latent tells of which of the N examples it was drawn for; between 0 and ln N.

    The expectation over z is by Monte Carlo and its standard error is of that alone; the mixture is over all N.

    Args:
        q: posteriors of the examples, batch shape `(N,)`.
        draws: latents drawn for each example, at least 2.
    """
    z, log_mixture = _drawn(q, draws)
    return over_draws(q.log_prob(z) - log_mixture)


def aggregated_divergence(q: Distribution, p: Distribution, draws: int = 16) -> Measure:
    """KL(q(z) || p(z)) of the aggregated posterior from the prior; arguments and error as for `index_information`.

    Args:
        q: posteriors of the examples, batch shape `(N,)`.
        p: prior, batch shape `()`.
        draws: latents drawn for each example, at least 2.
    """
    z, log_mixture = _drawn(q, draws)
    return over_draws(log_mixture - p.log_prob(z))


@torch.no_grad()
def _drawn(q: Distribution, draws: int) -> tuple[Tensor, Tensor]:
    """Latents, `(draws, N, *event)`, and ln q(z) at each of them, `(draws, N)`."""
    if draws < 2:
        raise DataError(f"A standard error needs two draws or more for each example, not {draws}. Pass draws=2.")
    z = q.sample((draws,))
    flat = z.flatten(0, 1)
    at_once = max(1, AT_ONCE // (flat[0].numel() * z.shape[1]))
    mixture = aggregated_posterior(q)
    return z, torch.cat([mixture.log_prob(part) for part in flat.split(at_once)]).unflatten(0, z.shape[:2])
