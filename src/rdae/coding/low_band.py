"""The low band of a wavelet pyramid: whole numbers, interpolated from coarse to fine.

Each sample is predicted from four decoded neighbours. How far off that may be, its table says, and which table that
is, what is known around it: how much its neighbours differ, how far off their own predictions were, and how far off
those of the colours before it at the same place. `priors/low_band.py` trains the numbers.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from rdae.coding.coder import fitting
from rdae.coding.model import Model
from rdae.coding.pyramid_order import COLOURS, LOW_DEPTHS, LOW_TERMS, LOW_UNIT, MAGNITUDES, interpolations
from rdae.coding.tables import Tables
from rdae.errors import FormatError, ModelError, TableError

__all__ = ["LowBandTables", "walk_low"]

_AROUND = 2 * COLOURS  # terms that are known before any colour of a set is
_THRESHOLDS = np.array(MAGNITUDES, dtype=np.int32)


class LowSide(Protocol):
    """One end of the stream."""

    @property
    def misfit(self) -> type[TableError | FormatError]:
        """What a symbol beyond int16 means there."""

    def low(self, where: tuple, guess: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Codes samples of the low band, given their predictions and tables; returns how far off these are."""


class LowBandTables(NamedTuple):
    """The integers of a low band."""

    tables: Tables
    corner: np.ndarray  # (COLOURS,) number of the table of the first sample
    first: np.ndarray  # (LOW_DEPTHS, 2, COLOURS): number of the table by depth and kind, in units of LOW_UNIT ...
    terms: np.ndarray  # (COLOURS, LOW_TERMS, magnitudes): ... and what is added to it

    @classmethod
    def of(cls, model: Model) -> LowBandTables:
        """Those of a codec file.

        Raises:
            ModelError: the file lacks something, or its numbers do not fit together.
        """
        if model.has("low.number"):
            raise ModelError(
                f"Model {model.name!r} was exported by an earlier build of rdae, which coded low bands in another way. "
                "Export it again, or use that build."
            )
        tables, index, terms = model.tables("low"), model.array("low.index"), model.array("low.terms")
        corner = model.table_numbers("low.corner", tables)
        due = [(LOW_DEPTHS, 2, COLOURS), (COLOURS, LOW_TERMS, len(MAGNITUDES) + 1), (COLOURS,)]
        if [x.shape for x in (index, terms, corner)] != due or not index.dtype == terms.dtype == np.int16:
            raise ModelError(
                f"The numbers for tables of the low band in model {model.name!r} are {index.dtype} {index.shape}, "
                f"{terms.dtype} {terms.shape} and {corner.shape}, where int16 {due[0]}, int16 {due[1]} and {due[2]} "
                "are due. Fetch the codec file again."
            )
        return cls(tables, corner, index.astype(np.int32), terms.astype(np.int32))


def walk_low(side: LowSide, tables: LowBandTables, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Symbols of a low band, and how far off their predictions were, each `(COLOURS, h, w)`.

    Args:
        side: reads or writes these errors.
        tables: of the codec file.
        size: `(h, w)`.

    Raises:
        FormatError or TableError: a symbol is beyond int16; which of the two says `side.misfit`.
    """
    height, width = size
    q = np.zeros((COLOURS, height, width), dtype=np.int32)
    residual = np.zeros_like(q)
    corner = (slice(None), np.zeros((1, 1), dtype=int), np.zeros((1, 1), dtype=int))
    numbers = tables.corner[:, None, None]
    q[corner] = residual[corner] = side.low(corner, np.zeros((COLOURS, 1, 1), dtype=np.int32), numbers)
    last = len(tables.tables) - 1
    colour, term = np.ogrid[:COLOURS, :_AROUND]
    for part in interpolations(height, width):
        near = np.stack([q[:, i, j] for i, j in part.neighbours])
        guess = (near.sum(0) + 2) >> 2
        off = sum(np.abs(residual[:, i, j]) for i, j in part.neighbours)
        around = _magnitude(np.concatenate([near.max(0) - near.min(0), off]))
        index = tables.first[min(part.depth, LOW_DEPTHS - 1), part.kind][:, None, None]
        index = index + tables.terms[colour[..., None, None], term[..., None, None], around].sum(1)
        for c in range(COLOURS):
            where = (c, part.rows, part.columns)
            wanted = (index[c] + LOW_UNIT // 2) // LOW_UNIT
            numbers = np.minimum(np.maximum(wanted, 0), last)  # faster than clip, for so few
            residual[where] = here = side.low(where, guess[c], numbers)
            q[where] = here + guess[c]
            if c + 1 < COLOURS:
                index[c + 1 :] += tables.terms[c + 1 :, _AROUND + c, _magnitude(np.abs(here))]
    return fitting(q, side.misfit), residual


def _magnitude(x: np.ndarray) -> np.ndarray:
    """In half octaves: how many thresholds are reached."""
    return _THRESHOLDS.searchsorted(x, side="right")
