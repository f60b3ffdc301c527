"""The integer tables of a codec file, from a trained density."""

from __future__ import annotations

import math

import numpy as np
import torch

from rdae.coding.tables import integer_table
from rdae.priors.density import SCALE_MIN, SCALE_RATIO, SymbolDensity

__all__ = ["density_tables"]


def density_tables(density: SymbolDensity, skews: int, reach_max: int) -> tuple[np.ndarray, np.ndarray]:
    """Reach and counts of table `skews * index + skew` for every member of a density, from float64 masses."""
    reaches, counts = [], []
    double = _double(density)
    for index in range(density.scales):
        scale = SCALE_MIN * SCALE_RATIO**index
        reach = min(reach_max, max(2, math.ceil(9 * scale + 1)))
        q = torch.arange(-reach, reach + 1, dtype=torch.float64)
        for skew in range(skews):
            mass = double.log_prob(q, torch.full_like(q, index), torch.full_like(q, skew)).exp()
            escape = (1 - mass.sum()).clamp_min(1e-9)
            counts.append(integer_table(torch.cat([mass, escape[None]]).numpy()))
            reaches.append(reach)
    return np.array(reaches, dtype=np.int32), np.concatenate(counts).astype(np.int32)


@torch.no_grad()
def _double(density: SymbolDensity) -> SymbolDensity:
    copy = SymbolDensity(density.scales, dead_zone=None if density.zone is None else 0.0, skew_max=density.skew_max)
    copy.load_state_dict(density.state_dict())
    return copy.double().requires_grad_(False)
