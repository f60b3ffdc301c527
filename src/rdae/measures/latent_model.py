"""What measures without an encoder look at: a prior, a decoder, and a distortion of data from what is decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from rdae.adversarial.model import ImplicitModel
from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.channels.sphere import on_spheres
from rdae.distortions import Distortion
from rdae.errors import ModelError
from rdae.ladder import LadderAutoencoder
from rdae.likelihoods import Likelihood
from rdae.networks.unit import unit
from rdae.priors.latent import StandardNormalPrior
from rdae.priors.manifold import UniformSphere

__all__ = ["Generating", "LatentModel", "as_likelihood", "latent_model", "prior_draws"]


class LatentModel(NamedTuple):
    """`z ~ p(z)`, decoded to `out`, held against y by a distortion; a density of y where that is a likelihood."""

    prior: Distribution  # batch shape ()
    decoder: Callable[[Tensor], Tensor]  # (batch, *latent) to out
    distortion: Distortion  # (y, out) to (batch,)


Generating = NoisyChannelAutoencoder | LadderAutoencoder | ImplicitModel | LatentModel


def latent_model(model: Generating, distortion: Distortion | None = None) -> LatentModel:
    """The generating half of a model. A ladder becomes one latent, the noise of all of its layers, N(0, I); a uniform
    latent on a sphere or torus the direction of one that is N(0, I), for chains move in flat space.

    Args:
        model: in `eval()` mode; its encoder, if it has one, is not looked at.
        distortion: of y from what the model *shows*, of the shape of y: `squared_error`, `Gaussian(sigma)` or another.
            Without it the model's own, which an `ImplicitModel` has not.

    Raises:
        ModelError: an implicit model without a distortion, or a ladder whose top is not a diagonal Gaussian.
    """
    if isinstance(model, LatentModel):
        return model if distortion is None else model._replace(distortion=distortion)
    if isinstance(model, ImplicitModel):
        if distortion is None:
            raise ModelError(
                "An implicit model says what it generates but not how far from data that is. Pass a distortion, such "
                "as rdae.likelihoods.Gaussian(0.1) or rdae.distortions.squared_error."
            )
        return LatentModel(*_flat(model.code(), model.generator), distortion)
    if isinstance(model, LadderAutoencoder):
        prior, decoder = _noise_prior(model), cast(Callable[[Tensor], Tensor], _Descent(model))
    else:
        prior, decoder = _flat(model.code(), model.decoder)
    if distortion is None:
        return LatentModel(prior, decoder, model.distortion)
    return LatentModel(prior, lambda z: model.shown(decoder(z)), distortion)


def _flat(prior: Distribution, decoder: Callable[[Tensor], Tensor]) -> tuple[Distribution, Callable[[Tensor], Tensor]]:
    if not on_spheres(prior):
        return prior, decoder
    law = prior.base_dist if isinstance(prior, Independent) else prior
    if not isinstance(law, UniformSphere):
        raise ModelError(f"A {type(law).__name__} for a prior on a sphere is not uniform. Use a UniformSpherePrior.")
    even = torch.zeros(prior.event_shape, dtype=prior.mean.dtype, device=prior.mean.device)
    plain = Independent(Normal(even, even + 1, validate_args=False), even.ndim, validate_args=False)
    return plain, lambda z: decoder(unit(z))


def as_likelihood(model: LatentModel) -> Likelihood:
    """The distortion, if it is -ln p(y | z).

    Raises:
        ModelError: it is not.
    """
    if not isinstance(model.distortion, Likelihood):
        raise ModelError(
            "ln p(y) needs p(y | z), but the distortion is no likelihood. Pass one of rdae.likelihoods, such as "
            "Gaussian(0.1)."
        )
    return model.distortion


def prior_draws(prior: Distribution, count: int, generator: torch.Generator) -> Tensor:
    """Latents, `(count, *latent)`, that follow `generator`; the generator of PyTorch is left as it was."""
    seed = int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return prior.sample((count,)).detach()


class _Descent(nn.Module):
    """Noise of all layers of a ladder, from the top down, to what its decoder computes."""

    def __init__(self, model: LadderAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, noise: Tensor) -> Tensor:
        model, (top, *below) = self.model, noise.split(self.model.sizes[::-1], 1)
        law = _diagonal(model.prior())
        z = law.loc + law.scale * top
        for layer, own in zip(reversed(range(len(below))), below, strict=True):
            law = _diagonal(model.expected(layer, z))
            z = law.loc + law.scale * own
        return model.decoder(z)


def _noise_prior(model: LadderAutoencoder) -> Distribution:
    top = _diagonal(model.prior())
    return StandardNormalPrior(model.units).to(top.loc)()


def _diagonal(law: Distribution) -> Normal:
    if isinstance(law, Independent) and isinstance(law.base_dist, Normal):
        return law.base_dist
    raise ModelError(f"The top of a ladder is a {type(law).__name__}. Only a diagonal Gaussian can be read as noise.")
