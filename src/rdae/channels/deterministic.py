"""No noise: a channel whose latent is what the encoder computed."""

from __future__ import annotations

import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from rdae.channels.gaussian import NoisyChannel

__all__ = ["DeterministicChannel", "Point"]


class Point(Distribution):
    """All mass at one latent of each example.

    Its density is infinite there and 0 elsewhere, so its divergence from any density is infinite: an exact real number
    costs infinitely many nats.

    Args:
        place: `(batch, *event)`.
    """

    has_rsample = True

    def __init__(self, place: Tensor) -> None:
        self.place = place
        super().__init__(place.shape[:1], place.shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.place

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.place)

    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:  # type: ignore[override]
        return self.place.expand(*sample_shape, *self.place.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        here = (value == self.place).flatten(value.ndim - len(self.event_shape)).all(-1)
        return torch.where(here, torch.inf, -torch.inf).to(self.place)


class DeterministicChannel(NoisyChannel):
    """`z = h`: an autoencoder whose rate is infinite, and not to be minimised; of Wasserstein autoencoders."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.features = size

    def law(self, h: Tensor) -> Distribution:
        return Point(h)
