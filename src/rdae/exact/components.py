"""Laws p(y | z = k) of an example given one of K states: what mixtures and hidden Markov models are made of."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdae.errors import DataError, ModelError
from rdae.exact.model import at_least_one, check_finite, check_whole, log_frequencies, read
from rdae.exact.seeding import kmeans_plus_plus

__all__ = ["COVARIANCES", "BernoulliComponents", "CategoricalComponents", "Components", "GaussianComponents"]

COVARIANCES = ("isotropic", "spherical", "diag", "tied", "full")
LOG_TWO_PI = math.log(2 * math.pi)
IN_CACHE = 1 << 16  # numbers worked on together; more of them wait for memory
OWN = 0.5  # of a start's responsibilities: the rest is spread over all states, so that no probability starts at 0 or 1


class Components(nn.Module):
    """Base.

    Args:
        states: K.

    Attributes:
        event: shape of one example.
    """

    event: tuple[int, ...]

    def __init__(self, states: int) -> None:
        super().__init__()
        self.states = at_least_one(states, "states")

    def log_prob(self, y: Tensor) -> Tensor:
        """ln p(y | z = k) in nats, `(n, K)`, of examples `(n, *event)`."""
        raise NotImplementedError

    def m_step(self, y: Tensor, responsibility: Tensor) -> None:
        """Maximises `sum_nk responsibility[n, k] ln p(y_n | k)`.

        A state of which no example has a share keeps its parameters.

        Args:
            y: `(n, *event)`.
            responsibility: `(n, K)`, not negative.
        """
        raise NotImplementedError

    def start(self, y: Tensor) -> None:
        """Sets the parameters to a random start that suits the data."""
        raise NotImplementedError

    def check(self, y: Tensor) -> None:
        """Refuses data `(n, *event)` that these are no laws of; see `ExactModel.check`."""
        raise NotImplementedError

    def sample(self, state: Tensor) -> Tensor:
        """One example for each of `state`, int64 `(n,)`."""
        raise NotImplementedError

    def means(self) -> Tensor:
        """E[y | z = k], `(K, *event)`."""
        raise NotImplementedError


def _share(responsibility: Tensor) -> tuple[Tensor, Tensor]:
    """Responsibilities with each state's divided by their sum, and which states have any."""
    total = responsibility.sum(0)
    alive = total > torch.finfo(total.dtype).tiny
    return responsibility / torch.where(alive, total, 1.0), alive


class GaussianComponents(Components):
    """N(mean_k, S_k).

    Directions in which a state's data do not spread would drive the density to infinity: no standard deviation, along
    any direction, is let below `min_std`. With that constraint the M-step stays exact, since the best covariance under
    it is the sample covariance with its eigenvalues raised to `min_std**2`, and so the bound never falls.

    Args:
        states: K.
        features: length of an example.
        covariance: "isotropic", one standard deviation for all states and features; "spherical", one for each state;
            "diag", one for each state and feature; "tied", one full covariance for all states; "full", one for each.
        min_std: in units of y.
    """

    def __init__(self, states: int, features: int, covariance: str = "full", min_std: float = 1e-3) -> None:
        super().__init__(states)
        if covariance not in COVARIANCES:
            raise ModelError(f"There is no covariance {covariance!r}. Choose one of {', '.join(COVARIANCES)}.")
        if not 0 < min_std < math.inf:
            raise ModelError(f"min_std is {min_std}, but must be positive and finite. Pass a small part of the data's.")
        self.event = (at_least_one(features, "features"),)
        self.covariance, self.min_std = covariance, min_std
        self.mean = nn.Parameter(torch.zeros(states, features).double())
        if covariance in ("tied", "full"):
            leading = (states,) if covariance == "full" else ()
            self.factor = nn.Parameter(torch.eye(features).double().expand(*leading, -1, -1).clone())
        else:
            shape = {"isotropic": (), "spherical": (states,), "diag": (states, features)}[covariance]
            self.log_std = nn.Parameter(torch.zeros(shape).double())

    def _std(self) -> Tensor:
        """Standard deviations of each state and feature, `(K, features)`, where they are diagonal."""
        log_std = self.log_std[:, None] if self.covariance == "spherical" else self.log_std
        return log_std.exp().expand(self.states, *self.event)

    def covariances(self) -> Tensor:
        """S_k, `(K, features, features)`."""
        if self.covariance in ("tied", "full"):
            factor = self.factor.tril()
            return (factor @ factor.mT).expand(self.states, -1, -1)
        return torch.diag_embed(self._std().square())

    def log_prob(self, y: Tensor) -> Tensor:
        y = read(y, self.event, self)
        if self.covariance in ("tied", "full"):
            log_det = self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            squares = self._whitened_squares(y)
        else:
            std = self._std()
            log_det = std.log().sum(1)
            squares = torch.stack(
                [((y - mean) / each).square().sum(1) for mean, each in zip(self.mean, std, strict=True)], 1
            )
        return -0.5 * (squares + self.event[0] * LOG_TWO_PI) - log_det

    def _whitened_squares(self, y: Tensor) -> Tensor:
        """`|L_k^-1 (y - mean_k)|^2`, `(n, K)`: all states by one matrix product, some examples at a time."""
        size = self.event[0]
        inverse = torch.linalg.solve_triangular(self.factor.tril(), torch.eye(size).to(self.factor), upper=False)
        inverse = inverse.expand(self.states, -1, -1)
        centre = self.mean.detach().mean(0)  # what all have in common would cancel with a loss of digits
        shift = (inverse @ (self.mean - centre)[..., None]).flatten()[:, None]
        squares = [
            torch.addmm(-shift, inverse.flatten(0, 1), (part - centre).T).square().view(self.states, size, -1).sum(1)
            for part in y.split(max(size, IN_CACHE // (self.states * size)))  # at most as large as the inverses
        ]
        return torch.cat(squares, 1).T

    @torch.no_grad()
    def m_step(self, y: Tensor, responsibility: Tensor) -> None:
        y = read(y, self.event, self)
        share, alive = _share(responsibility)
        if self.mean.requires_grad:
            self.mean.copy_(torch.where(alive[:, None], share.T @ y, self.mean))
        if self.covariance in ("tied", "full"):
            if self.factor.requires_grad:
                self._learn_factor(y, responsibility, share, alive)
        elif self.log_std.requires_grad:
            self._learn_std(y, responsibility, share, alive)

    def _learn_std(self, y: Tensor, responsibility: Tensor, share: Tensor, alive: Tensor) -> None:
        variance = torch.stack(
            [weight @ (y - mean).square() for weight, mean in zip(share.T, self.mean, strict=True)]
        )  # (K, features)
        if self.covariance == "isotropic":
            variance = responsibility.sum(0) @ variance.mean(1) / responsibility.sum()
            alive = alive.any()
        elif self.covariance == "spherical":
            variance = variance.mean(1)
        else:
            alive = alive[:, None]
        floored = 0.5 * variance.clamp_min(self.min_std**2).log()
        self.log_std.copy_(torch.where(alive, floored, self.log_std))

    def _learn_factor(self, y: Tensor, responsibility: Tensor, share: Tensor, alive: Tensor) -> None:
        scatter = y.new_zeros(self.states, *self.event, *self.event)
        rows = max(self.event[0], IN_CACHE // self.event[0])
        for part, root in zip(y.split(rows), share.sqrt().split(rows), strict=True):
            for total, mean, weight in zip(scatter, self.mean, root.T, strict=True):
                scaled = (part - mean) * weight[:, None]
                total.addmm_(scaled.T, scaled)
        if self.covariance == "tied":
            scatter = torch.einsum("k,kij->ij", responsibility.sum(0), scatter) / responsibility.sum()
            alive = alive.any()
        else:
            alive = alive[:, None, None]
        value, vector = torch.linalg.eigh(scatter)
        floored = vector * value.clamp_min(self.min_std**2)[..., None, :] @ vector.mT
        self.factor.copy_(torch.where(alive, torch.linalg.cholesky(floored), self.factor))

    @torch.no_grad()
    def start(self, y: Tensor) -> None:
        """Means at k-means++ seeds, spreads those of the examples nearest to each."""
        y = read(y, self.event, self)
        if self.mean.requires_grad:
            self.mean.copy_(y[kmeans_plus_plus(y, self.states)])
        nearest = torch.cdist(y, self.mean).argmin(1)
        self.m_step(y, F.one_hot(nearest, self.states).double())

    def check(self, y: Tensor) -> None:
        check_finite(read(y, self.event, self))

    @torch.no_grad()
    def sample(self, state: Tensor) -> Tensor:
        noise = torch.randn(len(state), *self.event, dtype=torch.float64)
        if self.covariance in ("tied", "full"):
            factor = self.factor.tril().expand(self.states, -1, -1)[state]
            return self.mean[state] + (factor @ noise[..., None]).squeeze(-1)
        return self.mean[state] + self._std()[state] * noise

    def means(self) -> Tensor:
        return self.mean


class BernoulliComponents(Components):
    """Independent binary features: `p_kj^y (1 - p_kj)^(1 - y)`.

    A probability of 0 or 1 would make an example impossible: none is let nearer to them than `min_probability`. The
    best probability under that constraint is the frequency, clipped, so that the bound never falls.

    Args:
        states: K.
        features: length of an example.
        min_probability: smallest probability of either value.
    """

    def __init__(self, states: int, features: int, min_probability: float = 1e-6) -> None:
        super().__init__(states)
        if not 0 < min_probability < 0.5:
            raise ModelError(f"min_probability is {min_probability}, but lies between 0 and 1/2. Pass 1e-6, say.")
        self.event = (at_least_one(features, "features"),)
        self.min_probability = min_probability
        self.logit = nn.Parameter(torch.zeros(states, features).double())

    def log_prob(self, y: Tensor) -> Tensor:
        y = read(y, self.event, self)
        return y @ self.logit.T + F.logsigmoid(-self.logit).sum(1)

    @torch.no_grad()
    def m_step(self, y: Tensor, responsibility: Tensor) -> None:
        y = read(y, self.event, self)
        share, alive = _share(responsibility)
        frequency = (share.T @ y).clamp(self.min_probability, 1 - self.min_probability)
        if self.logit.requires_grad:
            self.logit.copy_(torch.where(alive[:, None], torch.logit(frequency), self.logit))

    @torch.no_grad()
    def start(self, y: Tensor) -> None:
        """Halfway between the frequencies of all examples and of those nearest to each of K k-means++ seeds."""
        y = read(y, self.event, self)
        nearest = torch.cdist(y, y[kmeans_plus_plus(y, self.states)]).argmin(1)
        self.m_step(y, OWN * F.one_hot(nearest, self.states).double() + (1 - OWN) / self.states)

    def check(self, y: Tensor) -> None:
        y = read(y, self.event, self)
        check_finite(y)
        if bool(((y != 0) & (y != 1)).any()):
            raise DataError(
                f"y reaches from {float(y.min()):g} to {float(y.max()):g}, but Bernoulli components are laws of 0 and "
                "1 only. Binarise the data, for example y > 0.5."
            )

    @torch.no_grad()
    def sample(self, state: Tensor) -> Tensor:
        return torch.bernoulli(self.means()[state])

    def means(self) -> Tensor:
        return torch.sigmoid(self.logit)


class CategoricalComponents(Components):
    """A probability for each of `symbols` values; examples are whole numbers from 0 to `symbols - 1`.

    Args:
        states: K.
        symbols: number of values.
    """

    def __init__(self, states: int, symbols: int) -> None:
        super().__init__(states)
        self.event = ()
        self.symbols = at_least_one(symbols, "symbols")
        self.logit = nn.Parameter(torch.zeros(states, symbols).double())

    def log_prob(self, y: Tensor) -> Tensor:
        y = read(y, self.event, self).long()
        return self.logit.log_softmax(1).T[y]

    @torch.no_grad()
    def m_step(self, y: Tensor, responsibility: Tensor) -> None:
        y = read(y, self.event, self).long()
        counts = torch.zeros_like(self.logit.T).index_add_(0, y, responsibility).T
        alive = counts.sum(1, keepdim=True) > 0
        if self.logit.requires_grad:
            self.logit.copy_(torch.where(alive, log_frequencies(counts), self.logit))

    @torch.no_grad()
    def start(self, y: Tensor) -> None:
        """The frequencies of all examples, each state's multiplied by random numbers between 1/2 and 3/2."""
        counts = torch.bincount(read(y, self.event, self).long(), minlength=self.symbols).double()
        self.logit.copy_(log_frequencies(counts * (0.5 + torch.rand_like(self.logit))))

    def check(self, y: Tensor) -> None:
        check_whole(read(y, self.event, self), self.symbols, "symbols")

    @torch.no_grad()
    def sample(self, state: Tensor) -> Tensor:
        return torch.multinomial(self.logit.softmax(1)[state], 1).squeeze(1)

    def means(self) -> Tensor:
        """Probabilities of the symbols, `(K, symbols)`: a mean of labels means nothing."""
        return self.logit.softmax(1)
