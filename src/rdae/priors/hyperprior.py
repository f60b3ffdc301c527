"""A mean-scale hyperprior whose decoder is exact: Balle et al. 2018 and Minnen, Balle & Toderici 2018, in integers.

A summary of the latent goes first, coded with a factorised prior. An integer network reads it and names for every
symbol a scale index, which is the number of a table, and a mean on a grid of sixteenths. Symbols are
`round(z - mean)`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rdae.channels import Channel, Coded, Conditional
from rdae.coding.convolutional import MEAN_UNIT, SKIPPED_MAX
from rdae.errors import ShapeError
from rdae.networks.exact import floor_through
from rdae.networks.gains import LAM_RANGE, Gains, Interpolated
from rdae.networks.hyper import INDEX_UNIT, HyperAnalysis, HyperSynthesis
from rdae.priors.density import SCALE_MIN, SCALE_RATIO, SymbolDensity
from rdae.priors.factorised import FactorisedPrior

__all__ = ["Hyperprior"]

BIAS_MAX = 127
SUMMARY_SPREAD = 4.0


class Hyperprior(nn.Module):
    """Prior over a latent of `networks.convolutional`.

    Args:
        spread: standard deviation of each of the `3 * block**2` channels at lam = 6; where training starts.
        bands: groups of frequencies of each colour that the summary describes; `block` if not given.
        width: of both networks.
        levels: the summary is coarser than the latent by `2**levels`.
        scales: number of scale indices.
        lam: range over which the shifts of the indices are learned.
    """

    analysis: HyperAnalysis
    synthesis: HyperSynthesis
    summary: FactorisedPrior
    density: SymbolDensity
    quality: Interpolated
    scale: Gains
    start: Tensor

    def __init__(
        self,
        spread: Tensor,
        *,
        bands: int | None = None,
        width: int = 64,
        levels: int = 2,
        scales: int = 56,
        lam: tuple[float, float] = LAM_RANGE,
    ) -> None:
        super().__init__()
        block = math.isqrt(len(spread) // 3)
        if 3 * block**2 != len(spread):
            raise ShapeError(
                f"A hyperprior describes 3 * n**2 channels, not {len(spread)}. Pass typical_spread(n), n the block."
            )
        bands = bands or block
        self.levels = levels
        self.analysis = HyperAnalysis(block, bands, width, levels)
        self.synthesis = HyperSynthesis(3 * bands, len(spread), width, levels)
        self.summary = FactorisedPrior(torch.full((3 * bands,), SUMMARY_SPREAD), slope=0.0, lam=lam)
        self.density = SymbolDensity(scales, dead_zone=None)
        self.quality = Interpolated(width, lam)
        self.scale = Gains(len(spread), 0.5, lam)
        # a logistic of scale s has standard deviation 1.8 s; at a typical place a channel is narrower than on average
        start = torch.log(0.35 * spread / SCALE_MIN) / math.log(SCALE_RATIO)
        self.register_buffer("start", start, persistent=False)

    def told(self, lam: Tensor) -> tuple[Tensor, Tensor]:
        """What the exact network is told of lam, `(B,)`: whole numbers.

        Returns:
            `(bias, shift)` as `HyperSynthesis.forward` takes them; codec files hold them for every quality level.
        """
        bias = floor_through((16 * self.quality(lam)).clamp(-BIAS_MAX, BIAS_MAX) + 0.5)
        index = self.start + self.scale.log(lam) / math.log(SCALE_RATIO)
        shift = floor_through(INDEX_UNIT * index + 0.5)
        return bias[..., None, None], shift[..., None, None]

    def forward(self, z: Tensor, channel: Channel, lam: Tensor) -> Coded:
        """Sends the summary and the latent, and rates both.

        Args:
            z: `(B, channels, H, W)` in units of the rounding step, sides multiples of `2**levels`.
            channel: any; in `train()` mode the exact network reads what the channel shows to a decoder.
            lam: weight of the distortion, `(B,)`.

        Raises:
            ShapeError: z has another number of channels, or sides that cannot be halved so often.
        """
        unit = 2**self.levels
        if z.ndim != 4 or z.shape[1] != len(self.start) or z.shape[2] % unit or z.shape[3] % unit:
            raise ShapeError(
                f"This hyperprior needs (batch, {len(self.start)}, height, width) with sides that are multiples of "
                f"{unit}, but z is {tuple(z.shape)}. Pad the image first."
            )
        with torch.autocast(z.device.type, enabled=False):  # integers do not survive 16-bit floats
            return self._code(z.float(), channel, lam.float())

    def _code(self, z: Tensor, channel: Channel, lam: Tensor) -> Coded:
        summary = self.summary(self.analysis(z), channel, lam)
        index, mean = self.synthesis(summary.latent, *self.told(lam))
        index, mean = index / INDEX_UNIT, mean / MEAN_UNIT
        if not self.training:
            index = torch.floor(index + 0.5).clamp(0, self.density.scales - 1)
        sent = channel(z, mean, Conditional(self.density, (index, torch.zeros_like(index))))  # type: ignore[arg-type]
        nats = -self.density.log_prob(sent.rate - mean, index, torch.zeros_like(index))
        if self.training:
            return Coded(sent.decoder, summary.rate + nats.sum((1, 2, 3)))
        latent, nats = _skip(sent.decoder, mean, nats, index == 0)
        return Coded(latent, summary.rate + nats.sum((1, 2, 3)))


def _skip(latent: Tensor, mean: Tensor, nats: Tensor, certain: Tensor) -> tuple[Tensor, Tensor]:
    """Leaves out symbols that are all but certain, in examples where none of them is large, as the coder does."""
    lost = torch.where(certain, (latent - mean).abs(), 0.0).amax((1, 2, 3), keepdim=True)
    skipped = certain & (lost <= SKIPPED_MAX)
    return torch.where(skipped, mean, latent), torch.where(skipped, 0.0, nats)
