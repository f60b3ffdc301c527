"""Photographs at the lecture's 0.113 bit per pixel: the shipped codec, JPEG 2000 and JPEG, in numbers and side by side.

    python scripts/equal_bytes.py PICTURE [PICTURE ...] -o docs/results/equal-bytes.json \\
        --image docs/images/equal-bytes.png

The first picture is the one shown. The shipped codec keeps to the size; JPEG 2000 is aimed at it; JPEG, whose steps are
coarse, takes the next file above.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from side_by_side import side_by_side

import rdae
from rdae.coding.fidelity import ms_ssim, psnr, psnr_luma_chroma
from rdae.coding.peers import Jpeg, Jpeg2000
from rdae.reports.crops import busiest

BPP = 0.113
CROP = (320, 240)


class Coded(NamedTuple):
    """A file, and whether its codec can make no smaller one."""

    codec: str
    size: int
    pixels: np.ndarray
    smallest: bool


def coded(image: Image.Image, size: int) -> list[Coded]:
    """The picture through each codec at about `size` bytes."""
    ours = rdae.load("photo")
    data = ours.compress(image, size=size)
    jpeg, jpeg2000 = Jpeg(), Jpeg2000()
    wavelet, blocks = jpeg2000.of_size(image, size), jpeg.from_size(image, size)
    return [
        Coded("rdae photo", len(data), ours.decompress(data).pixels, False),
        Coded("JPEG 2000", len(wavelet), jpeg2000.decode(wavelet), False),
        Coded("JPEG", len(blocks), jpeg.decode(blocks), blocks == jpeg.encode(image, 1)),
    ]


def row(picture: str, original: np.ndarray, file: Coded) -> dict[str, Any]:
    """A line of the table."""
    luma, chroma = psnr_luma_chroma(original, file.pixels)
    return {
        "picture": picture,
        "codec": file.codec,
        "bytes": file.size,
        "bpp": round(8 * file.size / (original.shape[0] * original.shape[1]), 4),
        "psnr_db": round(psnr(original, file.pixels), 2),
        "psnr_luma_db": round(luma, 2),
        "psnr_chroma_db": round(chroma, 2),
        "ms_ssim": round(ms_ssim(original, file.pixels), 4),
        "smallest": file.smallest,
    }


def main() -> None:
    """Writes the table as JSON and the picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pictures", type=Path, nargs="+", metavar="PICTURE")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for path in arguments.pictures:
        image = Image.open(path).convert("RGB")
        original = np.asarray(image)
        files = coded(image, int(BPP * image.width * image.height / 8))
        own = [row(path.stem, original, file) for file in files]
        if not rows:
            labels = ("{codec}, {bytes} bytes, {psnr_db:.2f} dB, MS-SSIM {ms_ssim:.3f}".format(**r) for r in own)
            tiles = [("original", original), *zip(labels, (file.pixels for file in files), strict=True)]
            side_by_side(tiles, busiest(original, CROP), CROP).save(arguments.image, optimize=True)
        rows += own
        print("\n".join(json.dumps(r) for r in own), flush=True)
    result = {"wished_bpp": BPP, "model": rdae.load("photo").model.identity.hex(), "rows": rows}
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
