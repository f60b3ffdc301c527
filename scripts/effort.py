"""What effort gains at equal quality, and what it takes: real files, one pass against symbols chosen again.

    python scripts/effort.py PICTURES --work runs/effort [--model photo-ssim] [--efforts 1 3 5 7 9] [--first N]

PICTURES is a folder; each picture is coded by the shipped codec at five qualities, without effort and with each one
asked for. The Bjontegaard difference in rate is taken for each picture, over the PSNR that both curves reach (of
photo-ssim the MS-SSIM, in decibels of what it lacks of 1); the figure is their mean, with the standard error over
pictures. Seconds are of one core's work.

Every file is a line of a journal in the work folder: a run that was stopped goes on, and one with more pictures or
efforts adds to it. Writes docs/results/effort.json, or effort-photo-ssim.json, and its table in docs/effort.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import put, table

from rdae.coding.codec import Codec
from rdae.coding.peers import Learned
from rdae.measures.bd_rate import RateCurve, bd_rate
from rdae.recipes.effort import codec_with_effort
from rdae.reports.evaluation import as_quality, curve_of
from rdae.reports.measured_files import Journal, Photograph, Row, Task, machine, measured, pictures_in
from rdae.training import refining

DOCS = Path(__file__).parent.parent / "docs"
QUALITIES = (8.0, 20.0, 32.0, 45.0, 58.0)


@dataclass(frozen=True)
class Keen(Learned):
    """A shipped codec with effort."""

    effort: int

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{super().name}-effort-{self.effort}"

    def conditions(self) -> str:
        way = hashlib.sha256(Path(refining.__file__).read_bytes()).hexdigest()[:8]
        return f"{super().conditions()}, PyTorch {torch.__version__}, refining.py {way}"

    def _codec(self) -> Codec:
        return codec_with_effort(self.model, self.effort, threads=1)


def coded(codec: Learned, pictures: list[Photograph], work: Path) -> list[list[Row]]:
    """The rows of each picture, at each quality; those that the journal lacks are measured."""
    journal, conditions, found = Journal(work), codec.conditions(), []
    for picture in pictures:
        found.append([])
        for quality in QUALITIES:
            task = Task(codec, conditions, picture, quality, None, None, work, 1)
            row = journal.row(task)
            if row is None:
                row = measured(task)
                journal.add(row)
                print(f"{codec.name} {picture.name} {quality:g}: {row.bytes} bytes, {row.psnr:.2f} dB", flush=True)
            found[-1].append(row)
    return found


def decibels(row: Row, measure: str) -> float | None:
    """PSNR, or MS-SSIM; None where nothing is lost, or the picture is too small."""
    return as_quality(measure, getattr(row, measure))


def curve(rows: list[Row], measure: str) -> RateCurve:
    """Decibels against bits per pixel."""
    return curve_of((row.bpp, decibels(row, measure)) for row in rows)


def compared(effort: int, plain: list[list[Row]], keen: list[list[Row]], measure: str) -> dict[str, Any]:
    """One effort against none."""
    gains = [
        bd_rate(curve(mine, measure), curve(one_pass, measure)) for mine, one_pass in zip(keen, plain, strict=True)
    ]
    percent = np.array([gain.percent for gain in gains if gain is not None])
    pairs = [(a, b) for mine, one_pass in zip(keen, plain, strict=True) for a, b in zip(mine, one_pass, strict=True)]
    seen = [(decibels(a, measure), decibels(b, measure)) for a, b in pairs]
    return {
        "effort": effort,
        "steps": refining.steps_of(effort),
        "bd_rate_percent": float(percent.mean()),
        "standard_error": float(percent.std(ddof=1) / len(percent) ** 0.5) if len(percent) > 1 else None,
        "of_each_picture": [round(float(value), 3) for value in percent],
        "bytes_percent_at_a_quality": float(100 * np.expm1(np.mean([np.log(a.bytes / b.bytes) for a, b in pairs]))),
        "db_at_a_quality": float(np.mean([x - y for x, y in seen if x is not None and y is not None])),
        "cpu_seconds_a_picture": float(np.mean([a.encode_cpu_s for a, _ in pairs])),
        "cpu_seconds_of_one_pass": float(np.mean([b.encode_cpu_s for _, b in pairs])),
    }


def page_table(result: dict[str, Any]) -> str:
    """The table of docs/effort.md."""
    measure = {"psnr": "PSNR", "ms_ssim": "MS-SSIM"}[result["measure"]]
    head = [
        "effort", "steps", f"bytes at equal {measure}", "bytes at a quality", f"{measure} at a quality",
        "seconds a picture",
    ]  # fmt: skip
    rows = []
    for row in result["efforts"]:
        error = "" if row["standard_error"] is None else f" ± {row['standard_error']:.2f}"
        rows.append([
            f"{row['effort']}", f"{row['steps']}", f"{row['bd_rate_percent']:+.2f}{error} %",
            f"{row['bytes_percent_at_a_quality']:+.2f} %", f"{row['db_at_a_quality']:+.3f} dB",
            f"{row['cpu_seconds_a_picture']:.1f}",
        ])  # fmt: skip
    names = result["pictures"]
    what = ", ".join(names) if len(names) < 4 else f"{len(names)} pictures"
    said = (
        f"Model {result['model'][:8]}; {what}; qualities {', '.join(f'{q:g}' for q in result['qualities'])}. One pass "
        f"takes {row['cpu_seconds_of_one_pass']:.2f} s. Bytes at equal {measure}: mean over pictures and its standard "
        "error."
    )
    return f"{table(head, rows, words=0)}\n\n{said}"


def main() -> None:
    """Codes what is not coded yet, and writes what it tells."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--efforts", type=int, nargs="+", default=[1, 3, 5, 7, 9])
    parser.add_argument("--first", type=int, help="pictures, by name; all if not given")
    parser.add_argument("--model", choices=("photo", "photo-ssim"), default="photo")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    measure, name = ("psnr", "effort") if arguments.model == "photo" else ("ms_ssim", f"effort-{arguments.model}")
    pictures = pictures_in(arguments.pictures, arguments.work)[: arguments.first]
    plain = coded(Learned(arguments.model), pictures, arguments.work)
    efforts = []
    for effort in arguments.efforts:
        keen = coded(Keen(arguments.model, effort), pictures, arguments.work)
        efforts.append(compared(effort, plain, keen, measure))
        print(json.dumps(efforts[-1]), flush=True)
    result = {
        "model": Learned(arguments.model)._codec().model.identity.hex(),
        "pictures": [picture.name for picture in pictures],
        "qualities": QUALITIES,
        "measure": measure,
        "machine": machine(),
        "efforts": efforts,
    }
    (DOCS / "results" / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    put(DOCS / "effort.md", name, page_table(result))


if __name__ == "__main__":
    main()
