"""ln p(y) of latent-variable models."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.ladder import LadderAutoencoder
from rdae.measures.measure import Kind, Measure, mean_of

__all__ = ["active_units", "importance_log_likelihood", "log_evidence"]

AT_ONCE = 1 << 20  # elements of examples decoded together: what caches hold


@torch.no_grad()
def log_evidence(model: NoisyChannelAutoencoder | LadderAutoencoder, y: Tensor, samples: int) -> Tensor:
    """The importance-weighted estimate of ln p(y) of each example, in nats, `(batch,)`.

    `ln (1/K) sum_k p(y, z_k) / q(z_k | y)`: in expectation a lower bound that rises to ln p(y) with K (P30).

    Args:
        model: in `eval()` mode, with a likelihood.
        y: `(batch, *event)`.
        samples: K.
    """
    rows = []
    decoded = max(1, AT_ONCE // y[0].numel())
    most = max(1, decoded // samples)
    for part in y.split(most):
        total = torch.full((len(part),), -math.inf)
        for start in range(0, samples, decoded):
            count = min(decoded, samples - start)
            total = torch.logaddexp(total, torch.logsumexp(model.log_joint(part, count).log_weight, 0).cpu())
        rows.append(total - math.log(samples))
    return torch.cat(rows)


def importance_log_likelihood(
    model: NoisyChannelAutoencoder | LadderAutoencoder, y: Tensor, samples: int = 5000
) -> Measure:
    """Mean of `log_evidence` over examples; a lower bound on the mean ln p(y), in nats per example."""
    return mean_of(log_evidence(model, y, samples), "nats per example", Kind.LOWER)


@torch.no_grad()
def active_units(model: NoisyChannelAutoencoder | LadderAutoencoder, y: Tensor, threshold: float = 0.01) -> int:
    """Latent variables whose posterior mean varies over the data by more than `threshold` (variance).

    A unit that does not vary carries nothing (Burda, Grosse & Salakhutdinov 2016).
    """
    means = torch.cat([model.latent_means(part) for part in y.split(1000)])
    return int((means.var(0) > threshold).sum())
