"""Everything measured of one model, in sections: rate and distortion, ln p(y) from several sides, latent, encoder.

What a model cannot be asked is left out with a word on why: an implicit model has no encoder, a model without a
likelihood no ln p(y).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from rdae.adversarial.model import ImplicitModel
from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.data.arrays import Kind as DataKind
from rdae.errors import DataError, ModelError
from rdae.ladder import LadderAutoencoder
from rdae.likelihoods import Likelihood
from rdae.measures.amortisation import amortisation
from rdae.measures.annealing import annealed_log_evidence, bdmc, sigmoid_ladder
from rdae.measures.decomposition import aggregated_total_correlation, rate_parts
from rdae.measures.information_bounds import information_bounds
from rdae.measures.likelihood import active_units, log_evidence
from rdae.measures.measure import Kind, Measure, mean_of
from rdae.measures.overlap import aggregated_divergence, index_information, mean_overlap
from rdae.measures.prior_sampling import prior_log_likelihood
from rdae.objectives import BITS_PER_NAT, divergence

__all__ = ["Budget", "Line", "ModelReport", "Section", "model_report"]

AT_ONCE = 1 << 22  # elements of examples
NATS = "nats per example"
Model = NoisyChannelAutoencoder | LadderAutoencoder | ImplicitModel


class Budget(NamedTuple):
    """How much of what; all of it decides error bars and how tight bounds are, not what is measured.

    Args:
        examples: for rate, distortion and importance sampling.
        samples: importance samples, and draws from the prior, of each.
        latent_examples: posteriors that are mixed and compared in pairs.
        searched: examples whose posterior is searched for, and whose ln p(y) is annealed.
        temperatures: of annealing; 0 leaves it out.
        search_steps: of the search; 0 leaves it out.
        seed: of all draws.
    """

    examples: int = 1000
    samples: int = 500
    latent_examples: int = 500
    searched: int = 50
    temperatures: int = 300
    search_steps: int = 300
    seed: int = 0


USUAL = Budget()


class Line(NamedTuple):
    """A measure by name, and what it says."""

    name: str
    measure: Measure
    reading: str


class Section(NamedTuple):
    """Measures that belong together; where none could be taken, why."""

    title: str
    lines: list[Line]
    note: str = ""


class ModelReport(NamedTuple):
    """All sections, and what pictures are drawn from."""

    sections: list[Section]
    examples: int
    elements: int  # of an example
    rates: Tensor | None  # of each example, nats
    distortions: Tensor | None
    unit_rates: Tensor | None  # mean rate of each latent unit, nats

    def as_json(self) -> dict[str, Any]:
        """Every measure in plain values."""
        return {
            "examples": self.examples,
            "sections": [
                {
                    "title": section.title, "note": section.note,
                    "measures": [
                        {
                            "name": line.name, "value": _plain(line.measure.value),
                            "standard_error": _plain(line.measure.standard_error), "unit": line.measure.unit,
                            "kind": str(line.measure.kind),
                        }
                        for line in section.lines
                    ],
                }
                for section in self.sections
            ],
        }  # fmt: skip

    def text(self) -> str:
        """For a terminal."""
        width = max((len(line.name) for s in self.sections for line in s.lines), default=0)
        parts = []
        for section in self.sections:
            parts.append(section.title + (f"\n  {section.note}" if section.note else ""))
            parts += [f"  {line.name:{width}}  {line.measure}" for line in section.lines]
        return "\n".join(parts)


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def model_report(model: Model, y: Tensor, kind: DataKind, budget: Budget = USUAL) -> ModelReport:
    """Measures a model on held-out examples.

    Args:
        model: in `eval()` mode.
        y: as the model takes them, `(n, *event)`; the first ones are looked at.
        kind: of the data; decides what ln p(y) is a density or a probability of.
        budget: how much. PyTorch's own generator is left as it was.
    """
    with torch.random.fork_rng():
        torch.manual_seed(budget.seed)
        return _reported(model, y[: budget.examples], kind, budget)


def _reported(model: Model, seen: Tensor, kind: DataKind, budget: Budget) -> ModelReport:
    sections: list[Section] = []
    units = None
    if isinstance(model, ImplicitModel):
        note = "An implicit model has samples and nothing else: judge those with rdae judge. Its rate-distortion " \
               "curve is in rdae.measures.generator_curve."  # fmt: skip
        return ModelReport([Section("Rate and distortion", [], note)], len(seen), seen[0].numel(), None, None, None)
    rates, distortions = _terms(model, seen)
    finite = bool(torch.isfinite(rates).all())
    sections.append(_rate_and_distortion(model, rates, distortions))
    sections.append(_evidence(model, seen, kind, budget, -(rates + distortions) if finite else None))
    if isinstance(model, NoisyChannelAutoencoder):
        q = _posterior(model, seen[: budget.latent_examples])
        sections.append(_latent(model, seen, q))
        units = _unit_rates(q, model.code())
        sections.append(_amortisation(model, seen, budget, finite))
    return ModelReport(sections, len(seen), seen[0].numel(), rates, distortions, units)


@torch.no_grad()
def _terms(model: NoisyChannelAutoencoder | LadderAutoencoder, y: Tensor) -> tuple[Tensor, Tensor]:
    parts = [model(part).terms for part in y.split(max(1, AT_ONCE // y[0].numel()))]
    return torch.cat([t.rate for t in parts]), torch.cat([t.distortion for t in parts])


@torch.no_grad()
def _posterior(model: NoisyChannelAutoencoder, y: Tensor) -> Distribution:
    return model.posterior(y)


def _rate_and_distortion(model: Any, rates: Tensor, distortions: Tensor) -> Section:
    rate = mean_of(rates, NATS, Kind.UPPER)
    lines = [
        Line("rate", rate, "KL(q(z|y) || p(z)), the cross mutual information: never below I(y; z)."),
        Line("rate in bits", Measure(rate.value * BITS_PER_NAT, rate.standard_error * BITS_PER_NAT, "bits per example",
             Kind.UPPER), "The same."),
    ]  # fmt: skip
    name = "-ln p(y|z)" if isinstance(model.distortion, Likelihood) else "distortion"
    unit = NATS if isinstance(model.distortion, Likelihood) else "distortion per example"
    lines.append(Line(name, mean_of(distortions, unit, Kind.ESTIMATE), "At latents drawn from the channel."))
    note = (
        ""
        if math.isfinite(rate.value)
        else "The channel has no noise: an exact real number costs infinitely many nats."
    )
    return Section("Rate and distortion", lines, note)


def _evidence(model: Any, y: Tensor, kind: DataKind, budget: Budget, elbo: Tensor | None) -> Section:
    title = "ln p(y)"
    if not isinstance(model.distortion, Likelihood):
        return Section(title, [], "The distortion is no likelihood, so there is no p(y).")
    lines = []
    torch.manual_seed(budget.seed)
    if elbo is not None:
        lines.append(Line("ELBO", mean_of(elbo, NATS, Kind.LOWER), "Minus rate, minus distortion."))
        weighed = log_evidence(model, y, budget.samples)
        lines.append(Line(
            f"importance weighting, {budget.samples} samples", mean_of(weighed, NATS, Kind.LOWER),
            "The encoder's draws, weighed.",
        ))  # fmt: skip
        if not (model.distortion.discrete or kind is DataKind.BINARY):
            note = (
                "Of a density: in other units of y the numbers differ by a constant, and values above 0 are possible."
            )
        else:
            note = ""
            bits = -float(weighed.double().mean()) * BITS_PER_NAT / y[0].numel()
            lines.append(Line("bits per dimension", Measure(bits, lines[-1].measure.standard_error * BITS_PER_NAT
                         / y[0].numel(), "bits per element", Kind.UPPER), "Of the same."))  # fmt: skip
    else:
        note = "Without noise in the channel there are no importance weights."
    few = y[: budget.searched]
    lines.append(Line(
        f"prior sampling, {budget.samples} draws", prior_log_likelihood(model, few, budget.samples, seed=budget.seed),
        f"The naive estimate, {len(few)} examples: far too low unless the latent is small.",
    ))  # fmt: skip
    if budget.temperatures:
        ladder = sigmoid_ladder(budget.temperatures)
        annealed = annealed_log_evidence(model, few, ladder, seed=budget.seed)
        lines.append(Line(f"annealing, {budget.temperatures} temperatures", mean_of(annealed, NATS, Kind.LOWER),
                          f"Needs no encoder; {len(few)} examples."))  # fmt: skip
        if elbo is not None:
            torch.manual_seed(budget.seed)
            apart = annealed - log_evidence(model, few, budget.samples).double()
            lines.append(Line("annealing minus importance weighting", mean_of(apart, NATS, Kind.ESTIMATE),
                              "The same examples. Both are too low: the higher is the better."))  # fmt: skip
        gap = bdmc(model, len(few), ladder, seed=budget.seed).gap()
        lines.append(Line("annealing, upper minus lower", gap,
                          "Of data the model made itself: no less than what annealing is off by there."))  # fmt: skip
    return Section(title, lines, note)


def _latent(model: NoisyChannelAutoencoder, y: Tensor, q: Distribution) -> Section:
    prior, count = model.code(), q.batch_shape[0]
    lines = [Line("active units", Measure(active_units(model, y), 0.0, f"of {model.units}", Kind.EXACT),
                  "Whose posterior mean varies over the examples by more than 0.01.")]  # fmt: skip

    def tried(name: str, measured: Callable[[], Measure], reading: str) -> None:
        try:
            lines.append(Line(name, measured(), reading))
        except (DataError, ModelError, NotImplementedError):
            refused.append(name)

    refused: list[str] = []
    told = f"What a latent tells of which of {count} examples it is of; at most ln {count} = {math.log(count):.2f}."
    if isinstance(q.mean, Tensor) and bool((q.variance > 0).all()):
        tried("index information", lambda: index_information(q), told)
        tried("KL(q(z) || p(z))", lambda: aggregated_divergence(q, prior), "What the rate is above that.")
        tried("total correlation", lambda: aggregated_total_correlation(q), "Of that, what units share.")
        tried("dimension-wise KL", lambda: rate_parts(q, prior).dimension_wise,
              "Of that, what single units miss; factorised priors only.")  # fmt: skip
        bounds = cache(partial(information_bounds, q))  # from the same draws
        tried(
            "I(y; z), InfoNCE",
            lambda: bounds().lower,
            f"What a latent tells of its datum, for all data and not these {count}; never above ln {count}.",
        )
        tried(
            "I(y; z), leave-one-out",
            lambda: bounds().upper,
            "The same from above. Where posteriors lie apart it is far too high: then the rate bounds it better.",
        )
        tried("mean overlap of two posteriors", lambda: mean_overlap(q), "0: all apart; 1: all the same.")
        note = f"Not defined here, for this channel and prior: {', '.join(refused)}." if refused else ""
    else:
        note = "The channel has no noise: posteriors are points and do not overlap."
    return Section("The latent", lines, note)


def _unit_rates(q: Distribution, p: Distribution) -> Tensor | None:
    """Mean rate of each unit, where both laws are products over units."""
    base = getattr(q, "base_dist", None), getattr(p, "base_dist", None)
    if None in base:
        return None
    try:
        return divergence(*base).mean(0).flatten().detach()  # type: ignore[arg-type]
    except (NotImplementedError, RuntimeError):
        return None


def _amortisation(model: NoisyChannelAutoencoder, y: Tensor, budget: Budget, finite: bool) -> Section:
    title = "Generation in place of search"
    if not isinstance(model.distortion, Likelihood) or not finite:
        return Section(title, [], "Needs a likelihood and a channel with noise.")
    if not budget.search_steps:
        return Section(title, [], "Left out.")
    found = amortisation(model, y[: budget.searched], steps=budget.search_steps, seed=budget.seed)
    lines = [
        Line("ELBO at the encoder's posterior", found.generated_bound(), f"{len(found.generated)} examples."),
        Line("ELBO at a posterior searched for", found.searched_bound(), f"{budget.search_steps} steps for each."),
        Line("amortisation gap", found.gap(), "What the encoder loses by answering at once."),
    ]
    seconds = f"The encoder took {found.generation_seconds:.2g} s for all, the search {found.search_seconds:.2g} s."
    return Section(title, lines, seconds)
