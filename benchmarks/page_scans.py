"""Pages as a scanner sees them: words set in a plain face, turned a little, on paper with shade and grain.

    python benchmarks/page_scans.py FOLDER --count 100 [--first 0] [--width 1240] [--height 1754]

A page depends on its number and its size alone. The usual size is A4 at 150 dots per inch, with text of 9 to 14 points.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

__all__ = ["page"]

WIDTH, HEIGHT = 1240, 1754
TEXT = (
    "the rate of a code is what it costs to say which of many things was meant and distortion is what was lost on the "
    "way an archive holds both once"
)
MARGIN = 1 / 8  # of the width
POINTS = (9, 14)
PER_WIDTH = 595  # points that an A4 page is wide
FINER = 2  # drawn so many times as large, then reduced


def page(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A page, `(height, width, 3)` uint8."""
    rng = np.random.default_rng([8, number])
    paper = tuple(int(v) for v in np.array([238, 232, 215]) + rng.normal(0, 4, 3))
    image = Image.new("RGB", (FINER * width, FINER * height), paper)
    words, draw = TEXT.split(), ImageDraw.Draw(image)
    size = round(float(rng.uniform(*POINTS)) / PER_WIDTH * image.width)
    font, ink = ImageFont.load_default(size), tuple(int(v) for v in rng.integers(20, 70, 3))
    margin = round(MARGIN * image.width)
    top = margin
    while top < image.height - margin:
        if rng.random() < 0.12:  # a paragraph ends
            top += size
        line = words[int(rng.integers(len(words)))]
        while (
            draw.textlength(longer := f"{line} {words[int(rng.integers(len(words)))]}", font) < image.width - 2 * margin
        ):
            line = longer
        draw.text((margin, top), line, fill=ink, font=font)
        top += int(1.5 * size)
    image = image.rotate(float(rng.normal(0, 0.6)), Image.Resampling.BICUBIC, fillcolor=paper)
    image = image.filter(ImageFilter.GaussianBlur(0.4 * FINER)).resize((width, height), Image.Resampling.LANCZOS)
    rows, columns = np.mgrid[:height, :width]
    shade = 1 - 0.08 * ((columns / width - rng.random()) ** 2 + (rows / height - rng.random()) ** 2)
    pixels = np.asarray(image, dtype=np.float64) * shade[..., None]
    pixels += rng.normal(0, 2.0, (height, width, 1)) + rng.normal(0, 0.7, (height, width, 3))
    return np.clip(pixels, 0, 255).round().astype(np.uint8)


def main() -> None:
    """Writes the pages that are missing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first page")
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--height", type=int, default=HEIGHT)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for number in range(arguments.first, arguments.first + arguments.count):
        path = arguments.folder / f"page-{number:03d}.png"
        if not path.exists():
            Image.fromarray(page(number, arguments.width, arguments.height)).save(path)


if __name__ == "__main__":
    main()
