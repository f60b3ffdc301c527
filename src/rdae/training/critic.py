"""A critic trained alone, between two laws that stay as they are: what it says is then known, or can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from rdae.adversarial import Game, Judged, Penalty

__all__ = ["Sampler", "fit_critic"]

Sampler = Callable[[int], Tensor]  # number of examples to examples, (count, *event)


def fit_critic(
    critic: nn.Module,
    game: Game,
    real: Sampler,
    fake: Sampler,
    penalties: Sequence[Penalty] = (),
    *,
    steps: int = 400,
    batch: int = 256,
    learning_rate: float = 1e-2,
    after: Callable[[nn.Module], None] | None = None,
) -> None:
    """Trains a critic in place, by Adam whose rate falls in a line to zero, and leaves it in `eval()` mode.

    Under `rdae.adversarial.Minimax` its logit approaches ln P_r - ln P_g; under `Wasserstein` with a penalty the
    difference of its means approaches W_1. Draws and penalties use PyTorch's global generator.

    Args:
        critic: `(batch, *event)` to `(batch,)`, which judges each example for itself: it sees both kinds in one pass.
        game: its `critic_loss` is minimised.
        real, fake: draw from the two laws.
        penalties: on the critic.
        steps, batch, learning_rate: of the schedule; the rate is its peak, at the first step.
        after: done to the critic after each step, such as `rdae.adversarial.clip_weights`.
    """
    optimizer = torch.optim.Adam(critic.parameters(), lr=learning_rate, betas=(0.5, 0.99), fused=True)
    critic.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
        judged = Judged(critic, real(batch), fake(batch))
        penalty = sum(each(judged, step) for each in penalties)
        loss = game.critic_loss(*judged.logits) + penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if after is not None:
            after(critic)
    critic.eval()
