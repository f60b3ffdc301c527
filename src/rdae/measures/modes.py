"""How many modes of a known mixture a sampler reaches, how evenly, and how well its samples sit on them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rdae.errors import DataError, ShapeError
from rdae.measures.measure import Kind, Measure, mean_of
from rdae.measures.pairs import AT_ONCE, as_samples, squared_distances

__all__ = ["ModeCoverage", "histogram_floor", "mode_coverage", "modes_covered", "perfect_share", "reverse_kl"]


class ModeCoverage(NamedTuple):
    """What a sampler makes of a mixture of equal, round Gaussians."""

    covered: int  # modes that own a sample of high quality
    modes: int
    high_quality: Measure  # share of samples; a perfect sampler has `perfect`, not 1
    perfect: float
    reverse_kl: Measure  # of all samples, each counted to its nearest mode, to equal shares, in nats
    reverse_kl_floor: float  # what a perfect sampler has on average


@torch.no_grad()
def mode_coverage(x: Tensor, centres: Tensor, sd: float, within: float = 3.0) -> ModeCoverage:
    """Modes covered, share of high quality and reverse KL (Srivastava et al. 2017; Lin et al. 2018).

    A sample is of high quality within 3 standard deviations of a centre.

    Args:
        x: samples `(n, d)`.
        centres: `(modes, d)`.
        sd: standard deviation of every mode.
        within: standard deviations that a sample of high quality may be away.

    Raises:
        ShapeError: not two tables of one width.
        DataError: an element is not finite.
    """
    x, centres = as_samples(x, centres, least=1)
    nearest = [squared_distances(part, centres).min(1) for part in x.split(max(1, AT_ONCE // len(centres)))]
    labels = torch.cat([found.indices for found in nearest])
    good = torch.cat([found.values for found in nearest]) <= (within * sd) ** 2
    return ModeCoverage(
        modes_covered(labels[good]),
        len(centres),
        mean_of(good.double(), "share", Kind.ESTIMATE),
        perfect_share(x.shape[1], within),
        reverse_kl(labels, len(centres)),
        histogram_floor(len(centres), len(x)),
    )


def perfect_share(dimensions: int, within: float = 3.0) -> float:
    """Share of a Gaussian within so many standard deviations; `1 - exp(-9/2) = 0.98889` for 3 in the plane."""
    half = torch.tensor([dimensions / 2, within**2 / 2], dtype=torch.float64)
    return float(torch.special.gammainc(half[0], half[1]))


def modes_covered(labels: Tensor) -> int:
    """Different labels, `(n,)`, such as the classes that a classifier sees in samples."""
    return len(labels.unique())


def reverse_kl(labels: Tensor, modes: int) -> Measure:
    """KL divergence of the labels' histogram to equal shares, in nats: `ln modes - entropy`, 0 to `ln modes`.

    Too large on average, as entropies of histograms are too small: an upper bound in expectation, whose floor is
    `histogram_floor`.

    Args:
        labels: `(n,)` integers from 0 to modes - 1.
        modes: their number.

    Raises:
        ShapeError: not a list of labels.
        DataError: a label out of range.
    """
    if labels.ndim != 1 or len(labels) == 0:
        raise ShapeError(f"Labels are {tuple(labels.shape)}. Pass (n,), one integer a sample.")
    if labels.min() < 0 or labels.max() >= modes:
        raise DataError(
            f"Labels go from {labels.min()} to {labels.max()}. For {modes} modes they are 0 to {modes - 1}."
        )
    shares = torch.bincount(labels, minlength=modes).double() / len(labels)
    return mean_of((shares[labels] * modes).log(), "nats", Kind.UPPER)


def histogram_floor(modes: int, samples: int) -> float:
    """`(modes - 1) / (2 samples)` nats: the mean reverse KL of a perfect sampler, to first order in 1 / samples."""
    if modes < 1 or samples < 1:
        raise DataError(f"There are {modes} modes and {samples} samples. Pass 1 or more of each.")
    return (modes - 1) / (2 * samples)
