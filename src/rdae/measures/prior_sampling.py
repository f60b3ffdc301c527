"""ln p(y) by naive Monte Carlo, the mean of p(y | z) over the prior, and how many draws that takes.

The mean is unbiased for p(y), so its logarithm is biased low. Its relative variance with n draws is `chi^2 / n`, with
the chi-square divergence of the posterior from the prior, and the draws it takes grow like `exp(KL(p(z | y) || p(z)))`
(Chatterjee & Diaconis 2018, arXiv:1511.01437): exponential in the rate, and so in the number of latent variables used.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from rdae.distortions import Distortion
from rdae.measures.latent_model import Generating, as_likelihood, latent_model, prior_draws
from rdae.measures.measure import Kind, Measure, mean_of
from rdae.measures.overlap import gaussian_parameters

__all__ = ["PriorEstimate", "log_second_moment", "prior_log_evidence", "prior_log_likelihood"]

AT_ONCE = 1 << 19  # elements decoded together


class PriorEstimate(NamedTuple):
    """Of each example, `(n,)`, float64."""

    log_evidence: Tensor  # nats; in expectation a lower bound on ln p(y)
    effective_samples: Tensor  # (sum w)^2 / sum w^2; near 1 the estimate rests on one draw and is far too low


@torch.no_grad()
def prior_log_evidence(
    model: Generating, y: Tensor, samples: int, *, distortion: Distortion | None = None, seed: int = 0
) -> PriorEstimate:
    """`ln (1/K) sum_k p(y | z_k)`, z_k ~ p(z), of each example; all examples share the draws.

    Args:
        model: any that generates, in `eval()` mode.
        y: `(n, *event)`.
        samples: K.
        distortion: a likelihood of y given what the model shows, where the model has none of its own.
        seed: of the draws; PyTorch's own generator is left as it was.

    Raises:
        ModelError: there is no likelihood.
    """
    target = latent_model(model, distortion)
    law = as_likelihood(target)
    generator = torch.Generator(y.device).manual_seed(seed)
    total = torch.full((len(y),), -math.inf, dtype=torch.float64, device=y.device)
    squares = total.clone()
    decoded = max(1, min(samples, AT_ONCE // y[0].numel()))
    for start in range(0, samples, decoded):
        out = target.decoder(prior_draws(target.prior, min(decoded, samples - start), generator))
        for k, example in enumerate(y):
            log_weight = -law(example.expand(len(out), *example.shape), out).double()
            total[k] = torch.logaddexp(total[k], torch.logsumexp(log_weight, 0))
            squares[k] = torch.logaddexp(squares[k], torch.logsumexp(2 * log_weight, 0))
    return PriorEstimate(total - math.log(samples), torch.exp(2 * total - squares))


def prior_log_likelihood(
    model: Generating, y: Tensor, samples: int, *, distortion: Distortion | None = None, seed: int = 0
) -> Measure:
    """Mean of `prior_log_evidence` over examples: a lower bound on the mean ln p(y), in nats per example.

    The error is over examples; that they share the draws is not in it.
    """
    nats = prior_log_evidence(model, y, samples, distortion=distortion, seed=seed).log_evidence
    return mean_of(nats, "nats per example", Kind.LOWER)


@torch.no_grad()
def log_second_moment(posterior: Distribution) -> Tensor:
    """`ln (1 + chi^2)` of Gaussian posteriors from the prior N(0, I), `(n,)`, float64.

    A naive estimate of p(y) with n draws has the relative variance `chi^2 / n`: about `exp` of this number of draws
    are needed before its relative error is 1. With precision P and mean m it is
    `ln det P - ln det(2 P - I) / 2 + m^T (2 P - I)^-1 P m`; infinite where a posterior is so wide, P < I / 2, that
    the variance is.

    Args:
        posterior: Gaussian, batch shape `(n,)`.

    Raises:
        ModelError: it is not Gaussian.
    """
    mean, spread = gaussian_parameters(posterior)
    factor = spread if spread.ndim > mean.ndim else torch.diag_embed(spread)
    precision = torch.cholesky_inverse(factor)
    doubled = 2 * precision - torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
    volume = torch.logdet(precision) - 0.5 * torch.logdet(doubled)
    pull = (mean * torch.linalg.solve(doubled, precision @ mean[..., None])[..., 0]).sum(-1)
    finite = torch.linalg.eigvalsh(doubled).amin(-1) > 0
    return torch.where(finite, volume + pull, math.inf)
