"""A learned lower bound on the rate-distortion function of data, under squared error (Yang & Mandt 2022).

The curve lies above all its tangents. For a slope -lam and any positive function u (Csiszar 1974),

    R(D) >= E[-ln u(y)] - ln max over y_hat of E[exp(-lam |y - y_hat|**2) / u(y)] - lam D.

u is learned. The expectation below the maximum is known from k examples only, whose largest mean C_k is on average too
large, never too small: the bound stays one, and is tighter with more examples. As `-ln C >= 1 - ln a - C / a` for every
a, no logarithm of a mean is left: what is returned is a mean over held-out examples, a lower bound in expectation,
with a standard error (arXiv:2111.12166, theorem 4.2).

The intercept, R + lam D, cannot come out above ln k: k has to grow exponentially with the rate. lam D alone is half a
nat for each active component of a Gaussian, so beyond some fifteen of them the bound says nothing at any rate. The
largest mean is looked for from every example, but not proved to be the largest.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rdae.errors import DataError
from rdae.measures.measure import Kind, Measure

__all__ = ["Tangent", "learned_tangent"]

HIDDEN = 128
LEARNING_RATE = 1e-3
SHIFTS = 8  # iterations from every start, before the best are chosen
BEST, LONG = 32, 200  # of them, and their iterations
ENOUGH = 1e-6  # an iteration that gains less in ln C is the last
LEAST_PARTS = 8  # means of held-out examples, for an error bar
STARTS = 256  # examples from which a maximum is looked for while u is learned


class Tangent(NamedTuple):
    """A line below the curve: `R(D) >= intercept - lam D` for every D.

    Args:
        lam: minus its slope, nats per unit of squared error.
        intercept: nats per example.
        examples: k, averaged over before each maximum.
    """

    lam: float
    intercept: Measure
    examples: int

    def rate(self, distortion: float) -> Measure:
        """The bound on R(distortion), in nats per example; below 0 it says nothing."""
        value, error, unit, kind = self.intercept
        return Measure(value - self.lam * distortion, error, unit, kind)


class _LogU(nn.Module):
    """ln u: what is best for a Gaussian of the same mean and covariance, and a network beside it that starts at zero.

    For a Gaussian component of variance s the best u is the mean of `exp(-lam (y - y_hat)**2)` over reproductions of
    variance `r = max(0, s - 1 / (2 lam))`: `exp(-lam y**2 / w) / sqrt(w)`, `w = 1 + 2 lam r`. Far out that is nearly 0,
    and a single example in k would make the mean large; 1 / k is added.
    """

    mean: Tensor
    axes: Tensor
    width: Tensor
    scale: Tensor

    def __init__(self, y: Tensor, lam: float, examples: int) -> None:
        super().__init__()
        variance, axes = torch.linalg.eigh(torch.cov(y.T.double()).reshape(y.shape[1], y.shape[1]))
        variance = variance.clamp_min(0)
        self.lam, self.least = lam, -math.log(examples)
        self.register_buffer("mean", y.mean(0))
        self.register_buffer("axes", axes.float())
        self.register_buffer("width", (1 + 2 * lam * (variance - 1 / (2 * lam)).clamp_min(0)).float())
        scale = 1 / variance.mean().clamp_min(1e-30).sqrt().float()
        self.register_buffer("scale", scale)
        self.network = nn.Sequential(
            nn.Linear(y.shape[1], HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 1)
        )
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, y: Tensor) -> Tensor:
        """`(batch,)`."""
        centred = y - self.mean
        along = centred @ self.axes
        plain = -(self.lam * along.square() / self.width + self.width.log() / 2).sum(-1)
        floor = torch.full_like(plain, self.least)
        return torch.logaddexp(plain, floor) + self.network(centred * self.scale)[:, 0]


def learned_tangent(
    y: Tensor, judged: Tensor, lam: float, *, examples: int = 2048, steps: int = 500, seed: int = 0
) -> Tangent:
    """The tangent of slope -lam below the rate-distortion function of the law that the examples come from.

    Args:
        y: examples to learn from, `(n, *event)`.
        judged: others of the same law; only they enter the bound, `examples` at a time.
        lam: nats per unit of squared error summed over an example.
        examples: k; twice as many cost four times the time. No more than there are to learn from, and an eighth of
            those to judge by.
        steps: of learning u; 0 keeps the one of a Gaussian.
        seed: of what is drawn.

    Raises:
        DataError: lam is not positive, or there are too few examples.
    """
    if not 0 < lam < math.inf:
        raise DataError(f"lam is {lam}. Choose a positive number of nats per unit of squared error.")
    y, judged = y.flatten(1).float(), judged.flatten(1).float()
    examples = min(examples, len(y), len(judged) // LEAST_PARTS)
    parts = len(judged) // max(examples, 1)
    if examples < 2:
        raise DataError(
            f"{len(y)} examples to learn from and {len(judged)} to judge by are too few. Pass 16 or more of each."
        )
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        log_u = _LogU(y, lam, examples)
    _learn(log_u, y, lam, examples, steps, generator)
    with torch.no_grad():
        chosen = [torch.randperm(len(y), generator=generator)[:examples] for _ in range(4)]
        guess = torch.stack([_log_largest(y[k], log_u(y[k]), lam)[0] for k in chosen]).logsumexp(0) - math.log(4)
        order = torch.randperm(len(judged), generator=generator)[: parts * examples]
        bounds = []
        for part in judged[order].split(examples):
            plain = log_u(part)
            largest, _ = _log_largest(part, plain, lam)
            bounds.append(-plain.mean() + 1 - guess - (largest - guess).exp())
    values = torch.stack(bounds).double()
    error = float(values.std()) / math.sqrt(parts)
    return Tangent(lam, Measure(float(values.mean()), error, "nats per example", Kind.LOWER), examples)


def _learn(log_u: _LogU, y: Tensor, lam: float, examples: int, steps: int, generator: torch.Generator) -> None:
    optimizer = torch.optim.Adam(log_u.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    for _ in range(steps):
        part = y[torch.randperm(len(y), generator=generator)[:examples]]
        plain = log_u(part)
        with torch.no_grad():  # where the maximum is changes nothing to first order
            _, where = _log_largest(part, plain, lam, quick=True)
        log_c = _log_means(where[None], part, plain, lam)[0]
        loss = plain.mean() + log_c
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _log_means(at: Tensor, y: Tensor, log_u: Tensor, lam: float) -> Tensor:
    """ln of the mean over examples of `exp(-lam |y - y_hat|**2) / u(y)` at each y_hat, `(m,)`."""
    return torch.logsumexp(_logits(at, y, log_u, lam), 1) - math.log(len(y))


def _logits(at: Tensor, y: Tensor, log_u: Tensor, lam: float) -> Tensor:
    return -lam * torch.cdist(at, y, compute_mode="donot_use_mm_for_euclid_dist").square() - log_u


def _log_largest(y: Tensor, log_u: Tensor, lam: float, *, quick: bool = False) -> tuple[Tensor, Tensor]:
    """ln of the largest mean over all y_hat, and where it is.

    The mean is a sum of bells around the examples. From a start, each iteration goes to the weighted mean of the
    examples as seen from there ("mean shift"), which never makes the sum smaller.
    """
    at = y[:STARTS] if quick else y
    for _ in range(SHIFTS):
        at = _shifted(at, y, log_u, lam)
    heights = _log_means(at, y, log_u, lam)
    at = at[heights.topk(min(BEST, len(at))).indices]
    before = heights.max()
    for k in range(0 if quick else LONG):
        at = _shifted(at, y, log_u, lam)
        if k % 10 == 9:
            now = _log_means(at, y, log_u, lam).max()
            if now - before < ENOUGH:
                break
            before = now
    heights = _log_means(at, y, log_u, lam)
    return heights.max(), at[heights.argmax()]


def _shifted(at: Tensor, y: Tensor, log_u: Tensor, lam: float) -> Tensor:
    return _logits(at, y, log_u, lam).softmax(1) @ y
