"""Where EM starts: k-means++."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["kmeans_plus_plus"]


def kmeans_plus_plus(y: Tensor, count: int) -> Tensor:
    """Examples to start from, each drawn with probability proportional to its squared distance to those before it.

    After Arthur & Vassilvitskii 2007, "k-means++: the advantages of careful seeding". Where fewer than `count` examples
    differ, some are drawn twice. Draws from PyTorch's generator.

    Args:
        y: `(n, features)`.
        count: how many.

    Returns:
        Indices, int64 `(count,)`.
    """
    chosen = [int(torch.randint(len(y), ()))]
    distance = (y - y[chosen[0]]).square().sum(1)
    for _ in range(count - 1):
        weight = distance if float(distance.sum()) > 0 else torch.ones_like(distance)
        chosen.append(int(torch.multinomial(weight / weight.max(), 1)))
        distance = torch.minimum(distance, (y - y[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen)
