"""Samples judged: distances, nearest neighbours, modes and copies, each beside what data against data give."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

import torch
from torch import Tensor

from rdae.errors import DataError, ShapeError
from rdae.measures.copying import copied_share, nearer_share, nearest_squared
from rdae.measures.floor import Floor
from rdae.measures.frechet import frechet_distance
from rdae.measures.manifold import density_coverage, expected_coverage, precision_recall
from rdae.measures.measure import Kind, Measure, mean_of
from rdae.measures.mmd import energy_distance, kid, mmd, rbf
from rdae.measures.modes import histogram_floor, modes_covered, perfect_share, reverse_kl
from rdae.measures.transport import sliced_transport

__all__ = ["LEAST", "Better", "Examples", "Row", "judge", "standardised"]

LEAST = 8  # examples of each sample; fewer have no neighbours to speak of
MOST = 10_000  # examples of each sample that distances look at
NEIGHBOURS = 2500  # examples of each sample of which all pairs are looked at
SUBSET = 1000  # of the kernel distance
REPETITIONS = 10
NEAREST_SAMPLE, NEAREST_BALL = 3, 5  # the neighbours that set radii, as published
NAMES = {
    "frechet": "Fréchet distance",
    "kid": "kernel distance (KID)",
    "mmd": "MMD², Gaussian kernel",
    "energy": "energy distance",
    "sliced_1": "sliced W₁",
    "sliced_2": "sliced W₂, squared",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "covered": "modes covered",
    "quality": "high quality",
    "reverse_kl": "reverse KL of modes",
    "nearer": "nearer to training than held-out data",
    "copies": "copies of training examples",
}  # fmt: skip


class Better(StrEnum):
    """Which values of a measure speak for the samples."""

    LESS = "less"
    MORE = "more"
    HALF = "one half"


class Examples(NamedTuple):
    """What a judge sees of examples, row k of each being example k."""

    features: Tensor  # (n, d)
    modes: Tensor | None = None  # (n,) int64 from 0, the mode that each belongs to
    good: Tensor | None = None  # (n,) bool, whether it lies on its mode


class Row(NamedTuple):
    """One measure of samples."""

    key: str
    value: Measure
    floor: Floor  # data against data at the same size; where more is better, a ceiling
    theory: float | None  # mean of a perfect sampler, where a formula gives it
    better: Better
    examples: int  # of each sample

    @property
    def name(self) -> str:
        """As tables call it."""
        return NAMES[self.key]

    @property
    def deviations(self) -> float | None:
        """How far the value is from its floor, in standard deviations of one value of data against data."""
        if not self.floor.spread > 0:
            return None
        return (self.value.value - self.floor.mean) / (self.floor.spread * math.sqrt(1 + 1 / self.floor.repetitions))


def standardised(reference: Tensor) -> Callable[[Tensor], Tensor]:
    """Features of examples that are no pictures: their elements, about the reference's mean and in its deviations.

    Elements that do not vary are only moved.
    """
    flat = reference.detach().flatten(1).double()
    mean, std = flat.mean(0), flat.std(0)
    std = torch.where(std > 0, std, 1.0)
    return lambda values: (values.flatten(1).double() - mean) / std


@torch.no_grad()
def judge(
    samples: Examples,
    reference: Examples,
    generator: torch.Generator,
    *,
    modes: int | None = None,
    training: Tensor | None = None,
    round_modes: bool = False,
) -> list[Row]:
    """Every measure of samples against a reference, with its floor.

    Both are shuffled. n is the lesser of the number of samples and half the number of reference examples; floors are
    over ten splits of the reference into two samples of n. Distances look at no more than 10,000 of the n,
    neighbours, kernels and slices at 2500; measures of modes look at all.

    Args:
        samples: what is judged.
        reference: data, best such as the model has not seen.
        generator: draws subsets, splits and directions.
        modes: number of modes; None: nothing is said of modes.
        training: features of the data that the model has seen, `(k, d)`; None: nothing is said of copies.
        round_modes: modes are round Gaussians and `good` means within three of their standard deviations, of as many
            dimensions as there are features.

    Raises:
        ShapeError: features of different widths, or fewer than 8 samples or 16 reference examples.
        DataError: an element is not finite, the reference does not vary, or the modes of examples are not known.
    """
    _check(samples, reference, modes)
    samples = _taken(samples, torch.randperm(len(samples.features), generator=generator))
    n = min(len(samples.features), len(reference.features) // 2)
    spread = math.sqrt(2 * float(reference.features.double().var(0).sum()))  # root mean square distance of two
    if not spread > 0:
        raise DataError("All reference examples are equal, so there is nothing to compare with. Pass other data.")

    judged, halves = _taken(samples, slice(n)), _halves(len(reference.features), n, generator)
    values = dict(_measured(_taken(reference, halves[0]), judged, spread, modes, generator))
    floors = []
    for _ in range(REPETITIONS):
        one, other = (_taken(reference, half) for half in _halves(len(reference.features), n, generator))
        floors.append(dict(_measured(one, other, spread, modes, generator)))
    size = {key: int(min(n, _most(key))) for key in values}
    theory = _theory(size, modes, reference.features.shape[1] if round_modes else None)
    rows = [
        Row(key, value, Floor.of([found[key].value for found in floors]), theory.get(key), _better(key), size[key])
        for key, value in values.items()
    ]
    if training is not None:
        shuffled = reference.features[torch.cat(halves)]
        rows += _copies(judged.features, shuffled, training, generator)
    return rows


def _check(samples: Examples, reference: Examples, modes: int | None) -> None:
    for name, examples, least in (("samples", samples, LEAST), ("reference examples", reference, 2 * LEAST)):
        features = examples.features
        if features.ndim != 2 or len(features) < least or features.shape[1] != reference.features.shape[1]:
            raise ShapeError(
                f"There are {name} {tuple(features.shape)}, the reference is {tuple(reference.features.shape)}. Pass "
                f"tables (n, d) of one width, of {least} {name} or more."
            )
        if not features.isfinite().all():
            raise DataError(f"Among the {name} is one that is not finite. Look for it where it was made.")
        if modes is not None and examples.modes is None:
            raise DataError(f"The modes of {name} are not known. Pass them, or leave modes out.")


def _taken(examples: Examples, rows: Tensor | slice) -> Examples:
    return Examples(*(None if part is None else part[rows] for part in examples))  # type: ignore[arg-type]


def _halves(count: int, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of two disjoint samples of n out of so many."""
    order = torch.randperm(count, generator=generator)
    return order[:n], order[n : 2 * n]


def _measured(
    real: Examples, fake: Examples, spread: float, modes: int | None, generator: torch.Generator
) -> Iterator[tuple[str, Measure]]:
    x, y = real.features[:MOST], fake.features[:MOST]
    yield "frechet", frechet_distance(x, y)
    yield "kid", kid(x, y, generator, min(SUBSET, len(x) // 4))
    x, y = x[:NEIGHBOURS], y[:NEIGHBOURS]
    yield "mmd", mmd(x, y, rbf(spread))
    yield "energy", energy_distance(x, y)
    yield "sliced_1", sliced_transport(x, y, generator)
    yield "sliced_2", sliced_transport(x, y, generator, power=2)
    yield from zip(("precision", "recall"), precision_recall(x, y, NEAREST_SAMPLE), strict=True)
    yield from zip(("density", "coverage"), density_coverage(x, y, NEAREST_BALL), strict=True)
    if modes is not None and fake.modes is not None:
        on_mode = fake.modes if fake.good is None else fake.modes[fake.good]
        yield "covered", Measure(modes_covered(on_mode), 0.0, f"of {modes}", Kind.LOWER)
        if fake.good is not None:
            yield "quality", mean_of(fake.good.double(), "share", Kind.ESTIMATE)
        yield "reverse_kl", reverse_kl(fake.modes, modes)


def _most(key: str) -> int | float:
    if key in ("covered", "quality", "reverse_kl"):
        return math.inf
    return MOST if key in ("frechet", "kid") else NEIGHBOURS


def _better(key: str) -> Better:
    more = {"precision", "recall", "density", "coverage", "covered", "quality"}
    return Better.MORE if key in more else Better.LESS


def _theory(size: dict[str, int], modes: int | None, dimensions: int | None) -> dict[str, float]:
    found = {"kid": 0.0, "mmd": 0.0, "energy": 0.0, "density": 1.0}
    found["coverage"] = expected_coverage(size["coverage"], NEAREST_BALL)
    if modes is not None and size["reverse_kl"] >= 4 * modes:  # of first order: 4 % off there, useless below one each
        found["reverse_kl"] = histogram_floor(modes, size["reverse_kl"])
    if dimensions is not None:
        found["quality"] = perfect_share(dimensions)
    return found


def _copies(samples: Tensor, reference: Tensor, training: Tensor, generator: torch.Generator) -> Iterator[Row]:
    n = min(len(samples), len(reference) // 2, NEIGHBOURS)
    of_samples, of_reference = (nearest_squared(x, training) for x in (samples[:n], reference[: 2 * n]))
    orders = [torch.randperm(2 * n, generator=generator).split(n) for _ in range(REPETITIONS)]
    nearer = [nearer_share(of_reference[a], of_reference[b]).value for a, b in orders]
    yield Row("nearer", nearer_share(of_samples, of_reference[:n]), Floor.of(nearer), 0.5, Better.HALF, n)
    copied = [copied_share(of_reference[a], training).value for a, _ in orders]
    yield Row("copies", copied_share(of_samples, training), Floor.of(copied), None, Better.LESS, n)
