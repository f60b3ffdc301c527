"""Real bytes of a shipped codec against the rate its PyTorch model estimates, image by image.

    python scripts/rate_gap.py FOLDER [--model photo] [--json FILE]

The estimate is the model's own, of the symbols that the file holds: PyTorch, float densities, no tables. Sides are cut
to multiples of 64. The encoder's shifts of scales, of which the model knows nothing, are switched off
(tests/test_codec.py has files with shifts beside the densities that they stand for).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import rdae
from rdae.channels import Rounding
from rdae.coding import pyramid
from rdae.coding.container import parse
from rdae.networks.shuffle import depth_to_space
from rdae.objectives import BITS_PER_NAT
from rdae.recipes import CODEC_RECIPES
from rdae.training.start import find_start

QUALITIES = (8, 20, 35, 55, 80)


def main() -> None:
    """Prints the largest gap at each quality."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    start = find_start(arguments.model)
    model = CODEC_RECIPES[start.recipe]().trained(start.weights)
    codec = rdae.load(arguments.model)
    pyramid.best_shift = lambda *_: (0, 0.0)
    rows = []
    for quality in QUALITIES:
        gaps = []
        for path in sorted(arguments.folder.glob("*.png")):
            pixels = np.asarray(Image.open(path).convert("RGB"))
            height, width = (side // 64 * 64 for side in pixels.shape[:2])
            pixels = pixels[:height, :width].copy()
            data = codec.compress(pixels, quality)
            contents = parse(data)
            symbols = codec._decode_symbols(contents, path.name).symbols
            low, *details = (torch.from_numpy(q).float()[None] for q in symbols)
            lam = torch.from_numpy(codec.model.lam_of(contents.header.level))
            with torch.no_grad():
                coded = model.prior([low, *(depth_to_space(q) for q in details)], Rounding(), lam)
            estimate = float(coded.rate) * BITS_PER_NAT / 8
            gaps.append((len(data), estimate))
        excess = [(real - estimate, (real - estimate - 48) / estimate) for real, estimate in gaps]
        row = {
            "quality": quality,
            "mean_bytes": float(np.mean([real for real, _ in gaps])),
            "mean_gap_percent": float(100 * np.mean([(real - e) / e for real, e in gaps])),
            "smallest_gap_bytes": float(min(e for e, _ in excess)),
            "largest_gap_bytes": float(max(e for e, _ in excess)),
            "largest_beyond_48_bytes_percent": float(100 * max(share for _, share in excess)),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
