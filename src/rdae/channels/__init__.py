"""What lies between the encoder and the decoder: rounding, its stand-ins, and Gaussian noise."""

from rdae.channels.gaussian import (
    FullGaussianChannel,
    GaussianChannel,
    LowRankGaussianChannel,
    NoisyChannel,
    SharedNoiseChannel,
)
from rdae.channels.rounding import (
    Channel,
    Coded,
    Conditional,
    Mixed,
    RateDistortionRounding,
    Rounding,
    Sent,
    StraightThrough,
    UniformNoise,
    round_half_up,
)
from rdae.channels.standardised import StandardisedChannel

__all__ = [
    "Channel", "Coded", "Conditional", "FullGaussianChannel", "GaussianChannel", "LowRankGaussianChannel", "Mixed",
    "NoisyChannel", "RateDistortionRounding", "Rounding", "Sent", "SharedNoiseChannel", "StandardisedChannel",
    "StraightThrough", "UniformNoise", "round_half_up",
]  # fmt: skip
