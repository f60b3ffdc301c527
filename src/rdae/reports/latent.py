"""A latent space of two variables, drawn: where posteriors lie, which overlap, and what those are decoded to.

After the picture of the lecture on latent-variable models in which two inputs come out as one ("possibly redundant
decoding"). A panel is made of posteriors and a decoder, whatever they were trained with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from rdae.errors import DataError, ShapeError
from rdae.measures.measure import Kind, Measure
from rdae.measures.overlap import gaussian_parameters, pairwise_distances
from rdae.reports.drawing import Axes, Figure, Polygon, colormaps
from rdae.reports.grids import image_grid

__all__ = [
    "LatentPanel", "Row", "from_json", "latent_figure", "latent_panel", "measures_figure", "overlapping_pairs",
    "to_json",
]  # fmt: skip

CORNERS = 48  # of the polygon that stands for an ellipse
PRIOR = 1, 2, 3  # radii of the circles, in standard deviations of N(0, I)
TITLES = {
    "rate": "rate",
    "distortion": "distortion, \u2212ln p(y∣z)",
    "squared_error": "squared error of reconstructions",
    "overlap": "overlap of two posteriors",
    "left_open": "ln N \u2212 I(n; z)",
    "divergence": "KL(q(z) ‖ p(z))",
    "mmd": "MMD² of q(z) and p(z)",
    "label_kept": "label kept in reconstruction",
    "sample_to_data_pixels": "sample to nearest datum, pixels",
    "sample_to_data": "sample to nearest datum, features",
    "data_to_sample": "datum to nearest sample, features",
    "frechet": "Fréchet distance of samples, features",
}  # fmt: skip


class LatentPanel(NamedTuple):
    """The latent space of one model."""

    title: str
    mean: np.ndarray  # (n, 2)
    factor: np.ndarray  # (n, 2, 2), z = mean + L eps
    labels: np.ndarray | None  # (n,)
    pairs: list[tuple[int, int]]  # items whose posteriors overlap most
    overlaps: list[float]  # of the pairs, Bhattacharyya coefficients
    pictures: np.ndarray  # a row for each pair: two inputs, then what they are decoded to


@torch.no_grad()
def latent_panel(
    title: str,
    q: Distribution,
    y: Tensor,
    decode: Callable[[Tensor], Tensor],
    labels: Tensor | None = None,
    pairs: int = 5,
) -> LatentPanel:
    """What `latent_figure` draws of a model.

    Args:
        title: of the panel.
        q: Gaussian posteriors of n items over a latent of two variables.
        y: the items, pictures `(n, channels, H, W)` in [0, 1].
        decode: latents `(m, 2)` to pictures; it is shown posterior means.
        labels: of the items, `(n,)`. With them, pairs are of different labels.
        pairs: at most so many.

    Raises:
        ShapeError: the latent has not two variables, or the items are no pictures.
    """
    mean, spread = gaussian_parameters(q)
    if mean.ndim != 2 or mean.shape[1] != 2:
        raise ShapeError(f"The posteriors are over {tuple(q.event_shape)}, not two variables. Train with latent=2.")
    if len(mean) != len(y):
        raise ShapeError(f"There are {len(mean)} posteriors of {len(y)} items. Pass the items they are of.")
    distance = pairwise_distances(q)
    chosen = overlapping_pairs(distance, pairs, labels)
    first, second = (torch.tensor([pair[k] for pair in chosen], dtype=torch.long) for k in (0, 1))
    decoded = [decode(q.mean[index]) for index in (first, second)]
    rows = torch.stack([y[first], y[second], *decoded], 1).flatten(0, 1)
    return LatentPanel(
        title,
        mean.cpu().numpy(),
        (spread if spread.ndim == 3 else torch.diag_embed(spread)).cpu().numpy(),
        None if labels is None else labels.cpu().numpy(),
        chosen,
        torch.exp(-distance[first, second]).tolist(),
        np.asarray(image_grid(rows, 4)),
    )


def overlapping_pairs(distance: Tensor, count: int, labels: Tensor | None = None) -> list[tuple[int, int]]:
    """Pairs of least distance, no item in two of them, best first.

    Args:
        distance: `(n, n)`, symmetric.
        count: at most so many.
        labels: where they are given, of different labels only.

    Raises:
        DataError: there is no pair.
    """
    first, second = torch.triu_indices(len(distance), len(distance), 1)
    if labels is not None:
        differ = labels[first] != labels[second]
        first, second = first[differ], second[differ]
    chosen: list[tuple[int, int]] = []
    taken: set[int] = set()
    for k in distance[first, second].argsort().tolist():
        if len(chosen) == count:
            break
        pair = int(first[k]), int(second[k])
        if not taken & set(pair):
            chosen.append(pair)
            taken |= set(pair)
    if not chosen:
        raise DataError(f"{len(distance)} items make no pair of different labels. Pass more items, or no labels.")
    return chosen


def latent_figure(panels: Sequence[LatentPanel], columns: int = 3) -> Figure:
    """Panels side by side, each with the pictures of its pairs to the right.

    Ellipses and dashed prior circles are at one standard deviation, faint circles at two and three; colours are labels.
    """
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.6 * columns, 4.3 * rows), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False, width_ratios=[2.4, 1] * columns)
    places = grid.reshape(rows * columns, 2)
    for panel, (plane, side) in zip(panels, places, strict=False):
        _plane(plane, panel)
        _pictures(side, panel)
    for axes in places[len(panels) :].flat:
        axes.set_axis_off()
    if panels[0].labels is not None:
        names = np.unique(panels[0].labels)
        colours = _colours(names, len(names))
        handles = [
            Polygon(np.zeros((1, 2)), color=colour, label=str(name))
            for name, colour in zip(names, colours, strict=True)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(names), fontsize=9)
    return figure


def _plane(axes: Axes, panel: LatentPanel) -> None:
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    colours = _colours(panel.labels, len(panel.mean))
    for mean, factor, colour in zip(panel.mean, panel.factor, colours, strict=True):
        corners = mean + (factor @ circle).T
        axes.add_patch(Polygon(corners, facecolor=(*colour[:3], 0.16), edgecolor=(*colour[:3], 0.8), linewidth=0.6))
    for item in sum(panel.pairs, ()):
        corners = panel.mean[item] + (panel.factor[item] @ circle).T
        axes.add_patch(Polygon(corners, fill=False, edgecolor="black", linewidth=1.0, zorder=4))
    for radius in PRIOR:
        across, up = radius * np.c_[circle, circle[:, :1]]
        axes.plot(across, up, "--", color="black", alpha=0.9 if radius == 1 else 0.3, linewidth=1.0, zorder=3)
    for a, b in panel.pairs:
        axes.plot(*panel.mean[[a, b]].T, "o-", color="black", markersize=2, linewidth=1, zorder=4)
    size = np.linalg.norm(panel.factor, axis=2)  # half the extent of an ellipse along each axis
    reach = max(float((abs(panel.mean) + size).max()), max(PRIOR)) * 1.05
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.set_title(panel.title, fontsize=10)
    axes.tick_params(labelsize=8)


def _colours(labels: np.ndarray | None, count: int) -> np.ndarray:
    if labels is None:
        return np.tile(colormaps["tab10"](0), (count, 1))
    _, index = np.unique(labels, return_inverse=True)
    return colormaps["tab10"](index % 10)


def _pictures(axes: Axes, panel: LatentPanel) -> None:
    height, width = panel.pictures.shape[:2]
    axes.imshow(panel.pictures, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    rows, side = len(panel.pairs), width / 4
    for row, overlap in enumerate(panel.overlaps):
        axes.text(width * 1.03, (row + 0.5) * height / rows, f"{overlap:.2f}", va="center", fontsize=7)
    for k, name in ((1, "two inputs"), (3, "decoded")):
        axes.text(k * side, -0.04 * side, name, ha="center", va="bottom", fontsize=8)
    axes.set_axis_off()


class Row(NamedTuple):
    """What was measured of one model."""

    model: str
    beta: float
    measures: dict[str, Measure]  # by the names of TITLES


def to_json(rows: Sequence[Row], **about: Any) -> str:
    """The rows as JSON, a measure a line, behind what else is to be said of them."""
    held = [{"model": r.model, "beta": r.beta, "measures": _plain(r.measures)} for r in rows]
    text = json.dumps({**about, "rows": held}, indent=1)
    return text + "\n"


def _plain(measures: Mapping[str, Measure]) -> dict[str, list[Any]]:
    return {
        name: [float(f"{m.value:.6g}"), float(f"{m.standard_error:.3g}"), m.unit, str(m.kind)]
        for name, m in measures.items()
    }


def from_json(text: str) -> list[Row]:
    """The rows that `to_json` wrote."""
    return [Row(r["model"], r["beta"], _measures(r["measures"])) for r in json.loads(text)["rows"]]


def _measures(plain: Mapping[str, Sequence[Any]]) -> dict[str, Measure]:
    return {name: Measure(value, error, unit, Kind(kind)) for name, (value, error, unit, kind) in plain.items()}


def measures_figure(rows: Sequence[Row], columns: int = 4) -> Figure:
    """Each measure over beta, a line for each model, error bars of one standard error.

    A row whose beta is 0 is no model of the sweep but what data give; it is a dashed line.
    """
    names = [name for name in TITLES if any(name in row.measures for row in rows)]
    figure = Figure(figsize=(3.6 * columns, 3.1 * -(-len(names) // columns)), layout="constrained")
    places = figure.subplots(-(-len(names) // columns), columns, squeeze=False).ravel()
    models = list(dict.fromkeys(row.model for row in rows if row.beta))
    for name, axes in zip(names, places, strict=False):
        for model in models:
            own = sorted((r.beta, r.measures[name]) for r in rows if r.model == model and r.beta and name in r.measures)
            values, errors = ([getattr(m, part) for _, m in own] for part in ("value", "standard_error"))
            axes.errorbar([beta for beta, _ in own], values, errors, marker="o", markersize=4, capsize=2, label=model)
        for row in rows:
            if not row.beta and name in row.measures:
                axes.axhline(row.measures[name].value, color="0.4", linestyle="--", linewidth=1, label=row.model)
        unit = next(row.measures[name].unit for row in rows if name in row.measures)
        axes.set(xscale="log", xlabel="β", ylabel=unit)
        axes.set_title(TITLES[name], fontsize=10)
        axes.grid(alpha=0.3)
        if len(axes.get_legend_handles_labels()[1]) > 1:
            axes.legend(fontsize=8)
    for axes in places[len(names) :]:
        axes.set_axis_off()
    return figure
