"""Packing: a critic that looks at several examples at once sees that they are all alike (PacGAN)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from rdae.errors import ShapeError

__all__ = ["Packed", "packed_event"]


def packed_event(event: Sequence[int], count: int) -> tuple[int, ...]:
    """Shape of `count` examples packed into one, `(count * channels, *space)`; the critic is built for it."""
    return count * event[0], *event[1:]


class Packed(nn.Module):
    """A critic of `count` examples together, all real or all generated (Lin et al. 2018, arXiv:1712.04086).

    Neighbours in the batch are concatenated along channels (vectors: along features). A critic of packs compares the
    laws of packs, P_r^count and P_g^count, which lie further apart where modes are missing.

    Args:
        critic: `(batch, count * channels, *space)` to `(batch,)`.
        count: 1 leaves examples as they are.
    """

    def __init__(self, critic: nn.Module, count: int = 1) -> None:
        super().__init__()
        self.critic, self.count = critic, count

    def pack(self, y: Tensor) -> Tensor:
        """`(batch * count, channels, *space)` to `(batch, count * channels, *space)`.

        Raises:
            ShapeError: the batch is no multiple of `count`.
        """
        if self.count == 1:
            return y
        if len(y) % self.count:
            raise ShapeError(f"{len(y)} examples do not make packs of {self.count}. Use a multiple of {self.count}.")
        return y.unflatten(0, (-1, self.count)).flatten(1, 2)

    def forward(self, y: Tensor) -> Tensor:
        """What the critic says of each pack, `(batch * count, *event)` to `(batch,)`."""
        return self.critic(self.pack(y))
