"""An interpolating code for the coarsest band of a wavelet pyramid: whole numbers throughout."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from rdae.coding.pyramid_order import LOW_DEPTHS, SPREAD_THRESHOLDS, interpolations
from rdae.priors.density import SymbolDensity

__all__ = ["LowBandPrior"]


class LowBandPrior(nn.Module):
    """Interpolating code for the low band, plain rounding; integers throughout.

    The prediction is `floor((a + b + c + d + 2) / 4)` of four decoded neighbours; the spread `max - min`,
    in buckets `floor(log2(1 + spread))`, together with depth, kind of neighbours and colour chooses the scale.
    """

    def __init__(self, colours: int = 3, scales: int = 64) -> None:
        super().__init__()
        self.density = SymbolDensity(scales, dead_zone=None)
        start = 8.0 + 4.0 * torch.arange(len(SPREAD_THRESHOLDS) + 1, dtype=torch.float32)
        self.index = nn.Parameter(start.expand(LOW_DEPTHS, 2, colours, -1).clone())
        self.corner = nn.Parameter(torch.full((colours,), 50.0))

    def forward(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Nats per example and residuals of rounded symbols q, `(B, colours, H, W)`."""
        residual = torch.empty_like(q)
        corner = q[..., :1, :1]
        residual[..., :1, :1] = corner
        nats = -self.density.log_prob(corner, self.corner[:, None, None], torch.zeros_like(corner)).sum((1, 2, 3))
        thresholds = torch.tensor(SPREAD_THRESHOLDS, device=q.device)
        colour = torch.arange(q.shape[1], device=q.device)[:, None, None]
        for part in interpolations(*q.shape[-2:]):
            near = torch.stack([_pick(q, i, j) for i, j in part.neighbours])
            guess = torch.floor((near.sum(0) + 2) / 4)
            bucket = torch.bucketize(near.amax(0) - near.amin(0), thresholds, right=True)
            index = self.index[min(part.depth, LOW_DEPTHS - 1), part.kind][colour, bucket]
            error = _pick(q, part.rows, part.columns) - guess
            nats = nats - self.density.log_prob(error, index, torch.zeros_like(error)).sum((1, 2, 3))
            residual[..., torch.from_numpy(part.rows), torch.from_numpy(part.columns)] = error
        return nats, residual


def _pick(q: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    return q[..., torch.from_numpy(rows), torch.from_numpy(columns)]
