"""Mixtures: z is one of K components, y is drawn from the component's law."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution

from rdae.exact.components import BernoulliComponents, Components, GaussianComponents
from rdae.exact.model import ExactModel, log_frequencies, one_hot_law

__all__ = ["BernoulliMixture", "GaussianMixture", "Mixture"]


class Mixture(ExactModel):
    """`p(y) = sum_k w_k p(y | k)`.

    A component of which no example has a share keeps its law and gets the weight 1e-300, so that its logarithm is a
    number: it is out of the game unless the weights are frozen. Another start is the cure.

    Args:
        components: p(y | z = k); states of it are the components.
    """

    def __init__(self, components: Components) -> None:
        super().__init__()
        self.components = components
        self.log_weight = nn.Parameter(torch.zeros(components.states).double())

    @property
    def weights(self) -> Tensor:
        """w_k, `(K,)`."""
        return self.log_weight.softmax(0)

    def prior(self) -> Categorical:
        return Categorical(logits=self.log_weight, validate_args=False)

    def _table(self, y: Tensor) -> Tensor:
        """ln p(z = k, y), `(n, K)`."""
        return self.components.log_prob(y) + self.log_weight.log_softmax(0)

    def posterior(self, y: Tensor) -> Categorical:
        return Categorical(logits=self._table(y), validate_args=False)

    def log_prob(self, y: Tensor) -> Tensor:
        return self._table(y).logsumexp(1)

    def log_joint(self, y: Tensor, z: Tensor) -> Tensor:
        table = self._table(y)
        return table.expand(*z.shape, table.shape[1]).gather(-1, z[..., None]).squeeze(-1)

    def expected_log_prior(self, q: Distribution) -> Tensor:
        return _probabilities(q) @ self.log_weight.log_softmax(0)

    def expected_log_likelihood(self, y: Tensor, q: Distribution) -> Tensor:
        return (_probabilities(q) * self.components.log_prob(y)).sum(1)

    def e_step(self, y: Tensor, hard: bool = False) -> tuple[Categorical, Tensor]:
        """As of any exact model, both from one table: the bound is ln p(y), or ln p(z, y) at the likeliest z."""
        table = self._table(y)
        if hard:
            best = table.max(1)
            return one_hot_law(best.indices, table.shape[1]), best.values
        return Categorical(logits=table, validate_args=False), table.logsumexp(1)

    @torch.no_grad()
    def m_step(self, y: Tensor, q: Distribution) -> None:
        responsibility = _probabilities(q)
        if self.log_weight.requires_grad:
            self.log_weight.copy_(log_frequencies(responsibility.sum(0)))
        self.components.m_step(y, responsibility)

    @torch.no_grad()
    def start(self, y: Tensor) -> None:
        """Equal weights; components as they start."""
        self.components.start(y)
        if self.log_weight.requires_grad:
            self.log_weight.zero_()

    def check(self, y: Tensor) -> None:
        self.components.check(y)

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        return self.components.sample(self.prior().sample((count,)))


def _probabilities(q: Distribution) -> Tensor:
    assert isinstance(q, Categorical)
    return q.probs


class GaussianMixture(Mixture):
    """Mixture of Gaussians; arguments as for `GaussianComponents`."""

    components: GaussianComponents

    def __init__(self, components: int, features: int, covariance: str = "full", min_std: float = 1e-3) -> None:
        super().__init__(GaussianComponents(components, features, covariance, min_std))


class BernoulliMixture(Mixture):
    """Mixture of independent binary features, latent class analysis; arguments as for `BernoulliComponents`."""

    components: BernoulliComponents

    def __init__(self, components: int, features: int, min_probability: float = 1e-6) -> None:
        super().__init__(BernoulliComponents(components, features, min_probability))
