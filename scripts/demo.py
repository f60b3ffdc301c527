"""`make demo`: compress the example photographs, compare with JPEG and JPEG 2000 of the same size, draw the difference.

python scripts/demo.py IMAGES OUTPUT
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from side_by_side import busiest, side_by_side

import rdae
from rdae.coding.fidelity import ms_ssim, psnr
from rdae.coding.peers import Jpeg, Jpeg2000

QUALITY = 20.0
CROP = (320, 240)


def main(images: Path, output: Path) -> None:
    """Prints a table and writes files and pictures to `output`."""
    output.mkdir(parents=True, exist_ok=True)
    codec = rdae.load("photo")
    paths = sorted(p for p in images.iterdir() if p.suffix == ".png")
    codec.decompress(codec.compress(paths[0]))  # graphs are loaded once, at first use
    print(f"{'image':<12}{'codec':<11}{'bytes':>8}{'bpp':>8}{'PSNR dB':>9}{'MS-SSIM':>9}{'enc s':>8}{'dec s':>8}")
    for path in paths:
        image = Image.open(path).convert("RGB")
        original = np.asarray(image)
        began = time.perf_counter()
        data = codec.compress(image, QUALITY)
        encoded = time.perf_counter()
        shown = codec.decompress(data).pixels
        decoded = time.perf_counter()
        (output / f"{path.stem}.rdae").write_bytes(data)
        rows = [("rdae", data, shown, encoded - began, decoded - encoded)]
        for name, make in (("JPEG 2000", Jpeg2000().of_size), ("JPEG", Jpeg().of_size)):
            began = time.perf_counter()
            other = make(image, len(data))
            encoded = time.perf_counter()
            pixels = Jpeg().decode(other)
            rows.append((name, other, pixels, encoded - began, time.perf_counter() - encoded))
        for name, file, pixels, encode, decode in rows:
            bpp = 8 * len(file) / (image.width * image.height)
            print(
                f"{path.stem:<12}{name:<11}{len(file):>8}{bpp:>8.3f}{psnr(original, pixels):>9.2f}"
                f"{ms_ssim(original, pixels):>9.4f}{encode:>8.3f}{decode:>8.3f}"
            )
        labelled = [("original", original), *((f"{name}, {len(file)} bytes", p) for name, file, p, _, _ in rows)]
        sheet = side_by_side(labelled, busiest(original, CROP), CROP)
        sheet.save(output / f"{path.stem}-side-by-side.png")
    print(f"\nFiles and side-by-side pictures are in {output}/ (JPEG includes the search for the quality that fits)")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
