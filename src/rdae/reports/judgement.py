"""Samples judged against a data set: what is compared, by which features, and the result as text and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rdae.data.arrays import ArrayData, Kind
from rdae.data.sources import MIXTURES, STACKED
from rdae.errors import ShapeError
from rdae.measures.classifier import FEATURES, digits_card, see
from rdae.measures.judging import Examples, Row, judge, standardised
from rdae.measures.labelling import labels_of_neighbours, leave_one_out, nearest_centres
from rdae.measures.measure import Kind as Statement
from rdae.measures.measure import Measure, mean_of

__all__ = ["Judgement", "judgement"]

MOST_TRAINING = 60_000  # training examples among which copies are looked for
MOST_CLASSES = 1000  # more different labels are no classes
WITHIN = 3.0  # standard deviations that a point of high quality may be away from its centre
AT_ONCE = 4096  # examples looked at together


class Judgement(NamedTuple):
    """Measures of samples, and what they were taken with."""

    rows: list[Row]
    samples: int
    data: str
    examples: int  # of the data
    training: str | None  # data among which copies were looked for
    features: str
    modes: str | None  # what counts as a mode, and who tells
    accuracy: Measure | None  # how often that is right on the data

    def table(self) -> list[tuple[str, ...]]:
        """Cells of a table, its head first."""
        head = ("measure", "samples", "data against data", "in theory", "from floor", "n")
        return [head, *(_cells(row) for row in self.rows)]

    def notes(self) -> list[str]:
        """What the numbers were taken with, a sentence each."""
        notes = [f"{self.samples} samples against {self.examples} examples of {self.data}.", f"{self.features}."]
        if self.modes is not None:
            told = "" if self.accuracy is None else f", right for {_number(self.accuracy)} of the data"
            notes.append(f"Modes: {self.modes}{told}.")
        if self.training is not None:
            notes.append(f"Copies were looked for in {self.training}.")
        return notes

    def text(self) -> str:
        """Table and notes for a terminal."""
        table = self.table()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in table
        ]
        return "\n".join([*lines, *self.notes()])

    def as_json(self) -> dict[str, Any]:
        """Everything, in plain values."""
        return {
            "samples": self.samples, "data": self.data, "examples": self.examples, "training": self.training,
            "features": self.features, "modes": self.modes,
            "accuracy_of_modes": None if self.accuracy is None else _plain(self.accuracy),
            "measures": [
                {
                    "key": row.key, "name": row.name, **_plain(row.value), "better": str(row.better),
                    "data_against_data": row.floor._asdict(), "in_theory": row.theory,
                    "deviations_from_floor": row.deviations, "examples": row.examples,
                }
                for row in self.rows
            ],
        }  # fmt: skip


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        _number(row.value),
        f"{row.floor.mean:.4g} ± {row.floor.spread:.2g}",
        "" if row.theory is None else f"{row.theory:.4g}",
        "" if row.deviations is None else f"{row.deviations:+.1f} sd",
        str(row.examples),
    )


def _number(value: Measure) -> str:
    if value.unit.startswith("of "):
        return f"{value.value:.0f} {value.unit}"
    return f"{value.value:.4g} ± {value.standard_error:.2g}"


def _plain(value: Measure) -> dict[str, Any]:
    return {**value._asdict(), "kind": str(value.kind)}


def judgement(
    samples: Tensor, data: ArrayData, *, name: str | None = None, training: ArrayData | None = None, seed: int = 0
) -> Judgement:
    """Judges samples against data.

    Pictures are compared by features of the classifier that ships with the package, everything else by its elements
    in standard deviations of the data. Modes are the digits of MNIST, told by the classifier, alone or stacked; the
    Gaussians of a named mixture, told by the nearest centre; or else the labels of the data, told by the nearest
    labelled example.

    Args:
        samples: `(m, *event)`; of 8-bit data uint8 levels, or floats in [0, 1]; else in the unit of the data.
        data: to compare with, best held out, as `open_data(name, split="test")`.
        name: "mnist", "stacked-mnist", "gaussian-grid" or "gaussian-ring", if the data are these.
        training: what the model has learned from; None: nothing is said of copies.
        seed: of subsets, splits and directions.

    Raises:
        ShapeError: samples or training data of another shape than the data, or too few of something.
        DataError: an element is not finite, or the data do not vary.
    """
    shapes = {"samples": tuple(samples.shape[1:])} | ({} if training is None else {training.name: training.event})
    for what, shape in shapes.items():
        if shape != data.event:
            raise ShapeError(f"{what} have shape {shape}, but {data.name} has {data.event}. Bring them to one shape.")
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(data), generator=generator)[: 2 * len(samples)].sort().values  # all that can be compared
    values, labels = data.values[rows], None if data.labels is None else data.labels[rows]
    look, words = _looking(data)
    reference, seen = look(values), look(samples)
    modes = _modes(name, (values, samples), (reference, seen), labels)
    known = None
    if training is not None:
        chosen = torch.randperm(len(training), generator=generator)[:MOST_TRAINING]
        known = look(training.values[chosen]).features
    found = judge(
        Examples(seen.features, modes.of_samples, modes.good_samples),
        Examples(reference.features, modes.of_data, modes.good_data),
        generator, modes=modes.number, training=known, round_modes=modes.good_data is not None,
    )  # fmt: skip
    return Judgement(
        found, len(samples), data.name, len(rows), None if training is None else training.name, words, modes.words,
        modes.accuracy,
    )  # fmt: skip


# --- features ------------------------------------------------------------------------------------------------------


class _Looked(NamedTuple):
    features: Tensor  # (n, d)
    digits: Tensor | None  # (n, channels)


def _looking(data: ArrayData) -> tuple[Callable[[Tensor], _Looked], str]:
    """What turns values into features, and its description."""
    if len(data.event) != 3:
        features = standardised(data.values)
        return (
            lambda values: _Looked(features(values), None),
            f"Features: the {data.values[0].numel()} elements, in standard deviations of the data",
        )
    low, high = (0.0, 1.0) if data.kind is not Kind.REAL else (float(data.values.min()), float(data.values.max()))

    def look(values: Tensor) -> _Looked:
        parts = []
        for part in values.split(AT_ONCE):
            exact = data.kind is Kind.BYTES and part.dtype == torch.uint8
            parts.append(see(part if exact else (part.float() - low) / max(high - low, 1e-30)))
        return _Looked(torch.cat([p.features for p in parts]), torch.cat([p.labels for p in parts]))

    card, channels = digits_card(), data.event[0]
    return look, (
        f"Features: {FEATURES * channels} of the classifier '{card['name']}' of this package, {FEATURES} of each "
        "channel; distances compare within this classifier only"
    )


# --- modes ---------------------------------------------------------------------------------------------------------


class _Modes(NamedTuple):
    number: int | None = None
    words: str | None = None
    accuracy: Measure | None = None
    of_data: Tensor | None = None
    of_samples: Tensor | None = None
    good_data: Tensor | None = None
    good_samples: Tensor | None = None


def _modes(
    name: str | None, values: tuple[Tensor, Tensor], looked: tuple[_Looked, _Looked], labels: Tensor | None
) -> _Modes:
    """Modes of data and samples, as far as there are any."""
    name = (name or "").partition(":")[0]
    if name in MIXTURES:
        return _of_mixture(name, *values)
    if name in ("mnist", STACKED):
        return _of_digits(*looked, labels)
    if labels is not None and labels.ndim == 1 and not labels.is_floating_point():
        return _of_labels(*looked, labels)
    return _Modes()


def _of_mixture(name: str, *values: Tensor) -> _Modes:
    source = MIXTURES[name]()
    told = [nearest_centres(x, torch.from_numpy(source.means)) for x in values]
    good = [distance <= WITHIN * source.scale for _, distance in told]
    return _Modes(
        len(source.means), f"{len(source.means)} Gaussians of {name}; high quality is within {WITHIN:g} sd of a centre",
        None, told[0][0], told[1][0], *good,
    )  # fmt: skip


def _of_digits(reference: _Looked, seen: _Looked, labels: Tensor | None) -> _Modes:
    assert reference.digits is not None
    assert seen.digits is not None
    channels = reference.digits.shape[1]
    places = 10 ** torch.arange(channels).flip(0)
    told, of_samples = reference.digits @ places, seen.digits @ places
    accuracy = None if labels is None else mean_of((told == labels).double(), "share", Statement.ESTIMATE)
    words = f"{10**channels} classes of digits, told by the classifier"
    return _Modes(10**channels, words, accuracy, told, of_samples)


def _of_labels(reference: _Looked, seen: _Looked, labels: Tensor) -> _Modes:
    classes, index = labels.unique(return_inverse=True)
    if not 2 <= len(classes) <= MOST_CLASSES:
        return _Modes()
    told, accuracy = leave_one_out(reference.features, index)
    of_samples = labels_of_neighbours(seen.features, reference.features, index)
    words = f"{len(classes)} labels of the data, told by the nearest example"
    return _Modes(len(classes), words, accuracy, told, of_samples)
