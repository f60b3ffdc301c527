"""`make demo`: compress the example photographs, compare with JPEG and JPEG 2000 of the same size, draw the difference.

python scripts/demo.py IMAGES OUTPUT
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from jpeg_family import jpeg2000_of_size, jpeg_of_size, pixels_of
from PIL import Image, ImageDraw

import rdae
from rdae.coding.quality import ms_ssim, psnr

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
        for name, make in (("JPEG 2000", jpeg2000_of_size), ("JPEG", jpeg_of_size)):
            began = time.perf_counter()
            other = make(image, len(data))
            encoded = time.perf_counter()
            pixels = pixels_of(other)
            rows.append((name, other, pixels, encoded - began, time.perf_counter() - encoded))
        for name, file, pixels, encode, decode in rows:
            bpp = 8 * len(file) / (image.width * image.height)
            print(
                f"{path.stem:<12}{name:<11}{len(file):>8}{bpp:>8.3f}{psnr(original, pixels):>9.2f}"
                f"{ms_ssim(original, pixels):>9.4f}{encode:>8.3f}{decode:>8.3f}"
            )
        _side_by_side(original, [(name, len(file), p) for name, file, p, _, _ in rows]).save(
            output / f"{path.stem}-side-by-side.png"
        )
    print(f"\nFiles and side-by-side pictures are in {output}/ (JPEG includes the search for the quality that fits)")


def _side_by_side(original: np.ndarray, rows: list[tuple[str, int, np.ndarray]]) -> Image.Image:
    """The busiest crop of the original and of each codec, twice as large."""
    top, left = _busiest(original)
    width, height = CROP
    tiles = [("original", None, original), *rows]
    sheet = Image.new("RGB", (2 * width * 2 + 30, 2 * (height * 2 + 40)), "white")
    draw = ImageDraw.Draw(sheet)
    for k, (name, size, pixels) in enumerate(tiles):
        x, y = 10 + (k % 2) * (2 * width + 10), (k // 2) * (2 * height + 40)
        label = name if size is None else f"{name}, {size} bytes"
        draw.text((x, y + 8), label, fill="black", font_size=20)
        crop = Image.fromarray(np.ascontiguousarray(pixels[top : top + height, left : left + width]))
        sheet.paste(crop.resize((2 * width, 2 * height), Image.Resampling.NEAREST), (x, y + 36))
    return sheet


def _busiest(pixels: np.ndarray) -> tuple[int, int]:
    grey = pixels.astype(np.float64).mean(2)
    energy = np.abs(np.diff(grey, axis=0))[:, 1:] + np.abs(np.diff(grey, axis=1))[1:]
    sums = np.pad(energy.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    width, height = CROP
    box = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(box.argmax()), box.shape)
    return int(top), int(left)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
