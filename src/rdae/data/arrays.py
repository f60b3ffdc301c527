"""Examples in memory, of a declared kind, and batches of them: the same ones whenever the same step is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import NoReturn, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rdae.errors import DataError

__all__ = ["ArrayBatches", "ArrayData", "Binarisation", "Kind", "as_floats", "as_kind", "binarise", "steps_for_epochs"]

BRIGHT = 128  # the least level whose probability of a one, g / 255, is above 1/2
PERMUTATION, DYNAMIC_DRAW, STATIC_DRAW = range(3)  # keep the streams of one seed apart
CHUNK = 1 << 22  # elements binarised at once

_Choice = TypeVar("_Choice", bound=StrEnum)


class Kind(StrEnum):
    """What the numbers of a data set are, and so which likelihoods are meant for them."""

    BINARY = "binary"  # 0 or 1, stored as uint8: Bernoulli
    BYTES = "8-bit"  # whole levels 0 to 255, stored as uint8, [0, 1] in networks: categorical, logistic mixture
    REAL = "real"  # finite numbers of any shape and unit, float32: Gaussian, Laplace
    TABULAR = "tabular"  # real, (n, columns), each column with a unit of its own


class Binarisation(StrEnum):
    """How grey values become zeros and ones. A grey value g from 0 to 255 is the probability g/255 of a one."""

    NONE = "none"
    THRESHOLD = "threshold"  # one where that probability is above 1/2
    STATIC = "static"  # drawn once, with the seed
    DYNAMIC = "dynamic"  # drawn anew at every step


def as_kind(kind: str) -> Kind:
    """The kind of that name.

    Raises:
        DataError: there is none.
    """
    return _member(Kind, kind, "kind")


def _member(choices: type[_Choice], name: str, argument: str) -> _Choice:
    try:
        return choices(name)
    except ValueError:
        known = ", ".join(repr(str(choice)) for choice in choices)
        raise DataError(f"{name!r} is no {argument}. Choose {argument} from {known}.") from None


@dataclass(frozen=True, eq=False)
class ArrayData:
    """Examples in memory, checked when made.

    Args:
        values: `(n, *event)` on the CPU, uint8 for kinds binary and 8-bit, float32 for real and tabular. Pictures are
            channel-first, `(n, channels, H, W)`. Not copied where contiguous.
        kind: what the numbers are.
        labels: `(n,)` or `(n, k)`, or None. No model sees them; they are for judging.
        name: file or argument that messages name.

    Raises:
        DataError: empty, of the wrong type or shape, or with an element that its kind excludes.
    """

    values: Tensor
    kind: Kind
    labels: Tensor | None = None
    name: str = "values"

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", as_kind(self.kind))
        values, shape = self.values.detach().contiguous(), tuple(self.values.shape)
        due = torch.uint8 if self.kind in (Kind.BINARY, Kind.BYTES) else torch.float32
        if values.dtype != due or values.device.type != "cpu":
            raise DataError(
                f"{self.name}: {self.kind} data are held as {due} on the CPU, but these are {values.dtype} on "
                f"{values.device}. Use open_data, which converts, or convert with .to('cpu', {due})."
            )
        if len(shape) < 2:
            raise DataError(f"{self.name} has shape {shape}, not (n, *event). Reshape n single numbers to (n, 1).")
        if 0 in shape:
            raise DataError(
                f"{self.name} is empty: its shape is {shape}. Check the file or the selection it came from."
            )
        if self.kind is Kind.TABULAR and len(shape) != 2:
            raise DataError(
                f"{self.name} has shape {shape}, but a table is (n, columns). Flatten it, or use kind 'real'."
            )
        if self.labels is not None and (self.labels.ndim == 0 or len(self.labels) != shape[0]):
            raise DataError(
                f"{self.name} has {shape[0]} examples, but its labels have shape {tuple(self.labels.shape)}. "
                "Pass one label for each example, in the same order."
            )
        check_elements(values.numpy(), self.kind, self.name)
        object.__setattr__(self, "values", values)

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over the examples, `event` each; computed once, not to be written to."""
        y = as_floats(self.values, self.kind)
        return y.mean(0), y.std(0) if len(y) > 1 else torch.ones_like(y[0])

    def __len__(self) -> int:
        return len(self.values)

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.values.shape[1:])


def check_elements(values: np.ndarray, kind: Kind, name: str) -> None:
    """Refuses elements that a kind excludes: all but 0 and 1 in binary data, NaN and infinities in real ones.

    Raises:
        DataError: with the index of the first of them.
    """
    if kind is Kind.BINARY:
        refuse_where(
            (values != 0) & (values != 1), values, name, "Binary data are 0 or 1",
            "Divide masks of 0 and 255 by 255, or use kind '8-bit' and choose a binarisation",
        )  # fmt: skip
    elif kind is not Kind.BYTES:
        refuse_where(
            ~np.isfinite(values), values, name, f"{kind.capitalize()} data are finite float32",
            "Drop this example, or fill such values in and scale those beyond 3e38",
        )  # fmt: skip


def refuse_where(bad: np.ndarray, values: np.ndarray, name: str, rule: str, cure: str) -> None:
    """Raises DataError with index and value of the first element where `bad` holds, if there is one."""
    first = int(bad.argmax()) if bad.size else 0
    index = np.unravel_index(first, bad.shape)
    if bad.size and bad[index]:
        place = ", ".join(str(int(i)) for i in index)
        raise DataError(f"{name}: element [{place}] is {values[index]}. {rule}. {cure}.")


def as_floats(values: Tensor, kind: Kind) -> Tensor:
    """Values as networks take them, float32 of the same shape: levels 0 to 255 become [0, 1], the rest stay."""
    return values.float().div_(255) if kind is Kind.BYTES else values.float()


def binarise(data: ArrayData, how: Binarisation, *, seed: int) -> ArrayData:
    """Zeros and ones in place of grey values, the same ones for a seed; `data` itself for `Binarisation.NONE`.

    Raises:
        DataError: the data are not 8-bit, or `how` is dynamic, which only `ArrayBatches` can be.
    """
    how = _member(Binarisation, how, "binarisation")
    if how is Binarisation.NONE:
        return data
    if data.kind is not Kind.BYTES:
        _refuse_binarisation(data, how)
    if how is Binarisation.DYNAMIC:
        raise DataError(f"{data.name}: a dynamic binarisation has no fixed values. Use 'static' for one draw.")
    grey = data.values.numpy()
    if how is Binarisation.THRESHOLD:
        ones = (grey >= BRIGHT).view(np.uint8)
    else:
        bits = np.random.SFC64([seed, STATIC_DRAW])
        ones = np.empty_like(grey)
        flat, source = ones.reshape(-1), grey.reshape(-1)
        for start in range(0, flat.size, CHUNK):
            part = slice(start, start + CHUNK)
            flat[part] = _uniform_levels(bits, source[part].size) < source[part]
    return replace(data, values=torch.from_numpy(ones), kind=Kind.BINARY, name=f"{data.name} ({how})")


def _refuse_binarisation(data: ArrayData, how: Binarisation) -> NoReturn:
    cure = "Use binarisation 'none'" if data.kind is Kind.BINARY else "Scale to 0...255 and use kind '8-bit'"
    raise DataError(f"{data.name} is {data.kind}; only 8-bit values can be binarised ({how}). {cure}.")


def _uniform_levels(bits: np.random.SFC64, count: int) -> np.ndarray:
    """Random numbers uniform over 0 to 254, `(count,)` uint8: each is below a grey value g with probability g/255
    exactly. A random byte is drawn again where it is 255: exact as float32 uniforms are not, and faster."""
    drawn = _random_bytes(bits, count)
    again = np.flatnonzero(drawn == 255)
    while again.size:
        drawn[again] = _random_bytes(bits, again.size)
        again = again[drawn[again] == 255]
    return drawn


def _random_bytes(bits: np.random.SFC64, count: int) -> np.ndarray:
    return bits.random_raw((count + 7) // 8).astype("<u8", copy=False).view(np.uint8)[:count]


def steps_for_epochs(examples: int, batch: int, epochs: float = 1) -> int:
    """Batches after which every example has been shown `epochs` times; the last may begin the next epoch."""
    return math.ceil(epochs * examples / batch)


class ArrayBatches(Dataset):
    """Item n is the batch of step n: `(batch / world, *event)` float32, as `as_floats` makes it.

    The batches cut one long sequence: a permutation of all examples, then another, and so on. Each permutation and each
    dynamic draw comes from the seed and its own number, so a run that resumes at step n sees what it would have seen.

    Args:
        data: the examples.
        batch: examples per step, over all processes.
        steps: number of items.
        seed: of permutations and binarisation.
        binarisation: of 8-bit data.
        rank, world: this process takes its contiguous share of each batch.

    Raises:
        DataError: the batch is not positive or does not split, or these data cannot be binarised.
    """

    def __init__(
        self,
        data: ArrayData,
        *,
        batch: int,
        steps: int,
        seed: int,
        binarisation: Binarisation = Binarisation.NONE,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch < 1 or batch % world:
            raise DataError(
                f"A batch of {batch} does not split over {world} processes. Choose a positive multiple of {world}."
            )
        binarisation = _member(Binarisation, binarisation, "binarisation")
        self.dynamic = binarisation is Binarisation.DYNAMIC
        if self.dynamic and data.kind is not Kind.BYTES:
            _refuse_binarisation(data, binarisation)
        self.data = data if self.dynamic else binarise(data, binarisation, seed=seed)
        self.kind = Kind.BINARY if self.dynamic else self.data.kind
        self.batch, self.steps, self.seed = batch, steps, seed
        self.share = slice(rank * batch // world, (rank + 1) * batch // world)
        self._orders: dict[int, Tensor] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every example has been shown; where the last batch begins the next epoch, it counts."""
        return steps_for_epochs(len(self.data), self.batch)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Tensor:
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of {self.steps}")
        values = self.data.values.index_select(0, self.indices(step))
        if self.dynamic:
            return self._drawn(values, step)
        return as_floats(values, self.kind)

    def indices(self, step: int) -> Tensor:
        """Which examples this process sees at a step, `(batch / world,)` int64."""
        examples = len(self.data)
        start, stop = step * self.batch + self.share.start, step * self.batch + self.share.stop
        parts = []
        while start < stop:
            epoch, offset = divmod(start, examples)
            parts.append(self._order(epoch)[offset : offset + stop - start])
            start += len(parts[-1])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            while len(self._orders) > 1:  # a batch at a border needs two
                del self._orders[min(self._orders)]
            rng = np.random.default_rng([self.seed, PERMUTATION, epoch])
            self._orders[epoch] = torch.from_numpy(rng.permutation(len(self.data)))
        return self._orders[epoch]

    def _drawn(self, grey: Tensor, step: int) -> Tensor:
        bits = np.random.SFC64([self.seed, DYNAMIC_DRAW, step])
        each = grey[0].numel()
        noise = _uniform_levels(bits, self.batch * each)  # of the whole batch, so that shares join to the batch of one
        noise = noise[self.share.start * each : self.share.stop * each].reshape(grey.shape)
        ones = noise < grey.numpy()
        return torch.from_numpy(ones.view(np.uint8)).float()
