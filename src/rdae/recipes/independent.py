"""Variational autoencoders that pay for dependence between latent units, measured in three ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rdae.adversarial import LatentPair, density_ratio
from rdae.data.arrays import ArrayData
from rdae.decomposition import ESTIMATORS
from rdae.errors import DataError
from rdae.networks.critics import DenseCritic
from rdae.recipes.gaussian_vae import gaussian_vae
from rdae.recipes.noisy_channel import not_negative
from rdae.training.generative_recipe import GenerativeRecipe
from rdae.training.latent_game_recipe import LatentGameRecipe, in_turns
from rdae.training.latent_penalty import (
    KERNELS,
    Dependence,
    LatentPenalty,
    MarginalDiscrepancy,
    WeighedParts,
    against_marginals,
)

__all__ = ["beta_tcvae", "factor_vae", "hsic_vae"]


def beta_tcvae(
    data: ArrayData,
    test: ArrayData | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 6.0,
    gamma: float = 1.0,
    estimator: str = "mss",
    latent: int = 10,
    **options: Any,
) -> GenerativeRecipe:
    """`alpha * index-code information + beta * total correlation + gamma * dimension-wise KL - E ln p(y | z)`.

    Chen et al. 2018, arXiv:1802.04942. With all weights 1 it is `gaussian_vae`.

    Args:
        data, test: what to learn from, and held-out examples.
        alpha, beta, gamma: weights of the three parts of the rate.
        estimator: of ln q(z) from a batch: mws or mss, see `rdae.decomposition`. Under mws the loss is off by a
            constant; what validation reports of the parts is from neither.
        latent, options: as for `gaussian_vae`.

    Raises:
        DataError: there is no such estimator, or a warm-up with a weight below 1.
    """
    if estimator not in ESTIMATORS:
        raise DataError(f"There is no estimator {estimator!r}. Choose from {', '.join(ESTIMATORS)}.")
    if options.get("warmup_epochs") and min(alpha, gamma) < 1:
        raise DataError(
            "While the rate is warmed up, alpha or gamma below 1 would pay for distance from the prior. Set "
            "warmup_epochs=0, or both to 1 or more."
        )
    plain = gaussian_vae(data, test, latent=latent, **{"name": "beta_tcvae", **options})
    return replace(plain, penalty=WeighedParts(alpha, beta, gamma, ESTIMATORS[estimator], len(data)))


def factor_vae(
    data: ArrayData,
    test: ArrayData | None = None,
    *,
    gamma: float = 6.0,
    critic_hidden: Sequence[int] = (256, 256),
    critic_steps: int = 1,
    critic_learning_rate: float = 5e-4,
    latent: int = 10,
    **options: Any,
) -> LatentGameRecipe:
    """`gaussian_vae` plus `gamma * total correlation`, as a critic sees it (Kim & Mnih 2018, arXiv:1802.05983).

    The critic tells latents from latents whose units were permuted against each other; its logit is the log-ratio of
    the two densities, whose mean over q(z) is the total correlation.

    Args:
        data, test: what to learn from, and held-out examples.
        gamma: weight of total correlation, beside the one that it has within the rate.
        critic_hidden: widths of the critic.
        critic_steps: turns of the critic for each of the autoencoder; `epochs` counts the autoencoder's.
        critic_learning_rate: peak of its schedule.
        latent, options: as for `gaussian_vae`; a batch needs two examples or more for each latent variable.

    Raises:
        DataError: a critic without a turn.
    """
    not_negative("gamma", gamma)
    if critic_steps < 1:
        raise DataError(f"critic_steps={critic_steps}: a critic needs a turn. Choose 1 or more.")
    plain = gaussian_vae(data, test, latent=latent, **{"name": "factor_vae", **options})

    def pair() -> LatentPair:
        critic = DenseCritic((latent,), critic_hidden)
        return LatentPair(plain.model(), critic, against_marginals, density_ratio, gamma)

    return in_turns(plain, model=pair, critic_steps=critic_steps, critic_learning_rate=critic_learning_rate)


def hsic_vae(
    data: ArrayData,
    test: ArrayData | None = None,
    *,
    weight: float = 1000.0,
    independence: str = "dhsic",
    latent: int = 5,
    **options: Any,
) -> GenerativeRecipe:
    """`gaussian_vae` plus `weight` times a kernel measure of dependence between latent units (Lopez et al. 2018).

    Args:
        data, test: what to learn from, and held-out examples.
        weight: nats for each unit of the measure.
        independence: dhsic, the criterion of Hilbert and Schmidt for joint independence; or mmd, between q(z) and the
            product of its marginals, for which a batch needs two examples or more for each latent variable.
        latent, options: as for `gaussian_vae`. A product of many kernels is next to 0 for all but a point with itself:
            in batches of 100 a dependent pair of 2 units is seen well, of 5 still, of 10 hardly (dhsic).

    Raises:
        DataError: there is no such measure.
    """
    not_negative("weight", weight)
    if independence not in ("dhsic", "mmd"):
        raise DataError(f"There is no independence {independence!r}. Choose dhsic or mmd.")
    kernel = KERNELS["inverse_multiquadric"](latent)
    penalty: LatentPenalty = Dependence(weight) if independence == "dhsic" else MarginalDiscrepancy(weight, kernel)
    plain = gaussian_vae(data, test, latent=latent, **{"name": "hsic_vae", **options})
    return replace(plain, penalty=penalty)
