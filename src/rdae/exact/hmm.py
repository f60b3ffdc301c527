"""Hidden Markov models: a tree whose messages are exact."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from rdae.errors import ModelError, ShapeError
from rdae.exact.chain import MarkovChain
from rdae.exact.components import Components
from rdae.exact.model import ExactModel, log_frequencies

__all__ = ["HiddenMarkovModel"]


class HiddenMarkovModel(ExactModel):
    """A path z of T states, an example y of T elements, each element drawn given the state of its time.

    One message runs from the last element to the first: `b_t(i) = ln p(y_t+1, ..., y_T | z_t = i)`. It yields ln p(y),
    and the posterior, which is again a Markov chain, with the transitions reweighted by the message. Everything is in
    logarithms, so that long sequences do not underflow, and vectorised over sequences and states.

    A state that no sequence visits keeps its law; its row of transitions becomes uniform.

    Args:
        emissions: p(y_t | z_t = k).
        length: T; all sequences have it. It is an attribute and may be changed: no parameter depends on it.
    """

    def __init__(self, emissions: Components, length: int) -> None:
        super().__init__()
        if length < 1:
            raise ModelError(f"A sequence of length {length} has no element. Pass 1 or more.")
        self.emissions, self.length = emissions, length
        states = emissions.states
        self.log_initial = nn.Parameter(torch.zeros(states).double())
        self.log_transition = nn.Parameter(torch.zeros(states, states).double())

    def prior(self) -> MarkovChain:
        return MarkovChain(self.log_initial, self.log_transition.expand(self.length - 1, -1, -1))

    def _log_emission(self, y: Tensor) -> Tensor:
        """ln p(y_t | z_t = k), `(n, T, K)`."""
        if y.ndim < 2 or y.shape[1] != self.length:
            raise ShapeError(
                f"y is {tuple(y.shape)}, but this is a model of sequences (n, {self.length}, ...). Cut them to one "
                "length, or set model.length."
            )
        return self.emissions.log_prob(y.flatten(0, 1)).unflatten(0, y.shape[:2])

    def _messages(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """ln p(z_1, y) as `(n, K)`; ln p(z_t+1 = j, y_t+1, ..., y_T | z_t = i), `(n, T - 1, K, K)`."""
        emission = self._log_emission(y)
        transition = self.log_transition.log_softmax(1)
        message = torch.zeros_like(emission[:, 0])
        steps: list[Tensor] = []
        for t in range(self.length - 1, 0, -1):
            steps.append(transition + (emission[:, t] + message)[:, None, :])
            message = steps[-1].logsumexp(2)
        shape = len(y), 0, *transition.shape
        forward = torch.stack(steps[::-1], 1) if steps else emission.new_zeros(shape)
        return self.log_initial.log_softmax(0) + emission[:, 0] + message, forward

    def posterior(self, y: Tensor) -> MarkovChain:
        return MarkovChain(*self._messages(y))

    def log_prob(self, y: Tensor) -> Tensor:
        return self._messages(y)[0].logsumexp(1)

    def log_joint(self, y: Tensor, z: Tensor) -> Tensor:
        emission = self._log_emission(y)
        emitted = emission.expand(*z.shape, -1).gather(-1, z[..., None]).squeeze(-1).sum(-1)
        return emitted + self.prior().log_prob(z)

    def expected_log_prior(self, q: Distribution) -> Tensor:
        assert isinstance(q, MarkovChain)
        prior = self.prior()
        return q.initial.exp() @ prior.initial + (q.pairs * prior.transition).sum((1, 2, 3))

    def expected_log_likelihood(self, y: Tensor, q: Distribution) -> Tensor:
        assert isinstance(q, MarkovChain)
        return (q.marginals * self._log_emission(y)).sum((1, 2))

    @torch.no_grad()
    def m_step(self, y: Tensor, q: Distribution) -> None:
        assert isinstance(q, MarkovChain)
        if self.log_initial.requires_grad:
            self.log_initial.copy_(log_frequencies(q.initial.exp().sum(0)))
        if self.log_transition.requires_grad:
            self.log_transition.copy_(log_frequencies(q.pairs.sum((0, 1))))
        self.emissions.m_step(y.flatten(0, 1), q.marginals.flatten(0, 1))

    @torch.no_grad()
    def start(self, y: Tensor) -> None:
        """Random transitions that favour staying; emissions as they start on all elements."""
        self.emissions.start(y.flatten(0, 1))
        states = self.emissions.states
        if self.log_initial.requires_grad:
            self.log_initial.zero_()
        if self.log_transition.requires_grad:
            self.log_transition.copy_(log_frequencies(torch.rand(states, states).double() + torch.eye(states)))

    def check(self, y: Tensor) -> None:
        if y.ndim < 2 or y.shape[1] != self.length:
            self._log_emission(y)
        self.emissions.check(y.flatten(0, 1))

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        path = self.prior().sample((count,))
        return self.emissions.sample(path.flatten()).unflatten(0, path.shape)
