"""A batch before a critic: it looks at real and generated examples together, once, however many ask."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rdae.errors import ShapeError

__all__ = ["Critic", "Judged", "gradient", "must_be_alike", "slopes"]

Critic = Callable[[Tensor], Tensor]  # (batch, *event) to (batch,)


def gradient(critic: Critic, y: Tensor) -> Tensor:
    """`grad f(y)` of each example, `(batch, elements)`; differentiable in the critic's weights."""
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        return _gradient_at(y, critic(y))


def slopes(critic: Critic, y: Tensor) -> Tensor:
    """`||grad f(y)||_2` of each example, `(batch, *event)` to `(batch,)`; differentiable in the critic's weights.

    Divided by the largest slope, a critic is 1-Lipschitz as far as these examples show, and what a Wasserstein critic
    estimates becomes a lower bound on the distance.
    """
    return torch.linalg.vector_norm(gradient(critic, y), dim=1)


def _gradient_at(y: Tensor, said: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(said.sum(), y, create_graph=True)
    return found.flatten(1)


def must_be_alike(real: Tensor, fake: Tensor) -> None:
    """Refuses examples that cannot stand beside each other.

    Raises:
        ShapeError: real and fake differ in shape.
    """
    if real.shape != fake.shape:
        raise ShapeError(
            f"Real examples are {tuple(real.shape)} but generated ones {tuple(fake.shape)}. Use as many of each, of "
            "one shape."
        )


class Judged:
    """Real examples and generated ones before a critic, which has to judge each for itself.

    One pass over both is shared by the game and by penalties that look at all of them. Gradients reach the critic's
    weights but no examples.

    Args:
        critic: `(batch, *event)` to `(batch,)`.
        real, fake: as many of each, `(batch, *event)`.

    Raises:
        ShapeError: real and fake differ in shape.
    """

    def __init__(self, critic: Critic, real: Tensor, fake: Tensor) -> None:
        must_be_alike(real, fake)
        self.critic, self.real, self.fake = critic, real.detach(), fake.detach()
        self._both = torch.cat([self.real, self.fake])
        self._said: Tensor | None = None

    @property
    def logits(self) -> tuple[Tensor, Tensor]:
        """What the critic says of real and of generated examples, `(batch,)` each."""
        real, fake = self._judged().chunk(2)
        return real, fake

    def gradient(self) -> Tensor:
        """`grad f` at real examples, then at generated ones, `(2 * batch, elements)`.

        Asked for before `logits`, it spares the critic a pass.
        """
        if not self._both.requires_grad:
            self._both.requires_grad_()
            self._said = None  # what was said before knows of no slope
        with torch.enable_grad():
            return _gradient_at(self._both, self._judged())

    def _judged(self) -> Tensor:
        if self._said is None:
            with torch.enable_grad():  # whoever asks first may be one who measures only
                self._said = self.critic(self._both)
        return self._said
