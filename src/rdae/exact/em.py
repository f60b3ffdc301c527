"""Expectation-maximisation, soft and hard: alternating maximisation of one bound.

The bound is `E_q ln p(z, y) + H(q)`, a function of the law q of the latent and of the parameters. The E-step takes the
best q, which is the posterior (V16); hard EM takes the best q among point masses (V19). The M-step takes the best
parameters for that q (V17). Neither can lower the bound.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rdae.errors import ModelError, TrainingError
from rdae.exact.model import ExactModel

__all__ = ["Fit", "fit_em", "restart_em"]


class Fit(NamedTuple):
    """What EM did."""

    history: list[float]  # the bound after each E-step, nats per example; the last is that of the fitted parameters
    converged: bool  # whether it stopped because the last step gained too little


@torch.no_grad()
def fit_em(model: ExactModel, y: Tensor, *, hard: bool = False, tol: float = 1e-6, max_steps: int = 1000) -> Fit:
    """Fits a model in place, from the parameters that it has; `model.start(y)` draws some.

    Args:
        model: any exact model. Parameters that do not require a gradient stay as they are.
        y: `(n, *event)`.
        hard: whether the E-step takes a point mass at the mode of the posterior instead of the posterior.
        tol: a gain of the bound of this or less, in nats per example, ends the run.
        max_steps: M-steps at most.

    Returns:
        The history of the bound. For soft EM the bound after an E-step is the mean ln p(y).

    Raises:
        ShapeError, DataError: y does not suit the model.
        TrainingError: the bound is no longer a number.
    """
    if max_steps < 0 or not tol >= 0:
        raise ModelError(f"max_steps is {max_steps} and tol {tol}: neither may be negative. Pass 1000 and 1e-6, say.")
    model.check(y)
    history: list[float] = []
    while True:
        q, bound = model.e_step(y, hard)
        history.append(float(bound.mean()))
        if not math.isfinite(history[-1]):
            raise TrainingError(
                f"The bound became {history[-1]} after {len(history) - 1} steps: an example is impossible under every "
                "latent. Bring the data to a common scale, or raise the model's smallest spread."
            )
        if len(history) > 1 and history[-1] - history[-2] <= tol:
            return Fit(history, True)
        if len(history) > max_steps:
            return Fit(history, False)
        model.m_step(y, q)


@torch.no_grad()
def restart_em(
    model: ExactModel, y: Tensor, *, starts: int = 5, hard: bool = False, tol: float = 1e-6, max_steps: int = 1000
) -> Fit:
    """Runs `fit_em` from several random starts and leaves the model at the best of them.

    Args:
        starts: how many; each is drawn by `model.start` from PyTorch's generator.
        model, y, hard, tol, max_steps: as for `fit_em`.

    Returns:
        The run with the largest bound at its end.
    """
    if starts < 1:
        raise ModelError(f"EM cannot run from {starts} starts. Pass starts=1 or more.")
    model.check(y)
    best, kept = None, None
    for _ in range(starts):
        model.start(y)
        fit = fit_em(model, y, hard=hard, tol=tol, max_steps=max_steps)
        if best is None or fit.history[-1] > best.history[-1]:
            best, kept = fit, {name: value.clone() for name, value in model.state_dict().items()}
    assert best is not None
    assert kept is not None
    model.load_state_dict(kept)
    return best
