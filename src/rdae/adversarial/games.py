"""Games: how what a critic says of real and generated examples becomes the losses of critic and generator.

A critic gives each example a number f(y); where it is a probability of being real, D = sigmoid(f) and f is its logit.
P_r is the law of the data, P_g that of generated examples G(z), z drawn from the prior. Both losses are means over a
batch and are minimised, each by its own player.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch.nn.functional as F
from torch import Tensor

from rdae.errors import ShapeError

__all__ = ["Game", "Hinge", "LeastSquares", "Minimax", "NonSaturating", "Relativistic", "Wasserstein"]


class Game(Protocol):
    """The objectives of both players.

    Both methods take what the critic says of real examples and of generated ones, `(batch,)` each, and return a
    scalar.

    Attributes:
        relative: whether the generator's loss looks at `real_logits`; where it does not, it is called with none of
            them, `(0,)`, and the critic is spared the real examples.
    """

    relative: ClassVar[bool]

    def critic_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """What the critic minimises."""
        ...

    def generator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """What the generator minimises."""
        ...


class Minimax:
    """`min_G max_D V(D, G)`, `V = E_{P_r} ln D(y) + E_z ln(1 - D(G(z)))` (Goodfellow et al. 2014, arXiv:1406.2661).

    At the best critic V is `-ln 4 + 2 JS(P_r, P_g)` nats. The generator's loss saturates: where the critic is sure
    that an example is generated, the gradient is sigmoid(f), next to nothing.
    """

    relative: ClassVar[bool] = False

    def critic_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """`-V`, in nats; ln 4 where the critic knows nothing."""
        return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()

    def generator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """`E ln(1 - D(G(z)))`, in nats."""
        return -F.softplus(fake_logits).mean()


class NonSaturating(Minimax):
    """The critic of `Minimax`; the generator minimises `-E ln D(G(z))` (same source).

    The fixed point is the same, but the gradient, 1 - sigmoid(f), is largest where the critic is sure.
    """

    def generator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """`-E ln D(G(z))`, in nats."""
        return F.softplus(-fake_logits).mean()


class LeastSquares:
    """Targets 1 for real and 0 for generated examples, without a sigmoid (Mao et al. 2017, arXiv:1611.04076).

    The best critic is P_r / (P_r + P_g), as in `Minimax`.
    """

    relative: ClassVar[bool] = False

    def critic_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """`(E (f(y) - 1)**2 + E f(G(z))**2) / 2`."""
        return ((real_logits - 1).square().mean() + fake_logits.square().mean()) / 2

    def generator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """`E (f(G(z)) - 1)**2 / 2`."""
        return (fake_logits - 1).square().mean() / 2


class Hinge:
    """Margins of 1 on both sides (Lim & Ye 2017, arXiv:1705.02894); the best critic is the sign of P_r - P_g."""

    relative: ClassVar[bool] = False

    def critic_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """`E max(0, 1 - f(y)) + E max(0, 1 + f(G(z)))`."""
        return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()

    def generator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """`-E f(G(z))`."""
        return -fake_logits.mean()


class Relativistic:
    """Is the real example of a random pair the more real one? (Jolicoeur-Martineau 2019, arXiv:1807.00734).

    A generated example is judged beside a real one, so the generator cannot satisfy the critic with few modes. Pairs
    are those of equal place in the batch. Use it with R1 and R2 (Huang et al. 2024, arXiv:2501.05441).
    """

    relative: ClassVar[bool] = True

    def critic_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """`-E ln sigmoid(f(y) - f(G(z)))`, in nats; ln 2 where the critic knows nothing.

        Raises:
            ShapeError: not as many real examples as generated ones.
        """
        return F.softplus(-_difference(real_logits, fake_logits)).mean()

    def generator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """`-E ln sigmoid(f(G(z)) - f(y))`, in nats. Raises as `critic_loss` does."""
        return F.softplus(_difference(real_logits, fake_logits)).mean()


class Wasserstein:
    """`min_G max_f E_{P_r} f(y) - E_{P_g} f(y)` over 1-Lipschitz f (Arjovsky et al. 2017, arXiv:1701.07875).

    The maximum is W_1(P_r, P_g), and any 1-Lipschitz f gives less. What keeps the slope of f near 1 is not here but in
    `rdae.adversarial.penalties`.
    """

    relative: ClassVar[bool] = False

    def critic_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """`E f(G(z)) - E f(y)`, in the unit of the data; minus the estimate of the distance."""
        return fake_logits.mean() - real_logits.mean()

    def generator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """`-E f(G(z))`."""
        return -fake_logits.mean()


def _difference(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    if real_logits.shape != fake_logits.shape:  # (n, 1) against (n,) would pair each with all
        raise ShapeError(
            f"The critic said {tuple(real_logits.shape)} of real and {tuple(fake_logits.shape)} of generated examples. "
            "A relativistic game pairs them: use as many of each, one number per example."
        )
    return real_logits - fake_logits
