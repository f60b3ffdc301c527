"""Makes tests/golden/NAME: streams of each shipped model, to be decoded by every version that ships it.

python scripts/make_shipped_golden.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import rdae
from rdae.coding.model import shipped_models
from rdae.coding.pil_images import to_pil

ROOT = Path(__file__).parent.parent


def drawing(height: int, width: int) -> np.ndarray:
    """Flat areas with straight edges: scales are shifted."""
    rng, picture = np.random.default_rng(3), np.full((height, width, 3), 240, np.uint8)
    for top, left, rows, columns, *colour in rng.integers(0, (height, width, 50, 50, 256, 256, 256), (40, 7)):
        picture[top : top + rows, left : left + columns] = colour
    return picture


def main() -> None:
    """Writes four small streams of each model and what they decode to."""
    kodak = np.asarray(Image.open(ROOT / "examples" / "kodim15.png"))
    pictures = {
        "rgb-q25": (kodak[100:300, 200:420], 25),
        "rgb-q70": (kodak[250:351, 300:377], 70),
        "grey-q45": (kodak[:96, :160, 1], 45),
        "drawing-q60": (drawing(160, 208), 60),
    }
    for model in shipped_models():
        folder, codec = ROOT / "tests" / "golden" / model, rdae.load(model)
        folder.mkdir(parents=True, exist_ok=True)
        for name, (pixels, quality) in pictures.items():
            stream = codec.compress(pixels, quality)
            (folder / f"{name}.rdae").write_bytes(stream)
            to_pil(codec.decompress(stream)).save(folder / f"{name}.png")


if __name__ == "__main__":
    main()
