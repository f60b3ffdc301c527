"""Self-contained HTML: one file that needs no network, with tables and pictures in it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from rdae.coding.files import write_text

__all__ = ["html_page", "html_picture", "html_table", "write_report"]

ENDINGS = (".html", ".json")

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.92rem; }
th, td { padding: 0.3rem 0.8rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td.words { text-align: left; white-space: normal; color: #555; }
.wide { overflow-x: auto; }
.pictures { display: flex; gap: 1.5rem; flex-wrap: wrap; } figure { margin: 0; flex: 1 1 20rem; }
img { width: 100%; border: 1px solid #ddd; background: #fff; } img.pixels { image-rendering: pixelated; }
dt { font-weight: 600; margin-top: 0.6rem; } dd { margin: 0; }
code { background: #f3f3f3; padding: 0.1rem 0.3rem; } footer { margin-top: 2rem; color: #666; font-size: 0.9rem; }
"""


def html_page(title: str, parts: Sequence[str]) -> str:
    """A whole page.

    Args:
        title: in plain text.
        parts: HTML, one below the other.
    """
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n<body>\n'
        + "\n".join([f"<h1>{escape(title)}</h1>", *parts])
        + "\n</body></html>\n"
    )


def html_table(table: Sequence[Sequence[str]], words: int | None = None) -> str:
    """A table of plain text, its head first; `words` is the column that holds sentences, if one does."""
    lines = []
    for k, line in enumerate(table):
        tag = "td" if k else "th"
        kinds = [' class="words"' if column == words and k else "" for column in range(len(line))]
        cells = [f"<{tag}{kind}>{escape(cell)}</{tag}>" for cell, kind in zip(line, kinds, strict=True)]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def html_picture(picture: Any, caption: str = "", *, pixels: bool = False) -> str:
    """A Pillow image or a figure of matplotlib, as PNG within the page; `pixels` shows single pixels as squares."""
    file = io.BytesIO()
    if hasattr(picture, "savefig"):
        picture.savefig(file, format="png", dpi=110)
    else:
        picture.save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    kind = ' class="pixels"' if pixels else ""
    return (
        f"<figure><figcaption>{escape(caption)}</figcaption>"
        f'<img{kind} alt="{escape(caption)}" src="data:image/png;base64,{data}"></figure>'
    )


def write_report(out: Path, page: str, facts: str) -> str:
    """Writes a page and its numbers as `OUT.html` and `OUT.json`; returns both names.

    Args:
        out: either name, or what they have in common.
        page: HTML.
        facts: JSON, without its last line end.
    """
    stem = out.with_suffix("") if out.suffix in ENDINGS else out
    for ending, text in zip(ENDINGS, (page, facts + "\n"), strict=True):
        write_text(Path(f"{stem}{ending}"), text)
    return ", ".join(f"{stem}{ending}" for ending in ENDINGS)
