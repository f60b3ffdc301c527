"""Encode and decode times of the shipped codec, Pillow's codecs and CompressAI, interleaved in one run.

    python benchmarks/speed.py PICTURE [--compressai PYTHON] [--rounds 9] [--json FILE]

PYTHON is an interpreter of an environment with torch, compressai 1.2.8, numpy<2, scipy, einops, tqdm, pytorch-msssim,
pillow and requests. CompressAI's bmshj2018-hyperprior (quality 4) runs there with random weights, which cost the same
to compute; entropy coding of trained latents would add to it. Minima are reported: on a shared machine they are what
the code costs.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image, features

import rdae

QUALITY = 30.0


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _pillow(image: Image.Image, kind: str, **options: object) -> tuple[Callable, Callable]:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    data = buffer.getvalue()
    return lambda: image.save(io.BytesIO(), kind, **options), lambda: Image.open(io.BytesIO(data)).load()


class _CompressAI:
    """A subprocess that times one encode or decode a line."""

    def __init__(self, python: str, picture: Path) -> None:
        script = Path(__file__).with_name("compressai_speed.py")
        self._process = subprocess.Popen(
            [python, str(script), str(picture)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ask("ready")

    def ask(self, what: str) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()


def main() -> None:
    """Times everything in turn and prints minima and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("picture", type=Path)
    parser.add_argument("--compressai", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    image = Image.open(arguments.picture).convert("RGB")
    codec = rdae.load("photo")
    data = codec.compress(image, QUALITY)
    codec.decompress(data)
    runs: dict[str, tuple[Callable, Callable]] = {
        "rdae photo": (lambda: codec.compress(image, QUALITY), lambda: codec.decompress(data)),
        "JPEG": _pillow(image, "JPEG", quality=80),
        "JPEG 2000": _pillow(image, "JPEG2000", quality_mode="rates", quality_layers=[30], irreversible=True, mct=1),
        "WebP": _pillow(image, "WEBP", quality=80, method=4),
    }
    if features.check("avif"):
        runs["AVIF (speed 6)"] = _pillow(image, "AVIF", quality=60, speed=6)
    times: dict[str, list[list[float]]] = {name: [[], []] for name in runs}
    other = _CompressAI(arguments.compressai, arguments.picture) if arguments.compressai else None
    if other:
        times["CompressAI bmshj2018-hyperprior"] = [[], []]
    for _ in range(arguments.rounds):
        for name, pair in runs.items():
            for side, work in enumerate(pair):
                times[name][side].append(_timed(work))
        if other:
            for side, what in enumerate(("encode", "decode")):
                times["CompressAI bmshj2018-hyperprior"][side].append(other.ask(what))
    if other:
        other.close()
    mine = [min(t) for t in times["rdae photo"]]
    print(f"{image.width} x {image.height}, minima of {arguments.rounds} interleaved rounds, {sys.version.split()[0]}")
    print(f"{'codec':<34}{'encode ms':>10}{'decode ms':>10}{'enc ratio':>11}{'dec ratio':>11}")
    report = {}
    for name, (encode, decode) in times.items():
        e, d = min(encode), min(decode)
        print(f"{name:<34}{e * 1e3:>10.1f}{d * 1e3:>10.1f}{e / mine[0]:>11.2f}{d / mine[1]:>11.2f}")
        report[name] = {"encode_s": e, "decode_s": d, "encode_ratio": e / mine[0], "decode_ratio": d / mine[1]}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
