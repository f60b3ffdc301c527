"""A Gaussian channel seen from a latent space in which the prior is N(0, I)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, LowRankMultivariateNormal, MultivariateNormal, Normal

from rdae.channels.gaussian import NoisyChannel
from rdae.errors import ModelError
from rdae.networks.affine import LatentAffine

__all__ = ["StandardisedChannel", "standardised_law"]


def standardised_law(q: Distribution, affine: LatentAffine) -> Distribution:
    """The law of `z' = affine.inverse(z)` for Gaussian z; KL to the equally transformed prior stays what it was.

    Raises:
        ModelError: q is not Gaussian.
    """
    if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        mean, std = affine.inverse(q.base_dist.loc), q.base_dist.scale
        if not affine.full:
            return Independent(
                Normal(mean, std / affine.scale, validate_args=False), q.reinterpreted_batch_ndims, validate_args=False
            )
        return MultivariateNormal(mean, scale_tril=_solved(affine, torch.diag_embed(std)), validate_args=False)
    if isinstance(q, MultivariateNormal | LowRankMultivariateNormal):
        factor = q.scale_tril / affine.scale[:, None] if not affine.full else _solved(affine, q.scale_tril)
        return MultivariateNormal(affine.inverse(q.mean), scale_tril=factor, validate_args=False)
    raise ModelError(f"Only Gaussian channels can be standardised, but this one is a {type(q).__name__}.")


def _solved(affine: LatentAffine, factor: Tensor) -> Tensor:
    """`L^-1 factor`; lower triangular again."""
    return torch.linalg.solve_triangular(affine.scale, factor, upper=False)


class StandardisedChannel(NoisyChannel):
    """Another channel, its latent mapped by the inverse of `affine`."""

    def __init__(self, channel: NoisyChannel, affine: LatentAffine) -> None:
        super().__init__(channel.size)
        self.channel, self.affine = channel, affine
        self.features = channel.features

    def law(self, h: Tensor) -> Distribution:
        return standardised_law(self.channel.law(h), self.affine)
