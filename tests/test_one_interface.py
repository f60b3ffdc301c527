"""Rounding and noisy channels are called alike and mean the same: one suite of laws for all of them (R54).

The source is Gaussian with variances 4, 1 and 1/4, so the least of rate + lam * distortion is known: by reverse
water-filling each variable has distortion min(variance, 1 / (2 lam)).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from rdae.autoencoder import NoisyChannelAutoencoder, Output, RateDistortionAutoencoder
from rdae.channels import FullGaussianChannel, GaussianChannel, Mixed, SharedNoiseChannel, StraightThrough, UniformNoise
from rdae.objectives import rate_distortion
from rdae.priors.factorised import FactorisedPrior
from rdae.priors.latent import FullNormalPrior, NormalPrior

VARIANCES = (4.0, 1.0, 0.25)
SIZE = len(VARIANCES)
SPREAD = torch.tensor(VARIANCES).sqrt()
UNIFORM_LOSS = 0.5 * math.log(2 * math.pi * math.e / 12)  # nats a variable that a uniform step loses, at high rate
LAMS = 1.0, 6.0


class WithLam(nn.Module):
    """A network that has no use for lam."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, lam: Tensor) -> Tensor:
        return self.net(x)


def rounding(channel: nn.Module) -> RateDistortionAutoencoder:
    """1 x 1 convolutions; latents start in steps of 1/2."""
    encoder, decoder = nn.Conv2d(SIZE, SIZE, 1), nn.Conv2d(SIZE, SIZE, 1)
    with torch.no_grad():
        encoder.weight.copy_(2 * torch.eye(SIZE)[..., None, None])
        decoder.weight.copy_(0.5 * torch.eye(SIZE)[..., None, None])
    prior = FactorisedPrior(2 * SPREAD, slope=0.0, components=1, family="gaussian")
    return RateDistortionAutoencoder(WithLam(encoder), prior, WithLam(decoder), channel)


def noisy(channel: nn.Module, prior: nn.Module) -> NoisyChannelAutoencoder:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(SIZE, channel.features))
    decoder = nn.Sequential(nn.Linear(SIZE, SIZE), nn.Unflatten(1, (SIZE, 1, 1)))
    return NoisyChannelAutoencoder(encoder, channel, prior, decoder)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "uniform noise": lambda: rounding(UniformNoise()),
    "mixed": lambda: rounding(Mixed()),
    "straight through": lambda: rounding(StraightThrough()),
    "gaussian": lambda: noisy(GaussianChannel(SIZE), NormalPrior(SIZE)),
    "full covariance": lambda: noisy(FullGaussianChannel(SIZE), FullNormalPrior(SIZE)),
    "shared noise": lambda: noisy(SharedNoiseChannel(SIZE, 0.5), NormalPrior(SIZE)),
}
EVERY_MODEL = pytest.mark.parametrize("name", MODELS)
ROUNDS = "uniform noise", "mixed", "straight through"


def draw(count: int) -> Tensor:
    return torch.randn(count, SIZE, 1, 1) * SPREAD[:, None, None]


def call(model: nn.Module, y: Tensor, lam: float) -> Output:
    return model(y, torch.full((len(y),), lam))


@cache
def trained(name: str, lam: float) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS[name]()
    steps = 800 if name in ROUNDS else 1600
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        loss = rate_distortion(call(model.train(), draw(256), lam).terms, lam).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def least(lam: float) -> tuple[float, float]:
    """Rate and distortion on the source's R(D) where its slope is -lam."""
    shares = [min(variance, 1 / (2 * lam)) for variance in VARIANCES]
    return sum(0.5 * math.log(v / d) for v, d in zip(VARIANCES, shares, strict=True)), sum(shares)


def rate_at(distortion: float) -> float:
    """R(D) of the source in nats, by bisection of the water level."""
    low, high = 0.0, max(VARIANCES)
    for _ in range(60):
        level = (low + high) / 2
        low, high = (level, high) if sum(min(v, level) for v in VARIANCES) < distortion else (low, level)
    return sum(max(0.0, 0.5 * math.log(v / level)) for v in VARIANCES)


@EVERY_MODEL
def test_one_call_gives_a_reconstruction_and_a_number_of_each_term_for_each_example(name):
    torch.manual_seed(1)
    model, y = MODELS[name](), draw(5)
    for mode in (model.train(), model.eval()):
        out = call(mode, y, 2.0)
        assert out.y_hat.shape == y.shape
        assert out.terms.rate.shape == out.terms.distortion.shape == (5,)
        torch.testing.assert_close(out.terms.distortion, (y - out.y_hat).square().flatten(1).sum(1))
        assert bool((out.terms.distortion >= 0).all())
    if name not in ("mixed", "straight through"):  # their latents are not where their rate is read
        assert bool((out.terms.rate >= -1e-5).all())


@EVERY_MODEL
def test_examples_do_not_mix(name):
    torch.manual_seed(1)
    model, y = MODELS[name]().eval(), draw(6)
    together = call(model, y, 2.0)
    alone = torch.cat([call(model, part, 2.0).terms.rate for part in y.split(1)])
    torch.testing.assert_close(together.terms.rate, alone)  # a code length, or a divergence in closed form


@EVERY_MODEL
def test_the_decoder_sees_nothing_but_the_latent(name):
    torch.manual_seed(1)
    model, y = MODELS[name]().eval(), draw(4)
    out = call(model, y, 2.0)
    lam = (torch.full((4,), 2.0),) if name in ROUNDS else ()
    torch.testing.assert_close(model.decoder(out.latent, *lam), out.y_hat)


@EVERY_MODEL
def test_the_objective_moves_every_part(name):
    torch.manual_seed(1)
    model = MODELS[name]().train()
    rate_distortion(call(model, draw(64), 2.0).terms, 2.0).mean().backward()
    still = [key for key, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    # one component has no weight to learn, and at a slope of zero its gain is that of one lam only
    assert [key for key in still if "logit" not in key and "gain" not in key] == []


@EVERY_MODEL
@pytest.mark.parametrize("lam", LAMS)
def test_no_model_beats_the_rate_distortion_function_and_each_comes_as_near_as_its_channel_can(name, lam):
    model = trained(name, lam)
    torch.manual_seed(2)
    with torch.no_grad():
        terms = call(model, draw(100_000), lam).terms
    cost = rate_distortion(terms, lam)
    error, rate_error, distortion_error = (float(x.std()) / math.sqrt(len(x)) for x in (cost, *terms))
    rate, distortion = float(terms.rate.mean()), float(terms.distortion.mean())
    assert rate > rate_at(distortion) - 5 * (rate_error + lam * distortion_error)
    best = least(lam)[0] + lam * least(lam)[1]
    loss = SIZE * UNIFORM_LOSS if name in ROUNDS else 0.0
    assert float(cost.mean()) < best + loss + 5 * error + 0.05
    if name in ROUNDS:
        assert float(cost.mean()) > best + 0.3 * loss  # a scalar step cannot do what long blocks can


@EVERY_MODEL
def test_more_weight_on_distortion_buys_rate(name):
    torch.manual_seed(3)
    y = draw(20_000)
    with torch.no_grad():
        low, high = (call(trained(name, lam), y, lam).terms for lam in LAMS)
    assert float(high.rate.mean()) > float(low.rate.mean()) + 1.0
    assert float(high.distortion.mean()) < 0.5 * float(low.distortion.mean())
