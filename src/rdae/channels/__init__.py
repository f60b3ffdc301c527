"""What lies between encoder and decoder: rounding, its stand-ins, and noise, in flat space, on spheres and on tori."""

from rdae.channels.deterministic import DeterministicChannel
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
from rdae.channels.sphere import PowerSpherical, SphereChannel
from rdae.channels.standardised import StandardisedChannel
from rdae.channels.torus import TorusChannel

__all__ = [
    "Channel", "Coded", "Conditional", "DeterministicChannel", "FullGaussianChannel", "GaussianChannel",
    "LowRankGaussianChannel", "Mixed", "NoisyChannel", "PowerSpherical", "RateDistortionRounding", "Rounding", "Sent",
    "SharedNoiseChannel", "SphereChannel", "StandardisedChannel", "StraightThrough", "TorusChannel", "UniformNoise",
    "round_half_up",
]  # fmt: skip
