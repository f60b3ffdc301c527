"""What keeps a critic tame: penalties on its slope, clipped weights, spectral normalisation.

The slope of a critic f at an example is `||grad f(y)||_2`, the norm taken over all elements of the example. A gradient
belongs to one example only if the critic judges each for itself: no batch normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from rdae.adversarial.judged import Judged, gradient, must_be_alike, slopes
from rdae.errors import ModelError

__all__ = [
    "R1", "R2", "GradientPenalty", "Lazy", "Penalty", "clip_weights", "interpolated", "one_coefficient_each",
    "spectrally_normalised",
]  # fmt: skip

Network = TypeVar("Network", bound=nn.Module)
LAYERS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


class Penalty(Protocol):
    """`(judged, step) -> scalar`, added to what the critic minimises."""

    def __call__(self, judged: Judged, step: int) -> Tensor:
        """The penalty of a batch.

        Args:
            judged: the critic, and the examples before it.
            step: number of the step, which `Lazy` looks at.
        """
        ...


def one_coefficient_each(y: Tensor) -> Tensor:
    """t of each example, uniform in [0, 1), `(batch, 1, ..., 1)`: one for all elements of an example."""
    return torch.rand(len(y), *(1,) * (y.ndim - 1), dtype=y.dtype, device=y.device)


def interpolated(real: Tensor, fake: Tensor, t: Tensor) -> Tensor:
    """`t * real + (1 - t) * fake`: points on the segments between the examples of each pair.

    Raises:
        ShapeError: real and fake differ in shape.
    """
    must_be_alike(real, fake)
    return t * real + (1 - t) * fake


@dataclass(frozen=True)
class GradientPenalty:
    """`weight * E (||grad f(x)||_2 - 1)**2`, x on segments between real and generated examples.

    `x = t y + (1 - t) G(z)`, one t per example (Gulrajani et al. 2017, arXiv:1704.00028). A soft constraint: the best
    critic is steeper than 1, and estimates more than W_1; for one variable at least `W_1**2 / (2 weight)` more.

    Args:
        weight: 10 for images, 0.1 was used for toys in two dimensions.
    """

    weight: float = 10.0

    def __call__(self, judged: Judged, step: int = 0) -> Tensor:
        x = interpolated(judged.real, judged.fake, one_coefficient_each(judged.real))
        return self.weight * (slopes(judged.critic, x) - 1).square().mean()


@dataclass(frozen=True)
class R1:
    """`gamma / 2 * E ||grad f(y)||_2**2` at real examples (Mescheder et al. 2018, arXiv:1801.04406).

    Args:
        gamma: in nats times the square of the unit of y; pictures of more pixels bear a larger one.
    """

    gamma: float = 10.0

    def __call__(self, judged: Judged, step: int = 0) -> Tensor:
        return self.gamma / 2 * gradient(judged.critic, judged.real).square().sum(1).mean()


@dataclass(frozen=True)
class R2:
    """`gamma / 2 * E ||grad f(G(z))||_2**2`: `R1` at generated examples."""

    gamma: float = 10.0

    def __call__(self, judged: Judged, step: int = 0) -> Tensor:
        return self.gamma / 2 * gradient(judged.critic, judged.fake).square().sum(1).mean()


@dataclass(frozen=True)
class Lazy:
    """Another penalty at every `every`-th step only, `every` times as strong (Karras et al. 2020, arXiv:1912.04958).

    Over `every` steps the sum is what the penalty at each step would be, at a fraction of its cost. It is part of an
    ordinary step of the optimiser, so the betas and rates of Adam stay as they are (that source gives the penalty a
    step of its own, and has to correct for it).
    """

    penalty: Penalty
    every: int = 16

    def __call__(self, judged: Judged, step: int) -> Tensor:
        if step % self.every:
            return judged.real.new_zeros(())
        return self.every * self.penalty(judged, step)


@torch.no_grad()
def clip_weights(critic: nn.Module, bound: float = 0.01) -> None:
    """Clamps all parameters to [-bound, bound] in place, after each step of the critic (Arjovsky et al. 2017).

    For comparison: it bounds the slope by a constant that depends on the network, and pushes weights to the bounds.
    """
    for parameter in critic.parameters():
        parameter.clamp_(-bound, bound)


def spectrally_normalised(network: Network, iterations: int = 1) -> Network:
    """Divides each layer's weight by its largest singular value, from now on (Miyato et al. 2018, arXiv:1802.05957).

    With activations of slope at most 1 a dense critic is then 1-Lipschitz, up to the error of the power iteration. A
    convolution's weight is taken as a matrix `(outputs, inputs * kernel)`; its slope may exceed 1, by at most the root
    of the number of windows that see one element.

    Args:
        network: changed in place, and returned; layers that start at zero, and so have no direction, are drawn anew.
        iterations: of the power method, at each call in `train()` mode.

    Raises:
        ModelError: there is no layer to normalise, or one is normalised already.
    """
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, LAYERS)]
    if not layers:
        raise ModelError("The network has no linear or convolutional layer to normalise. Pass the critic itself.")
    for name, layer in layers:
        if parametrize.is_parametrized(layer, "weight"):
            raise ModelError(f"Layer {name!r} has a parametrised weight already. Normalise a network once.")
        if not bool(layer.weight.any()):
            layer.reset_parameters()
        parametrizations.spectral_norm(layer, n_power_iterations=iterations)
    return network
