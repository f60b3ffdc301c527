"""Run by games.py in an environment of torchgan's: its Trainer on the same networks.

    python games_torchgan.py NETWORKS GAME

GAME is `non_saturating` or `wgan_gp`. Its penalty is a loss of its own, with a pass of the generator and a step of the
optimiser of its own, and takes one norm of the gradients of the whole batch where the paper takes one of each example.
"""

import sys
import tempfile

import torch
from contestants import steps_asked_for
from games_networks import NETWORKS, Contest, facts, optimizer_options
from games_stand_ins import stand_ins

with stand_ins():
    from torchgan.losses import (
        MinimaxDiscriminatorLoss,
        MinimaxGeneratorLoss,
        WassersteinDiscriminatorLoss,
        WassersteinGeneratorLoss,
        WassersteinGradientPenalty,
    )
    from torchgan.models import Discriminator, Generator
    from torchgan.trainer import Trainer

LOSSES = {
    "non_saturating": (MinimaxGeneratorLoss, MinimaxDiscriminatorLoss),
    "wgan_gp": (WassersteinGeneratorLoss, WassersteinDiscriminatorLoss, WassersteinGradientPenalty),
}


class ItsGenerator(Generator):
    """The generator as torchgan wants it."""

    def __init__(self, contest: Contest) -> None:
        super().__init__(contest.latent)
        self.network = contest.generator

    def forward(self, z):
        return self.network(z)


class ItsCritic(Discriminator):
    """The critic as torchgan wants it."""

    def __init__(self, contest: Contest) -> None:
        super().__init__(contest.batch.shape[1])
        self.network = contest.critic

    def forward(self, y):
        return self.network(y)


class Batches:
    """One batch again and again; what the trainer asks of a loader."""

    def __init__(self, batch: torch.Tensor, told: dict) -> None:
        self.batch, self.told, self.batch_size = batch, told, len(batch)

    def __iter__(self):
        for _ in steps_asked_for(self.told):
            yield self.batch


torch.manual_seed(0)
torch.set_flush_denormal(True)  # as the package does
contest = NETWORKS[sys.argv[1]]()
how = {"name": torch.optim.AdamW, "args": optimizer_options()}
models = {
    "generator": {"name": ItsGenerator, "args": {"contest": contest}, "optimizer": how},
    "discriminator": {"name": ItsCritic, "args": {"contest": contest}, "optimizer": how},
}
with tempfile.TemporaryDirectory() as out:
    trainer = Trainer(
        models, [loss() for loss in LOSSES[sys.argv[2]]], device=torch.device("cpu"), epochs=1, sample_size=1,
        checkpoints=f"{out}/model/gan", recon=f"{out}/images",
    )  # fmt: skip
    trainer(Batches(contest.batch, facts(contest)))
