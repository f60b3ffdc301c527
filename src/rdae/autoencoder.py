"""Encoder, channel, prior, decoder, distortion: the rate-distortion autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

from rdae.channels import Channel
from rdae.distortions import Distortion, squared_error
from rdae.objectives import Terms

__all__ = ["Output", "RateDistortionAutoencoder", "relaxation_gap"]


class Output(NamedTuple):
    """One pass through the autoencoder."""

    y_hat: Tensor
    terms: Terms
    latent: Any


class RateDistortionAutoencoder(nn.Module):
    """`y -> encoder -> channel (rated by the prior) -> decoder -> y_hat`.

    Args:
        encoder: `(y, lam) -> z`, a tensor or a list of tensors, in units of the rounding step.
        prior: `(z, channel, lam) -> Coded`; it calls the channel, because rounding may depend on the density.
        decoder: `(z~, lam) -> y_hat`, of the shape of y.
        channel: see `rdae.channels`; it relaxes rounding in `train()` and rounds in `eval()`.
        distortion: `(y, y_hat) -> (batch,)`, a sum per example.
    """

    def __init__(
        self,
        encoder: nn.Module,
        prior: nn.Module,
        decoder: nn.Module,
        channel: Channel,
        distortion: Distortion = squared_error,
    ) -> None:
        super().__init__()
        self.encoder, self.prior, self.decoder, self.channel = encoder, prior, decoder, channel
        self.distortion: Callable[[Tensor, Tensor], Tensor] = distortion

    def forward(self, y: Tensor, lam: Tensor) -> Output:
        """Reconstruction and both terms of the objective.

        Args:
            y: data, `(batch, channels, height, width)`, in [0, 1].
            lam: weight of the distortion of each example, `(batch,)`, nats per unit of distortion.
        """
        coded = self.prior(self.encoder(y, lam), self.channel, lam)
        y_hat = self.decoder(coded.latent, lam)
        return Output(y_hat, Terms(coded.rate, self.distortion(y, y_hat)), coded.latent)


def relaxation_gap(model: RateDistortionAutoencoder, y: Tensor, lam: Tensor) -> tuple[Terms, Terms]:
    """Both terms of the same examples with the training stand-in and with true rounding.

    Returns:
        `(relaxed, rounded)`; what training minimises and what a file costs. The mode of the model is restored.
    """
    training = model.training
    relaxed = model.train()(y, lam).terms
    rounded = model.eval()(y, lam).terms
    model.train(training)
    return relaxed, rounded
