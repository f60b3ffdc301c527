"""Recipes: parts put together, ready for `rdae train NAME`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rdae.data.arrays import ArrayData
from rdae.errors import DataError, RdaeError
from rdae.recipes.factorised import factorised
from rdae.recipes.gan import gan, r3gan
from rdae.recipes.gaussian_rda import gaussian_rda
from rdae.recipes.gaussian_vae import beta_vae, gaussian_vae
from rdae.recipes.hyperprior import hyperprior
from rdae.recipes.independent import beta_tcvae, factor_vae, hsic_vae
from rdae.recipes.iwae import iwae
from rdae.recipes.ladder_vae import ladder_vae
from rdae.recipes.magnitude import magnitude
from rdae.recipes.photo import photo, photo_ssim
from rdae.recipes.sphere_vae import sphere_vae, unit_vector_vae
from rdae.recipes.torus_vae import torus_vae
from rdae.recipes.vamp_vae import vamp_vae
from rdae.recipes.wasserstein import wae_gan, wae_mmd, wasserstein_autoencoder
from rdae.recipes.wgan_gp import wgan_gp
from rdae.training.array_recipe import ArrayRecipe
from rdae.training.codec_recipe import CodecRecipe

__all__ = [
    "CODEC_RECIPES", "GENERATIVE_RECIPES", "beta_tcvae", "beta_vae", "factor_vae", "factorised", "gan", "gaussian_rda",
    "gaussian_vae", "generative_recipe", "hsic_vae", "hyperprior", "iwae", "ladder_vae", "magnitude", "photo",
    "photo_ssim", "r3gan", "sphere_vae", "torus_vae", "vamp_vae", "wae_gan", "wae_mmd", "wgan_gp",
]  # fmt: skip

CODEC_RECIPES: dict[str, Callable[..., CodecRecipe]] = {
    "photo": photo,
    "photo-ssim": photo_ssim,
    "hyperprior": hyperprior,
    "factorised": factorised,
    "magnitude": magnitude,
}
GENERATIVE_RECIPES: dict[str, Callable[..., ArrayRecipe]] = {
    "gaussian_rda": gaussian_rda,
    "gaussian_vae": gaussian_vae,
    "beta_vae": beta_vae,
    "iwae": iwae,
    "vamp_vae": vamp_vae,
    "ladder_vae": ladder_vae,
    "sphere_vae": sphere_vae,
    "torus_vae": torus_vae,
    "beta_tcvae": beta_tcvae,
    "factor_vae": factor_vae,
    "hsic_vae": hsic_vae,
    "wae_mmd": wae_mmd,
    "wae_gan": wae_gan,
    "gan": gan,
    "wgan_gp": wgan_gp,
    "r3gan": r3gan,
}
TAKERS: dict[str, Callable[..., ArrayRecipe]] = {  # of the options that a recipe passes on
    "beta_vae": gaussian_vae,
    "iwae": gaussian_vae,
    "vamp_vae": gaussian_vae,
    "beta_tcvae": gaussian_vae,
    "factor_vae": gaussian_vae,
    "hsic_vae": gaussian_vae,
    "wae_mmd": wasserstein_autoencoder,
    "wae_gan": wasserstein_autoencoder,
    "r3gan": gan,
    "sphere_vae": unit_vector_vae,
    "torus_vae": unit_vector_vae,
}


def generative_recipe(
    name: str, data: ArrayData, test: ArrayData | None = None, options: dict[str, Any] | None = None
) -> ArrayRecipe:
    """A generative recipe by name, with options by name; what a model file needs to be read again.

    Raises:
        DataError: no such recipe, or an option it does not have.
    """
    if name not in GENERATIVE_RECIPES:
        raise DataError(f"There is no recipe {name!r}. Choose from {', '.join(GENERATIVE_RECIPES)}.")
    options = dict(options or {})
    known = known_options(name)
    for option in options:
        if option not in known:
            raise DataError(f"Recipe {name} has no option {option!r}. It has {', '.join(sorted(known))}.")
    try:
        return replace(GENERATIVE_RECIPES[name](data, test, **options), options=options)
    except RdaeError:
        raise
    except (TypeError, ValueError, ArithmeticError) as error:
        raise DataError(f"Recipe {name} cannot be made with {options}: {error}. Check the values.") from error


def known_options(name: str) -> set[str]:
    """Options of a generative recipe, with those of the recipe that it passes options on to."""
    makers = [recipes[name] for recipes in (GENERATIVE_RECIPES, TAKERS) if name in recipes]
    parameters = [p for maker in makers for p in inspect.signature(maker).parameters.values()]
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {"name"}
