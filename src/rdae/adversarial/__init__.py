"""Implicit models, learned against a critic: games, penalties, packing, and what the best critic would say."""

from rdae.adversarial.games import Game, Hinge, LeastSquares, Minimax, NonSaturating, Relativistic, Wasserstein
from rdae.adversarial.judged import Judged, slopes
from rdae.adversarial.latent import LatentPair, density_ratio, non_saturating
from rdae.adversarial.model import AdversarialPair, ImplicitModel
from rdae.adversarial.optimal import (
    Grid,
    grid,
    jensen_shannon,
    jensen_shannon_draws,
    optimal_discriminator,
    optimal_logit,
    value,
    value_draws,
)
from rdae.adversarial.packing import Packed, packed_event
from rdae.adversarial.penalties import (
    R1,
    R2,
    GradientPenalty,
    Lazy,
    Penalty,
    clip_weights,
    interpolated,
    one_coefficient_each,
    spectrally_normalised,
)

__all__ = [
    "R1", "R2", "AdversarialPair", "Game", "GradientPenalty", "Grid", "Hinge", "ImplicitModel", "Judged", "LatentPair",
    "Lazy", "LeastSquares", "Minimax", "NonSaturating", "Packed", "Penalty", "Relativistic", "Wasserstein",
    "clip_weights", "density_ratio", "grid", "interpolated", "jensen_shannon", "jensen_shannon_draws", "non_saturating",
    "one_coefficient_each", "optimal_discriminator", "optimal_logit", "packed_event", "slopes", "spectrally_normalised",
    "value", "value_draws",
]  # fmt: skip
