"""Games: each one's losses and gradients in closed form, its best critic, and what it does when a critic is perfect."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor
from torch.testing import assert_close

from rdae.adversarial import Game, Hinge, LeastSquares, Minimax, NonSaturating, Relativistic, Wasserstein, value_draws
from rdae.errors import ShapeError

Slope = Callable[[Tensor, Tensor], Tensor]


class Closed(NamedTuple):
    """Derivatives times the batch: of the critic's loss in both logits, of the generator's in the fake ones."""

    critic_real: Slope
    critic_fake: Slope
    generator: Slope
    blind: tuple[float, float]  # losses of critic and generator where the critic says 0 of everything


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


GAMES: dict[Game, Closed] = {
    Minimax(): Closed(
        lambda r, f: sigmoid(r) - 1, lambda r, f: sigmoid(f), lambda r, f: -sigmoid(f), (math.log(4), -math.log(2))
    ),
    NonSaturating(): Closed(
        lambda r, f: sigmoid(r) - 1, lambda r, f: sigmoid(f), lambda r, f: sigmoid(f) - 1, (math.log(4), math.log(2))
    ),
    LeastSquares(): Closed(lambda r, f: r - 1, lambda r, f: f, lambda r, f: f - 1, (0.5, 0.5)),
    Hinge(): Closed(
        lambda r, f: -(r < 1).double(), lambda r, f: (f > -1).double(), lambda r, f: -torch.ones_like(f), (2.0, 0.0)
    ),
    Relativistic(): Closed(
        lambda r, f: sigmoid(r - f) - 1,
        lambda r, f: 1 - sigmoid(r - f),
        lambda r, f: sigmoid(f - r) - 1,
        (math.log(2), math.log(2)),
    ),
    Wasserstein(): Closed(
        lambda r, f: -torch.ones_like(r), lambda r, f: torch.ones_like(f), lambda r, f: -torch.ones_like(f), (0.0, 0.0)
    ),
}
every_game = pytest.mark.parametrize("game", GAMES, ids=lambda game: type(game).__name__)


def logits(n: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return tuple((3 * torch.randn(n, generator=generator, dtype=torch.float64)).requires_grad_() for _ in range(2))


@every_game
def test_gradients_are_those_of_the_closed_form_and_of_finite_differences(game):
    real, fake = logits()
    closed = GAMES[game]
    in_real, in_fake = torch.autograd.grad(game.critic_loss(real, fake), (real, fake))
    assert_close(in_real * len(real), closed.critic_real(real, fake))
    assert_close(in_fake * len(fake), closed.critic_fake(real, fake))
    (of_generator,) = torch.autograd.grad(game.generator_loss(real, fake), fake)
    assert_close(of_generator * len(fake), closed.generator(real, fake))
    assert torch.autograd.gradcheck(game.critic_loss, (real, fake))
    assert torch.autograd.gradcheck(lambda f: game.generator_loss(real.detach(), f), fake)


@every_game
def test_losses_where_the_critic_knows_nothing(game):
    nothing = torch.zeros(7, dtype=torch.float64)
    found = game.critic_loss(nothing, nothing), game.generator_loss(nothing, nothing)
    assert tuple(map(float, found)) == pytest.approx(GAMES[game].blind, abs=1e-15)


@every_game
def test_losses_and_gradients_stay_finite_at_extreme_logits(game):
    for dtype in (torch.float32, torch.float64):
        real, fake = (x.to(dtype).requires_grad_() for x in torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, -1e4]]))
        for loss in (game.critic_loss(real, fake), game.generator_loss(real, fake)):
            gradients = torch.autograd.grad(loss, (real, fake), allow_unused=True)
            assert all(bool(torch.isfinite(x).all()) for x in (loss, *gradients) if x is not None)


def test_minimax_is_minus_the_value_in_probabilities():
    real, fake = logits()
    v = sigmoid(real).log().mean() + (1 - sigmoid(fake)).log().mean()
    assert_close(Minimax().critic_loss(real, fake), -v)
    assert_close(Minimax().generator_loss(real, fake), (1 - sigmoid(fake)).log().mean())
    assert_close(NonSaturating().generator_loss(real, fake), -sigmoid(fake).log().mean())
    assert_close(value_draws(real, fake).mean(), v)


@pytest.mark.parametrize("a", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("b", [0.02, 0.5, 4.0])
def test_the_best_critic_where_real_has_density_a_and_generated_b(a, b):
    """By a scan over f; the grid's step is 1e-3, so an argmax is known to half of it."""
    f = torch.arange(-8_000, 8_001, dtype=torch.float64) / 1000

    zero = torch.zeros(1, dtype=torch.float64)

    def best(game: Game) -> float:
        def mixed(x: Tensor) -> Tensor:
            return a * game.critic_loss(x[None], zero) + b * game.critic_loss(zero, x[None])

        return float(f[torch.vmap(mixed)(f).argmin()])

    assert best(Minimax()) == pytest.approx(math.log(a / b), abs=6e-4)  # D = a / (a + b)
    assert 1 / (1 + math.exp(-best(NonSaturating()))) == pytest.approx(a / (a + b), abs=2e-4)
    assert best(LeastSquares()) == pytest.approx(a / (a + b), abs=6e-4)
    assert best(Hinge()) == pytest.approx(1.0 if a > b else -1.0, abs=1e-9)


def test_only_the_saturating_generator_learns_nothing_from_a_perfect_critic():
    real, fake = torch.full((5,), 20.0, dtype=torch.float64), torch.full((5,), -20.0, dtype=torch.float64)
    size = {}
    for game in GAMES:
        f = fake.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(game.generator_loss(real, f) * len(f), f)
        size[type(game)] = float(gradient.abs().max())
    assert size.pop(Minimax) == pytest.approx(math.exp(-20), rel=1e-6)
    assert all(found >= 1 - 1e-8 for found in size.values())


def test_a_relativistic_game_refuses_what_would_broadcast():
    with pytest.raises(ShapeError, match="one number per example"):
        Relativistic().critic_loss(torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(ShapeError, match="as many of each"):
        Relativistic().generator_loss(torch.zeros(4), torch.zeros(3))


def test_a_relativistic_critic_is_indifferent_to_a_common_shift():
    real, fake = logits()
    for loss in (Relativistic().critic_loss, Relativistic().generator_loss):
        assert_close(loss(real + 5, fake + 5), loss(real, fake))
