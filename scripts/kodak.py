"""Rate and distortion on a folder of photographs: the shipped codec against JPEG 2000 and JPEG, real files, one run.

python scripts/kodak.py FOLDER -o docs/results/kodak.json [--figure docs/images/kodak.png] [--model photo]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import rdae
from rdae.coding.fidelity import ms_ssim, psnr
from rdae.coding.peers import FileCodec, Jpeg, Jpeg2000, Learned, rgb_image
from rdae.measures.bd_rate import RateCurve, bd_rate

Curve = list[dict[str, float]]

QUALITIES = (0, 2, 4, 8, 12, 17, 22, 28, 34, 40, 47, 54)
RATES = (0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)
SPAN = (0.1, 1.0)  # bits per pixel of JPEG 2000, of the BD rate
JPEG_QUALITIES = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90)


def curve(images: list[Image.Image], settings: Sequence[float], codec: FileCodec) -> Curve:
    """Mean over images, at each setting, of bits per pixel, PSNR and MS-SSIM."""
    points = []
    for setting in settings:
        rows = []
        for image in images:
            data = codec.encode(image, setting)
            shown = codec.decode(data)
            original = np.asarray(image)
            rows.append((8 * len(data) / (image.width * image.height), psnr(original, shown), ms_ssim(original, shown)))
        bpp, dB, similarity = np.mean(rows, axis=0)
        points.append({"setting": setting, "bpp": bpp, "psnr_db": dB, "ms_ssim": similarity})
        print(f"  {setting:>6}: {bpp:.4f} bpp  {dB:.3f} dB  {similarity:.4f}", flush=True)
    return points


def rate_curve(points: Curve) -> RateCurve:
    """PSNR against bits per pixel."""
    return RateCurve.of((p["bpp"] for p in points), (p["psnr_db"] for p in points))


def draw(curves: dict[str, Curve], path: Path, title: str) -> None:
    """The curves as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for axis, key, label in ((axes[0], "psnr_db", "PSNR, dB (RGB)"), (axes[1], "ms_ssim", "MS-SSIM, dB")):
        for name, points in curves.items():
            y = np.array([p[key] for p in points])
            y = -10 * np.log10(1 - y) if key == "ms_ssim" else y
            axis.plot([p["bpp"] for p in points], y, marker="o", markersize=3, label=name)
        axis.set(xlabel="bits per pixel", ylabel=label, xlim=(0, 1.4))
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Runs all codecs on all images and writes the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--model", default="photo")
    arguments = parser.parse_args()
    images = [rgb_image(path) for path in sorted(arguments.folder.iterdir()) if path.suffix in (".png", ".jpg")]
    ours = Learned(arguments.model)
    model = rdae.load(arguments.model).model
    curves: dict[str, Curve] = {}
    for name, settings, codec in (
        (ours.label, QUALITIES, ours),
        ("JPEG 2000 (Pillow, 9/7)", RATES, Jpeg2000()),
        ("JPEG (Pillow)", JPEG_QUALITIES, Jpeg()),
    ):
        print(name)
        curves[name] = curve(images, settings, codec)
    mine, anchor = rate_curve(curves[ours.label]), rate_curve(curves["JPEG 2000 (Pillow, 9/7)"])
    rates = np.arange(0.1, 1.001, 0.1)
    gains = mine.quality_at(rates) - anchor.quality_at(rates)
    found, span = bd_rate(mine, anchor, SPAN), anchor.quality_at(SPAN)
    if found is None or found.high - found.low < 0.95 * (span[1] - span[0]):
        raise SystemExit(f"The curves do not both cover {span} dB: measure at more rates.")
    result = {
        "images": len(images),
        "model": {"name": model.name, "identity": model.identity.hex()},
        "curves": curves,
        "psnr_gain_over_jpeg2000_db": {
            f"{r:.1f} bpp": round(float(g), 3) for r, g in zip(rates, gains, strict=True) if np.isfinite(g)
        },
        "bd_rate_against_jpeg2000_percent": round(found.percent, 2),
        "bd_rate_db": [round(found.low, 2), round(found.high, 2)],
        "bd_rate_range": f"PSNR of JPEG 2000 between {SPAN[0]} and {SPAN[1]} bpp, where both curves are, PCHIP",
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "curves"}, indent=1))
    if arguments.figure:
        arguments.figure.parent.mkdir(parents=True, exist_ok=True)
        draw(curves, arguments.figure, f"{len(images)} photographs, mean; real files")


if __name__ == "__main__":
    main()
