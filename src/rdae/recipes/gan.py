"""Generative adversarial networks: the classic games, and the regularised relativistic one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rdae.adversarial import (
    R1,
    R2,
    AdversarialPair,
    Game,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Penalty,
    Relativistic,
)
from rdae.adversarial.both_sides import BothSides
from rdae.data.arrays import ArrayData
from rdae.errors import DataError
from rdae.recipes.implicit import pair_for, turns
from rdae.training.adversarial_recipe import AdversarialRecipe

__all__ = ["gan", "r3gan"]

GAMES: dict[str, Callable[[], Game]] = {
    "non_saturating": NonSaturating,
    "minimax": Minimax,
    "least_squares": LeastSquares,
    "hinge": Hinge,
    "relativistic": Relativistic,
}


def gan(
    data: ArrayData,
    test: ArrayData | None = None,
    *,
    game: str = "non_saturating",
    r1: float = 0.0,
    r2: float = 0.0,
    fade: float = 1.0,
    packing: int = 1,
    latent: int = 64,
    network: str = "auto",
    critic_network: str = "auto",
    hidden: Sequence[int] = (256, 256, 256),
    critic_hidden: Sequence[int] = (),
    widths: Sequence[int] = (32, 64, 128),
    critic_steps: int = 1,
    epochs: float = 40.0,
    batch: int = 64,
    learning_rate: float = 2e-4,
    critic_learning_rate: float = 2e-4,
    average: float = 0.999,
    name: str = "gan",
) -> AdversarialRecipe:
    """Two players, a generator and a critic (Goodfellow et al. 2014, arXiv:1406.2661).

    Args:
        data, test: what to learn from, and held-out examples.
        game: non_saturating, minimax, least_squares, hinge or relativistic.
        r1, r2: weights gamma of the penalties on the critic's slope at real and at generated examples.
        fade: share of both weights that is left at the end; they fall by the same factor at each turn.
        packing: examples that the critic sees at once.
        latent: latent variables.
        network: auto (convolutional for images), dense, convolutional, or halved: dense ones that draw and see
            images at half their size.
        critic_network: the critic's; auto: of the same kind.
        hidden, widths: of dense layers, and channels of convolutions, fine to coarse.
        critic_hidden: widths of a dense critic's layers, where they are not those of `hidden`.
        critic_steps: turns of the critic for each of the generator.
        epochs: passes over the data, of both players together.
        batch, learning_rate, critic_learning_rate: of the schedule.
        average: decay of the moving average of the generator's weights, per turn of the generator.

    Raises:
        DataError: there is no such game, or a number is out of range.
    """
    if game not in GAMES:
        raise DataError(f"There is no game {game!r}. Choose from {', '.join(GAMES)}.")
    if critic_steps < 1 or min(r1, r2) < 0:
        raise DataError(
            f"critic_steps={critic_steps}, r1={r1}, r2={r2}: a critic needs a turn, penalties are not negative."
        )
    penalties: list[Penalty] = [penalty(gamma) for penalty, gamma in ((R1, r1), (R2, r2)) if gamma]
    if r1 == r2 > 0:
        penalties = [BothSides(r1)]

    def model() -> AdversarialPair:
        return pair_for(data, GAMES[game](), penalties, latent=latent, network=network, critic_network=critic_network,
                        hidden=hidden, critic_hidden=critic_hidden, widths=widths, packing=packing)  # fmt: skip

    return AdversarialRecipe(
        name=name, model=model, data=data, test=test, critic_steps=critic_steps, learning_rate=learning_rate,
        critic_learning_rate=critic_learning_rate, betas=(0.0, 0.99), fade=fade, **turns(data, epochs, batch, average),
    )  # fmt: skip


def r3gan(data: ArrayData, test: ArrayData | None = None, *, gamma: float = 0.1, **options) -> AdversarialRecipe:
    """The relativistic game with R1 and R2 (Huang et al. 2024, arXiv:2501.05441); other arguments as for `gan`."""
    return gan(data, test, **{"game": "relativistic", "r1": gamma, "r2": gamma, "name": "r3gan", **options})
