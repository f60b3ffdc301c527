"""Figures and tables of the documentation, from code, from docs/results and from the log of the shipped codec.

python scripts/figures.py
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rdae.recipes import factorised
from rdae.reports.architecture import depth_to_space_figure, hourglass_figure
from rdae.reports.diagrams import (
    graphical_model_figure,
    implicit_model_figure,
    noisy_channel_figure,
    reparameterisation_figure,
)
from rdae.reports.relaxation import distortion_figure, from_json, rate_figure, summary
from rdae.reports.training import training_figure

DOCS = Path(__file__).parent.parent / "docs"
DPI = 100


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """A table of Markdown whose first columns are words and the others numbers, with a true minus sign."""
    below = ["---" if k < words else "---:" for k in range(len(head))]
    signed = [[cell.replace("-", "\u2212") if k >= words else cell for k, cell in enumerate(row)] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, below, *signed))


def grey_levels(distortion: float, pixels: int) -> str:
    """Root of the mean squared error of three colours, in levels out of 255; two digits."""
    return f"{255 * (distortion / (3 * pixels)) ** 0.5:#.2g}".rstrip(".")


def relaxation_tables(text: str) -> dict[str, str]:
    """The two tables of docs/relaxation.md from docs/results/relaxation.json, by mark."""
    about: dict[str, Any] = json.loads(text)
    points = from_json(text)
    pixels, qualities = points[0].pixels, {lam: quality for quality, lam in about["qualities"].items()}
    rates, distortions = [], []
    for s in summary(points):
        own = f"{s.lam:,.0f} ({qualities[s.lam]})"
        rates.append([
            own, f"{s.median_surrogate_bits / pixels:.3f}", f"{s.median_ideal_bits / pixels:.3f}",
            f"{s.rate_gap_percent:+.1f} %", f"{s.rate_correlation:.4f}", f"{(s.overhead_bits or 0) / 8:+.0f}",
        ])  # fmt: skip
        distortions.append([
            own, grey_levels(s.median_noisy_distortion, pixels), grey_levels(s.median_rounded_distortion, pixels),
            f"{s.distortion_gap_percent:+.1f} %", f"{s.distortion_correlation:.3f}",
        ])  # fmt: skip
    said = (
        f"Recipe `{about['recipe']}` after {about['steps']} steps of {about['batch']} crops, on the middle "
        f"{about['side']} \u00d7 {about['side']} pixels of {about['images']} photographs; "
        f"{about['draws']} draws of the noise."
    )
    head = "λ (quality)", "noise, median {}", "rounding, median {}", "rounding against noise", "correlation"
    rate, distortion = ([cell.format(unit) for cell in head] for unit in ("bpp", "grey levels"))
    return {
        "rate": table([*rate, "file above ideal, bytes"], rates) + f"\n\n{said}",
        "distortion": table(distortion, distortions),
    }


def equal_bytes_table(text: str) -> str:
    """The table of docs/codec.md from docs/results/equal-bytes.json."""
    head = ["picture", "codec", "bytes", "bpp", "PSNR RGB", "luma", "chroma", "MS-SSIM"]
    rows = [
        [
            r["picture"], r["codec"] + (" (can make none smaller)" if r["smallest"] else ""), f"{r['bytes']}",
            f"{r['bpp']:.4f}", f"{r['psnr_db']:.2f}", f"{r['psnr_luma_db']:.2f}", f"{r['psnr_chroma_db']:.2f}",
            f"{r['ms_ssim']:.4f}",
        ]
        for r in json.loads(text)["rows"]
    ]  # fmt: skip
    return table(head, rows, words=2)


def put(page: Path, mark: str, text: str) -> None:
    """Replaces what stands between `<!-- mark -->` and `<!-- /mark -->`."""
    start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    head, rest = page.read_text(encoding="utf-8").split(start)
    page.write_text(f"{head}{start}\n{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def main() -> None:
    """Draws the figures and fills in the tables."""
    relaxation = (DOCS / "results" / "relaxation.json").read_text(encoding="utf-8")
    points = from_json(relaxation)
    figures = {
        "depth-to-space": depth_to_space_figure(),
        "hourglass": hourglass_figure(factorised().model()),
        "noisy-channel": noisy_channel_figure(),
        "graphical-model": graphical_model_figure(),
        "reparameterisation": reparameterisation_figure(),
        "implicit-model": implicit_model_figure(),
        "relaxation-rate": rate_figure(points),
        "relaxation-distortion": distortion_figure(points),
        "training": training_figure((DOCS.parent / "models" / "photo" / "log.jsonl").read_text().splitlines()),
    }
    for name, figure in figures.items():
        figure.savefig(DOCS / "images" / f"{name}.png", dpi=DPI)
    for mark, text in relaxation_tables(relaxation).items():
        put(DOCS / "relaxation.md", mark, text)
    equal = (DOCS / "results" / "equal-bytes.json").read_text(encoding="utf-8")
    put(DOCS / "codec.md", "equal-bytes", equal_bytes_table(equal))


if __name__ == "__main__":
    main()
