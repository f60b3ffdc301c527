"""Run by games.py: the package's loop, its games and penalties on the same networks; weights averaged, losses logged.

    python games_rdae.py NETWORKS GAME [FOLDER]

GAME as for games_bare.py. FOLDER is where torch-mimicry is installed, whose networks `sngan` takes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from games_networks import BETAS, GAMMA, LEARNING_RATE, NETWORKS, PENALTY, Contest, facts
from one_batch import TURNS, OneBatch, train_for_ever

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

GAMES: dict[str, tuple[Game, list[Penalty]]] = {
    "non_saturating": (NonSaturating(), []),
    "hinge": (Hinge(), []),
    "wgan_gp": (Wasserstein(), [GradientPenalty(PENALTY)]),
    "r3gan": (Relativistic(), [BothSides(GAMMA)]),
}


@dataclass(frozen=True, kw_only=True)
class Repeated(AdversarialRecipe):
    """A game whose examples are one batch."""

    blocks: OneBatch

    def batches(self, data: Path, *, seed: int, rank: int, world: int) -> OneBatch:  # type: ignore[override]
        return self.blocks


def recipe_for(contest: Contest, game: str) -> Repeated:
    """As the recipes build it."""
    rule, penalties = GAMES[game]
    model = ImplicitModel(StandardNormalPrior(contest.latent), contest.generator)
    return Repeated(
        name=game, model=lambda: AdversarialPair(model, contest.critic, rule, penalties), batch=len(contest.batch),
        steps=TURNS, learning_rate=LEARNING_RATE, critic_learning_rate=LEARNING_RATE, betas=BETAS, weight_decay=0.0,
        average=0.999, clip=None, data=ArrayData(contest.batch, Kind.REAL),
        blocks=OneBatch(contest.batch, facts(contest), turns=2),  # the critic's and the generator's
    )  # fmt: skip


def main() -> None:
    """Trains for ever."""
    torch.manual_seed(0)
    sys.path += sys.argv[3:]
    train_for_ever(recipe_for(NETWORKS[sys.argv[1]](), sys.argv[2]))


if __name__ == "__main__":
    main()
