"""What an evaluation found, in numbers: curves at given rates, BD rates, times and memory, published codecs beside."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib.resources import files
from statistics import median
from typing import Any, NamedTuple

from rdae.errors import DataError
from rdae.measures.bd_rate import BdRate, RateCurve, bd_rate
from rdae.reports.evaluation import MEASURES, Evaluation, as_quality, curve_of

__all__ = [
    "ANCHORS", "BD_MEASURES", "NAMES", "BdLine", "Published", "Summary", "bd_table", "cost_table", "facts", "notes",
    "plain_text", "published", "quality_table", "settings_table", "summary",
]  # fmt: skip

ANCHORS = ("kodak",)
NAMES = {
    "psnr": "PSNR RGB", "psnr_luma": "PSNR luma", "psnr_chroma": "PSNR chroma", "ms_ssim": "MS-SSIM", "gmsd": "GMSD",
}  # fmt: skip
BD_MEASURES = ("psnr", "psnr_luma", "ms_ssim", "gmsd")
RATES = (0.25, 0.5, 1.0)  # bits per pixel, of the table
DIGITS = {"psnr": 2, "psnr_luma": 2, "psnr_chroma": 2, "ms_ssim": 4, "gmsd": 4}
ABSENT = "–"
SECONDS = ("encode_s", "encode_cpu_s", "decode_s", "decode_cpu_s")
TIMES = (
    "Seconds are of one run on one thread, memory to memory, medians over all files of the codec: waited, and of the "
    "processor. They agree on an idle machine; on a busy one only the latter can be compared."
)
BUSY = "Not all files were measured on one machine, one at a time (--jobs 1): do not compare the times."


class Published(NamedTuple):
    """A codec as others measured it: where that stands, and its curves by measure."""

    label: str
    source: str
    pictures: int
    curves: dict[str, RateCurve]


def published(name: str) -> list[Published]:
    """The published curves that ship with the package.

    Raises:
        DataError: there are none of that name.
    """
    if name not in ANCHORS:
        raise DataError(f"No published curves are called {name!r}. There are: {', '.join(ANCHORS)}.")
    held = json.loads((files("rdae") / "reports" / "anchors" / f"{name}.json").read_text(encoding="utf-8"))
    return [
        Published(
            line["label"], line["source"], held["pictures"],
            {
                key: curve_of(zip(line["bpp"], (as_quality(key, value) for value in line[key]), strict=True))
                for key in ("psnr", "ms_ssim") if key in line
            },
        )
        for line in held["curves"]
    ]  # fmt: skip


class BdLine(NamedTuple):
    """BD rates of one of our codecs against another codec, by measure, over all pictures and for each."""

    model: str
    other: str
    published: bool
    rates: dict[str, BdRate | None]
    pictures: dict[str, BdRate | None]

    @property
    def of_pictures(self) -> float | None:
        """Mean over pictures of each one's own BD rate, PSNR, percent; None where no picture has one.

        Curves of means compare how a codec shares bits among pictures too: one that spends the same on each shows more
        decibels in the mean than one that makes all equally good.
        """
        found = [bd.percent for bd in self.pictures.values() if bd is not None]
        return sum(found) / len(found) if found else None


class Summary(NamedTuple):
    """An evaluation with what was worked out from it; `span` are the rates between which BD rates look."""

    found: Evaluation
    anchors: list[Published]
    span: tuple[float, float]
    lines: list[BdLine]


def summary(found: Evaluation, anchors: Sequence[Published], span: tuple[float, float]) -> Summary:
    """Works out BD rates: over curves of means; of each picture, over its own PSNR curve."""
    lines = []
    for model in found.codecs[: found.models]:
        curves = {key: found.curve(model.name, key) for key in BD_MEASURES}
        for other in found.codecs[found.models :]:
            rates = {key: bd_rate(curves[key], found.curve(other.name, key), span) for key in BD_MEASURES}
            single = {
                p.name: bd_rate(found.curve(model.name, "psnr", p.name), found.curve(other.name, "psnr", p.name), span)
                for p in found.pictures
            }
            lines.append(BdLine(model.label, other.label, False, rates, single))
        for anchor in anchors:
            rates = {key: bd_rate(curves[key], curve, span) for key, curve in anchor.curves.items()}
            lines.append(BdLine(model.label, anchor.label, True, rates, {}))
    return Summary(found, list(anchors), span, lines)


def quality_table(found: Evaluation) -> list[list[str]]:
    """Each measure at a few rates, for each codec."""
    table = [["codec", "bpp", *(NAMES[key] for key in MEASURES)]]
    for codec in found.codecs:
        curves = {key: found.curve(codec.name, key) for key in MEASURES}
        for rate in RATES:
            table.append([codec.label, f"{rate:g}", *(_at(key, curves[key], rate) for key in MEASURES)])
    return table


def _at(key: str, curve: RateCurve, rate: float) -> str:
    value = float(curve.quality_at(rate)) if len(curve.rates) > 1 else math.nan
    if math.isnan(value):
        return ABSENT
    value = {"ms_ssim": lambda x: 1 - 10 ** (-x / 10), "gmsd": lambda x: -x}.get(key, lambda x: x)(value)
    return f"{value:.{DIGITS[key]}f}"


def bd_table(lines: Sequence[BdLine]) -> list[list[str]]:
    """BD rates in percent, and the PSNR that the first of them is over."""
    table = [["codec", "against", *(f"{NAMES[key]}, %" for key in BD_MEASURES), "over PSNR RGB, dB",
              "PSNR RGB of each picture, %"]]  # fmt: skip
    for line in lines:
        first = line.rates.get("psnr")
        span = f"{first.low:.2f}–{first.high:.2f}" if first else ABSENT
        name = f"{line.other}, published" if line.published else line.other
        table.append([line.model, name, *(_percent(line.rates.get(key)) for key in BD_MEASURES), span,
                      ABSENT if line.of_pictures is None else f"{line.of_pictures:+.1f}"])  # fmt: skip
    return table


def _percent(found: BdRate | None) -> str:
    return f"{found.percent:+.1f}" if found else ABSENT


def cost_table(found: Evaluation) -> list[list[str]]:
    """Seconds and memory of each codec."""
    table = [["codec", "encode, s", "of CPU", "decode, s", "of CPU", "encoder's peak, MiB", "decoder's peak, MiB"]]
    for codec in found.codecs:
        times = [f"{_seconds(found, codec.name, key):.3f}" for key in SECONDS]
        memory = found.memory[codec.name]
        peaks = [
            ABSENT if peak is None else f"{peak.highest / 2**20:.0f} (before: {peak.before / 2**20:.0f})"
            for peak in (memory.encode, memory.decode)
        ]
        table.append([codec.label, *times, *peaks])
    return table


def _seconds(found: Evaluation, codec: str, key: str) -> float:
    return median(getattr(row, key) for row in found.of(codec))


def settings_table(found: Evaluation) -> list[list[str]]:
    """All means: a line for each codec and setting."""
    table = [["codec", "setting", "bpp", *(NAMES[key] for key in MEASURES)]]
    for codec in found.codecs:
        for point in found.means(codec.name):
            values = [ABSENT if (v := point[key]) is None else f"{v:.{DIGITS[key]}f}" for key in MEASURES]
            table.append([codec.label, f"{point['setting']:g}", f"{point['bpp']:.4f}", *values])
    return table


def plain_text(whole: Summary) -> str:
    """Tables and notes for a terminal."""
    tables = [quality_table(whole.found), bd_table(whole.lines), cost_table(whole.found)]
    blocks = ["\n".join(_aligned(table)) for table in tables if len(table) > 1]
    return "\n\n".join([*blocks, "\n".join(notes(whole))])


def _aligned(table: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join([cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))])
        for cells in table
    ]


def notes(whole: Summary) -> list[str]:
    """How to read the tables, a sentence or two each."""
    found, (low, high) = whole.found, whole.span
    sizes = sorted({f"{p.width} × {p.height}" for p in found.pictures})
    shown = f"{len(found.pictures)} pictures" if len(found.pictures) > 1 else "1 picture"
    many = len({p.width * p.height for p in found.pictures}) > 3
    lines = [
        f"{shown} of {'several sizes' if many else ' or '.join(sizes)}, coded as 8-bit RGB to files on disk. "
        "Means over pictures at each setting; between settings PCHIP over ln bpp. PSNR in dB of RGB, of BT.601 luma, "
        "and of Cb and Cr pooled; MS-SSIM mean over RGB; GMSD of luma, less is better.",
        f"BD rate: bits in percent of the other codec's at equal quality, less 100; PCHIP, over the qualities that the "
        f"other codec has between {low:g} and {high:g} bpp as far as both curves reach. MS-SSIM in dB, "
        "-10 log10(1 - MS-SSIM).",
        f"{TIMES} {', '.join(sorted({row.machine for row in found.rows}))}. "
        + ("" if found.comparable_times else BUSY),
        "Peak memory is of a whole process that opens the largest picture and encodes it once at the highest setting, "
        "or decodes that file once; before: its highest before the codec was called.",
    ]
    if whole.anchors and len(found.pictures) != whole.anchors[0].pictures:
        lines.append(
            f"Published curves are means over {whole.anchors[0].pictures} pictures, not over these "
            f"{len(found.pictures)}: do not compare."
        )
    return [line.rstrip() for line in lines]


def facts(whole: Summary) -> dict[str, Any]:
    """Everything but the single files, in plain values; those are in `rows.jsonl`."""
    found = whole.found
    codecs = []
    for codec in found.codecs:
        memory = found.memory[codec.name]
        codecs.append(
            {
                "name": codec.name, "label": codec.label, "conditions": found.conditions[codec.name],
                "settings": [{key: _short(value) for key, value in point.items()} for point in found.means(codec.name)],
                **{key: round(_seconds(found, codec.name, key), 5) for key in SECONDS},
                "peak_memory": {
                    "picture": memory.picture, "setting": memory.setting,
                    "encode_bytes": memory.encode, "decode_bytes": memory.decode,
                },
            }
        )  # fmt: skip
    return {
        "pictures": {p.name: [p.width, p.height] for p in found.pictures},
        "files": len(found.rows),
        "machine": sorted({row.machine for row in found.rows}),
        "times_comparable": found.comparable_times,
        "times": "medians over all files, one thread: seconds waited, and of the processor",
        "peak_memory": "highest resident bytes of a process that codes once, and its highest before",
        "codecs": codecs,
        "bd_rate": {
            "method": "PCHIP of ln bpp over quality, mean over the common qualities",
            "anchor_bpp": list(whole.span),
            "lines": [
                {
                    "codec": line.model, "against": line.other, "published": line.published,
                    "percent_low_high": {
                        key: None if bd is None else [_short(x) for x in bd] for key, bd in line.rates.items()
                    },
                    "pictures_mean_psnr_percent": None if line.of_pictures is None else _short(line.of_pictures),
                    "pictures_psnr_percent": {
                        name: None if bd is None else _short(bd.percent) for name, bd in line.pictures.items()
                    },
                }
                for line in whole.lines
            ],
        },
        "published": [{"label": anchor.label, "source": anchor.source} for anchor in whole.anchors],
    }  # fmt: skip


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
