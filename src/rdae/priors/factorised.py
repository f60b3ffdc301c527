"""A factorised prior: each channel of the latent has a learned density, and samples are independent given it.

The rate of a rounded symbol n is `-ln (F(n + 1/2) - F(n - 1/2))` for a cumulative F. The same expression at a real
point is the density there of z + u, u uniform on (-1/2, 1/2): the convolution p * U read at z. So one function is the
training rate under uniform noise and the code length of the file (Balle, Laparra & Simoncelli 2017, eq. 9 to 11).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdae.channels import Channel, Coded, Conditional, round_half_up
from rdae.errors import ShapeError
from rdae.networks.gains import LAM_RANGE, Gains

__all__ = ["LOG_CUMULATIVES", "SCALE_RATIO", "ChannelDensity", "FactorisedPrior", "unit_bin_log_mass"]

# Between neighbouring scale indices. A scale halfway between two costs so many nats a symbol at most: 0.0051 logistic,
# 0.0072 gaussian, 0.0035 laplace, 0.0024 a mixture of logistics as it starts (`tests/test_training.py` measures them)
SCALE_RATIO = 1.18
SCALE_MIN = 1e-3  # a bin is a thousand times wider: smaller scales cannot be told apart


def _laplace_log_cumulative(x: Tensor) -> Tensor:
    below = torch.minimum(x, torch.zeros_like(x)) - math.log(2)
    return torch.where(x < 0, below, torch.log1p(-0.5 * torch.exp(-x.clamp_min(0))))


LOG_CUMULATIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "logistic": F.logsigmoid,
    "gaussian": torch.special.log_ndtr,
    "laplace": _laplace_log_cumulative,
}


def _log_cumulative(family: str) -> Callable[[Tensor], Tensor]:
    if family not in LOG_CUMULATIVES:
        raise ShapeError(f"There is no family {family!r} of densities. Choose one of {', '.join(LOG_CUMULATIVES)}.")
    return LOG_CUMULATIVES[family]


def unit_bin_log_mass(z: Tensor, loc: Tensor, scale: Tensor, family: str = "logistic") -> Tensor:
    """`ln (F(z + 1/2) - F(z - 1/2))` of a symmetric density, in nats; exact in both tails. Shapes broadcast.

    Args:
        z: symbols or noisy latents.
        loc: mean.
        scale: of the family: standard deviation of "gaussian", the usual scale of "logistic" and "laplace".
        family: a key of `LOG_CUMULATIVES`.
    """
    log_cumulative = _log_cumulative(family)
    d = (z - loc).abs()  # by symmetry, read the left tail: the right one rounds to 1 - 1
    upper, lower = log_cumulative((0.5 - d) / scale), log_cumulative((-0.5 - d) / scale)
    return upper + torch.log(-torch.expm1(lower - upper))


class ChannelDensity(nn.Module):
    """Learned densities, a mixture of symmetric components for each channel.

    A scale index stretches a channel's density by `SCALE_RATIO**index`: latents in finer steps are wider.

    Args:
        spread: standard deviation of each channel at index 0, `(channels,)`, where the densities start.
        components: of each mixture.
        family: of the components, a key of `LOG_CUMULATIVES`.
    """

    def __init__(self, spread: Tensor, components: int = 3, family: str = "logistic") -> None:
        super().__init__()
        _log_cumulative(family)
        self.family = family
        self.logit = nn.Parameter(torch.zeros(len(spread), components))
        self.mean = nn.Parameter(torch.zeros(len(spread), components))  # in scales
        widths = torch.linspace(-1.2, 0.8, components) if components > 1 else torch.zeros(1)
        self.log_scale = nn.Parameter(torch.log(0.4 * spread)[:, None] + widths)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.logit.shape[0]

    def _components(self, channel: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scale = torch.exp(self.log_scale[channel] + index[..., None] * math.log(SCALE_RATIO)).clamp_min(SCALE_MIN)
        return F.log_softmax(self.logit, 1)[channel], self.mean[channel] * scale, scale

    def log_prob(self, z: Tensor, channel: Tensor, index: Tensor) -> Tensor:
        """`ln (F(z + 1/2) - F(z - 1/2))` in nats; all three broadcast.

        Args:
            z: symbols or noisy latents.
            channel: number of the channel, int64.
            index: scale index, may be fractional.
        """
        weight, mean, scale = self._components(channel, index)
        return torch.logsumexp(weight + unit_bin_log_mass(z[..., None], mean, scale, self.family), -1)

    def cumulative(self, z: Tensor, channel: Tensor, index: Tensor) -> Tensor:
        """F(z), the probability of a latent below z before rounding; arguments as for `log_prob`."""
        weight, mean, scale = self._components(channel, index)
        return torch.exp(torch.logsumexp(weight + _log_cumulative(self.family)((z[..., None] - mean) / scale), -1))

    @torch.no_grad()
    def reach(self, channel: Tensor, index: Tensor, tails: float = 14.0) -> Tensor:
        """How far from 0 a symbol may lie before its probability is below about `exp(-tails)`; int64."""
        _, mean, scale = self._components(channel, index)
        return torch.ceil((mean.abs() + tails * scale).amax(-1) + 0.5).long()


class FactorisedPrior(nn.Module):
    """Prior with one density per channel and nothing else.

    Args:
        spread: standard deviation of each channel at lam = 6, `(channels,)`, where step 1 is best; a start.
        slope: how scales grow with lam at the start: 1/2 for latents in units of the step, 0 for others.
        lam: range over which scales are learned.
        components, family: as for `ChannelDensity`.
    """

    density: ChannelDensity
    gain: Gains

    def __init__(
        self,
        spread: Tensor,
        slope: float = 0.5,
        lam: tuple[float, float] = LAM_RANGE,
        components: int = 3,
        family: str = "logistic",
    ) -> None:
        super().__init__()
        self.density = ChannelDensity(spread, components, family)
        self.gain = Gains(len(spread), slope, lam)

    def index(self, lam: Tensor) -> Tensor:
        """Scale index of each channel, `(B, channels)`; a whole number in `eval()` mode, for which tables exist."""
        index = self.gain.log(lam) / math.log(SCALE_RATIO)
        return index if self.training else round_half_up(index)

    def forward(self, z: Tensor, channel: Channel, lam: Tensor) -> Coded:
        """Sends and rates a latent.

        Args:
            z: `(B, channels, H, W)`, in units of the rounding step.
            channel: any.
            lam: weight of the distortion, `(B,)`.

        Raises:
            ShapeError: z has another number of channels.
        """
        if z.ndim != 4 or z.shape[1] != self.density.channels:
            raise ShapeError(
                f"This prior has densities for {self.density.channels} channels, but z is {tuple(z.shape)}. "
                "Build it with one spread for each channel of the latent."
            )
        with torch.autocast(z.device.type, enabled=False):
            z = z.float() if z.dtype in (torch.bfloat16, torch.float16) else z
            index = self.index(lam)[..., None, None]
            number = torch.arange(self.density.channels, device=z.device)[:, None, None]
            sent = channel(z, prior=Conditional(self.density, (number.expand_as(z), index.expand_as(z))))  # type: ignore[arg-type]
            nats = -self.density.log_prob(sent.rate, number, index).sum((1, 2, 3))
        return Coded(sent.decoder, nats)
