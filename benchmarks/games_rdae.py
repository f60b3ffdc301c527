"""Run by games.py: the package's loop, its games and penalties on the same networks; weights averaged, losses logged.

    python games_rdae.py NETWORKS GAME [FOLDER]

GAME as for games_bare.py. FOLDER is where torch-mimicry is installed, whose networks `sngan` takes.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from contestants import steps_asked_for
from games_networks import BETAS, GAMMA, LEARNING_RATE, NETWORKS, PENALTY, Contest, facts
from torch import Tensor
from torch.utils.data import Dataset

from rdae.adversarial import (
    AdversarialPair,
    Game,
    GradientPenalty,
    Hinge,
    ImplicitModel,
    NonSaturating,
    Penalty,
    Relativistic,
    Wasserstein,
)
from rdae.adversarial.both_sides import BothSides
from rdae.data.arrays import ArrayData, Kind
from rdae.priors.latent import StandardNormalPrior
from rdae.training.adversarial_recipe import AdversarialRecipe
from rdae.training.loop import Settings, train

GAMES: dict[str, tuple[Game, list[Penalty]]] = {
    "non_saturating": (NonSaturating(), []),
    "hinge": (Hinge(), []),
    "wgan_gp": (Wasserstein(), [GradientPenalty(PENALTY)]),
    "r3gan": (Relativistic(), [BothSides(GAMMA)]),
}
TURNS = 1_000_000  # more than are ever taken


class Blocks(Dataset):
    """One batch again and again; a step of the benchmark is a turn of the critic and one of the generator."""

    def __init__(self, batch: Tensor, told: dict) -> None:
        self.batch, self.rounds = batch, steps_asked_for(told)

    def __getitem__(self, turn: int) -> Tensor:
        if turn % 2 == 0:
            next(self.rounds)
        return self.batch


@dataclass(frozen=True, kw_only=True)
class Repeated(AdversarialRecipe):
    """A game whose examples are one batch."""

    blocks: Blocks

    def batches(self, data: Path, *, seed: int, rank: int, world: int) -> Blocks:  # type: ignore[override]
        return self.blocks


def recipe_for(contest: Contest, game: str) -> Repeated:
    """As the recipes build it."""
    rule, penalties = GAMES[game]
    model = ImplicitModel(StandardNormalPrior(contest.latent), contest.generator)
    return Repeated(
        name=game, model=lambda: AdversarialPair(model, contest.critic, rule, penalties), batch=len(contest.batch),
        steps=TURNS, learning_rate=LEARNING_RATE, critic_learning_rate=LEARNING_RATE, betas=BETAS, weight_decay=0.0,
        average=0.999, clip=None, data=ArrayData(contest.batch, Kind.REAL),
        blocks=Blocks(contest.batch, facts(contest)),
    )  # fmt: skip


def main() -> None:
    """Trains for ever."""
    torch.manual_seed(0)
    sys.path += sys.argv[3:]
    recipe = recipe_for(NETWORKS[sys.argv[1]](), sys.argv[2])
    with tempfile.TemporaryDirectory() as out:
        settings = Settings(
            data=Path(out), out=Path(out), accelerator="cpu", devices="1", checkpoint_minutes=float("inf")
        )
        train(recipe, settings)


if __name__ == "__main__":
    main()
