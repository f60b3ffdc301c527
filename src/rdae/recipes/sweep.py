"""Many trainings of one recipe: every combination of some options, with several seeds, into one table.

Each is a run of its own in a folder of its own, so a sweep that was stopped goes on where it was: finished runs are
read, an unfinished one is resumed, the rest is trained. Runs can be sent to a Dask cluster whose machines share the
folder.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from rdae.coding.files import write_text
from rdae.data.sources import has_test
from rdae.errors import DataError, MissingExtraError
from rdae.measures.measure import Kind, Measure
from rdae.recipes.order import Order

__all__ = ["Setting", "Trial", "judged", "settings_of", "sweep", "trials"]

log = logging.getLogger("rdae")
UNITS = {"nats": "nats per example", "db": "dB", "bpp": "bits per pixel"}


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Args:
        order: to carry out.
        options: those of its options that the sweep varies.
        seed: of the run.
    """

    order: Order
    options: dict[str, Any]
    seed: int


class Setting(NamedTuple):
    """Runs that differ in their seed alone."""

    options: dict[str, Any]
    seeds: list[int]
    measures: dict[str, Measure]  # means over seeds; without an error bar where there is one seed


def trials(order: Order, over: Mapping[str, Sequence[Any]], seeds: Sequence[int]) -> list[Trial]:
    """All combinations of the values of some options, each with every seed.

    Args:
        order: what they have in common; its `out` holds a folder for each run.
        over: options to vary, and their values.
        seeds: of weights, batches and noise.

    Raises:
        DataError: an option to vary is also given, or has no value or one twice; there is no seed.
    """
    both = over.keys() & order.options.keys()
    if both:
        raise DataError(f"{', '.join(sorted(both))} is both set and swept over. Leave one of them out.")
    for name, values in [*over.items(), ("seeds", seeds)]:
        if not values or len({repr(value) for value in values}) < len(values):
            raise DataError(f"{name} has the values {list(values)}: give one or more, each once.")
    if order.is_codec and over:
        raise DataError(f"{order.recipe} is a codec and has no options to vary. Sweep over a generative recipe.")
    if order.valid is None and (order.is_codec or not has_test(order.data)):
        raise DataError(f"Runs are compared by held-out data, and {order.data} has none. Name some with --valid.")
    made = []
    for chosen in itertools.product(*over.values()):
        options = dict(zip(over, chosen, strict=True))
        for seed in seeds:
            words = [f"{name}={value}" for name, value in options.items()]
            folder = re.sub(r"[^\w.=+-]+", "_", ",".join([*words, f"seed={seed}"]))
            made.append(Trial(
                replace(order, out=order.out / folder, options=order.options | options,
                        settings=order.settings | {"seed": seed}),
                options, seed,
            ))  # fmt: skip
    if len({run.order.out for run in made}) < len(made):
        raise DataError(f"Two combinations of {over} would share a folder. Write their values in another way.")
    return made


def sweep(runs: Sequence[Trial], dask: str | None = None) -> list[dict[str, float]]:
    """Carries out what is not done yet.

    Args:
        runs: as `trials` makes them.
        dask: address of a Dask scheduler, whose workers see the same folders; None runs one after another, here.

    Returns:
        For each run what its last validation measured, by name.

    Raises:
        DataError: a run's folder holds another run, or nothing was validated.
        MissingExtraError: Dask is asked for and not installed.
    """
    for run in runs:
        _remember(run.order)
    due = [run for run in runs if not run.order.target.exists()]
    if len(due) < len(runs):
        log.info("%d of %d runs are finished", len(runs) - len(due), len(runs))
    if dask is None:
        for number, run in enumerate(due, 1):
            log.info("run %d of %d: %s", number, len(due), run.order.out.name)
            run.order.carry_out()
    else:
        _spread(due, dask)
    return [judged(run.order.out) for run in runs]


def _remember(order: Order) -> None:
    """Writes down what a run is, beside it; refuses a folder where another one is written down."""
    plain = {f.name: getattr(order, f.name) for f in fields(order) if f.name not in ("out", "command", "terms")}
    text = json.dumps(plain, indent=1, default=str, sort_keys=True) + "\n"
    path = order.out / "order.json"
    if path.exists():
        before, now = json.loads(path.read_text("utf-8")), json.loads(text)
        changed = [f"{name} {before.get(name)} and not {now[name]}" for name in now if before.get(name) != now[name]]
        if changed:
            raise DataError(f"{order.out} holds a run with {', '.join(changed)}. Choose another --out.")
        return
    write_text(path, text)


def _spread(due: Sequence[Trial], address: str) -> None:
    try:
        from distributed import Client, as_completed
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "A Dask cluster needs the package distributed, which is not installed. Install it with: "
            "pip install 'rdae[cluster]'"
        ) from error
    with Client(address) as client:
        futures = {client.submit(_carried_out, _anywhere(run.order), pure=False, retries=2): run for run in due}
        for done, future in enumerate(as_completed(futures), 1):
            future.result()
            log.info("%d of %d runs: %s", done, len(due), futures[future].order.out.name)


def _anywhere(order: Order) -> Order:
    """With whole paths: a worker may stand in another folder."""

    def whole(place: str | None) -> str | None:
        return str(Path(place).resolve()) if place and not has_test(place) else place

    return replace(order, out=order.out.resolve(), data=str(whole(order.data)), valid=whole(order.valid))


def _carried_out(order: Order) -> str:
    """On a worker: a run that another worker had begun before it died is resumed from its checkpoint."""
    return str(order.carry_out())


def judged(folder: Path) -> dict[str, float]:
    """What the last validation of a run measured.

    Raises:
        DataError: there was none.
    """
    log_file = folder / "log.jsonl"
    lines = [json.loads(line) for line in log_file.read_text("utf-8").splitlines()] if log_file.exists() else []
    points = [line for line in lines if line.get("valid")]
    if not points:
        raise DataError(f"{folder} holds no validation. Give held-out data with --valid.")
    if points[-1]["step"] != max(line["step"] for line in lines):
        raise DataError(f"{folder} was stopped before its last validation. Remove the folder, and run again.")
    last = [point for point in points if point["step"] == points[-1]["step"]]
    if len(last) > 1:  # a codec, at several qualities
        return {f"{name}@{p['quality']:g}": v for p in last for name, v in _numbers(p) if name != "quality"}
    return dict(_numbers(last[0]))


def _numbers(point: dict[str, Any]) -> Iterable[tuple[str, float]]:
    return ((n, math.nan if v is None else float(v)) for n, v in point.items() if n not in ("step", "valid"))


def settings_of(runs: Sequence[Trial], results: Sequence[Mapping[str, float]]) -> list[Setting]:
    """Means over seeds, one row for each combination of options, in the order of the sweep."""
    grouped: dict[str, list[tuple[Trial, Mapping[str, float]]]] = {}
    for run, result in zip(runs, results, strict=True):
        grouped.setdefault(repr(run.options), []).append((run, result))
    rows = []
    for group in grouped.values():
        names = [name for name in group[0][1] if all(name in result for _, result in group)]
        measures = {name: _mean(name, [result[name] for _, result in group]) for name in names}
        rows.append(Setting(group[0][0].options, [run.seed for run, _ in group], measures))
    return rows


def _mean(name: str, values: list[float]) -> Measure:
    count, mean = len(values), sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (count - 1)) if count > 1 else math.nan
    return Measure(mean, spread / math.sqrt(count), UNITS.get(name.rpartition("_")[2], name), Kind.ESTIMATE)
