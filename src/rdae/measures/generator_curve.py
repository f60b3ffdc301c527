"""Rate-distortion curve of any generator, explicit or implicit, by one sweep of annealed importance sampling.

For a prior p(z), a generator G and a distortion d, the least `rate + beta * distortion` of an example is
`-ln Z_beta`, with `Z_beta` the mean of `exp(-beta d(y, G(z)))` over the prior; the best channel is
`p(z) exp(-beta d) / Z_beta`. Chains that anneal from beta = 0 pass all of them, and one sweep gives the whole curve:

    R(beta) = -ln Z_beta - beta D(beta),    dR/dD = -beta

(Huang, Makhzani, Cao & Grosse 2020, arXiv:2008.06653). No encoder is looked at, so VAEs, WAEs and GANs stand on one
plane. What is estimated is the rate and distortion of the channel that the chains themselves are: in expectation a
point on the curve or above it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rdae.distortions import Distortion, squared_error
from rdae.errors import DataError
from rdae.measures.annealing import anneal, example_blocks, tuned_steps
from rdae.measures.latent_model import Generating, LatentModel, latent_model, prior_draws
from rdae.measures.measure import Kind, Measure, mean_of

__all__ = ["CurvePoint", "GeneratorCurve", "generator_curve", "sweep_ladder"]


class CurvePoint(NamedTuple):
    """Means over examples at one beta; `dR/dD = -beta` there."""

    beta: float  # nats per unit of distortion
    rate: Measure
    distortion: Measure
    objective: Measure  # rate + beta * distortion: an upper bound in expectation, which neither part is by itself


class GeneratorCurve(NamedTuple):
    """The curve of each example, `(betas, n)` each, float64."""

    betas: Tensor  # (betas,), rising
    rate: Tensor  # nats
    distortion: Tensor  # in the unit of the distortion
    effective_chains: Tensor  # 1 / sum of squared weights: near 1 the point rests on one chain; take more temperatures

    def points(self) -> list[CurvePoint]:
        """Means over examples; their standard errors are over examples and so hold the noise of the chains too."""
        return [
            CurvePoint(
                float(beta),
                mean_of(rate, "nats per example", Kind.ESTIMATE),
                mean_of(distortion, "distortion per example", Kind.ESTIMATE),
                mean_of(rate + beta * distortion, "nats per example", Kind.UPPER),
            )
            for beta, rate, distortion in zip(self.betas, self.rate, self.distortion, strict=True)
        ]


def sweep_ladder(betas: Tensor, temperatures: int, scale: float) -> Tensor:
    """Values of beta from 0 through all of `betas`, even below `1 / scale` and geometric above, float64.

    Under the prior the distortion varies by `scale`, and far above `1 / scale` its spread is in proportion to
    `1 / beta`: such steps all change the law about as much.

    Args:
        betas: rising, `(betas,)`.
        temperatures: steps; the given betas come on top.
        scale: standard deviation of the distortion under the prior.
    """
    top, first = float(betas[-1]), 1 / scale
    even = torch.linspace(0, math.asinh(top / first), temperatures + 1, dtype=torch.float64)
    ladder = first * torch.sinh(even)
    return torch.cat([ladder[ladder < top], betas.double()]).unique()


@torch.no_grad()
def generator_curve(
    model: Generating,
    y: Tensor,
    betas: Sequence[float],
    *,
    distortion: Distortion | None = squared_error,
    temperatures: int = 1000,
    chains: int = 16,
    leapfrog: int = 10,
    seed: int = 0,
) -> GeneratorCurve:
    """Rate and distortion of each example at each beta.

    Args:
        model: any that generates, in `eval()` mode; see `latent_model`.
        y: `(n, *event)`.
        betas: positive, rising; nats per unit of distortion.
        distortion: of y from what the model shows; None for the model's own. Where that is a likelihood, the curve at
            beta = 1 has `R + D = -ln p(y)`.
        temperatures: of the ladder through all betas.
        chains, leapfrog, seed: as for `annealed_log_evidence`.

    Raises:
        DataError: betas are not positive and rising.
    """
    wanted = torch.as_tensor(betas, dtype=torch.float64)
    if not len(wanted) or float(wanted[0]) <= 0 or bool((wanted.diff() <= 0).any()):
        raise DataError("betas must be positive and rising. Pass for example [0.1, 1, 10].")
    target = latent_model(model, distortion)
    generator = torch.Generator(y.device).manual_seed(seed)
    blocks = example_blocks(y, chains)
    ladder = sweep_ladder(wanted, temperatures, _spread(target, blocks[0], chains, generator))
    parts = [_swept(target, part, wanted, ladder, chains, leapfrog, generator) for part in blocks]
    rate, distortions, effective = (torch.cat(rows, 1) for rows in zip(*parts, strict=True))
    return GeneratorCurve(wanted, rate, distortions, effective)


def _spread(model: LatentModel, y: Tensor, chains: int, generator: torch.Generator) -> float:
    """Standard deviation of the distortion under the prior, the median over examples."""
    draws = max(2, chains)
    z = prior_draws(model.prior, draws * len(y), generator)
    d = model.distortion(y.repeat(draws, *(1,) * (y.ndim - 1)), model.decoder(z)).view(draws, -1)
    return max(float(d.double().std(0).median()), 1e-12)


def _swept(
    model: LatentModel,
    y: Tensor,
    betas: Tensor,
    ladder: Tensor,
    chains: int,
    leapfrog: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    steps = tuned_steps(model, y, ladder, chains=chains, leapfrog=leapfrog, generator=generator)
    z = prior_draws(model.prior, chains * len(y), generator).unflatten(0, (chains, len(y)))
    asked = set(betas.tolist())
    rows = []
    for stage in anneal(model, y, z, ladder, steps, leapfrog=leapfrog, generator=generator):
        if stage.beta in asked:
            weight = stage.log_weight.softmax(0)
            mean = (weight * stage.distortion).sum(0)
            log_partition = torch.logsumexp(stage.log_weight, 0) - math.log(chains)
            rows.append((-log_partition - stage.beta * mean, mean, 1 / weight.square().sum(0)))
    rate, distortion, effective = (torch.stack(row) for row in zip(*rows, strict=True))
    return rate, distortion, effective
