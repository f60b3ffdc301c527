"""Adapts the shipped codec to scanned pages and packs them: the figures of docs/archives.md, which it fills in.

The pages are made here: words set in a plain face, turned a little, on paper with shade and grain. The codec is adapted
to the first 80; the other 20 it never sees.

python scripts/own_collection.py WORK    # about 15 minutes of one core; WORK keeps pages, run and archives
"""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from rdae.coding.archive import Archive
from rdae.coding.delta import apply_delta, make_delta
from rdae.coding.fidelity import psnr
from rdae.coding.files import write_text
from rdae.coding.image import read_picture
from rdae.coding.model import shipped_models
from rdae.recipes.photo import photo
from rdae.training.export_subbands import export_subbands
from rdae.training.start import find_start

ROOT = Path(__file__).parent.parent
SEEN, UNSEEN = 80, 20
STEPS, BATCH, QUALITY = 500, 8, 50
START, END = "<!-- own-collection -->\n", "<!-- /own-collection -->"
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


def measured(path: Path, pages: Path) -> dict[str, float]:
    """Size of an archive and mean PSNR of its members."""
    with Archive(path, threads=1) as archive:
        decibels = [
            psnr(read_picture(pages / Path(name).with_suffix(".png")).pixels, archive.picture(name).pixels)
            for name in archive.names
        ]
        images = sum(archive.size_of(name) for name in archive.names)
        return {
            "archive_bytes": archive.size, "image_bytes": images, "delta_bytes": archive.delta_size,
            "psnr_db": round(float(np.mean(decibels)), 3),
        }  # fmt: skip


def main() -> None:
    """Makes pages, run and archives where they are missing, and writes docs/results/own-collection.json."""
    work = Path(sys.argv[1])
    for name, start, count in (("seen", 0, SEEN), ("unseen", SEEN, UNSEEN)):
        (work / name).mkdir(parents=True, exist_ok=True)
        for seed in range(start, start + count):
            path = work / name / f"page-{seed:03d}.png"
            if not path.exists():
                Image.fromarray(page(seed)).save(path)
    run = work / "run"
    rdae("train", "--from", "photo", "--data", work / "seen", "--steps", STEPS, "--batch", BATCH,
         "--accelerator", "cpu", "-o", run)  # fmt: skip
    codecs = {"photo": "photo", "adapted": run / "photo.codec"}
    figures: dict = {"pages": {"seen": SEEN, "unseen": UNSEEN}, "steps": STEPS, "batch": BATCH, "quality": QUALITY}
    for codec, model in codecs.items():
        for name in ("seen", "unseen"):
            path = work / f"{codec}-{name}.zip"
            rdae("pack", work / name, "-o", path, "--model", model, "-q", QUALITY, "--overwrite")
            figures[f"{codec}-{name}"] = measured(path, work / name)
    figures["delta"] = deltas(run)
    write_text(ROOT / "docs" / "results" / "own-collection.json", json.dumps(figures, indent=1) + "\n")
    page_path = ROOT / "docs" / "archives.md"
    head, rest = page_path.read_text(encoding="utf-8").split(START)
    write_text(page_path, head + START + told(figures) + END + rest.split(END)[1])


def told(figures: dict) -> str:
    """The paragraph and the table of the page."""
    delta = figures["delta"]
    share = 100 * delta["delta"] / figures["adapted-seen"]["archive_bytes"]
    rows = [
        f"| {codec} | {figures['pages'][name]} {name} | {f['image_bytes'] / figures['pages'][name]:.0f} | "
        f"{f['psnr_db']:.2f} | {f['delta_bytes']} | {f['archive_bytes']} |"
        for codec in ("photo", "adapted")
        for name in ("seen", "unseen")
        for f in [figures[f"{codec}-{name}"]]
    ]
    return "\n".join([
        f"`scripts/own_collection.py` does this with {SEEN} rendered pages of 480 x 640 pixels and {figures['steps']} "
        f"steps of {figures['batch']} crops, at quality {figures['quality']}; {UNSEEN} more pages are never seen.",
        "",
        "| codec | pages | bytes a page | PSNR, dB | delta, bytes | archive, bytes |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *rows,
        "",
        f"The delta is {share:.1f} % of the archive. The adapted codec file as training leaves it has "
        f"{delta['codec_bytes']} bytes, {delta['codec_lzma']} after LZMA; the bytewise difference from the shipped one "
        f"{delta['bytewise_difference_lzma']}; the delta {delta['delta']}.",
        "",
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
