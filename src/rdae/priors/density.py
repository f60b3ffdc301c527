"""A family of densities over one rounded symbol: the same numbers in training and in the coder's tables.

Member `(index, skew)` is a mixture of two logistics with a common mean. Its scale is
`SCALE_MIN * SCALE_RATIO**index`, its mean is `skew / SKEW_UNIT` scales. Symbol n stands for the interval
`[n - 1/2 + t, n + 1/2 + t]` (n > 0), mirrored for n < 0; the zero bin is `[-1/2 - t, 1/2 + t]`. t > 0 says
that the encoder rounds toward zero (a dead zone); t = 0 is plain rounding.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SCALE_MIN", "SCALE_RATIO", "SKEW_MAX", "SKEW_UNIT", "SymbolDensity", "log_difference_of_sigmoids"]

SCALE_MIN = 0.08
SCALE_RATIO = 1.18
SKEW_UNIT = 4  # means are multiples of a quarter scale ...
SKEW_MAX = 4  # ... up to one scale, unless a density is told otherwise


def log_difference_of_sigmoids(upper: Tensor, lower: Tensor) -> Tensor:
    """`ln(sigmoid(upper) - sigmoid(lower))` for upper > lower, exact in both tails."""
    # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a))
    return F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))


class SymbolDensity(nn.Module):
    """Mixtures of two logistics; tail weight, tail width and dead zone are quadratics in the scale index.

    Args:
        scales: number of scale indices.
        dead_zone: initial t; `None` fixes it at 0 (plain rounding).
        skew_max: largest skew.
    """

    def __init__(self, scales: int, *, dead_zone: float | None = 0.15, skew_max: int = SKEW_MAX) -> None:
        super().__init__()
        self.scales, self.skew_max = scales, skew_max
        self.tail_logit = nn.Parameter(torch.tensor([-1.5, 0.0, 0.0]))
        self.tail_width = nn.Parameter(torch.tensor([0.5, 0.0, 0.0]))
        self.zone = nn.Parameter(torch.tensor([dead_zone, 0.0, 0.0])) if dead_zone is not None else None

    def log_prob(self, q: Tensor, index: Tensor, skew: Tensor) -> Tensor:
        """Log-probability in nats of symbols q; all three broadcast; index and skew may be fractional."""
        index = index.clamp(0, self.scales - 1)
        x = index * (2 / (self.scales - 1)) - 1
        tail = _quadratic(self.tail_logit, x)
        width = 1 + F.softplus(_quadratic(self.tail_width, x))
        zone = _quadratic(self.zone, x).clamp(0, 0.45) if self.zone is not None else 0.0
        inverse = torch.exp(index * -math.log(SCALE_RATIO) - math.log(SCALE_MIN))
        mean = skew.clamp(-self.skew_max, self.skew_max) / SKEW_UNIT
        # bins of q < 0 mirror those of q > 0: reflect the mean, and only bins of q >= 0 are left to write down
        mean = torch.where(q < 0, -mean, mean)
        q = q.abs()
        upper = (q + 0.5 + zone) * inverse - mean
        lower = torch.where(q == 0, -0.5 - zone, q - 0.5 + zone) * inverse - mean
        core = log_difference_of_sigmoids(upper, lower)
        wide = log_difference_of_sigmoids(upper / width, lower / width)
        return torch.logaddexp(core - F.softplus(tail), wide - F.softplus(-tail))


def _quadratic(coefficients: Tensor, x: Tensor) -> Tensor:
    a, b, c = coefficients
    return a + x * (b + x * c)
