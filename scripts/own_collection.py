"""Adapts the shipped codec to scanned pages and packs them: the figures of docs/archives.md, which it fills in.

The pages are those of benchmarks/page_scans.py. The codec is adapted to the first 90; the other ten it never sees, and
on those it is compared at equal PSNR, its delta shared by all 100.

python scripts/own_collection.py WORK    # an hour and a half of a core; WORK keeps pages, run and archive
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
from PIL import Image

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
PAGES = ROOT / "benchmarks" / "page_scans.py"
SEEN, UNSEEN = 90, 10
STEPS, QUALITY = 3000, 50
SHOWN = (50, 60, 70)
QUALITIES, AVIF_QUALITIES = (35, 50, 60, 70, 80), (45, 60, 70, 80, 87, 92, 96)


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
    for peer in (Avif(), JpegXl()):
        if why := peer.missing():
            raise SystemExit(f"{peer.label} cannot be compared: {why}")
    for name, start, count in (("seen", 0, SEEN), ("unseen", SEEN, UNSEEN)):
        pages = [PAGES, work / "pages" / name, "--first", start, "--count", count]
        subprocess.run([sys.executable, *map(str, pages)], check=True)
    run = work / "run"
    rdae("train", "--from", "photo", "--data", work / "pages" / "seen", "--steps", STEPS, "--accelerator", "cpu",
         "-o", run)  # fmt: skip
    archive = work / "pages.zip"
    rdae("pack", work / "pages", "-o", archive, "--model", run / "photo.codec", "-q", QUALITY, "--overwrite")
    unseen = [Image.open(path).convert("RGB") for path in sorted((work / "pages" / "unseen").iterdir())]
    own = Learned(str(run / "photo.codec"))
    peers = (Learned("photo"), Avif(), Avif(subsampling="4:4:4"))
    figures: dict = {
        "pages": {"seen": SEEN, "unseen": UNSEEN}, "size": unseen[0].size, "steps": STEPS, "quality": QUALITY,
        "archive": packed(archive),
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
    ours = [p for p in figures["adapted"] if p["setting"] in SHOWN]
    each = [p["bytes"] + archive["delta_bytes"] / every for p in ours]

    def against(own: Sequence[float]) -> str:
        return " | ".join(f"{100 * (a / b - 1):+.1f} %" for a, b in zip(each, own, strict=True))

    rows = [f"| adapted, its share of the delta included | {each[0]:.0f} |{' |' * len(SHOWN)}"]
    for label, points in figures["others"].items():
        own = [bytes_at(points, p["psnr_db"]) for p in ours]
        rows.append(f"| {label} | {own[0]:.0f} | {against(own)} |")
    rows += [
        f"| {label}, lossless | {own:.0f} | {against([own] * len(SHOWN))} |"
        for label, own in figures["lossless"].items()
    ]
    head = " | ".join(f"adapted takes at {p['psnr_db']:.2f} dB" for p in ours)
    return "\n".join([
        f"`scripts/own_collection.py` does this with {SEEN} rendered pages of {figures['size'][0]} x "
        f"{figures['size'][1]} pixels and {figures['steps']} steps. On {UNSEEN} pages that were never seen, at the "
        f"qualities {', '.join(map(str, SHOWN))}; the others at the same mean PSNR, between their settings by PCHIP:",
        "",
        f"| codec | bytes a page at {ours[0]['psnr_db']:.2f} dB | {head} |",
        f"| --- | {' | '.join(['---:'] * (1 + len(SHOWN)))} |",
        *rows,
        "",
        f"The archive of all {every} pages at quality {figures['quality']} has {archive['archive_bytes']} bytes, of "
        f"which the delta takes {100 * archive['delta_bytes'] / archive['archive_bytes']:.1f} %. The adapted codec "
        f"file as training leaves it has {delta['codec_bytes']} bytes, {delta['codec_lzma']} after LZMA; the bytewise "
        f"difference from the shipped one {delta['bytewise_difference_lzma']}; the delta {delta['delta']}.",
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
