"""Channels: what lies between the encoder's latent z and the decoder's z~.

A channel answers one call with two tensors, the value whose rate is charged and the value the decoder sees;
for most channels they are the same. In `eval()` mode every channel of this file rounds, which is what a file holds.

Rounding is `floor(z + 1/2)`: halves go up (0.5 -> 1, -0.5 -> 0, 1.5 -> 2, 2.5 -> 3), unlike `torch.round`,
which sends halves to even. `RateDistortionRounding` is the exception, in training and after: there halves go away
from zero, and with a prior to whichever neighbour costs less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

__all__ = [
    "Channel", "Coded", "Conditional", "Mixed", "RateDistortionRounding", "Rounding", "Sent", "StraightThrough",
    "UniformNoise", "round_half_up",
]  # fmt: skip


def round_half_up(z: Tensor) -> Tensor:
    """`floor(z + 1/2)`. Its gradient is zero everywhere."""
    return torch.floor(z + 0.5)


class Sent(NamedTuple):
    """What a channel made of a latent."""

    rate: Tensor  # where the prior is read
    decoder: Tensor  # what the decoder sees


class Coded(NamedTuple):
    """What a prior made of a latent: `prior(z, channel, lam)` returns this."""

    latent: Any  # what the decoder sees: a tensor or a list of tensors
    rate: Tensor  # nats per example, (batch,)


class LogMass(Protocol):
    """A density over whole numbers whose parameters broadcast against the symbols."""

    @property
    def log_prob(self) -> Callable[..., Tensor]:
        """`(q, *parameters) -> ln p(q)`, in nats, elementwise."""
        ...


class Conditional(NamedTuple):
    """A density and its parameters for each symbol."""

    density: LogMass
    parameters: tuple[Tensor, ...]

    def log_prob(self, q: Tensor) -> Tensor:
        """Log-probability in nats of each symbol."""
        return self.density.log_prob(q, *self.parameters)

    def at(self, mask: Tensor) -> Conditional:
        """The densities of the symbols where mask holds."""
        return Conditional(self.density, tuple(p[mask] for p in self.parameters))


class Channel(nn.Module):
    """Base: in `eval()` mode rounds; in `train()` mode does what the subclass says."""

    def relaxed(self, z: Tensor, mean: Tensor | float, prior: Conditional | None) -> Sent:
        """The training stand-in; same arguments as `forward`."""
        return self.rounded(z, mean, prior)

    def rounded(self, z: Tensor, mean: Tensor | float, prior: Conditional | None) -> Sent:
        """What a file holds: `mean + round(z - mean)`."""
        q = round_half_up(z - mean) + mean
        return Sent(q, q)

    def forward(self, z: Tensor, mean: Tensor | float = 0.0, prior: Conditional | None = None) -> Sent:
        """Sends z.

        Args:
            z: latent, any shape.
            mean: centre of the rounding grid; `z - mean` is what gets rounded.
            prior: density of each symbol, for channels that weigh bits while they round.
        """
        return self.relaxed(z, mean, prior) if self.training else self.rounded(z, mean, prior)


class Rounding(Channel):
    """True rounding, also in training: no gradient reaches the encoder."""


class UniformNoise(Channel):
    """Training: `z + u`, u uniform on (-1/2, 1/2) (Balle, Laparra & Simoncelli 2017)."""

    def relaxed(self, z: Tensor, mean: Tensor | float, prior: Conditional | None) -> Sent:
        noisy = z + torch.rand_like(z) - 0.5
        return Sent(noisy, noisy)


class StraightThrough(Channel):
    """Training: rounds, and passes the gradient as if it had not (Theis et al. 2017)."""

    def relaxed(self, z: Tensor, mean: Tensor | float, prior: Conditional | None) -> Sent:
        q = z + (round_half_up(z - mean) + mean - z).detach()
        return Sent(q, q)


class Mixed(Channel):
    """Training: noise for the rate, straight-through rounding for the decoder (Minnen & Singh 2020)."""

    def relaxed(self, z: Tensor, mean: Tensor | float, prior: Conditional | None) -> Sent:
        rounded = z + (round_half_up(z - mean) + mean - z).detach()
        return Sent(z + torch.rand_like(z) - 0.5, rounded)


class RateDistortionRounding(Channel):
    """Rounds to the nearest whole number or the next one toward zero, whichever costs less in all.

    The cost of symbol n is `weight * (z - n)**2 - ln p(n)`: the objective itself, one symbol at a time. For a
    step D and an orthonormal transform, squared error D**2 (z - n)**2 at `lam = weight / D**2` nats.
    No gradient reaches z.
    """

    def __init__(self, weight: float = 6.0) -> None:
        super().__init__()
        self.weight = weight

    @torch.no_grad()
    def rounded(self, z: Tensor, mean: Tensor | float, prior: Conditional | None) -> Sent:
        z = z - mean
        q = torch.sign(z) * torch.floor(z.abs() + 0.5)
        if prior is not None:
            candidates = q != 0
            z, nearest = z[candidates], q[candidates]
            lower = nearest - torch.sign(nearest)
            nats = -prior.at(candidates).log_prob(torch.stack([nearest, lower]))
            cost = self.weight * torch.stack([z - nearest, z - lower]).square() + nats
            q[candidates] = torch.where(cost[1] < cost[0], lower, nearest)
        return Sent(q + mean, q + mean)
