"""Diagrams of how the convolutional codecs are built, drawn from the code itself.

Widths and resolutions are seen by hooks during a forward pass, and the numbers of the worked example come out of
`depth_to_space`: a diagram cannot say what the code does not do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.errors import ModelError
from rdae.networks.convolutional import ConvolutionalDecoder, ConvolutionalEncoder, Upsample
from rdae.networks.shuffle import depth_to_space
from rdae.reports.drawing import Annotation, Axes, Figure, Polygon, Rectangle

__all__ = ["Layer", "depth_to_space_figure", "hourglass_figure", "layers", "worked_example"]

PIXELS = ("#f4a6a0", "#f7d488", "#a8d5a2", "#9fc5e8")  # colours of four low-resolution pixels
ANALYSIS, SYNTHESIS, SENT, INK = "#7a9cc6", "#e0a458", "#b07aa1", "0.25"


class Layer(NamedTuple):
    """What a layer does, in words, and the shape that it puts out."""

    what: str
    channels: int
    rows: int
    columns: int


@torch.no_grad()
def layers(network: nn.Module, x: Tensor, lam: Tensor) -> list[Layer]:
    """The layers of an encoder or decoder in the order in which they run, seen during `network(x, lam)`.

    Args:
        network: its children, and members of its lists, are the layers; those that read lam, the gains, are left out.
        x: its input, `(1, channels, height, width)`.
        lam: `(1,)`.
    """
    seen: list[Layer] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if inputs[0].ndim == 4:
            seen.append(Layer(_what(module), *output.shape[1:]))

    hooks = [part.register_forward_hook(look) for part in _parts(network)]
    try:
        network(x, lam)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _parts(network: nn.Module) -> Iterator[nn.Module]:
    for child in network.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield child


def _what(module: nn.Module) -> str:
    if isinstance(module, Upsample):
        return f"{_what(module.conv)}\nto {module.conv.out_channels},\ndepth to\nspace"
    if isinstance(module, nn.Conv2d):
        kernel = " × ".join(map(str, module.kernel_size))
        return f"conv\n{kernel}" + (f",\nstride {module.stride[0]}" if module.stride[0] > 1 else "")
    return type(module).__name__.strip("_").lower() + "\nblock"


@torch.no_grad()
def hourglass_figure(model: RateDistortionAutoencoder, lam: float = 100.0) -> Figure:
    """The architecture of a convolutional autoencoder: analysis down to the latent, synthesis up from it.

    Args:
        model: with `ConvolutionalEncoder` and `ConvolutionalDecoder`, as the recipes factorised, hyperprior and
            magnitude build it.
        lam: of the forward pass, nats per unit of distortion; shapes do not depend on it.

    Raises:
        ModelError: the model is made of other networks.
    """
    encoder, decoder = model.encoder, model.decoder
    if not isinstance(encoder, ConvolutionalEncoder) or not isinstance(decoder, ConvolutionalDecoder):
        raise ModelError(
            f"There is no diagram for {type(encoder).__name__} and {type(decoder).__name__}. "
            "Pass a model of the recipes factorised, hyperprior or magnitude."
        )
    side, device = 4 * encoder.block, encoder.transform.device
    y, at = torch.zeros(1, 3, side, side, device=device), torch.tensor([lam], device=device)
    z = encoder(y, at)
    *down, last = layers(encoder, y, at)
    *up, shown = layers(decoder, z, at)

    figure = Figure(figsize=(15, 6.4))
    axes = figure.add_axes((0.005, 0, 0.99, 1))
    axes.set_axis_off()
    row = _Row(axes, side)
    begin = row.picture(y, ANALYSIS, "$y$")
    for layer in down:
        row.layer(layer, ANALYSIS)
    latent = row.layer(last, SENT, "$z$")
    waist = row.at + row.arrow / 2
    sent = row.layer(Layer("round:\n⌊z + ½⌋", *z.shape[1:]), SENT, r"$\tilde{z}$")
    for layer in up:
        row.layer(layer, SYNTHESIS)
    end = row.layer(shown, SYNTHESIS, r"$\hat{y}$")

    row.half(0.1, waist, ANALYSIS, "analysis: the encoder")
    row.half(waist, row.at + 0.3, SYNTHESIS, "synthesis, the generative half: prior and decoder")
    block = f"{encoder.block} × {encoder.block}"
    row.beside(
        begin,
        latent,
        f"added: a fixed linear path, the transform of blocks of {block} pixels, {z.shape[1]} coefficients",
    )
    row.beside(sent, end, "added: a fixed linear path, the inverse transform")
    row.prior(sent, f"{type(model.prior).__name__}\n" + r"the rate of $\tilde{z}$")
    axes.text(
        (row.at + 0.4) / 2,
        -3.95,
        "Above a block its channels and its rows × columns, those of the picture being H × W; factors that depend on λ "
        rf"are left out. $\tilde{{z}}$ holds {z.numel() / side**2:g} numbers"
        "\nper pixel, as the picture does: the waist is narrow in resolution and, by rounding and prior, in bits. "
        "To generate takes the right half alone.",
        ha="center", va="center", fontsize=11,
    )  # fmt: skip
    axes.set(xlim=(0, row.at + 0.4), ylim=(-4.5, 3.8))
    return figure


def _block(axes: Axes, left: float, width: float, height: float, colour: str) -> tuple[float, float]:
    """A box around the line 0 in oblique projection; returns its right edge and its top."""
    low, high, over, up = -height / 2, height / 2, 0.1 * height, 0.16 * height
    right = left + width
    front = [(left, low), (right, low), (right, high), (left, high)]
    top = [(left, high), (right, high), (right + over, high + up), (left + over, high + up)]
    flank = [(right, low), (right + over, low + up), (right + over, high + up), (right, high)]
    for face, alpha in ((front, 1.0), (top, 0.55), (flank, 0.75)):
        axes.add_patch(Polygon(face, facecolor=colour, alpha=alpha, edgecolor="white", linewidth=0.6))
    return right + over, high + up


class _Row:
    """Layers from left to right: a block is as high as the root of its resolution, as wide as that of its channels."""

    arrow = 0.9

    def __init__(self, axes: Axes, side: int) -> None:
        self.axes, self.side, self.at = axes, side, 0.45

    def picture(self, y: Tensor, colour: str, symbol: str) -> float:
        """A block without a layer before it; returns its middle."""
        return self._draw(Layer("", *y.shape[1:]), colour, symbol)

    def layer(self, layer: Layer, colour: str, symbol: str = "") -> float:
        """An arrow with what the layer does and the block that it puts out; returns the block's middle."""
        end = self.at + self.arrow
        arrow = {"arrowstyle": "->", "color": INK}
        self.axes.annotate("", (end - 0.03, 0), (self.at + 0.03, 0), arrowprops=arrow)
        self.axes.text((self.at + end) / 2, -0.12, layer.what, ha="center", va="top", fontsize=8.5, color=INK)
        self.at = end
        return self._draw(layer, colour, symbol)

    def _draw(self, layer: Layer, colour: str, symbol: str) -> float:
        height, width = 3.0 * (layer.rows / self.side) ** 0.5, 0.04 * layer.channels**0.5
        middle = self.at + width / 2
        self.at, top = _block(self.axes, self.at, width, height, colour)
        step = self.side // layer.rows
        size = "H × W" if step == 1 else f"H/{step} × W/{step}"
        place: dict[str, Any] = {"ha": "center", "va": "bottom"}
        self.axes.text(middle + 0.05 * height, top + 0.28, f"{layer.channels}", fontsize=12, **place)
        self.axes.text(middle + 0.05 * height, top + 0.06, size, fontsize=8.5, **place)
        if symbol:
            self.axes.text(middle, -height / 2 - 0.1, symbol, ha="center", va="top", fontsize=18)
        return middle

    def half(self, left: float, right: float, colour: str, label: str) -> None:
        """A tinted ground with its name."""
        ground = Rectangle((left, -3.4), right - left, 7.1, facecolor=colour, alpha=0.13, zorder=0)
        self.axes.add_patch(ground)
        self.axes.text((left + right) / 2, 3.35, label, ha="center", va="center", fontsize=13)

    def beside(self, begin: float, end: float, label: str) -> None:
        """An arrow below the blocks."""
        low = -2.65
        arrow = {"arrowstyle": "->", "color": INK, "linestyle": "--"}
        for x in (begin, end):
            self.axes.plot([x, x], [low, low + 0.3], color=INK, linestyle="--", linewidth=1)
        self.axes.annotate("", (end, low), (begin, low), arrowprops=arrow)
        self.axes.text((begin + end) / 2, low - 0.1, label, ha="center", va="top", fontsize=9.5, color=INK)

    def prior(self, middle: float, label: str) -> None:
        """The prior in a box above a block."""
        box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": SENT}
        place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 10.5}
        arrow = {"arrowstyle": "<->", "color": SENT}
        self.axes.annotate(label, (middle + 0.05, 1.15), (middle + 0.05, 2.4), bbox=box, arrowprops=arrow, **place)


def worked_example() -> tuple[Tensor, Tensor]:
    """2 x 2 pixels of 4 channels, `(4, 2, 2)`, and the 4 x 4 pixels that `depth_to_space` makes of them, `(4, 4)`.

    A number says where it stood: ten times its pixel, counted along rows, plus its channel.
    """
    x = 10 * torch.arange(4).reshape(1, 2, 2) + torch.arange(4).reshape(4, 1, 1)
    return x, depth_to_space(x[None].float())[0, 0].long()


def depth_to_space_figure() -> Figure:
    """A layer of low resolution and many channels laid out at twice the resolution, with an example in numbers."""
    x, out = worked_example()
    figure = Figure(figsize=(11, 7.6))
    _schema(figure.add_axes((0, 0.52, 1, 0.47)))
    for channel in range(4):
        a, b = divmod(channel, 2)
        axes = figure.add_axes((0.03 + 0.145 * b, 0.255 - 0.2 * a, 0.12, 0.165))
        _numbers(axes, x[channel], f"channel {channel}: a={a}, b={b}", size=11)
    _numbers(figure.add_axes((0.42, 0.055, 0.25, 0.365)), out)
    wrong = figure.add_axes((0.74, 0.055, 0.25, 0.365))
    _numbers(wrong, x.permute(1, 2, 0).reshape(4, 4))  # the lectures' order, channels last
    for ends in ([-0.5, 3.5], [3.5, -0.5]):
        wrong.plot([-0.5, 3.5], ends, color="#a02020", linewidth=1.5)
    for at, text in ((0.163, "2 × 2 pixels, 4 channels"), (0.545, "4 × 4 pixels, 1 channel")):
        figure.text(at, 0.47, text, ha="center", va="center", fontsize=13)
    figure.text(0.865, 0.47, "not this: the memory reshaped", ha="center", va="center", fontsize=13, color="#a02020")
    arrow = {"arrowstyle": "->", "color": INK}
    figure.add_artist(Annotation("", (0.41, 0.237), (0.325, 0.237), "figure fraction", arrowprops=arrow))
    figure.text(0.367, 0.25, "depth to\nspace", ha="center", va="bottom", fontsize=10.5, color=INK)
    figure.text(
        0.5, 0.02, "A colour for each pixel on the left. A number is ten times its pixel plus its channel.",
        ha="center", va="center", fontsize=11,
    )  # fmt: skip
    return figure


def _schema(axes: Axes) -> None:
    axes.set_axis_off()
    stages = (
        (0.9, 1.1, "layer of the decoder\nX × Y pixels, C channels", "0.7"),
        (2.2, 1.1, "four times the wanted channels\nX × Y pixels, 4K channels", SYNTHESIS),
        (0.55, 2.2, "twice the resolution\n2X × 2Y pixels, K channels", SYNTHESIS),
    )
    arrows = (
        "3 × 3 convolution, stride 1,\nthen the activation",
        "depth to space\nout[2i+a, 2j+b, c] =\nx[i, j, 4c+2a+b]",
    )
    at = 0.9
    for k, (width, height, label, colour) in enumerate(stages):
        right, _ = _block(axes, at, width, height, colour)
        axes.text((at + right) / 2, -height / 2 - 0.15, label, ha="center", va="top", fontsize=11)
        if k < len(arrows):
            axes.annotate("", (right + 2.3, 0), (right + 0.1, 0), arrowprops={"arrowstyle": "->", "color": INK})
            axes.text(right + 1.2, 0.1, arrows[k], ha="center", va="bottom", fontsize=10.5, color=INK)
        at = right + 2.4
    axes.set(xlim=(0, right + 0.9), ylim=(-2.0, 1.6))


def _numbers(axes: Axes, matrix: Tensor, title: str = "", size: int = 13) -> None:
    """A matrix of the worked example, each number on the colour of the pixel that it came from."""
    axes.set_title(title, fontsize=9)
    for i, line in enumerate(matrix.tolist()):
        for j, number in enumerate(line):
            square = Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=PIXELS[number // 10], edgecolor="white", linewidth=2)
            axes.add_patch(square)
            axes.text(j, i, str(number), ha="center", va="center", fontsize=size)
    axes.set(xlim=(-0.5, matrix.shape[1] - 0.5), ylim=(matrix.shape[0] - 0.5, -0.5), aspect="equal")
    axes.set_axis_off()
