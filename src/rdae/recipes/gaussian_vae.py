"""A Gaussian variational autoencoder, and the beta-VAE that differs in one number."""

from __future__ import annotations

from collections.abc import Sequence

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.data.arrays import ArrayData, Binarisation
from rdae.priors.latent import StandardNormalPrior
from rdae.recipes.noisy_channel import likelihood_for, one_layer, schedule, warmup_steps
from rdae.training.generative_recipe import GenerativeRecipe
from rdae.training.weighing import Beta

__all__ = ["beta_vae", "gaussian_vae"]


def gaussian_vae(
    data: ArrayData,
    test: ArrayData | None = None,
    *,
    latent: int = 50,
    network: str = "auto",
    hidden: Sequence[int] = (200, 200),
    widths: Sequence[int] = (32, 64, 128),
    binarisation: str = "none",
    beta: float = 1.0,
    warmup_epochs: float = 0.0,
    epochs: float = 20.0,
    batch: int = 100,
    learning_rate: float = 1e-3,
    name: str = "gaussian_vae",
) -> GenerativeRecipe:
    """q(z | y) Gaussian, p(z) = N(0, I), a likelihood that suits the data (Kingma & Welling 2014, arXiv:1312.6114).

    Args:
        data, test: what to learn from, and held-out examples.
        latent: number of latent variables.
        network: auto (convolutional for images), dense, convolutional, or halved: dense ones that see and
            draw images at half their size.
        hidden: widths of dense networks.
        widths: channels of convolutional ones, fine to coarse.
        binarisation: of grey values: none, threshold, static or dynamic.
        beta: weight of the rate.
        warmup_epochs: passes in which beta rises from zero.
        epochs, batch, learning_rate: of the schedule.
    """
    how = Binarisation(binarisation)

    def model() -> NoisyChannelAutoencoder:
        return one_layer(data, StandardNormalPrior(latent), likelihood_for(data, how), latent, network, hidden, widths)

    warmup = warmup_steps(data, batch, warmup_epochs)
    return GenerativeRecipe(
        name=name, model=model, data=data, test=test, binarisation=how, weigh=Beta(beta=beta, warmup=warmup),
        **schedule(data, epochs, batch, learning_rate),
    )  # fmt: skip


def beta_vae(data: ArrayData, test: ArrayData | None = None, *, beta: float = 4.0, **options) -> GenerativeRecipe:
    """`gaussian_vae` with the rate charged beta-fold (Higgins et al. 2017); other arguments are the same."""
    return gaussian_vae(data, test, beta=beta, **{"name": "beta_vae", **options})
