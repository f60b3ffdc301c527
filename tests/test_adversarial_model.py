"""An implicit model and its critic: samples, losses made of their parts, whose gradients, short games to the end."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn
from torch.distributions import Independent, Normal
from torch.testing import assert_close

from rdae.adversarial import (
    R1,
    R2,
    AdversarialPair,
    Game,
    GradientPenalty,
    Hinge,
    ImplicitModel,
    Judged,
    Lazy,
    LeastSquares,
    Minimax,
    NonSaturating,
    Penalty,
    Relativistic,
    Wasserstein,
    grid,
    jensen_shannon,
    packed_event,
    spectrally_normalised,
)
from rdae.errors import ShapeError
from rdae.networks.critics import ConvolutionalCritic, DenseCritic
from rdae.networks.dense import DenseDecoder
from rdae.networks.halved import HalvedDecoder
from rdae.networks.images import ImageDecoder
from rdae.priors.latent import MixturePrior, NormalPrior, StandardNormalPrior
from rdae.training.averaging import WeightAverage

GAMES: list[Game] = [Minimax(), NonSaturating(), LeastSquares(), Hinge(), Relativistic(), Wasserstein()]
every_game = pytest.mark.parametrize("game", GAMES, ids=lambda game: type(game).__name__)


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(6)
        yield


def dense(packing: int = 1, game: Game = GAMES[1], penalties: tuple[Penalty, ...] = ()) -> AdversarialPair:
    """A small pair whose critic has scattered weights."""
    model = ImplicitModel(StandardNormalPrior(3), DenseDecoder((2,), 3, (8,)))
    critic = DenseCritic(packed_event((2,), packing), (8,))
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.normal_(0, 0.5)
    return AdversarialPair(model, critic, game, penalties, packing)


# --- implicit models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("event", [(1, 1, 1), (1, 28, 28), (3, 9, 14), (2, 33, 7)])
def test_images_of_any_size_are_made_and_judged(event, half):
    generator = HalvedDecoder(event, 5, (8,)) if half else ImageDecoder(event, 5, widths=(8, 4))
    model = ImplicitModel(StandardNormalPrior(5), nn.Sequential(generator, nn.Sigmoid()))
    samples = model.sample(6)
    assert samples.shape == (6, *event)
    assert not samples.requires_grad
    assert 0 <= float(samples.min()) <= float(samples.max()) <= 1
    for packing in (1, 3):
        critic = ConvolutionalCritic(packed_event(event, packing), (4, 4))
        pair = AdversarialPair(model, critic, Relativistic(), (GradientPenalty(), Lazy(R1())), packing)
        loss, report = pair.critic_loss(torch.rand(6, *event))
        assert float(loss.detach()) == pytest.approx(
            math.log(2) + 10, rel=1e-6
        )  # a critic that knows nothing, and has no slope
        assert float(report["penalty"]) == 10
        pair.generator_loss(torch.rand(6, *event))[0].backward()


def test_samples_come_from_the_prior_and_spread_with_the_temperature():
    prior = NormalPrior(2)
    with torch.no_grad():
        prior.mean.copy_(torch.tensor([3.0, -1.0]))
        prior.log_std.fill_(math.log(0.5))
    model = ImplicitModel(prior, nn.Identity())
    for temperature in (1.0, 0.3):
        y = model.sample(20_000, temperature=temperature)
        error = 4 * 0.5 * temperature / math.sqrt(20_000)
        assert_close(y.mean(0), prior.mean.detach(), rtol=0, atol=error)
        assert_close(y.std(0), torch.full((2,), 0.5 * temperature), rtol=4 / math.sqrt(2 * 20_000), atol=0)


def test_a_learned_prior_learns_where_its_draws_can_be_followed():
    for prior, learns in ((NormalPrior(3), True), (MixturePrior(4, 3), False)):
        model = ImplicitModel(prior, DenseDecoder((2,), 3, (8,)))
        model(5).sum().backward()
        assert all((p.grad is not None) == learns for p in prior.parameters())
        assert all(p.grad is not None for p in model.generator.parameters())


# --- the two losses ---------------------------------------------------------------------------------------------------


@every_game
@pytest.mark.parametrize("packing", [1, 2])
def test_losses_are_those_of_the_game_and_the_penalties_on_packs(game, packing):
    penalties = (R1(0.3), R2(0.7))  # without a draw of their own
    pair = dense(packing=packing, game=game, penalties=penalties)
    real = torch.randn(8, 2)
    torch.manual_seed(0)
    loss, report = pair.critic_loss(real)
    torch.manual_seed(0)
    fake = pair.model(8).detach()
    inner = pair.critic.critic
    packs = [torch.cat(list(y.view(-1, packing, 2).unbind(1)), 1) for y in (real, fake)]
    plain = game.critic_loss(inner(packs[0]), inner(packs[1]))
    penalty = sum(p(Judged(inner, *packs)) for p in penalties)
    assert_close(loss, plain + penalty)
    assert_close(report["critic_loss"], plain.detach())
    assert_close(report["penalty"], penalty.detach())
    assert_close(report["gap"], (inner(packs[0]).mean() - inner(packs[1]).mean()).detach())
    torch.manual_seed(0)
    loss, report = pair.generator_loss(real)
    assert_close(loss, game.generator_loss(inner(packs[0]), inner(packs[1])))
    assert_close(report["generator_loss"], loss.detach())
    assert not any(value.requires_grad for value in report.values())


@every_game
def test_the_critic_learns_from_its_loss_alone_and_the_generator_from_its_own(game):
    pair = dense(game=game, penalties=(GradientPenalty(0.1),))
    real = torch.randn(8, 2)
    pair.critic_loss(real)[0].backward()
    assert all(p.grad is None for p in pair.model.parameters())
    assert any(float(p.grad.abs().max()) > 0 for p in pair.critic.parameters() if p.grad is not None)
    pair.zero_grad()
    pair.generator_loss(real)[0].backward()
    assert any(float(p.grad.abs().max()) > 0 for p in pair.model.parameters())
    assert all(p.grad is None and p.requires_grad for p in pair.critic.parameters())
    assert real.grad is None


def test_a_model_sampled_in_inference_mode_first_learns_as_before():
    pair = dense(game=Relativistic())
    with torch.inference_mode():
        pair.model.sample(2)
    prior = pair.model.code()
    assert not prior.mean.is_inference()
    assert not prior.stddev.is_inference()
    pair.generator_loss(torch.randn(8, 2))[0].backward()
    assert any(bool(p.grad.any()) for p in pair.model.parameters())


def test_lazy_penalties_follow_the_step():
    pair = dense(penalties=(Lazy(R1(1.0), every=3),))
    real = torch.randn(8, 2)
    once = R1(1.0)(Judged(pair.critic.critic, real, real)).detach()
    found = [pair.critic_loss(real, step)[1]["penalty"] for step in range(6)]
    assert_close(torch.stack(found), once * torch.tensor([3.0, 0, 0, 3, 0, 0]))


def test_a_pair_of_other_shapes_or_broken_packs_is_refused():
    with pytest.raises(ShapeError, match=r"makes \(2,\) but examples are \(3,\)"):
        dense().critic_loss(torch.randn(4, 3))
    with pytest.raises(ShapeError, match="packs of 3"):
        dense(packing=3).generator_loss(torch.randn(4, 2))


def test_a_spectrally_normalised_pair_goes_on_from_its_state_dict():
    def made() -> AdversarialPair:
        pair = dense(game=Hinge())
        spectrally_normalised(pair.critic)
        return pair

    pair, other = made(), made()
    real = torch.randn(8, 2)
    pair.critic_loss(real)
    other.load_state_dict(pair.state_dict())
    for each in (pair, other):
        torch.manual_seed(0)
        each.losses = [each.critic_loss(real)[0], each.generator_loss(real)[0]]
    assert all(torch.equal(a, b) for a, b in zip(pair.losses, other.losses, strict=True))


# --- games to the end -------------------------------------------------------------------------------------------------


class Affine(nn.Module):
    """`G(z) = scale z + shift`; P_g is Gaussian and everything about the game is known."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.tensor([1.0])), nn.Parameter(torch.tensor([0.0]))

    def forward(self, z: Tensor) -> Tensor:
        return self.scale * z + self.shift


def played(pair: AdversarialPair) -> tuple[ImplicitModel, Tensor]:
    """Real examples are N(2, 0.5^2), the critic has two turns for each of the generator's 200.

    Returns:
        The model with averaged weights, and the mean loss of the critic in the last 40 turns.
    """
    rates = {pair.critic: 0.02, pair.model: 0.03}
    optimizers = {part: torch.optim.Adam(part.parameters(), betas=(0.0, 0.99), fused=True) for part in rates}
    average = WeightAverage(pair.model, 0.98)
    losses = []
    for step in range(600):
        player = pair.model if step % 3 == 2 else pair.critic
        real = 2 + 0.5 * torch.randn(256, 1)
        loss, report = pair.critic_loss(real, step) if player is pair.critic else pair.generator_loss(real)
        pair.zero_grad()
        loss.backward()
        optimizers[player].param_groups[0]["lr"] = rates[player] * (1 - step / 600)
        optimizers[player].step()
        if player is pair.model:
            average.update()
        losses += [report["critic_loss"]] if player is pair.critic else []
    result = copy.deepcopy(pair.model)
    result.load_state_dict(average.average)
    return result, torch.stack(losses[-40:]).mean()


@pytest.mark.parametrize(
    ("game", "penalties", "packing", "blind"),
    [(NonSaturating(), (R1(0.1),), 1, math.log(4)), (Relativistic(), (R1(0.1), R2(0.1)), 2, math.log(2))],
    ids=["non-saturating", "relativistic-packed"],
)
def test_a_game_ends_where_the_laws_are_one_and_the_critic_knows_nothing(game, penalties, packing, blind):
    model = ImplicitModel(StandardNormalPrior(1), Affine())
    result, last = played(AdversarialPair(model, DenseCritic((packing,), (16, 16)), game, penalties, packing))
    real = Independent(Normal(torch.tensor([2.0]).double(), torch.tensor([0.5]).double()), 1).log_prob
    generator = result.generator.double()
    fake = Independent(Normal(generator.shift.detach(), generator.scale.detach().abs()), 1).log_prob
    on = grid([-8.0], [10.0], 4000)
    before = Independent(Normal(torch.zeros(1).double(), torch.ones(1).double()), 1).log_prob
    assert jensen_shannon(real, before, on) > 0.4
    assert jensen_shannon(real, fake, on) < 0.02
    assert float(last) == pytest.approx(blind, abs=0.05)
