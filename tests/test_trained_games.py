"""Critics trained between known laws: value of the game, W_1 on the line and in the plane, gradients on segments."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("ot")

from torch.testing import assert_close

from rdae.adversarial import (
    R1,
    R2,
    GradientPenalty,
    Judged,
    Minimax,
    Wasserstein,
    clip_weights,
    slopes,
    spectrally_normalised,
    value_draws,
)
from rdae.adversarial.both_sides import BothSides
from rdae.adversarial.ramp import Ramp
from rdae.data.arrays import ArrayData, Kind
from rdae.data.synthetic import MixtureSource
from rdae.errors import DataError, ShapeError
from rdae.measures.measure import Kind as Statement
from rdae.measures.measure import mean_of
from rdae.measures.transport import dual_bound, exact_transport
from rdae.networks.critics import DenseCritic
from rdae.recipes import generative_recipe
from rdae.training.adversarial_recipe import AdversarialRecipe
from rdae.training.critic import Sampler, fit_critic
from rdae.training.recipe import Step

FRESH = 200_000


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        yield


def normal(mean: float, std: float) -> Sampler:
    return lambda count: mean + std * torch.randn(count, 1)


def rising(weight: float, steps: int) -> Ramp:
    """Slopes may change their sign while the penalty is weak."""
    return Ramp(GradientPenalty(0.1), steps, 10 * weight)


@pytest.mark.parametrize(("shift", "exact"), [(1.0, -1.163451), (2.0, -0.712633), (4.0, -0.120854)])
def test_a_trained_discriminator_is_worth_twice_js_minus_ln_four(shift, exact):
    critic = DenseCritic((1,), (32, 32))
    real, fake = normal(0, 1), normal(shift, 1)
    fit_critic(critic, Minimax(), real, fake, steps=300)
    assert not critic.training
    with torch.no_grad():
        found = mean_of(value_draws(critic(real(FRESH)), critic(fake(FRESH))), "nats", Statement.LOWER)
    assert abs(found.value - exact) < 0.02
    assert found.value < exact + 4 * found.standard_error  # no discriminator is worth more than the best


@pytest.mark.parametrize(
    ("mean", "std", "exact"), [(1.0, 1.0, 1.0), (0.0, 2.0, math.sqrt(2 / math.pi)), (1.0, 2.0, 1.166631)]
)
def test_a_trained_critic_estimates_the_distance_on_the_line(mean, std, exact):
    critic = DenseCritic((1,), (32, 32))
    real, fake = normal(0, 1), normal(mean, std)
    fit_critic(critic, Wasserstein(), real, fake, [rising(100.0, 200)], steps=400)
    x, y = real(FRESH), fake(FRESH)
    found = dual_bound(critic(x), critic(y))
    assert found.value == pytest.approx(exact, rel=0.05)
    steepest = max(float(slopes(critic, sample).detach().max()) for sample in (x, y))
    bound = dual_bound(critic(x), critic(y), steepest)
    assert bound.value < exact + 4 * bound.standard_error


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    """A ring of radius 3 and a cloud at its centre."""
    ring = 3 * torch.from_numpy(MixtureSource.ring().sample(256, seed=0)).float()
    return ring, torch.randn(256, 2) / 3


def of_rows(sample: torch.Tensor) -> Sampler:
    return lambda count: sample[torch.randint(len(sample), (count,))]


def test_in_the_plane_the_estimate_is_the_program_s_and_the_gradient_follows_its_segments():
    pytest.importorskip("matplotlib")
    from rdae.reports.games import along_segments

    x, y = samples()
    critic = DenseCritic((2,), (64, 64))
    fit_critic(critic, Wasserstein(), of_rows(x), of_rows(y), [rising(100.0, 250)], steps=500)
    best = exact_transport(x, y)
    assert dual_bound(critic(x), critic(y)).value == pytest.approx(best.cost.value, rel=0.05)
    found = along_segments(critic, x, y, best)
    assert found.slope.shape == found.cosine.shape == (256, 9)
    assert float(found.slope.mean()) == pytest.approx(1.0, abs=0.05)
    assert float(found.cosine.quantile(0.05)) > 0.98
    steepest = float(slopes(critic, torch.cat([x, y, found.points.flatten(0, 1)])).detach().max())
    assert dual_bound(critic(x), critic(y), steepest).value < best.cost.value  # of samples: no error but rounding


@pytest.mark.parametrize("how", ["clipped", "spectral"])
def test_clipped_and_normalised_critics_fall_short_of_a_law_s_spread(how):
    """N(0, 1) and N(0, 4): the best critic is -|y|, and its kink is what these networks cannot afford."""
    critic = DenseCritic((1,), (32, 32))
    after = None
    if how == "spectral":
        spectrally_normalised(critic, iterations=2)
    else:
        critic.network.layers[-1].reset_parameters()
        after = lambda network: clip_weights(network, 0.1)  # noqa: E731
    real, fake = normal(0, 1), normal(0, 2)
    fit_critic(critic, Wasserstein(), real, fake, steps=300, after=after)
    x, y = real(20_000), fake(20_000)
    if how == "spectral":
        assert float(slopes(critic, y).detach().max()) <= 1 + 1e-2
    else:
        assert max(float(p.detach().abs().max()) for p in critic.parameters()) == pytest.approx(0.1)  # pushed to it
    assert 0 < dual_bound(critic(x), critic(y)).value < 0.9 * math.sqrt(2 / math.pi)


# --- segments ---------------------------------------------------------------------------------------------------------


def test_a_known_critic_along_known_segments():
    """f = |y| between circles of radius 1 and 3: gradient 1, straight along the radius, outwards."""
    pytest.importorskip("matplotlib")
    from rdae.reports.games import along_segments, segments_figure

    angle = torch.arange(12, dtype=torch.float64) * math.pi / 6
    inner = torch.stack([angle.cos(), angle.sin()], 1)
    outer = 3 * inner[torch.randperm(12)]
    best = exact_transport(outer, inner)
    assert best.cost.value == pytest.approx(2.0)
    found = along_segments(lambda y: y.norm(dim=1), outer, inner, best, points=4)
    assert_close(found.slope, torch.ones(12, 4, dtype=torch.float64))
    assert_close(found.cosine, torch.ones(12, 4, dtype=torch.float64))
    assert_close(found.points.norm(dim=2)[0], torch.tensor([2.75, 2.25, 1.75, 1.25], dtype=torch.float64))
    against = along_segments(lambda y: -2 * y.norm(dim=1), outer, inner, best)
    assert_close(against.slope, torch.full_like(against.slope, 2.0))
    assert_close(against.cosine, -torch.ones_like(against.cosine))
    assert len(segments_figure(lambda y: y.norm(dim=1), outer, inner, best).axes) == 3  # two panels, a scale
    with pytest.raises(ShapeError, match="as many"):
        along_segments(lambda y: y.norm(dim=1), outer, inner[:3], best)


# --- penalties of the recipes -----------------------------------------------------------------------------------------


def test_a_ramp_changes_by_the_same_factor_at_each_step_and_stays():
    ramp = Ramp(lambda judged, step: torch.tensor(8.0), 4, 1 / 16)
    nothing = Judged(torch.sum, torch.zeros(1, 1), torch.zeros(1, 1))
    assert [float(ramp(nothing, step)) for step in range(6)] == pytest.approx([8, 4, 2, 1, 0.5, 0.5])


def test_both_sides_at_once_are_r1_and_r2():
    critic = DenseCritic((2,), (8, 8))
    torch.nn.init.normal_(critic.network.layers[-1].weight)
    critic.double()
    real, fake = torch.randn(2, 6, 2, dtype=torch.float64)
    apart = R1(0.7)(Judged(critic, real, fake)) + R2(0.7)(Judged(critic, real, fake))
    together = BothSides(0.7)(Judged(critic, real, fake))
    assert_close(together, apart)
    gradients = [torch.autograd.grad(loss, critic.network.layers[0].weight)[0] for loss in (apart, together)]
    assert_close(*gradients)
    fresh = BothSides(0.7)(Judged(DenseCritic((2,), (8,)), real.float(), fake.float()))  # without a slope: no NaN
    assert float(fresh.detach()) == 0
    assert fresh.requires_grad


def test_the_recipe_fades_its_penalties_over_the_run_however_long_it_is():
    data = ArrayData(torch.randn(64, 2), Kind.REAL)
    options = {"hidden": (8,), "batch": 8, "epochs": 10.0, "fade": 1 / 16, "average": 0.9}
    recipe = generative_recipe("r3gan", data, None, {**options, "gamma": 0.5})
    assert (recipe.steps, recipe.average) == (80, 0.9)
    pair = recipe.model()
    assert pair.penalties == (BothSides(0.5),)
    torch.nn.init.normal_(pair.critic.critic.network.layers[-1].weight)
    y = data.values[:8]

    def weight(recipe: AdversarialRecipe, number: int) -> float:
        found = []
        for faded in (recipe, replace(recipe, fade=1.0)):
            torch.manual_seed(0)  # the same examples are generated
            found.append(float(faded.loss(pair, y, Step(number, 0, slice(0, 8)))[1]["penalty"]))
        return found[0] / found[1]

    for run in (recipe, replace(recipe, steps=800)):
        shares = [weight(run, at * run.steps // 4) for at in range(4)]
        assert shares == pytest.approx([1, 1 / 2, 1 / 4, 1 / 8])
    one = generative_recipe("gan", data, None, {"r1": 0.5}).model().penalties
    assert one == (R1(0.5),)
    both = generative_recipe("gan", data, None, {"r1": 0.5, "r2": 0.1, "fade": 0.5}).model().penalties
    assert both == (R1(0.5), R2(0.1))
    for wrong in (0.0, 1.5):
        with pytest.raises(DataError, match="fade is"):
            generative_recipe("gan", data, None, {"fade": wrong})


CONVOLUTIONS = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)


@pytest.mark.parametrize("name", ["r3gan", "wgan_gp"])
def test_a_convolutional_generator_may_meet_a_dense_critic(name):
    data = ArrayData(torch.randint(0, 256, (8, 1, 12, 8), dtype=torch.uint8), Kind.BYTES)
    options = {"hidden": (8,), "widths": (4, 4), "latent": 3, "batch": 4}
    for network, critic, kinds in (
        ("auto", "auto", (True, True)), ("auto", "dense", (True, False)), ("dense", "auto", (False, False)),
        ("dense", "convolutional", (False, True)), ("halved", "auto", (False, False)),
        ("auto", "halved", (True, False)),
    ):  # fmt: skip
        pair = generative_recipe(name, data, None, {**options, "network": network, "critic_network": critic}).model()
        found = [
            any(isinstance(part, CONVOLUTIONS) for part in player.modules()) for player in (pair.model, pair.critic)
        ]
        assert tuple(found) == kinds
        assert pair.critic(pair.model(4)).shape == (4,)
    sizes = {}
    for own in ((), (5, 6)):
        pair = generative_recipe(name, data, None, {**options, "network": "halved", "critic_hidden": own}).model()
        players = (pair.model, pair.critic)
        sizes[own] = [[m.out_features for m in p.modules() if isinstance(m, torch.nn.Linear)] for p in players]
    assert sizes == {(): [[8, 24], [8, 1]], (5, 6): [[8, 24], [5, 6, 1]]}
    with pytest.raises(DataError, match="no network 'round'"):
        generative_recipe(name, data, None, {**options, "critic_network": "round"}).model()
