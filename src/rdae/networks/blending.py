"""A last step for each picture: what a file blends of several linear maps of decoded blocks and their correction.

What a corrector has learned of all photographs is too much for some and too little for others: grain is no error that
it should mend, and a drawing has sharper edges than it expects. Each map adds to the samples of a block so much of its
contrast and of its correction; the encoder solves for the blend that leaves the least squared error, and sends it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rdae.networks.block_corrector import BLOCK, SAMPLES

__all__ = ["WAYS", "Blend", "own_contrast"]

WAYS = 8


def own_contrast(blocks: Tensor) -> Tensor:
    """Samples of blocks less the mean of their own block and colour; shape and unit stay."""
    colours = blocks.unflatten(1, (3, BLOCK**2))
    return (colours - colours.mean(2, keepdim=True)).flatten(1, 2)


class Blend(nn.Module):
    """Linear maps of what is known of a block, and blends of them. They start at zero.

    Args:
        ways: how many.

    Attributes:
        later: `(ways + 1, ways)`; the blend that suits a draft, and a 1, times it is what suits the file.
    """

    later: Tensor

    def __init__(self, ways: int = WAYS) -> None:
        super().__init__()
        # of no use to a loss that blends nothing, as in `rdae train`; who trains maps lets them have gradients
        self.ways = nn.Parameter(torch.zeros(ways, 2 * SAMPLES, SAMPLES), requires_grad=False)
        self.register_buffer("later", torch.eye(ways + 1, ways))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Weights of a decoder that knew no blends are taken as those of one that blends nothing."""
        for name, value in (("ways", torch.zeros_like(self.ways)), ("later", torch.eye(*self.later.shape))):
            state_dict.setdefault(prefix + name, value)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def features(self, blocks: Tensor, change: Tensor) -> Tensor:
        """What the maps read, `(B, 96, h, w)`: contrast within blocks, then their correction; `(B, 48, h, w)` each."""
        return torch.cat([own_contrast(blocks), change], 1)

    def forward(self, blocks: Tensor, change: Tensor, blend: Tensor | None = None) -> Tensor:
        """Corrected blocks, `(B, 48, h, w)`.

        Args:
            blocks: in units of the step.
            change: their correction, likewise.
            blend: so much of each map, `(ways,)` or `(B, ways)`; None for nothing.
        """
        if blend is None:
            return blocks + change
        taken = torch.einsum("...k,kio->...io", blend, self.ways).expand(len(blocks), -1, -1)
        return blocks + change + torch.einsum("bihw,bio->bohw", self.features(blocks, change), taken)
