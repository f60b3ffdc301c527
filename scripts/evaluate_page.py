"""Takes the figures of a run of `rdae evaluate` into docs/: results, curves, and a pair of tables of docs/evaluate.md.

python scripts/evaluate_page.py RUN NAME

NAME says which: the tables between `<!-- evaluate-NAME -->` and its end are replaced; results and curves bear it too.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
from pathlib import Path
from typing import Any

from figures import put

DOCS = Path(__file__).parent.parent / "docs"


def section(result: dict[str, Any]) -> str:
    """What stands in the page of a run."""
    return "\n".join([*_rates(result), "", *_costs(result)])


def _rates(result: dict[str, Any]) -> list[str]:
    """BD rates of each of our codecs against each of the others, in Markdown."""
    lines = [
        "| codec | against | PSNR, % | luma, % | MS-SSIM, % | GMSD, % | over PSNR, dB | PSNR of each picture, % |",
        "| --- | --- |" + " ---: |" * 6,
    ]
    for line in result["bd_rate"]["lines"]:
        found = line["percent_low_high"]
        cells = ["" if found.get(key) is None else f"{found[key][0]:+.1f}" for key in
                 ("psnr", "psnr_luma", "ms_ssim", "gmsd")]  # fmt: skip
        between = "" if found.get("psnr") is None else "{1:.2f} to {2:.2f}".format(*found["psnr"])
        own = "" if line["pictures_mean_psnr_percent"] is None else f"{line['pictures_mean_psnr_percent']:+.1f}"
        against = line["against"] + (" (published)" if line["published"] else "")
        lines.append(f"| {line['codec']} | {against} | " + " | ".join(cells) + f" | {between} | {own} |")
    return [
        *lines,
        "",
        "BD rate: less than 0 is fewer bits at equal quality. Of curves of means; the last column is the mean over "
        "pictures of each one's own.",
    ]


def _costs(result: dict[str, Any]) -> list[str]:
    """Seconds and memory of each codec, in Markdown."""
    lines = [
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
    count = result["files"] // len(result["codecs"])
    return [*lines, "", f"Medians over {count} files of each codec. Machine: {', '.join(result['machine'])}."]


def main() -> None:
    """Copies the JSON, takes the curves out of the page and replaces the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    options = parser.parse_args()
    text = (options.run / "evaluation.json").read_text(encoding="utf-8")
    (DOCS / "results" / f"evaluate-{options.name}.json").write_text(text, encoding="utf-8")
    page = (options.run / "evaluation.html").read_text(encoding="utf-8")
    curves = re.search(r'src="data:image/png;base64,([^"]+)"', page)
    if curves is None:
        raise SystemExit(f"{options.run / 'evaluation.html'} holds no curves.")
    (DOCS / "images" / f"evaluate-{options.name}.png").write_bytes(base64.b64decode(curves[1]))
    put(DOCS / "evaluate.md", f"evaluate-{options.name}", section(json.loads(text)))


if __name__ == "__main__":
    main()
