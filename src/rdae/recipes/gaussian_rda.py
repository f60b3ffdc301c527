"""The noisy-channel rate-distortion autoencoder of the lectures: a learned code, squared or absolute error, a lam."""

from __future__ import annotations

from collections.abc import Sequence

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.data.arrays import ArrayData, Binarisation
from rdae.distortions import absolute_error, squared_error
from rdae.errors import DataError
from rdae.priors.latent import NormalPrior
from rdae.recipes.noisy_channel import one_layer, schedule, warmup_steps
from rdae.training.generative_recipe import GenerativeRecipe
from rdae.training.weighing import Beta

__all__ = ["gaussian_rda"]

DISTORTIONS = {"squared": squared_error, "absolute": absolute_error}


def gaussian_rda(
    data: ArrayData,
    test: ArrayData | None = None,
    *,
    lam: float = 50.0,
    distortion: str = "squared",
    latent: int = 50,
    network: str = "auto",
    hidden: Sequence[int] = (200, 200),
    widths: Sequence[int] = (32, 64, 128),
    binarisation: str = "none",
    warmup_epochs: float = 0.0,
    epochs: float = 20.0,
    batch: int = 100,
    learning_rate: float = 1e-3,
) -> GenerativeRecipe:
    """Minimises `KL(q(z | y) || p(z)) + lam * distortion`, p(z) Gaussian and learned.

    Args:
        data, test: what to learn from, and held-out examples.
        lam: nats per unit of distortion; for squared error that of a Gaussian decoder of variance `1 / (2 lam)`.
        distortion: squared or absolute.
        latent, network, hidden, widths, binarisation, warmup_epochs, epochs, batch, learning_rate: as for
            `gaussian_vae`.
    """
    if distortion not in DISTORTIONS:
        raise DataError(f"There is no distortion {distortion!r}. Choose from {', '.join(DISTORTIONS)}.")
    how, measure = Binarisation(binarisation), DISTORTIONS[distortion]

    def model() -> NoisyChannelAutoencoder:
        return one_layer(data, NormalPrior(latent), measure, latent, network, hidden, widths)

    warmup = warmup_steps(data, batch, warmup_epochs)
    return GenerativeRecipe(
        name="gaussian_rda", model=model, data=data, test=test, binarisation=how, weigh=Beta(lam=lam, warmup=warmup),
        **schedule(data, epochs, batch, learning_rate),
    )  # fmt: skip
