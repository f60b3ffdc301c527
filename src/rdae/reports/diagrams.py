"""Diagrams of the kinds of models: what is computed from what, what is drawn at random, and what the prior charges."""

from __future__ import annotations

from typing import Any

from rdae.reports.drawing import Axes, Figure

__all__ = ["graphical_model_figure", "implicit_model_figure", "noisy_channel_figure", "reparameterisation_figure"]

DATA, LATENT, NOISE, NET = "#7a9cc6", "#b07aa1", "#f7d488", "#e8e8e8"
INK = "0.25"
CIRCLE: dict[str, Any] = {"boxstyle": "circle,pad=0.35", "edgecolor": INK}
BOX: dict[str, Any] = {"boxstyle": "round,pad=0.5", "edgecolor": INK}
WORDS: dict[str, Any] = {"va": "center", "fontsize": 11, "color": INK}


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def _node(axes: Axes, at: tuple[float, float], label: str, colour: str, shape: dict[str, Any]) -> Any:
    style = {**shape, "facecolor": colour}
    size = 15 if shape is CIRCLE else 11.5
    return axes.text(*at, label, ha="center", va="center", fontsize=size, bbox=style, zorder=1)


def _arrow(axes: Axes, begin: Any, end: Any, *, dashed: bool = False, bend: float = 0.0) -> None:
    """From the rim of one node to that of another; nodes are drawn before, and so their rims are known."""
    style: dict[str, Any] = {
        "arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0, "linestyle": "--" if dashed else "-",
        "connectionstyle": f"arc3,rad={bend}", "patchA": begin.get_bbox_patch(), "patchB": end.get_bbox_patch(),
        "mutation_scale": 13,
    }  # fmt: skip
    axes.annotate("", end.get_position(), begin.get_position(), arrowprops=style, zorder=2)


def noisy_channel_figure() -> Figure:
    """From y to z to ŷ through a channel with noise; what the two terms look at, and the half that generates."""
    figure, axes = _canvas(11, 3.6)
    axes.axvspan(4.55, 11, ymin=0.02, ymax=0.98, color=LATENT, alpha=0.09, zorder=0)
    y = _node(axes, (0.6, 1.5), "$y$", DATA, CIRCLE)
    encoder = _node(axes, (2.2, 1.5), "encoder\n$\\mu(y),\\ \\sigma(y)$", NET, BOX)
    channel = _node(axes, (4.0, 1.5), "$+$", "white", CIRCLE)
    noise = _node(axes, (4.0, 2.9), "$\\sigma(y)\\,\\varepsilon$", NOISE, BOX)
    z = _node(axes, (5.6, 1.5), "$z$", LATENT, CIRCLE)
    prior = _node(axes, (5.6, 2.9), "prior $\\hat p(z)$", NET, BOX)
    decoder = _node(axes, (7.5, 1.5), "decoder", NET, BOX)
    out = _node(axes, (9.2, 1.5), "$\\hat y$", DATA, CIRCLE)
    for begin, end in ((y, encoder), (encoder, channel), (noise, channel), (channel, z), (z, decoder), (decoder, out)):
        _arrow(axes, begin, end)
    _arrow(axes, encoder, noise, bend=-0.3)
    _arrow(axes, prior, z, dashed=True)
    axes.text(2.4, 0.45, "rate: $\\ln\\,q(z|y) - \\ln\\,\\hat p(z)$", ha="center", **WORDS)
    axes.text(7.8, 0.45, "distortion: $d(y, \\hat y)$, or $-\\ln\\,p(y|z)$", ha="center", **WORDS)
    axes.text(8.6, 2.95, "to generate: draw $z$ from the prior,\nthe right half alone", ha="center", **WORDS)
    return figure


def graphical_model_figure() -> Figure:
    """A latent-variable model: z generates y; the encoder answers the question in the other direction."""
    figure, axes = _canvas(4.6, 3.4)
    z = _node(axes, (1.3, 2.6), "$z$", LATENT, CIRCLE)
    y = _node(axes, (1.3, 0.8), "$y$", DATA, CIRCLE)
    _arrow(axes, z, y, bend=0.35)
    _arrow(axes, y, z, dashed=True, bend=0.35)
    axes.text(1.95, 2.6, "$p(z)$, the prior", **WORDS)
    axes.text(0.68, 1.7, "$p(y|z)$", ha="right", **WORDS)
    axes.text(1.95, 1.7, "$q(z|y)$, in place of $p(z|y)$", **WORDS)
    axes.text(1.95, 0.8, "$p(y) = \\int p(y|z)\\,p(z)\\,dz$", **WORDS)
    return figure


def reparameterisation_figure() -> Figure:
    """Sampling as a deterministic function of the data and of noise that has no parameters."""
    figure, axes = _canvas(9, 3.2)
    y = _node(axes, (0.6, 1.0), "$y$", DATA, CIRCLE)
    mean = _node(axes, (2.6, 1.7), "$\\mu(y)$", NET, BOX)
    std = _node(axes, (2.6, 0.5), "$\\sigma(y)$", NET, BOX)
    noise = _node(axes, (4.9, 2.7), "$\\varepsilon \\sim N(0, I)$", NOISE, BOX)
    z = _node(axes, (4.9, 1.1), "$z$", LATENT, CIRCLE)
    out = _node(axes, (7.0, 1.1), "$\\hat y$", DATA, CIRCLE)
    for begin, end in ((y, mean), (y, std), (mean, z), (std, z), (noise, z), (z, out)):
        _arrow(axes, begin, end)
    axes.text(5.6, 0.35, "$z = \\mu(y) + \\sigma(y) \\odot \\varepsilon$", ha="center", **WORDS)
    axes.text(7.3, 2.35, "gradients go back along the arrows,\nand none has to pass the noise", ha="center", **WORDS)
    return figure


def implicit_model_figure() -> Figure:
    """A model that can only be sampled: its critic compares samples with data, and no density is computed."""
    figure, axes = _canvas(9, 2.6)
    z = _node(axes, (0.8, 1.7), "$z \\sim p(z)$", NOISE, BOX)
    generator = _node(axes, (2.7, 1.7), "generator $G$", NET, BOX)
    fake = _node(axes, (4.7, 1.7), "$G(z)$", LATENT, BOX)
    real = _node(axes, (4.7, 0.6), "data $y$", DATA, BOX)
    critic = _node(axes, (6.8, 1.15), "critic $D$", NET, BOX)
    score = _node(axes, (8.3, 1.15), "score", "white", BOX)
    for begin, end in ((z, generator), (generator, fake), (fake, critic), (real, critic), (critic, score)):
        _arrow(axes, begin, end)
    return figure
