"""The inverse wavelet pyramid as a decoder of convolutions: one 3 x 3 convolution and one depth-to-space a level.

Lifting (`networks.wavelet`) takes some hundred small operations. Folded 4 x 4, a level is a single convolution of
16 channels to 16: the taps of CDF 9/7 reach at most one folded position away. Same numbers, up to rounding, in a
third of the operations; this is what the synthesis graph of a codec file runs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdae.coding.pyramid_order import OPPONENT
from rdae.networks.wavelet import Steps, basis_norms, scales_of_bands, wavelet_synthesis

__all__ = ["BlocksToPixels", "FoldedSynthesis"]

BANDS = 4  # low, and the three orientations of detail
PHASES = 4  # of a 2 x 2 block


# Mirrored extension by two samples, as phases of a 2 x 2 block: [to phase, from phase, position among those read].
# Low-pass samples are mirrored about the first one and behind the last one, high-pass samples the other way round.
_BEFORE_LOW = torch.tensor([[0.0, 0.0], [0.0, 1.0]])[..., None]  # x[-1] = x[1]; no filter reaches x[-2]
_BEFORE_HIGH = torch.tensor([[0.0, 1.0], [1.0, 0.0]])[..., None]  # x[-2], x[-1] = x[1], x[0]
_AFTER_LOW = torch.tensor([[[0.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 0.0]]])  # x[N], x[N + 1] = x[N - 1], x[N - 2]
_AFTER_HIGH = torch.tensor([[[0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]])  # x[N], x[N + 1] = x[N - 2], x[N - 3]


def _mirror(low: Tensor, high: Tensor, *, rows: bool) -> Tensor:
    """Kernel of zeros and ones that extends 16 folded bands, `(16, 16, 1, K)`, or `(16, 16, K, 1)` for rows."""
    kernel = torch.zeros(BANDS, PHASES, BANDS, PHASES, low.shape[-1])
    other = torch.eye(2)  # the phase in the other direction stays
    for band in range(BANDS):
        strip = (low, high)[band >> 1 if rows else band & 1]  # low, horizontal, vertical, diagonal
        order = "abk,cd->acbdk" if rows else "abk,cd->cadbk"
        kernel[band, :, band] = torch.einsum(order, strip, other).reshape(PHASES, PHASES, -1)
    kernel = kernel.reshape(BANDS * PHASES, BANDS * PHASES, -1)
    return kernel[..., None] if rows else kernel[:, :, None]


class _Border(nn.Module):
    """Mirrored extension of folded bands by one position on all four sides."""

    left: Tensor
    right: Tensor
    top: Tensor
    bottom: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("left", _mirror(_BEFORE_LOW, _BEFORE_HIGH, rows=False))
        self.register_buffer("right", _mirror(_AFTER_LOW, _AFTER_HIGH, rows=False))
        self.register_buffer("top", _mirror(_BEFORE_LOW, _BEFORE_HIGH, rows=True))
        self.register_buffer("bottom", _mirror(_AFTER_LOW, _AFTER_HIGH, rows=True))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 16, H, W)` to `(B, 16, H + 2, W + 2)`."""
        left = F.conv2d(x[..., :1], self.left)
        right = F.conv2d(torch.cat([left, x[..., -2:]], 3)[..., -2:], self.right)  # x may be one position wide
        x = torch.cat([left, x, right], 3)
        top = F.conv2d(x[..., :1, :], self.top)
        bottom = F.conv2d(torch.cat([top, x[..., -2:, :]], 2)[..., -2:, :], self.bottom)
        return torch.cat([top, x, bottom], 2)


@torch.no_grad()
def _kernel(low: float, details: tuple[float, float, float]) -> Tensor:
    """`(16, 16, 3, 3)`: 2 x 2 blocks of four bands to 4 x 4 blocks of pixels, bands divided by their norms.

    Read off the impulse responses of the transform. Inputs are numbered `4 * band + 2 * a1 + a2`; outputs
    `4 * p + q` for the pixel `(p, q)` of a block.
    """
    norms = basis_norms(1)
    gains = [norms[0] / low, *(own / wanted for own, wanted in zip(norms[1][0], details, strict=True))]
    kernel = torch.zeros(BANDS * PHASES, BANDS * PHASES, 3, 3, dtype=torch.float64)
    side, at = 16, 8
    for band in range(BANDS):
        for phase in range(PHASES):
            bands = [torch.zeros(1, count, side, side, dtype=torch.float64) for count in (1, 3)]
            where = bands[min(band, 1)][0, max(band - 1, 0)]
            where[at + phase // 2, at + phase % 2] = gains[band]
            y = wavelet_synthesis(bands)[0, 0]
            blocks = y[2 * at - 4 : 2 * at + 8, 2 * at - 4 : 2 * at + 8].unflatten(0, (3, 4)).unflatten(2, (3, 4))
            response = blocks.permute(1, 3, 0, 2).reshape(BANDS * PHASES, 3, 3)
            kernel[:, PHASES * band + phase] = response.flip(1, 2)
    return kernel


class FoldedSynthesis(nn.Module):
    """`wavelet_synthesis` of folded sub-bands, in blocks of 4 x 4.

    Args:
        levels: wavelet levels.
        dtype: of the samples.
        steps: of the bands, as for `wavelet_analysis`.
    """

    def __init__(self, levels: int, dtype: torch.dtype = torch.float32, steps: Steps | None = None) -> None:
        super().__init__()
        coarsest, details = scales_of_bands(levels, steps)
        self.border = _Border()
        for level in range(levels, 0, -1):
            kernel = _kernel(coarsest if level == levels else 1.0, details[level - 1])
            if level > 1:  # the low band of the next level: its phases stay channels, depth-to-space takes the others
                kernel = kernel.unflatten(0, (2, 2, 2, 2)).permute(1, 3, 0, 2, 4, 5, 6).flatten(0, 3)
            self.register_buffer(f"kernel{level}", kernel)
        self.levels = levels
        self.to(dtype)

    def forward(self, low: Tensor, details: list[Tensor]) -> Tensor:
        """Blocks of 4 x 4 samples of three colours, `(3, 16, h, w)`, in the unit of the sub-bands.

        Args:
            low: coarsest band, `(1, 3, h, w)`, h and w even.
            details: folded, coarse to fine, `(1, 36, h / 2, w / 2)`, `(1, 36, h, w)`, ...
        """
        return self.finest(self.coarse(low, details[:-1]), details[-1])

    def coarse(self, low: Tensor, details: list[Tensor]) -> Tensor:
        """The picture at half its size, the low band of level 1, in 2 x 2 blocks: `(3, 4, h, w)`.

        Args:
            low: as for `forward`.
            details: likewise, all but the finest.
        """
        x = F.pixel_unshuffle(low.flatten(0, 1)[:, None], 2)
        for level, detail in zip(range(self.levels, 1, -1), details, strict=True):
            x = F.pixel_shuffle(self._merged(x, detail, level), 2)
        return x

    def finest(self, half: Tensor, detail: Tensor) -> Tensor:
        """Blocks as `forward` gives them, of what `coarse` gave and the finest details."""
        return self._merged(half, detail, 1)

    def _merged(self, low: Tensor, detail: Tensor, level: int) -> Tensor:
        bands = torch.cat([low, detail.reshape(3, 12, *detail.shape[-2:])], 1)
        return F.conv2d(self.border(bands), getattr(self, f"kernel{level}"))


class BlocksToPixels(nn.Module):
    """`opponent_to_rgb` of blended blocks, plus 1/2, clipped: two matrix products that lay blocks out as rows.

    Args:
        dtype: of the pixels.
    """

    colour: Tensor
    middle: Tensor

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        # from (opponent colour, pixel of a 4 x 4 block) to (pixel, RGB)
        opponent, pixels = torch.tensor(OPPONENT, dtype=torch.float64), torch.eye(16, dtype=torch.float64)
        self.register_buffer("colour", torch.einsum("or,pq->opqr", opponent, pixels).reshape(48, 48))
        self.register_buffer("middle", torch.full((48,), 0.5))  # of the range of pixels
        self.to(dtype)

    def forward(self, blocks: Tensor, change: Tensor, maps: Tensor, unit: Tensor) -> Tensor:
        """RGB pixels in [0, 1], `(4 h, 4 w, 3)`.

        Args:
            blocks: `(3, 16, h, w)` as `FoldedSynthesis` makes them.
            change: their correction, `(1, 48, h, w)`.
            maps: of the contrast within blocks, then of their correction, `(96, 48)`; see `networks.blending`.
            unit: theirs, in units of the pixels, `(1,)`.
        """
        height, width = blocks.shape[-2:]
        colour = self.colour * unit
        blended = maps @ colour
        own = blended[:48].reshape(3, 16, 48)
        own = (own - own.mean(1, keepdim=True)).reshape(48, 48)  # what reads contrast, as what reads samples
        rows = torch.addmm(self.middle, _rows(blocks), colour + own) + _rows(change) @ (colour + blended[48:])
        pixels = rows.reshape(height, width, 4, 12).transpose(1, 2).reshape(4 * height, 4 * width, 3)
        return pixels.clamp(0, 1)


def _rows(blocks: Tensor) -> Tensor:
    return blocks.reshape(48, blocks.shape[-2] * blocks.shape[-1]).T
