"""Networks of bytes: what a decoder must compute to the last bit, in the arithmetic that processors are fastest at.

Activations are integers from 0 to 255, weights are integers from -63 to 63 times a power of two, one power for each
output channel. Sums are whole numbers, so their order does not matter, and the way back to a byte, `round(sum * power)`
clipped, is exact in float32 as long as sums stay below 2**24. In a codec file each layer is one QLinearConv of ONNX.
Weights of seven bits keep even those processors exact whose instruction for products of bytes adds pairs in 16 bits:
2 * 255 * 63 < 2**15.

During training the same rounding acts on float parameters, with the gradient passed straight through. Idea: Balle,
Johnston & Minnen 2019, "Integer networks for data compression with latent-variable models".
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdae.networks.exact import ACTIVATION_MAX, require_exact

__all__ = ["SIGNED_MAX", "WEIGHT_MAX", "ByteBlock", "ByteConv", "split_signs", "to_byte", "to_signed"]

SIGNED_MAX = 127
WEIGHT_MAX = 63
STEP_MIN = 2.0**-16


class _Bytes(torch.autograd.Function):
    """Rounds, halves to even, and clips; the gradient passes where nothing is clipped."""

    @staticmethod
    def forward(ctx, x: Tensor, low: float, high: float) -> Tensor:
        ctx.limits = low, high
        y = x.clamp(low, high).round_()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (y,) = ctx.saved_tensors
        low, high = ctx.limits
        return grad * ((y > low) & (y < high)), None, None


def to_byte(x: Tensor) -> Tensor:
    """An activation: clipped to [0, 255] and rounded, halves to even."""
    return _Bytes.apply(x, 0.0, float(ACTIVATION_MAX))


def to_signed(x: Tensor) -> Tensor:
    """A change of an activation: clipped to [-128, 127] and rounded, halves to even."""
    return _Bytes.apply(x, -SIGNED_MAX - 1.0, float(SIGNED_MAX))


def split_signs(g: Tensor) -> Tensor:
    """`(B, C, H, W)` of either sign to `(B, 2C, H, W)` of none: positive parts, then negative parts."""
    return torch.cat([g.clamp_min(0), (-g).clamp_min(0)], 1)


class ByteConv(nn.Module):
    """A convolution, zero padding, of bytes with weights of seven bits.

    Args:
        inputs: input channels, bytes.
        outputs: output channels.
        kernel: 1 or 3.
        gain: scale of the initial weights relative to variance-preserving ones.
        planes: so many of the last inputs are constant planes, whose weights start small: together they are a bias.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, *, gain: float = 1.0, planes: int = 0) -> None:
        super().__init__()
        self.kernel, self.padding = kernel, kernel // 2
        weight = torch.randn(outputs, inputs, kernel, kernel)
        weight[:, inputs - planes :] *= 0.05
        self.weight = nn.Parameter(weight * (gain * math.sqrt(2.0 / (inputs * kernel * kernel))))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.bias_unit = 16.0  # biases live on the scale of activations; this evens the learning rates

    def quantised(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, biases and the power-of-two step of each output channel, whose multiples they are."""
        largest = self.weight.detach().abs().flatten(1).amax(1).clamp_min(STEP_MIN * WEIGHT_MAX)
        step = torch.exp2(torch.ceil(torch.log2(largest / WEIGHT_MAX)))
        unit = step[:, None, None, None]
        whole = (self.weight.detach() / unit).round() * unit
        bias = self.bias * self.bias_unit
        rounded = (bias.detach() / step).round() * step
        return self.weight + (whole - self.weight).detach(), bias + (rounded - bias).detach(), step

    def forward(self, x: Tensor) -> Tensor:
        """The sums, not yet rounded: give them to `to_byte` or `to_signed`."""
        weight, bias, _ = self.quantised()
        return F.conv2d(x, weight, bias, padding=self.padding)

    @torch.no_grad()
    def accumulator_bound(self) -> float:
        """Largest sum that can occur, in units of the step.

        Raises:
            ModelError: it is not below 2**24, so float32 would no longer be exact.
        """
        weight, bias, step = self.quantised()
        reach = weight.double().abs().flatten(1).sum(1) * ACTIVATION_MAX + bias.double().abs()
        return require_exact(float((reach / step.double()).max()))


class ByteBlock(nn.Module):
    """`h + narrow(widen(inputs))`: a dense 3 x 3 layer, a 1 x 1 layer, and a sum clipped to a byte.

    Args:
        channels: of h, and of the layer between.
        read: further input channels that the first layer sees.
    """

    def __init__(self, channels: int, read: int = 0) -> None:
        super().__init__()
        self.mix = ByteConv(channels + read, channels, 3)
        self.change = ByteConv(channels, channels, gain=0.3)

    def forward(self, h: Tensor, *more: Tensor) -> Tensor:
        """h, `(B, channels, H, W)`, changed by what it and further inputs say."""
        inputs = torch.cat([h, *more], 1) if more else h
        return to_byte(h + to_signed(self.change(to_byte(self.mix(inputs)))))
