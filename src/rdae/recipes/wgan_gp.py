"""The Wasserstein game with a gradient penalty."""

from __future__ import annotations

from collections.abc import Sequence

from rdae.adversarial import AdversarialPair, GradientPenalty, Wasserstein
from rdae.data.arrays import ArrayData
from rdae.recipes.implicit import pair_for, turns
from rdae.training.adversarial_recipe import AdversarialRecipe

__all__ = ["wgan_gp"]


def wgan_gp(
    data: ArrayData,
    test: ArrayData | None = None,
    *,
    penalty: float = 10.0,
    latent: int = 64,
    network: str = "auto",
    critic_network: str = "auto",
    hidden: Sequence[int] = (256, 256, 256),
    critic_hidden: Sequence[int] = (),
    widths: Sequence[int] = (32, 64, 128),
    critic_steps: int = 5,
    epochs: float = 40.0,
    batch: int = 64,
    learning_rate: float = 2e-4,
    critic_learning_rate: float = 2e-4,
    average: float = 0.999,
) -> AdversarialRecipe:
    """The generator minimises an estimate of W_1 to the data (Gulrajani et al. 2017, arXiv:1704.00028).

    Args:
        data, test: what to learn from, and held-out examples.
        penalty: weight of the gradient penalty; 10 for images, 0.1 was used for toys in two dimensions.
        latent, network, critic_network, hidden, critic_hidden, widths, critic_steps, epochs, batch, learning_rate,
            critic_learning_rate, average: as for `gan`.
    """

    def model() -> AdversarialPair:
        return pair_for(
            data, Wasserstein(), [GradientPenalty(penalty)], latent=latent, network=network,
            critic_network=critic_network, hidden=hidden, critic_hidden=critic_hidden, widths=widths,
        )  # fmt: skip

    return AdversarialRecipe(
        name="wgan_gp", model=model, data=data, test=test, critic_steps=critic_steps, learning_rate=learning_rate,
        critic_learning_rate=critic_learning_rate, betas=(0.5, 0.9), **turns(data, epochs, batch, average),
    )  # fmt: skip
