"""An interpolating code for the coarsest band of a wavelet pyramid: whole numbers throughout."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rdae.coding.pyramid_order import COLOURS, LOW_DEPTHS, LOW_TERMS, MAGNITUDES, interpolations
from rdae.priors.density import SymbolDensity

__all__ = ["LowBandPrior"]

OCTAVES = 8  # of the spread, that earlier weights told apart
FIRST, PER_MAGNITUDE = 8.0, 2.0  # the scale index at first: of neighbours that agree, and more for each half octave


class LowBandPrior(nn.Module):
    """Interpolating code for the low band, plain rounding; integers throughout.

    The prediction is `floor((a + b + c + d + 2) / 4)` of four decoded neighbours. The scale index is a sum: a number
    for depth, kind of neighbours and colour, and a number for each of these, by its magnitude in half octaves: the
    spread `max - min` of the neighbours in each of the three colours, the sum of their own absolute errors of
    prediction in each, and the absolute errors at the place itself in the colours before.
    """

    def __init__(self, scales: int = 64) -> None:
        super().__init__()
        self.density = SymbolDensity(scales, dead_zone=None)
        self.index = nn.Parameter(torch.full((LOW_DEPTHS, 2, COLOURS), FIRST))
        terms = torch.zeros(COLOURS, LOW_TERMS, len(MAGNITUDES) + 1)
        for colour in range(COLOURS):
            terms[colour, colour] = PER_MAGNITUDE * torch.arange(len(MAGNITUDES) + 1)
        self.terms = nn.Parameter(terms)
        self.corner = nn.Parameter(torch.full((COLOURS,), 50.0))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Weights that chose a scale by the octave of the spread alone are taken over, averaged over depth and kind."""
        index = state_dict.get(prefix + "index")
        if index is not None and index.shape == (LOW_DEPTHS, 2, COLOURS, OCTAVES):
            octaves = torch.log2(torch.tensor([1.0, *(1 + threshold for threshold in MAGNITUDES)])).long()
            spread = index.mean((0, 1))[:, octaves.clamp_max(OCTAVES - 1)]
            terms = torch.zeros_like(self.terms)
            for colour in range(COLOURS):
                terms[colour, colour] = spread[colour] - index.mean((0, 1, 3))[colour]
            state_dict |= {prefix + "index": index.mean(3), prefix + "terms": terms}
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Nats per example and residuals of rounded symbols q, `(B, 3, H, W)`."""
        residual = torch.empty_like(q)
        corner = q[..., :1, :1]
        residual[..., :1, :1] = corner
        nats = -self.density.log_prob(corner, self.corner[:, None, None], torch.zeros_like(corner)).sum((1, 2, 3))
        thresholds = torch.tensor(MAGNITUDES, device=q.device, dtype=q.dtype)
        for part in interpolations(*q.shape[-2:]):
            near = torch.stack([_pick(q, i, j) for i, j in part.neighbours])
            off = torch.stack([_pick(residual, i, j) for i, j in part.neighbours]).abs().sum(0)
            error = _pick(q, part.rows, part.columns) - torch.floor((near.sum(0) + 2) / 4)
            known = torch.cat([near.amax(0) - near.amin(0), off, error[:, :-1].abs()], 1)
            index = self._index(part.depth, part.kind, torch.bucketize(known, thresholds, right=True))
            nats = nats - self.density.log_prob(error, index, torch.zeros_like(error)).sum((1, 2, 3))
            residual[..., torch.from_numpy(part.rows), torch.from_numpy(part.columns)] = error
        return nats, residual

    def _index(self, depth: int, kind: int, magnitude: Tensor) -> Tensor:
        """Scale indices, `(B, 3, h, w)`, by the magnitudes of what is known, `(B, 8, h, w)`."""
        first = self.index[min(depth, LOW_DEPTHS - 1), kind]
        rows = []
        for colour, terms in enumerate(self.terms):
            known = 2 * COLOURS + colour  # errors at the place itself are known of the colours before
            number = torch.arange(known, device=magnitude.device)[:, None, None]
            rows.append(first[colour] + terms[number, magnitude[:, :known]].sum(1))
        return torch.stack(rows, 1)


def _pick(q: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    return q[..., torch.from_numpy(rows), torch.from_numpy(columns)]
