"""R1 and R2 of one weight, in the pass that the game takes anyway: the same number, sooner."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rdae.adversarial.judged import Judged

__all__ = ["BothSides"]


@dataclass(frozen=True)
class BothSides:
    """`gamma / 2 * (E ||grad f(y)||_2**2 + E ||grad f(G(z))||_2**2)`: `R1` and `R2` together.

    Args:
        gamma: of both.
    """

    gamma: float = 10.0

    def __call__(self, judged: Judged, step: int = 0) -> Tensor:
        return self.gamma * judged.gradient().square().sum(1).mean()
