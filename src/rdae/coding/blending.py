"""A last step for each picture: how much of each of a codec's linear maps a file wants added to what is decoded.

`networks/blending.py` trains the maps. Which blend of them leaves the least squared error is a problem of least
squares; the encoder solves it for each tile, and sends a byte a map where that is worth its bytes. Sums over the
picture are left to graphs of the codec file: NumPy's matrix products would wake threads of their own, which take the
cores from those that decode next.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

import numpy as np

from rdae.coding.model import Model
from rdae.coding.pyramid_order import COLOURS
from rdae.errors import FormatError, ModelError

__all__ = [
    "BLOCK", "EVERY", "LATER_UNIT", "MOMENTS", "NOTHING", "PER_WAY", "PIXELS", "SAMPLES", "WAYS_UNIT", "Blending",
    "Features", "best_blend", "unpack_blend",
]  # fmt: skip

PER_WAY = 32  # a byte says -127/32 to 127/32
LARGEST = 127
WAYS_UNIT, LATER_UNIT = 2.0**-12, 2.0**-8  # of the whole numbers that codec files keep maps in
WAYS_MAX = 64
BLOCK = 4  # pixels on a side
SAMPLES = COLOURS * BLOCK**2  # of a block: three opponent colours
EVERY = 2  # row of blocks counts when a blend is fitted
MOMENTS, PIXELS = "moments", "pixels"  # graphs: sums that a blend is solved from; the last step of the synthesis
RIDGE = 1e-6  # of the largest gain that a map could have, for maps that do nothing in a picture
NOTHING = np.zeros(0, dtype=np.int8)


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
    wanted = None
    with np.errstate(all="ignore"):  # sums may be anything where weights ran away, or a stranger made the codec file
        among = flat @ (gram.astype(np.float64) @ maps).reshape(len(maps), -1).T
        missing = flat @ cross.ravel().astype(np.float64)
        ridge = RIDGE * np.trace(among) + np.finfo(np.float64).tiny
        with suppress(np.linalg.LinAlgError):
            wanted = np.linalg.solve(among + ridge * np.eye(len(maps)), missing)
        if wanted is None or not np.isfinite(wanted).all():
            return np.zeros(len(maps), dtype=np.int8), 0.0
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
    """What the synthesis of a window says beside its pixels, in units of the step."""

    blocks: np.ndarray  # (3, 16, h, w): colours, samples
    change: np.ndarray  # (1, 48, h, w): their correction


class Blending:
    """The maps of a codec file.

    Args:
        model: the codec file.
        ways: `(ways, 96, 48)`, from contrast within blocks and their correction to what is added to blocks.
        later: `(ways + 1, ways)`; the blend that suits a draft, and a 1, times it is what suits the file.
    """

    def __init__(self, model: Model, ways: np.ndarray, later: np.ndarray) -> None:
        self._model, self._ways, self._later = model, ways, later

    @classmethod
    def of(cls, model: Model) -> Blending | None:
        """Those of a codec file; None if it has none.

        Raises:
            ModelError: they are no maps, or a graph that goes with them is missing.
        """
        if not model.has("ways"):
            return None
        for graph in (MOMENTS, PIXELS):
            if not model.has(f"graph.{graph}"):
                raise ModelError(
                    f"Model {model.name!r} has maps for blends but no array 'graph.{graph}'. The codec file is "
                    "damaged: fetch it again."
                )
        ways, later = model.array("ways"), model.array("ways.later")
        count = len(ways) if ways.ndim else 0
        found = [(x.dtype, x.shape) for x in (ways, later)]
        if not 0 < count <= WAYS_MAX or found != [
            (np.int16, (count, 2 * SAMPLES, SAMPLES)), (np.int16, (count + 1, count)),
        ]:  # fmt: skip
            raise ModelError(
                f"The maps of model {model.name!r} are {found}. The codec file is damaged: fetch it again."
            )
        return cls(model, ways * np.float32(WAYS_UNIT), later * np.float32(LATER_UNIT))

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
        self, y: np.ndarray, shown: np.ndarray, found: Features, level: int, visible: tuple[int, int], worth: float
    ) -> np.ndarray:
        """The best blend for a window: int8 numbers, none where it is not worth its bytes.

        Args:
            y: its pixels, `(1, 3, H, W)` in [0, 1].
            shown: those that the synthesis gave without a blend, `(H, W, 3)`.
            found: what it said beside them.
            level: quality level.
            visible: rows and columns that are the picture's.
            worth: the fall of the squared error, in squared steps, that pays for the bytes of a blend.

        Raises:
            ModelError: the codec file has no such graph.
        """
        rows, columns = (-(-side // BLOCK) for side in visible)
        seen = np.zeros((*found.blocks.shape[2:], 1), np.float32)
        seen[:rows, :columns] = 1
        inputs = {"y": y, "shown": shown, "seen": seen, "lam": self._model.lam_of(level), **found._asdict()}
        shapes = [(2 * SAMPLES, 2 * SAMPLES), (2 * SAMPLES, SAMPLES)]
        gram, cross = self._model.run_to(MOMENTS, inputs, shapes, keep=False)
        blend, gain = best_blend(gram, cross, self._ways)
        return blend if gain * rows / -(-rows // EVERY) > worth else NOTHING

    def shown(self, found: Features, level: int, blend: np.ndarray) -> np.ndarray:
        """The window as the synthesis shows it with a blend, `(H, W, 3)`.

        Raises:
            ModelError: the codec file has no such graph.
        """
        height, width = found.blocks.shape[2:]
        inputs = {"maps": self.maps(blend), "lam": self._model.lam_of(level), **found._asdict()}
        return self._model.run_to(PIXELS, inputs, [(BLOCK * height, BLOCK * width, COLOURS)], keep=False)[0]


def _parts(blend: np.ndarray) -> np.ndarray:
    """Whole maps, float32."""
    return blend * np.float32(1 / PER_WAY)
