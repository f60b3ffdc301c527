"""Diagrams of models: arrows lead where they should, and labels can be read."""

from __future__ import annotations

import io

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from rdae.reports.diagrams import (
    graphical_model_figure,
    implicit_model_figure,
    noisy_channel_figure,
    reparameterisation_figure,
)


def arrows(figure: Figure) -> set[tuple[str, str]]:
    """Which node each arrow of a diagram leaves and which it reaches, by the first line of their labels."""
    (axes,) = figure.axes
    nodes = {text.get_position(): text.get_text().splitlines()[0] for text in axes.texts if text.get_bbox_patch()}
    return {(nodes[a.xyann], nodes[a.xy]) for a in axes.texts if isinstance(a, Annotation)}


def test_the_diagrams_say_what_depends_on_what():
    noisy = arrows(noisy_channel_figure())
    assert ("encoder", r"$\sigma(y)\,\varepsilon$") in noisy  # the noise depends on y
    assert {begin for begin, end in noisy if end == "$z$"} == {"$+$", r"prior $\hat p(z)$"}
    assert {end for begin, end in noisy if begin == "$z$"} == {"decoder"}  # which sees nothing of y but z
    assert arrows(graphical_model_figure()) == {("$z$", "$y$"), ("$y$", "$z$")}
    drawn = arrows(reparameterisation_figure())
    assert {begin for begin, end in drawn if end == "$z$"} == {
        r"$\mu(y)$",
        r"$\sigma(y)$",
        r"$\varepsilon \sim N(0, I)$",
    }
    assert not any("varepsilon" in end for _, end in drawn)  # nothing to learn on the way to the noise
    implicit = arrows(implicit_model_figure())
    assert {begin for begin, end in implicit if end == "critic $D$"} == {"$G(z)$", "data $y$"}


@pytest.mark.parametrize(
    "draw", [noisy_channel_figure, graphical_model_figure, reparameterisation_figure, implicit_model_figure]
)
def test_labels_of_the_diagrams_stay_inside_and_apart(draw):
    figure = draw()
    figure.savefig(io.BytesIO(), dpi=50)
    boxes = [t.get_window_extent() for t in figure.axes[0].texts if t.get_text()]
    width, height = figure.get_size_inches() * figure.dpi
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= width and b.y1 <= height for b in boxes)
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
