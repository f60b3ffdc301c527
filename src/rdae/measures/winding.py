"""How a closed curve runs: how often around a circle, how far back, and where it jumps."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rdae.errors import ShapeError

__all__ = ["Winding", "largest_jump", "same_neighbours", "winding"]


class Winding(NamedTuple):
    """The way of a closed curve around a circle, point by point, always by the shorter arc."""

    number: int  # times around, positive where angles grow; 1 or -1 for a circle mapped onto a circle
    backwards: float  # radians, all steps against that direction together; 0 where no point of the circle is met twice
    jump: float  # radians, the longest step, pi at most


def winding(angles: Tensor) -> Winding:
    """The winding of angles, `(n,)` in radians, in the order of the curve; after the last comes the first.

    Raises:
        ShapeError: fewer than three angles.
    """
    if angles.ndim != 1 or len(angles) < 3:
        raise ShapeError(f"angles are {tuple(angles.shape)}. Pass three or more, in the order of a closed curve.")
    angles = angles.double()
    steps = torch.remainder(angles.roll(-1) - angles + math.pi, 2 * math.pi) - math.pi
    total = float(steps.sum())
    back = float(steps.clamp(max=0).sum().abs() if total >= 0 else steps.clamp(min=0).sum())
    return Winding(round(total / (2 * math.pi)), back, float(steps.abs().max()))


def largest_jump(points: Tensor) -> float:
    """The longest step of a closed curve, as a share of its extent, the largest distance between two of its points.

    n points at equal distances on a circle have sin(pi / n). On a line a curve that comes back in one step has 1.

    Args:
        points: `(n, size)`, in the order of the curve; after the last comes the first.
    """
    points = points.double()
    steps = (points.roll(-1, 0) - points).norm(dim=-1)
    return float(steps.max() / torch.cdist(points, points).max())


def same_neighbours(points: Tensor) -> float:
    """Share of points of a closed curve whose two nearest are those before and after them.

    Args:
        points: `(n, size)`, in the order of the curve.
    """
    distances = torch.cdist(points.double(), points.double()).fill_diagonal_(math.inf)
    nearest = distances.topk(2, largest=False).indices.sort(1).values
    at = torch.arange(len(points), device=points.device)
    due = torch.stack([at - 1, at + 1], 1).remainder(len(points)).sort(1).values
    return float((nearest == due).all(1).double().mean())
