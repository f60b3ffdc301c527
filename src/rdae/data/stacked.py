"""Stacked MNIST: three digits, drawn independently, as the three colours of a picture: a thousand like classes.

A test of how many modes a generative model finds (Metz et al. 2016; Srivastava et al. 2017). The usual protocol trains
on 128,000 triples and judges 26,000 samples.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from rdae.data.arrays import ArrayData, Kind
from rdae.data.named import load_named, part_of
from rdae.errors import DataError

__all__ = ["CLASSES", "TRIPLES", "stacked_mnist"]

CLASSES = 1000
TRIPLES = {"train": 60_000, "test": 52_000}  # 141 and 122 MB; the latter are two samples of 26,000 for a floor
SEEDS = {"train": 0, "test": 1}


def stacked_mnist(
    *, split: str = "train", count: int | None = None, seed: int | None = None, folder: str | Path | None = None
) -> ArrayData:
    """Triples of digits, `(count, 3, 28, 28)`, 8-bit, 2352 bytes each; labels 0 to 999 are the digits read in order.

    Args:
        split: "train" or "test", of which digits they are drawn, with replacement.
        count: of triples; None: 60,000 for training and 52,000 for testing.
        seed: of the draw; None: one of its own for each split. The first triples of a longer draw are not those of a
            shorter one.
        folder: holds the files of MNIST, see `load_named`.

    Raises:
        DataError: no such split, no triples, or MNIST is not there.
    """
    part_of(split)
    count = TRIPLES[split] if count is None else count
    if count < 1:
        raise DataError(f"{count} triples of digits are no data. Ask for 1 or more.")
    digits = load_named("mnist", split=split, folder=folder)
    assert digits.labels is not None
    rng = np.random.default_rng(SEEDS[split] if seed is None else seed)
    rows = torch.from_numpy(rng.integers(len(digits), size=(count, 3)))
    values = torch.empty(count, 3, 28, 28, dtype=torch.uint8)
    for colour in range(3):
        values[:, colour] = digits.values[rows[:, colour], 0]
    labels = digits.labels[rows] @ torch.tensor([100, 10, 1])
    return ArrayData(values, Kind.BYTES, labels, f"stacked-mnist {split}")
