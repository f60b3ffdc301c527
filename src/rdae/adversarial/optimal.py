"""What the best critic would say of two known laws, and what the minimax game is then worth.

For laws P_r and P_g the best discriminator is `D* = P_r / (P_r + P_g)`, whose logit is `ln P_r - ln P_g`, and

    V(D, G) = E_{P_r} ln D(y) + E_z ln(1 - D(G(z))) = integral of [P_r ln D + P_g ln(1 - D)],
    V(D*, G) = -ln 4 + KL(P_r || M) + KL(P_g || M) = -ln 4 + 2 JS(P_r, P_g),  M = (P_r + P_g) / 2,

with 0 <= JS <= ln 2 (Goodfellow et al. 2014, arXiv:1406.2661). A log-density here maps points, `(n, d)`, to nats,
`(n,)`; for one variable use `Independent(Normal(...), 1)` with events of shape `(1,)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution

from rdae.errors import ModelError, ShapeError

__all__ = [
    "Grid", "LogDensity", "grid", "jensen_shannon", "jensen_shannon_draws", "optimal_discriminator", "optimal_logit",
    "value", "value_draws",
]  # fmt: skip

LogDensity = Callable[[Tensor], Tensor]
MASS_ERROR = 1e-3  # of a law on a grid, beyond which the grid is refused


class Grid(NamedTuple):
    """Centres of equal cells that tile a box."""

    points: Tensor  # (n, d), float64
    cell: float  # volume of one


def grid(low: Sequence[float], high: Sequence[float], count: int) -> Grid:
    """The midpoint rule on a box; for smooth densities that vanish at its sides the error falls exponentially.

    Args:
        low, high: corners, d numbers each; d is 1 or 2 in practice.
        count: cells along each axis.

    Raises:
        ShapeError: the corners have no side in common, or no length.
    """
    if len(low) != len(high) or any(a >= b for a, b in zip(low, high, strict=True)):
        raise ShapeError(f"A box needs low < high on each axis, but low is {list(low)} and high {list(high)}.")
    middle = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    axes = [a + (b - a) * middle for a, b in zip(low, high, strict=True)]
    points = torch.cartesian_prod(*axes).view(-1, len(axes))
    return Grid(points, math.prod((b - a) / count for a, b in zip(low, high, strict=True)))


def optimal_logit(real: LogDensity, fake: LogDensity, y: Tensor) -> Tensor:
    """Logit of D* at points y, `ln P_r(y) - ln P_g(y)`, `(n,)`."""
    return real(y) - fake(y)


def optimal_discriminator(real: LogDensity, fake: LogDensity, y: Tensor) -> Tensor:
    """`D*(y) = P_r(y) / (P_r(y) + P_g(y))`, the pointwise maximum of `P_r ln D + P_g ln(1 - D)`, `(n,)`."""
    return torch.sigmoid(optimal_logit(real, fake, y))


def value(real: LogDensity, fake: LogDensity, on: Grid, logit: LogDensity | None = None) -> float:
    """V(D, G) by quadrature, in nats.

    Args:
        real, fake: log-densities.
        on: a grid that holds both.
        logit: of a discriminator, `(n, d)` to `(n,)`; without it D*.

    Raises:
        ModelError: the grid misses part of a law.
    """
    log_real, log_fake = _densities(real, fake, on)
    f = log_real - log_fake if logit is None else logit(on.points)
    return on.cell * float((_weighted(log_real, F.logsigmoid(f)) + _weighted(log_fake, F.logsigmoid(-f))).sum())


def jensen_shannon(real: LogDensity, fake: LogDensity, on: Grid) -> float:
    """`JS = (KL(P_r || M) + KL(P_g || M)) / 2` by quadrature, in nats. Arguments and errors as for `value`."""
    log_real, log_fake = _densities(real, fake, on)
    middle = torch.logaddexp(log_real, log_fake) - math.log(2)
    both = _weighted(log_real, log_real - middle) + _weighted(log_fake, log_fake - middle)
    return on.cell * float(both.sum()) / 2


def value_draws(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """`ln D(y_i) + ln(1 - D(G(z_i)))` of each pair of draws, `(n,)`, in nats: independent, and V(D, G) in the mean.

    The push-forward form of V, which needs no density of generated examples. At any D the mean is a lower bound on
    `-ln 4 + 2 JS`; `rdae.measures.measure.mean_of` gives it its standard error.
    """
    if real_logits.shape != fake_logits.shape:
        raise ShapeError(
            f"real_logits is {tuple(real_logits.shape)} but fake_logits is {tuple(fake_logits.shape)}. "
            "Draw as many of each."
        )
    return F.logsigmoid(real_logits) + F.logsigmoid(-fake_logits)


@torch.no_grad()
def jensen_shannon_draws(real: Distribution, fake: Distribution, count: int) -> Tensor:
    """Independent draws, `(count,)`, whose mean is JS in nats; `rdae.measures.measure.mean_of` makes it a measure.

    Args:
        real, fake: laws to draw from, of one event shape, batch shape `()`.
        count: of each.
    """
    logits = (optimal_logit(real.log_prob, fake.log_prob, law.sample((count,))) for law in (real, fake))
    return (value_draws(*logits) + math.log(4)) / 2


def _weighted(log_density: Tensor, term: Tensor) -> Tensor:
    """`density * term`, zero where there is no density, whatever the term."""
    return torch.where(log_density > -math.inf, log_density.exp() * term, 0.0)


def _densities(real: LogDensity, fake: LogDensity, on: Grid) -> tuple[Tensor, Tensor]:
    densities = real(on.points), fake(on.points)
    for name, density in zip(("real", "generated"), densities, strict=True):
        mass = on.cell * float(density.exp().sum())
        if not abs(mass - 1) <= MASS_ERROR:
            raise ModelError(f"The grid holds {mass:.4f} of the {name} law and not 1. Use a wider or a finer grid.")
    return densities
