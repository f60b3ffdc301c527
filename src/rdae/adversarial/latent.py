"""A game in the latent space: an autoencoder, and a critic that tells its latents from those of a reference law."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from rdae.adversarial.games import Minimax
from rdae.adversarial.model import Losses
from rdae.autoencoder import NoisyChannelAutoencoder

__all__ = ["Charge", "Contrast", "LatentPair", "density_ratio", "non_saturating"]

Charge = Callable[[Tensor], Tensor]  # what the critic says of latents, (batch,), to a scalar that their encoder pays
Contrast = Callable[[Distribution, Tensor], tuple[Tensor, Tensor]]  # prior and latents to latents, and reference ones


def density_ratio(logits: Tensor) -> Tensor:
    """`-E f(z)`: KL(q(z) || reference) in nats, where f is the best critic `ln reference(z) - ln q(z)`."""
    return -logits.mean()


def non_saturating(logits: Tensor) -> Tensor:
    """`-E ln sigmoid(f(z))`: as a generator pays in `rdae.adversarial.NonSaturating`."""
    return F.softplus(-logits).mean()


class LatentPair(nn.Module):
    """An autoencoder and a critic of its latents, ready to be trained in turns.

    The critic is taught to give latents of a reference law 1 and those of the aggregated posterior q(z) 0, by
    `Minimax`; at its best its logit is ln reference(z) - ln q(z).

    Args:
        model: whose latents are judged.
        critic: `(batch, units)` to `(batch,)`.
        contrast: `(p, z)` to latents of q(z) and of the reference law, independent of each other.
        charge: what the encoder pays, from what the critic says of its latents.
        weight: of the charge, nats.
    """

    def __init__(
        self, model: NoisyChannelAutoencoder, critic: nn.Module, contrast: Contrast, charge: Charge, weight: float
    ) -> None:
        super().__init__()
        self.model, self.critic = model, critic
        self.contrast, self.charge, self.weight = contrast, charge, weight

    def critic_loss(self, y: Tensor) -> Losses:
        """What the critic minimises, in nats, ln 4 where it knows nothing; and how often it is right."""
        with torch.no_grad():
            z = self.model.posterior(y).sample().flatten(1)
            encoded, reference = self.contrast(self.model.code(), z)
        told, heard = self.critic(reference), self.critic(encoded)
        loss = Minimax().critic_loss(told, heard)
        right = ((told > 0).double().mean() + (heard < 0).double().mean()) / 2
        return loss, {"critic_loss": loss.detach(), "critic_accuracy": right}

    def penalty(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """What is added to the autoencoder's loss; a `rdae.training.latent_penalty.LatentPenalty`."""
        return self.weight * self.charge(self.critic(z.flatten(1)))
