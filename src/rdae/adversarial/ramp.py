"""A penalty whose weight changes: weaker for details, or stronger once a critic knows which way is up."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rdae.adversarial.judged import Judged
from rdae.adversarial.penalties import Penalty

__all__ = ["Ramp"]


@dataclass(frozen=True)
class Ramp:
    """Another penalty, whose weight changes by the same factor at each step and then stays.

    A strong `GradientPenalty` holds a slope that began with the wrong sign where it is: let it rise. R1 and R2 smooth
    a critic, and modes much smaller than their distances need a steep one: let gamma fall. Recipes have `fade` for it.

    Args:
        penalty: with its weight at the start.
        steps: turns of the critic until the end of the change.
        factor: by which the weight has changed then.
    """

    penalty: Penalty
    steps: int
    factor: float

    def __call__(self, judged: Judged, step: int) -> Tensor:
        return self.factor ** min(1.0, step / self.steps) * self.penalty(judged, step)
