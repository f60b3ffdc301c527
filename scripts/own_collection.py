"""Adapts the shipped codec to scanned pages and packs them: the figures of docs/archives.md, which it fills in.

The pages are made here: words set in a plain face, turned a little, on paper with shade and grain. The codec is adapted
to the first 80; the other 20 it never sees, and on those it is compared at equal PSNR, its delta shared by all 100.

python scripts/own_collection.py WORK    # about 20 minutes of one core; WORK keeps pages, run and archive
"""

from __future__ import annotations

import io
import json
import lzma
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from figures import put
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from rdae.coding.archive import Archive
from rdae.coding.delta import apply_delta, make_delta
from rdae.coding.fidelity import psnr
from rdae.coding.files import write_text
from rdae.coding.model import shipped_models
from rdae.coding.peers import Avif, FileCodec, JpegXl, Learned
from rdae.measures.bd_rate import MonotoneCubic
from rdae.recipes.photo import photo
from rdae.training.export_subbands import export_subbands
from rdae.training.start import find_start

ROOT = Path(__file__).parent.parent
SEEN, UNSEEN = 80, 20
STEPS, QUALITY = 500, 50
QUALITIES, AVIF_QUALITIES = (35, 50, 60, 70, 80), (45, 60, 70, 80, 87, 92)
TEXT = (
    "the rate of a code is what it costs to say which of many things was meant and distortion is what was lost on the "
    "way an archive holds both once"
)


def page(seed: int, width: int = 480, height: int = 640) -> np.ndarray:
    """A page as a scanner sees it, `(height, width, 3)` uint8."""
    rng = np.random.default_rng([7, seed])
    paper = tuple(int(v) for v in np.array([238, 232, 215]) + rng.normal(0, 4, 3))
    image = Image.new("RGB", (2 * width, 2 * height), paper)
    words = TEXT.split()
    draw, size = ImageDraw.Draw(image), int(rng.integers(22, 40))
    font, ink, top = ImageFont.load_default(size), tuple(int(v) for v in rng.integers(20, 70, 3)), 60
    while top < 2 * height - 80:
        line = " ".join(words[i] for i in rng.integers(0, len(words), 14))
        top += size if rng.random() < 0.12 else 0
        draw.text((60, top), line[: int((2 * width - 120) / size * 2)], fill=ink, font=font)
        top += int(1.5 * size)
    image = image.rotate(float(rng.normal(0, 0.6)), Image.Resampling.BICUBIC, fillcolor=paper)
    image = image.filter(ImageFilter.GaussianBlur(0.8)).resize((width, height), Image.Resampling.LANCZOS)
    rows, columns = np.mgrid[:height, :width]
    shade = 1 - 0.08 * ((columns / width - rng.random()) ** 2 + (rows / height - rng.random()) ** 2)
    pixels = np.asarray(image, dtype=np.float64) * shade[..., None]
    pixels += rng.normal(0, 2.0, (height, width, 1)) + rng.normal(0, 0.7, (height, width, 3))
    return np.clip(pixels, 0, 255).round().astype(np.uint8)


def rdae(*arguments: str | Path) -> None:
    """Runs a command of the package."""
    subprocess.run([sys.executable, "-m", "rdae.cli.main", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def packed(path: Path) -> dict[str, float]:
    """Size of an archive and of its parts."""
    with Archive(path, threads=1) as archive:
        images = sum(archive.size_of(name) for name in archive.names)
        return {"archive_bytes": archive.size, "image_bytes": images, "delta_bytes": archive.delta_size}


def curve(codec: FileCodec, settings: Sequence[float], pages: list[Image.Image]) -> list[dict[str, float]]:
    """Mean bytes and mean PSNR of pages at each setting, best quality last."""
    points = []
    for setting in settings:
        files = [codec.encode(image, setting) for image in pages]
        shown = [psnr(np.asarray(image), codec.decode(data)) for image, data in zip(pages, files, strict=True)]
        points.append(
            {"setting": setting, "bytes": float(np.mean([*map(len, files)])), "psnr_db": float(np.mean(shown))}
        )
        print(f"{codec.label} {setting:g}: {points[-1]['bytes']:.0f} bytes, {points[-1]['psnr_db']:.2f} dB", flush=True)
    return points


def bytes_at(points: list[dict[str, float]], decibels: float) -> float:
    """Bytes at a PSNR: ln bytes over PSNR by PCHIP."""
    found = MonotoneCubic([p["psnr_db"] for p in points], [np.log(p["bytes"]) for p in points])(decibels)
    return float(np.exp(found))


def lossless(pages: list[Image.Image]) -> dict[str, float]:
    """Mean bytes of pages that come back exactly."""
    JpegXl().missing()  # makes its plugin known
    ways = {"PNG": {"format": "PNG", "optimize": True}, "JPEG XL": {"format": "JXL", "lossless": True, "effort": 7}}
    found = {}
    for name, options in ways.items():
        sizes = []
        for image in pages:
            file = io.BytesIO()
            image.save(file, **options)
            sizes.append(len(file.getvalue()))
        found[name] = float(np.mean(sizes))
    return found


def main() -> None:
    """Makes pages, run and archive where they are missing, and writes docs/results/own-collection.json."""
    work = Path(sys.argv[1])
    for name, start, count in (("seen", 0, SEEN), ("unseen", SEEN, UNSEEN)):
        (work / "pages" / name).mkdir(parents=True, exist_ok=True)
        for seed in range(start, start + count):
            path = work / "pages" / name / f"page-{seed:03d}.png"
            if not path.exists():
                Image.fromarray(page(seed)).save(path)
    run = work / "run"
    rdae("train", "--from", "photo", "--data", work / "pages" / "seen", "--steps", STEPS, "--accelerator", "cpu",
         "-o", run)  # fmt: skip
    archive = work / "pages.zip"
    rdae("pack", work / "pages", "-o", archive, "--model", run / "photo.codec", "-q", QUALITY, "--overwrite")
    unseen = [Image.open(path).convert("RGB") for path in sorted((work / "pages" / "unseen").iterdir())]
    own = Learned(str(run / "photo.codec"))
    peers = (Learned("photo"), Avif(), Avif(subsampling="4:4:4"))
    figures: dict = {
        "pages": {"seen": SEEN, "unseen": UNSEEN}, "steps": STEPS, "quality": QUALITY, "archive": packed(archive),
        "adapted": curve(own, QUALITIES, unseen),
        "others": {codec.label: curve(codec, QUALITIES if codec == peers[0] else AVIF_QUALITIES, unseen)
                   for codec in peers},
        "lossless": lossless(unseen), "delta": deltas(run),
    }  # fmt: skip
    write_text(ROOT / "docs" / "results" / "own-collection.json", json.dumps(figures, indent=1) + "\n")
    put(ROOT / "docs" / "archives.md", "own-collection", told(figures))


def told(figures: dict) -> str:
    """The paragraphs and the table of the page."""
    delta, archive, every = figures["delta"], figures["archive"], SEEN + UNSEEN
    ours = next(p for p in figures["adapted"] if p["setting"] == figures["quality"])
    shared = ours["bytes"] + archive["delta_bytes"] / every
    rows = [f"| adapted, its share of the delta included | {shared:.0f} | {ours['psnr_db']:.2f} | |"]
    for label, points in figures["others"].items():
        own = bytes_at(points, ours["psnr_db"])
        rows.append(f"| {label} | {own:.0f} | {ours['psnr_db']:.2f} | {100 * (shared / own - 1):+.1f} % |")
    rows += [
        f"| {label}, lossless | {own:.0f} | exact | {100 * (shared / own - 1):+.1f} % |"
        for label, own in figures["lossless"].items()
    ]
    return "\n".join([
        f"`scripts/own_collection.py` does this with {SEEN} rendered pages of 480 x 640 pixels and {figures['steps']} "
        f"steps. On {UNSEEN} pages that were never seen, at quality {figures['quality']}; the others at the same mean "
        "PSNR, between their settings by PCHIP:",
        "",
        "| codec | bytes a page | PSNR, dB | the adapted codec takes |",
        "| --- | ---: | ---: | ---: |",
        *rows,
        "",
        f"The archive of all {every} pages has {archive['archive_bytes']} bytes, of which the delta takes "
        f"{100 * archive['delta_bytes'] / archive['archive_bytes']:.1f} %. The adapted codec file as training leaves "
        f"it has {delta['codec_bytes']} bytes, {delta['codec_lzma']} after LZMA; the bytewise difference from the "
        f"shipped one {delta['bytewise_difference_lzma']}; the delta {delta['delta']}.",
    ])  # fmt: skip


def deltas(run: Path) -> dict[str, int]:
    """Bytes of three ways to say what was adapted."""
    parent = shipped_models()["photo"].read_bytes()
    own = (run / "photo.codec").read_bytes()
    plain = export_subbands(photo().trained(find_start(str(run)).weights), photo(), {"summary": ""})
    length = min(len(plain), len(parent))
    bytewise = np.frombuffer(plain, np.uint8)[-length:] - np.frombuffer(parent, np.uint8)[-length:]
    delta = make_delta(parent, own)
    assert apply_delta(parent, delta) == own
    return {
        "codec_bytes": len(plain), "codec_lzma": len(lzma.compress(plain, preset=9)),
        "bytewise_difference_lzma": len(lzma.compress(bytewise.tobytes(), preset=9)), "delta": len(delta),
    }  # fmt: skip


if __name__ == "__main__":
    main()
