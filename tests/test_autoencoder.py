"""The rate-distortion autoencoder: values of the objective by hand, its terms, its modes, any distortion."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import Channel, Coded, Mixed, Rounding, UniformNoise
from rdae.distortions import absolute_error, squared_error
from rdae.errors import ShapeError
from rdae.objectives import BITS_PER_NAT, Terms, rate_distortion
from rdae.priors.factorised import FactorisedPrior, unit_bin_log_mass


class Same(nn.Module):
    """Encoder or decoder that hands its input on."""

    def forward(self, x: Tensor, lam: Tensor) -> Tensor:
        return x


class Words(nn.Module):
    """The code 0 -> "0", 1 -> "10", 2 -> "11"."""

    def forward(self, z: Tensor, channel: Channel, lam: Tensor) -> Coded:
        bits = torch.tensor([1.0, 2.0, 2.0])
        sent = channel(z)
        return Coded(sent.decoder, bits[sent.rate.long()].flatten(1).sum(1) / BITS_PER_NAT)


class Lookup(nn.Module):
    """Symbols 0, 1, 2 to 0, 1, 3."""

    def forward(self, z: Tensor, lam: Tensor) -> Tensor:
        return torch.tensor([0.0, 1.0, 3.0])[z.long()]


def three_symbols(distortion=squared_error) -> RateDistortionAutoencoder:
    return RateDistortionAutoencoder(Same(), Words(), Lookup(), Rounding(), distortion).eval()


Y = torch.tensor([[0.2], [1.4], [1.6]])  # rounds to 0, 1, 2


def test_the_objective_of_a_three_symbol_code_by_hand():
    out = three_symbols()(Y, torch.full((3,), 0.5))
    assert_close(out.terms.rate * BITS_PER_NAT, torch.tensor([1.0, 2.0, 2.0]))
    assert_close(out.terms.distortion, torch.tensor([0.04, 0.16, 1.96]))
    bits = (out.terms.rate * BITS_PER_NAT + 0.5 * out.terms.distortion).mean()
    assert_close(bits, torch.tensor((1.02 + 2.08 + 2.98) / 3))
    # in nats the same trade has lam * ln 2
    assert_close(rate_distortion(out.terms, 0.5 * math.log(2)).mean(), bits * math.log(2))
    assert out.y_hat.flatten().tolist() == [0, 1, 3]
    assert out.latent.flatten().tolist() == [0, 1, 2]


def test_the_objective_is_the_sum_of_its_two_expectations():
    terms = three_symbols()(Y, torch.ones(3)).terms
    lam = 3.0
    whole = rate_distortion(terms, lam).mean()
    assert_close(whole, terms.rate.mean() + lam * terms.distortion.mean())
    each = torch.tensor([0.0, 1.0, 10.0])
    assert_close(rate_distortion(terms, each), terms.rate + each * terms.distortion)


def test_terms_of_different_shapes_are_refused():
    with pytest.raises(ShapeError, match="sum over the other dimensions"):
        rate_distortion(Terms(torch.zeros(3), torch.zeros(3, 1)), 1.0)


def test_any_callable_is_a_distortion():
    calls = []

    def largest(y: Tensor, y_hat: Tensor) -> Tensor:
        calls.append((y, y_hat))
        return (y - y_hat).abs().flatten(1).amax(1)

    out = three_symbols(largest)(Y, torch.ones(3))
    assert_close(out.terms.distortion, torch.tensor([0.2, 0.4, 1.4]))
    assert calls[0][0] is Y
    assert calls[0][1] is out.y_hat
    assert_close(three_symbols(absolute_error)(Y, torch.ones(3)).terms.distortion, out.terms.distortion)


def relaxed_model(channel: Channel) -> RateDistortionAutoencoder:
    return RateDistortionAutoencoder(Same(), FactorisedPrior(torch.tensor([2.0, 5.0])), Same(), channel)


def test_training_relaxes_and_evaluation_rounds():
    torch.manual_seed(0)
    model = relaxed_model(UniformNoise())
    y, lam = 4 * torch.randn(2, 2, 16, 16), torch.tensor([6.0, 6.0])
    relaxed, rounded = model.train()(y, lam).terms, model.eval()(y, lam).terms
    assert_close(rounded.distortion, (y - torch.floor(y + 0.5)).square().sum((1, 2, 3)))
    # noise: 512 squares of mean 1/12 and variance 1/80 - 1/144, five standard errors
    assert ((relaxed.distortion / 512 - 1 / 12).abs() < 5 * math.sqrt((1 / 80 - 1 / 144) / 512)).all()
    assert (relaxed.distortion != rounded.distortion).all()
    assert (relaxed.rate != rounded.rate).all()


def test_without_a_relaxation_there_is_no_gap():
    y, lam = torch.randn(2, 2, 4, 4), torch.tensor([6.0, 6.0])
    model = relaxed_model(Rounding())
    relaxed, rounded = model.train()(y, lam).terms, model.eval()(y, lam).terms
    assert_close(relaxed.distortion, rounded.distortion)


def test_rounding_stops_the_encoders_gradient_and_relaxations_do_not():
    y, lam = 3 * torch.randn(2, 2, 4, 4), torch.tensor([6.0, 6.0])
    for channel, learns in ((Rounding(), False), (UniformNoise(), True), (Mixed(), True)):
        model = relaxed_model(channel).train()
        scale = torch.ones((), requires_grad=True)
        coded = model.prior(scale * y, model.channel, lam)
        total = coded.rate.sum() + coded.latent.square().sum()
        (gradient,) = torch.autograd.grad(total, scale)
        assert bool(gradient != 0) == learns


def test_more_weight_on_distortion_buys_rate_at_the_price_named_by_lam():
    """A unit Gaussian, a uniform step with an ideal code: along the best steps R rises, D falls, dR/dD = -lam."""
    steps = torch.exp(torch.linspace(math.log(0.02), math.log(3), 1200, dtype=torch.float64))
    n = torch.arange(-400, 401, dtype=torch.float64)
    log_mass = unit_bin_log_mass(n, n.new_zeros(()), 1 / steps[:, None], "gaussian")
    rate = -(log_mass.exp() * log_mass).sum(1)
    t = torch.linspace(-8, 8, 16001, dtype=torch.float64)
    density = torch.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    rounded = torch.floor(t / steps[:, None] + 0.5) * steps[:, None]
    distortion = ((t - rounded).square() * density).sum(1) * (t[1] - t[0])
    lams = torch.tensor([10.0, 40.0, 160.0, 640.0], dtype=torch.float64)
    best = [int(rate_distortion(Terms(rate, distortion), lam).argmin()) for lam in lams]
    assert (rate[best].diff() > 0).all()
    assert (distortion[best].diff() < 0).all()
    for k, lam in zip(best, lams, strict=True):
        slope = (rate[k + 20] - rate[k - 20]) / (distortion[k + 20] - distortion[k - 20])
        assert_close(slope, -lam, rtol=0.03, atol=0)
