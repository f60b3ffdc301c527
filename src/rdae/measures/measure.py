"""A measured number: its value, how sure it is, its unit, and what kind of statement it makes."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import NamedTuple

from torch import Tensor

__all__ = ["Kind", "Measure", "mean_of", "over_draws"]


class Kind(StrEnum):
    """What a number says of the quantity it stands for."""

    EXACT = "exact"
    LOWER = "lower bound"
    UPPER = "upper bound"
    ESTIMATE = "estimate"


class Measure(NamedTuple):
    """A number with its error bar.

    Args:
        value: in `unit`.
        standard_error: of the value, over the examples or samples it is a mean of; 0 where it is exact.
        unit: such as "nats per example".
        kind: exact, a bound in expectation, or an estimate.
    """

    value: float
    standard_error: float
    unit: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.value:.4f} +- {self.standard_error:.4f} {self.unit} ({self.kind})"


def mean_of(values: Tensor, unit: str, kind: Kind) -> Measure:
    """Mean and standard error of independent values, `(n,)`."""
    error = float(values.double().std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Measure(float(values.double().mean()), error, unit, kind)


def over_draws(values: Tensor) -> Measure:
    """Mean of `(draws, n)` in nats per example, and its error over draws: the examples are given."""
    values = values.detach().double()
    error = math.sqrt(float(values.var(0).mean()) / values.numel())
    return Measure(float(values.mean()), error, "nats per example", Kind.ESTIMATE)
