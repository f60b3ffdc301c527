"""Noise on a torus: a product of circles, a power spherical law on each.

On a circle that law is `(1 + cos(angle - mean))^kappa` with a known constant. A wrapped normal has an infinite series
for density and entropy, a von Mises law needs Bessel functions and rejection; here density, entropy and divergence from
the uniform law are exact, and draws carry gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from rdae.channels.gaussian import NoisyChannel
from rdae.channels.sphere import power_spherical, vectors

__all__ = ["TorusChannel", "angles_of", "on_circles"]


def on_circles(angles: Tensor) -> Tensor:
    """Points of circles, `(*, 2)`, from angles in radians, `(*)`."""
    return torch.stack([angles.cos(), angles.sin()], -1)


def angles_of(z: Tensor) -> Tensor:
    """Angles in radians, -pi to pi, `(*)`, of points in the plane, `(*, 2)`: latents of a torus, or their means."""
    return torch.atan2(z[..., 1], z[..., 0])


class TorusChannel(NoisyChannel):
    """Independent laws on circles; h holds for each of them a vector in the plane and the logit of the mean's length.

    A latent is `(size, 2)`, a row of length one for each circle. For vectors h only; a decoder begins with
    `UnitVectors`.

    Args:
        size: number of circles.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.features = 3 * size

    def law(self, h: Tensor) -> Distribution:
        return Independent(power_spherical(vectors(self, h).unflatten(1, (self.size, 3))), 1, validate_args=False)
