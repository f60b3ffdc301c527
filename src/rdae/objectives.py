"""Objectives: how the terms of a model become one number to minimise, in nats.

Both halves of the package meet here. A rounding codec minimises `rate + lam * distortion`; so does a noisy-channel
autoencoder, whose rate is `ln q(z | y) - ln p(z)`. With `lam = 1` and distortion `-ln p(y | z)` the sum is the negative
of the evidence lower bound (ELBO) of a variational autoencoder.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from rdae.errors import ShapeError

__all__ = [
    "BITS_PER_NAT", "LogJoint", "Terms", "divergence", "doubly_reparameterised_bound", "elbo_from_entropy",
    "elbo_from_evidence", "elbo_from_rate", "importance_bound", "rate_distortion", "sampled_divergence",
    "score_function_bound",
]  # fmt: skip

BITS_PER_NAT = 1 / math.log(2)


class Terms(NamedTuple):
    """The two terms, apart: a sum of them means little without its parts."""

    rate: Tensor  # nats per example, (batch,)
    distortion: Tensor  # per example, in the unit of the distortion, (batch,)


class LogJoint(NamedTuple):
    """Log-densities at latents drawn from q(z | y), in nats, `(samples, batch)` each."""

    likelihood: Tensor  # ln p(y | z)
    prior: Tensor  # ln p(z)
    posterior: Tensor  # ln q(z | y)
    latent: Tensor  # z, (samples, batch, *event)

    @property
    def log_weight(self) -> Tensor:
        """`ln p(y, z) - ln q(z | y)`, the logarithm of the importance weight."""
        return self.likelihood + self.prior - self.posterior


def rate_distortion(terms: Terms, lam: Tensor | float) -> Tensor:
    """`rate + lam * distortion` of each example, in nats; the expectation over data covers both terms.

    Args:
        terms: rate and distortion of each example.
        lam: one number, or one per example `(batch,)`, in nats per unit of distortion. Large: low distortion.
    """
    if terms.rate.shape != terms.distortion.shape:
        raise ShapeError(
            f"rate is {tuple(terms.rate.shape)} but distortion is {tuple(terms.distortion.shape)}. "
            "Both must hold one number per example: sum over the other dimensions."
        )
    return terms.rate + lam * terms.distortion


def divergence(q: Distribution, p: Distribution, z: Tensor | None = None) -> Tensor:
    """Rate of a noisy channel, KL(q(z | y) || p(z)), of each example in nats: in closed form, or else at one sample.

    Averaged over data this is the cross mutual information I(y, z, p), never below I(y; z).

    Args:
        q: law of the latent of each example, batch shape `(batch,)`.
        p: prior, batch shape `()`.
        z: `(batch, *event)` drawn from q, for pairs without a closed form.

    Raises:
        NotImplementedError: there is no closed form, and no z.
    """
    try:
        return kl_divergence(*_comparable(q, p)).expand(q.batch_shape)
    except NotImplementedError:
        if z is None:
            raise
        return q.log_prob(z) - p.log_prob(z)


def _comparable(q: Distribution, p: Distribution) -> tuple[Distribution, Distribution]:
    """The two laws, a diagonal Gaussian written with a matrix where the other has one."""
    correlated = MultivariateNormal, LowRankMultivariateNormal
    if isinstance(q, correlated) == isinstance(p, correlated):
        return q, p
    return _with_matrix(q), _with_matrix(p)


def _with_matrix(law: Distribution) -> Distribution:
    if isinstance(law, Independent) and isinstance(law.base_dist, Normal) and len(law.event_shape) == 1:
        return MultivariateNormal(law.mean, scale_tril=torch.diag_embed(law.stddev), validate_args=False)
    return law


def sampled_divergence(q: Distribution, p: Distribution, samples: int) -> tuple[Tensor, Tensor]:
    """Monte-Carlo estimate of `divergence` and its standard error, `(batch,)` each, from `samples` draws of q."""
    z = q.rsample((samples,))
    ratio = q.log_prob(z) - p.log_prob(z)
    return ratio.mean(0), ratio.std(0) / math.sqrt(samples)


def importance_bound(log_weight: Tensor) -> Tensor:
    """`ln (1/K) sum_k w_k` of each example from `(K, batch)` log-weights: a lower bound on ln p(y), tighter with K.

    K = 1 is the ELBO at one sample (Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519).
    """
    return torch.logsumexp(log_weight, 0) - math.log(log_weight.shape[0])


def doubly_reparameterised_bound(joint: LogJoint) -> Tensor:
    """`importance_bound` whose gradient for the encoder has no score term (Tucker et al. 2019, arXiv:1810.04152).

    The plain gradient for the encoder drowns in noise as K grows; this one does not. Both are unbiased.

    Args:
        joint: with q frozen where its density is read (`log_joint(..., frozen=True)`), z still depending on it.
    """
    weights = joint.log_weight.detach().softmax(0)
    if joint.latent.requires_grad:
        shape = (*weights.shape, *(1,) * (joint.latent.ndim - 2))
        joint.latent.register_hook(lambda gradient: gradient * weights.view(shape))
    surrogate = (weights * joint.log_weight).sum(0)
    return surrogate + (importance_bound(joint.log_weight) - surrogate).detach()


def score_function_bound(joint: LogJoint) -> Tensor:
    """The ELBO whose gradient for the encoder is the score-function estimate (REINFORCE), as a control.

    Args:
        joint: of at least two samples, drawn without a pathwise gradient; each is the others' baseline.
    """
    weight = joint.log_weight
    count = weight.shape[0]
    if count < 2:
        raise ShapeError("The score-function estimate needs two samples or more: each is the baseline of the others.")
    signal = weight.detach()
    baseline = (signal.sum(0) - signal) / (count - 1)
    bound = joint.likelihood + joint.prior + (signal - baseline) * joint.posterior
    return bound.mean(0) + (weight.mean(0) - bound.mean(0)).detach()


def elbo_from_entropy(log_joint: Tensor, entropy: Tensor) -> Tensor:
    """First form, `E_q ln p(z, y) + H(q)`: what sampling can climb. `log_joint` holds samples first, `(K, batch)`."""
    return log_joint.mean(0) + entropy


def elbo_from_evidence(log_evidence: Tensor, gap: Tensor) -> Tensor:
    """Second form, `ln p(y) - KL(q(z | y) || p(z | y))`: what shows that it is a bound; needs the true posterior."""
    return log_evidence - gap


def elbo_from_rate(log_likelihood: Tensor, rate: Tensor) -> Tensor:
    """Third form, `E_q ln p(y | z) - KL(q(z | y) || p(z))`: minus distortion, minus rate."""
    return log_likelihood.mean(0) - rate
