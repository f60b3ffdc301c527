"""The rate of a noisy channel in three parts, estimated from a batch.

With q(z) the mean of all posteriors and a prior that is a product over latent units (Chen et al. 2018,
arXiv:1802.04942),

    E_y KL(q(z | y) || p(z)) = I_q(n; z) + KL(q(z) || prod_j q(z_j)) + sum_j KL(q(z_j) || p(z_j)):

index-code information, total correlation, dimension-wise KL. Each needs ln q(z), a mean over all N examples of which a
batch holds M. An estimator is a table of weights: `q(z_i) ~ sum_k w_ik q(z_i | y_k)` over the batch that z_i came from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from rdae.errors import DataError, ModelError

__all__ = [
    "ESTIMATORS", "LatentParts", "LogWeights", "decomposed", "log_aggregate", "minibatch_stratified",
    "minibatch_weighted",
]  # fmt: skip

AT_ONCE = 1 << 23  # log-densities held together
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
LogWeights = Callable[[int, int], Tensor]  # batch M and examples N to ln w, (M, M)


class LatentParts(NamedTuple):
    """The parts of the rate at the latent of each example, nats, `(batch,)`; their sum is ln q(z | y) - ln p(z)."""

    index_information: Tensor  # ln q(z | y) - ln q(z)
    total_correlation: Tensor  # ln q(z) - sum_j ln q(z_j)
    dimension_wise: Tensor  # sum_j ln q(z_j) - ln p(z)


def minibatch_weighted(batch: int, examples: int) -> Tensor:
    """Minibatch-weighted sampling: ln of 1 / (N M) for every pair, `(M, M)`.

    Its mean over batches is not q(z) but `(q(z | y_i) + (M - 1) mean_others) / (N M)`, too small: a factor of N where
    the batch is the whole set, less where the example's own posterior dominates. In ln q(z) and in each ln q(z_j) the
    part of that which does not depend on z is a constant: gradients hardly see it, but total correlation comes out
    too large by up to (units - 1) ln N. To be reported take `minibatch_stratified`.

    Args:
        batch: M, examples of the batch.
        examples: N, of the whole set.

    Raises:
        DataError: the set is smaller than the batch.
    """
    _fits(batch, examples)
    return torch.full((batch, batch), -math.log(examples * batch), dtype=torch.float64)


def minibatch_stratified(batch: int, examples: int) -> Tensor:
    """Minibatch-stratified sampling: ln of 1 / N for an example itself, of (N - 1) / (N (M - 1)) for others, `(M, M)`.

    For a batch drawn without replacement the mean of the estimate of q(z), over all batches with the example in them,
    is q(z) exactly; where the batch is the whole set so is the estimate. Its logarithm is too small on average, as
    that of any estimate is (Jensen), the more the fewer posteriors of the batch reach z: then ln q(z) stays near
    ln q(z | y) - ln N. The source gives one of the others another weight than the rest; the even weights here are the
    mean over which one it is, equal in expectation and never noisier.

    Args, errors: as for `minibatch_weighted`.
    """
    _fits(batch, examples)
    others = math.log((examples - 1) / (examples * (batch - 1))) if batch > 1 else -math.inf
    log_weights = torch.full((batch, batch), others, dtype=torch.float64)
    return log_weights.fill_diagonal_(-math.log(examples))


ESTIMATORS: dict[str, LogWeights] = {"mws": minibatch_weighted, "mss": minibatch_stratified}


def log_aggregate(q: Distribution, z: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Estimates of ln q(z) and of sum_j ln q(z_j) at each latent, in nats, `(batch,)` each.

    Args:
        q: posteriors of the batch, independent Gaussians, batch shape `(batch,)`.
        z: one latent of each, `(batch, *latent)`.
        log_weights: ln w, `(batch, batch)`; row i is of z_i.

    Raises:
        ModelError: the posteriors are no independent Gaussians.
    """
    mean, std = _diagonal(q)
    kind = torch.promote_types(z.dtype, torch.float32)
    mean, log_std, z = (x.to(kind).flatten(1) for x in (mean, std.log(), z))
    rows = max(1, AT_ONCE // mean.numel())
    joint, product = [], []
    for part, own in zip(z.split(rows), log_weights.to(z).split(rows), strict=True):
        scaled = (part[:, None] - mean) * torch.exp(-log_std)
        log_density = -0.5 * scaled.square() - log_std - HALF_LOG_TWO_PI  # of each unit, (rows, batch, units)
        joint.append(torch.logsumexp(log_density.sum(2) + own, 1))
        product.append(torch.logsumexp(log_density + own[..., None], 1).sum(1))
    return torch.cat(joint), torch.cat(product)


def decomposed(q: Distribution, p: Distribution, z: Tensor, log_weights: Tensor) -> LatentParts:
    """The three parts of the rate at one latent of each example.

    Args:
        q, z, log_weights: as for `log_aggregate`.
        p: prior, batch shape `()`. The last part is a sum of divergences where p is a product over units.

    Raises:
        ModelError: the posteriors are no independent Gaussians.
    """
    joint, product = log_aggregate(q, z, log_weights)
    return LatentParts(q.log_prob(z) - joint, joint - product, product - p.log_prob(z))


def _diagonal(q: Distribution) -> tuple[Tensor, Tensor]:
    if not (isinstance(q, Independent) and isinstance(q.base_dist, Normal)):
        raise ModelError(
            f"The law of a single unit is needed, but the posteriors are {type(q).__name__}. Use a GaussianChannel."
        )
    return q.base_dist.loc, q.base_dist.scale


def _fits(batch: int, examples: int) -> None:
    if not 1 <= batch <= examples:
        raise DataError(f"A batch of {batch} from {examples} examples. Choose a batch no larger than the data.")
