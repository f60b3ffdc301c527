"""How sharp pictures are: power spectra, gradient energy, the variance of a Laplacian, and ratios of them.

Blur is missing power at high spatial frequencies. Each measure here is one number, or one row, for each picture; two
sets of pictures are compared by a ratio of means, 1 where they are equally sharp. A ratio says nothing of whether
the fine detail is right: noise is sharp.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rdae.errors import DataError, ShapeError
from rdae.measures.measure import Kind, Measure

__all__ = [
    "OCTAVES", "Spectrum", "band_power", "gradient_energy", "independent_ratio", "laplacian_variance", "paired_ratio",
    "periodogram", "power_spectrum",
]  # fmt: skip

# lowest and highest frequency of each band, cycles per pixel: details of about 32 to 16 pixels a period, ..., 4 to 2
OCTAVES = ((1 / 32, 1 / 16), (1 / 16, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 1 / 2))
SIDE_MIN = 8  # pixels; below, a window leaves nothing to look at


class Spectrum(NamedTuple):
    """Radially averaged power of each picture.

    Args:
        frequency: cycles per pixel, `(rings,)`, from one cycle a picture to 1/2.
        power: `(n, rings)` float64, u**2 per (cycle per pixel)**2 for pictures in u: white noise of variance v has
            power v at every frequency.
    """

    frequency: Tensor
    power: Tensor


def _pictures(images: Tensor) -> Tensor:
    if images.ndim != 4 or min(images.shape[-2:]) < SIDE_MIN:
        raise ShapeError(
            f"Sharpness is measured on pictures (n, channels, height, width) with sides of {SIDE_MIN} or more, "
            f"but these are {tuple(images.shape)}. Stack pictures along a first dimension."
        )
    return images.double()


def periodogram(images: Tensor) -> Tensor:
    """Power at each frequency of each picture, mean over channels, `(n, H, W)` float64, frequencies as of `torch.fft`.

    The mean of each channel is taken off, and a Hann window keeps the edges of a picture, which do not fit to each
    other, from spreading over all frequencies. What is left of the picture's variance under the window w is the mean
    of the result: `sum (w y)**2 / sum w**2`.

    Args:
        images: `(n, channels, H, W)`.

    Raises:
        ShapeError: these are no pictures, or smaller than 8 pixels.
    """
    y = _pictures(images)
    rows, columns = (torch.hann_window(side, dtype=y.dtype, device=y.device) for side in y.shape[-2:])
    window = rows[:, None] * columns
    y = window * (y - (window * y).sum((-2, -1), keepdim=True) / window.sum())
    return torch.fft.fft2(y).abs().square().mean(1) / window.square().sum()


def _radius(height: int, width: int, device: torch.device) -> Tensor:
    """Distance of each frequency from 0, cycles per pixel, `(H, W)`."""
    rows, columns = (torch.fft.fftfreq(side, dtype=torch.float64, device=device) for side in (height, width))
    return torch.hypot(rows[:, None], columns)


def power_spectrum(images: Tensor) -> Spectrum:
    """Mean of the `periodogram` over rings one cycle per picture wide.

    The corners beyond 1/2 cycle per pixel, which only diagonal detail reaches, are left out. The first ring is lowered
    by taking off the mean.

    Args:
        images: `(n, channels, H, W)`; of unequal sides the shorter one sets the width of the rings.
    """
    power = periodogram(images)
    height, width = power.shape[-2:]
    side = min(height, width)
    ring = torch.floor(_radius(height, width, power.device) * side + 0.5).long().flatten()
    rings = side // 2
    inside = (ring >= 1) & (ring <= rings)
    members = torch.nn.functional.one_hot(ring[inside] - 1, rings).double()
    frequency = torch.arange(1, rings + 1, dtype=torch.float64, device=power.device) / side
    return Spectrum(frequency, power.flatten(1)[:, inside] @ (members / members.sum(0)))


def band_power(images: Tensor, bands: tuple[tuple[float, float], ...] = OCTAVES) -> Tensor:
    """Mean of the `periodogram` over each band of frequencies, `(n, bands)`, in the unit of `Spectrum`.

    Args:
        images: `(n, channels, H, W)`.
        bands: lowest frequency, which belongs to the band, and highest, which does not; cycles per pixel.

    Raises:
        ShapeError: the pictures are too small to have a frequency in some band.
    """
    power = periodogram(images)
    radius = _radius(power.shape[-2], power.shape[-1], power.device)
    columns = []
    for low, high in bands:
        inside = (radius >= low) & (radius < high)
        if not inside.any():
            raise ShapeError(
                f"Pictures of {power.shape[-2]} x {power.shape[-1]} have no frequency from {low:g} to {high:g} cycles "
                "per pixel. Pass wider bands, or larger pictures."
            )
        columns.append(power[:, inside].mean(1))
    return torch.stack(columns, 1)


def gradient_energy(images: Tensor) -> Tensor:
    """Mean square of the differences of neighbours, across plus down, `(n,)` float64, in u**2; mean over channels."""
    y = _pictures(images)
    return sum((y.diff(dim=side).square().flatten(1).mean(1) for side in (-2, -1)), y.new_zeros(len(y)))


def laplacian_variance(images: Tensor) -> Tensor:
    """Variance over the pixels of `sum of four neighbours - 4 y`, `(n,)` float64, in u**2; mean over channels.

    The usual measure of focus; it looks at finer detail than `gradient_energy` does.
    """
    y = _pictures(images)
    inner = y[..., 1:-1, 1:-1]
    around = y[..., :-2, 1:-1] + y[..., 2:, 1:-1] + y[..., 1:-1, :-2] + y[..., 1:-1, 2:]
    return (around - 4 * inner).flatten(2).var(2, correction=0).mean(1)


def paired_ratio(values: Tensor, reference: Tensor) -> Measure:
    """`mean(values) / mean(reference)` of the same pictures, such as reconstructions and data.

    The standard error is that of a ratio of means over independent pictures (delta method): what both share drops out,
    and two equal sets give 1 with an error of 0.

    Args:
        values, reference: one number for each picture, `(n,)`, row k of both being picture k.

    Raises:
        ShapeError: the two are not as long as each other, or shorter than two.
        DataError: the reference is 0 on average, as of flat pictures, or a number is not finite.
    """
    if values.shape != reference.shape or values.ndim != 1 or len(values) < 2:
        raise ShapeError(
            f"A paired ratio needs one number for each of two or more pictures on both sides, but got "
            f"{tuple(values.shape)} and {tuple(reference.shape)}. Use independent_ratio for other pictures."
        )
    values, reference = _comparable(values, reference)
    ratio = values.mean() / reference.mean()
    error = (values - ratio * reference).std() / (reference.mean() * math.sqrt(len(values)))
    return Measure(float(ratio), float(error), "ratio", Kind.ESTIMATE)


def independent_ratio(values: Tensor, reference: Tensor) -> Measure:
    """`mean(values) / mean(reference)` of two sets that have nothing to do with each other, such as samples and data.

    Args:
        values, reference: one number for each picture, `(n,)` and `(m,)`.

    Raises:
        ShapeError: a set is shorter than two.
        DataError: the reference is 0 on average, as of flat pictures, or a number is not finite.
    """
    if values.ndim != 1 or reference.ndim != 1 or min(len(values), len(reference)) < 2:
        raise ShapeError(
            f"A ratio of means needs one number for each of two or more pictures on both sides, but got "
            f"{tuple(values.shape)} and {tuple(reference.shape)}. Pass (n,) and (m,)."
        )
    values, reference = _comparable(values, reference)
    ratio = values.mean() / reference.mean()
    spread = values.var() / len(values) + ratio.square() * reference.var() / len(reference)
    return Measure(float(ratio), float(spread.sqrt() / reference.mean()), "ratio", Kind.ESTIMATE)


def _comparable(values: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64, finite, the reference above 0 on average."""
    values, reference = values.double(), reference.double()
    for name, side in (("values", values), ("reference", reference)):
        if not side.isfinite().all():
            raise DataError(f"{name} holds a number that is not finite. Look for it in the pictures.")
    if not reference.mean() > 0:
        raise DataError(
            f"The reference is {float(reference.mean()):g} on average: its pictures are flat, and nothing can be a "
            "multiple of that. Choose pictures with detail."
        )
    return values, reference
