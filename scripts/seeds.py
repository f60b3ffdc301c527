"""What scripts share that train several kinds of small models, each under several seeds: arguments, runs, medians.

A run is a folder `KIND-SEED` of the work folder; its result.json holds what came out and, under `options`, what of.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
RESULT = "result.json"
Run = Callable[[str, int, Path, dict[str, Any]], None]


def parser_of(which: str, kinds: Sequence[str]) -> argparse.ArgumentParser:
    """Where to work and write, which kinds and seeds, and options that a trial changes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path)
    parser.add_argument(f"--{which}", dest="kinds", nargs="*", choices=kinds, default=kinds)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=JSON", help="changed options, for trials")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where to write; another folder for trials")
    return parser


def make_runs(arguments: argparse.Namespace, run: Run) -> bool:
    """Makes the runs asked for, `run(kind, seed, folder, changed options)`; False if it was a trial."""
    changes = {key: json.loads(value) for key, value in (word.split("=", 1) for word in arguments.set)}
    for seed in arguments.seeds:
        for kind in arguments.kinds:
            run(kind, seed, arguments.work / f"{kind}-{seed}", changes)
    return not changes


def is_made(folder: Path, options: dict[str, Any], **same: Any) -> bool:
    """Whether the folder has a finished run of these options, whose result agrees with `same` too."""
    if not (folder / RESULT).exists():
        return False
    kept, wanted = result_of(folder), plain({"options": options, **same})
    return all(kept.get(key) == value for key, value in wanted.items())


def result_of(folder: Path) -> dict[str, Any]:
    """What a finished run came to, and its options."""
    return json.loads((folder / RESULT).read_text(encoding="utf-8"))


def keep(folder: Path, result: dict[str, Any], options: dict[str, Any]) -> None:
    """Writes what a run came to."""
    (folder / RESULT).write_text(json.dumps(result | {"options": options}) + "\n", encoding="utf-8")
    print(json.dumps(result), flush=True)


def made(work: Path, kind: str, options: dict[str, Any], **same: Any) -> list[dict[str, Any]]:
    """Results of all finished runs of a kind that `is_made` takes, by seed."""
    folders = [path.parent for path in sorted(work.glob(f"{kind}-[0-9]*/{RESULT}"))]
    found = [result_of(folder) for folder in folders if is_made(folder, options, **same)]
    return [{key: value for key, value in result.items() if key != "options"} for result in found]


def plain(options: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives them back."""
    return json.loads(json.dumps(options))


def by_line(about: dict[str, Any], first: str) -> str:
    """JSON with a line for each result, an object whose first key is `first`."""
    return json.dumps(about).replace(f'{{"{first}"', f'\n{{"{first}"') + "\n"


def span(values: Sequence[float], digits: int) -> str:
    """Median and, of several, the range."""
    low, middle, high = (f"{value:,.{digits}f}" for value in (min(values), median(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"
