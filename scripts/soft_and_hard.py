"""Soft EM is to hard EM as a VAE is to a rate-distortion autoencoder: four models of one data set.

    python scripts/soft_and_hard.py

Writes docs/results/soft-and-hard.json, docs/images/soft-and-hard.png and the table of docs/exact.md; less than two
minutes of one core.

All four decode to a Gaussian of one fixed standard deviation, so all have the same lam, and each total is a bound on
the same thing, -ln p(y). They differ in the latent (one of K components, or a number) and in q(z | y) (a law, or one
point). Expectations are exact or quadratures on a fine grid; none is sampled.
"""

# ruff: noqa: RUF001

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rdae.autoencoder import NoisyChannelAutoencoder, RateDistortionAutoencoder
from rdae.channels import GaussianChannel, Mixed, Rounding
from rdae.exact import GaussianMixture, point_mass, restart_em
from rdae.likelihoods import Gaussian
from rdae.multipliers import Multipliers
from rdae.networks.dense import DenseDecoder, DenseEncoder
from rdae.objectives import divergence, rate_distortion
from rdae.priors.factorised import FactorisedPrior
from rdae.priors.latent import StandardNormalPrior
from rdae.reports.drawing import Axes, Figure, colormaps

DOCS = Path(__file__).parent.parent / "docs"
SIGMA = 0.2  # of every decoder, and of the noise of the source
LAM = Multipliers.from_sigma(SIGMA).lam  # nats per unit of squared error
CONSTANT = math.log(2 * math.pi * SIGMA**2)  # of a Gaussian in two dimensions: what lam * distortion leaves out
COMPONENTS = 12
EXAMPLES = 2000
SEED = 0
STEPS, BATCH, RATE = 4500, 128, 2e-3
INTEGERS = torch.arange(-60, 61)
GRID = torch.linspace(-7, 7, 3001, dtype=torch.float64)


class Row(NamedTuple):
    """Means over held-out examples, in nats per example. `total = code - back + distortion + constant`."""

    model: str
    latent: str
    law: str  # q(z | y)
    code: float  # -E ln p(z): the length of the code for z
    back: float  # H(q): what a sender who draws z can send besides (bits back)
    rate: float  # code - back = KL(q || p(z))
    distortion: float  # lam * E |y - y_hat|^2
    total: float  # minus the bound
    evidence: float  # -ln p(y)
    gap: float  # total - evidence = KL(q || p(z | y))


def curve(t: Tensor) -> Tensor:
    """Two half circles, one down and one up: `(n,)` in (-1, 1) to `(n, 2)`."""
    angle = math.pi * t
    return torch.stack([angle.sign() * (1 - torch.cos(angle)), torch.sin(angle)], 1)


def draw(count: int) -> Tensor:
    """Points along the curve, uniform in t, with Gaussian noise."""
    return curve(2 * torch.rand(count) - 1) + SIGMA * torch.randn(count, 2)


def source_evidence(y: Tensor) -> float:
    """Mean -ln p(y) under the source itself, by quadrature over t."""
    t = (torch.arange(4000) + 0.5) / 2000 - 1
    return -float((log_likelihood(y, curve(t)).logsumexp(1) - math.log(len(t))).mean())


def log_likelihood(y: Tensor, y_hat: Tensor) -> Tensor:
    """ln N(y; y_hat, SIGMA^2 I) of every pair, `(n, m)`."""
    return -LAM * torch.cdist(y, y_hat).square() - CONSTANT


def row(model: str, latent: str, law: str, code: Tensor, back: Tensor, distortion: Tensor, evidence: Tensor) -> Row:
    """The means, from one number an example each."""
    total = code - back + distortion + CONSTANT
    numbers = (code, back, code - back, distortion, total, evidence, total - evidence)
    return Row(model, latent, law, *(float(x.mean()) for x in numbers))


def fit_mixture(y: Tensor, hard: bool) -> GaussianMixture:
    """Soft or hard EM; weights and means are learned, the one spread is fixed."""
    model = GaussianMixture(COMPONENTS, 2, "isotropic")
    with torch.no_grad():
        model.components.log_std.fill_(math.log(SIGMA))
    model.components.log_std.requires_grad_(False)
    restart_em(model, y, starts=10, hard=hard, tol=1e-7)
    return model


@torch.no_grad()
def mixture_row(model: GaussianMixture, y: Tensor, hard: bool) -> Row:
    posterior = model.posterior(y)
    q = point_mass(posterior) if hard else posterior
    code, distortion = -model.expected_log_prior(q), model.terms(y, q).distortion - CONSTANT
    name, law = ("hard EM", "likeliest component") if hard else ("soft EM", "posterior")
    return row(name, f"1 of {COMPONENTS}", law, code, q.entropy(), distortion, -model.log_prob(y))


def train(model: nn.Module, y: Tensor, steps: int, parameters: list[nn.Parameter], lam: float) -> None:
    """Adam with a falling learning rate on rate + lam * distortion."""
    optimiser = torch.optim.Adam(parameters, RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        batch = y[torch.randint(len(y), (BATCH,))]
        loss = rate_distortion(model(batch, torch.full((BATCH,), lam)).terms, lam).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def networks(features: int) -> tuple[DenseEncoder, DenseDecoder]:
    """An encoder from the plane, a decoder from a number to it."""
    return DenseEncoder((2,), features, (64, 64), nn.SiLU), DenseDecoder((2,), 1, (64, 64), activation=nn.SiLU)


def fit_vae(y: Tensor) -> NoisyChannelAutoencoder:
    """One Gaussian latent variable, N(0, 1) for prior; the likelihood's lam is 1."""
    channel = GaussianChannel(1)
    encoder, decoder = networks(channel.features)
    model = NoisyChannelAutoencoder(encoder, channel, StandardNormalPrior(1), decoder, Gaussian(SIGMA))
    train(model, y, STEPS, list(model.parameters()), 1.0)
    return model.eval()


@torch.no_grad()
def vae_row(model: NoisyChannelAutoencoder, y: Tensor) -> Row:
    q, p = model.posterior(y), model.code()
    node, weight = (torch.tensor(x) for x in np.polynomial.hermite_e.hermegauss(40))
    z = q.mean + q.stddev * node[:, None, None]  # (nodes, n, 1)
    y_hat = model.decoder(z.flatten(0, 1)).unflatten(0, z.shape[:2])
    distortion = LAM * torch.einsum("k,kn->n", weight / weight.sum(), (y - y_hat).square().sum(-1))
    step = float(GRID[1] - GRID[0])
    joint = log_likelihood(y, model.decoder(GRID[:, None])) + p.log_prob(GRID[:, None]) + math.log(step)
    code = divergence(q, p) + q.entropy()
    return row("VAE", "a number", "Gaussian", code, q.entropy(), distortion, -joint.logsumexp(1))


class AtLam(nn.Module):
    """A network that takes lam and does not look at it; latents have a height and width of one."""

    def __init__(self, network: nn.Module, image: bool) -> None:
        super().__init__()
        self.network, self.image = network, image

    def forward(self, x: Tensor, lam: Tensor) -> Tensor:
        return self.network(x)[..., None, None] if self.image else self.network(x.flatten(1))


def fit_rda(y: Tensor) -> RateDistortionAutoencoder:
    """One rounded latent variable. Straight-through rounding first; then decoder and prior on true rounding alone."""
    prior = FactorisedPrior(torch.tensor([4.0]), slope=0.0)
    encoder, decoder = networks(1)
    with torch.no_grad():
        encoder.layers[-1].weight.mul_(4)  # starts with several symbols in use, not with one
    model = RateDistortionAutoencoder(AtLam(encoder, True), prior, AtLam(decoder, False), Mixed())
    train(model.train(), y, 2 * STEPS // 3, list(model.parameters()), LAM)
    model.channel = Rounding()
    train(model.train(), y, STEPS // 3, [*model.prior.parameters(), *model.decoder.parameters()], LAM)
    return model.eval()


@torch.no_grad()
def codebook(model: RateDistortionAutoencoder) -> tuple[Tensor, Tensor]:
    """ln p(z) of the integers, `(m,)`, and what they decode to, `(m, 2)`."""
    z = INTEGERS.double().view(-1, 1, 1, 1)
    lam = torch.full((len(z),), LAM)
    coded = model.prior(z, model.channel, lam)
    return -coded.rate, model.decoder(z, lam)


@torch.no_grad()
def rda_row(model: RateDistortionAutoencoder, y: Tensor) -> Row:
    terms = model(y, torch.full((len(y),), LAM)).terms
    log_mass, y_hat = codebook(model)
    evidence = -(log_likelihood(y, y_hat) + log_mass).logsumexp(1)
    nothing = torch.zeros_like(terms.rate)
    return row("RDA", "an integer", "rounded number", terms.rate, nothing, LAM * terms.distortion, evidence)


def table(rows: list[Row]) -> str:
    """The table of docs/exact.md."""
    head = [
        "model", "latent z", "q(z∣y)", "−ln p(z)", "− H(q)", "= rate", "+ λ · distortion", "+ constant", "= total",
        "−ln p(y)", "gap",
    ]  # fmt: skip
    lines = [head, ["---"] * 3 + ["---:"] * (len(head) - 3)]
    for r in rows:
        numbers = r.code, -r.back, r.rate, r.distortion, CONSTANT, r.total, r.evidence, r.gap
        lines.append([r.model, r.latent, r.law, *(f"{x + 0.0:.3f}".replace("-", "\u2212") for x in numbers)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def put(page: Path, mark: str, text: str) -> None:
    """Replaces what stands between `<!-- mark -->` and `<!-- /mark -->`."""
    start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    head, rest = page.read_text(encoding="utf-8").split(start)
    page.write_text(f"{head}{start}\n{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")


@torch.no_grad()
def colours(position: Tensor) -> np.ndarray:
    """A colour for each position along the curve, from end to end."""
    return colormaps["turbo"](((position + 1) / 2).numpy())


def along(y_hat: Tensor) -> Tensor:
    """Where on the curve each point lies nearest, in (-1, 1)."""
    t = torch.linspace(-1, 1, 2001)
    return t[torch.cdist(y_hat, curve(t)).argmin(1)]


@torch.no_grad()
def figure(y: Tensor, soft: GaussianMixture, hard: GaussianMixture, vae: Any, rda: Any, rows: list[Row]) -> Figure:
    """Four panels of points and decoders, and the terms of the four totals beside them."""
    drawing = Figure(figsize=(12, 5.2), layout="constrained")
    grid = drawing.add_gridspec(2, 3, width_ratios=(1, 1, 0.95))
    axes = [drawing.add_subplot(grid[k // 2, k % 2]) for k in range(4)]
    for k, (ax, model, is_hard) in enumerate(zip(axes, (soft, hard), (False, True), strict=False)):
        means, weights = model.components.mean, model.weights
        q = model.posterior(y).probs
        shown = q if not is_hard else nn.functional.one_hot(q.argmax(1), COMPONENTS).double()
        ax.scatter(*y.T, s=6, c=np.clip(shown.numpy() @ colours(along(means)), 0, 1), linewidths=0)
        used = weights > 1e-3
        ax.scatter(*means[used].T, s=900 * weights[used], facecolors="none", edgecolors="black", linewidths=1.2)
        ax.scatter(*means[used].T, s=8, c="black")
        ax.set_title(("soft EM: a share of each component", "hard EM: one component")[k], fontsize=10)
    z = vae.posterior(y).mean
    axes[2].scatter(*y.T, s=6, c=colours(along(vae.decoder(z))), linewidths=0)
    path = vae.decoder(torch.linspace(-2.5, 2.5, 400)[:, None])
    axes[2].plot(*path.T, color="black", linewidth=1.2)
    ticks = vae.decoder(torch.linspace(-2, 2, 9)[:, None])
    axes[2].scatter(*ticks.T, s=14, c="black")
    axes[2].set_title("VAE: z drawn from a Gaussian", fontsize=10)
    log_mass, y_hat = codebook(rda)
    code = rda(y, torch.full((len(y),), LAM)).y_hat
    axes[3].scatter(*y.T, s=6, c=colours(along(code)), linewidths=0)
    used = log_mass.exp() > 1e-3
    axes[3].scatter(*y_hat[used].T, s=900 * log_mass.exp()[used], facecolors="none", edgecolors="black", linewidths=1.2)
    axes[3].scatter(*y_hat[used].T, s=8, c="black")
    axes[3].set_title("rate–distortion autoencoder: z rounded", fontsize=10)
    for ax in axes:
        ax.set(aspect="equal", xlim=(-2.75, 2.75), ylim=(-1.7, 1.7), xticks=[], yticks=[])
    _bars(drawing.add_subplot(grid[:, 2]), rows)
    return drawing


def _bars(ax: Axes, rows: list[Row]) -> None:
    names = [r.model for r in rows]
    rate, distortion = [r.rate for r in rows], [r.distortion for r in rows]
    ax.bar(names, rate, color="#3b6ea5", width=0.6, label="rate, KL(q ‖ p(z))")
    ax.bar(names, distortion, bottom=rate, color="#e0a030", width=0.6, label="λ · distortion")
    for x, r in enumerate(rows):
        top = r.rate + r.distortion
        ax.text(x, r.rate / 2, f"{r.rate:.2f}", ha="center", va="center", color="white")
        ax.text(x, r.rate + 0.3 * r.distortion, f"{r.distortion:.2f}", ha="center", va="center")
        ax.text(x, top + 0.04, f"{top:.2f}", ha="center", va="bottom", fontweight="bold")
        level = r.evidence - CONSTANT
        ax.plot([x - 0.36, x + 0.36], [level, level], color="black", linewidth=1.6, label="−ln p(y)" if not x else None)
    ax.set(ylabel="nats per example, without the Gaussian's constant")
    ax.set_ylim(0, 1.28 * max(a + b for a, b in zip(rate, distortion, strict=True)))
    ax.legend(loc="upper left", fontsize=9, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Fits, measures, writes."""
    torch.manual_seed(SEED)
    torch.set_default_dtype(torch.float64)
    y, test = draw(EXAMPLES), draw(EXAMPLES)
    soft, hard = fit_mixture(y, False), fit_mixture(y, True)
    vae, rda = fit_vae(y), fit_rda(y)
    rows = [mixture_row(soft, test, False), mixture_row(hard, test, True), vae_row(vae, test), rda_row(rda, test)]
    about = {
        "sigma": SIGMA, "lam": LAM, "constant": CONSTANT, "examples": EXAMPLES, "components": COMPONENTS, "seed": SEED,
        "steps": STEPS, "batch": BATCH, "unit": "nats per example", "source_evidence": source_evidence(test),
        "integers_in_use": int((codebook(rda)[0].exp() > 1e-3).sum()),
        "mass_of_integers": float(codebook(rda)[0].exp().sum()),
    }  # fmt: skip
    text = table(rows)
    print(text, about, sep="\n")
    result = {**about, "rows": [r._asdict() for r in rows]}
    (DOCS / "results" / "soft-and-hard.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    figure(test[:1000], soft, hard, vae, rda, rows).savefig(DOCS / "images" / "soft-and-hard.png", dpi=100)
    put(DOCS / "exact.md", "soft-and-hard", text)


if __name__ == "__main__":
    main()
