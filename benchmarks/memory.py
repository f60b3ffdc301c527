"""Peak memory and time per pixel as pictures grow, each in a process of its own.

python benchmarks/memory.py [--megapixels 1.5 6 24 100] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path


def picture(megapixels: float):
    """A synthetic photograph, 3 : 2: smooth shading, edges and noise."""
    import numpy as np

    height = int((megapixels * 1e6 / 1.5) ** 0.5)
    width = int(1.5 * height)
    rng = np.random.default_rng(0)
    tile = rng.normal(0, 6, (509, 509, 1)).astype(np.float32)
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)[None, :]
    out = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, 512):  # in strips: the picture must not cost more memory than its pixels
        part = rows[top : top + 512]
        shade = 120 + 60 * np.sin(part / 97) * np.cos(columns / 131) + 40 * ((part // 61 + columns // 83) % 2)
        noise = np.tile(tile, (2, width // 509 + 1, 1))[: part.shape[0], :width]
        out[top : top + 512] = np.clip(shade[..., None] * np.array([1.0, 0.9, 0.8]) + noise, 0, 255)
    return out


def child(megapixels: float, side: str, path: str) -> None:
    """Compresses or decompresses once, after a small picture has loaded the graphs; prints seconds, pixels and peak."""
    import rdae

    codec = rdae.load("photo")
    small = picture(0.1)
    codec.decompress(codec.compress(small))
    image = picture(megapixels) if side == "encode" else None
    data = b"" if side == "encode" else Path(path).read_bytes()
    began = time.perf_counter()
    if side == "encode":
        Path(path).write_bytes(codec.compress(image))
        pixels = image.shape[0] * image.shape[1]  # type: ignore[union-attr]
    else:
        shown = codec.decompress(data).pixels
        pixels = shown.shape[0] * shown.shape[1]
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"megapixels": pixels / 1e6, "side": side, "seconds": seconds, "peak_gib": peak / 2**30}))


def main() -> None:
    """Runs all sizes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1.5, 6, 24, 100])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=3)
    arguments = parser.parse_args()
    if arguments.child:
        child(float(arguments.child[0]), arguments.child[1], arguments.child[2])
        return
    import tempfile

    rows = []
    print(f"{'MP':>8}{'':>9}{'seconds':>9}{'us/pixel':>10}{'peak GiB':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.megapixels:
            for side in ("encode", "decode"):
                command = [sys.executable, __file__, "--child", str(size), side, f"{folder}/x.rdae"]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                row = json.loads(done.stdout.splitlines()[-1])
                rows.append(row)
                per = row["seconds"] / row["megapixels"]
                print(
                    f"{row['megapixels']:>8.1f}{side:>9}{row['seconds']:>9.2f}{per:>10.3f}{row['peak_gib']:>10.2f}",
                    flush=True,
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
