"""Priors over continuous latents: `prior()` is a distribution over one latent, `(size, *space)`.

Every prior here returns a distribution of `torch.distributions`: with `log_prob` for the rate and `rsample` or
`sample` for generating. They are the *code* p(z) of a noisy-channel autoencoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, MultivariateNormal, Normal

from rdae.errors import MissingExtraError, ModelError

__all__ = [
    "FlowPrior", "FullNormalPrior", "LatentPrior", "MixturePrior", "NormalPrior", "StandardNormalPrior", "VampPrior",
]  # fmt: skip


Posterior = Callable[[Tensor], Distribution]


class LatentPrior(nn.Module):
    """Base: call it to get the distribution."""

    def forward(self, posterior: Posterior | None = None) -> Distribution:
        """The distribution over one latent; its batch shape is empty.

        Args:
            posterior: `y -> q(z | y)` of the model; only `VampPrior` looks at it.
        """
        raise NotImplementedError


def _diagonal(mean: Tensor, std: Tensor) -> Distribution:
    return Independent(Normal(mean, std, validate_args=False), mean.ndim, validate_args=False)


class StandardNormalPrior(LatentPrior):
    """N(0, I).

    Args:
        shape: of one latent, `(size,)` or `(channels, height, width)`.
    """

    zero: Tensor
    one: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(shape), persistent=False)
        self.register_buffer("one", torch.ones(shape), persistent=False)

    def forward(self, posterior: Posterior | None = None) -> Distribution:
        return _diagonal(self.zero, self.one)


class NormalPrior(LatentPrior):
    """N(mean, std**2) per element, both learned; N(0, I) at the start. Arguments as for `StandardNormalPrior`."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(shape))
        self.log_std = nn.Parameter(torch.zeros(shape))

    def forward(self, posterior: Posterior | None = None) -> Distribution:
        return _diagonal(self.mean, self.log_std.exp())


class FullNormalPrior(LatentPrior):
    """N(mean, L L^T) over vectors, L lower triangular with a positive diagonal, learned; N(0, I) at the start."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(size))
        self.log_diagonal = nn.Parameter(torch.zeros(size))
        self.below = nn.Parameter(torch.zeros(size, size))

    def factor(self) -> Tensor:
        """The Cholesky factor L, `(size, size)`."""
        return self.below.tril(-1) + torch.diag(self.log_diagonal.exp())

    def forward(self, posterior: Posterior | None = None) -> Distribution:
        return MultivariateNormal(self.mean, scale_tril=self.factor(), validate_args=False)


class MixturePrior(LatentPrior):
    """Mixture of Gaussians with diagonal covariance, all parameters learned.

    Args:
        components: number of Gaussians.
        shape: of one latent.
        spread: standard deviation of the initial means.
    """

    def __init__(self, components: int, *shape: int, spread: float = 1.0) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.mean = nn.Parameter(spread * torch.randn(components, *shape))
        self.log_std = nn.Parameter(torch.zeros(components, *shape))

    def forward(self, posterior: Posterior | None = None) -> Distribution:
        components = Independent(
            Normal(self.mean, self.log_std.exp(), validate_args=False), self.mean.ndim - 1, validate_args=False
        )
        return MixtureSameFamily(Categorical(logits=self.logits), components, validate_args=False)


class VampPrior(LatentPrior):
    """Mixture of the channel's laws at learned pseudo-inputs (Tomczak & Welling 2018, arXiv:1705.07120).

    Args:
        pseudo_inputs: `(components, *event)` to begin with, for example data points; learned.
        low, high: range of the data; pseudo-inputs are kept within it.
    """

    def __init__(self, pseudo_inputs: Tensor, low: float | None = 0.0, high: float | None = 1.0) -> None:
        super().__init__()
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.clone())
        self.logits = nn.Parameter(torch.zeros(len(pseudo_inputs)))
        self.low, self.high = low, high

    def forward(self, posterior: Posterior | None = None) -> Distribution:
        if posterior is None:
            raise ModelError("A VampPrior is made of the channel's laws: call it with the model's posterior.")
        inputs: Tensor = self.pseudo_inputs
        if self.low is not None or self.high is not None:
            inputs = inputs.clamp(self.low, self.high)
        return MixtureSameFamily(Categorical(logits=self.logits), posterior(inputs), validate_args=False)


class FlowPrior(LatentPrior):
    """A normalising flow over vectors, of the zuko library.

    Args:
        flow: `zuko.flows.Flow` without context, for example `zuko.flows.NSF(size)`.
    """

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    @classmethod
    def spline(cls, size: int, transforms: int = 3, hidden: int = 64) -> FlowPrior:
        """A neural spline flow of `transforms` coupling steps.

        Raises:
            MissingExtraError: zuko is not installed.
        """
        try:
            import zuko
        except ImportError as error:
            raise MissingExtraError(
                f"Flow priors need zuko ({error}). Install it with: pip install 'rdae[flows]'"
            ) from error
        return cls(zuko.flows.NSF(size, transforms=transforms, hidden_features=(hidden, hidden)))

    def forward(self, posterior: Posterior | None = None) -> Distribution:
        return cast(Distribution, cast(Any, self.flow)())
