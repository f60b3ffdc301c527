"""Channels: what rounding does, what stands in for it, and what gradient each lets through."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from rdae.channels import (
    Conditional,
    Mixed,
    RateDistortionRounding,
    Rounding,
    StraightThrough,
    UniformNoise,
    round_half_up,
)
from rdae.priors.density import SymbolDensity

EVERY = [Rounding(), UniformNoise(), StraightThrough(), Mixed(), RateDistortionRounding()]
IDS = [type(channel).__name__ for channel in EVERY]


def latent(seed: int = 0, shape: tuple[int, ...] = (4, 3, 8, 8)) -> torch.Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_halves_go_up():
    z = torch.tensor([0.5, -0.5, 1.5, 2.5, -1.5, 0.49, -0.51])
    assert round_half_up(z).tolist() == [1, 0, 2, 3, -1, 0, -1]
    assert torch.round(z).tolist()[:4] == [0, 0, 2, 2]  # to even: another rule


def test_rounding_has_zero_gradient():
    z = latent().requires_grad_()
    round_half_up(z).square().sum().backward()
    assert z.grad is not None
    assert (z.grad == 0).all()


def test_the_rounded_objective_is_flat_between_its_jumps():
    # finite differences of f(round z): 0 within a bin, a jump of one across its edge
    z, h = torch.tensor([0.2, 0.5 - 1e-4, 3.7], dtype=torch.float64), 2e-4
    assert (round_half_up(z + h) - round_half_up(z)).tolist() == [0, 1, 0]


@pytest.mark.parametrize("channel", EVERY, ids=IDS)
def test_every_channel_rounds_in_eval_mode(channel):
    z = latent()
    sent = channel.eval()(z)
    for value in sent:
        assert_close(value, value.round(), rtol=0, atol=0)
        assert (value - z).abs().max() <= 0.5 or channel is EVERY[-1]


@pytest.mark.parametrize("channel", EVERY[:4], ids=IDS[:4])
def test_rounding_is_centred_on_the_mean(channel):
    z, mean = latent(1), latent(2)
    sent = channel.eval()(z, mean)
    assert_close(sent.decoder, torch.floor(z - mean + 0.5) + mean)


def test_noise_is_uniform_on_a_unit_bin():
    torch.manual_seed(0)
    z = latent(shape=(1_000_000,))
    sent = UniformNoise().train()(z)
    u = sent.decoder - z
    assert sent.rate is sent.decoder
    assert u.abs().max() <= 0.5
    n = u.numel()
    # standard errors of the mean, sqrt(1/12/n), and of the variance, sqrt((1/80 - 1/144)/n); five of them
    assert abs(float(u.mean())) < 5 * math.sqrt(1 / 12 / n)
    assert abs(float(u.square().mean()) - 1 / 12) < 5 * math.sqrt((1 / 80 - 1 / 144) / n)


def test_noise_passes_the_gradient_unchanged():
    z = latent().requires_grad_()
    weight = latent(3)
    (UniformNoise().train()(z).decoder * weight).sum().backward()
    assert_close(z.grad, weight)


def test_straight_through_rounds_and_passes_the_gradient():
    z, mean, weight = latent().requires_grad_(), latent(1), latent(3)
    sent = StraightThrough().train()(z, mean)
    assert_close(sent.decoder, torch.floor(z.detach() - mean + 0.5) + mean)
    (sent.decoder * weight).sum().backward()
    assert_close(z.grad, weight)


def test_mixed_shows_the_prior_noise_and_the_decoder_whole_numbers():
    torch.manual_seed(1)
    z, weight = latent().requires_grad_(), latent(3)
    sent = Mixed().train()(z)
    assert_close(sent.decoder.detach(), torch.floor(z.detach() + 0.5))
    noise = (sent.rate - z).detach()
    assert noise.abs().max() <= 0.5
    assert noise.std() > 0.25
    (sent.rate * weight + sent.decoder * weight).sum().backward()
    assert_close(z.grad, 2 * weight)


@pytest.mark.parametrize("weight", [0.5, 2.0, 6.0, 40.0])
def test_weighing_bits_never_costs_more_than_rounding_to_the_nearest(weight):
    density = SymbolDensity(40).double()
    z = latent(5, (2, 4, 16, 16))
    index = 39 * torch.rand(z.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    prior = Conditional(density, (index, torch.zeros_like(index)))

    def cost(n: torch.Tensor) -> torch.Tensor:
        return weight * (z - n).square() - prior.log_prob(n)

    chosen = RateDistortionRounding(weight).eval()(z, prior=prior).decoder
    away_from_zero = torch.sign(z) * torch.floor(z.abs() + 0.5)
    for nearest in (round_half_up(z), away_from_zero):
        assert (cost(chosen) <= cost(nearest) + 1e-12).all()
    assert (chosen != away_from_zero).any()
    one_less = away_from_zero - torch.sign(away_from_zero)
    assert ((chosen == away_from_zero) | (chosen == one_less)).all()


def test_without_a_density_weighing_bits_is_plain_rounding():
    z = latent()
    assert_close(RateDistortionRounding()(z).decoder, torch.sign(z) * torch.floor(z.abs() + 0.5))


def test_conditional_densities_can_be_picked_by_a_mask():
    density = SymbolDensity(8).double()
    q = torch.tensor([[0.0, 1.0], [-2.0, 3.0]], dtype=torch.float64)
    index = torch.tensor([[0.0, 3.0], [5.0, 7.0]], dtype=torch.float64)
    prior = Conditional(density, (index, torch.zeros_like(index)))
    mask = q > 0
    assert_close(prior.at(mask).log_prob(q[mask]), prior.log_prob(q)[mask])
