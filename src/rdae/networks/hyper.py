"""The two halves of a hyperprior: a float network that summarises a latent, and an exact one that reads the summary.

The summary, rounded, is sent first as side information. From it an integer network (`networks.exact`) computes
for every symbol of the latent the index of a scale and a mean, the same numbers on every machine. Every sum of two
layers' outputs is a sum of whole numbers: layers are rounded before they are added, so each layer's own bound
shows that it is exact.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdae.coding.convolutional import MEAN_UNIT
from rdae.networks.convolutional import compressed
from rdae.networks.exact import SYMBOL_MAX, ExactConv, compand, exact_relu, floor_through, signed_and_absolute
from rdae.networks.shuffle import depth_to_space

__all__ = ["INDEX_UNIT", "MEAN_MAX", "HyperAnalysis", "HyperSynthesis"]

INDEX_UNIT = 8  # the network counts scale indices in eighths: keeps the last weights of ordinary size
MEAN_MAX = 512 * MEAN_UNIT  # means are sixteenths of a step, at most 512 steps
MEAN_GAIN = 4  # means can be large: the last layer counts them in quarters of a step
ENERGY_UNIT = 4.0  # pooled log-magnitudes are rounded in quarters of a nat
SLOPE = 0.1


class HyperAnalysis(nn.Module):
    """A latent to its summary: pooled log-magnitudes of groups of channels, and stride-2 convolutions beside them.

    The pooled path tells local scale from step 0; the convolutions start at zero.

    Args:
        block: the latent has `3 * block**2` channels, `3 * rank + colour` (see `networks.convolutional`).
        bands: groups of ranks of each colour; the summary has `3 * bands` channels.
        width: of the convolutions.
        levels: halvings of the resolution.
    """

    energy: nn.Conv2d
    read: nn.Conv2d
    down: nn.ModuleList
    out: nn.Conv2d

    def __init__(self, block: int, bands: int, width: int = 64, levels: int = 2) -> None:
        super().__init__()
        self.levels = levels
        channels, outputs = 3 * block**2, 3 * bands
        self.energy = nn.Conv2d(channels, outputs, 1)
        band = torch.floor(bands * torch.sqrt((torch.arange(block**2) + 0.5) / block**2)).long()
        group = (3 * band[:, None] + torch.arange(3)).flatten()
        member = F.one_hot(group, outputs).T.float()
        self.read = nn.Conv2d(channels, width, 1)
        self.down = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(levels))
        self.out = nn.Conv2d(width, outputs, 1)
        for conv in (self.read, *self.down):
            nn.init.kaiming_normal_(conv.weight, a=SLOPE)  # type: ignore[arg-type]
        with torch.no_grad():
            self.energy.weight.copy_((ENERGY_UNIT * member / member.sum(1, keepdim=True).clamp_min(1))[..., None, None])
            for parameter in (self.energy.bias, self.out.weight, self.out.bias):
                assert parameter is not None
                parameter.zero_()

    def forward(self, z: Tensor) -> Tensor:
        """`(B, 3 * bands, H / 2**levels, W / 2**levels)` of z, `(B, channels, H, W)`; not rounded."""
        pooled = F.avg_pool2d(self.energy(torch.log1p(z.abs())), 2**self.levels)
        h = F.leaky_relu(self.read(compressed(z)), SLOPE)
        for layer in self.down:
            h = F.leaky_relu(layer(h), SLOPE)
        return pooled + self.out(h)


class _Block(nn.Module):
    """Depthwise 3 x 3, 1 x 1, residual; activations stay integers in [0, 255]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = ExactConv(channels, channels, depthwise=True)
        self.pointwise = ExactConv(channels, channels, gain=0.3)

    def forward(self, h: Tensor) -> Tensor:
        return exact_relu(h + floor_through(self.pointwise(exact_relu(self.depthwise(h)))))


class _Up(nn.Module):
    """A 1 x 1 convolution to four times the channels, depth-to-space, a block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = ExactConv(channels, 4 * channels)
        self.block = _Block(channels)

    def forward(self, h: Tensor) -> Tensor:
        return self.block(depth_to_space(exact_relu(self.expand(h))))


class HyperSynthesis(nn.Module):
    """A rounded summary to scale indices and means, in exact arithmetic.

    Args:
        inputs: channels of the summary.
        channels: of the latent.
        width: of the network.
        levels: doublings of the resolution.
    """

    def __init__(self, inputs: int, channels: int, width: int = 64, levels: int = 2) -> None:
        super().__init__()
        self.read = ExactConv(2 * inputs, width, gain=0.5, input_max=SYMBOL_MAX)
        self.first = _Block(width)
        self.up = nn.Sequential(*(_Up(width) for _ in range(levels)))
        self.hidden = ExactConv(width, width)
        self.index = ExactConv(width, channels, gain=0.1)
        self.mean = ExactConv(width, channels, gain=0.02)

    def forward(self, w: Tensor, bias: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """What the summary says of each symbol of the latent, `(B, channels, H, W)` each.

        Args:
            w: whole numbers, `(B, inputs, H / 2**levels, W / 2**levels)`.
            bias: whole numbers, `(B, width, 1, 1)`: what the network is told of lam.
            shift: whole numbers, `(B, channels, 1, 1)`, added to the indices.

        Returns:
            `(index, mean)`: scale index in units of `1 / INDEX_UNIT`, mean in units of `1 / MEAN_UNIT`; whole numbers.
        """
        h = exact_relu(floor_through(self.read(signed_and_absolute(compand(w)))) + bias)
        h = exact_relu(self.hidden(self.up(self.first(h))))
        index = floor_through(self.index(h)) + shift
        # layers add 1/2 for rounding; scaled by a power of two it must be taken out first
        mean = floor_through(MEAN_GAIN * (self.mean(h) - 0.5) + 0.5)
        return index, mean.clamp(-MEAN_MAX, MEAN_MAX)

    def accumulator_bound(self) -> float:
        """Largest partial sum of any layer, in units of its smallest step.

        Raises:
            ModelError: a layer could leave the range in which float32 counts exactly.
        """
        return max(layer.accumulator_bound() for layer in self.modules() if isinstance(layer, ExactConv))
