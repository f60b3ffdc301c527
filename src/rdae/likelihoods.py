"""Likelihoods p(y | z): distortions that are densities, `-ln p(y | z)` in nats, constants included.

A likelihood is called like any distortion, `(y, out) -> (batch,)`, where `out` is what the decoder computed:
`features` numbers for each element of y, kept side by side along dimension 1. It also knows the mean and how to draw.
Constants matter as soon as a spread is learned or ln p(y) is reported; none is dropped.

Forward passes look at shapes only. Values are judged once, when data are loaded, by `check`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from rdae.errors import DataError, ModelError, ShapeError
from rdae.networks.bounded import bounded

__all__ = ["Bernoulli", "Categorical", "DiscretisedLogisticMixture", "Gaussian", "Laplace", "Likelihood", "Rescaled"]

LEVELS = 256
TOP = LEVELS - 1
OFF_GRID = 0.1  # of a level: more than float16 rounds, less than any other grid of grey values would show
LOG_SPREAD_MIN, LOG_SPREAD_MAX = -7.0, 5.0  # of a learned spread, from where it starts
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class Likelihood(nn.Module):
    """Base.

    Attributes:
        features: numbers the decoder computes for each element of y.
        low, high: range of the data it is a density of.
        discrete: whether y takes whole multiples of 1 / 255, so that ln p(y) is the log of a probability. Other values
            are read as the nearest of them; `check` refuses such data.
    """

    features: int = 1
    low: float = -math.inf
    high: float = math.inf
    discrete: bool = False

    def check(self, y: Tensor, name: str = "y") -> None:
        """Refuses data that this likelihood is no density of.

        Args:
            y: any number of examples.
            name: file or argument that the message names.

        Raises:
            DataError: there is no value, or one is not finite, out of range, or between two levels if `discrete`.
        """
        if not y.numel():
            raise DataError(f"{name} is empty: its shape is {tuple(y.shape)}. Check where it was taken from.")
        smallest, largest = float(y.min()), float(y.max())  # NaN if there is one
        if not (math.isfinite(smallest) and math.isfinite(largest)):
            bad = int((~torch.isfinite(y)).sum())
            raise DataError(
                f"{name} has {bad} of {y.numel()} values NaN or infinite. Drop those examples, or fill them in."
            )
        if not (self.low <= smallest and largest <= self.high):
            raise DataError(
                f"{name} reaches from {smallest:g} to {largest:g}, but {type(self).__name__} is a likelihood of values "
                f"from {self.low:g} to {self.high:g}. Divide 8-bit values by 255, scale others, or choose Gaussian()."
            )
        if self.discrete:
            levels = y.double() * TOP
            off = float((levels - levels.round()).abs().max())
            if off > OFF_GRID:
                raise DataError(
                    f"{name} is up to {off:.2g} of a level away from the multiples of 1 / 255, but "
                    f"{type(self).__name__} is a likelihood of these only. Use 8-bit values divided by 255, not "
                    "resized or augmented afterwards, or choose Gaussian()."
                )

    def forward(self, y: Tensor, out: Tensor) -> Tensor:
        """`-ln p(y | z)` of each example in nats, `(batch,)`.

        Args:
            y: data, `(batch, channels, *space)`.
            out: `(batch, features * channels, *space)`.

        Raises:
            ShapeError: the two do not fit together.
        """
        if y.ndim < 2:
            raise ShapeError(f"y is {tuple(y.shape)}, not (batch, channels, ...). Reshape n numbers to (n, 1).")
        wanted = (y.shape[0], self.features * y.shape[1], *y.shape[2:])
        if tuple(out.shape) != wanted:
            raise ShapeError(
                f"The decoder computed {tuple(out.shape)}, but {type(self).__name__} of y, {tuple(y.shape)}, needs "
                f"{wanted}. Build the decoder with likelihood.features = {self.features} outputs for each channel of y."
            )
        return -self.elements(y, out).flatten(1).sum(1)

    def _parts(self, out: Tensor) -> Tensor:
        """`out` as `(batch, features, channels, *space)`, in float32 at least."""
        if out.ndim < 2 or not out.shape[1] or out.shape[1] % self.features:
            raise ShapeError(
                f"The decoder computed {tuple(out.shape)}, but {type(self).__name__} splits dimension 1 into "
                f"{self.features} features. Build the decoder with likelihood.features outputs for each channel of y."
            )
        parts = out.unflatten(1, (self.features, out.shape[1] // self.features))
        return parts.to(torch.promote_types(out.dtype, torch.float32))

    def elements(self, y: Tensor, out: Tensor) -> Tensor:
        """`ln p` of each element, of the shape of y."""
        raise NotImplementedError

    def mean(self, out: Tensor) -> Tensor:
        """`E[y | z]`, `(batch, channels, *space)`: what is usually shown for a sample."""
        raise NotImplementedError

    def sample(self, out: Tensor) -> Tensor:
        """A draw from p(y | z), of the shape of `mean(out)`; it carries no gradient."""
        raise NotImplementedError


def _bounded(log_spread: Tensor, start: float) -> Tensor:
    return bounded(log_spread, start + LOG_SPREAD_MIN, start + LOG_SPREAD_MAX)


class _LocationScale(Likelihood):
    """Location from the decoder; spread fixed, or learned as one number, per example or per element.

    A learned spread stays between e^-7 and e^5 times where it starts: a density has no upper bound, and a decoder that
    is sure of a value would raise it without end.
    """

    law: Callable[..., Distribution]

    def __init__(self, spread: float = 1.0, learned: str = "") -> None:
        super().__init__()
        if not 0 < spread < math.inf:
            raise ModelError(f"spread is {spread}, but a spread is positive and finite. Pass one in units of y.")
        if learned not in ("", "one", "example", "element"):
            raise ModelError(f"learned is {learned!r}. Choose '', 'one', 'example' or 'element'.")
        self.learned = learned
        self.features = 2 if learned in ("example", "element") else 1
        self.start = math.log(spread)
        if learned == "one":
            self.log_spread = nn.Parameter(torch.tensor(self.start))

    def _located(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Location, and ln of the spread, which broadcasts against it."""
        location, *own = self._parts(out).unbind(1)
        if not self.learned:
            return location, location.new_tensor(self.start)
        if self.learned == "one":
            return location, _bounded(self.log_spread, self.start)
        shift = own[0]
        if self.learned == "example":
            shift = shift.mean(tuple(range(1, shift.ndim)), keepdim=True)
        return location, _bounded(self.start + shift, self.start)

    def mean(self, out: Tensor) -> Tensor:
        return self._parts(out)[:, 0]

    def sample(self, out: Tensor) -> Tensor:
        location, log_spread = self._located(out)
        return self.law(location, log_spread.exp(), validate_args=False).sample()


class Gaussian(_LocationScale):
    """`(2 pi s^2)^(-1/2) exp(-(y - m)^2 / (2 s^2))` per element.

    Args:
        spread: standard deviation s, in units of y; where it is learned, what it starts at.
        learned: "" keeps it fixed; "one" learns one number for all data, which tends to the root mean squared error;
            "example" lets the decoder choose one for each example, "element" one for each element. For these two the
            second feature is what is added to ln s, averaged over the example for "example".
    """

    law = torch.distributions.Normal

    def elements(self, y: Tensor, out: Tensor) -> Tensor:
        mean, log_std = self._located(out)
        return -0.5 * ((y - mean) * torch.exp(-log_std)).square() - log_std - HALF_LOG_TWO_PI


class Laplace(_LocationScale):
    """`exp(-|y - m| / b) / (2 b)` per element; `spread` is b. Arguments as for `Gaussian`.

    The best b is the mean absolute error. `mean` is m, the median as well.
    """

    law = torch.distributions.Laplace

    def elements(self, y: Tensor, out: Tensor) -> Tensor:
        location, log_spread = self._located(out)
        return -(y - location).abs() * torch.exp(-log_spread) - log_spread - math.log(2)


class Bernoulli(Likelihood):
    """`p^y (1 - p)^(1 - y)`; the feature is ln(p / (1 - p)).

    A probability only for binary y. Grey values in [0, 1] are accepted, but then this is a cross-entropy and no
    likelihood: binarise them to compare ln p(y). One fused operation, right to the last digit of the logit.
    """

    low, high = 0.0, 1.0

    def elements(self, y: Tensor, out: Tensor) -> Tensor:
        logit = self._parts(out)[:, 0]
        return -F.binary_cross_entropy_with_logits(logit, y.to(logit), reduction="none")

    def mean(self, out: Tensor) -> Tensor:
        return torch.sigmoid(self._parts(out)[:, 0])

    def sample(self, out: Tensor) -> Tensor:
        return torch.bernoulli(self.mean(out).detach())


class Categorical(Likelihood):
    """A probability for each of 256 levels; y in multiples of 1 / 255. Makes no use of the order of levels.

    The features are unnormalised log-probabilities of the levels.
    """

    features = LEVELS
    low, high = 0.0, 1.0
    discrete = True

    def elements(self, y: Tensor, out: Tensor) -> Tensor:
        return self._parts(out).log_softmax(1).gather(1, _level(TOP * y).long()[:, None]).squeeze(1)

    def mean(self, out: Tensor) -> Tensor:
        probability = self._parts(out).softmax(1)
        levels = torch.arange(LEVELS, device=out.device, dtype=probability.dtype) / TOP
        return torch.einsum("bl...,l->b...", probability, levels)

    def sample(self, out: Tensor) -> Tensor:
        logits = self._parts(out).movedim(1, -1)
        drawn = torch.distributions.Categorical(logits=logits, validate_args=False).sample()
        return drawn.to(logits.dtype) / TOP


class DiscretisedLogisticMixture(Likelihood):
    """Mixture of logistics, each level given the mass of its bin; y in multiples of 1 / 255 (Salimans et al. 2017).

    The bins of levels 0 and 255 reach to infinity, so the 256 masses sum to one. Elements, colours among them, are
    independent given z. The features are log-weights, means and log-scales of all components, in this order; zeros
    stand for components spread evenly over [0, 1].

    Args:
        components: logistics per element.
    """

    low, high = 0.0, 1.0
    discrete = True

    def __init__(self, components: int = 5) -> None:
        super().__init__()
        if components < 1:
            raise ModelError(f"A mixture of {components} components is none. Pass components=1 or more.")
        self.components = components
        self.features = 3 * components

    def _mixture(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights, means and log-scales, `(batch, components, channels, *space)`, in levels: differences from
        whole numbers lose nothing, so that neighbours share an edge to the last bit."""
        weight, mean, log_scale = self._parts(out).unflatten(1, (3, self.components)).unbind(1)
        centre = (torch.arange(self.components, device=out.device, dtype=mean.dtype) + 0.5) / self.components
        mean = mean + centre.view(-1, *(1,) * (mean.ndim - 2))
        return weight.log_softmax(1), TOP * mean, _bounded(log_scale - 2, 0.0) + math.log(TOP)

    def elements(self, y: Tensor, out: Tensor) -> Tensor:
        weight, mean, log_scale = self._mixture(out)
        level = _level(TOP * y).to(mean.dtype)[:, None]
        inverse = torch.exp(-log_scale)  # also the width of a bin, in scales
        above, below = (level - mean + 0.5) * inverse, (level - mean - 0.5) * inverse
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)): no difference of near-equal numbers
        mass = F.logsigmoid(above) + F.logsigmoid(-below) + torch.log(-torch.expm1(-inverse))
        mass = torch.where(level == 0, F.logsigmoid(above), mass)
        mass = torch.where(level == TOP, F.logsigmoid(-below), mass)
        return torch.logsumexp(weight + mass, 1)

    def mean(self, out: Tensor) -> Tensor:
        """Mean of the mixture whose values beyond 0 and 1 count as 0 and 1, before it is cut into levels.

        Within a fifteenth of a level of `E[y | z]`, without a sum over 256 of them.
        """
        weight, mean, log_scale = self._mixture(out)
        scale = torch.exp(log_scale)
        # s softplus(m / s) - s softplus((m - 255) / s), the integral of 1 - F over the range, for m of any size
        low, high = (torch.log1p(torch.exp(-(mean - edge).abs() / scale)) for edge in (0, TOP))
        return (weight.exp() * (mean.clamp(0, TOP) + scale * (low - high))).sum(1) / TOP

    def sample(self, out: Tensor) -> Tensor:
        weight, mean, log_scale = self._mixture(out.detach())
        component = torch.distributions.Categorical(logits=weight.movedim(1, -1), validate_args=False).sample()
        mean, scale = (part.gather(1, component[:, None]).squeeze(1) for part in (mean, log_scale.exp()))
        return _level(mean + scale * torch.logit(torch.rand_like(mean))) / TOP


class Rescaled(Likelihood):
    """Another likelihood, of `(y - mean) / std`: columns of a table in units of their own, one decoder for all.

    Args:
        inner: a density of real values.
        mean, std: of the data, `event`, or one number for all. The density is that of y itself: it has `- ln std`.
    """

    mean_y: Tensor
    std_y: Tensor

    def __init__(self, inner: Likelihood, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        if math.isfinite(inner.low) or math.isfinite(inner.high):
            raise ModelError(f"{type(inner).__name__} is a likelihood of a fixed range. Use it without rescaling.")
        if mean.shape != std.shape or not bool((std > 0).all()):
            raise ModelError("mean and std differ in shape, or a std is not positive. Pass 1 where data do not vary.")
        self.inner, self.features = inner, inner.features
        self.register_buffer("mean_y", mean.detach().clone())
        self.register_buffer("std_y", std.detach().clone())

    def elements(self, y: Tensor, out: Tensor) -> Tensor:
        if self.mean_y.ndim and self.mean_y.shape != y.shape[1:]:  # else (n, 1) would broadcast without a word
            raise ShapeError(
                f"y is {tuple(y.shape)}, but mean and std {tuple(self.mean_y.shape)}. Take them over dimension 0 of y."
            )
        return self.inner.elements((y - self.mean_y) / self.std_y, out) - self.std_y.log()

    def mean(self, out: Tensor) -> Tensor:
        return self.mean_y + self.std_y * self.inner.mean(out)

    def sample(self, out: Tensor) -> Tensor:
        return self.mean_y + self.std_y * self.inner.sample(out)


def _level(x: Tensor) -> Tensor:
    """The level nearest to x, given in levels."""
    return torch.floor(x + 0.5).clamp(0, TOP)
