"""Run by games.py: the games as one would write them down in PyTorch, without the package.

    python games_bare.py NETWORKS GAME [FOLDER]

GAME is `non_saturating`, `hinge`, `wgan_gp` or `r3gan`; FOLDER as for games_rdae.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from contestants import steps_asked_for
from games_networks import GAMMA, NETWORKS, PENALTY, facts, optimizer
from torch import Tensor, nn

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]  # (critic, real, fake)


def _slopes_squared(logits: Tensor, y: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(logits.sum(), y, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def _penalised(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    t = torch.rand(len(real), *[1] * (real.ndim - 1))
    x = (t * real + (1 - t) * fake).requires_grad_()
    penalty = PENALTY * (_slopes_squared(critic(x), x).sqrt() - 1).square().mean()
    return critic(fake).mean() - critic(real).mean() + penalty


def _r3gan(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    real, fake = real.detach().requires_grad_(), fake.requires_grad_()
    real_logits, fake_logits = critic(real), critic(fake)
    slopes = _slopes_squared(real_logits, real) + _slopes_squared(fake_logits, fake)
    return F.softplus(fake_logits - real_logits).mean() + GAMMA / 2 * slopes.mean()


GAMES: dict[str, tuple[Loss, Loss]] = {
    "non_saturating": (
        lambda f, y, fake: F.softplus(-f(y)).mean() + F.softplus(f(fake)).mean(),
        lambda f, y, fake: F.softplus(-f(fake)).mean(),
    ),
    "hinge": (
        lambda f, y, fake: F.relu(1 - f(y)).mean() + F.relu(1 + f(fake)).mean(),
        lambda f, y, fake: -f(fake).mean(),
    ),
    "wgan_gp": (_penalised, lambda f, y, fake: -f(fake).mean()),
    "r3gan": (_r3gan, lambda f, y, fake: F.softplus(f(y) - f(fake)).mean()),
}


def main() -> None:
    """Trains for ever."""
    torch.manual_seed(0)
    torch.set_flush_denormal(True)  # as the package does
    sys.path += sys.argv[3:]
    contest = NETWORKS[sys.argv[1]]()
    latent, generator, critic, real = contest
    critic_loss, generator_loss = GAMES[sys.argv[2]]
    critic_optimizer, generator_optimizer = optimizer(critic), optimizer(generator)
    for _ in steps_asked_for(facts(contest)):
        with torch.no_grad():
            fake = generator(torch.randn(len(real), latent))
        critic_optimizer.zero_grad()
        critic_loss(critic, real, fake).backward()
        critic_optimizer.step()
        generator_optimizer.zero_grad()
        generator_loss(critic, real, generator(torch.randn(len(real), latent))).backward()
        generator_optimizer.step()


if __name__ == "__main__":
    main()
