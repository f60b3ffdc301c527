"""Recipes: parts put together, ready for `rdae train NAME`."""

from collections.abc import Callable

from rdae.recipes.factorised import factorised
from rdae.recipes.hyperprior import hyperprior
from rdae.recipes.magnitude import magnitude
from rdae.recipes.photo import photo
from rdae.training.codec_recipe import CodecRecipe

__all__ = ["RECIPES", "factorised", "hyperprior", "magnitude", "photo"]

RECIPES: dict[str, Callable[[], CodecRecipe]] = {
    "photo": photo,
    "hyperprior": hyperprior,
    "factorised": factorised,
    "magnitude": magnitude,
}
