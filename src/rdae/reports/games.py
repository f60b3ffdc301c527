"""What games came to, drawn in the plane: samples beside the modes, and a critic along the segments of a transport."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rdae.adversarial.judged import Critic
from rdae.errors import ShapeError
from rdae.measures.transport import Transport
from rdae.reports.drawing import Figure

__all__ = ["AlongSegments", "along_segments", "samples_figure", "segments_figure"]

CELLS = 120  # of the picture of a critic, along each side
ARROWS = 3  # on each segment
NEAR = 0.9, 1.1  # lengths and cosines that are told apart; beyond they fall into the last column


class AlongSegments(NamedTuple):
    """A critic on the segments between the pairs of a transport plan, `(segments, points)` each."""

    slope: Tensor  # length of its gradient
    cosine: Tensor  # of the angle between gradient and segment, 1 where it points from y to x
    points: Tensor  # (segments, points, d)
    gradient: Tensor  # (segments, points, d)


def along_segments(critic: Critic, x: Tensor, y: Tensor, transport: Transport, points: int = 9) -> AlongSegments:
    """The gradient of a critic along the segments of the best plan between two samples of equal size.

    Where the plan for the mean distance joins x and y, the best 1-Lipschitz critic, high at x, has the gradient
    `(x - y) / |x - y|` on all of the segment (Gulrajani et al. 2017, proposition 1).

    Args:
        critic: `(batch, d)` to `(batch,)`; x are the real examples.
        x: `(n, d)`.
        y: `(n, d)`.
        transport: `rdae.measures.transport.exact_transport(x, y)`.
        points: on each segment, at equal distances, its ends left out.

    Raises:
        ShapeError: not as many of each.
    """
    if x.shape != y.shape:
        raise ShapeError(f"x is {tuple(x.shape)} but y {tuple(y.shape)}. Segments join as many of each.")
    partner = y[transport.plan.argmax(1)]
    t = ((torch.arange(points, dtype=x.dtype) + 0.5) / points)[:, None]
    on = (t * partner[:, None] + (1 - t) * x[:, None]).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(on.flatten(0, 1)).sum(), on)
    slope = gradient.norm(dim=2)
    way = (x - partner) / (x - partner).norm(dim=1, keepdim=True)
    cosine = (gradient * way[:, None]).sum(2) / slope.clamp_min(1e-12)
    return AlongSegments(slope, cosine, on.detach(), gradient)


@torch.no_grad()
def segments_figure(critic: Critic, x: Tensor, y: Tensor, transport: Transport, shown: int = 40) -> Figure:
    """The critic's levels with segments of the plan and its gradient on them; beside it lengths and angles of all.

    Arguments and errors as for `along_segments`, `d` being 2; `shown` segments are drawn.
    """
    with torch.enable_grad():
        found = along_segments(critic, x, y, transport)
    figure = Figure(figsize=(9.5, 4.4), layout="constrained")
    plane, side = figure.subplots(1, 2, width_ratios=[1.55, 1])
    both = torch.cat([x, y])
    low, high = (both.min(0).values - 0.5).tolist(), (both.max(0).values + 0.5).tolist()
    axes = [torch.linspace(a, b, CELLS, dtype=x.dtype) for a, b in zip(low, high, strict=True)]
    levels = critic(torch.cartesian_prod(*axes)).reshape(CELLS, CELLS).T.numpy()
    filled = plane.contourf(*(a.numpy() for a in axes), levels, 16, cmap="Blues", alpha=0.75)
    figure.colorbar(filled, ax=plane, label="critic f")
    partner = y[transport.plan.argmax(1)]
    chosen = torch.linspace(0, len(x) - 1, min(shown, len(x))).long()
    for k in chosen:
        plane.plot(*torch.stack([x[k], partner[k]]).T.numpy(), color="0.25", linewidth=0.7)
    places = torch.linspace(0, found.slope.shape[1] - 1, ARROWS + 2).long()[1:-1]
    at, arrows = (part[chosen][:, places].reshape(-1, 2).numpy() for part in (found.points, found.gradient))
    plane.quiver(*at.T, *arrows.T, angles="xy", color="C3", width=0.0035, zorder=4)
    plane.plot(*x[chosen].T.numpy(), "o", color="C0", markersize=4, markeredgecolor="white", label="real", zorder=5)
    plane.plot(
        *partner[chosen].T.numpy(), "s", color="C1", markersize=4, markeredgecolor="white", label="generated", zorder=5
    )
    plane.set(aspect="equal", title="segments of the best plan, gradient in red")
    plane.legend(loc="lower right", fontsize=8)
    edges = np.linspace(*NEAR, 81)
    for values, name in ((found.slope, "length of the gradient"), (found.cosine, "cosine with the segment")):
        flat = values.flatten().numpy()
        weights = np.full(len(flat), 100 / len(flat))
        side.hist(flat.clip(*NEAR), edges, weights=weights, histtype="stepfilled", alpha=0.6, label=name)
    side.axvline(1, color="0.3", linestyle="--", linewidth=1)
    side.set(xlabel="1 for the best critic", ylabel="points on segments, %", title="all segments")
    side.legend(fontsize=8, loc="upper left")
    side.grid(alpha=0.3)
    return figure


def samples_figure(
    samples: Mapping[str, np.ndarray], centres: np.ndarray, *, columns: int = 5, caption: Callable[[str], str] = str
) -> Figure:
    """Samples of several models in the plane over the centres of the modes of the data, a panel a model.

    Args:
        samples: `(n, 2)` of each model, by name.
        centres: `(modes, 2)`.
        columns: of panels.
        caption: name to title.
    """
    rows = -(-len(samples) // columns)
    figure = Figure(figsize=(2.1 * columns, 2.35 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    reach = 1.25 * float(abs(centres).max())
    for (name, points), axes in zip(samples.items(), panels, strict=False):
        axes.plot(*centres.T, "o", color="none", markeredgecolor="0.75", markersize=7, markeredgewidth=0.7)
        axes.plot(*points.T, ".", color="C0", markersize=1.2, alpha=0.5)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
        axes.set_title(caption(name), fontsize=8)
    for axes in panels[len(samples) :]:
        axes.set_axis_off()
    return figure
