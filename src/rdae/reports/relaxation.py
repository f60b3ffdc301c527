"""How far uniform noise stands in for rounding: rate and distortion of the same pictures, with either.

A rounding model is trained with noise in the place of rounding, because rounding has no useful gradient. Each point of
the two scatter plots is one picture at one lam: across, what the stand-in says; up, what a file costs or shows.
After the scatter plots of Balle, Laparra & Simoncelli 2017, "End-to-end optimized image compression".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import Channel, Mixed, UniformNoise
from rdae.coding.codec import Codec
from rdae.errors import DataError, ModelError
from rdae.objectives import BITS_PER_NAT
from rdae.reports.drawing import Axes, Figure, colormaps

__all__ = ["Point", "Summary", "distortion_figure", "from_json", "measure", "rate_figure", "summary", "to_json"]

LAM_TOLERANCE = 1e-4  # relative; a codec's levels of lam are 4 % apart


class Point(NamedTuple):
    """One picture at one lam. Rates in bits per picture; distortions in the unit of the model's own, sums."""

    image: str
    lam: float  # nats per unit of distortion
    pixels: int
    surrogate_bits: float  # what training charges: -log2 of the convolved density at z + u, mean over draws of u
    surrogate_bits_error: float  # standard error of that mean
    ideal_bits: float  # -log2 of the probability of round(z): the code length of an ideal coder
    file_bits: int | None  # 8 x bytes of a real file, all overhead counted
    noisy_distortion: float  # z + u in the decoder, mean over draws
    noisy_distortion_error: float  # standard error of that mean
    rounded_distortion: float  # round(z) in the decoder


class Summary(NamedTuple):
    """All pictures at one lam. A gap is rounding minus noise; its percentage is of the mean with noise."""

    lam: float
    images: int
    rate_correlation: float  # Pearson, of surrogate and ideal bits over pictures
    rate_gap_bits: float  # mean over pictures
    rate_gap_percent: float
    distortion_correlation: float
    distortion_gap: float
    distortion_gap_percent: float
    overhead_bits: float | None  # mean of file minus ideal bits
    median_surrogate_bits: float
    median_ideal_bits: float
    median_noisy_distortion: float
    median_rounded_distortion: float


@torch.no_grad()
def measure(
    model: RateDistortionAutoencoder,
    images: Mapping[str, np.ndarray],
    lams: Sequence[float],
    *,
    codec: Codec | None = None,
    draws: int = 4,
    seed: int = 0,
) -> list[Point]:
    """Rate and distortion of each picture at each lam, with noise and with rounding.

    The noise goes to both prior and decoder, whatever the model's channel did in training: `Mixed` shows the decoder
    rounded latents, so its own training terms would compare rounding with itself.

    Args:
        model: rounds in files; its channel is `UniformNoise` or `Mixed`.
        images: name and pixels, `(H, W, 3)` uint8, sides that fit the encoder.
        lams: weights of distortion, nats per unit of distortion.
        codec: made of this model; adds the bits of real files. Each lam must be one of its quality levels.
        draws: of the noise, at least 2.
        seed: of the noise; the global generator is left as it was.

    Raises:
        ModelError: the model was not trained with uniform noise, or the codec has no level at some lam.
        DataError: fewer than two draws.
    """
    if not isinstance(model.channel, (Mixed, UniformNoise)):
        raise ModelError(
            f"This model was trained with {type(model.channel).__name__}, which noise does not stand in for. "
            "Measure a model whose channel is UniformNoise or Mixed."
        )
    if draws < 2:
        raise DataError(f"A standard error needs at least two draws of the noise, not {draws}. Pass draws=2 or more.")
    levels = [None if codec is None else _level(codec, lam) for lam in lams]
    training, device = model.training, next(model.parameters()).device
    points = []
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for image, pixels in images.items():
                y = torch.tensor(pixels, device=device).permute(2, 0, 1)[None].float() / 255
                for value, level in zip(lams, levels, strict=True):
                    bits = None
                    if codec is not None and level is not None:
                        bits = 8 * len(codec.compress(pixels, codec.quality(level)))
                    about = image, value, pixels.shape[0] * pixels.shape[1]
                    points.append(_point(model, y, about, bits, draws))
    finally:
        model.train(training)
    return points


def _point(
    model: RateDistortionAutoencoder, y: Tensor, about: tuple[str, float, int], file_bits: int | None, draws: int
) -> Point:
    lam = torch.tensor([about[1]], device=y.device)
    z = model.eval().encoder(y, lam)
    bits, distortion = _terms(model, y, z, model.channel, lam)
    many_y, many_z = (x.expand(draws, *x.shape[1:]) for x in (y, z))
    noisy = _terms(model.train(), many_y, many_z, UniformNoise().train(), lam.expand(draws))
    surrogate, noisy_distortion = (_mean_and_error(term) for term in noisy)
    return Point(*about, *surrogate, float(bits), file_bits, *noisy_distortion, float(distortion))


def _terms(model: RateDistortionAutoencoder, y: Tensor, z: Tensor, channel: Channel, lam: Tensor) -> tuple[Tensor, ...]:
    """Bits and distortion of each example."""
    coded = model.prior(z, channel, lam)
    return coded.rate * BITS_PER_NAT, model.distortion(y, model.decoder(coded.latent, lam))


def _level(codec: Codec, lam: float) -> int:
    offsets = np.abs(np.log(codec.model.lam / lam))
    level = int(offsets.argmin())
    if offsets[level] > LAM_TOLERANCE:
        raise ModelError(
            f"The codec has no quality level at lam {lam:g}; the nearest is {codec.model.lam[level]:g}. "
            "Choose values out of codec.model.lam."
        )
    return level


def _mean_and_error(x: Tensor) -> tuple[float, float]:
    x = x.double()
    return float(x.mean()), float(x.std() / len(x) ** 0.5)


def summary(points: Sequence[Point]) -> list[Summary]:
    """Correlation, mean gap and medians at each lam, lam rising.

    Raises:
        DataError: a lam has fewer than two pictures.
    """
    return [_summary(lam, [p for p in points if p.lam == lam]) for lam in sorted({p.lam for p in points})]


def _summary(lam: float, points: list[Point]) -> Summary:
    if len(points) < 2:
        raise DataError(f"lam {lam:g} has {len(points)} picture, and a correlation needs two. Measure more pictures.")
    surrogate, ideal, noisy, rounded = np.array(
        [[p.surrogate_bits, p.ideal_bits, p.noisy_distortion, p.rounded_distortion] for p in points]
    ).T
    overheads = [p.file_bits - p.ideal_bits for p in points if p.file_bits is not None]
    gaps = []
    for x, y in ((surrogate, ideal), (noisy, rounded)):
        gap = float((y - x).mean())
        gaps.append((float(np.corrcoef(x, y)[0, 1]), gap, 100 * gap / float(x.mean())))
    medians = [float(np.median(x)) for x in (surrogate, ideal, noisy, rounded)]
    overhead = float(np.mean(overheads)) if overheads else None
    return Summary(lam, len(points), *gaps[0], *gaps[1], overhead, *medians)


def to_json(points: Sequence[Point], **about: Any) -> str:
    """The points as JSON, one a line, behind what else is to be said of them."""
    lines = ",\n  ".join(json.dumps(_rounded(point)) for point in points)
    head = "".join(f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in about.items())
    return f'{{\n{head} "points": [\n  {lines}\n ]\n}}\n'


def _rounded(point: Point) -> dict[str, Any]:
    return {k: float(f"{v:.7g}") if isinstance(v, float) and k != "lam" else v for k, v in point._asdict().items()}


def from_json(text: str) -> list[Point]:
    """The points that `to_json` wrote."""
    return [Point(**point) for point in json.loads(text)["points"]]


def rate_figure(points: Sequence[Point]) -> Figure:
    """Scatter plot of the rate with noise against the bits of rounded latents, bits per pixel, a colour per lam."""
    figure, scatter, ratio = _panels("rate with uniform noise, bits per pixel", "rate with rounding, bits per pixel")
    for lam, colour, own in _by_lam(points):
        pixels = np.array([p.pixels for p in own])
        x, ideal = (np.array([getattr(p, name) for p in own]) / pixels for name in ("surrogate_bits", "ideal_bits"))
        _scatter(scatter, ratio, x, ideal, colour, lam)
        if all(p.file_bits is not None for p in own):
            files = np.array([p.file_bits for p in own]) / pixels
            for axes, y in ((scatter, files), (ratio, files / x)):
                axes.plot(x, y, "+", color=colour, markersize=6, markeredgewidth=0.8, zorder=2)
    if all(p.file_bits is not None for p in points):
        scatter.plot([], [], "o", color="0.4", label="ideal code length")
        scatter.plot([], [], "+", color="0.4", label="real file, all bytes")
    return _finished(figure, scatter)


def distortion_figure(points: Sequence[Point]) -> Figure:
    """Scatter plot of the distortion with noise against that with rounding, per pixel, a colour per lam."""
    figure, scatter, ratio = _panels("distortion with uniform noise, per pixel", "distortion with rounding, per pixel")
    for lam, colour, own in _by_lam(points):
        pixels = np.array([p.pixels for p in own])
        noisy, rounded = (np.array([getattr(p, f"{n}_distortion") for p in own]) / pixels for n in ("noisy", "rounded"))
        _scatter(scatter, ratio, noisy, rounded, colour, lam)
    return _finished(figure, scatter)


def _panels(across: str, up: str) -> tuple[Figure, Axes, Axes]:
    figure = Figure(figsize=(11, 5), layout="constrained")
    scatter, ratio = figure.subplots(1, 2)
    scatter.set(xscale="log", yscale="log", xlabel=across, ylabel=up, title="a point for each picture and λ")
    ratio.set(xscale="log", xlabel=across, ylabel="rounding / noise", title="the same points as ratios", ylim=(0, 1.1))
    ratio.axhline(1, color="black", linewidth=0.8)
    for axes in (scatter, ratio):
        axes.grid(alpha=0.3)
    return figure, scatter, ratio


def _by_lam(points: Sequence[Point]) -> list[tuple[float, Any, list[Point]]]:
    lams = sorted({p.lam for p in points})
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(lams)))
    return [(lam, colour, [p for p in points if p.lam == lam]) for lam, colour in zip(lams, colours, strict=True)]


def _scatter(scatter: Axes, ratio: Axes, x: np.ndarray, y: np.ndarray, colour: Any, lam: float) -> None:
    style: dict[str, Any] = {"linestyle": "", "marker": "o", "color": colour, "markersize": 4, "zorder": 3}
    scatter.plot(x, y, **style, label=f"λ = {lam:,.0f}")
    ratio.plot(x, y / x, **style)
    ratio.set_ylim(0, max(ratio.get_ylim()[1], 1.1 * float((y / x).max())))


def _finished(figure: Figure, scatter: Axes) -> Figure:
    low = min(scatter.get_xlim()[0], scatter.get_ylim()[0])
    high = max(scatter.get_xlim()[1], scatter.get_ylim()[1])
    scatter.plot([low, high], [low, high], color="black", linewidth=0.8, zorder=1, label="equal")
    scatter.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    scatter.legend(fontsize=8)
    return figure
