"""Takes the figures of a run of `rdae evaluate` into docs/: results, the curves, and the tables of docs/evaluate.md.

python scripts/evaluate_page.py RUN
"""

from __future__ import annotations

import argparse
import base64
import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
RESULT = DOCS / "results" / "evaluate-examples.json"
START, END = "<!-- evaluate -->", "<!-- /evaluate -->"


def tables(result: dict[str, Any]) -> str:
    """BD rates, and seconds and memory, in Markdown."""
    lines = [
        "| against | PSNR RGB, % | luma, % | MS-SSIM, % | GMSD, % | over PSNR RGB, dB |",
        "| --- |" + " ---: |" * 5,
    ]
    for line in result["bd_rate"]["lines"]:
        found = line["percent_low_high"]
        cells = ["-" if found[key] is None else f"{found[key][0]:+.1f}" for key in
                 ("psnr", "psnr_luma", "ms_ssim", "gmsd")]  # fmt: skip
        low, high = found["psnr"][1:]
        lines.append(f"| {line['against']} | " + " | ".join(cells) + f" | {low:.2f} to {high:.2f} |")
    lines += [
        "",
        "BD rate of the shipped codec `photo`: less than 0 is fewer bits at equal quality.",
        "",
        "| codec | encode, s | of CPU | decode, s | of CPU | encoder's peak, MiB | decoder's peak, MiB |",
        "| --- |" + " ---: |" * 6,
    ]
    for codec in result["codecs"]:
        seconds = [f"{codec[key]:.3f}" for key in ("encode_s", "encode_cpu_s", "decode_s", "decode_cpu_s")]
        peaks = [
            f"{highest / 2**20:.0f} (before: {before / 2**20:.0f})"
            for highest, before in (codec["peak_memory"][f"{side}_bytes"] for side in ("encode", "decode"))
        ]
        lines.append(f"| {codec['label']} | " + " | ".join([*seconds, *peaks]) + " |")
    lines += ["", f"Medians over {result['files'] // len(result['codecs'])} files of each codec. "
              f"Machine: {', '.join(result['machine'])}."]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Copies the JSON, takes the curves out of the page and replaces the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    text = (run / "evaluation.json").read_text(encoding="utf-8")
    RESULT.write_text(text, encoding="utf-8")
    curves = re.search(r'src="data:image/png;base64,([^"]+)"', (run / "evaluation.html").read_text(encoding="utf-8"))
    if curves is None:
        raise SystemExit(f"{run / 'evaluation.html'} holds no curves.")
    (DOCS / "images" / "evaluate.png").write_bytes(base64.b64decode(curves[1]))
    path = DOCS / "evaluate.md"
    head, rest = path.read_text(encoding="utf-8").split(START, 1)
    path.write_text(f"{head}{START}\n{tables(json.loads(text))}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
