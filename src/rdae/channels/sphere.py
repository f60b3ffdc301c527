"""Noise on a sphere: the power spherical law, a bump about a direction (De Cao & Aziz 2020, arXiv:2006.04437).

    p(x) = (1 + <mu, x>)^kappa / C,    x and mu of length one

It does what a von Mises-Fisher law does, but density, entropy and divergence from the uniform law hold no Bessel
function, and one draws from it without rejecting points of the sphere. Both are exp(-kappa theta^2 / 4) about the mean
direction for large kappa, if the von Mises-Fisher law has half the concentration. Opposite to mu this density is zero:
weights p / q of importance sampling have a finite variance below kappa = (size - 1) / 2 only, unless p is small there.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Gamma, constraints

from rdae.channels.gaussian import NoisyChannel
from rdae.errors import ModelError, ShapeError
from rdae.networks.bounded import bounded
from rdae.networks.unit import unit

__all__ = [
    "PowerSpherical", "SphereChannel", "Unit", "log_area", "on_spheres", "power_spherical", "unit_vector", "vectors",
]  # fmt: skip

LOGIT_MIN, LOGIT_MAX = -7.0, 14.0  # of the mean's length: from all but uniform to a width of 0.0013 radians


class Unit(constraints.Constraint):
    """Vectors of length one along the last dimension."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        slack = 100 * torch.finfo(value.dtype).eps
        return (value.square().sum(-1) - 1).abs() < slack * value.shape[-1]


unit_vector = Unit()


def on_spheres(law: Distribution) -> bool:
    """Whether a law's values are vectors of length one: on a sphere, or on a torus, a circle for each of its rows."""
    try:
        support: Any = law.support
    except NotImplementedError:
        return False
    return isinstance(getattr(support, "base_constraint", support), Unit)


def log_area(size: int) -> float:
    """ln of the area of the unit sphere in `size` dimensions: 2 pi for the circle, 4 pi for the ball's surface."""
    return math.log(2) + size / 2 * math.log(math.pi) - math.lgamma(size / 2)


class PowerSpherical(Distribution):
    """`(1 + <loc, x>)^concentration / C` on the unit sphere.

    A draw is the inverse stereographic projection, from -loc, of a Student t: with n Gaussian in the tangent space at
    loc and g a Gamma variable, `(2 g - |n|^2) loc + 2 sqrt(2 g) n` has the right direction. It moves with every
    rotation of loc and n, is smooth in both parameters, and loses no digits where the law is narrow.

    Args:
        loc: mean directions, `(*batch, size)`, of length one; size is 2 or more.
        concentration: `(*batch)`, 0 (uniform) or more.

    Raises:
        ShapeError: there is no sphere in so few dimensions.
    """

    arg_constraints = {"loc": unit_vector, "concentration": constraints.nonnegative}
    has_rsample = True

    def __init__(self, loc: Tensor, concentration: Tensor, validate_args: bool | None = None) -> None:
        if loc.ndim < 1 or loc.shape[-1] < 2:
            raise ShapeError(f"loc is {tuple(loc.shape)}, but a sphere needs vectors of 2 elements or more.")
        batch = torch.broadcast_shapes(loc.shape[:-1], concentration.shape)
        self.loc = loc.expand(*batch, loc.shape[-1])
        self.concentration = concentration.expand(batch)
        super().__init__(batch, loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> PowerSpherical:
        """The same laws, repeated."""
        shape = torch.Size(batch_shape)
        return PowerSpherical(
            self.loc.expand(*shape, self.event_shape[0]), self.concentration.expand(shape), validate_args=False
        )

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> constraints.Constraint:
        return unit_vector

    @property
    def _half(self) -> float:
        """Half the dimension of the sphere: (1 + <loc, x>) / 2 is a Beta(concentration + half, half) variable."""
        return (self.event_shape[0] - 1) / 2

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def mean(self) -> Tensor:
        """E x, within the sphere: `concentration / (concentration + size - 1)` times the mean direction."""
        return self.mean_length[..., None] * self.loc

    @property
    def mean_length(self) -> Tensor:
        """|E x|, from 0 (uniform) to 1 (a point), `(*batch)`."""
        return self.concentration / (self.concentration + 2 * self._half)

    @property
    def variance(self) -> Tensor:
        """Of each element, `(*batch, size)`."""
        a, b = self.concentration + self._half, self._half
        product = a * b / ((a + b) * (a + b + 1))  # E of Beta times one minus Beta
        along, across = 4 * product / (a + b), 4 * product / (2 * b)
        squared = self.loc.square()
        return along[..., None] * squared + across[..., None] * (1 - squared)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        n = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        n = n - (n * self.loc).sum(-1, keepdim=True) * self.loc
        shapes = self.concentration + self._half
        g = Gamma(shapes, torch.ones_like(shapes), validate_args=False).rsample(sample_shape)
        twice, squared = 2 * g[..., None], n.square().sum(-1, keepdim=True)
        return ((twice - squared) * self.loc + 2 * twice.sqrt() * n) / (twice + squared)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        # ln of (1 + <loc, x>) / 2, from whichever of the poles is near: the product itself has lost its digits there
        near = (value - self.loc).square().sum(-1) / 4
        far = (value + self.loc).square().sum(-1) / 4
        close = near < 0.5
        log_share = torch.where(
            close,
            torch.log1p(-torch.where(close, near, 0)),
            torch.log(torch.where(close, 1, far).clamp_min(torch.finfo(far.dtype).tiny)),
        )
        return self.concentration * log_share - self._log_constant().to(value.dtype)

    def entropy(self) -> Tensor:
        """In nats against the area of the sphere; minus infinity for a point, `log_area` for the uniform law."""
        kappa = self.concentration.double()
        share = torch.digamma(kappa + self._half) - torch.digamma(kappa + 2 * self._half)
        return (self._log_constant() - kappa * share).to(self.concentration.dtype)

    def _log_constant(self) -> Tensor:
        """ln of the integral of ((1 + <loc, x>) / 2)^concentration, float64: large terms cancel."""
        kappa, half = self.concentration.double(), self._half
        ratio = torch.lgamma(kappa + half) - torch.lgamma(kappa + 2 * half)
        return half * math.log(4 * math.pi) + ratio


class SphereChannel(NoisyChannel):
    """A power spherical law about a direction; h holds a vector along it and the logit of the mean's length.

    With logit 0 the mean is half-way from the centre to the sphere in any dimension: the concentration is
    `(size - 1) exp(logit)`. For vectors only; a decoder begins with `UnitVectors`.

    Args:
        size: of the space around the sphere, 2 (a circle) or more.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        if size < 2:
            raise ModelError(
                f"A sphere in {size} dimensions has no directions between which to move. Choose 2 or more."
            )
        self.features = size + 1

    def law(self, h: Tensor) -> Distribution:
        return power_spherical(vectors(self, h))


def vectors(channel: NoisyChannel, h: Tensor) -> Tensor:
    """h itself.

    Raises:
        ShapeError: it has a height and width.
    """
    if h.ndim != 2:
        raise ShapeError(
            f"{type(channel).__name__} is for vectors, but the encoder computed {tuple(h.shape)}. Flatten its output."
        )
    return h


def power_spherical(h: Tensor) -> PowerSpherical:
    """The law of `SphereChannel` for each vector of h, `(*batch, size + 1)`; in float32 at least."""
    h = h.to(torch.promote_types(h.dtype, torch.float32))
    logit = bounded(h[..., -1], LOGIT_MIN, LOGIT_MAX)
    return PowerSpherical(unit(h[..., :-1]), (h.shape[-1] - 2) * logit.exp(), validate_args=False)
