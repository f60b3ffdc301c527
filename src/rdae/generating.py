"""Latents of a model to look at: drawn from its prior, between two points, and along one unit."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, MixtureSameFamily

from rdae.channels.geodesics import geodesic, turned
from rdae.channels.sphere import on_spheres
from rdae.errors import ModelError, ShapeError

__all__ = [
    "Decoding", "between", "centre_and_spread", "drawn_latents", "interpolate", "latents_of", "tempered", "traverse",
]  # fmt: skip

DRAWS = 4096


def between(start: Tensor, end: Tensor, steps: int, *, spherical: bool = False) -> Tensor:
    """Points from one latent to another, ends included, `(steps, *event)`.

    Args:
        start, end: latents of the same shape.
        steps: at least 2.
        spherical: along the arc of a great circle, lengths changing evenly, and not along the straight line. Latents
            of many dimensions drawn from N(0, I) all have nearly the same length; the middle of a straight line is
            shorter than any of them (White 2016, arXiv:1609.04468).
    """
    if start.shape != end.shape:
        raise ShapeError(f"start is {tuple(start.shape)} but end is {tuple(end.shape)}. Take latents of one model.")
    share = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device).view(-1, *(1,) * start.ndim)
    if not spherical:
        return start + share * (end - start)
    first, last = start.norm(), end.norm()
    a, b = start / first.clamp_min(1e-12), end / last.clamp_min(1e-12)
    angle = torch.arccos((a * b).sum().clamp(-1, 1))
    if float(torch.sin(angle)) < 1e-6:  # the same direction, or opposite ones with no arc of their own
        return start + share * (end - start)
    arc = (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
    return arc * (first + share * (last - first))


class Decoding(Protocol):
    """A model with one latent space: a `NoisyChannelAutoencoder`, an `ImplicitModel`."""

    @property
    def units(self) -> int:
        """Number of latent variables of an example."""
        ...

    def code(self) -> Distribution:
        """The prior p(z)."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """What latents look like as data."""
        ...


def _one_space(model: object) -> None:
    if not hasattr(model, "decode"):
        raise ModelError(
            f"A {type(model).__name__} has latents in several layers, and no single space to walk through. "
            "Sample from it, or use a model of one layer."
        )


def latents_of(model: object, y: Tensor) -> Tensor:
    """Mean latents of examples, `(batch, *latent)`.

    Raises:
        ModelError: the model has no encoder, or latents in several layers.
    """
    _one_space(model)
    if not hasattr(model, "posterior"):
        raise ModelError(
            f"A {type(model).__name__} has no encoder, and finds no latent for an example. Leave data out."
        )
    with torch.no_grad():
        return model.posterior(y).mean


def drawn_latents(model: Decoding, count: int) -> Tensor:
    """Latents from the prior, `(count, *latent)`.

    Raises:
        ModelError: the model has latents in several layers.
    """
    _one_space(model)
    return model.code().sample((count,))


def interpolate(model: Decoding, start: Tensor, end: Tensor, steps: int = 8, *, spherical: bool = False) -> Tensor:
    """What lies between pairs of latents, `(batch, steps, *event)`; on a sphere or torus along the shortest way.

    Args:
        model: that decodes them.
        start, end: `(batch, *latent)`: `latents_of` examples, or `drawn_latents`.
        steps: of each walk, ends included.
        spherical: along an arc, see `between`; on a sphere or torus nothing else is done.

    Raises:
        ModelError: the model has latents in several layers.
    """
    _one_space(model)
    walk = geodesic if on_spheres(model.code()) else partial(between, spherical=spherical)
    return torch.stack([model.decode(walk(a, b, steps)) for a, b in zip(start, end, strict=True)])


@torch.no_grad()
def tempered(prior: Distribution, count: int, temperature: float = 1.0) -> Tensor:
    """Latents from a prior, `(count, *latent)`, their distances from its mean multiplied by the temperature.

    Below 1 they are more alike and more typical. In a mixture each is moved towards the mean of the component that it
    is from; the weights of the components stay.
    """
    if temperature == 1:
        return prior.sample((count,))
    if isinstance(prior, MixtureSameFamily):
        index, components = prior.mixture_distribution.sample((count,)), prior.component_distribution
        row = torch.arange(count, device=index.device)
        z, mean = components.sample((count,))[row, index], components.mean[index]
    else:
        z, (mean, _) = prior.sample((count,)), centre_and_spread(prior)
    return mean + temperature * (z - mean)


@torch.no_grad()
def centre_and_spread(prior: Distribution) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each latent variable; of `DRAWS` draws where there is no closed form (a flow)."""
    try:
        return prior.mean.detach(), prior.stddev.detach()
    except NotImplementedError:
        z = prior.sample((DRAWS,))
        return z.mean(0), z.std(0)


def traverse(model: Decoding, z: Tensor, units: list[int], steps: int = 8, reach: float = 3.0) -> Tensor:
    """What each unit does, `(units, steps, *event)`: one latent, one unit of it moved from -reach to reach.

    On a torus a unit is a circle, and turned from where z is; on a sphere z moves along the great circle towards the
    unit's axis.

    Args:
        model: with vectors for latents.
        z: where to start from, `(size,)`, or `(circles, 2)` on a torus.
        units: which ones.
        steps: positions of a unit.
        reach: in standard deviations of the prior, about its mean; on a sphere or torus in radians.
    """
    _one_space(model)
    curved = on_spheres(model.code())
    if (
        z.shape != model.code().event_shape
        or (z.ndim != 1 and not curved)
        or any(not 0 <= unit < len(z) for unit in units)
    ):
        raise ShapeError(f"Latents have shape {tuple(z.shape)}, but units {units} were asked for.")
    places = torch.linspace(-reach, reach, steps, dtype=z.dtype, device=z.device)
    if curved:
        return torch.stack([model.decode(turned(z, unit, places)) for unit in units])
    mean, std = centre_and_spread(model.code())
    rows = []
    for unit in units:
        row = z.repeat(steps, 1)
        row[:, unit] = mean[unit] + places * std[unit]
        rows.append(model.decode(row))
    return torch.stack(rows)
