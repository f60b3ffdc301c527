"""Integer networks held in float32: what a decoder must compute to the last bit.

Activations are integers, weights are integers times a power of two, and every partial sum stays below
2**24 in units of the smallest power, so float32 represents it exactly. Additions then commute, and every
machine, thread count and graph optimisation gives the same numbers. Only 1 x 1 and depthwise 3 x 3
convolutions occur: no library computes those by a transform that rounds on the way.

During training the same quantisation acts on float parameters, with the gradient passed straight through.
Idea: Balle, Johnston & Minnen 2019, "Integer networks for data compression with latent-variable models".
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdae.errors import ModelError

__all__ = [
    "ACTIVATION_MAX", "EXACT_LIMIT", "SYMBOL_MAX", "ExactConv", "compand", "exact_relu",
    "floor_through", "require_exact", "signed_and_absolute",
]  # fmt: skip

ACTIVATION_MAX = 255  # activations are integers in [0, 255]
WEIGHT_MAX = 127
EXACT_LIMIT = 2**24  # float32 holds every integer up to here
SYMBOL_MAX = 120  # |compand(q)| never exceeds this


def require_exact(bound: float) -> float:
    """A bound on the sums of a layer, in units of their smallest step, that float32 counts exactly.

    Raises:
        ModelError: it is not below 2**24.
    """
    if not bound < EXACT_LIMIT:  # NaN is refused too
        raise ModelError(
            f"A layer of the entropy network can reach {bound:.0f}, past the {EXACT_LIMIT} up to which "
            "float32 counts exactly. Train with weight decay, or clip the layer's weights, and export again."
        )
    return bound


class _Passthrough(torch.autograd.Function):
    """Forward: the second argument; backward: the gradient goes to the first."""

    @staticmethod
    def forward(ctx, x: Tensor, quantised: Tensor) -> Tensor:
        return quantised

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def floor_through(x: Tensor) -> Tensor:
    """Floor whose gradient is that of the identity."""
    if torch.is_grad_enabled() and x.requires_grad:
        return _Passthrough.apply(x, x.detach().floor())
    return torch.floor(x)


def exact_relu(x: Tensor) -> Tensor:
    """Clips to `[0, 255]` and rounds, halves up; x already carries the added 1/2 (see `ExactConv`)."""
    return floor_through(x.clamp(0.0, ACTIVATION_MAX + 0.5))


def compand(q: Tensor) -> Tensor:
    """A logarithm in straight pieces, integer for integer q: `8 c(q,1) + 4 c(q,4) + 2 c(q,16) + c(q,64)`.

    `c(q, k)` clips to `[-k, k]`. Bounded by 120; exact in float32. Same shape as q.
    """
    return 8 * q.clamp(-1, 1) + 4 * q.clamp(-4, 4) + 2 * q.clamp(-16, 16) + q.clamp(-64, 64)


def signed_and_absolute(g: Tensor) -> Tensor:
    """Companded symbols and their absolute values, `(B, C, H, W)` to `(B, 2C, H, W)`: what the exact networks read."""
    return torch.cat([g, g.abs()], 1)


class ExactConv(nn.Module):
    """A 1 x 1 or depthwise 3 x 3 convolution in exact arithmetic.

    Args:
        inputs: input channels; integers with `|x| <= input_max`.
        outputs: output channels; must equal `inputs` for a depthwise layer.
        depthwise: a 3 x 3 kernel per channel, zero padding, instead of a 1 x 1 kernel.
        gain: scale of the initial weights relative to variance-preserving ones.
        input_max: bound on the magnitude of the inputs, used by `accumulator_bound`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        depthwise: bool = False,
        gain: float = 1.0,
        input_max: int = ACTIVATION_MAX,
    ) -> None:
        super().__init__()
        self.groups = inputs if depthwise else 1
        self.padding = 1 if depthwise else 0
        self.input_max = input_max
        kernel = 3 if depthwise else 1
        weight = torch.randn(outputs, inputs // self.groups, kernel, kernel)
        if depthwise:  # start near the identity: what the centre knows is kept
            weight = weight * 0.15
            weight[:, :, 1, 1] += 0.7
        else:
            weight = weight * gain * math.sqrt(2.0 / inputs)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.bias_unit = 16.0  # biases live on the scale of activations; this evens the learning rates

    def quantised(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, biases (with the rounding half added) and the power-of-two step of each output channel."""
        largest = self.weight.detach().abs().flatten(1).amax(1).clamp_min(1e-6)
        # 2**-12 at the least keeps bias / step far inside float32 for channels that have died
        step = torch.exp2(torch.ceil(torch.log2(largest / WEIGHT_MAX))).clamp_min(2.0**-12)
        unit = step[:, None, None, None]
        scaled = self.weight / unit
        whole = scaled.detach().round().clamp(-WEIGHT_MAX, WEIGHT_MAX) * unit
        weight = _Passthrough.apply(self.weight, whole)
        bias = self.bias * self.bias_unit
        rounded = torch.floor(bias.detach() / step + 0.5) * step
        return weight, _Passthrough.apply(bias, rounded) + 0.5, step

    def forward(self, x: Tensor) -> Tensor:
        """Convolution plus bias plus 1/2: apply `exact_relu`, or floor, to round halves up."""
        weight, bias, _ = self.quantised()
        return F.conv2d(x, weight, bias, padding=self.padding, groups=self.groups)

    @torch.no_grad()
    def accumulator_bound(self, *others: ExactConv, added: float = 0.0) -> float:
        """Largest magnitude, in units of the smallest step, that any partial sum before rounding can reach.

        Args:
            others: layers, of as many outputs, whose outputs are added to this one's before rounding. A layer with
                a fine step and one with large weights need a common bound: neither's own one covers their sum.
            added: bound on what else is added before rounding (a residual, a bias per image, halves); all multiples
                of one half.

        Raises:
            ModelError: the bound is not below 2**24, so float32 would no longer be exact.
        """
        reach = torch.full((self.weight.shape[0],), added, dtype=torch.float64, device=self.weight.device)
        unit = torch.full_like(reach, 0.5)
        for layer in (self, *others):
            weight, bias, step = layer.quantised()
            reach += weight.double().abs().flatten(1).sum(1) * layer.input_max + bias.double().abs() + 0.5
            unit = torch.minimum(unit, step.double())
        return require_exact(float((reach / unit).max()))
