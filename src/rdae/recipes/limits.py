"""How few nats would do? The rate-distortion function of data between what a model reaches and a bound below it.

Above: noisy-channel autoencoders, trained for several lam. The mean of KL(q(z | y) || p(z)) is never below the mutual
information of the data and their reconstruction, so each model is a point on or above the curve. Above too: the curve
of a Gaussian with the same covariance, the hardest source of all that share it. Below: learned tangents.
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
from rdae.data.sources import WITH_TEST, open_data
from rdae.errors import DataError
from rdae.measures.measure import Kind, Measure, mean_of
from rdae.measures.rate_distortion import water_filling, water_filling_at_rate
from rdae.measures.rate_lower_bound import Tangent, learned_tangent
from rdae.objectives import BITS_PER_NAT
from rdae.recipes.model_file import open_model
from rdae.recipes.order import Order
from rdae.recipes.sweep import sweep, trials

__all__ = ["BITS", "Limit", "Limits", "as_plain", "lams_for", "limits_of", "measured", "operating_point", "spectrum_of"]

BITS = (0.1, 0.3, 1.0, 2.0)  # per dimension, of the Gaussian whose curve the multipliers are read from
AT_ONCE = 1 << 22  # elements of examples
DRAWS = 4  # latents of each example


class Limit(NamedTuple):
    """Where R(D) lies at the distortion of one model. Rates in nats per example, distortion a squared error summed."""

    lam: float
    distortion: Measure
    upper: Measure  # rate of the model
    gaussian: float  # R(D) of a Gaussian of the same covariance, which no source of that covariance exceeds
    lower: Measure  # the highest tangent; 0 or less says nothing

    @property
    def vacuous(self) -> bool:
        """Whether the lower bound says nothing."""
        return self.lower.value <= 0


def spectrum_of(y: Tensor) -> np.ndarray:
    """Variances along the principal axes of examples, `(dimension,)`."""
    flat = y.flatten(1).double()
    covariance = torch.cov(flat.T).reshape(flat.shape[1], flat.shape[1])
    return torch.linalg.eigvalsh(covariance).clamp_min(0).numpy()


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
    torch.manual_seed(0)
    rates, distortions = [], []
    for part in y.split(max(1, AT_ONCE // y[0].numel())):
        terms = [model(part).terms for _ in range(DRAWS)]
        rates.append(torch.stack([t.rate for t in terms]).mean(0))
        distortions.append(torch.stack([t.distortion for t in terms]).mean(0))
    return (
        mean_of(torch.cat(rates), "nats per example", Kind.UPPER),
        mean_of(torch.cat(distortions), "squared error per example", Kind.ESTIMATE),
    )


def limits_of(
    models: Sequence[tuple[float, NoisyChannelAutoencoder]],
    y: Tensor,
    tangents: Sequence[Tangent],
    variances: np.ndarray,
) -> list[Limit]:
    """The curve between its bounds, at the distortion of each model.

    Args:
        models: each with its lam, trained on squared error.
        y: examples to judge them by, `(n, *event)`.
        tangents: of the curve, each at its lam.
        variances: see `spectrum_of`.
    """
    found = []
    for lam, model in models:
        upper, distortion = operating_point(model, y)
        lower = max((tangent.rate(distortion.value) for tangent in tangents), key=lambda bound: bound.value)
        gaussian = water_filling(variances, max(distortion.value, 0.0)).rate
        found.append(Limit(lam, distortion, upper, gaussian, lower))
    return found


def as_plain(limits: Sequence[Limit]) -> list[dict[str, Any]]:
    """For JSON."""
    return [
        {
            "lam": limit.lam, "distortion": list(limit.distortion[:2]), "upper_nats": list(limit.upper[:2]),
            "gaussian_nats": limit.gaussian if math.isfinite(limit.gaussian) else None,
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
    dask: str | None = None,
    command: str = "",
) -> Limits:
    """Trains a noisy-channel autoencoder for each multiplier, and holds it against bounds.

    Args:
        data, valid, steps, kind, size, options, command: as of an `Order` of recipe `gaussian_rda`. Without held-out
            data the last fifth of the examples is held out.
        out: folder of all runs.
        lams: nats per unit of squared error; None takes those where a Gaussian of the same covariance has `BITS` per
            dimension.
        examples, lower_steps: of `learned_tangent`.
        dask: as for `sweep`.
    """
    learned, judged = _both(data, valid, kind, size)
    y, held = (as_floats(part.values, part.kind) for part in (learned, judged))
    variances = spectrum_of(y)
    chosen = sorted(lams_for(variances) if lams is None else lams)
    options = dict(options or {})
    if options.get("distortion", "squared") != "squared":
        raise DataError("Limits are of squared error. Leave the option distortion out.")
    order = Order(
        recipe="gaussian_rda", data=_kept(learned, out, "learned"), valid=_kept(judged, out, "judged"), out=out,
        steps=steps, kind=str(learned.kind), options=options, command=command,
        settings={"accelerator": "cpu", "devices": "1"},
    )  # fmt: skip
    runs = trials(order, {"lam": chosen}, [0])
    sweep(runs, dask)
    models = [(float(run.options["lam"]), open_model(run.order.target).model) for run in runs]
    tangents = [learned_tangent(y, held, lam, examples=examples, steps=lower_steps) for lam in chosen]
    found = limits_of(models, held, tangents, variances)
    return Limits(data, len(variances), (len(y), len(held), tangents[0].examples), found, tangents)


def _both(data: str, valid: str | None, kind: str | None, size: int | None) -> tuple[ArrayData, ArrayData]:
    """Examples to learn from, and to judge by."""
    learned = open_data(data, split="train", kind=kind, size=size)
    if valid is not None:
        return learned, open_data(valid, split="train", kind=kind, size=size)
    if data.partition(":")[0] in WITH_TEST:
        return learned, open_data(data, split="test", size=size)
    cut = len(learned) - max(4, len(learned) // 5)
    if cut < 4:
        raise DataError(f"{data} holds {len(learned)} examples, too few to hold some out. Pass 8 or more.")
    first, last = (replace(learned, values=part, labels=None) for part in (learned.values[:cut], learned.values[cut:]))
    return first, last


def _kept(data: ArrayData, out: Path, name: str) -> str:
    """Examples as a file that every run reads."""
    path = out / f"{name}.npy"
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        np.save(file, data.values.numpy())
    return str(path)
