"""Sharpness drawn: power spectra beside the data's, sharpness against rate, and named rows of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from torch import Tensor

from rdae.errors import ShapeError
from rdae.measures.measure import Measure
from rdae.reports.drawing import Axes, Figure
from rdae.reports.grids import image_grid

__all__ = ["picture_rows", "rate_figure", "spectra_figure"]

INCH = 100  # pixels
MARKERS = "osD^v"
DASHES = ("-", "--", "-.", ":", (0, (5, 1)))  # lines that lie on each other can be told apart


def spectra_figure(
    frequency: Sequence[float],
    data: Sequence[float],
    reconstructions: Mapping[str, Sequence[float]],
    samples: Mapping[str, Sequence[float]],
) -> Figure:
    """Power spectra of reconstructions and of samples beside that of the data, and reconstructions over data.

    Args:
        frequency: cycles per pixel, `(rings,)`, as of `measures.sharpness.power_spectrum`.
        data: mean power of the data, `(rings,)`.
        reconstructions, samples: mean power of each model's pictures, by its name; a name has one colour.

    Raises:
        ShapeError: a spectrum has another number of rings.
    """
    for name, power in [("data", data), *reconstructions.items(), *samples.items()]:
        if len(power) != len(frequency):
            raise ShapeError(f"{name} has {len(power)} rings, but there are {len(frequency)} frequencies.")
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    panels = figure.subplots(1, 3)
    styles = _styles([*reconstructions, *samples])
    for axes, curves, title in ((panels[0], reconstructions, "reconstructions"), (panels[2], samples, "samples")):
        axes.plot(frequency, data, color="black", linewidth=2, label="data")
        for name, power in curves.items():
            axes.plot(frequency, power, **styles[name], label=name)
        axes.set(yscale="log", title=title, ylabel="power, u² per (cycle per pixel)²")
        axes.legend(fontsize=8)
    panels[1].axhline(1, color="black", linewidth=2)
    for name, power in reconstructions.items():
        panels[1].plot(frequency, np.asarray(power) / np.asarray(data), **styles[name])
    panels[1].set(title="reconstructions / data", ylabel="ratio of power", ylim=(0, None))
    lowest = min(data) / 30  # what is weaker by more is nothing, and would flatten the rest
    for axes in panels:
        axes.set(xscale="log", xlabel="cycles per pixel")
        axes.set_xticks([1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2], ["1/32", "1/16", "1/8", "1/4", "1/2"])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    for axes in (panels[0], panels[2]):
        axes.set_ylim(bottom=lowest)
    return figure


def _styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    order = list(dict.fromkeys(names))
    return {name: {"color": f"C{k}", "linestyle": dash} for (k, name), dash in zip(enumerate(order), cycle(DASHES))}


def rate_figure(series: Mapping[str, Sequence[tuple[float, Measure]]], sharpness: str) -> Figure:
    """Sharpness against rate with bars of two standard errors; series of more than two points are joined by a line.

    Args:
        series: by name, `(nats per picture, ratio to the data's sharpness)`, rates rising.
        sharpness: what was measured.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes: Axes = figure.subplots()
    axes.axhline(1, color="black", linewidth=0.8)
    for (name, points), marker in zip(series.items(), cycle(MARKERS)):
        rates, ratios = [rate for rate, _ in points], [ratio for _, ratio in points]
        axes.errorbar(
            rates, [r.value for r in ratios], [2 * r.standard_error for r in ratios], label=name, marker=marker,
            markersize=5, linestyle="-" if len(points) > 2 else "", capsize=2,
        )  # fmt: skip
    axes.set(xscale="log", xlabel="rate, nats per picture", ylabel=f"{sharpness}, ratio to data", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def picture_rows(rows: Mapping[str, Tensor]) -> Figure:
    """Rows of pictures, each with its name at the left.

    Args:
        rows: `(columns, channels, H, W)` in [0, 1] by name, all of one shape.

    Raises:
        ShapeError: rows differ in shape, or are no pictures.
    """
    shapes = {tuple(row.shape) for row in rows.values()}
    if len(shapes) != 1:
        raise ShapeError(f"Rows of pictures have one shape, but these have {sorted(shapes)}. Take as many of each.")
    strips = [np.asarray(image_grid(row, len(row)).convert("RGB")) for row in rows.values()]
    height, width = strips[0].shape[:2]
    label = 130  # pixels
    figure = Figure(figsize=((width + label) / INCH, len(strips) * (height + 4) / INCH))
    for k, (name, strip) in enumerate(zip(rows, strips, strict=True)):
        bottom = 1 - (k + 1) / len(strips)
        axes = figure.add_axes(
            (label / (width + label), bottom, width / (width + label), height / (height + 4) / len(strips))
        )
        axes.imshow(strip, interpolation="nearest")
        axes.set_axis_off()
        middle = bottom + 0.5 * height / (height + 4) / len(strips)
        figure.text((label - 8) / (width + label), middle, name, ha="right", va="center", fontsize=8)
    return figure
