"""Effort: symbols of one picture chosen again and again, by what they do to the rate and through the whole decoder.

The encoder rounds each latent with an eye on its own bits and its own error, having seen what the decoder makes of a
draft. The decoder corrects each coefficient by what stands around it, so a symbol also changes its neighbours' errors.
Each step here takes the gradient of the distortion through the decoder, adds the curvature of the linear path and
the exact change of the symbol's own bits, and moves a random share of those symbols that gain by one up or one down. If
all in all that did not gain, because symbols also are what later ones are told by, it is taken back, and the share is
halved. The distortion is the squared error, or, of a model whose encoder masks errors, another that it was trained for,
such as MS-SSIM; its curvature then is what errors weigh when that encoder rounds.

Needs PyTorch and the trained weights, which shipped models have beside them.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import Channel, Conditional
from rdae.channels.rounding import Sent
from rdae.coding.fidelity import MS_SSIM_SIDE
from rdae.coding.pyramid_order import CERTAIN, groups_of_level, places_of_level
from rdae.distortions import squared_error
from rdae.errors import ModelError
from rdae.networks.masking import visibility
from rdae.networks.shuffle import depth_to_space, space_to_depth
from rdae.priors.subbands import SubbandPrior

__all__ = ["EFFORT_MAX", "Progress", "Refiner", "steps_of"]

Progress = Callable[[int, int], None]  # done, of how many

EFFORT_MAX = 9
SHARE = 0.4  # of the symbols that would gain, those that move in a step at first; neighbours' gains are not independent
# of lam; with less, files of a quality become smaller and worse, with more larger and better
LEAN, LEAN_MASKED = 1.05, 0.2  # of squared error; of a distortion whose curvature is that of masking
LEAST = 0.3  # nats; smaller gains are within what the estimate leaves out


def steps_of(effort: int) -> int:
    """Steps of an effort from 1 to 9: 2, 3, 4, 6, 9, 13, 19, 28, 40."""
    return round(1.45**effort * 1.42)


class _Costs(Channel):
    """Sends whole numbers as they are, and notes what one more and one less of each would cost, in nats."""

    def __init__(self, certain: int) -> None:
        super().__init__()
        self._certain = certain
        self.up: list[Tensor] = []
        self.down: list[Tensor] = []

    def forward(self, z: Tensor, mean: Tensor | float = 0.0, prior: Conditional | None = None) -> Sent:
        assert prior is not None
        index, _ = prior.parameters
        certain = index <= self._certain  # near-certain zeros, which files leave out
        here = prior.log_prob(z)
        for costs, q in ((self.up, z + 1), (self.down, z - 1)):
            costs.append((here - prior.log_prob(q)).masked_fill(certain, torch.inf))
        return Sent(z, z)


class Refiner:
    """Chooses the symbols of a tile again. A tile too small for MS-SSIM stays as it is, where that is the distortion.

    Args:
        model: the trained model behind a codec file, with a SubbandPrior.
        effort: 1 to 9, see `steps_of`.
        seconds: of each tile, after which no further step begins; None for no limit.
        progress: told how many steps of a tile are done, by the thread that takes them; in the end, early or not, all.
        certain: largest scale index of near-certain zeros, of the codec file.

    Raises:
        ModelError: another kind of model.
    """

    def __init__(
        self,
        model: RateDistortionAutoencoder,
        effort: int,
        seconds: float | None = None,
        progress: Progress | None = None,
        certain: int = CERTAIN,
    ) -> None:
        if not isinstance(model.prior, SubbandPrior):
            raise ModelError(
                f"Effort works for models with a SubbandPrior, such as photo, not {type(model.prior).__name__}. "
                "Use effort 0."
            )
        encoder: Any = model.encoder
        self._masked = model.distortion is not squared_error
        if self._masked and not encoder.masked:
            raise ModelError(
                "Effort knows squared error, and of other distortions those of models that mask errors, as photo-ssim "
                "does. This model does not. Use effort 0, or photo."
            )
        self._model = copy.deepcopy(model).eval().requires_grad_(False)  # that of the caller stays as it is
        self._certain = certain
        self._steps, self._seconds = steps_of(effort), seconds
        self._progress = progress or (lambda done, total: None)

    def __call__(
        self, pixels: np.ndarray, symbols: list[np.ndarray], lam: float, blend: np.ndarray
    ) -> list[np.ndarray]:
        """Better symbols of a tile; as `rdae.coding.coder.Refine` says."""
        until = time.monotonic() + self._seconds if self._seconds is not None else None
        weight = torch.tensor([lam], dtype=torch.float32)
        y = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        if self._masked and min(pixels.shape[:2]) < MS_SSIM_SIDE:
            self._progress(self._steps, self._steps)
            return symbols
        low, *details = (torch.from_numpy(x.astype(np.float32))[None] for x in symbols)
        q = [low, *(depth_to_space(x) for x in details)]
        generator = torch.Generator().manual_seed(0)  # the same picture gives the same file
        curvatures = self._curvatures(y, q[1:])
        cost, moves = self._look(q, y, weight, blend, curvatures)
        share = SHARE
        for step in range(self._steps):
            self._progress(step, self._steps)
            if until is not None and time.monotonic() > until:
                break
            tried = [q[0], *(x + _moved(*move, share, generator) for x, move in zip(q[1:], moves, strict=True))]
            found, next_moves = self._look(tried, y, weight, blend, curvatures)
            if found < cost:
                q, cost, moves = tried, found, next_moves
            else:
                share /= 2  # too many at once: what one gained another lost
        self._progress(self._steps, self._steps)
        low, *details = q
        return [x[0].numpy().astype(np.int16) for x in (low, *(space_to_depth(x) for x in details))]

    def _look(
        self, q: list[Tensor], y: Tensor, lam: Tensor, blend: np.ndarray, curvatures: list[Tensor]
    ) -> tuple[float, list[tuple[Tensor, Tensor]]]:
        """Rate + lean * lam * distortion, and of each level what one more and one less would change of it, in nats."""
        prior: Any = self._model.prior
        costs = _Costs(self._certain)
        with torch.no_grad():
            rate = float(prior(q, costs, lam).rate)
        leaves = [x.detach().requires_grad_() for x in q]
        blended = torch.from_numpy(blend) if len(blend) else None
        shown = self._model.decoder(leaves, lam, blended)[..., : y.shape[-2], : y.shape[-1]]
        lean = LEAN_MASKED if self._masked else LEAN
        distortion = lean * lam * self._model.distortion(y, shown.clamp(0, 1)).sum()
        slopes = torch.autograd.grad(distortion, leaves)[1:]
        moves, first = [], 0
        for level, slope, curvature in zip(range(prior.levels, 0, -1), slopes, curvatures, strict=True):
            last = first + len(groups_of_level(level))
            up, down = (
                depth_to_space(torch.cat(part[first:last], 1)[:, list(places_of_level(level))])
                for part in (costs.up, costs.down)
            )
            moves.append((slope + curvature + up, -slope + curvature + down))
            first = last
        return rate + float(distortion.detach()), moves

    def _curvatures(self, y: Tensor, details: list[Tensor]) -> list[Tensor]:
        """Of the distortion at each level, times its weight, per squared step."""
        channel: Any = self._model.channel
        if not self._masked:
            return [y.new_tensor(LEAN * channel.weight)] * len(details)
        height, width = (2 * side for side in details[-1].shape[-2:])
        padded = F.pad(y, (0, width - y.shape[-1], 0, height - y.shape[-2]), mode="replicate")
        return [channel.weight * weight for weight in visibility(padded, len(details))]


def _moved(up: Tensor, down: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """One, minus one or zero for each symbol."""
    chosen = torch.rand(up.shape, generator=generator) < share
    return ((up < -LEAST) & (up <= down) & chosen).float() - ((down < -LEAST) & (down < up) & chosen).float()
