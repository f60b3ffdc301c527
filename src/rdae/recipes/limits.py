"""How few nats would do? The rate-distortion function of data between what a model reaches and a bound below it.

Above: noisy-channel autoencoders, trained for several lam. The mean of KL(q(z | y) || p(z)) is never below the mutual
information of the data and their reconstruction, so each model is a point on or above the curve. Above too: the linear
channel that is best for a Gaussian of the same covariance, the hardest source of all that share it. Below: learned
tangents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.coding.files import whole_file
from rdae.data.arrays import ArrayData, as_floats
from rdae.errors import DataError
from rdae.measures.measure import Kind, Measure, mean_of
from rdae.measures.rate_distortion import water_filling_at_rate
from rdae.measures.rate_lower_bound import Tangent, learned_tangent
from rdae.objectives import BITS_PER_NAT
from rdae.recipes.model_file import open_model
from rdae.recipes.order import Order, with_held_out
from rdae.recipes.sweep import sweep, trials

__all__ = [
    "BITS", "Axes", "Limit", "Limits", "as_plain", "axes_of", "lams_for", "limits_of", "linear_point", "measured",
    "operating_point",
]  # fmt: skip

BITS = (0.1, 0.3, 1.0, 2.0)  # per dimension, of the Gaussian whose curve the multipliers are read from
AT_ONCE = 1 << 22  # elements of examples
DIMENSION_MAX = 4096
HELD_OUT = 5  # one example in so many, where nothing else is held out
DRAWS = 4  # latents of each example


class Limit(NamedTuple):
    """Where R(D) lies at the distortion of one model. Rates in nats per example, distortion a squared error summed."""

    lam: float
    distortion: Measure
    upper: Measure  # rate of the model
    linear: tuple[Measure, Measure]  # rate and distortion of the best channel of a Gaussian of the same covariance
    lower: Measure  # the tangent of the same lam at that distortion; 0 or less says nothing

    @property
    def vacuous(self) -> bool:
        """Whether the lower bound says nothing."""
        return self.lower.value <= 0


class Axes(NamedTuple):
    """Mean, principal axes and variances along them, of examples."""

    mean: Tensor  # (dimension,)
    basis: Tensor  # (dimension, dimension), columns
    variances: np.ndarray  # (dimension,)


def axes_of(y: Tensor) -> Axes:
    """Principal axes of examples, `(n, *event)`, in float64.

    Raises:
        DataError: an example has more than `DIMENSION_MAX` elements.
    """
    flat = y.flatten(1).double()
    if flat.shape[1] > DIMENSION_MAX:
        raise DataError(
            f"An example has {flat.shape[1]} elements, more than the {DIMENSION_MAX} whose covariance is computed. "
            "Reduce images with --size."
        )
    covariance = torch.cov(flat.T).reshape(flat.shape[1], flat.shape[1])
    variances, basis = torch.linalg.eigh(covariance)
    return Axes(flat.mean(0), basis, variances.clamp_min(0).numpy())


def linear_point(axes: Axes, lam: float, y: Tensor) -> tuple[Measure, Measure]:
    """Rate and distortion, on any examples, of the channel that is best for a Gaussian with these axes.

    A component of variance s above the level t = 1 / (2 lam) is sent as `k y + N(0, k t)`, k = 1 - t / s, and coded by
    N(0, s - t); the others are their mean. The rate is a cross mutual information: an upper bound on R at the
    distortion, whatever the examples are like.
    """
    level = 1 / (2 * lam)
    square = ((y.flatten(1).double() - axes.mean) @ axes.basis).square()
    variance = torch.from_numpy(axes.variances)
    sent = variance > level
    s, v = variance[sent], square[:, sent]
    k = 1 - level / s
    rates = 0.5 * (torch.log(s / level) + level / s + k.square() * v / (s - level) - 1).sum(1)
    distortions = ((1 - k).square() * v + k * level).sum(1) + square[:, ~sent].sum(1)
    return (
        mean_of(rates, "nats per example", Kind.UPPER),
        mean_of(distortions, "squared error per example", Kind.ESTIMATE),
    )


def lams_for(variances: np.ndarray, bits: Sequence[float] = BITS) -> list[float]:
    """Multipliers at which a Gaussian of these variances takes so many bits per dimension.

    Raises:
        DataError: the data do not vary.
    """
    if not variances.max(initial=0) > 0:
        raise DataError("All examples are the same: there is nothing to code.")
    return [water_filling_at_rate(variances, b * len(variances) / BITS_PER_NAT).lam for b in bits]


@torch.no_grad()
def operating_point(model: NoisyChannelAutoencoder, y: Tensor) -> tuple[Measure, Measure]:
    """Mean rate and mean distortion of examples, latents drawn from the channel.

    Args:
        model: in `eval()` mode; its distortion is what is measured.
        y: `(n, *event)`.

    Returns:
        Rate, an upper bound on the rate-distortion function at the second, the distortion.
    """
    rates, distortions = [], []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for part in y.split(max(1, AT_ONCE // y[0].numel())):
            terms = [model(part).terms for _ in range(DRAWS)]
            rates.append(torch.stack([t.rate for t in terms]).mean(0))
            distortions.append(torch.stack([t.distortion for t in terms]).mean(0))
    return (
        mean_of(torch.cat(rates), "nats per example", Kind.UPPER),
        mean_of(torch.cat(distortions), "squared error per example", Kind.ESTIMATE),
    )


def limits_of(
    models: Sequence[NoisyChannelAutoencoder], tangents: Sequence[Tangent], axes: Axes, y: Tensor
) -> list[Limit]:
    """The curve between its bounds, at the distortion of each model.

    Args:
        models: trained on squared error, one for each tangent.
        tangents: of the curve, each at the lam of its model.
        axes: of the examples that were learned from, see `axes_of`.
        y: examples to judge by, `(n, *event)`.
    """
    found = []
    for model, tangent in zip(models, tangents, strict=True):
        upper, distortion = operating_point(model, y)
        bound = tangent.rate(distortion.value)  # of the same lam: the best of several would be chosen for its luck
        error = math.hypot(bound.standard_error, tangent.lam * distortion.standard_error)
        lower = bound._replace(standard_error=error)
        found.append(Limit(tangent.lam, distortion, upper, linear_point(axes, tangent.lam, y), lower))
    return found


def as_plain(limits: Sequence[Limit]) -> list[dict[str, Any]]:
    """For JSON."""
    return [
        {
            "lam": limit.lam, "distortion": list(limit.distortion[:2]), "upper_nats": list(limit.upper[:2]),
            "linear_nats": list(limit.linear[0][:2]), "linear_distortion": list(limit.linear[1][:2]),
            "lower_nats": list(limit.lower[:2]), "vacuous": limit.vacuous,
        }
        for limit in limits
    ]  # fmt: skip


class Limits(NamedTuple):
    """What `rdae limits` found.

    Args:
        data: name of the data.
        dimension: elements of an example.
        examples: to learn from, to judge by, and averaged over at a time below.
        limits: one for each multiplier, from low rates to high ones.
        tangents: of the lower bound.
    """

    data: str
    dimension: int
    examples: tuple[int, int, int]
    limits: list[Limit]
    tangents: list[Tangent]


def measured(
    data: str,
    out: Path,
    *,
    valid: str | None = None,
    lams: Sequence[float] | None = None,
    steps: int | None = None,
    kind: str | None = None,
    size: int | None = None,
    options: dict[str, Any] | None = None,
    examples: int = 2048,
    lower_steps: int = 500,
    accelerator: str = "auto",
    dask: str | None = None,
    command: str = "",
) -> Limits:
    """Trains a noisy-channel autoencoder for each multiplier, and holds it against bounds.

    Args:
        data, valid, steps, kind, size, options, command: as of an `Order` of recipe `gaussian_rda`. Without held-out
            data one example in five is held out.
        out: folder of all runs.
        lams: nats per unit of squared error; None takes those where a Gaussian of the same covariance has `BITS` per
            dimension.
        examples, lower_steps: of `learned_tangent`.
        accelerator: of the training, as for `Settings`; bounds are computed on the CPU.
        dask: as for `sweep`.
    """
    options = dict(options or {})
    for name in ("distortion", "binarisation"):
        if name in options:
            raise DataError(f"Limits are of squared error, of the data as they are. Leave the option {name} out.")
    learned, judged = _both(data, valid, kind, size)
    y, held = (as_floats(part.values, part.kind) for part in (learned, judged))
    axes = axes_of(y)
    chosen = sorted(lams_for(axes.variances) if lams is None else lams)
    order = Order(
        recipe="gaussian_rda", data=_kept(learned, out, "learned"), valid=_kept(judged, out, "judged"), out=out,
        steps=steps, kind=str(learned.kind), options=options, command=command,
        settings={"accelerator": accelerator, "devices": "1"},
    )  # fmt: skip
    runs = trials(order, {"lam": chosen}, [0])
    sweep(runs, dask)
    models = [open_model(run.order.target).model for run in runs]
    tangents = [learned_tangent(y, held, lam, examples=examples, steps=lower_steps) for lam in chosen]
    found = limits_of(models, tangents, axes, held)
    return Limits(Path(data).name, len(axes.variances), (len(y), len(held), tangents[0].examples), found, tangents)


def _both(data: str, valid: str | None, kind: str | None, size: int | None) -> tuple[ArrayData, ArrayData]:
    """Examples to learn from, and to judge by."""
    learned, judged = with_held_out(data, valid, kind, size)
    if judged is not None:
        return learned, judged
    cut = len(learned) - max(4, len(learned) // HELD_OUT)
    if cut < 4:
        raise DataError(f"{data} holds {len(learned)} examples, too few to hold some out. Pass 8 or more.")
    order = torch.randperm(len(learned), generator=torch.Generator().manual_seed(0))  # files are often sorted
    first, last = (replace(learned, values=learned.values[k], labels=None) for k in (order[:cut], order[cut:]))
    return first, last


def _kept(data: ArrayData, out: Path, name: str) -> str:
    """Examples as a file that every run reads.

    Raises:
        DataError: the folder holds other examples.
    """
    path = out / f"{name}.npy"
    out.mkdir(parents=True, exist_ok=True)
    if path.exists():
        if not np.array_equal(np.load(path, allow_pickle=False), data.values.numpy()):
            raise DataError(f"{out} holds limits of other data. Choose another --out.")
        return str(path)
    with whole_file(path) as file:
        np.save(file, data.values.numpy())
    return str(path)
