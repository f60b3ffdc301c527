"""The linear path of the photograph codec: a colour rotation and a CDF 9/7 wavelet pyramid.

The lifting steps carry no gains of their own; every sub-band is scaled so that its synthesis basis functions have unit
norm. One step size for all sub-bands then spends the same squared error everywhere, which is what minimises
rate + lam * squared error at high rates. Source: Cohen, Daubechies & Feauveau 1992; lifting constants as in JPEG 2000
(ISO/IEC 15444-1, annex F).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from rdae.errors import ShapeError

__all__ = [
    "Pyramid", "Steps", "opponent_to_rgb", "rgb_to_opponent", "scales_of_bands", "wavelet_analysis",
    "wavelet_synthesis",
]  # fmt: skip

Steps = tuple[float, ...]

ALPHA, BETA, GAMMA, DELTA = -1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971

_S2, _S3, _S6 = 2**-0.5, 3**-0.5, 6**-0.5  # of the opponent colours


class Pyramid(list[Tensor]):
    """Latents of the wavelet codec: `[low, detail_L, ..., detail_1]`, coarse to fine.

    `low` is `(B, 3, H / 2**L, W / 2**L)`; `detail_l` is `(B, 9, H / 2**l, W / 2**l)` with channel
    `3 * colour + orientation`, orientations in the order horizontal, vertical, diagonal detail.
    """


def rgb_to_opponent(y: Tensor) -> Tensor:
    """Rotates `(B, 3, H, W)` from RGB to luma and two opponent colours; orthonormal."""
    red, green, blue = y.unbind(1)
    ends = red + blue
    return torch.stack([_S3 * (ends + green), _S2 * (red - blue), _S6 * (ends - 2 * green)], 1)


def opponent_to_rgb(x: Tensor) -> Tensor:
    """Inverse of `rgb_to_opponent`."""
    luma, first, second = x.unbind(1)
    luma, first, second = _S3 * luma, _S2 * first, _S6 * second
    ends = luma + second
    return torch.stack([ends + first, luma - 2 * second, ends - first], 1)


def _take(x: Tensor, dim: int, part: slice) -> Tensor:
    index = [slice(None)] * x.ndim
    index[dim] = part
    return x[tuple(index)]


def _shifted(x: Tensor, dim: int, forward: bool) -> Tensor:
    """Neighbour of each sample, mirrored at the border (whole-sample symmetry on even lengths)."""
    if forward:
        return torch.cat([_take(x, dim, slice(1, None)), _take(x, dim, slice(-1, None))], dim)
    return torch.cat([_take(x, dim, slice(0, 1)), _take(x, dim, slice(None, -1))], dim)


def _phases(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    return _take(x, dim, slice(0, None, 2)), _take(x, dim, slice(1, None, 2))


def _interleave(even: Tensor, odd: Tensor, dim: int) -> Tensor:
    pair = torch.stack([even, odd], dim % even.ndim + 1)
    return pair.flatten(dim % even.ndim, dim % even.ndim + 1)


def _split(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    low, high = _phases(x, dim)
    high = high + ALPHA * (low + _shifted(low, dim, True))
    low = low + BETA * (high + _shifted(high, dim, False))
    high = high + GAMMA * (low + _shifted(low, dim, True))
    low = low + DELTA * (high + _shifted(high, dim, False))
    return low, high


def _merge(low: Tensor, high: Tensor, dim: int) -> Tensor:
    low = low - DELTA * (high + _shifted(high, dim, False))
    high = high - GAMMA * (low + _shifted(low, dim, True))
    low = low - BETA * (high + _shifted(high, dim, False))
    high = high - ALPHA * (low + _shifted(low, dim, True))
    return _interleave(low, high, dim)


def _raw_analysis(x: Tensor, levels: int) -> Pyramid:
    details = []
    for _ in range(levels):
        left, right = _split(x, -1)
        low, vertical = _split(left, -2)
        horizontal, diagonal = _split(right, -2)
        details.append(torch.stack([horizontal, vertical, diagonal], 2).flatten(1, 2))
        x = low
    return Pyramid([x, *reversed(details)])


def _raw_synthesis(pyramid: list[Tensor]) -> Tensor:
    x = pyramid[0]
    for detail in pyramid[1:]:
        horizontal, vertical, diagonal = detail.unflatten(1, (-1, 3)).unbind(2)
        # both halves at once: fewer and larger operations
        columns = _merge(torch.cat([x, horizontal], 1), torch.cat([vertical, diagonal], 1), -2)
        low, high = columns.chunk(2, 1)
        x = _merge(low, high, -1)
    return x


@lru_cache
def basis_norms(levels: int) -> tuple[float, tuple[tuple[float, float, float], ...]]:
    """Norms of the synthesis basis functions of the unscaled transform: `(low, (level 1, level 2, ...))`."""
    size = 16 * 2**levels
    zero = _raw_analysis(torch.zeros(1, 1, size, size, dtype=torch.float64), levels)

    def norm(band: int, orientation: int) -> float:
        impulse = Pyramid([x.clone() for x in zero])
        centre = impulse[band].shape[-1] // 2
        impulse[band][0, orientation, centre, centre] = 1.0
        return float(_raw_synthesis(impulse).norm())

    details = [(norm(b, 0), norm(b, 1), norm(b, 2)) for b in range(1, levels + 1)]
    return norm(0, 0), tuple(reversed(details))


def scales_of_bands(levels: int, steps: Steps | None = None) -> tuple[float, tuple[tuple[float, float, float], ...]]:
    """What the bands of the unscaled transform are multiplied with, as `basis_norms` gives them: norm over step.

    Raises:
        ShapeError: there is not one positive step for the low band and each level.
    """
    low, details = basis_norms(levels)
    if steps is None:
        return low, details
    if len(steps) != levels + 1 or not all(step > 0 for step in steps):
        raise ShapeError(
            f"{levels} wavelet levels need {levels + 1} positive steps, of the low band and of each level, coarse to "
            f"fine, but got {steps}."
        )
    finest_first = tuple(reversed(steps[1:]))
    return low / steps[0], tuple((a / d, b / d, c / d) for (a, b, c), d in zip(details, finest_first, strict=True))


def _scales(pyramid: list[Tensor], steps: Steps | None) -> list[Tensor]:
    low, details = scales_of_bands(len(pyramid) - 1, steps)
    colours = pyramid[0].shape[1]
    scales = [pyramid[0].new_tensor(low)]
    for detail, norms in zip(pyramid[1:], reversed(details), strict=True):
        scales.append(detail.new_tensor(norms * colours)[:, None, None])
    return scales


def wavelet_analysis(x: Tensor, levels: int, unit: Tensor | None = None, steps: Steps | None = None) -> Pyramid:
    """Sub-bands of `(B, C, H, W)`, scaled to unit-norm synthesis functions; in the unit of x, or in `unit`, `(B,)`.

    Args:
        x: the picture.
        levels: number of levels.
        unit: of all sub-bands.
        steps: by how much larger the unit of each band is, low band first, then coarse to fine; None for 1.

    Raises:
        ShapeError: a side is not a positive multiple of `2**levels`, or steps do not fit the levels.
    """
    if min(x.shape[-2:]) < 1 or any(side % 2**levels for side in x.shape[-2:]):
        raise ShapeError(
            f"{levels} wavelet levels need sides that are multiples of {2**levels}, "
            f"but x is {tuple(x.shape)}. Pad x first."
        )
    raw = _raw_analysis(x, levels)
    scales = _scales(raw, steps)
    if unit is not None:
        scales = [scale / unit[:, None, None, None] for scale in scales]
    return Pyramid([band * scale for band, scale in zip(raw, scales, strict=True)])


def wavelet_synthesis(pyramid: list[Tensor], unit: Tensor | None = None, steps: Steps | None = None) -> Tensor:
    """Inverse of `wavelet_analysis` with the same unit and steps."""
    scales = [1 / scale for scale in _scales(pyramid, steps)]
    if unit is not None:
        scales = [scale * unit[:, None, None, None] for scale in scales]
    return _raw_synthesis([band * scale for band, scale in zip(pyramid, scales, strict=True)])
