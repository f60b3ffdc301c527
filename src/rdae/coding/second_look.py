"""A second look of the encoder, at what the decoder will make of its symbols.

Rounding takes each coefficient by itself, as if the decoder gave back what it was given. The decoder, however, moves
coefficients: it fills in what was rounded to zero beside an edge, and sharpens what was rounded. So the encoder makes a
draft of the symbols, lets the decoder show it, and rounds, in place of the coefficients, what would have to be given to
a decoder that goes on moving them so: the draft plus what it still lacks. Codec files of sub-bands hold a graph for
this, `reanalysis`; one without it encodes in one look.
"""

from __future__ import annotations

import math

import numpy as np

from rdae.coding.blending import BLOCK, NOTHING, SAMPLES, Features
from rdae.coding.coder import SYMBOL_LIMIT
from rdae.coding.model import Model
from rdae.coding.pyramid import REANALYSIS, PyramidCoder, seen_samples
from rdae.coding.pyramid_order import BANDS, COLOURS

__all__ = ["draft", "look_again", "shown_and_blend"]

# a draft rounds down what exceeds a whole number by less than 1/2 + SHORT / (mean size of the coefficients around it)
SHORT = 0.075
PHASES = 4
LEAST_WEIGHT = 1e-6  # of a squared step, where a model's errors weigh nothing


def look_again(
    model: Model, coder: PyramidCoder, y: np.ndarray, level: int, latents: list[np.ndarray], visible: tuple[int, int],
    *, grey: bool,
) -> tuple[list[np.ndarray], np.ndarray]:  # fmt: skip
    """Latents of a window, to be rounded in place of those of the first look, and what the synthesis is to blend.

    A model that has no second look keeps to the first, and blends nothing.

    Args:
        model: the codec file.
        coder: its coder.
        y: the window, `(1, 3, H, W)` float32 in [0, 1].
        level: quality level.
        latents: of the window, the low band first, `(1, C, h, w)` each.
        visible: rows and columns of the window that are the picture's; beyond them it is padded.
        grey: whether only the mean of the decoder's colours will be shown.

    Raises:
        ModelError: the parts of the codec file do not fit together.
    """
    if not model.has(f"graph.{REANALYSIS}"):
        return latents, NOTHING
    low, *details = latents
    symbols = [_whole(np.floor(low[0] + np.float32(0.5))), *(draft(z[0]) for z in details)]
    for k, q in enumerate(symbols[1:]):  # what no file holds
        seen = seen_samples(coder.tables.levels - k, q.shape[1:], visible)
        if not seen.all():
            q[~np.tile(seen, (BANDS, 1, 1))] = 0
    shown, blend = shown_and_blend(model, coder, y, level, symbols, visible)
    if grey:
        shown[:] = shown.mean(2, keepdims=True)
    inputs = {name: q[None] for name, q in zip(coder.latents, symbols, strict=True) if name != "low"}
    inputs |= {"y": y, "shown": shown, "lam": model.lam_of(level)}
    blend = blend if coder.blending is None else coder.blending.later(blend)
    return [low, *model.run_to(REANALYSIS, inputs, [z.shape for z in details])], blend


def shown_and_blend(
    model: Model, coder: PyramidCoder, y: np.ndarray, level: int, symbols: list[np.ndarray], visible: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """What the decoder makes of symbols of a window, `(H, W, 3)`, with the best blend, and that.

    Arguments as for `look_again`.
    """
    height, width = y.shape[-2:]
    maps = coder.blending
    inputs = coder.synthesis_inputs(symbols, level) | coder.maps(NOTHING) | {"lam": model.lam_of(level)}
    shapes: list[tuple[int, ...]] = [(height, width, 3)]
    if maps is None:
        (shown,) = model.run_to("synthesis", inputs, shapes)
        return shown, NOTHING
    sides = height // BLOCK, width // BLOCK
    shown, *rest = model.run_to("synthesis", inputs, [*shapes, (COLOURS, BLOCK**2, *sides), (1, SAMPLES, *sides)])
    found = Features(*rest)
    worth = 8 * math.log(2) * maps.ways / max(coder.weight(level), LEAST_WEIGHT)
    blend = maps.fitted(y, shown, found, level, visible, worth)
    return (maps.shown(found, level, blend) if len(blend) else shown), blend


def draft(z: np.ndarray) -> np.ndarray:
    """Symbols much as rounding by rate and distortion chooses them, without the tables that it weighs bits with.

    What a 1 costs where zeros are expected grows as the coefficients around it become smaller, so a coefficient must
    exceed 1/2 by the more to become 1: by 0.075 / mean size, as a fit to the choices of the shipped codec says.

    Args:
        z: folded latents, `(4 C, h, w)` float32.

    Returns:
        int16, of the same shape.
    """
    size = np.abs(z).reshape(-1, PHASES, *z.shape[1:])
    around = _box(size.sum(1)) * np.float32(1 / (9 * PHASES))
    with np.errstate(divide="ignore"):
        short = np.float32(0.5) - np.float32(SHORT) / around
    size += short[:, None]
    np.maximum(np.floor(size, out=size), 0, out=size)
    return _whole(np.copysign(size.reshape(z.shape), z))


def _box(x: np.ndarray) -> np.ndarray:
    """Sums of 3 x 3, `(C, h, w)`; beyond the border the last row and column are repeated."""
    x = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    return rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]


def _whole(x: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # a draft may be anything; what is coded is looked at
        return np.clip(x, -SYMBOL_LIMIT, SYMBOL_LIMIT).astype(np.int16)
