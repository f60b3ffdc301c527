"""Wasserstein autoencoders: only the latents as a whole have to follow the prior, by a kernel or by a critic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rdae.adversarial import LatentPair, non_saturating
from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.channels import DeterministicChannel, GaussianChannel, NoisyChannel
from rdae.data.arrays import ArrayData, Binarisation, Kind
from rdae.distortions import Distortion, squared_error
from rdae.errors import DataError
from rdae.likelihoods import Gaussian, Rescaled
from rdae.networks.critics import DenseCritic
from rdae.priors.latent import StandardNormalPrior
from rdae.recipes.noisy_channel import decoder_for, encoder_for, likelihood_for, not_negative, scale_of, schedule
from rdae.training.generative_recipe import GenerativeRecipe
from rdae.training.latent_game_recipe import LatentGameRecipe, in_turns
from rdae.training.latent_penalty import KERNELS, PriorDiscrepancy, against_prior
from rdae.training.weighing import DistortionAlone

__all__ = ["wae_gan", "wae_mmd", "wasserstein_autoencoder"]

CHANNELS: dict[str, Callable[[int], NoisyChannel]] = {
    "deterministic": DeterministicChannel,
    "gaussian": GaussianChannel,
}
HALF_VARIANCE = math.sqrt(0.5)  # the spread of the Gaussian density whose -ln p is squared error and a constant


def wasserstein_autoencoder(
    data: ArrayData,
    test: ArrayData | None = None,
    *,
    encoder: str = "deterministic",
    distortion: str = "squared",
    latent: int = 8,
    network: str = "auto",
    hidden: Sequence[int] = (200, 200),
    widths: Sequence[int] = (32, 64, 128),
    binarisation: str = "none",
    epochs: float = 20.0,
    batch: int = 100,
    learning_rate: float = 1e-3,
    name: str = "wasserstein_autoencoder",
) -> GenerativeRecipe:
    """What `wae_mmd` and `wae_gan` share: the distortion, and nothing yet that holds the latents to N(0, I).

    Args:
        data, test: what to learn from, and held-out examples.
        encoder: deterministic, whose rate is infinite, or gaussian.
        distortion: squared, of values in [0, 1], and of real and tabular elements in their standard deviations with
            the constant of that density; or likelihood, as for `gaussian_vae`.
        latent, network, hidden, widths, binarisation, epochs, batch, learning_rate: as for `gaussian_vae`.

    Raises:
        DataError: there is no such encoder or distortion.
    """
    how = Binarisation(binarisation)
    if encoder not in CHANNELS:
        raise DataError(f"There is no encoder {encoder!r}. Choose from {', '.join(CHANNELS)}.")
    if distortion not in ("squared", "likelihood"):
        raise DataError(f"There is no distortion {distortion!r}. Choose squared or likelihood.")

    def model() -> NoisyChannelAutoencoder:
        channel = CHANNELS[encoder](latent)
        cost = likelihood_for(data, how) if distortion == "likelihood" else _squared(data)
        return NoisyChannelAutoencoder(
            encoder_for(data, channel.features, network, hidden, widths), channel, StandardNormalPrior(latent),
            decoder_for(data, latent, cost, network, hidden, widths), cost,
        )  # fmt: skip

    return GenerativeRecipe(
        name=name, model=model, data=data, test=test, binarisation=how, weigh=DistortionAlone(),
        **schedule(data, epochs, batch, learning_rate),
    )  # fmt: skip


def _squared(data: ArrayData) -> Distortion:
    if data.kind in (Kind.BYTES, Kind.BINARY):
        return squared_error
    scale = scale_of(data)
    return Rescaled(Gaussian(HALF_VARIANCE), scale.mean, scale.std)


def wae_mmd(
    data: ArrayData,
    test: ArrayData | None = None,
    *,
    weight: float = 100.0,
    kernel: str = "inverse_multiquadric",
    latent: int = 8,
    **options: Any,
) -> GenerativeRecipe:
    """`distortion + weight * MMD^2(q(z), N(0, I))` (Tolstikhin et al. 2018, arXiv:1711.01558).

    Args:
        data, test: what to learn from, and held-out examples.
        weight: of MMD^2, in units of the distortion.
        kernel: inverse_multiquadric or rbf, both summed over several scales.
        latent: latent variables; with more than the data need a deterministic encoder leaves gaps in the prior.
        options: as for `wasserstein_autoencoder`.

    Raises:
        DataError: there is no such kernel.
    """
    not_negative("weight", weight)
    if kernel not in KERNELS:
        raise DataError(f"There is no kernel {kernel!r}. Choose from {', '.join(KERNELS)}.")
    plain = wasserstein_autoencoder(data, test, latent=latent, **{"name": "wae_mmd", **options})
    return replace(plain, penalty=PriorDiscrepancy(weight, KERNELS[kernel](latent)))


def wae_gan(
    data: ArrayData,
    test: ArrayData | None = None,
    *,
    weight: float = 10.0,
    critic_hidden: Sequence[int] = (256, 256),
    critic_steps: int = 1,
    critic_learning_rate: float = 5e-4,
    latent: int = 8,
    **options: Any,
) -> LatentGameRecipe:
    """`distortion + weight * what a critic of the latents says`; the critic tells q(z) from N(0, I) (same source).

    With a likelihood for distortion this is an adversarial autoencoder (Makhzani et al. 2015, arXiv:1511.05644).

    Args:
        data, test: what to learn from, and held-out examples.
        weight: of `-ln D(z)`, in units of the distortion.
        critic_hidden: widths of the critic.
        critic_steps: turns of the critic for each of the autoencoder; `epochs` counts the autoencoder's.
        critic_learning_rate: peak of its schedule.
        latent, options: as for `wae_mmd`.

    Raises:
        DataError: a critic without a turn.
    """
    not_negative("weight", weight)
    if critic_steps < 1:
        raise DataError(f"critic_steps={critic_steps}: a critic needs a turn. Choose 1 or more.")
    plain = wasserstein_autoencoder(data, test, latent=latent, **{"name": "wae_gan", **options})

    def pair() -> LatentPair:
        critic = DenseCritic((latent,), critic_hidden)
        return LatentPair(plain.model(), critic, against_prior, non_saturating, weight)

    return in_turns(plain, model=pair, critic_steps=critic_steps, critic_learning_rate=critic_learning_rate)
