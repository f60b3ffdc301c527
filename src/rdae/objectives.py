"""The one equation: rate + lam * distortion."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from rdae.errors import ShapeError

__all__ = ["BITS_PER_NAT", "Terms", "rate_distortion"]

BITS_PER_NAT = 1 / math.log(2)


class Terms(NamedTuple):
    """The two terms, apart: a sum of them means little without its parts."""

    rate: Tensor  # nats per example, (batch,)
    distortion: Tensor  # per example, in the unit of the distortion, (batch,)


def rate_distortion(terms: Terms, lam: Tensor | float) -> Tensor:
    """`rate + lam * distortion` of each example, in nats; the expectation over data covers both terms.

    Args:
        terms: rate and distortion of each example.
        lam: one number, or one per example `(batch,)`, in nats per unit of distortion. Large: low distortion.
    """
    if terms.rate.shape != terms.distortion.shape:
        raise ShapeError(
            f"rate is {tuple(terms.rate.shape)} but distortion is {tuple(terms.distortion.shape)}. "
            "Both must hold one number per example: sum over the other dimensions."
        )
    return terms.rate + lam * terms.distortion
