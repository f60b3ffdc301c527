"""The mean rate of N examples in three parts (Chen et al. 2018, arXiv:1802.04942; Hoffman & Johnson 2016).

With q(z) the equal mixture of all N posteriors and a prior that is a product over coordinates,

    mean KL(q(z | y_n) || p(z)) = I_q(n; z) + KL(q(z) || prod_j q(z_j)) + sum_j KL(q(z_j) || p(z_j)):

what a latent tells of the index of its example, the total correlation of the aggregated posterior, and how far each
coordinate is from its prior. For estimates from batches, to be trained with, see `rdae.decomposition`.
"""

from __future__ import annotations

import math
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, LowRankMultivariateNormal, MultivariateNormal, Normal

from rdae.errors import DataError, ModelError, ShapeError
from rdae.measures.measure import Measure, over_draws
from rdae.measures.overlap import aggregated_posterior
from rdae.measures.pairs import AT_ONCE

__all__ = ["RateParts", "aggregated_total_correlation", "coordinates", "rate_parts"]


class RateParts(NamedTuple):
    """The parts of the mean rate, all from the same draws, so that they add up to `rate` exactly."""

    index_information: Measure  # I_q(n; z), 0 to ln N
    total_correlation: Measure  # KL(q(z) || prod_j q(z_j))
    dimension_wise: Measure  # sum_j KL(q(z_j) || p(z_j))
    rate: Measure  # their sum; its mean over draws is the mean of `rdae.objectives.divergence`


def coordinates(law: Distribution) -> Distribution:
    """The marginals of a law, one for each coordinate of its event: their batch shape is `(*batch, *event)`.

    Args:
        law: independent coordinates of any kind, or a Gaussian with a matrix.

    Raises:
        ModelError: the marginals have no closed form here.
    """
    if isinstance(law, MultivariateNormal | LowRankMultivariateNormal):
        return Normal(law.mean, law.stddev, validate_args=False)
    return _independent(law) or _refused(law, "marginals in closed form. Use posteriors with independent coordinates")


@torch.no_grad()
def rate_parts(q: Distribution, p: Distribution, draws: int = 16) -> RateParts:
    """The mean rate and its parts; the mixture is over all N posteriors, the expectation over z by Monte Carlo.

    Time grows with `draws * N**2` times the number of coordinates, memory with `draws * N` times that number.

    Args:
        q: posteriors of the examples, batch shape `(N,)`: independent coordinates, or Gaussians with a matrix.
        p: prior, batch shape `()`, its coordinates independent.
        draws: latents drawn for each example, at least 2.

    Returns:
        In nats per example; standard errors are over draws, with the examples as they are.

    Raises:
        ModelError: the prior does not factorise, or the posteriors have no marginals in closed form.
        ShapeError: the posteriors are no list, or of another event than the prior.
        DataError: fewer than two draws.
    """
    if _independent(p) is None:
        _refused(p, (
            "coordinates known to be independent, and KL(q(z) || p(z)) falls into total correlation and a KL of each "
            "coordinate only if p(z) = prod_j p(z_j). Use a factorised prior, or the two parts of "
            "rdae.measures.overlap, which hold for any prior"
        ))  # fmt: skip
    if p.batch_shape or p.event_shape != q.event_shape:
        raise ShapeError(
            f"The prior has batch shape {tuple(p.batch_shape)} and event shape {tuple(p.event_shape)}, but a latent is "
            f"{tuple(q.event_shape)}. Pass the prior of the same model; torch's Independent makes a batch an event."
        )
    z, joint, product = _log_densities(q, draws)
    own, prior = q.log_prob(z), p.log_prob(z)
    return RateParts(*(over_draws(v) for v in (own - joint, joint - product, product - prior, own - prior)))


@torch.no_grad()
def aggregated_total_correlation(q: Distribution, draws: int = 16) -> Measure:
    """KL(q(z) || prod_j q(z_j)) of the aggregated posterior, which needs no prior; 0 where coordinates are independent.

    Arguments and errors as for `rate_parts`.
    """
    _, joint, product = _log_densities(q, draws)
    return over_draws(joint - product)


def _independent(law: Distribution) -> Distribution | None:
    """The law of the coordinates where they are independent by construction."""
    if not law.event_shape:
        return law
    if isinstance(law, Independent) and not law.base_dist.event_shape:
        return law.base_dist
    return None


def _refused(law: Distribution, what: str) -> NoReturn:
    raise ModelError(f"A {type(law).__name__} has no {what}.")


def _log_densities(q: Distribution, draws: int) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, `(draws, N, *event)`, and ln q(z) and sum_j ln q(z_j) at each, `(draws, N)`."""
    if len(q.batch_shape) != 1:
        raise ShapeError(
            f"Posteriors have the batch shape {tuple(q.batch_shape)}. Pass those of all examples, (examples,)."
        )
    if draws < 2:
        raise DataError(f"A standard error needs two draws or more for each example, not {draws}. Pass draws=2.")
    marginals, mixture = coordinates(q), aggregated_posterior(q)
    count, factorised = q.batch_shape[0], _independent(q) is not None
    z = q.sample((draws,))
    joint, product = [], []
    for part in z.flatten(0, 1).split(max(1, AT_ONCE // (count * max(1, q.event_shape.numel())))):
        each = marginals.log_prob(part[:, None]).reshape(len(part), count, -1)  # (rows, N, coordinates)
        product.append((each.logsumexp(1) - math.log(count)).sum(1))
        joint.append(each.sum(2).logsumexp(1) - math.log(count) if factorised else mixture.log_prob(part))
    return z, torch.cat(joint).view(draws, count), torch.cat(product).view(draws, count)
