"""Makes tests/golden/photo: streams of the shipped model, to be decoded by every version that ships it.

python scripts/make_photo_golden.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import rdae
from rdae.coding.image import to_pil

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Writes three small streams and what they decode to."""
    folder = ROOT / "tests" / "golden" / "photo"
    folder.mkdir(parents=True, exist_ok=True)
    codec = rdae.load("photo")
    kodak = np.asarray(Image.open(ROOT / "examples" / "kodim15.png"))
    pictures = {
        "rgb-q25": (kodak[100:300, 200:420], 25),
        "rgb-q70": (kodak[250:351, 300:377], 70),
        "grey-q45": (kodak[:96, :160, 1], 45),
    }
    for name, (pixels, quality) in pictures.items():
        stream = codec.compress(pixels, quality)
        (folder / f"{name}.rdae").write_bytes(stream)
        to_pil(codec.decompress(stream)).save(folder / f"{name}.png")


if __name__ == "__main__":
    main()
