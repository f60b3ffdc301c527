"""An implicit model, which can only be sampled, and the pair of it and the critic that it learns against."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from rdae.adversarial.games import Game
from rdae.adversarial.judged import Judged
from rdae.adversarial.packing import Packed
from rdae.adversarial.penalties import Penalty
from rdae.errors import ShapeError
from rdae.generating import tempered
from rdae.priors.latent import LatentPrior

__all__ = ["AdversarialPair", "ImplicitModel"]

Losses = tuple[Tensor, dict[str, Tensor]]


class ImplicitModel(nn.Module):
    """`z ~ p(z)`, `y = G(z)`: a law P_g that can be sampled but has no density to compute.

    Args:
        prior: `() -> p(z)`, see `rdae.priors.latent`; not a `VampPrior`, which needs an encoder.
        generator: `z -> y`, any decoder with one feature, such as `rdae.networks.dense.DenseDecoder` or
            `rdae.networks.images.ImageDecoder`; for pixels in [0, 1] put `nn.Sigmoid()` behind it.
    """

    def __init__(self, prior: LatentPrior, generator: nn.Module) -> None:
        super().__init__()
        self.prior, self.generator = prior, generator

    def code(self) -> Distribution:
        """The prior p(z)."""
        return self.prior()

    def forward(self, count: int) -> Tensor:
        """Examples through which gradients reach the generator, and the prior if it is learned, `(count, *event)`."""
        law = self.code()
        return self.generator(law.rsample((count,)) if law.has_rsample else law.sample((count,)))

    @property
    def units(self) -> int:
        """Number of latent variables of an example."""
        return math.prod(self.code().event_shape)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """What latents, `(batch, *latent)`, look like as data."""
        return self.generator(z)

    @torch.no_grad()
    def sample(self, count: int, *, temperature: float = 1.0) -> Tensor:
        """Generates, `(count, *event)`.

        Args:
            count: how many.
            temperature: of the latents, see `rdae.generating.tempered`.
        """
        return self.decode(tempered(self.code(), count, temperature))


class AdversarialPair(nn.Module):
    """An implicit model and its critic, ready to be trained in turns.

    `critic_loss` has gradients for the critic alone, `generator_loss` for the generator alone.

    Args:
        model: what is learned.
        critic: `(batch, *event)` to `(batch,)`, which judges each example for itself (no batch normalisation): it sees
            real and generated ones in one pass; of packs, `packed_event(event, packing)`, where there is packing.
        game: objectives of both.
        penalties: on the critic.
        packing: examples that the critic sees at once; penalties look at packs as it does.
    """

    def __init__(
        self,
        model: ImplicitModel,
        critic: nn.Module,
        game: Game,
        penalties: Sequence[Penalty] = (),
        packing: int = 1,
    ) -> None:
        super().__init__()
        self.model, self.critic = model, Packed(critic, packing)
        self.game, self.penalties = game, tuple(penalties)

    def critic_loss(self, real: Tensor, step: int = 0, share: float = 1.0) -> Losses:
        """What the critic minimises, with penalties, and a report of its parts.

        Args:
            real: examples, `(batch, *event)`; as many are generated.
            step: number of the step, for lazy penalties.
            share: of the penalties' weights, that counts.

        Returns:
            The loss, a scalar, and `critic_loss` (without penalties), `penalty` and `gap`, the mean of f at real
            examples minus that at generated ones: in a Wasserstein game the estimate of the distance.

        Raises:
            ShapeError: examples and generated ones differ in shape, or do not fill whole packs.
        """
        with torch.no_grad():
            fake = self._generated(real)
        judged = Judged(self.critic.critic, self.critic.pack(real), self.critic.pack(fake))
        penalty = real.new_zeros(())
        for each in self.penalties:  # before the game asks, so that its pass is theirs too
            penalty = penalty + share * each(judged, step)
        real_logits, fake_logits = judged.logits
        loss = self.game.critic_loss(real_logits, fake_logits)
        gap = real_logits.mean() - fake_logits.mean()
        parts = {"critic_loss": loss, "penalty": penalty, "gap": gap}
        return loss + penalty, {name: part.detach() for name, part in parts.items()}

    def generator_loss(self, real: Tensor) -> Losses:
        """What the generator minimises, and a report of it; `real` as for `critic_loss`, and the same errors."""
        with _constant(self.critic):
            fake_logits = self.critic(self._generated(real))
            real_logits = self.critic(real) if self.game.relative else fake_logits.new_empty(0)
        loss = self.game.generator_loss(real_logits, fake_logits)
        return loss, {"generator_loss": loss.detach()}

    def _generated(self, real: Tensor) -> Tensor:
        fake: Tensor = self.model(len(real))
        if fake.shape != real.shape:
            raise ShapeError(
                f"The generator makes {tuple(fake.shape[1:])} but examples are {tuple(real.shape[1:])}. Build it for "
                "the shape of an example."
            )
        return fake


@contextmanager
def _constant(network: nn.Module) -> Iterator[None]:
    """Gradients pass through what is computed meanwhile, but none are computed for the network's weights."""
    learned = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in learned:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in learned:
            weight.requires_grad_(True)
