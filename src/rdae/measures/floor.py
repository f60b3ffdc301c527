"""The floor of a measure: its value where nothing is wrong but chance. No sampler should be asked to go below it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rdae.errors import DataError
from rdae.measures.independence import product_of_marginals
from rdae.measures.measure import Measure

__all__ = ["Floor", "WithFloor", "floor", "independence_floor", "with_floor"]


class Floor(NamedTuple):
    """Value of a measure on data against data.

    For precision, recall, density and coverage, where more is better, it is a ceiling.
    """

    mean: float  # over repetitions
    spread: float  # standard deviation over repetitions: of one value, not of the mean
    repetitions: int

    @classmethod
    def of(cls, values: list[float]) -> Floor:
        """Mean and spread of two or more values of data against data."""
        return cls(sum(values) / len(values), float(torch.tensor(values, dtype=torch.float64).std()), len(values))


class WithFloor(NamedTuple):
    """A measured value beside its floor."""

    value: Measure
    floor: Floor

    def __str__(self) -> str:
        return f"{self.value}; data against data {self.floor.mean:.4f} +- {self.floor.spread:.4f}"


def floor(
    measure: Callable[[Tensor, Tensor], Measure],
    data: Tensor,
    size: int,
    generator: torch.Generator,
    repetitions: int = 10,
) -> Floor:
    """Value of a measure between two disjoint samples of the data, `size` examples each, over random splits.

    Args:
        measure: of real against fake, such as `frechet_distance`, or
            `lambda real, fake: density_coverage(real, fake).coverage`.
        data: `(n, d)`, n at least twice `size`.
        size: as in the comparison to judge: most measures depend on it.
        generator: draws the splits.
        repetitions: 2 or more. The spread is over splits of these data; where n is not many times `size` the splits
            have much in common, and new data would spread a little more.

    Raises:
        DataError: too few examples or repetitions.
    """
    if len(data) < 2 * size:
        raise DataError(
            f"Two samples of {size} need {2 * size} examples; the data have {len(data)}. Compare fewer samples."
        )
    values = []
    for _ in range(_at_least_two(repetitions)):
        rows = torch.randperm(len(data), generator=generator)[: 2 * size]
        values.append(measure(data[rows[:size]], data[rows[size:]]).value)
    return Floor.of(values)


def with_floor(
    measure: Callable[[Tensor, Tensor], Measure],
    data: Tensor,
    samples: Tensor,
    generator: torch.Generator,
    repetitions: int = 10,
) -> WithFloor:
    """A measure of samples against as many random examples of the data, and its floor at that size.

    Args:
        measure: as in `floor`, called with data first.
        data: `(n, d)`.
        samples: `(m, d)`, m at most half of n.
        generator: draws examples.
        repetitions: as in `floor`.

    Raises:
        DataError: too few examples or repetitions.
    """
    lowest = floor(measure, data, len(samples), generator, repetitions)
    rows = torch.randperm(len(data), generator=generator)[: len(samples)]
    return WithFloor(measure(data[rows], samples), lowest)


def independence_floor(
    measure: Callable[[Tensor], Measure], z: Tensor, generator: torch.Generator, repetitions: int = 10
) -> Floor:
    """Value of a measure of dependence where none is left: on columns of `(n, d)` that were moved against each other.

    Args:
        measure: such as `dhsic` or `sample_total_correlation`.
        z: a variable a column.
        generator: shuffles.
        repetitions: 2 or more.

    Raises:
        ShapeError: fewer rows than columns.
        DataError: too few repetitions.
    """
    return Floor.of([measure(product_of_marginals(z, generator)).value for _ in range(_at_least_two(repetitions))])


def _at_least_two(repetitions: int) -> int:
    if repetitions < 2:
        raise DataError(f"{repetitions} repetitions have no spread. Ask for 2 or more.")
    return repetitions
