"""Shortest ways on spheres and tori: arcs of great circles, on a torus one for each circle."""

from __future__ import annotations

import torch
from torch import Tensor

from rdae.networks.unit import unit

__all__ = ["geodesic", "turned"]

OPPOSITE = 1e-5  # from the antipode, where every arc is as short as another


def geodesic(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Points of the shortest way, ends included, at equal distances, `(steps, *event)`.

    Between opposite points one of many such ways is taken.

    Args:
        start, end: latents, `(size,)` on a sphere or `(circles, 2)` on a torus; only their directions are looked at,
            along the last dimension.
        steps: at least 2.
    """
    a, b = unit(start), unit(end)
    angle = 2 * torch.atan2((b - a).norm(dim=-1, keepdim=True), (a + b).norm(dim=-1, keepdim=True))
    aside = b - (a * b).sum(-1, keepdim=True) * a
    aside = torch.where((a + b).norm(dim=-1, keepdim=True) > OPPOSITE, aside, _across(a))
    share = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device).view(-1, *(1,) * a.ndim)
    return _on_arc(a, aside, share * angle)


def turned(z: Tensor, axis: int, angles: Tensor) -> Tensor:
    """Points of the great circle through z towards an axis, at these angles from z, `(len(angles), *event)`.

    Args:
        z: `(size,)`: one latent on a sphere. Of a torus `(circles, 2)`, where only circle number `axis` is turned.
        axis: number of a coordinate of the sphere, or of a circle.
        angles: in radians; the circle is closed after 2 pi.
    """
    z = unit(z)
    if z.ndim == 2:
        points = z.repeat(len(angles), 1, 1)
        points[:, axis] = _on_arc(z[axis], torch.stack([-z[axis, 1], z[axis, 0]]), angles[:, None])
        return points
    towards = torch.zeros_like(z)
    towards[axis] = 1
    aside = towards - z[axis] * z
    return _on_arc(z, aside if float(aside.norm()) > OPPOSITE else _across(z), angles[:, None])


def _on_arc(a: Tensor, aside: Tensor, angle: Tensor) -> Tensor:
    """From a by an angle in the direction of `aside`, which is orthogonal to it."""
    return unit(torch.cos(angle) * a + torch.sin(angle) * unit(aside))


def _across(a: Tensor) -> Tensor:
    """Some direction orthogonal to a."""
    axis = torch.zeros_like(a).scatter(-1, a.abs().argmin(-1, keepdim=True), 1.0)
    return axis - (a * axis).sum(-1, keepdim=True) * a
