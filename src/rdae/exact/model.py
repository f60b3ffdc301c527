"""What an exact model is: p(z, y) whose posterior p(z | y) is known, with both steps of EM.

Such a model can be fitted by EM and is an oracle for everything that approximates: ln p(y), the posterior and the
bound at any q(z | y) are computed, not estimated. Laws of the latent are distributions of `torch.distributions`, so
that `kl_divergence`, `entropy` and the functions of `rdae.objectives` take them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, constraints

from rdae.errors import DataError, ModelError, ShapeError
from rdae.objectives import Terms, divergence, elbo_from_entropy

__all__ = ["LEAST_LOG_PROBABILITY", "ExactModel", "PointMass", "log_frequencies", "one_hot_law", "point_mass"]

LEAST_LOG_PROBABILITY = -690.0  # a probability of 1e-300: as good as zero, and 0 * ln p stays 0


class PointMass(Distribution):
    """All mass of a continuous latent at one point per example: the posterior of hard EM.

    Its density is counted as one at the point and its entropy as zero, as for a point mass on a discrete latent. The
    true differential entropy, minus infinity, depends on no parameter, so the bound without it serves alternating
    maximisation as well; but it is no bound on ln p(y) then, which it is for discrete latents.

    Args:
        location: `(batch, size)`.
    """

    arg_constraints = {"location": constraints.real_vector}

    def __init__(self, location: Tensor) -> None:
        self.location = location
        super().__init__(location.shape[:-1], location.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.location

    @property
    def mode(self) -> Tensor:
        return self.location

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.location)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """The point itself, `(*sample_shape, batch, size)`."""
        return self.location.expand(*sample_shape, *self.location.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Zero at the point, minus infinity elsewhere."""
        there = (value == self.location).all(-1)
        return torch.where(there, 0.0, -torch.inf).to(self.location.dtype)

    def entropy(self) -> Tensor:
        return self.location.new_zeros(self.batch_shape)


def one_hot_law(state: Tensor, states: int) -> Categorical:
    """The law on `states` values that is certain of one: `state`, int64 `(batch,)`."""
    probability = torch.nn.functional.one_hot(state, states).double()
    return Categorical(logits=probability.log(), validate_args=False)


def point_mass(q: Distribution) -> Distribution:
    """All mass of q at its mode: the E-step of hard EM (V19)."""
    if hasattr(q, "point_mass"):
        return q.point_mass()
    if isinstance(q, Categorical):
        return one_hot_law(q.mode, q.logits.shape[-1])
    return PointMass(q.mode)


def log_frequencies(counts: Tensor) -> Tensor:
    """Logarithms of `counts` over their sum along the last dimension, none below `LEAST_LOG_PROBABILITY`.

    Where all counts are zero every frequency is the same.
    """
    total = counts.sum(-1, keepdim=True)
    uniform = torch.full_like(counts, 1 / counts.shape[-1])
    frequency = torch.where(total > 0, counts / total.clamp_min(torch.finfo(counts.dtype).tiny), uniform)
    return frequency.log().clamp_min(LEAST_LOG_PROBABILITY)


class ExactModel(nn.Module):
    """Base: p(z, y) = p(z) p(y | z) with everything about z given y in closed form. All in float64.

    The M-step leaves parameters alone whose `requires_grad` is False: freezing the weights and one shared standard
    deviation of a Gaussian mixture makes hard EM Lloyd's algorithm, k-means.

    A subclass gives `prior`, `posterior`, `log_prob`, `log_joint`, `expected_log_prior`, `expected_log_likelihood`,
    `m_step`, `start`, `check` and `sample`.
    """

    def prior(self) -> Distribution:
        """p(z), the law of one latent; its batch shape is empty."""
        raise NotImplementedError

    def posterior(self, y: Tensor) -> Distribution:
        """p(z | y), batch shape `(n,)`."""
        raise NotImplementedError

    def log_prob(self, y: Tensor) -> Tensor:
        """ln p(y) of each example in nats, `(n,)`."""
        raise NotImplementedError

    def log_joint(self, y: Tensor, z: Tensor) -> Tensor:
        """ln p(z, y) in nats, `(*samples, n)`, at latents `(*samples, n, *event)` such as a posterior draws."""
        raise NotImplementedError

    def expected_log_prior(self, q: Distribution) -> Tensor:
        """E_q ln p(z) in nats, `(n,)`."""
        raise NotImplementedError

    def expected_log_likelihood(self, y: Tensor, q: Distribution) -> Tensor:
        """E_q ln p(y | z) in nats, `(n,)`."""
        raise NotImplementedError

    def m_step(self, y: Tensor, q: Distribution) -> None:
        """Sets the parameters to those with the largest sum over examples of E_q ln p(z, y) (V17)."""
        raise NotImplementedError

    def start(self, y: Tensor) -> None:
        """Sets the parameters to a random start that suits the data; draws from PyTorch's generator."""
        raise NotImplementedError

    def check(self, y: Tensor) -> None:
        """Refuses data that this is no model of.

        Raises:
            ShapeError: an example has another shape.
            DataError: no example, or a value that is not finite or out of range.
        """
        raise NotImplementedError

    def sample(self, count: int) -> Tensor:
        """Generates `count` examples: a latent from the prior, then an example given it."""
        raise NotImplementedError

    def expected_log_joint(self, y: Tensor, q: Distribution) -> Tensor:
        """E_q ln p(z, y) in nats, `(n,)`; its gradient at the posterior is that of `log_prob` (V3)."""
        return self.expected_log_likelihood(y, q) + self.expected_log_prior(q)

    def bound(self, y: Tensor, q: Distribution) -> Tensor:
        """The evidence lower bound `E_q ln p(z, y) + H(q)` of each example in nats, `(n,)`.

        At the posterior it is ln p(y); at its point mass it is `ln p(z, y)` at the likeliest z, which hard EM raises.
        """
        return elbo_from_entropy(self.expected_log_joint(y, q)[None], q.entropy())

    def e_step(self, y: Tensor, hard: bool = False) -> tuple[Distribution, Tensor]:
        """The best law of the latent of each example, and `bound` there in nats, `(n,)`.

        Args:
            y: `(n, *event)`.
            hard: whether the best one among point masses (V19) and not the posterior (V16).
        """
        posterior = self.posterior(y)
        q = point_mass(posterior) if hard else posterior
        return q, self.bound(y, q)

    def terms(self, y: Tensor, q: Distribution) -> Terms:
        """Rate KL(q || p(z)) and distortion -E_q ln p(y | z), in nats; minus their sum is `bound`.

        At a point mass the rate is the code length -ln p(z).
        """
        return Terms(divergence(q, self.prior(), q.sample()), -self.expected_log_likelihood(y, q))


def read(y: Tensor, event: tuple[int, ...], owner: nn.Module) -> Tensor:
    """The data in float64, once their shape is known to be `(n, *event)`.

    Raises:
        ShapeError: it is not.
    """
    if y.ndim != 1 + len(event) or tuple(y.shape[1:]) != event:
        wanted = ", ".join(str(size) for size in ("n", *event))
        raise ShapeError(
            f"y is {tuple(y.shape)}, but {type(owner).__name__} is a model of ({wanted}{',' if not event else ''}). "
            "Reshape the data, or build the model for them."
        )
    return y.double()


def check_finite(y: Tensor) -> None:
    """Refuses no data, and NaN or infinity among them.

    Raises:
        DataError: see above.
    """
    if not y.numel():
        raise DataError(f"y is empty: its shape is {tuple(y.shape)}. EM needs one example at least.")
    bad = int((~torch.isfinite(y)).sum()) if y.is_floating_point() else 0
    if bad:
        raise DataError(f"y has {bad} of {y.numel()} values NaN or infinite. Drop those examples, or fill them in.")


def check_whole(y: Tensor, below: int, what: str) -> None:
    """Refuses anything but whole numbers from 0 to `below - 1`.

    Raises:
        DataError: see above.
    """
    check_finite(y)
    if bool((y != y.round()).any()) or float(y.min()) < 0 or float(y.max()) >= below:
        raise DataError(
            f"y reaches from {float(y.min()):g} to {float(y.max()):g}, but {what} are whole numbers from 0 to "
            f"{below - 1}. Number them, or build the model for more."
        )


def at_least_one(number: int, what: str) -> int:
    """The number, if it is positive.

    Raises:
        ModelError: it is not.
    """
    if number < 1:
        raise ModelError(f"A model with {number} {what} is none. Pass 1 or more.")
    return number
