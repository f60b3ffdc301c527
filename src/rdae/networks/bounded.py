"""Bounds on what a network may say, that do not trap it beyond them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["bounded"]


class _Bounded(torch.autograd.Function):
    """Clamps; see `bounded`."""

    @staticmethod
    def forward(x: Tensor, low: float, high: float) -> Tensor:
        return x.clamp(low, high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, float], output: Tensor) -> None:
        x, ctx.low, ctx.high = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        outward = (x < ctx.low) & (grad > 0) | (x > ctx.high) & (grad < 0)
        return grad.masked_fill(outward, 0), None, None


def bounded(x: Tensor, low: float, high: float) -> Tensor:
    """Clamps x; outside the bounds a gradient passes only where descent leads back, so nothing that strayed is lost."""
    return _Bounded.apply(x, low, high)
