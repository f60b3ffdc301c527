"""What networks of bytes read of symbols, qualities and levels, and how their answers are read."""

from __future__ import annotations

import numpy as np

from rdae.coding.model import Model

__all__ = ["LEVEL_BYTES", "SIGNED_ZERO", "NetworkBytes", "compand", "level_bytes"]

SIGNED_ZERO = 128  # the byte that stands for 0 where a network of bytes answers with a signed number
LEVEL_BYTES = 4
SEEN_MAX = 64  # larger symbols look to the networks like this one


def level_bytes(level: int) -> list[int]:
    """What a network of bytes is told of its level: which of 2, 3, 4, and 5 or coarser it is."""
    return [255 * (min(level, 5) == known) for known in range(2, 2 + LEVEL_BYTES)]


def compand(q: np.ndarray) -> np.ndarray:
    """A logarithm in straight pieces, odd, bounded by 120: `8 c(q, 1) + 4 c(q, 4) + 2 c(q, 16) + c(q, 64)`.

    `c(q, k)` clips to `[-k, k]`.
    """
    q = q.astype(int)
    return sum(factor * np.clip(q, -k, k) for factor, k in ((8, 1), (4, 4), (2, 16), (1, SEEN_MAX)))


# of every byte, taken as a signed number: the positive part of what the networks see, and the negative one;
# translating bytes is several times faster than the arithmetic, or than indexing an array
_PARTS = [
    np.maximum(sign * compand(np.arange(256, dtype=np.uint8).view(np.int8)), 0).astype(np.uint8).tobytes()
    for sign in (1, -1)
]


class NetworkBytes:
    """What the networks of a model read and write.

    Args:
        quality: bytes that tell of the quality, a row for each level of it.
        corrected: the coarsest wavelet level that the synthesis corrects, for which it also sees the one above.
    """

    def __init__(self, quality: np.ndarray, corrected: int) -> None:
        self._quality, self.corrected = quality.astype(np.uint8), corrected

    @classmethod
    def of(cls, model: Model, levels: int) -> NetworkBytes:
        """Those of a codec file.

        Raises:
            ModelError: the file lacks something.
        """
        return cls(model.rows("quality"), model.whole("corrected", 1, levels - 1))

    def symbols(self, q: np.ndarray) -> np.ndarray:
        """Symbols `(C, H, W)` as `(1, 2C, H, W)` bytes: positive parts of the companded ones, then negative parts."""
        small = np.clip(q, -SEEN_MAX, SEEN_MAX).astype(np.int8).tobytes()
        parts = [np.frombuffer(small.translate(part), dtype=np.uint8).reshape(q.shape) for part in _PARTS]
        return np.concatenate(parts)[None]

    def told(self, level: int, quality_level: int) -> dict[str, np.ndarray]:
        """What the first network of a level is told of level and quality."""
        told = np.concatenate([self._quality[quality_level], np.array(level_bytes(level), dtype=np.uint8)])
        return {"told": told[None, :, None, None]}

    def signed(self, x: np.ndarray) -> np.ndarray:
        """Answers that may be negative, of bytes."""
        return (x - np.uint8(SIGNED_ZERO)).view(np.int8)

    def quality(self, quality_level: int) -> dict[str, np.ndarray]:
        """What the networks of the synthesis are told of the quality."""
        return {"quality": self._quality[quality_level][None, :, None, None]}
