"""A small discrete model with nothing hidden from view: p(z, y) is a table."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution

from rdae.exact.model import ExactModel, at_least_one, check_whole, log_frequencies, read

__all__ = ["JointTable"]


class JointTable(ExactModel):
    """Any joint law of a latent of K values and an example of M values; every quantity is a sum over the table.

    Latents of several parts are numbered, one number for each combination; a table of them stays small enough to be an
    oracle up to some millions of entries.

    Args:
        states: K.
        symbols: M; examples are whole numbers from 0 to M - 1.
    """

    def __init__(self, states: int, symbols: int) -> None:
        super().__init__()
        shape = at_least_one(states, "states"), at_least_one(symbols, "symbols")
        self.logit = nn.Parameter(torch.zeros(shape).double())

    @classmethod
    def of(cls, table: Tensor) -> JointTable:
        """The model with these probabilities, `(K, M)`, not negative; they are divided by their sum."""
        model = cls(*table.shape)
        with torch.no_grad():
            model.logit.copy_(log_frequencies(table.double().flatten()).view_as(table))
        return model

    def log_table(self) -> Tensor:
        """ln p(z, y), `(K, M)`."""
        return self.logit.flatten().log_softmax(0).view_as(self.logit)

    def _read(self, y: Tensor) -> Tensor:
        return read(y, (), self).long()

    def prior(self) -> Categorical:
        return Categorical(logits=self.log_table().logsumexp(1), validate_args=False)

    def marginal(self) -> Categorical:
        """p(y), a law on the M symbols."""
        return Categorical(logits=self.log_table().logsumexp(0), validate_args=False)

    def posterior(self, y: Tensor) -> Categorical:
        return Categorical(logits=self.log_table().T[self._read(y)], validate_args=False)

    def log_prob(self, y: Tensor) -> Tensor:
        return self.log_table().logsumexp(0)[self._read(y)]

    def log_joint(self, y: Tensor, z: Tensor) -> Tensor:
        return self.log_table()[z, self._read(y)]

    def expected_log_prior(self, q: Distribution) -> Tensor:
        assert isinstance(q, Categorical)
        return q.probs @ self.log_table().logsumexp(1)

    def expected_log_likelihood(self, y: Tensor, q: Distribution) -> Tensor:
        assert isinstance(q, Categorical)
        table = self.log_table()
        return (q.probs * (table - table.logsumexp(1, keepdim=True)).T[self._read(y)]).sum(1)

    def mutual_information(self) -> Tensor:
        """I(y; z) in nats."""
        table = self.log_table()
        outer = table.logsumexp(1, keepdim=True) + table.logsumexp(0, keepdim=True)
        return (table.exp() * (table - outer)).sum()

    @torch.no_grad()
    def m_step(self, y: Tensor, q: Distribution) -> None:
        assert isinstance(q, Categorical)
        if self.logit.requires_grad:
            counts = torch.zeros_like(self.logit.T).index_add_(0, self._read(y), q.probs).T
            self.logit.copy_(log_frequencies(counts.flatten()).view_as(counts))

    @torch.no_grad()
    def start(self, y: Tensor) -> None:
        """A table drawn uniformly from all tables."""
        self.logit.copy_(torch.empty_like(self.logit).exponential_().log())

    def check(self, y: Tensor) -> None:
        check_whole(read(y, (), self), self.logit.shape[1], "symbols")

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        return self.marginal().sample((count,))
