"""Writes the table of README.md from docs/results/kodak.json, between the two marks.

python scripts/readme_figures.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from kodak import rate_curve

ROOT = Path(__file__).parent.parent
START, END = "<!-- kodak -->", "<!-- /kodak -->"
RATES = np.array([0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0])


def main() -> None:
    """Replaces the table."""
    result = json.loads((ROOT / "docs" / "results" / "kodak.json").read_text())
    curves = result["curves"]
    rows = ["| bits per pixel | " + " | ".join(f"{r:g}" for r in RATES) + " |", "|---" * (len(RATES) + 1) + "|"]
    for name, points in curves.items():
        cells = ["-" if np.isnan(v) else f"{v:.2f}" for v in rate_curve(points).quality_at(RATES)]
        rows.append(f"| {name}, dB | " + " | ".join(cells) + " |")
    text = "\n".join(rows)
    saved, (low, high) = -result["bd_rate_against_jpeg2000_percent"], result["bd_rate_db"]
    block = f"""{START}
{text}

PSNR over RGB, mean of the {result["images"]} Kodak pictures, real files with all their overhead, one run of
`scripts/kodak.py`; between measured points by PCHIP. Against JPEG 2000 (Pillow: irreversible 9/7, colour transform)
the codec needs {saved:.1f} % fewer bits at equal PSNR (BD rate from {low:.1f} to {high:.1f} dB: JPEG 2000's 0.1
to 1.0 bits per pixel, as far down as quality 0).
{END}"""
    path = ROOT / "README.md"
    page = path.read_text(encoding="utf-8")
    head, rest = page.split(START, 1)
    tail = rest.split(END, 1)[1] if END in rest else rest
    path.write_text(head + block + tail, encoding="utf-8")


if __name__ == "__main__":
    main()
