"""The ladder variational autoencoder: two or more stochastic layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from rdae.data.arrays import ArrayData, Binarisation
from rdae.ladder import LadderAutoencoder
from rdae.networks.dense import dense
from rdae.priors.latent import StandardNormalPrior
from rdae.recipes.noisy_channel import decoder_for, encoder_for, likelihood_for, schedule, warmup_steps
from rdae.training.generative_recipe import GenerativeRecipe
from rdae.training.weighing import Beta

__all__ = ["ladder_vae"]


def ladder_vae(
    data: ArrayData,
    test: ArrayData | None = None,
    *,
    latents: Sequence[int] = (32, 16),
    hidden: Sequence[int] = (256, 128),
    network: str = "auto",
    widths: Sequence[int] = (32, 64, 128),
    binarisation: str = "none",
    warmup_epochs: float = 5.0,
    epochs: float = 20.0,
    batch: int = 100,
    learning_rate: float = 1e-3,
) -> GenerativeRecipe:
    """Latents in layers, each expected by the one above (Sonderby et al. 2016, arXiv:1602.02282).

    Args:
        data, test: what to learn from, and held-out examples.
        latents: latent variables of each layer, from the data up.
        hidden: widths of the encoder's steps from layer to layer, as many as `latents`.
        network, widths: of the networks next to the data, as for `gaussian_vae`.
        binarisation, epochs, batch, learning_rate: as for `gaussian_vae`.
        warmup_epochs: passes in which beta rises from zero; without it the upper layers close.
    """
    how = Binarisation(binarisation)

    def model() -> LadderAutoencoder:
        likelihood = likelihood_for(data, how)
        first = encoder_for(data, hidden[0], network, (hidden[0],), widths)
        encoders = [nn.Sequential(first, nn.Tanh())]
        encoders += [nn.Sequential(dense((a, b)), nn.Tanh()) for a, b in pairwise(hidden)]
        return LadderAutoencoder(
            encoders,
            [dense((width, 2 * size)) for width, size in zip(hidden, latents, strict=True)],
            latents,
            StandardNormalPrior(latents[-1]),
            [dense((above, width, 2 * size)) for (size, above), width in zip(pairwise(latents), hidden, strict=False)],
            decoder_for(data, latents[0], likelihood, network, (hidden[0],), widths),
            likelihood,
        )

    warmup = warmup_steps(data, batch, warmup_epochs)
    return GenerativeRecipe(
        name="ladder_vae", model=model, data=data, test=test, binarisation=how, weigh=Beta(warmup=warmup),
        **schedule(data, epochs, batch, learning_rate),
    )  # fmt: skip
