"""Which mode each example belongs to, told by a nearest centre or by a nearest labelled example."""

from __future__ import annotations

import torch
from torch import Tensor

from rdae.errors import DataError, ShapeError
from rdae.measures.measure import Kind, Measure, mean_of
from rdae.measures.pairs import AT_ONCE, as_samples, squared_distances

__all__ = ["labels_of_neighbours", "leave_one_out", "nearest_centres"]


@torch.no_grad()
def nearest_centres(x: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the nearest centre of each example, `(n,)` int64, and the distance to it, `(n,)` float64.

    Args:
        x: `(n, d)`.
        centres: `(modes, d)`.

    Raises:
        ShapeError: not two tables of one width.
        DataError: an element is not finite.
    """
    x, centres = as_samples(x, centres, least=1)
    found = [squared_distances(part, centres).min(1) for part in x.split(max(1, AT_ONCE // len(centres)))]
    return torch.cat([part.indices for part in found]), torch.cat([part.values for part in found]).sqrt()


def labels_of_neighbours(x: Tensor, known: Tensor, labels: Tensor) -> Tensor:
    """The label of the nearest known example, `(n,)`.

    Args:
        x: features `(n, d)`.
        known: features `(m, d)`.
        labels: of the known examples, `(m,)`.

    Raises:
        ShapeError: the tables are not of one width, or there is not one label for each known example.
        DataError: an element is not finite.
    """
    _check(known, labels)
    return labels[nearest_centres(x, known)[0]]


@torch.no_grad()
def leave_one_out(known: Tensor, labels: Tensor) -> tuple[Tensor, Measure]:
    """The label of each known example's nearest other, `(m,)`, and how often it is the right one.

    Args:
        known: features `(m, d)`, m >= 2.
        labels: `(m,)`.

    Raises:
        ShapeError: there is not one label for each example.
        DataError: an element is not finite.
    """
    _check(known, labels)
    known, _ = as_samples(known, known)
    found, rows = [], max(1, AT_ONCE // len(known))
    for start in range(0, len(known), rows):
        distances = squared_distances(known[start : start + rows], known)
        distances.diagonal(start).fill_(torch.inf)
        found.append(labels[distances.argmin(1)])
    told = torch.cat(found)
    return told, mean_of((told == labels).double(), "share", Kind.ESTIMATE)


def _check(known: Tensor, labels: Tensor) -> None:
    if labels.ndim != 1 or len(labels) != len(known):
        raise ShapeError(
            f"There are {len(known)} known examples, but labels are {tuple(labels.shape)}. Pass one label for each."
        )
    if labels.is_floating_point():
        raise DataError(f"Labels are {labels.dtype}, but a mode is a whole number. Convert them with .long().")
