"""Generation in place of search: the posterior an encoder computes at once, against one searched for each example.

The distance of the bound from ln p(y) has two parts (Cremer, Li & Duvenaud 2018, arXiv:1801.03558):

    ln p(y) - ELBO = [ln p(y) - best ELBO of the channel's family] + [best ELBO - ELBO of the encoder]

the approximation gap and the amortisation gap.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import torch
from torch import Tensor

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.measures.latent_model import as_likelihood, latent_model
from rdae.measures.measure import Kind, Measure, mean_of
from rdae.objectives import divergence

__all__ = ["Amortisation", "amortisation"]

AT_ONCE = 1 << 19  # elements decoded together
SELECTION = 64  # draws that decide whether a search has found anything
UNIT = "nats per example"


class Amortisation(NamedTuple):
    """Bounds of the same examples by generation and by search, in nats, `(n,)`, float64; and seconds for all of them.

    Both are judged by fresh draws, the same for both.
    """

    generated: Tensor  # ELBO at the encoder's posterior
    searched: Tensor  # ELBO at the posterior found for the example
    generation_seconds: float  # the encoder, once
    search_seconds: float

    def generated_bound(self) -> Measure:
        """Mean bound of the encoder."""
        return mean_of(self.generated, UNIT, Kind.LOWER)

    def searched_bound(self) -> Measure:
        """Mean bound after the search."""
        return mean_of(self.searched, UNIT, Kind.LOWER)

    def gap(self) -> Measure:
        """Mean of searched minus generated: what amortisation loses, at least, for search may not have ended."""
        return mean_of(self.searched - self.generated, UNIT, Kind.LOWER)

    def approximation_gap(self, log_evidence: Tensor) -> Measure:
        """Mean of ln p(y) minus the searched bound: what the channel's family loses.

        Args:
            log_evidence: ln p(y) of the same examples, `(n,)`, such as `annealed_log_evidence`.
        """
        return mean_of(log_evidence.detach().double() - self.searched, UNIT, Kind.ESTIMATE)


def amortisation(
    model: NoisyChannelAutoencoder,
    y: Tensor,
    *,
    steps: int = 500,
    draws: int = 8,
    learning_rate: float = 0.02,
    samples: int = 256,
    seed: int = 0,
) -> Amortisation:
    """The encoder's bound against that of posteriors searched for each example by itself.

    The search starts at the encoder's output and moves it by Adam, its step falling to zero as a half cosine. So what
    is searched is what the model's channel can express: mean and ln std of a `GaussianChannel`, a full covariance of
    a `FullGaussianChannel`. The model is left as it is.

    Args:
        model: in `eval()` mode, with a likelihood.
        y: `(n, *event)`.
        steps: of the search.
        draws: of the posterior in each step.
        learning_rate: of the first step, in units of the encoder's output.
        samples: of the posterior when the bounds are judged.
        seed: of all draws; PyTorch's own generator is left as it was.

    Raises:
        ModelError: the distortion is no likelihood.
    """
    as_likelihood(latent_model(model))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        with torch.no_grad():
            began = _time(y)
            h = model.encoder(y)
            model.channel(h)
            generation = _time(y) - began
        began = _time(y)
        found = torch.cat([
            _searched(model, part, start, steps, draws, learning_rate)
            for part, start in zip(_split(y, y, draws), _split(h, y, draws), strict=True)
        ])  # fmt: skip
        search = _time(y) - began
        torch.manual_seed(seed + 1)
        generated = _judged(model, y, h, samples)
        torch.manual_seed(seed + 1)
        searched = _judged(model, y, found, samples)
    return Amortisation(generated, searched, generation, search)


def _time(y: Tensor) -> float:
    """Seconds on a clock, read when the device of y has done all it was asked for."""
    if y.device.type != "cpu":
        torch.accelerator.synchronize(y.device)
    return time.perf_counter()


def _split(x: Tensor, y: Tensor, draws: int) -> tuple[Tensor, ...]:
    return x.split(max(1, AT_ONCE // (draws * y[0].numel())))


def _bound(model: NoisyChannelAutoencoder, y: Tensor, h: Tensor, draws: int) -> Tensor:
    """The ELBO of each example at the law that the channel makes of h, over `draws`; the rate in closed form."""
    q, p = model.channel(h), model.code()
    z = q.rsample((draws,))
    repeated = y.expand(draws, *y.shape).flatten(0, 1)
    distortion = model.distortion(repeated, model.decoder(z.flatten(0, 1))).unflatten(0, (draws, -1)).mean(0)
    try:
        rate = divergence(q, p)
    except NotImplementedError:
        rate = torch.stack([divergence(q, p, one) for one in z]).mean(0)
    return -(rate + distortion)


def _searched(
    model: NoisyChannelAutoencoder, y: Tensor, start: Tensor, steps: int, draws: int, learning_rate: float
) -> Tensor:
    """What the encoder should have computed; `start`, what it did compute, where draws of their own prefer that."""
    h = start.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([h], lr=learning_rate, betas=(0.9, 0.99))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.5 * learning_rate * (1 + math.cos(math.pi * step / steps))
        (h.grad,) = torch.autograd.grad(-_bound(model, y, h, draws).sum(), h)
        optimizer.step()
    at_start, at_end = (_judged(model, y, at, SELECTION) for at in (start, h.detach()))
    better = (at_end > at_start).view(-1, *(1,) * (h.ndim - 1))
    return torch.where(better, h.detach(), start)


@torch.no_grad()
def _judged(model: NoisyChannelAutoencoder, y: Tensor, h: Tensor, samples: int) -> Tensor:
    return torch.cat([
        _bound(model, part, at, samples).double()
        for part, at in zip(_split(y, y, samples), _split(h, y, samples), strict=True)
    ])  # fmt: skip
