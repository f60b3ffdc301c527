"""Noise, decompressed: pictures that the shipped codec makes up, and how long their files are.

    python scripts/codec_samples.py PHOTOGRAPH [PHOTOGRAPH ...] -o docs/results/codec-samples.json \\
        --image docs/images/codec-samples.png --page docs/codec.md

The table in the page between the two marks is written anew. Photographs are coded at the same qualities, to compare.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from figures import put
from PIL import Image

import rdae
from rdae.coding.codec import CODERS, Codec
from rdae.coding.rangecoder import CoderTables, SymbolSource, SymbolWriter
from rdae.coding.sampling import RandomBits, TableSampler

QUALITIES = (20, 50, 80)
SIDE, SHOWN = 256, 2  # pixels; pictures of each route
ROUTES = {"tables": TableSampler, "bits": RandomBits}


class Written(SymbolSource):
    """Writes down what a source gives, as an encoder would."""

    def __init__(self, source: SymbolSource) -> None:
        self.source, self.writer = source, SymbolWriter()

    def read(self, numbers: np.ndarray, tables: CoderTables) -> np.ndarray:
        """Symbols of the source."""
        symbols = self.source.read(numbers, tables)
        self.writer.write(symbols, numbers, tables)
        return symbols

    _fill = _bit = None  # type: ignore[assignment]


def stream_bpp(codec: Codec, quality: float, route: str, seed: int) -> float:
    """Bits per pixel of the stream that holds the symbols of a sample."""
    source = Written(ROUTES[route](np.random.default_rng(seed)))
    coder = CODERS[codec.model.card["coder"]](codec.model)
    coder.sample(source, codec.level(quality), (SIDE, SIDE), (SIDE, SIDE))
    return 8 * len(source.writer.finish()) / SIDE**2


def measured(codec: Codec, samples: int, photographs: list[Path]) -> list[dict[str, Any]]:
    """A row for each quality: bits per pixel of samples, mean and standard error, by both routes; of photographs."""
    rows = []
    for quality in QUALITIES:
        row: dict[str, Any] = {"quality": quality}
        for route in ROUTES:
            bpp = np.array([stream_bpp(codec, quality, route, seed) for seed in range(samples)])
            row[f"{route}_bpp"] = round(float(bpp.mean()), 4)
            row[f"{route}_bpp_error"] = round(float(bpp.std(ddof=1) / np.sqrt(samples)), 4)
        pixels = sum(np.prod(Image.open(path).size) for path in photographs)
        size = sum(len(codec.compress(path, quality)) for path in photographs)
        row["photographs_bpp"] = round(float(8 * size / pixels), 4)
        rows.append(row)
    return rows


def draw(codec: Codec, path: Path) -> None:
    """Samples of each quality, of both routes."""
    columns = [(route, seed) for route in ROUTES for seed in range(SHOWN)]
    figure, axes = plt.subplots(len(QUALITIES), len(columns), figsize=(6.4, 4.95), squeeze=False, layout="constrained")
    for panels, quality in zip(axes, QUALITIES, strict=True):
        panels[0].set_ylabel(f"quality {quality}", fontsize=9)
        for axis, (route, seed) in zip(panels, columns, strict=True):
            axis.imshow(codec.sample(SIDE, SIDE, quality, seed=seed, bits=route == "bits"))
            axis.set(xticks=[], yticks=[])
    for axis, (route, _) in zip(axes[0], columns, strict=True):
        axis.set_title({"tables": "from the tables", "bits": "random bits"}[route], fontsize=9)
    figure.savefig(path, dpi=100)
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for the page."""
    lines = [
        "| quality | from the tables, bpp | random bits, bpp | the four example photographs, bpp |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        routes = [f"{row[f'{route}_bpp']:.3f} ± {row[f'{route}_bpp_error']:.3f}" for route in ROUTES]
        lines.append(f"| {row['quality']} | {' | '.join(routes)} | {row['photographs_bpp']:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Measures, draws, and fills in the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--page", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=32)
    arguments = parser.parse_args()
    codec = rdae.load("photo", threads=1)
    rows = measured(codec, arguments.samples, arguments.photographs)
    about = {"model": codec.model.identity.hex(), "side": SIDE, "samples": arguments.samples}
    arguments.output.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    draw(codec, arguments.image)
    put(arguments.page, "codec-samples", table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
