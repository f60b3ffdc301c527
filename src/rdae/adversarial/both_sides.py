"""R1 and R2 of one weight in one pass: the same number, sooner."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rdae.adversarial.penalties import Critic, slopes

__all__ = ["BothSides"]


@dataclass(frozen=True)
class BothSides:
    """`gamma / 2 * (E ||grad f(y)||_2**2 + E ||grad f(G(z))||_2**2)`: `R1` and `R2` together.

    Args:
        gamma: of both.
    """

    gamma: float = 10.0

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor, step: int = 0) -> Tensor:
        return self.gamma * slopes(critic, torch.cat([real, fake])).square().mean()
