"""The three data sets of docs/your-data.md, from photographs and a public table, and what one command makes of each.

    python scripts/your_data.py PHOTOS --work runs/your-data

- a folder of 3-channel PNG pictures of 64 x 48 pixels: the middle of each photograph, reduced, and its mirror image;
- 64 x 64 crops of photographs as one uint8 array, `crops.npy`;
- a table, `table.npy`: 30 measurements of each of 569 breast tumours (Wisconsin; UCI, CC BY 4.0; in scikit-learn).

The commands that the page shows are the ones that run here.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from figures import put, table
from PIL import Image, ImageOps

from rdae.data.photographs import decoded_images

DOCS = Path(__file__).parent.parent / "docs"
CROPS = 20  # of each photograph
SHORTER = 128  # to which photographs are reduced before they are cropped
COLUMNS = 4  # of the table that the page shows


def make_folder(photographs: list[Image.Image], out: Path) -> None:
    """Pictures of 64 x 48 pixels."""
    out.mkdir(parents=True, exist_ok=True)
    for number, photograph in enumerate(photographs):
        small = ImageOps.fit(photograph, (64, 48), Image.Resampling.LANCZOS)
        small.save(out / f"{number:04}.png")
        ImageOps.mirror(small).save(out / f"{number:04}-mirrored.png")


def make_crops(photographs: list[Image.Image], out: Path, seed: int = 0) -> None:
    """Crops of 64 x 64 pixels, half of them mirrored."""
    rng = np.random.default_rng(seed)
    crops = []
    for photograph in photographs:
        factor = SHORTER / min(photograph.size)
        size = tuple(max(SHORTER, round(side * factor)) for side in photograph.size)
        pixels = np.asarray(photograph.resize(size, Image.Resampling.LANCZOS))
        for number in range(CROPS):
            top, left = (int(rng.integers(side - 63)) for side in pixels.shape[:2])
            crop = pixels[top : top + 64, left : left + 64]
            crops.append(crop[:, ::-1] if number % 2 else crop)
    np.save(out, np.stack(crops))


def make_table(out: Path) -> None:
    """Measurements as float32, `(569, 30)`."""
    from sklearn.datasets import load_breast_cancer

    np.save(out, load_breast_cancer().data.astype(np.float32))


def run(command: str, folder: Path) -> None:
    """A command line, as it stands in the page, in the work folder."""
    print(f"$ {command}", flush=True)
    words = shlex.split(command)
    subprocess.run([sys.executable, "-m", "rdae.cli.main", *words[1:]], cwd=folder, check=True)


def last_line(run_folder: Path) -> dict[str, float]:
    """The last numbers of training."""
    lines = (run_folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if not line.get("valid")][-1]


def both(work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Table and samples, float64."""
    samples = np.load(work / "table-samples.npz")["examples"]
    return np.load(work / "table.npy").astype(np.float64), samples.astype(np.float64)


def judge_table(work: Path) -> list[dict[str, float]]:
    """Mean and standard deviation of the first columns, of data and samples."""
    data, samples = both(work)
    return [
        {
            "column": name, "data_mean": d.mean(), "sample_mean": s.mean(), "data_std": d.std(), "sample_std": s.std(),
        }
        for name, d, s in zip(load_names()[:COLUMNS], data.T, samples.T, strict=False)
    ]  # fmt: skip


def correlation_difference(work: Path) -> dict[str, float]:
    """Mean absolute difference of the correlations of all pairs of columns, and the mean size of those of the data."""
    data, samples = (np.corrcoef(x.T)[np.triu_indices(x.shape[1], 1)] for x in both(work))
    return {"mean_difference": float(np.abs(data - samples).mean()), "mean_size": float(np.abs(data).mean())}


def load_names() -> list[str]:
    """Names of the table's columns."""
    from sklearn.datasets import load_breast_cancer

    return list(load_breast_cancer().feature_names)


def commands(page: str) -> list[str]:
    """The commands of the page, lines continued with a backslash joined."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("rdae ")]


def main() -> None:
    """Makes the data, runs the page's commands, fills in its table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/your-data"))
    arguments = parser.parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "crops.npy").exists():
        photographs = [Image.fromarray(pixels) for _, pixels in decoded_images(arguments.photos)]
        make_folder(photographs, work / "pictures")
        make_table(work / "table.npy")
        make_crops(photographs, work / "crops.npy")
    page = DOCS / "your-data.md"
    for command in commands(page.read_text(encoding="utf-8")):
        run(command, work)
    for name in ("pictures", "crops"):
        for kind in ("samples", "reconstructions"):
            picture = Image.open(work / f"{name}-{kind}.png")
            picture.save(DOCS / "images" / f"your-data-{name}-{kind}.png", optimize=True)
    rows = judge_table(work)
    results = {
        "training": {name: last_line(work / "runs" / name) for name in ("pictures", "crops", "table")},
        "table": rows,
        "correlation_difference": correlation_difference(work),
    }
    (DOCS / "results" / "your-data.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    cells = [
        [r["column"], *(f"{r[key]:.3g}" for key in ("data_mean", "sample_mean", "data_std", "sample_std"))]
        for r in rows
    ]
    put(page, "table", table(["column", "mean, data", "samples", "std, data", "samples"], cells))


if __name__ == "__main__":
    main()
