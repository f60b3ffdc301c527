"""Uniform priors on spheres and tori; the divergence of power spherical laws from them has a closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, register_kl

from rdae.channels.sphere import PowerSpherical, log_area, unit_vector
from rdae.priors.latent import LatentPrior, Posterior

__all__ = ["UniformSphere", "UniformSpherePrior", "UniformTorusPrior"]


class UniformSphere(Distribution):
    """The uniform law on the unit sphere.

    Args:
        size: of the space around it, 2 (a circle) or more.
        batch_shape: how many such laws.
        dtype, device: of what it draws.
    """

    arg_constraints = {}
    support = unit_vector
    has_rsample = True

    def __init__(
        self,
        size: int,
        batch_shape: Any = (),
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.size = size
        self.options: dict[str, Any] = {"dtype": dtype or torch.get_default_dtype(), "device": device}
        super().__init__(torch.Size(batch_shape), torch.Size((size,)), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> UniformSphere:
        """The same law, repeated."""
        return UniformSphere(self.size, batch_shape, validate_args=False, **self.options)

    @property
    def mean(self) -> Tensor:
        """The centre, where no latent is."""
        return torch.zeros(*self.batch_shape, self.size, **self.options)

    @property
    def variance(self) -> Tensor:
        return torch.full((*self.batch_shape, self.size), 1 / self.size, **self.options)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        n = torch.randn(self._extended_shape(torch.Size(sample_shape)), **self.options)
        return n / n.norm(dim=-1, keepdim=True)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        return value.new_full(shape, -log_area(self.size))

    def entropy(self) -> Tensor:
        """ln of the sphere's area."""
        return torch.full(self.batch_shape, log_area(self.size), **self.options)


@register_kl(PowerSpherical, UniformSphere)
def _divergence_from_uniform(q: PowerSpherical, p: UniformSphere) -> Tensor:
    return log_area(p.size) - q.entropy()


class UniformSpherePrior(LatentPrior):
    """The uniform law on the sphere in `size` dimensions; nothing in it is learned."""

    zero: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(size), persistent=False)

    def forward(self, posterior: Posterior | None = None) -> Distribution:
        return UniformSphere(len(self.zero), dtype=self.zero.dtype, device=self.zero.device, validate_args=False)


class UniformTorusPrior(LatentPrior):
    """The uniform law on a product of `size` circles; nothing in it is learned."""

    zero: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(size), persistent=False)

    def forward(self, posterior: Posterior | None = None) -> Distribution:
        options: dict[str, Any] = {"dtype": self.zero.dtype, "device": self.zero.device, "validate_args": False}
        return Independent(UniformSphere(2, self.zero.shape, **options), 1, validate_args=False)
