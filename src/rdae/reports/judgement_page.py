"""A judgement as one HTML page that needs nothing else: samples beside data, the table, and how to read it."""

from __future__ import annotations

import math
from html import escape

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rdae.measures.classifier import digits_card
from rdae.reports.grids import image_grid
from rdae.reports.judgement import Judgement
from rdae.reports.page import html_page, html_picture, html_table

__all__ = ["judgement_page"]

COLUMNS, SHOWN = 8, 64  # pictures of each
CELLS = 192  # of the picture of a plane, along each side
MOST_COLUMNS = 30  # of a table whose moments are listed
PLAIN = (
    "Data against data is what a measure gives between two samples of the data: its mean over random splits and the "
    "deviation of one value. No sampler should be asked for better. From floor counts such deviations. In theory is "
    "the mean of a perfect sampler where a formula gives it. After ± stands a standard error.",
    "For precision, recall, density, coverage, modes covered and high quality more is better; nearer to training than "
    "held-out data should be one half; for all else less is better.",
)
READING = {
    "frechet": "Compares means and covariances of features, and nothing else. It is too large by about c/n, so values "
    "of different n, or of another network's features, cannot be compared.",
    "kid": "Compares features up to third moments, without bias. Its error is that of a mean over subsets of 1,000.",
    "mmd": "Sees every difference of laws, at the scale of its kernel: the root mean square distance of the data. "
    "Differences much finer than that hardly count.",
    "energy": "Sees every difference of laws, mostly large ones: a few lost examples or blurred details weigh little.",
    "sliced_1": "Transport along random directions. Its error is over directions only; the draw of examples is in the "
    "deviation of data against data.",
    "sliced_2": "The same, with squared distances, in which outliers count for more.",
    "precision": "Share of samples among the data, judged by balls about neighbours. A single typical picture, "
    "repeated, has full precision; outliers of the data let much pass.",
    "recall": "Share of the data among the samples. Samples that lie far out have large balls, which cover much.",
    "density": "How many balls of the data a sample lies in. It may exceed 1: samples in the midst of the data only.",
    "coverage": "Share of data with a sample close by. Copies of the training data cover as well as new samples do.",
    "covered": "Modes that own a sample. One sample is enough: a mode may be all but lost and still count.",
    "quality": "Share of samples on a mode. Their place within it does not matter.",
    "reverse_kl": "How uneven the modes are, against equal shares. Where the data's own shares are uneven, their "
    "value is above the theory too. Who tells modes makes mistakes, and a blurred sample is counted to some mode.",
    "nearer": "Above one half, samples lie nearer to the training data than new data do: they repeat it. Below, they "
    "lie off the data. Samples that do both can come out at one half.",
    "copies": "Samples whose features are those of a training example. A single changed pixel hides a copy.",
}


def judgement_page(found: Judgement, samples: Tensor, data: Tensor, *, title: str, command: str = "") -> str:
    """The page, with everything in it.

    Args:
        found: what was measured.
        samples, data: `(n, *event)`; pictures in uint8 levels or floats in [0, 1].
        title: such as the name of the model.
        command: that makes the page anew; empty: none is named.
    """
    parts = [
        *(f"<p>{escape(note)}</p>" for note in found.notes()),
        _shown(samples, data),
        "<h2>Measures</h2>",
        html_table(found.table()),
        *(f"<p>{escape(line)}</p>" for line in PLAIN),
        "<h2>What each cannot tell</h2>",
        "<dl>",
        *(f"<dt>{escape(row.name)}</dt><dd>{escape(READING[row.key])}</dd>" for row in found.rows),
        "</dl>",
        f"<footer>{_footer(found, command)}</footer>",
    ]
    return html_page(title, parts)


def _footer(found: Judgement, command: str) -> str:
    made = f"Made by <code>{escape(command)}</code>. " if command else ""
    if "classifier" not in found.features:
        return made
    card = digits_card()
    right = 1 - card["test_errors"] / card["test_examples"]
    return made + escape(
        f"The classifier has {card['parameters']:,} parameters, was trained on {card['training_data']}, and is right "
        f"on {right:.2%} of {card['test_examples']:,} test pictures."
    )


# --- samples and data ----------------------------------------------------------------------------------------------


def _shown(samples: Tensor, data: Tensor) -> str:
    """Both side by side: pictures, a plane, or a table of means and deviations."""
    event = data.shape[1:]
    if len(event) == 3 and event[0] in (1, 3):
        pictures = [image_grid(_bright(x[:SHOWN], data), COLUMNS) for x in (samples, data)]
    elif tuple(event) == (2,):
        pictures = [_plane(x, data) for x in (samples, data)]
    else:
        return _moments(samples.flatten(1).double(), data.flatten(1).double())
    both = zip(pictures, ("samples", "data"), strict=True)
    figures = [html_picture(picture, name, pixels=True) for picture, name in both]
    return f'<div class="pictures">{"".join(figures)}</div>'


def _bright(x: Tensor, data: Tensor) -> Tensor:
    """Levels as floats in [0, 1]."""
    return x.float() / 255 if x.dtype == torch.uint8 and int(data.max()) > 1 else x.float()


def _plane(x: Tensor, data: Tensor) -> Image.Image:
    """How many points fall into each cell of the plane, darker where more; the window is that of the data."""
    low, high = data.amin(0).double(), data.amax(0).double()
    low, high = low - 0.1 * (high - low), high + 0.1 * (high - low)
    ranges = [(a, b if b > a else a + 1) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    across, up = x.double().numpy().T
    counts, _, _ = np.histogram2d(across, up, bins=(CELLS, CELLS), range=ranges)
    dark = np.log1p(counts.T[::-1]) / max(math.log1p(counts.max()), 1e-12)
    dark = np.where(counts.T[::-1] > 0, 0.25 + 0.75 * dark, 0)  # a single point can be seen
    return Image.fromarray((255 * (1 - dark)).astype(np.uint8)).resize((2 * CELLS, 2 * CELLS), Image.Resampling.NEAREST)


def _moments(samples: Tensor, data: Tensor) -> str:
    head = ("element", "mean, samples", "mean, data", "deviation, samples", "deviation, data")
    body = [
        (str(k), *(f"{float(value):.4g}" for value in values))
        for k, values in enumerate(
            zip(samples.mean(0), data.mean(0), samples.std(0), data.std(0), strict=True)
        )
        if k < MOST_COLUMNS
    ]  # fmt: skip
    return f"<h2>Samples and data</h2>{html_table([head, *body])}"
