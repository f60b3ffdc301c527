"""Exponential moving average of weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """Keeps `average <- average + (1 - decay) (weight - average)`, with a shorter memory at the start.

    Args:
        model: whose parameters and buffers to average.
        decay: per step, reached after about `10 / (1 - decay)` steps.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        self.decay, self.count = decay, 0
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes in the weights after one step."""
        self.count += 1
        rate = 1 - min(self.decay, (self.count + 1) / (self.count + 10))
        live = model.state_dict()
        floating = [name for name, value in live.items() if value.is_floating_point()]
        averages: list[Tensor] = [self.average[name] for name in floating]
        torch._foreach_lerp_(averages, [live[name] for name in floating], rate)
        for name, value in live.items():
            if not value.is_floating_point():
                self.average[name].copy_(value)

    def state_dict(self) -> dict:
        """For a checkpoint."""
        return {"count": self.count, "average": self.average}

    def load_state_dict(self, state: dict) -> None:
        """From a checkpoint."""
        self.count = state["count"]
        for name, value in state["average"].items():
            self.average[name].copy_(value)
