"""A convolutional encoder and decoder: stride-2 convolutions down, convolutions and depth-to-space up.

Down, a layer halves the resolution: `z[c, i, j] = sum W[c, k, di, dj] y[k, 2i + di, 2j + dj] + b[c]`. Up, a stride-1
convolution computes four times the wanted channels, an activation follows, and `depth_to_space` lays each four out
as 2 x 2 pixels. Beside both networks runs a fixed linear path, the orthonormal block transform of JPEG with blocks as
large as the network's stride, and never in mixed precision; the last layer of each network starts at zero. At step 0
the pair is thus a usable transform codec, and training adds to it. Latents are scaled by gain vectors that depend on
lam: one model serves all rates. After Balle, Laparra & Simoncelli 2017, "End-to-end optimized image compression",
without its divisive normalisation; residual blocks take its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdae.coding.pyramid_order import OPPONENT
from rdae.errors import ShapeError
from rdae.networks.gains import LAM_RANGE, Gains
from rdae.networks.shuffle import depth_to_space

__all__ = [
    "WIDTHS", "ConvolutionalDecoder", "ConvolutionalEncoder", "Downsample", "Upsample", "block_transform",
    "compressed", "typical_spread",
]  # fmt: skip

COLOURS = 3
WIDTHS = (24, 48, 96, 128)  # channels at strides 2, 4, 8, 16
KERNEL_DOWN, KERNEL_UP = 5, 3
SLOPE = 0.1  # of the activation below zero
# Adam moves every weight by the learning rate at once; so much less, a first step does not drown the linear path
CORRECTION = 1 / 16


def block_transform(block: int) -> Tensor:
    """The orthonormal transform of a colour block: rotation to luma and two opponent colours, then cosines.

    Args:
        block: side n of the block.

    Returns:
        `(3 n**2, 3 n**2)` float64. Row `3 * rank + colour` is a basis function, frequencies ranked along diagonals as
        in JPEG; column `n**2 * channel + n * row + column` is a sample, as `pixel_unshuffle` orders them.
    """
    at = torch.arange(block, dtype=torch.float64)
    cosines = torch.cos(math.pi / block * at[:, None] * (at + 0.5)) * math.sqrt(2 / block)
    cosines[0] /= math.sqrt(2)
    plane = torch.einsum("ir,jc->ijrc", cosines, cosines).reshape(block**2, block**2)
    ranked = sorted(range(block**2), key=lambda k: (sum(divmod(k, block)), divmod(k, block)))
    colours = torch.tensor(OPPONENT, dtype=torch.float64)
    return torch.einsum("ks,oc->kocs", plane[ranked], colours).reshape(3 * block**2, 3 * block**2)


def typical_spread(block: int) -> Tensor:
    """Rough standard deviation of each coefficient of `block_transform` in photographs, `(3 n**2,)`, in units of y.

    A power law in the rank, read off 40 photographs; where densities start, not where they end.
    """
    rank = torch.arange(block**2, dtype=torch.float64)
    spread = 1.5 * (1 + rank * (16 / block) ** 2) ** -0.6
    spread[0] = 0.48 * block
    return (spread[:, None] * torch.tensor([1.0, 0.25, 0.15])).flatten().float()


def _activation(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


def compressed(z: Tensor) -> Tensor:
    """`z / sqrt(1 + |z|)`: odd, of slope 1 at 0, and slow where latents are large; what networks read of latents."""
    return z / torch.sqrt(1 + z.abs())


def _whole_precision(x: Tensor) -> Tensor:
    """What the linear path computes in: its pixels and coefficients have more digits than bfloat16 keeps."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class Downsample(nn.Conv2d):
    """A 5 x 5 convolution of stride 2: `(B, inputs, 2H, 2W)` to `(B, outputs, H, W)`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, KERNEL_DOWN, stride=2, padding=KERNEL_DOWN // 2)
        _variance_preserving(self)


class Upsample(nn.Module):
    """A 3 x 3 convolution to `4 * outputs` channels, an activation, depth-to-space.

    Args:
        inputs, outputs: channels; `(B, inputs, H, W)` becomes `(B, outputs, 2H, 2W)`.
        last: start at zero and leave out the activation.
    """

    conv: nn.Conv2d

    def __init__(self, inputs: int, outputs: int, *, last: bool = False) -> None:
        super().__init__()
        self.last = last
        self.conv = nn.Conv2d(inputs, 4 * outputs, KERNEL_UP, padding=KERNEL_UP // 2)
        (_zero if last else _variance_preserving)(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, outputs, 2H, 2W)`."""
        x = self.conv(x)
        return depth_to_space(x if self.last else _activation(x))


class _Residual(nn.Module):
    """Depthwise 3 x 3, 1 x 1 to twice the width and back, added to the input; starts at the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.widen = _variance_preserving(nn.Conv2d(channels, 2 * channels, 1))
        self.narrow = _zero(nn.Conv2d(2 * channels, channels, 1))

    def forward(self, h: Tensor) -> Tensor:
        return h + self.narrow(_activation(self.widen(self.depthwise(h))))


def _variance_preserving(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.kaiming_normal_(conv.weight, a=SLOPE)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


def _zero(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


class ConvolutionalEncoder(nn.Module):
    """RGB in [0, 1] to a latent in units of the rounding step.

    `z = gain(lam) * (T y + net(y))`: T the block transform, net the stride-2 convolutions.

    Args:
        widths: channels after each stride-2 convolution; n of them make blocks of `2**n` pixels a side.
        lam: range over which gains are learned.

    Attributes:
        block: pixels per latent sample along a side.
        channels: of the latent, `3 * block**2`: the linear path loses nothing.
        reach: pixels beyond its own block that a latent sample depends on.
    """

    down: nn.ModuleList
    residual: _Residual
    features: Gains
    out: nn.Conv2d
    gain: Gains
    transform: Tensor

    def __init__(self, widths: Sequence[int] = WIDTHS, lam: tuple[float, float] = LAM_RANGE) -> None:
        super().__init__()
        self.block = 2 ** len(widths)
        self.channels = COLOURS * self.block**2
        self.down = nn.ModuleList(Downsample(a, b) for a, b in pairwise((COLOURS, *widths)))
        self.residual = _Residual(widths[-1])
        self.features = Gains(widths[-1], 0.0, lam)
        self.out = _zero(nn.Conv2d(widths[-1], self.channels, 1))
        self.gain = Gains(self.channels, 0.5, lam)
        self.register_buffer("transform", block_transform(self.block).float()[..., None, None], persistent=False)
        self.reach = self._reach()

    def _reach(self) -> int:
        left, right = -1, 1  # samples read by the residual block
        for _ in self.down:
            left, right = 2 * left - KERNEL_DOWN // 2, 2 * right + KERNEL_DOWN // 2
        return max(-left, right - (self.block - 1))

    def forward(self, y: Tensor, lam: Tensor) -> Tensor:
        """The latent, `(B, channels, H / block, W / block)`.

        Args:
            y: `(B, 3, H, W)`, sides multiples of `block`.
            lam: `(B,)`, nats per squared unit of y.

        Raises:
            ShapeError: y does not have this shape.
        """
        if y.ndim != 4 or y.shape[1] != COLOURS or y.shape[2] % self.block or y.shape[3] % self.block:
            raise ShapeError(
                f"The encoder needs (batch, 3, height, width) with sides that are multiples of {self.block}, "
                f"but y is {tuple(y.shape)}. Pad y first."
            )
        x = h = y - 0.5
        for layer in self.down:
            h = _activation(layer(h))
        correction = self.out(self.residual(h * self.features(lam)))
        with torch.autocast(y.device.type, enabled=False):
            linear = F.conv2d(_whole_precision(F.pixel_unshuffle(x, self.block)), self.transform)
        return self.gain(lam) * (linear + CORRECTION * correction)


class ConvolutionalDecoder(nn.Module):
    """A latent in units of the rounding step to RGB.

    `y_hat = T' (z / gain(lam)) + net(compressed z) * step(lam)`: what the network adds is in units of the step.

    Args:
        widths, lam: as for `ConvolutionalEncoder`; the network goes through the widths backwards.

    Attributes:
        block, channels: as for `ConvolutionalEncoder`.
        reach: pixels beyond a block whose latent samples its pixels depend on.
    """

    read: nn.Conv2d
    features: Gains
    residual: _Residual
    up: nn.ModuleList
    step: Gains
    gain: Gains
    transform: Tensor

    def __init__(self, widths: Sequence[int] = WIDTHS, lam: tuple[float, float] = LAM_RANGE) -> None:
        super().__init__()
        self.block = 2 ** len(widths)
        self.channels = COLOURS * self.block**2
        self.read = _variance_preserving(nn.Conv2d(self.channels, widths[-1], 1))
        self.features = Gains(widths[-1], 0.0, lam)
        self.residual = _Residual(widths[-1])
        sizes = (*reversed(widths), COLOURS)
        self.up = nn.ModuleList(Upsample(a, b, last=k == len(widths) - 1) for k, (a, b) in enumerate(pairwise(sizes)))
        self.step = Gains(COLOURS, -0.5, lam)
        self.gain = Gains(self.channels, -0.5, lam)
        inverse = block_transform(self.block).T.contiguous().float()
        self.register_buffer("transform", inverse[..., None, None], persistent=False)
        self.reach = self._reach()

    def _reach(self) -> int:
        left, right = 0, self.block - 1
        for _ in self.up:
            left, right = left // 2 - KERNEL_UP // 2, right // 2 + KERNEL_UP // 2
        return (max(-left, right) + 1) * self.block  # one more: the residual block

    def forward(self, z: Tensor, lam: Tensor) -> Tensor:
        """The reconstruction, `(B, 3, H, W)`, not clipped.

        Args:
            z: `(B, channels, H / block, W / block)`.
            lam: `(B,)`, that of the encoder.

        Raises:
            ShapeError: z does not have so many channels.
        """
        if z.ndim != 4 or z.shape[1] != self.channels:
            raise ShapeError(
                f"The decoder needs (batch, {self.channels}, height, width), but z is {tuple(z.shape)}. "
                "Build encoder and decoder with the same widths."
            )
        with torch.autocast(z.device.type, enabled=False):
            linear = F.pixel_shuffle(F.conv2d(_whole_precision(z) * self.gain(lam), self.transform), self.block)
        h = self.residual(_activation(self.read(compressed(z))) * self.features(lam))
        for layer in self.up:
            h = layer(h)
        return linear + h * self.step(lam) + 0.5
