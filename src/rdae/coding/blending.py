"""A last step for each picture: how much of each of a codec's linear maps a file wants added to what is decoded.

`networks/blending.py` trains the maps. Which blend of them leaves the least squared error is a problem of least
squares; the encoder solves it for each tile, and sends a byte a map where that is worth its bytes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rdae.coding.model import Model
from rdae.coding.pyramid_order import COLOURS, OPPONENT
from rdae.errors import FormatError, ModelError

__all__ = [
    "BLOCK", "LATER_UNIT", "NOTHING", "PER_WAY", "SAMPLES", "WAYS_UNIT", "Blending", "Features", "best_blend",
    "unpack_blend",
]  # fmt: skip

PER_WAY = 32  # a byte says -127/32 to 127/32
LARGEST = 127
WAYS_UNIT, LATER_UNIT = 2.0**-12, 2.0**-8  # of the whole numbers that codec files keep maps in
WAYS_MAX = 64
BLOCK = 4  # pixels on a side
SAMPLES = COLOURS * BLOCK**2  # of a block: three opponent colours
EVERY = 2  # row of blocks counts when a blend is fitted
RIDGE = 1e-6  # of the largest gain that a map could have, for maps that do nothing in a picture
NOTHING = np.zeros(0, dtype=np.int8)
# from opponent colours of the 16 samples of a block to RGB of each of its pixels, orthonormal
_TO_PIXELS = np.einsum("or,pq->opqr", np.array(OPPONENT), np.eye(BLOCK**2)).reshape(SAMPLES, SAMPLES).astype(np.float32)


def best_blend(gram: np.ndarray, cross: np.ndarray, maps: np.ndarray) -> tuple[np.ndarray, float]:
    """How much of each map leaves the least squared error.

    Args:
        gram: `h^T h` of what the maps read, `(n, n)`, h being `(positions, n)`.
        cross: `h^T r`, r being what is missing, `(positions, m)`: `(n, m)`.
        maps: `(ways, n, m)`, at least one.

    Returns:
        int8 numbers, 32 for a whole map, and by how much the squared error falls with them.
    """
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    among = flat @ (gram.astype(np.float64) @ maps).reshape(len(maps), -1).T
    missing = flat @ cross.ravel().astype(np.float64)
    if not (np.isfinite(among).all() and np.isfinite(missing).all()):  # weights that ran away, which rounding refuses
        return np.zeros(len(maps), dtype=np.int8), 0.0
    ridge = RIDGE * np.trace(among) + np.finfo(np.float64).tiny
    wanted = np.linalg.solve(among + ridge * np.eye(len(maps)), missing)
    blend = whole_blend(wanted)
    taken = blend / PER_WAY
    return blend, float(2 * taken @ missing - taken @ among @ taken)


def whole_blend(wanted: np.ndarray) -> np.ndarray:
    """The nearest blend that a file can hold, int8, of one in whole maps."""
    return np.clip(np.round(wanted * PER_WAY), -LARGEST, LARGEST).astype(np.int8)


def unpack_blend(data: bytes, ways: int) -> np.ndarray:
    """The blend in a tile's head.

    Raises:
        FormatError: no encoder writes these bytes.
    """
    blend = np.frombuffer(data, dtype=np.int8)
    if len(blend) != ways or (blend < -LARGEST).any() or not blend.any():
        raise FormatError(f"A tile blends by {data.hex()!r}, which no encoder writes. The file is damaged.")
    return blend


class Features(NamedTuple):
    """What the synthesis of a window says beside its pixels."""

    blocks: np.ndarray  # (3, 16, h, w): colours, samples, in units of the step
    change: np.ndarray  # (1, 48, h, w): their correction
    step: np.ndarray  # (1,), of pixels in [0, 1]


class Blending:
    """The maps of a codec file.

    Args:
        ways: `(ways, 96, 48)`, from contrast within blocks and their correction to what is added to blocks.
        later: `(ways + 1, ways)`; the blend that suits a draft, and a 1, times it is what suits the file.
    """

    def __init__(self, ways: np.ndarray, later: np.ndarray) -> None:
        self._ways, self._later = ways, later
        self._to_pixels = ways @ _TO_PIXELS

    @classmethod
    def of(cls, model: Model) -> Blending | None:
        """Those of a codec file; None if it has none.

        Raises:
            ModelError: they are no maps.
        """
        if not model.has("ways"):
            return None
        ways, later = model.array("ways"), model.array("ways.later")
        count = len(ways) if ways.ndim else 0
        found = [(x.dtype, x.shape) for x in (ways, later)]
        if not 0 < count <= WAYS_MAX or found != [
            (np.int16, (count, 2 * SAMPLES, SAMPLES)), (np.int16, (count + 1, count)),
        ]:  # fmt: skip
            raise ModelError(
                f"The maps of model {model.name!r} are {found}. The codec file is damaged: fetch it again."
            )
        return cls(ways * np.float32(WAYS_UNIT), later * np.float32(LATER_UNIT))

    @property
    def ways(self) -> int:
        """How many maps there are."""
        return len(self._ways)

    def maps(self, blend: np.ndarray) -> np.ndarray:
        """The blend of all maps, zeros where there is none, as the graph `synthesis` takes it: `(96, 48)` float32."""
        return np.tensordot(_parts(blend if len(blend) else np.zeros(self.ways, np.int8)), self._ways, 1)

    def later(self, blend: np.ndarray) -> np.ndarray:
        """The blend that suits a file, of one that suits its draft."""
        if not len(blend):
            return blend
        found = whole_blend(np.append(blend / PER_WAY, 1) @ self._later)
        return found if found.any() else NOTHING

    def fitted(
        self, y: np.ndarray, shown: np.ndarray, found: Features, visible: tuple[int, int], worth: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best blend for a window, and the picture shown with it.

        Args:
            y: its pixels, `(H, W, 3)` in [0, 1].
            shown: those that the synthesis gave without a blend.
            found: what it said beside them.
            visible: rows and columns that are the picture's.
            worth: the fall of the squared error, in squared steps, that pays for the bytes of a blend.

        Returns:
            int8 numbers, none where a blend is not worth its bytes; pixels.
        """
        step = found.step[0]
        features = np.concatenate([_own_contrast(found.blocks), found.change[0]])
        rows, columns = (-(-side // BLOCK) for side in visible)
        part = slice(0, rows, EVERY), slice(0, columns)
        seen = features[:, *part].reshape(len(features), -1)
        missing = _blocks(y, part) - _blocks(shown, part)
        blend, gain = best_blend(seen @ seen.T, (seen @ missing) * (1 / step), self._to_pixels)
        if gain * rows / -(-rows // EVERY) <= worth:
            return NOTHING, shown
        height, width = features.shape[1:]
        taken = np.tensordot(_parts(blend) * step, self._to_pixels, 1)
        added = features.reshape(len(features), -1).T @ taken
        pixels = shown.reshape(height, BLOCK, width, BLOCK * COLOURS) + _lines(added.reshape(height, width, SAMPLES))
        return blend, np.clip(pixels, 0, 1, out=pixels).reshape(shown.shape)


def _parts(blend: np.ndarray) -> np.ndarray:
    """Whole maps, float32."""
    return blend * np.float32(1 / PER_WAY)


def _own_contrast(blocks: np.ndarray) -> np.ndarray:
    """Samples of blocks less the mean of their own block and colour: `(3, 16, h, w)` to `(48, h, w)`."""
    return (blocks - blocks.mean(1, keepdims=True)).reshape(SAMPLES, *blocks.shape[2:])


def _blocks(pixels: np.ndarray, part: tuple[slice, slice]) -> np.ndarray:
    """Some blocks of pixels `(H, W, 3)`, `(n, 48)`."""
    height, width = pixels.shape[0] // BLOCK, pixels.shape[1] // BLOCK
    return pixels.reshape(height, BLOCK, width, BLOCK, COLOURS).transpose(0, 2, 1, 3, 4)[part].reshape(-1, SAMPLES)


def _lines(blocks: np.ndarray) -> np.ndarray:
    """The way back, `(H / 4, 4, W / 4, 12)`."""
    height, width = blocks.shape[:2]
    return blocks.reshape(height, width, BLOCK, BLOCK * COLOURS).transpose(0, 2, 1, 3)
