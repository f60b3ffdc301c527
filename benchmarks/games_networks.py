"""What the contestants of games.py train: networks, batches and rates, in PyTorch alone."""

from itertools import pairwise
from typing import NamedTuple

import torch
from games_stand_ins import stand_ins
from torch import nn

LEARNING_RATE, BETAS, PENALTY, GAMMA = 2e-4, (0.5, 0.9), 10.0, 0.03
WIDTH = 64  # of the residual networks


class Contest(NamedTuple):
    """A generator of examples like those of the batch, and its critic, `(batch, *event)` to `(batch,)`."""

    latent: int
    generator: nn.Module
    critic: nn.Module
    batch: torch.Tensor


class One(nn.Sequential):
    """Networks whose one output is a number for each example."""

    def forward(self, y):
        return super().forward(y).squeeze(1)


def points() -> Contest:
    """Three hidden layers of 128 units, 256 points of the plane."""
    sizes = (2, 128, 128, 128)

    def hidden() -> list[nn.Module]:
        return [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.LeakyReLU(0.2))]

    generator, critic = nn.Sequential(*hidden(), nn.Linear(128, 2)), One(*hidden(), nn.Linear(128, 1))
    return Contest(2, generator, critic, torch.randn(256, 2))


def pictures() -> Contest:
    """Three convolutions of stride 2 each way, 64 pictures of 3 x 32 x 32."""
    channels = (3, 32, 64, 128)
    down = [
        layer for pair in pairwise(channels) for layer in (nn.Conv2d(*pair, 4, 2, 1), nn.LeakyReLU(0.2))
    ]  # fmt: skip
    up: list[nn.Module] = [nn.Linear(64, 128 * 16), nn.Unflatten(1, (128, 4, 4))]
    for inputs, outputs in pairwise(reversed(channels)):
        up += [nn.LeakyReLU(0.2), nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)]
    critic = One(*down, nn.Flatten(), nn.Linear(128 * 16, 1))
    return Contest(64, nn.Sequential(*up, nn.Tanh()), critic, torch.rand(64, 3, 32, 32) * 2 - 1)


def sngan() -> Contest:
    """Mimicry's own residual networks for 32 x 32 with spectral normalisation, narrower, 16 pictures."""
    with stand_ins():
        from torch_mimicry.nets.sngan.sngan_32 import SNGANDiscriminator32, SNGANGenerator32

    generator, critic = SNGANGenerator32(ngf=WIDTH), SNGANDiscriminator32(ndf=WIDTH)
    return Contest(128, generator, critic, torch.rand(16, 3, 32, 32) * 2 - 1)


NETWORKS = {"points": points, "pictures": pictures, "sngan": sngan}


def optimizer(network: nn.Module) -> torch.optim.Optimizer:
    """The recipe's."""
    return torch.optim.AdamW(network.parameters(), **optimizer_options())


def optimizer_options() -> dict:
    """Of `torch.optim.AdamW`."""
    return {"lr": LEARNING_RATE, "betas": BETAS, "weight_decay": 0.0, "fused": True}


def facts(contest: Contest) -> dict:
    """What a contestant says of itself."""
    sizes = (sum(p.numel() for p in network.parameters()) for network in (contest.generator, contest.critic))
    return {
        "weights": dict(zip(("generator", "critic"), sizes, strict=True)),
        "batch": list(contest.batch.shape),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
