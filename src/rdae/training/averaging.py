"""Exponential moving average of weights."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """Keeps `average <- average + (1 - decay) (weight - average)`, with a shorter memory at the start.

    Args:
        model: whose parameters and buffers to average. They are looked up once: train it in place, where it is.
        decay: per step, reached after about `10 / (1 - decay)` steps.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        self.decay, self.count = decay, 0
        live = model.state_dict()  # shares memory with the model
        self.average = {name: value.detach().clone() for name, value in live.items()}
        floating = [name for name, value in live.items() if value.is_floating_point()]
        self._live, self._averages = ([kept[name] for name in floating] for kept in (live, self.average))
        self._counts = [(self.average[name], value) for name, value in live.items() if name not in floating]

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights after one step."""
        self.count += 1
        rate = 1 - min(self.decay, (self.count + 1) / (self.count + 10))
        torch._foreach_lerp_(self._averages, self._live, rate)
        for average, value in self._counts:
            average.copy_(value)

    def state_dict(self) -> dict:
        """For a checkpoint."""
        return {"count": self.count, "average": self.average}

    def load_state_dict(self, state: dict) -> None:
        """From a checkpoint."""
        self.count = state["count"]
        for name, value in state["average"].items():
            self.average[name].copy_(value)
