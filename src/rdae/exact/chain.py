"""A Markov chain as a distribution: the prior of a hidden Markov model, and its posterior as well."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.kl import register_kl

__all__ = ["MarkovChain"]


class MarkovChain(Distribution):
    """Paths z of T steps through K states: `p(z) = p(z_1) prod_t p(z_t+1 | z_t)`.

    Marginals pass forward from step to step, the best path passes backward; both take T steps of K^2 operations where
    an enumeration takes K^T.

    Args:
        initial: ln p(z_1), `(*batch, K)`, up to a constant.
        transition: ln p(z_t+1 = j | z_t = i) at `[..., t, i, j]`, `(*batch, T - 1, K, K)`, each row up to a constant.
    """

    arg_constraints = {"initial": constraints.real_vector}

    def __init__(self, initial: Tensor, transition: Tensor) -> None:
        self.initial = initial.log_softmax(-1)
        self.transition = transition.log_softmax(-1)
        batch = torch.broadcast_shapes(initial.shape[:-1], transition.shape[:-3])
        super().__init__(batch, torch.Size([transition.shape[-3] + 1]), validate_args=False)

    @property
    def states(self) -> int:
        """K."""
        return self.initial.shape[-1]

    @property
    def marginals(self) -> Tensor:
        """p(z_t = k), `(*batch, T, K)`."""
        steps = [self.initial.exp().expand(*self.batch_shape, -1)]
        for matrix in self.transition.exp().unbind(-3):
            steps.append((steps[-1][..., None, :] @ matrix).squeeze(-2))
        return torch.stack(steps, -2)

    @property
    def pairs(self) -> Tensor:
        """p(z_t = i, z_t+1 = j), `(*batch, T - 1, K, K)`."""
        return self.marginals[..., :-1, :, None] * self.transition.exp()

    @property
    def mode(self) -> Tensor:
        """The likeliest path, int64 `(*batch, T)`: Viterbi's algorithm, its maxima passed from the end to the start."""
        best = torch.zeros_like(self.initial).expand(*self.batch_shape, -1)
        choices = []
        for row in reversed(self.transition.unbind(-3)):
            best, choice = (row + best[..., None, :]).max(-1)
            choices.append(choice)
        path = [(self.initial + best).argmax(-1)]
        for choice in reversed(choices):
            path.append(choice.gather(-1, path[-1][..., None]).squeeze(-1))
        return torch.stack(path, -1)

    def point_mass(self) -> MarkovChain:
        """The chain that takes the likeliest path for certain."""
        path = F.one_hot(self.mode, self.states).to(self.initial.dtype).log()
        rows = path[..., 1:, None, :].expand(*path.shape[:-2], -1, self.states, -1)
        return MarkovChain(path[..., 0, :], rows)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(z) of paths, int64 `(*samples, *batch, T)`."""
        shape = (*value.shape[:-1], self.states)
        first = self.initial.expand(shape).gather(-1, value[..., :1]).squeeze(-1)
        rows = self.transition.expand(*value.shape[:-1], *self.transition.shape[-3:])
        rows = rows.gather(-2, value[..., :-1, None, None].expand(*value.shape[:-1], -1, 1, self.states)).squeeze(-2)
        return first + rows.gather(-1, value[..., 1:, None]).squeeze(-1).sum(-1)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Paths, int64 `(*sample_shape, *batch, T)`."""
        shape = (*sample_shape, *self.batch_shape)
        path = [_drawn(self.initial.expand(*shape, -1))]
        for matrix in self.transition.unbind(-3):
            rows = matrix.expand(*shape, -1, -1)
            path.append(_drawn(rows.gather(-2, path[-1][..., None, None].expand(*shape, 1, self.states)).squeeze(-2)))
        return torch.stack(path, -1)

    def entropy(self) -> Tensor:
        """Entropy of the path in nats: of the first state, and of each step given the state before it."""
        first = torch.special.entr(self.initial.exp()).sum(-1)
        step = torch.special.entr(self.transition.exp()).sum(-1)
        return first + (self.marginals[..., :-1, :] * step).sum((-2, -1))


def _drawn(logit: Tensor) -> Tensor:
    return torch.distributions.Categorical(logits=logit, validate_args=False).sample()


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL along the last dimension of two tensors of log-probabilities."""
    return torch.where(p > -torch.inf, p.exp() * (p - q), 0.0).sum(-1)


@register_kl(MarkovChain, MarkovChain)
def _kl(p: MarkovChain, q: MarkovChain) -> Tensor:
    step, before = _divergence(p.transition, q.transition), p.marginals[..., :-1, :]
    reached = torch.where(before > 0, before * step, 0.0)
    return _divergence(p.initial, q.initial) + reached.sum((-2, -1))
