"""Densities of rounded symbols: bin masses, the identity that makes noise a rate, and the lecture's numbers."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from rdae.channels import RateDistortionRounding, Rounding, UniformNoise, round_half_up
from rdae.errors import ShapeError
from rdae.priors.density import SCALE_MIN, SCALE_RATIO, SymbolDensity
from rdae.priors.factorised import ChannelDensity, FactorisedPrior, unit_bin_log_mass

FAMILIES = {"gaussian": scipy.stats.norm, "logistic": scipy.stats.logistic, "laplace": scipy.stats.laplace}
NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)


def float64(x: float) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


def convolved(pdf, at: float, kinks: tuple[float, ...] = ()) -> float:
    """`(p * U)(at)`: the integral of p over the unit interval around `at`, by quadrature in 16 pieces."""
    edges = np.linspace(at - 0.5, at + 0.5, 17)
    edges = np.sort(np.concatenate([edges, [k for k in kinks if at - 0.5 < k < at + 0.5]]))
    total = 0.0
    for low, high in pairwise(edges):
        total += (high - low) / 2 * float(WEIGHTS @ pdf((high - low) / 2 * NODES + (high + low) / 2))
    return total


def learned(seed: int = 0, family: str = "logistic") -> ChannelDensity:
    density = ChannelDensity(torch.tensor([0.4, 1.5, 8.0]), family=family).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in density.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return density


@pytest.mark.parametrize("family", FAMILIES)
@settings(deadline=None)
@given(loc=st.floats(-20, 20), scale=st.floats(0.05, 20))
def test_bin_masses_sum_to_one(family, loc, scale):
    z = torch.arange(-900, 901, dtype=torch.float64)
    total = unit_bin_log_mass(z, float64(loc), float64(scale), family).exp().sum()
    assert_close(total, float64(1.0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_noise_convolved_density_at_an_integer_is_the_probability_of_rounding_to_it(family, scale):
    """`(p * U)(n) = F(n + 1/2) - F(n - 1/2) = P(round z = n)`, to 1e-12."""
    loc, law = 0.3, FAMILIES[family](loc=0.3, scale=scale)
    for n in range(-6, 7):
        mass = float(unit_bin_log_mass(float64(n), float64(loc), float64(scale), family).exp())
        # through the nearer tail: 1 - 1 tells nothing
        exact = law.sf(n - 0.5) - law.sf(n + 0.5) if n > loc else law.cdf(n + 0.5) - law.cdf(n - 0.5)
        assert abs(mass - exact) < 1e-12
        assert abs(mass - convolved(law.pdf, n, (loc,))) < 1e-12


@pytest.mark.parametrize("family", FAMILIES)
def test_between_integers_it_is_the_density_of_the_noisy_latent(family):
    law = FAMILIES[family](scale=0.7)
    for z in (-2.31, 0.02, 0.5, 1.77):
        mass = float(unit_bin_log_mass(float64(z), float64(0.0), float64(0.7), family).exp())
        assert abs(mass - convolved(law.pdf, z, (0.0,))) < 1e-12


@pytest.mark.parametrize("family", FAMILIES)
def test_far_tails_keep_their_digits(family):
    far = unit_bin_log_mass(torch.tensor([-60.0, 60.0]), torch.tensor(0.0), torch.tensor(1.0), family)
    exact = {"gaussian": scipy.stats.norm.logsf(59.5), "logistic": -59.5 + math.log(1 - math.exp(-1)),
             "laplace": -59.5 + math.log(0.5 * (1 - math.exp(-1)))}[family]  # fmt: skip
    assert_close(far.double(), torch.full((2,), exact, dtype=torch.float64), rtol=1e-5, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_learned_density_obeys_the_same_identity(family):
    density = learned(family=family)
    channel, index = torch.tensor(1), float64(2.0)

    def pdf(t: np.ndarray) -> np.ndarray:
        z = torch.from_numpy(t).requires_grad_()
        (gradient,) = torch.autograd.grad(density.cumulative(z, channel, index).sum(), z)
        return gradient.numpy()

    scales = torch.exp(density.log_scale[1]) * 1.18**2
    kinks = tuple((density.mean[1] * scales).tolist()) if family == "laplace" else ()
    for n in (-3, -1, 0, 1, 2, 5):
        mass = float(density.log_prob(float64(n), channel, index).exp().detach())
        difference = density.cumulative(float64(n + 0.5), channel, index) - density.cumulative(
            float64(n - 0.5), channel, index
        )
        assert abs(mass - float(difference.detach())) < 1e-12
        assert abs(mass - convolved(pdf, n, kinks)) < 1e-12


@pytest.mark.parametrize("index", [6.0, 20.0])
@pytest.mark.parametrize("skew", [-3.0, 0.0, 2.0])
def test_the_family_of_the_tables_obeys_the_same_identity(index, skew):
    density = SymbolDensity(48, dead_zone=None).double().requires_grad_(False)
    x = index * 2 / 47 - 1
    scale, loc = SCALE_MIN * SCALE_RATIO**index, skew / 4 * SCALE_MIN * SCALE_RATIO**index
    tail = float(torch.sigmoid(density.tail_logit @ torch.tensor([1, x, x * x], dtype=torch.float64)))
    width = 1 + float(
        torch.nn.functional.softplus(density.tail_width @ torch.tensor([1, x, x * x], dtype=torch.float64))
    )
    core, wide = scipy.stats.logistic(loc, scale), scipy.stats.logistic(loc, scale * width)

    def pdf(t: np.ndarray) -> np.ndarray:
        return (1 - tail) * core.pdf(t) + tail * wide.pdf(t)

    for n in (-3, -1, 0, 1, 4):
        mass = float(density.log_prob(float64(n), float64(index), float64(skew)).exp())
        assert abs(mass - convolved(pdf, n)) < 1e-12


@pytest.mark.parametrize("zone", [None, 0.15])
def test_masses_of_the_table_family_sum_to_one(zone):
    density = SymbolDensity(48, dead_zone=zone).double()
    q = torch.arange(-2000, 2001, dtype=torch.float64)
    for index in (0.0, 13.5, 30.0):
        for skew in (-4.0, 0.0, 1.3):
            assert_close(density.log_prob(q, float64(index), float64(skew)).exp().sum(), float64(1.0))


def test_masses_of_a_learned_density_sum_to_one():
    density = learned()
    q = torch.arange(-3000, 3001, dtype=torch.float64)
    for channel in range(3):
        for index in (-3.0, 0.0, 10.0):
            total = density.log_prob(q, torch.tensor(channel), float64(index)).exp().sum()
            assert_close(total, float64(1.0), rtol=0, atol=1e-12)


ENTROPIES = [(0.25, 0.31247, 0.04710), (0.5, 1.24120, 1.04710), (1.0, 2.10483, 2.04710), (2.0, 3.06197, 3.04710),
             (8.0, 5.04803, 5.04710)]  # fmt: skip


@pytest.mark.parametrize(("sigma", "discrete", "differential"), ENTROPIES)
def test_entropy_of_a_rounded_gaussian_against_its_differential_entropy(sigma, discrete, differential):
    """Both in bits: the lecture calls the first by the name of the second; they meet as the bins grow narrow."""
    n = torch.arange(-200, 201, dtype=torch.float64)
    log_mass = unit_bin_log_mass(n, float64(0.0), float64(sigma), "gaussian")
    entropy = -(log_mass.exp() * log_mass).sum() / math.log(2)
    assert abs(float(entropy) - discrete) < 5e-6
    assert abs(0.5 * math.log2(2 * math.pi * math.e * sigma**2) - differential) < 5e-6


@pytest.mark.parametrize(("sigma", "error"), [(0.1, 0.0100), (0.25, 0.05401), (0.5, 0.08260), (1.0, 0.083333)])
def test_rounding_error_of_a_gaussian_approaches_that_of_uniform_noise(sigma, error):
    half = 0.5
    total = 0.0
    for n in range(-12, 13):  # within a bin the squared error is smooth
        low, high = n - half, n + half
        edges = np.linspace(low, high, 41)
        for a, b in pairwise(edges):
            t = (b - a) / 2 * NODES + (a + b) / 2
            distance = t - round_half_up(torch.from_numpy(t)).numpy()
            total += (b - a) / 2 * float(WEIGHTS @ (distance**2 * scipy.stats.norm.pdf(t, scale=sigma)))
    assert abs(total - error) < 6e-6
    assert (abs(total - 1 / 12) < 1e-6) == (sigma >= 1)


def test_a_density_learns_what_it_is_shown():
    """Cross-entropy of symbols from a Laplace law: never below their entropy, and close to it after training."""
    torch.manual_seed(0)
    scale = 1.7
    n = torch.arange(-80, 81, dtype=torch.float64)
    log_mass = unit_bin_log_mass(n, float64(0.4), float64(scale), "laplace")
    entropy = -(log_mass.exp() * log_mass).sum()
    density = ChannelDensity(torch.tensor([6.0])).double()
    optimizer = torch.optim.Adam(density.parameters(), lr=0.03)
    where, index = torch.tensor(0), float64(0.0)
    for _ in range(250):
        loss = -(log_mass.exp() * density.log_prob(n, where, index)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(entropy) - 1e-9 <= float(loss.detach()) <= float(entropy) + 0.005


def test_a_prior_charges_minus_the_logarithm_of_its_masses():
    prior = FactorisedPrior(torch.tensor([1.0, 3.0])).double().eval()
    z = 20 * torch.randn(2, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lam = torch.tensor([10.0, 900.0], dtype=torch.float64)
    coded = prior(z, Rounding().eval(), lam)
    assert_close(coded.latent, round_half_up(z))
    index = prior.index(lam)
    assert_close(index, index.round())
    assert (index[1] > index[0]).all()  # finer steps, wider latents
    expected = torch.zeros(2, dtype=torch.float64)
    for b in range(2):
        for c in range(2):
            for n in coded.latent[b, c].flatten():
                expected[b] -= prior.density.log_prob(n, torch.tensor(c), index[b, c])
    assert_close(coded.rate, expected)


def test_every_parameter_of_a_prior_learns_from_the_rate():
    torch.manual_seed(0)
    prior = FactorisedPrior(torch.tensor([1.0, 3.0])).train()
    prior(5 * torch.randn(2, 2, 4, 4), UniformNoise().train(), torch.tensor([20.0, 500.0])).rate.sum().backward()
    for name, parameter in prior.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_channel_can_weigh_the_bits_of_a_learned_density():
    prior = FactorisedPrior(torch.tensor([0.5, 2.0])).double().eval()
    lam = torch.tensor([6.0, 100.0], dtype=torch.float64)
    z = 3 * torch.randn(2, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def cost(coded) -> torch.Tensor:
        return 2.0 * (z - coded.latent).square().sum((1, 2, 3)) + coded.rate

    weighed, nearest = prior(z, RateDistortionRounding(2.0).eval(), lam), prior(z, Rounding().eval(), lam)
    assert (cost(weighed) < cost(nearest)).all()
    assert (weighed.rate < nearest.rate).all()


def test_a_latent_of_other_channels_is_refused():
    with pytest.raises(ShapeError, match="one spread for each channel"):
        FactorisedPrior(torch.ones(3))(torch.zeros(1, 2, 4, 4), Rounding(), torch.ones(1))
    with pytest.raises(ShapeError, match="Choose one of logistic, gaussian, laplace"):
        ChannelDensity(torch.ones(3), family="cauchy")
