"""Bits back: a latent-variable model as a lossless code whose length is its bound, with a real coder (V36).

An encoder who has to name a latent may choose which; choosing by q(z | y) hides -ln q(z | y) nats of another message in
the choice, which the decoder gets back. The net cost of an example is then

    -ln p(y | z) - ln p(z) + ln q(z | y),

on average minus the bound: KL(q(z | y) || p(z)) for the latent, not its whole code length (Hinton & van Camp 1993). The
coder is a stack (ANS; Townsend, Bird & Barber 2019, arXiv:1901.04866): a latent is *decoded*, by q, from the other
message. That one has a stack of its own here. In a single stack latents are decoded from what the last latent left,
which is not random unless q(z) is p(z), and a wrong q then costs more than its bound.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import constriction
import numpy as np
import torch
from torch import Tensor

from rdae.errors import DataError, ShapeError
from rdae.exact.enumerable import JointTable

__all__ = ["BitsBack", "bits_back_decode", "bits_back_encode", "other_message"]

Categorical, AnsCoder = constriction.stream.model.Categorical, constriction.stream.stack.AnsCoder
SPARE_WORDS = 64  # of 32 bits, of the other message, beyond what is expected to be read


class BitsBack(NamedTuple):
    """A message, and what it cost in bits.

    Args:
        stream: the examples, words of 32 bits.
        rest: what is left of the other message.
        net_bits: length of the stream less what of the other message is hidden in it.
        latent_bits: code length of the latents by the prior, -log2 p(z).
        returned_bits: what choosing them gave back, -log2 q(z | y).
    """

    stream: np.ndarray
    rest: np.ndarray
    net_bits: int
    latent_bits: float
    returned_bits: float


class _Laws:
    """The three laws of a model as the coder's own."""

    def __init__(self, model: JointTable, posterior: Tensor | None) -> None:
        table = model.log_table().detach().double()
        prior = table.logsumexp(1)
        exact = (table - table.logsumexp(0)).T.exp()
        q = exact if posterior is None else posterior.double()
        if q.shape != exact.shape or not torch.allclose(q.sum(1), torch.ones(len(q)).double(), atol=1e-6):
            raise ShapeError(
                f"The posterior has shape {tuple(q.shape)}: pass a row of {exact.shape[1]} probabilities that sum to "
                f"one for each of {exact.shape[0]} symbols."
            )
        self.log_prior, self.log_q = prior.numpy(), q.log().numpy()
        self.prior = _coded(prior.exp())
        self.likelihood = [_coded(row) for row in (table - prior[:, None]).exp()]
        self.posterior = [_coded(row) for row in q]


def _coded(probabilities: Tensor) -> Any:
    return Categorical(np.ascontiguousarray(probabilities.numpy(), dtype=np.float64), perfect=False)


def other_message(count: int, states: int, seed: int) -> np.ndarray:
    """Random words to hide, more than the latents of so many examples take."""
    expected = count * (np.log2(states) + 2) / 32  # a latent that q thinks unlikely is read from more bits, but seldom
    return np.random.default_rng(seed).integers(1 << 32, size=int(expected) + SPARE_WORDS, dtype=np.uint32)


def bits_back_encode(model: JointTable, y: Tensor, *, posterior: Tensor | None = None, seed: int = 0) -> BitsBack:
    """Codes examples, and hides another message, of random words, in the choice of their latents.

    Args:
        model: two or more states and symbols.
        y: whole numbers, `(n,)`.
        posterior: q(z | y), a row of probabilities for each symbol, `(M, K)`; the exact one if there is none.
        seed: of the other message.

    Raises:
        DataError: a symbol that the model does not have.
        ShapeError: the posterior is no table of such rows.
    """
    laws = _Laws(model, posterior)
    model.check(y)
    coder, other = AnsCoder(), AnsCoder(other_message(len(y), len(laws.log_prior), seed), True)
    before, latent, returned = other.num_valid_bits(), 0.0, 0.0
    for symbol in y.long().tolist():
        z = int(other.decode(laws.posterior[symbol]))
        coder.encode_reverse(symbol, laws.likelihood[z])
        coder.encode_reverse(z, laws.prior)
        latent -= laws.log_prior[z] / np.log(2)
        returned -= laws.log_q[symbol, z] / np.log(2)
    net = coder.num_valid_bits() - (before - other.num_valid_bits())
    return BitsBack(coder.get_compressed(), other.get_compressed(), net, float(latent), float(returned))


def bits_back_decode(
    model: JointTable, message: BitsBack, count: int, *, posterior: Tensor | None = None
) -> tuple[Tensor, np.ndarray]:
    """The examples again, `(count,)`, and the whole of the other message.

    Args:
        model, posterior: as for encoding.
        message: of which both streams are read.
        count: of examples.

    Raises:
        DataError: count is negative.
    """
    if count < 0:
        raise DataError(f"count is {count}. Pass the number of examples that were coded.")
    laws = _Laws(model, posterior)
    coder, other = AnsCoder(message.stream), AnsCoder(message.rest)
    found = []
    for _ in range(count):
        z = int(coder.decode(laws.prior))
        symbol = int(coder.decode(laws.likelihood[z]))
        other.encode_reverse(z, laws.posterior[symbol])  # the choice of z tells the bits that chose it
        found.append(symbol)
    return torch.tensor(found[::-1]), other.get_compressed(unseal=True)
