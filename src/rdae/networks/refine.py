"""What a decoder knows beyond the middle of each bin: corrections to dequantised sub-bands.

A zero is not the best estimate of a coefficient that was rounded to zero next to an edge, and the middle of
a bin is not its mean. A network reads the symbols of a level and of the two coarser ones and adds to each
coefficient of the level a correction in units of the step. The last layer starts at zero, so training
starts at the linear path.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdae.networks.exact import compand
from rdae.networks.shuffle import depth_to_space, space_to_depth

__all__ = ["REFINED_LEVELS", "RefinerSize", "SubbandRefiner"]

REFINED_LEVELS = 3
INPUT_SCALE = 1 / 16


class RefinerSize(NamedTuple):
    """Of the network of one level."""

    channels: int
    inner: int
    blocks: int


SIZES = (RefinerSize(32, 48, 1), RefinerSize(48, 64, 2), RefinerSize(48, 64, 2))


class _FloatBlock(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.widen = nn.Conv2d(channels, inner, 1)
        self.narrow = nn.Conv2d(inner, channels, 1)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.narrow(F.relu(self.widen(self.depthwise(h))))


class _LevelRefiner(nn.Module):
    """Reads 9 bands x 4 phases of its level, 9 parents, 9 grandparents; corrects its 36 coefficients."""

    def __init__(self, channels: int, inner: int, blocks: int) -> None:
        super().__init__()
        self.read = nn.Conv2d(54, channels, 1)
        self.blocks = nn.Sequential(*(_FloatBlock(channels, inner) for _ in range(blocks)))
        self.write = nn.Conv2d(channels, 36, 1)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)  # type: ignore[arg-type]

    def forward(self, own: Tensor, parents: Tensor, grandparents: Tensor, bias: Tensor) -> Tensor:
        """Folded corrections from companded symbols: own folded, the others unfolded."""
        coarse = F.interpolate(grandparents, scale_factor=2.0, mode="nearest")
        g = torch.cat([own, parents, coarse], 1)
        h = F.conv2d(g, self.read.weight * INPUT_SCALE, self.read.bias)  # scales weights once, not every input
        return self.write(self.blocks(h + bias))


class SubbandRefiner(nn.Module):
    """Corrections, in steps, to the three finest levels of a symbol pyramid.

    Args:
        sizes: width, inner width and number of blocks of the network of level 1, 2 and 3. Level 1 has three quarters
            of the coefficients, so its network decides what decoding costs.
    """

    def __init__(self, sizes: tuple[RefinerSize, ...] = SIZES) -> None:
        super().__init__()
        self.nets = nn.ModuleList(_LevelRefiner(*size) for size in sizes)
        self.widths = [size.channels for size in sizes]
        self.quality = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, sum(self.widths)))

    def forward(self, symbols: list[Tensor], log_step: Tensor) -> list[Tensor]:
        """Refined latents in units of the step, same shapes as `symbols`; `log_step` is `(B,)`."""
        fine = [compand(q) for q in symbols[-REFINED_LEVELS - 2 :]]
        corrections = self.corrections([space_to_depth(g) for g in fine[2:]], fine, log_step)
        changed = [q + depth_to_space(c) for q, c in zip(symbols[-REFINED_LEVELS:], corrections, strict=True)]
        return [*symbols[:-REFINED_LEVELS], *changed]

    def corrections(self, folded: list[Tensor], unfolded: list[Tensor], log_step: Tensor) -> list[Tensor]:
        """Folded corrections in units of the step, coarse to fine.

        Args:
            folded: companded symbols of levels 3, 2, 1, `(B, 36, H, W)`.
            unfolded: companded symbols of levels 5, 4, 3, 2 (and more), `(B, 9, H, W)`.
            log_step: ln of the step in grey levels, `(B,)`.
        """
        x = (log_step[:, None] - 3.0) / 1.2
        biases = self.quality(torch.cat([x, x * x, torch.sin(2 * x)], 1))[..., None, None].split(self.widths, 1)
        return [
            self.nets[level - 1](own, unfolded[k + 1], unfolded[k], biases[level - 1])
            for k, (level, own) in enumerate(zip(range(REFINED_LEVELS, 0, -1), folded, strict=True))
        ]
