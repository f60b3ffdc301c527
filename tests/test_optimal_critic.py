"""The best critic of two known laws: the lecture's numbers by quadrature, by sampling, and by training."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn
from torch.distributions import Independent, MixtureSameFamily, Normal, Uniform
from torch.testing import assert_close

from rdae.adversarial import (
    GradientPenalty,
    Judged,
    Minimax,
    Wasserstein,
    grid,
    jensen_shannon,
    jensen_shannon_draws,
    optimal_discriminator,
    optimal_logit,
    slopes,
    value,
    value_draws,
)
from rdae.errors import ModelError, ShapeError
from rdae.measures.measure import Kind, mean_of
from rdae.networks.critics import DenseCritic

# N(0, 1) against N(m, 1): m, JS, V(D*, G), in nats, to six digits (also with SciPy's adaptive quadrature)
GAUSSIANS = [(0.0, 0.0, -1.386294), (1.0, 0.111421, -1.163451), (2.0, 0.336831, -0.712633), (4.0, 0.632720, -0.120854)]
LINE = grid([-12.0], [16.0], 4000)


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        yield


def gaussian(mean: float, std: float = 1.0) -> Independent:
    return Independent(Normal(torch.tensor([mean]).double(), torch.tensor([std]).double()), 1)


def uniform(low: float, high: float) -> Independent:
    law = Uniform(torch.tensor([low]).double(), torch.tensor([high]).double(), validate_args=False)
    return Independent(law, 1, validate_args=False)


# --- quadrature -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "js", "v"), GAUSSIANS)
def test_the_value_and_the_divergence_of_shifted_gaussians(mean, js, v):
    real, fake = gaussian(0.0), gaussian(mean)
    assert jensen_shannon(real.log_prob, fake.log_prob, LINE) == pytest.approx(js, abs=6e-7)
    assert value(real.log_prob, fake.log_prob, LINE) == pytest.approx(v, abs=6e-7)


@pytest.mark.parametrize("fake", [gaussian(0.0), gaussian(1.0, 0.3), gaussian(-2.0, 2.5)])
def test_the_value_is_minus_ln_four_and_twice_the_divergence(fake):
    real = gaussian(0.5, 0.7)
    on = grid([-25.0], [25.0], 8000)
    js = jensen_shannon(real.log_prob, fake.log_prob, on)
    assert value(real.log_prob, fake.log_prob, on) == pytest.approx(2 * js - math.log(4), abs=1e-12)
    assert 0 <= js <= math.log(2)
    assert jensen_shannon(fake.log_prob, real.log_prob, on) == pytest.approx(js, abs=1e-12)


def test_disjoint_laws_are_told_apart_for_certain():
    real, fake = uniform(0.0, 1.0), uniform(2.0, 3.0)
    on = grid([-1.0], [4.0], 500)  # cells end where the densities do
    assert jensen_shannon(real.log_prob, fake.log_prob, on) == pytest.approx(math.log(2), abs=1e-12)
    assert value(real.log_prob, fake.log_prob, on) == pytest.approx(0.0, abs=1e-12)


def test_in_two_dimensions_only_the_distance_of_the_means_counts():
    on = grid([-7.0, -7.0], [8.0, 8.0], 150)
    assert on.points.shape == (150 * 150, 2)
    real = Independent(Normal(torch.zeros(2).double(), torch.ones(2).double()), 1)
    for direction in (0.0, 0.7, math.pi / 2):
        mean = torch.tensor([math.cos(direction), math.sin(direction)], dtype=torch.float64)
        fake = Independent(Normal(mean, torch.ones(2).double()), 1)
        assert jensen_shannon(real.log_prob, fake.log_prob, on) == pytest.approx(0.111421, abs=6e-7)
        assert value(real.log_prob, fake.log_prob, on) == pytest.approx(-1.163451, abs=6e-7)


def test_a_grid_that_misses_a_law_is_refused():
    with pytest.raises(ModelError, match=r"0\.5000 of the generated law.*wider"):
        jensen_shannon(gaussian(0.0).log_prob, gaussian(6.0).log_prob, grid([-6.0], [6.0], 2000))
    with pytest.raises(ModelError, match="finer"):
        value(gaussian(0.1, 1e-3).log_prob, gaussian(0.0).log_prob, grid([-6.0], [6.0], 20))
    with pytest.raises(ShapeError, match="low < high"):
        grid([0.0, 1.0], [1.0, 1.0], 5)


# --- the best discriminator -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [0.0, 1.0, -2.0])
def test_the_best_logit_of_two_gaussians_of_one_spread_is_a_line(mean):
    y = torch.linspace(-5, 5, 11, dtype=torch.float64)[:, None]
    real, fake = gaussian(0.0).log_prob, gaussian(mean).log_prob
    assert_close(optimal_logit(real, fake, y), mean**2 / 2 - mean * y[:, 0])
    density = real(y).exp(), fake(y).exp()
    assert_close(optimal_discriminator(real, fake, y), density[0] / (density[0] + density[1]))


@pytest.mark.parametrize("a", [1e-3, 0.4, 2.0])
@pytest.mark.parametrize("b", [1e-3, 0.1, 5.0])
def test_a_ln_d_and_b_ln_one_minus_d_is_largest_at_a_of_a_plus_b(a, b):
    d = torch.arange(1, 200_000, dtype=torch.float64) / 200_000
    best = d[(a * d.log() + b * (-d).log1p()).argmax()]
    assert float(best) == pytest.approx(a / (a + b), abs=1 / 200_000)


def test_every_other_discriminator_is_worth_less():
    real, fake = gaussian(0.0).log_prob, gaussian(1.0).log_prob
    best = value(real, fake, LINE)
    for change in (lambda y: 0.1 + 0 * y[:, 0], lambda y: 0.1 * y[:, 0], lambda y: torch.sin(3 * y[:, 0])):
        assert value(real, fake, LINE, lambda y, c=change: optimal_logit(real, fake, y) + c(y)) < best - 1e-4
    blind = value(real, fake, LINE, lambda y: torch.zeros(len(y), dtype=torch.float64))
    assert blind == pytest.approx(-math.log(4), abs=1e-12)


def test_integral_and_push_forward_form_agree():
    """G(z) = 2 z + 1 pushes N(0, 1) forward to N(1, 4); any discriminator will do."""
    real, fake = gaussian(0.0), gaussian(1.0, 2.0)

    def logit(y: Tensor) -> Tensor:
        return torch.cos(y[:, 0]) - 0.3 * y[:, 0]

    exact = value(real.log_prob, fake.log_prob, grid([-20.0], [22.0], 4000), logit)
    z = torch.randn(200_000, 1, dtype=torch.float64)
    sampled = mean_of(value_draws(logit(real.sample((200_000,))), logit(2 * z + 1)), "nats", Kind.ESTIMATE)
    assert abs(sampled.value - exact) < 4 * sampled.standard_error
    assert sampled.standard_error < 0.005
    # and with the sum over z itself by quadrature: int p(z) ln(1 - D(G(z))) dz
    over_z = grid([-10.0], [10.0], 4000)
    left = over_z.cell * (real.log_prob(over_z.points).exp() * nn.functional.logsigmoid(logit(over_z.points))).sum()
    weight = gaussian(0.0).log_prob(over_z.points).exp()
    right = over_z.cell * (weight * nn.functional.logsigmoid(-logit(2 * over_z.points + 1))).sum()
    assert float(left + right) == pytest.approx(exact, abs=1e-10)


# --- sampling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "js", "v"), GAUSSIANS)
def test_the_divergence_by_sampling_lies_within_its_error_bar(mean, js, v):
    draws = jensen_shannon_draws(gaussian(0.0), gaussian(mean), 100_000)
    assert draws.shape == (100_000,)
    found = mean_of(draws, "nats", Kind.ESTIMATE)
    assert abs(found.value - js) <= 4 * found.standard_error + 6e-7
    assert found.standard_error < 2e-3


def test_the_error_bar_is_the_spread_of_repeated_estimates():
    real, fake = gaussian(0.0), gaussian(2.0)
    runs = [mean_of(jensen_shannon_draws(real, fake, 400), "nats", Kind.ESTIMATE) for _ in range(400)]
    spread = float(torch.tensor([run.value for run in runs]).std())
    claimed = sum(run.standard_error for run in runs) / 400
    assert spread == pytest.approx(claimed, rel=4 / math.sqrt(2 * 400))  # four standard errors of a standard deviation


def test_mixtures_and_other_laws_that_know_their_density_are_welcome():
    weights = torch.distributions.Categorical(torch.tensor([0.5, 0.5]).double())
    parts = Independent(Normal(torch.tensor([[-2.0], [2.0]]).double(), torch.ones(2, 1).double()), 1)
    mixture = MixtureSameFamily(weights, parts)
    found = mean_of(jensen_shannon_draws(mixture, gaussian(2.0), 50_000), "nats", Kind.ESTIMATE)
    exact = jensen_shannon(mixture.log_prob, gaussian(2.0).log_prob, LINE)
    assert abs(found.value - exact) < 4 * found.standard_error
    with pytest.raises(ShapeError, match="as many of each"):
        value_draws(torch.zeros(3), torch.zeros(4))


# --- training ---------------------------------------------------------------------------------------------------------


def trained(critic: nn.Module, steps: int, loss_of) -> None:
    """Adam whose rate falls in a line to zero, on fresh batches of N(0, 1) and N(1, 1)."""
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2, betas=(0.5, 0.99), fused=True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        real, fake = torch.randn(256, 1), torch.randn(256, 1) + 1
        loss = loss_of(critic, real, fake)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_a_trained_discriminator_approaches_the_best_one():
    """Best logit: 1/2 - y. Its shortfall in V is known by quadrature, and the critic never wins more than V(D*)."""
    critic = DenseCritic((1,), (32, 32))
    trained(critic, 400, lambda f, real, fake: Minimax().critic_loss(f(real), f(fake)))
    critic.double().eval()
    real, fake = gaussian(0.0), gaussian(1.0)
    with torch.no_grad():
        found = value(real.log_prob, fake.log_prob, LINE, critic)
        y = torch.linspace(-1.5, 2.5, 81, dtype=torch.float64)[:, None]  # 90 % of both laws
        error = critic(y) - optimal_logit(real.log_prob, fake.log_prob, y)
    best = value(real.log_prob, fake.log_prob, LINE)
    assert best - 1e-3 < found <= best  # 0.22 above what a blind critic gets
    assert float(error.square().mean().sqrt()) < 0.1


def test_a_wasserstein_critic_with_gradient_penalty_and_the_bias_of_its_estimate():
    """W_1 of N(0, 1) and N(1, 1) is 1; the penalty allows more than that, by an amount known by quadrature.

    With f' = -s the critic maximises the integral of `s (F_r - F_g) - weight * p_x (s - 1)**2`, p_x the law of the
    interpolates: `s = 1 + (F_r - F_g) / (2 weight p_x)`, and the estimate exceeds W_1 = integral of F_r - F_g.
    """
    weight = 10.0
    y, cell = LINE.points[:, 0], LINE.cell
    above = Normal(0.0, 1.0).cdf(y) - Normal(1.0, 1.0).cdf(y)
    t = ((torch.arange(2000, dtype=torch.float64) + 0.5) / 2000)[:, None]
    between = Normal(1 - t, (t**2 + (1 - t) ** 2).sqrt()).log_prob(y).exp().mean(0)
    assert float(cell * above.sum()) == pytest.approx(1.0, abs=1e-9)
    seen = between > 1e-12
    bias = float(cell * (above[seen] ** 2 / between[seen]).sum()) / (2 * weight)
    assert 1 / (2 * weight) <= bias < 0.06

    critic = DenseCritic((1,), (32, 32))
    penalty = GradientPenalty(weight)
    trained(
        critic, 400, lambda f, real, fake: Wasserstein().critic_loss(f(real), f(fake)) + penalty(Judged(f, real, fake))
    )
    critic.double().eval()
    weights = gaussian(0.0).log_prob(LINE.points).exp() - gaussian(1.0).log_prob(LINE.points).exp()
    estimate = float(cell * (weights * critic(LINE.points).detach()).sum())
    assert estimate == pytest.approx(1 + bias, abs=0.02)  # above 1; the first steps come from 0, from below
    steepest = float(slopes(critic, LINE.points).detach().max())
    assert steepest > 1
    assert 0.9 < estimate / steepest <= 1  # a 1-Lipschitz critic: a lower bound
