"""Optimal transport: the least mean cost of moving one sample, or law, onto another.

A cost is `|x - y|^power`. With power 1 the least mean cost is W_1, with power 2 it is the square of W_2. Between
samples it is too large on average, because the two miss each other by chance: an upper bound in expectation on the cost
between their laws, by a margin that shrinks slowly in many dimensions. Compare it with its floor (`measures.floor`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rdae.errors import DataError, MissingExtraError, ShapeError
from rdae.measures.measure import Kind, Measure, mean_of
from rdae.measures.pairs import AT_ONCE, as_samples, squared_distances

__all__ = [
    "Transport", "bures", "dual_bound", "exact_transport", "gaussian_transport", "sliced_transport", "transport_1d",
]  # fmt: skip

MOST_PAIRS = 1 << 25  # 5792 against as many: cost and plan take 256 MiB each
STEPS = 10_000_000  # of the network simplex; its default of 100 000 stops early on some thousand points


class Transport(NamedTuple):
    """The best plan between two samples, and the proof that it is the best."""

    cost: Measure  # W_1, or the square of W_2
    plan: Tensor  # (n, m), mass moved from x_i to y_j; rows sum to 1 / n, columns to 1 / m
    potential_x: Tensor  # (n,), f with f_i + g_j <= |x_i - y_j|^power, and mean f + mean g = cost
    potential_y: Tensor  # (m,), g


def exact_transport(x: Tensor, y: Tensor, power: float = 1) -> Transport:
    """The least mean cost between two samples, in any dimension, by linear programming (POT's network simplex).

    The standard error says how the cost moves with the draw of both samples (del Barrio & Loubes 2019): the
    variance of the potentials. It does not cover the bias, which the floor shows.

    Args:
        x: `(n, d)`.
        y: `(m, d)`, with n m at most 2^25.
        power: 1 or more.

    Raises:
        MissingExtraError: POT is not installed.
        ShapeError: not two tables of one width.
        DataError: an element is not finite, too many pairs, or the program did not reach its optimum.
    """
    try:
        import ot
    except ImportError as error:
        raise MissingExtraError(
            f"Exact transport needs POT ({error}). Install it with: pip install 'rdae[measures]'"
        ) from error
    x, y = as_samples(x, y)
    _check_power(power)
    if len(x) * len(y) > MOST_PAIRS:
        raise DataError(
            f"{len(x)} x {len(y)} pairs do not fit in memory. Pass at most {math.isqrt(MOST_PAIRS)} rows of each, or "
            "use sliced_transport."
        )
    costs = squared_distances(x, y) ** (power / 2)
    largest = max(float(costs.max()), 1e-300)  # the simplex compares with fixed tolerances: costs of order 1
    plan, log = ot.emd([], [], (costs / largest).cpu().numpy(), numItermax=STEPS, log=True)
    f, g = (largest * torch.from_numpy(log[name]).to(x) for name in ("u", "v"))
    cost = largest * float(log["cost"])
    gap = abs(cost - float(f.mean() + g.mean()))
    if log["warning"] is not None or gap > 1e-6 * largest:
        raise DataError(f"POT found no optimum ({log['warning']}; gap {gap:.1e}). Pass fewer rows.")
    return Transport(_sampled(cost, f, g, power), torch.from_numpy(plan).to(x), f, g)


def _check_power(power: float) -> None:
    if not 1 <= power < math.inf:
        raise DataError(f"power is {power}. Pass 1 for W_1 or 2 for the square of W_2.")


def _sampled(cost: float, f: Tensor, g: Tensor, power: float) -> Measure:
    return Measure(cost, math.sqrt(float(f.var() / len(f) + g.var() / len(g))), _unit(power), Kind.UPPER)


def _unit(power: float) -> str:
    return "unit of the samples" if power == 1 else f"unit of the samples to the power {power:g}"


# --- one dimension -------------------------------------------------------------------------------------------------


@torch.no_grad()
def transport_1d(x: Tensor, y: Tensor, power: float = 1) -> Measure:
    """The least mean cost between two samples of numbers, `(n,)` and `(m,)`, by sorting; n and m may differ.

    On the line the best plan keeps the order, whatever the power: `integral_0^1 |F^-1(t) - G^-1(t)|^power dt`. The
    standard error is that of `exact_transport`.

    Raises:
        ShapeError: not two lists of numbers.
        DataError: an element is not finite.
    """
    if x.ndim != 1 or y.ndim != 1:
        raise ShapeError(f"The samples are {tuple(x.shape)} and {tuple(y.shape)}. Pass (n,) and (m,).")
    _check_power(power)
    x, y = as_samples(x[:, None], y[:, None])
    stairs = _staircase(len(x), len(y), x.device)
    costs = _costs(x, y, stairs, power)[:, 0]
    # along the stairs every pair is tight, f_i + g_j = cost, so a step on x changes f and a step on y changes g
    steps = costs.diff()
    f = torch.cat([costs.new_zeros(1), steps[stairs.rows.diff() > 0].cumsum(0)])
    g = torch.cat([costs.new_zeros(1), steps[stairs.columns.diff() > 0].cumsum(0)])
    return _sampled(float(stairs.mass @ costs), f, g, power)


class _Staircase(NamedTuple):
    rows: Tensor  # (n + m - 1,), index into the sorted x
    columns: Tensor  # index into the sorted y
    mass: Tensor


def _staircase(n: int, m: int, device: torch.device) -> _Staircase:
    """The plan that keeps the order: pairs met while going through both sorted samples at equal speed."""
    levels = torch.cat([torch.arange(1, n) * m, torch.arange(1, m) * n]).sort(stable=True)  # in units of 1 / (n m)
    on_x = levels.indices < n - 1
    rows, columns = (torch.cat([torch.zeros(1, dtype=torch.long), step.cumsum(0)]) for step in (on_x, ~on_x))
    edges = torch.cat([torch.tensor([0]), levels.values, torch.tensor([n * m])])
    return _Staircase(rows.to(device), columns.to(device), (edges.diff().double() / (n * m)).to(device))


def _costs(x: Tensor, y: Tensor, stairs: _Staircase, power: float) -> Tensor:
    """Costs of the pairs, `(n + m - 1, lines)`, of samples `(n, lines)` and `(m, lines)`."""
    return (x.sort(0).values[stairs.rows] - y.sort(0).values[stairs.columns]).abs() ** power


@torch.no_grad()
def sliced_transport(
    x: Tensor, y: Tensor, generator: torch.Generator, projections: int = 200, power: float = 1
) -> Measure:
    """Mean over random directions of the least mean cost between the samples seen along them; fast in any dimension.

    With power 1 sliced W_1, with power 2 the square of sliced W_2 (Bonneel et al. 2015). A shift by m in d dimensions
    costs `|m|^2 / d` with power 2: the scale is that of one coordinate.

    Args:
        x: `(n, d)`.
        y: `(m, d)`.
        generator: draws the directions.
        projections: their number, 2 or more; the standard error is over them, for the samples as they are.
        power: 1 or more.

    Raises:
        ShapeError: not two tables of one width.
        DataError: an element is not finite, a power below 1, or fewer than 2 projections.
    """
    x, y = as_samples(x, y)
    _check_power(power)
    if projections < 2:
        raise DataError(f"{projections} projections have no spread. Pass 2 or more.")
    directions = torch.randn(x.shape[1], projections, generator=generator, dtype=torch.float64).to(x.device)
    directions = directions / directions.norm(dim=0)
    stairs = _staircase(len(x), len(y), x.device)
    at_once = max(1, AT_ONCE // (len(x) + len(y)))
    costs = [stairs.mass @ _costs(x @ part, y @ part, stairs, power) for part in directions.split(at_once, 1)]
    return mean_of(torch.cat(costs), _unit(power), Kind.UPPER)


# --- duals and Gaussians -------------------------------------------------------------------------------------------


def dual_bound(f_x: Tensor, f_y: Tensor, lipschitz: float = 1.0) -> Measure:
    """A lower bound on W_1 from any function f: `(E f(x) - E f(y)) / lipschitz` (Kantorovich & Rubinstein).

    Args:
        f_x: values of f at a sample, `(n,)`, such as a critic's at real examples.
        f_y: values at the other, `(m,)`.
        lipschitz: the largest slope of f. A trained critic's is only near 1, and its bound only as good.

    Raises:
        ShapeError: not two lists of two numbers or more.
        DataError: a value is not finite, or the slope not positive.
    """
    if f_x.ndim != 1 or f_y.ndim != 1:
        raise ShapeError(f"The values of f are {tuple(f_x.shape)} and {tuple(f_y.shape)}. Pass (n,) and (m,).")
    if not 0 < lipschitz < math.inf:
        raise DataError(f"lipschitz is {lipschitz}, but a largest slope is positive and finite.")
    f_x, f_y = (side[:, 0] for side in as_samples(f_x[:, None], f_y[:, None]))
    error = math.sqrt(float(f_x.var() / len(f_x) + f_y.var() / len(f_y)))
    return Measure(float(f_x.mean() - f_y.mean()) / lipschitz, error / lipschitz, "unit of the samples", Kind.LOWER)


def bures(a: Tensor, b: Tensor) -> float:
    """Squared Bures distance between the covariances `a' a` and `b' b`, from factors `(r, d)` and `(s, d)`.

    `tr(A + B - 2 (A^(1/2) B A^(1/2))^(1/2)) = |a|^2 + |b|^2 - 2 |a b'|_*`, the last norm the sum of singular values. No
    root of a matrix is taken, so nothing becomes imaginary and singular covariances are welcome.
    """
    value = a.square().sum() + b.square().sum() - 2 * torch.linalg.svdvals(a @ b.mT).sum()
    return max(0.0, float(value))


def gaussian_transport(mean_x: Tensor, covariance_x: Tensor, mean_y: Tensor, covariance_y: Tensor) -> float:
    """Square of W_2 between two Gaussians, in closed form.

    Args:
        mean_x: `(d,)`; likewise `mean_y`.
        covariance_x: `(d, d)`, may be singular; likewise `covariance_y`.

    Raises:
        DataError: a covariance has a negative eigenvalue.
    """
    means = (mean_x - mean_y).double().square().sum()
    return float(means) + bures(_factor(covariance_x), _factor(covariance_y))


def _factor(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance.double())
    if values[0] < -1e-6 * values[-1].abs():
        raise DataError(f"A covariance has the eigenvalue {float(values[0]):.3g}. Pass one that is symmetric and >= 0.")
    return values.clamp_min(0).sqrt()[:, None] * vectors.mT
