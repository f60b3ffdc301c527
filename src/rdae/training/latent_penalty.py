"""What a recipe may charge for the law of the latents as a whole, beside the rate of each example.

All compare the aggregated posterior q(z), of which a batch of latents is a sample, with another law: the prior, or the
product of its own marginals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.channels.deterministic import Point as Noiseless
from rdae.decomposition import LogWeights, decomposed, minibatch_stratified
from rdae.errors import DataError
from rdae.measures.independence import dhsic_penalty, product_of_marginals
from rdae.measures.mmd import WAE_SCALES, Kernel, inverse_multiquadric, mmd, mmd_penalty, rbf
from rdae.training.recipe import Point

__all__ = [
    "KERNELS", "Dependence", "LatentPenalty", "MarginalDiscrepancy", "PriorDiscrepancy", "WeighedParts",
    "against_marginals", "against_prior", "latent_point",
]  # fmt: skip

LOOKED_AT = 1000  # held-out examples whose posteriors are mixed; cost grows with the square
LEAST = 4  # latents, for an estimate with an error


class LatentPenalty(Protocol):
    """`(q, p, z) -> scalar` in nats, weight included."""

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """The penalty of a batch.

        Args:
            q: posteriors, batch shape `(batch,)`.
            p: prior, batch shape `()`.
            z: one latent of each posterior, `(batch, *latent)`.
        """
        ...


KERNELS: dict[str, Callable[[int], Kernel]] = {  # by the number of latent units; E|z - z'|^2 = 2 d under N(0, I)
    "inverse_multiquadric": lambda units: inverse_multiquadric(2.0 * units, WAE_SCALES),
    "rbf": lambda units: rbf(math.sqrt(units), (0.25, 0.5, 1.0, 2.0)),
}


@dataclass(frozen=True)
class PriorDiscrepancy:
    """`weight * MMD^2(q(z), p(z))`, unbiased, against as many draws of the prior (WAE-MMD)."""

    weight: float
    kernel: Kernel

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        return self.weight * mmd_penalty(z.flatten(1), _draws(p, len(z)), self.kernel)


@dataclass(frozen=True)
class MarginalDiscrepancy:
    """`weight * MMD^2(q(z), prod_j q(z_j))`, unbiased; one half of a batch stands for each law."""

    weight: float
    kernel: Kernel

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        return self.weight * mmd_penalty(*against_marginals(p, z.flatten(1)), self.kernel)


@dataclass(frozen=True)
class Dependence:
    """`weight * dHSIC(z)`: 0 for independent units alone, and too large by some c / batch."""

    weight: float

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        return self.weight * dhsic_penalty(z.flatten(1))


@dataclass(frozen=True)
class WeighedParts:
    """What beta-TCVAE charges beyond the rate, `(alpha - 1) I + (beta - 1) TC + (gamma - 1) dimension-wise KL`.

    Added to the rate in closed form the three weights are alpha, beta and gamma; where all are 1 nothing is left to
    estimate.

    Args:
        alpha, beta, gamma: of index-code information, total correlation and dimension-wise KL.
        log_weights: how ln q(z) is estimated, see `rdae.decomposition`.
        examples: of the whole data set.
    """

    alpha: float
    beta: float
    gamma: float
    log_weights: LogWeights
    examples: int

    def __call__(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        parts = decomposed(q, p, z, self.log_weights(len(z), max(self.examples, len(z))))
        beyond = [weight - 1 for weight in (self.alpha, self.beta, self.gamma)]
        return sum((w * part.mean() for w, part in zip(beyond, parts, strict=True) if w), z.new_zeros(()))


def _draws(p: Distribution, count: int) -> Tensor:
    return p.sample((count,)).flatten(1)


def against_prior(p: Distribution, z: Tensor) -> tuple[Tensor, Tensor]:
    """Latents, and as many draws of the prior: the contrast of a WAE-GAN."""
    return z, _draws(p, len(z))


def against_marginals(p: Distribution, z: Tensor) -> tuple[Tensor, Tensor]:
    """One half of the latents, and the other half with its units permuted against each other: that of a FactorVAE.

    Raises:
        DataError: half a batch holds fewer latents than a latent has units.
    """
    half = len(z) // 2
    if half < z.shape[1]:
        raise DataError(
            f"Half a batch of {len(z)} is too small to permute {z.shape[1]} latent units: every unit is taken from an "
            f"example of its own. Choose a batch of {2 * z.shape[1]} or more."
        )
    return z[:half], product_of_marginals(z[half : 2 * half], torch.default_generator)


@torch.no_grad()
def latent_point(model: NoisyChannelAutoencoder, y: Tensor) -> Point:
    """Measures of q(z) of held-out examples: MMD^2 from the prior, and the parts of the rate.

    The parts are those of the set at hand, whose posteriors are mixed in full; a channel without noise has none.
    """
    y = y[:LOOKED_AT]
    q, p = model.posterior(y), model.code()
    z = q.sample()
    point: Point = {}
    if len(z) >= LEAST:
        units = z.flatten(1).shape[1]
        point["prior_mmd"] = mmd(z.flatten(1), _draws(p, len(z)), inverse_multiquadric(2.0 * units)).value
    if not isinstance(q, Noiseless):
        parts = decomposed(q, p, z, minibatch_stratified(len(z), len(z)))
        point |= {f"{name}_nats": float(part.mean()) for name, part in parts._asdict().items()}
    return point
