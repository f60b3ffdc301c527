"""Encoder, channel, prior, decoder, distortion: rate-distortion autoencoders, with rounding and with a noisy channel.

Both are called alike, `(y, lam) -> Output`, and their terms mean the same: a rate in nats per example and a distortion.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from rdae.channels import Channel, NoisyChannel, StandardisedChannel
from rdae.distortions import Distortion, squared_error
from rdae.errors import ModelError
from rdae.generating import tempered
from rdae.likelihoods import Likelihood
from rdae.networks.affine import LatentAffine
from rdae.objectives import LogJoint, Terms, divergence
from rdae.priors.latent import FullNormalPrior, LatentPrior, NormalPrior, StandardNormalPrior

__all__ = ["NoisyChannelAutoencoder", "Output", "RateDistortionAutoencoder", "shown", "standardise"]


class Output(NamedTuple):
    """One pass through the autoencoder."""

    y_hat: Tensor  # what the decoder computed: a reconstruction, or what its likelihood needs
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


def shown(distortion: Callable[[Tensor, Tensor], Tensor], out: Tensor) -> Tensor:
    """What a decoder's output looks like as data: the mean of the likelihood, or the output itself."""
    return distortion.mean(out) if isinstance(distortion, Likelihood) else out


class NoisyChannelAutoencoder(nn.Module):
    """`y -> encoder -> q(z | y) -> z -> decoder -> y_hat`, the rate being KL(q(z | y) || p(z)).

    With a likelihood for distortion and `lam = 1` this is a variational autoencoder, and `rate + distortion` is minus
    its ELBO; with any other distortion it is a noisy-channel rate-distortion autoencoder.

    Args:
        encoder: `y -> h`, `(batch, channel.features, *space)`.
        channel: `h -> q(z | y)`, see `rdae.channels`.
        prior: `() -> p(z)`, see `rdae.priors.latent`.
        decoder: `z -> out`, of the shape of y; with `distortion.features` times its channels for a likelihood.
        distortion: `(y, out) -> (batch,)`, see `rdae.distortions` and `rdae.likelihoods`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        channel: NoisyChannel,
        prior: LatentPrior,
        decoder: nn.Module,
        distortion: Distortion = squared_error,
    ) -> None:
        super().__init__()
        self.encoder, self.channel, self.prior, self.decoder = encoder, channel, prior, decoder
        self.distortion: Callable[[Tensor, Tensor], Tensor] = distortion

    def posterior(self, y: Tensor) -> Distribution:
        """The channel's law q(z | y) of each example."""
        return self.channel(self.encoder(y))

    def code(self) -> Distribution:
        """The prior p(z), the code that the rate is measured with."""
        return self.prior(self.posterior)

    def forward(self, y: Tensor, lam: Tensor | float = 1.0) -> Output:
        """The decoder's output (see `shown`) and both terms, at one latent drawn from the channel.

        Args:
            y: data, `(batch, *event)`.
            lam: weight of the distortion; not looked at, for no part of this model depends on it.
        """
        return self.passed(y, self.posterior(y))

    def passed(self, y: Tensor, q: Distribution) -> Output:
        """`forward` from the posterior on, for who needs both.

        Args:
            y: data, `(batch, *event)`.
            q: `posterior(y)`.
        """
        z = q.rsample()
        out = self.decoder(z)
        return Output(out, Terms(divergence(q, self.code(), z), self.distortion(y, out)), z)

    def shown(self, out: Tensor) -> Tensor:
        """What the decoder's output looks like as data."""
        return shown(self.distortion, out)

    @property
    def units(self) -> int:
        """Number of latent variables of an example."""
        return math.prod(self.code().event_shape)

    def latent_means(self, y: Tensor) -> Tensor:
        """Posterior means of all latent variables, `(batch, units)`."""
        return self.posterior(y).mean.flatten(1)

    def log_joint(self, y: Tensor, samples: int = 1, *, frozen: bool = False, pathwise: bool = True) -> LogJoint:
        """Log-densities at `samples` latents of each example, in nats.

        Args:
            y: data, `(batch, *event)`.
            samples: latents drawn for each example.
            frozen: no gradient goes from ln q to the encoder but through z ("sticking the landing", Roeder et al.
                2017); what is left has less noise and the same mean.
            pathwise: latents carry gradients to the encoder; False draws them as constants.

        Raises:
            ModelError: the distortion is no likelihood, so there is no p(y | z).
        """
        if not isinstance(self.distortion, Likelihood):
            raise ModelError(
                "Importance weights need p(y | z), but the distortion is no likelihood. Use one of rdae.likelihoods."
            )
        h = self.encoder(y)
        q = self.channel(h)
        z = q.rsample((samples,)) if pathwise else q.sample((samples,))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            read = self.channel(h)
        out = self.decoder(z.flatten(0, 1))
        repeated = y.expand(samples, *y.shape).flatten(0, 1)
        likelihood = -self.distortion(repeated, out).unflatten(0, (samples, -1))
        return LogJoint(likelihood, self.code().log_prob(z), read.log_prob(z), z)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """What latents, `(batch, *latent)`, look like as data."""
        return self.shown(self.decoder(z))

    @torch.no_grad()
    def sample(self, count: int, *, temperature: float = 1.0) -> Tensor:
        """Generates: latents from the prior through the decoder; the encoder has no part in it.

        Args:
            count: how many.
            temperature: of the latents, see `rdae.generating.tempered`.
        """
        return self.decode(tempered(self.code(), count, temperature))

    @torch.no_grad()
    def reconstruct(self, y: Tensor) -> Tensor:
        """Each example through encoder and decoder, at the mean of the channel."""
        return self.decode(self.posterior(y).mean)


def standardise(model: NoisyChannelAutoencoder) -> NoisyChannelAutoencoder:
    """An equal model whose prior is N(0, I): same rate and same reconstruction of every example.

    The channel's law is mapped by the inverse of `z = mean + L z'`, and the decoder is fed through that map; without
    the latter only the rate would stay what it was. The parts are shared with the given model, not copied.

    Raises:
        ModelError: the prior is not a single Gaussian.
    """
    prior = model.prior
    if isinstance(prior, NormalPrior):
        affine = LatentAffine(prior.mean, prior.log_std.exp())
    elif isinstance(prior, FullNormalPrior):
        affine = LatentAffine(prior.mean, prior.factor())
    else:
        raise ModelError(f"Only a single Gaussian can be standardised, but the prior is a {type(prior).__name__}.")
    return NoisyChannelAutoencoder(
        model.encoder,
        StandardisedChannel(model.channel, affine),
        StandardNormalPrior(*affine.mean.shape).to(affine.mean),
        nn.Sequential(affine, model.decoder),
        model.distortion,
    )
