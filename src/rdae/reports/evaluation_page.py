"""An evaluation as one HTML page that needs nothing else: curves, tables, pictures one by one, crops at equal bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from statistics import median

import numpy as np
from PIL import Image

from rdae.coding.peers import FileCodec, rgb_image
from rdae.reports.crops import busiest
from rdae.reports.drawing import Axes, Figure
from rdae.reports.evaluation import Evaluation
from rdae.reports.evaluation_summary import (
    NAMES,
    Summary,
    bd_table,
    cost_table,
    notes,
    quality_table,
    settings_table,
)
from rdae.reports.measured_files import Photograph, Row
from rdae.reports.page import html_page, html_picture, html_table

__all__ = ["curves_figure", "evaluation_page", "pictures_figure"]

CROP = (320, 240)
WIDEST = 1.6  # bits per pixel, of the curves
PANELS = {
    "psnr": "PSNR of RGB, dB",
    "ms_ssim": "MS-SSIM, dB",
    "gmsd": "GMSD (up is better)",
    "psnr_luma": "PSNR of luma, dB",
    "psnr_chroma": "PSNR of chroma, dB",
}
GREYS = ("0.0", "0.25", "0.4", "0.5", "0.6", "0.7")
DASHES = ("--", ":", "-.", (0, (6, 2)), (0, (1, 2)), (0, (4, 1, 1, 1, 1, 1)))
STYLE = """<style>
.frame { position: relative; width: 100%; max-width: 60rem; overflow: hidden; border: 1px solid #ddd; --at: 50%; }
.frame img { position: absolute; inset: 0; width: 100%; height: 100%; border: 0; display: none;
  image-rendering: pixelated; }
.frame img.right { display: block; }
.frame img.left { display: block; clip-path: inset(0 calc(100% - var(--at)) 0 0); z-index: 1; }
.frame img.left.right { clip-path: none; }
.frame i { position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; background: #fff; z-index: 2;
  box-shadow: 0 0 2px #000; }
.compare input { width: 100%; max-width: 60rem; margin: 0.4rem 0; } .compare label { margin-right: 1.5rem; }
</style>"""
SCRIPT = """<script>
for (const box of document.querySelectorAll(".compare")) {
  const frame = box.querySelector(".frame");
  box.querySelector("input").addEventListener("input", event =>
    frame.style.setProperty("--at", event.target.value + "%"));
  for (const choice of box.querySelectorAll("select")) choice.addEventListener("change", () => {
    const shown = frame.querySelectorAll("img");
    shown.forEach((image, k) => image.classList.toggle(choice.name, k === choice.selectedIndex));
  });
}
</script>"""


def evaluation_page(whole: Summary, *, title: str, command: str = "") -> str:
    """The page, with everything in it.

    Args:
        whole: what was found.
        title: in plain text.
        command: that makes the page anew; empty: none is named.
    """
    found = whole.found
    about, bd_note, times, memory, *rest = notes(whole)
    labels = {codec.name: codec.label for codec in found.codecs}
    parts = [
        f"<p>{escape(about)}</p>",
        *(f"<p><b>{escape(line)}</b></p>" for line in rest),
        "<h2>Rate and distortion</h2>",
        html_picture(curves_figure(whole), "Means over all pictures"),
        html_table(quality_table(found)),
    ]
    if whole.lines:
        parts += ["<h2>BD rate</h2>", html_table(bd_table(whole.lines)), f"<p>{escape(bd_note)}</p>"]
    parts += ["<h2>Seconds and memory</h2>", html_table(cost_table(found)), f"<p>{escape(times)} {escape(memory)}</p>"]
    if any(line.pictures for line in whole.lines):
        parts += ["<h2>Picture by picture</h2>", html_picture(pictures_figure(whole), "Each file, and each picture")]
    parts += ["<h2>The same bytes</h2>", STYLE, *(_compared(found, p, labels) for p in _equal(found)), SCRIPT]
    parts += ["<h2>All settings</h2>", html_table(settings_table(found)), "<h2>What ran</h2>", "<dl>"]
    parts += [
        f"<dt>{escape(codec.label)}</dt><dd>{escape(found.conditions[codec.name])}</dd>" for codec in found.codecs
    ]
    parts += [f"<dt>{escape(anchor.label)}, published</dt><dd>{escape(anchor.source)}</dd>" for anchor in whole.anchors]
    made = f"Made by <code>{escape(command)}</code>. " if command else ""
    parts += ["</dl>", f"<footer>{made}{len(found.rows)} files were measured.</footer>"]
    return html_page(title, parts)


# --- curves --------------------------------------------------------------------------------------------------------


def curves_figure(whole: Summary) -> Figure:
    """A panel for each measure, a line for each codec; published codecs dashed."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = list(figure.subplots(2, 3).flat)
    for axes, (key, label) in zip(panels, PANELS.items(), strict=False):
        for k, codec in enumerate(whole.found.codecs):
            curve = whole.found.curve(codec.name, key)
            axes.plot(curve.rates, curve.qualities, marker="o", markersize=3, label=codec.label, **_colour(whole, k))
        for anchor, grey, dash in zip(whole.anchors, GREYS, DASHES, strict=False):
            if key in anchor.curves:
                curve = anchor.curves[key]
                inside = curve.rates <= WIDEST
                axes.plot(
                    curve.rates[inside], curve.qualities[inside], color=grey, linestyle=dash, linewidth=1,
                    label=f"{anchor.label}, published",
                )  # fmt: skip
        axes.set(xlabel="bits per pixel", ylabel=label, xlim=(0, _widest(whole.found)))
        axes.grid(alpha=0.3)
    if panels[2].lines:
        panels[2].yaxis.set_major_formatter(lambda value, _: f"{abs(value):.3f}")
    panels[5].set_axis_off()
    panels[5].legend(*panels[0].get_legend_handles_labels(), loc="upper left", fontsize=9, frameon=False)
    return figure


def _colour(whole: Summary, k: int) -> dict[str, object]:
    """Ours are thicker, and red before all; no colour is also one of the others'."""
    ours = whole.found.models
    if k >= ours:
        return {"color": _others(k - ours)}
    return {"color": ("C3", "maroon", "hotpink", "black")[k % 4], "linewidth": 2.2}


def _others(k: int) -> str:
    return ("C0", "C1", "C2", "C4", "C5", "C6", "C8", "C9")[k % 8]


def _widest(found: Evaluation) -> float:
    return min(WIDEST, 1.05 * max(point["bpp"] or 0.0 for c in found.codecs for point in found.means(c.name)))


def pictures_figure(whole: Summary) -> Figure:
    """Left every file of every picture; right the BD rate of each picture, PSNR of RGB, with the median."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, codec in enumerate(whole.found.codecs):
        rows = [row for row in whole.found.of(codec.name) if row.psnr is not None and row.bpp <= 2 * WIDEST]
        colour = _colour(whole, k)["color"]
        left.scatter([r.bpp for r in rows], [r.psnr for r in rows], s=7, alpha=0.6, color=colour, label=codec.label)
    left.set(xlabel="bits per pixel", ylabel="PSNR of RGB, dB")
    left.grid(alpha=0.3)
    left.legend(fontsize=8)
    _strips(right, whole)
    return figure


def _strips(axes: Axes, whole: Summary) -> None:
    lines = [line for line in whole.lines if line.pictures]
    others = [codec.label for codec in whole.found.codecs[whole.found.models :]]
    names = []
    for place, line in enumerate(lines):
        values = [bd.percent for bd in line.pictures.values() if bd is not None]
        spread = np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else np.zeros(len(values))
        axes.scatter(values, place + spread, s=12, alpha=0.7, color=_others(others.index(line.other)))
        if values:
            axes.plot([median(values)] * 2, [place - 0.35, place + 0.35], color="black", linewidth=1.5)
        names.append(line.other if whole.found.models == 1 else f"{line.model} / {line.other}")
    axes.axvline(0, color="0.5", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("BD rate of each picture, % (left of 0: fewer bits)")
    axes.grid(alpha=0.3, axis="x")


# --- crops ---------------------------------------------------------------------------------------------------------


def _equal(found: Evaluation) -> list[Photograph]:
    shown = dict.fromkeys(row.picture for row in found.equal)
    named = {p.name: p for p in found.pictures}
    return [named[name] for name in shown]


def _compared(found: Evaluation, photograph: Photograph, labels: dict[str, str]) -> str:
    """A crop of each codec's file, two of them under a slider."""
    rows = [row for row in found.equal if row.picture == photograph.name]
    original = rgb_image(photograph.path)
    top, left = busiest(np.asarray(original), CROP)
    box = (left, top, min(left + CROP[0], original.width), min(top + CROP[1], original.height))
    codecs = {codec.name: codec for codec in found.codecs}
    tiles = [
        ("original", original),
        *((_caption(row, labels), _decoded(found, codecs[row.codec], row)) for row in rows),
    ]
    places = {"left": 1, "right": min(2, len(tiles) - 1)}
    images = []
    for k, (caption, image) in enumerate(tiles):
        sides = " ".join(side for side, place in places.items() if place == k)
        images.append(f'<img class="{sides}" alt="{escape(caption)}" src="{_embedded(image.crop(box))}">')
    selects = [_select(side, [caption for caption, _ in tiles], place) for side, place in places.items()]
    ratio = f"{box[2] - box[0]} / {box[3] - box[1]}"
    return (
        f"<h3>{escape(photograph.name)}, at most {rows[0].wished:,} bytes</h3>"
        f'<div class="compare"><div class="frame" style="aspect-ratio: {ratio}">{"".join(images)}<i></i></div>'
        f'<input type="range" min="0" max="100" value="50" aria-label="where the two meet">{"".join(selects)}</div>'
    )


def _caption(row: Row, labels: dict[str, str]) -> str:
    over = f", {row.bytes - row.wished:,} over" if row.wished is not None and row.bytes > row.wished else ""
    quality = "" if row.psnr is None else f", {row.psnr:.2f} dB"
    similar = "" if row.ms_ssim is None else f", {NAMES['ms_ssim']} {row.ms_ssim:.4f}"
    return f"{labels[row.codec]}: {row.bytes:,} bytes{over}{quality}{similar}"


def _decoded(found: Evaluation, codec: FileCodec, row: Row) -> Image.Image:
    return Image.fromarray(codec.decode((found.out / row.file).read_bytes()))


def _select(side: str, captions: Sequence[str], chosen: int) -> str:
    options = [f"<option{' selected' if k == chosen else ''}>{escape(c)}</option>" for k, c in enumerate(captions)]
    return f'<label>{side} <select name="{side}" autocomplete="off">{"".join(options)}</select></label>'


def _embedded(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
