"""One trade between rate and squared error, as each lecture and the beta-VAE write its multiplier.

| property | objective, R for the rate, D for the squared error `sum (y - y_hat)**2` | unit | from `lam` |
|---|---|---|---|
| `lam` | R + lam D: this package, noisy-channel autoencoders | nats per u**2 | lam |
| `lam_bits` | R_bits + lam_bits D: rate-distortion autoencoders with rounding | bits per u**2 | lam / ln 2 |
| `vae_lam` | R + (vae_lam / 2) D: the lecture on VAEs, in nats | nats per u**2 | 2 lam |
| `vae_lam_bits` | R_bits + (vae_lam_bits / 2) D: the same in code lengths | bits per u**2 | 2 lam / ln 2 |
| `sigma` | R - ln p(y given z), Gaussian of standard deviation sigma | u | 1 / sqrt(2 lam) |
| `beta` | D / 2 + beta R: beta-VAE whose decoder has standard deviation 1 u | u**2 per nat | 1 / (2 lam) |

u is the unit of y; D is a sum over the elements of an example, never a mean. The six objectives have gradients of the
same direction: those in bits are 1 / ln 2 times that of the first, the last is beta times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rdae.errors import ModelError
from rdae.objectives import BITS_PER_NAT

__all__ = ["Multipliers"]


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ModelError(
            f"{name} is {value}, but every multiplier of a trade is positive and finite. "
            f"Pass {name} > 0; for one term alone use it without a multiplier."
        )
    return float(value)


@dataclass(frozen=True)
class Multipliers:
    """All forms of one multiplier: make it from the one you know, read the one you need.

    `Multipliers.from_beta(4.0).lam` is 0.125. See the module for the objective that each form belongs to.

    Args:
        lam: weight of squared error beside a rate in nats, in nats per squared unit of y.
    """

    lam: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", _positive("lam", self.lam))

    @classmethod
    def from_lam_bits(cls, lam_bits: float) -> Multipliers:
        """From the weight of squared error beside a rate in bits."""
        return cls(_positive("lam_bits", lam_bits) / BITS_PER_NAT)

    @classmethod
    def from_vae_lam(cls, vae_lam: float) -> Multipliers:
        """From the weight of half the squared error beside a rate in nats."""
        return cls(_positive("vae_lam", vae_lam) / 2)

    @classmethod
    def from_vae_lam_bits(cls, vae_lam_bits: float) -> Multipliers:
        """From the weight of half the squared error beside code lengths in bits."""
        return cls(_positive("vae_lam_bits", vae_lam_bits) / (2 * BITS_PER_NAT))

    @classmethod
    def from_sigma(cls, sigma: float) -> Multipliers:
        """From the standard deviation of a Gaussian decoder, in units of y."""
        sigma = _positive("sigma", sigma)
        return cls(0.5 / sigma / sigma)

    @classmethod
    def from_beta(cls, beta: float) -> Multipliers:
        """From the weight of the rate in nats beside half the squared error."""
        return cls(0.5 / _positive("beta", beta))

    @property
    def lam_bits(self) -> float:
        """Weight of squared error beside a rate in bits, `lam / ln 2`: bits per squared unit of y."""
        return self.lam * BITS_PER_NAT

    @property
    def vae_lam(self) -> float:
        """Weight of half the squared error beside a rate in nats, `1 / sigma**2`: nats per squared unit of y."""
        return 2 * self.lam

    @property
    def vae_lam_bits(self) -> float:
        """Weight of half the squared error beside code lengths, `1 / (sigma**2 ln 2)`: bits per squared unit of y."""
        return 2 * self.lam * BITS_PER_NAT

    @property
    def sigma(self) -> float:
        """Standard deviation of the Gaussian decoder whose `-ln p(y | z)` is `lam D` and a constant, in units of y."""
        return 1 / math.sqrt(2 * self.lam)

    @property
    def beta(self) -> float:
        """Weight of the rate beside half the squared error, `1 / (2 lam) = sigma**2`: squared units of y per nat.

        A beta-VAE whose decoder has another standard deviation s reaches this trade at `beta / s**2`.
        """
        return 0.5 / self.lam
