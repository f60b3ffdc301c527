"""Run by games.py in an environment of torch-mimicry's: its Trainer on its own SNGAN for 32 x 32, with the hinge loss.

    python games_mimicry.py

It prints, logs and draws at no step that is taken here.
"""

import sys
import tempfile

import torch
from contestants import steps_asked_for
from games_networks import NETWORKS, facts, optimizer
from games_stand_ins import stand_ins

with stand_ins():
    from torch_mimicry.training import Trainer

NEVER = 1_000_000_000


class Batches:
    """One batch again and again; what the trainer asks of a loader."""

    def __init__(self, batch: torch.Tensor, told: dict) -> None:
        self.batch, self.told, self.batch_size = batch, told, len(batch)
        self.labels = torch.zeros(len(batch), dtype=torch.long)

    def __len__(self) -> int:
        return 1

    def __iter__(self):
        for _ in steps_asked_for(self.told):
            yield self.batch, self.labels


sys.stdout = sys.stderr  # the trainer says that it starts
torch.manual_seed(0)
torch.set_flush_denormal(True)  # as the package does
contest = NETWORKS["sngan"]()
with tempfile.TemporaryDirectory() as out:
    Trainer(
        netD=contest.critic, netG=contest.generator, optD=optimizer(contest.critic), optG=optimizer(contest.generator),
        dataloader=Batches(contest.batch, facts(contest)), num_steps=NEVER, n_dis=1, log_dir=out,
        device=torch.device("cpu"), print_steps=NEVER, vis_steps=NEVER, log_steps=NEVER, save_steps=NEVER,
    ).train()  # fmt: skip
