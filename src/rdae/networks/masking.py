"""Masking: an error is seen less where the picture is busy, so an encoder may spend fewer bits there.

The decoder knows nothing of it. Rounding that weighs squared error against bits (`RateDistortionRounding`) has one
weight; a latent moved within its bin is rounded as if that weight were another.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["leaning", "visibility"]

# by measurement, in MS-SSIM at equal bytes (docs/codec-notebook.md)
FLAT, EXPONENT, LEAST = 4.0, 0.6, 1 / 12
UNSEEN = 0.03**2 / 2  # variance up to which a surround hides nothing: C2 / 2 of structural similarity


def visibility(y: Tensor, levels: int) -> list[Tensor]:
    """How much a squared error counts at each place of each level of a pyramid.

    It falls with the variance of the picture as a level sees it, in a 3 x 3 window.

    Args:
        y: `(B, 3, H, W)` in [0, 1], sides multiples of `2**levels`.
        levels: of the pyramid.

    Returns:
        Coarse to fine, `(B, 1, H / 2**level, W / 2**level)` each: 4 where the picture is flat, at least 1/12.
    """
    with torch.autocast(y.device.type, enabled=False):  # a variance is a small difference of squares
        return _visibility(y.float(), levels)


def _visibility(y: Tensor, levels: int) -> list[Tensor]:
    taps = y.new_tensor([0.25, 0.5, 0.25])
    window = torch.outer(taps, taps).expand(3, 1, 3, 3)
    found = []
    for _ in range(levels):
        y = F.avg_pool2d(y, 2)
        around = F.pad(y, (1, 1, 1, 1), mode="replicate")
        mean = F.conv2d(around, window, groups=3)
        variance = (F.conv2d(around * around, window, groups=3) - mean * mean).clamp_min(0).mean(1, keepdim=True)
        found.append((FLAT * (1 + variance / UNSEEN) ** -EXPONENT).clamp_min(LEAST))
    return found[::-1]


def leaning(z: Tensor, weight: Tensor) -> Tensor:
    """Latents within the same bins, which rounding by rate and distortion treats as if errors counted `weight` times.

    Between n - 1 and n, the nearest, rounding down costs `2 f - 1` more squared error, f being how far |z| lies above
    n - 1, from 1/2 to 3/2. That excess is multiplied by the weight, and kept below 2, where the bin ends.

    Args:
        z: latents in units of the step, any shape.
        weight: positive; broadcasts against z.
    """
    size = z.abs()
    below = torch.floor(size + 0.5) - 1
    excess = ((size - below - 0.5) * weight).clamp(0, 1 - 1e-3)
    return torch.where(below >= 0, torch.sign(z) * (below + 0.5 + excess), z)
