"""ln p(y) by annealed importance sampling, with Hamiltonian transitions: no encoder, and bounds from both sides.

Latents start at the prior and are led through the laws `p(z) exp(-beta d(y, z)) / Z_beta`, beta rising from 0 to 1,
where d is -ln p(y | z). At each temperature they take one Hamiltonian step with a Metropolis correction, and a weight
collects `-(change of beta) * d`. The mean weight is unbiased for `Z_1 = p(y)`, so its logarithm is, in expectation, a
lower bound on ln p(y) (Neal 2001; Wu et al. 2017, arXiv:1611.04273). Led the other way, from a latent that was drawn
together with y, the mean weight is unbiased for `1 / p(y)`, and minus its logarithm is an upper bound (bidirectional
Monte Carlo, Grosse et al. 2015, arXiv:1511.02543).

Step sizes are tuned for each example in a pass of its own and held in the pass that measures: a step that depended on
where the chain has been would bias the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from rdae.distortions import Distortion
from rdae.errors import DataError
from rdae.likelihoods import Bernoulli
from rdae.measures.latent_model import Generating, LatentModel, as_likelihood, latent_model, prior_draws
from rdae.measures.measure import Kind, Measure, mean_of

__all__ = [
    "Sandwich", "Stage", "anneal", "annealed_log_evidence", "annealed_log_likelihood", "bdmc", "example_blocks",
    "linear_ladder", "sigmoid_ladder", "tuned_steps",
]  # fmt: skip

AT_ONCE = 1 << 19  # elements decoded together: what a core's cache holds is faster than all at once
ACCEPTED = 0.65  # share of steps that tuning aims at (Neal 2011)
GAIN = 0.5  # of tuning: change of ln step for each wholly refused or accepted move
SETTLING = 30  # moves at the prior before tuning follows the ladder
SIMULATED = 0x51B_0E7D  # added to a seed, of which 32 bits count: no measure draws the latents examples were made of
TUNED_EVERY, TUNED_LEAST = 5, 50  # tuning takes every fifth temperature, 50 at least
JITTER = 0.2  # of a step's length, drawn anew for each move: no orbit closes on itself


def linear_ladder(temperatures: int) -> Tensor:
    """`temperatures` equal steps of beta from 0 to 1, `(temperatures + 1,)`, float64."""
    return torch.linspace(0, 1, temperatures + 1, dtype=torch.float64)


def sigmoid_ladder(temperatures: int, steepness: float = 4.0) -> Tensor:
    """As `linear_ladder`, with small steps at both ends (Wu et al. 2017)."""
    rising = torch.sigmoid(steepness * (2 * linear_ladder(temperatures) - 1))
    return (rising - rising[0]) / (rising[-1] - rising[0])


class Stage(NamedTuple):
    """All chains after their step at one temperature."""

    beta: float
    log_weight: Tensor  # ln of the ratio of Z_beta to Z at the start, of each chain, (chains, n), float64
    distortion: Tensor  # (chains, n)
    acceptance: Tensor  # probability that the step was accepted, mean over chains, (n,)


class _Point(NamedTuple):
    """Latents of all chains of all examples in rows, and what a leapfrog step needs to know there."""

    z: Tensor
    log_prior: Tensor
    distortion: Tensor
    prior_slope: Tensor  # gradient of ln p(z)
    slope: Tensor  # gradient of the distortion

    def force(self, beta: float) -> Tensor:
        return self.prior_slope.add(self.slope, alpha=-beta)

    def log_density(self, beta: float) -> Tensor:
        return self.log_prior.double() - beta * self.distortion.double()


class _Chains:
    """Hamiltonian Monte Carlo on `(chains, n)` latents at once."""

    def __init__(self, model: LatentModel, y: Tensor, z: Tensor, leapfrog: int, generator: torch.Generator) -> None:
        self.shape = z.shape[:2]
        self.model, self.leapfrog, self.generator = model, leapfrog, generator
        self.y = y.expand(len(z), *y.shape).flatten(0, 1)
        self.point = self._at(z.flatten(0, 1))

    def _slopes(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """ln p(z), its gradient, what is decoded, the gradient of the distortion."""
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            log_prior = self.model.prior.log_prob(leaf)
            out = self.model.decoder(leaf)
        (prior_slope,) = torch.autograd.grad(log_prior, leaf, torch.ones_like(log_prior))
        (slope,) = torch.autograd.grad(out, leaf, _slope_of(self.model.distortion, self.y, out.detach()))
        return log_prior.detach(), prior_slope, out.detach(), slope

    def _at(self, z: Tensor) -> _Point:
        log_prior, prior_slope, out, slope = self._slopes(z)
        return _Point(z, log_prior, self.model.distortion(self.y, out), prior_slope, slope)

    def move(self, beta: float, step: Tensor) -> Tensor:
        """One trajectory of each chain with its example's step, `(n,)`; the acceptance, `(n,)`."""
        before, count = self.point, self.shape[0]
        wide = (-1, *(1,) * (before.z.ndim - 1))
        noise = torch.rand(len(before.z), generator=self.generator, device=step.device, dtype=step.dtype)
        length = (step.repeat(count) * (1 + JITTER * (2 * noise - 1))).view(wide).to(before.z.dtype)
        velocity = torch.randn(before.z.shape, generator=self.generator, device=before.z.device, dtype=before.z.dtype)
        kinetic = _half_square(velocity)
        velocity.addcmul_(length, before.force(beta), value=0.5)
        z = before.z
        for _ in range(self.leapfrog - 1):
            z = torch.addcmul(z, length, velocity)
            _, prior_slope, _, slope = self._slopes(z)
            velocity.addcmul_(length, prior_slope.add_(slope, alpha=-beta))
        after = self._at(torch.addcmul(z, length, velocity))
        velocity.addcmul_(length, after.force(beta), value=0.5)
        log_ratio = after.log_density(beta) - _half_square(velocity) - before.log_density(beta) + kinetic
        chance = log_ratio.clamp_max(0).exp().nan_to_num(0.0)  # a trajectory that left the floats is refused
        drawn = torch.rand(len(chance), generator=self.generator, device=chance.device, dtype=chance.dtype)
        accepted = drawn < chance
        self.point = _Point(*(
            torch.where(accepted.view(-1, *(1,) * (new.ndim - 1)), new, old)
            for new, old in zip(after, before, strict=True)
        ))  # fmt: skip
        return chance.view(self.shape).mean(0)


def _half_square(velocity: Tensor) -> Tensor:
    return 0.5 * velocity.square().flatten(1).sum(1).double()


def _slope_of(distortion: Distortion, y: Tensor, out: Tensor) -> Tensor:
    """Gradient of the distortion of each row for what was decoded."""
    if type(distortion) is Bernoulli:  # the same in closed form, at a fraction of the cost
        return torch.sigmoid(out).sub_(y)
    with torch.enable_grad():
        leaf = out.requires_grad_()
        return torch.autograd.grad(distortion(y, leaf).sum(), leaf)[0]


@torch.no_grad()
def anneal(
    model: LatentModel,
    y: Tensor,
    z: Tensor,
    ladder: Tensor,
    steps: Tensor,
    *,
    leapfrog: int,
    generator: torch.Generator,
) -> Iterator[Stage]:
    """Leads chains from a law to another; `ladder.flip(0)` and `steps.flip(0)` lead them back.

    Args:
        model: prior, decoder and distortion.
        y: `(n, *event)`.
        z: where chains start, drawn from the law at `ladder[0]`, `(chains, n, *latent)`.
        ladder: values of beta, `(temperatures + 1,)`, rising or falling.
        steps: of each example at each value, `(temperatures + 1, n)`, as `tuned_steps` gives them.
        leapfrog: gradients in a trajectory.
        generator: what is drawn.

    Yields:
        A stage for each value of beta but the first: weighted, then moved.
    """
    chains = _Chains(model, y, z, leapfrog, generator)
    log_weight = torch.zeros(chains.shape, dtype=torch.float64, device=z.device)
    betas = ladder.tolist()
    for (before, beta), step in zip(pairwise(betas), steps[1:], strict=True):
        log_weight = log_weight - (beta - before) * chains.point.distortion.view(chains.shape)
        acceptance = chains.move(beta, step)
        yield Stage(beta, log_weight, chains.point.distortion.view(chains.shape), acceptance)


@torch.no_grad()
def tuned_steps(
    model: LatentModel, y: Tensor, ladder: Tensor, *, chains: int, leapfrog: int, generator: torch.Generator
) -> Tensor:
    """Step sizes at which 65 % of trajectories are accepted, for each example, `(len(ladder), n)`, float64.

    Chains of their own walk a fifth of the ladder; between its values ln step is interpolated. Arguments as for
    `anneal`, with the number of chains.
    """
    last = len(ladder) - 1
    count = max(TUNED_LEAST, last // TUNED_EVERY)
    betas = _between(ladder, torch.linspace(0, last, count, dtype=torch.float64)).tolist()
    n = len(y)
    walkers = _Chains(model, y, _started(model, chains, n, generator), leapfrog, generator)
    log_step = torch.full((n,), -math.log(leapfrog), dtype=torch.float64, device=y.device)
    kept = []
    for beta in [betas[0]] * SETTLING + betas:
        acceptance = walkers.move(beta, log_step.exp())
        log_step = log_step + GAIN * (acceptance - ACCEPTED)
        kept.append(log_step)
    position = torch.linspace(0, count - 1, len(ladder), dtype=torch.float64)
    return _between(torch.stack(kept[SETTLING:]), position.to(y.device)).exp()


def _between(values: Tensor, position: Tensor) -> Tensor:
    """Rows of `values` at positions between whole numbers, by linear interpolation."""
    low = position.floor().long().clamp(0, len(values) - 2)
    share = (position - low).view(-1, *(1,) * (values.ndim - 1))
    return torch.lerp(values[low], values[low + 1], share)


def _started(model: LatentModel, chains: int, n: int, generator: torch.Generator) -> Tensor:
    return prior_draws(model.prior, chains * n, generator).unflatten(0, (chains, n))


def example_blocks(y: Tensor, chains: int) -> tuple[Tensor, ...]:
    """Examples in parts whose chains fit into a cache together."""
    return y.split(max(1, AT_ONCE // (chains * y[0].numel())))


def _checked(ladder: Tensor | None) -> Tensor:
    ladder = sigmoid_ladder(1000) if ladder is None else ladder.double()
    if ladder.ndim != 1 or len(ladder) < 2 or ladder[0] != 0 or ladder[-1] != 1 or not bool((ladder.diff() > 0).all()):
        raise DataError("A ladder rises from 0 to 1 in one step or more. Make it with sigmoid_ladder or linear_ladder.")
    return ladder


def _log_mean_weight(
    model: LatentModel, y: Tensor, z: Tensor, ladder: Tensor, steps: Tensor, leapfrog: int, generator: torch.Generator
) -> Tensor:
    *_, last = anneal(model, y, z, ladder, steps, leapfrog=leapfrog, generator=generator)
    return torch.logsumexp(last.log_weight, 0) - math.log(len(z))


def annealed_log_evidence(
    model: Generating,
    y: Tensor,
    ladder: Tensor | None = None,
    *,
    distortion: Distortion | None = None,
    chains: int = 16,
    leapfrog: int = 10,
    seed: int = 0,
) -> Tensor:
    """The annealed estimate of ln p(y) of each example in nats, `(n,)`, float64: in expectation a lower bound.

    Args:
        model: any that generates, in `eval()` mode.
        y: `(n, *event)`.
        ladder: values of beta from 0 to 1; `sigmoid_ladder(1000)` if there is none.
        distortion: a likelihood of y given what the model shows, where the model has none of its own or another is
            wished for.
        chains: of each example; the estimate is the logarithm of their mean weight.
        leapfrog: gradients in each trajectory.
        seed: of what is drawn; PyTorch's own generator is left as it was.

    Raises:
        ModelError: there is no likelihood.
        DataError: the ladder is none.
    """
    target, ladder = latent_model(model, distortion), _checked(ladder)
    as_likelihood(target)
    generator = torch.Generator(y.device).manual_seed(seed)
    rows = []
    for part in example_blocks(y, chains):
        steps = tuned_steps(target, part, ladder, chains=chains, leapfrog=leapfrog, generator=generator)
        z = _started(target, chains, len(part), generator)
        rows.append(_log_mean_weight(target, part, z, ladder, steps, leapfrog, generator))
    return torch.cat(rows)


def annealed_log_likelihood(
    model: Generating,
    y: Tensor,
    ladder: Tensor | None = None,
    *,
    distortion: Distortion | None = None,
    chains: int = 16,
    leapfrog: int = 10,
    seed: int = 0,
) -> Measure:
    """Mean of `annealed_log_evidence` over examples: a lower bound on the mean ln p(y), in nats per example."""
    nats = annealed_log_evidence(model, y, ladder, distortion=distortion, chains=chains, leapfrog=leapfrog, seed=seed)
    return mean_of(nats, "nats per example", Kind.LOWER)


class Sandwich(NamedTuple):
    """ln p(y) of simulated examples from both sides, in nats, `(n,)` each."""

    y: Tensor  # (n, *event)
    lower: Tensor
    upper: Tensor

    def lower_bound(self) -> Measure:
        """Mean of the forward estimates."""
        return mean_of(self.lower, "nats per example", Kind.LOWER)

    def upper_bound(self) -> Measure:
        """Mean of the reverse estimates."""
        return mean_of(self.upper, "nats per example", Kind.UPPER)

    def gap(self) -> Measure:
        """Mean of upper minus lower: no less, in expectation, than what either side is off."""
        return mean_of(self.upper - self.lower, "nats per example", Kind.UPPER)


@torch.no_grad()
def bdmc(
    model: Generating,
    count: int,
    ladder: Tensor | None = None,
    *,
    distortion: Distortion | None = None,
    chains: int = 16,
    leapfrog: int = 10,
    seed: int = 0,
) -> Sandwich:
    """Bidirectional Monte Carlo: how far `annealed_log_evidence` with these settings can be trusted for this model.

    Examples are simulated from the model, which gives each of them one exact draw of its posterior; all reverse chains
    of an example start there. It says nothing of examples that the model would not generate.

    Args:
        model, ladder, distortion, chains, leapfrog, seed: as for `annealed_log_evidence`, with the same errors.
        count: examples.
    """
    target, ladder = latent_model(model, distortion), _checked(ladder)
    law = as_likelihood(target)
    origin = prior_draws(target.prior, count, torch.Generator().manual_seed(seed + SIMULATED))
    generator = torch.Generator(origin.device).manual_seed(seed + 1)
    with torch.random.fork_rng():
        torch.manual_seed(seed + SIMULATED + 1)
        y = law.sample(target.decoder(origin))
    blocks = example_blocks(y, chains)
    lower, upper = [], []
    for part, start in zip(blocks, origin.split(len(blocks[0])), strict=True):
        steps = tuned_steps(target, part, ladder, chains=chains, leapfrog=leapfrog, generator=generator)
        up = _started(target, chains, len(part), generator), ladder, steps
        down = start.expand(chains, *start.shape), ladder.flip(0), steps.flip(0)
        lower.append(_log_mean_weight(target, part, *up, leapfrog, generator))
        upper.append(-_log_mean_weight(target, part, *down, leapfrog, generator))
    return Sandwich(y, torch.cat(lower), torch.cat(upper))
