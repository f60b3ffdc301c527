"""Several stochastic layers: the ladder variational autoencoder, made of the same channels, priors and likelihoods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.func import functional_call

from rdae.autoencoder import Output, shown
from rdae.channels import GaussianChannel
from rdae.distortions import Distortion
from rdae.errors import ModelError, ShapeError
from rdae.generating import tempered
from rdae.likelihoods import Likelihood
from rdae.objectives import LogJoint, Terms, divergence
from rdae.priors.latent import LatentPrior

__all__ = ["LadderAutoencoder", "merged"]


def merged(message: Distribution, prior: Distribution) -> Distribution:
    """The product of two independent Gaussians per element, normalised: precisions add, means are weighted by them.

    What the data say of a latent, joined with what the layer above expects of it (Sonderby et al. 2016,
    arXiv:1602.02282).
    """
    first, second = (cast(Normal, cast(Independent, law).base_dist) for law in (message, prior))
    a, b = first.scale.pow(-2), second.scale.pow(-2)
    mean = (a * first.loc + b * second.loc) / (a + b)
    return Independent(Normal(mean, (a + b).rsqrt(), validate_args=False), mean.ndim - 1, validate_args=False)


def _constant(law: Distribution) -> Distribution:
    base = cast(Normal, cast(Independent, law).base_dist)
    held = Normal(base.loc.detach(), base.scale.detach(), validate_args=False)
    return Independent(held, base.loc.ndim - 1, validate_args=False)


class LadderAutoencoder(nn.Module):
    """`p(z_L) ... p(z_1 | z_2) p(y | z_1)`, with a posterior that walks down the same ladder.

    Layer 1 is nearest to the data. The encoder goes up without noise; then, from the top down, each layer's law given
    the one above is merged with what the encoder says of it.

    Args:
        encoders: `encoders[0]` maps y to h_1, `encoders[l]` maps h_l to h_(l+1); vectors.
        heads: `heads[l]` maps h_(l+1) to the `2 * sizes[l]` numbers of that layer's channel.
        sizes: latent variables of each layer, from the data up.
        prior: of the top layer.
        conditionals: `conditionals[l]` maps z_(l+2) to the `2 * sizes[l]` numbers of p(z_(l+1) | z_(l+2)).
        decoder: `z_1 -> out`.
        distortion: as for `NoisyChannelAutoencoder`.
    """

    def __init__(
        self,
        encoders: Sequence[nn.Module],
        heads: Sequence[nn.Module],
        sizes: Sequence[int],
        prior: LatentPrior,
        conditionals: Sequence[nn.Module],
        decoder: nn.Module,
        distortion: Distortion,
    ) -> None:
        super().__init__()
        layers = len(sizes)
        if layers < 2 or (len(encoders), len(heads), len(conditionals)) != (layers, layers, layers - 1):
            raise ShapeError(
                f"A ladder of {layers} layers needs two or more of them, as many encoders and heads, and one "
                f"conditional fewer; it got {len(encoders)}, {len(heads)} and {len(conditionals)}."
            )
        self.encoders, self.heads, self.conditionals = map(nn.ModuleList, (encoders, heads, conditionals))
        self.channels = nn.ModuleList(GaussianChannel(size) for size in sizes)
        self.prior, self.decoder = prior, decoder
        self.distortion: Any = distortion
        self.sizes = tuple(sizes)
        self.units = sum(sizes)

    def messages(self, y: Tensor) -> list[Distribution]:
        """What the data alone say of each layer, from the data up."""
        laws, h = [], y
        for encoder, head, channel in zip(self.encoders, self.heads, self.channels, strict=True):
            h = encoder(h)
            laws.append(channel(head(h)))
        return laws

    def descent(
        self, messages: list[Distribution], *, mean: bool = False
    ) -> list[tuple[Distribution, Distribution, Tensor]]:
        """Posterior, prior and draw (or mean) of each layer, from the top down."""
        top = messages[-1]
        z = top.mean if mean else top.rsample()
        walk: list[tuple[Distribution, Distribution, Tensor]] = [(top, self.prior(), z)]
        for layer in reversed(range(len(messages) - 1)):
            expected = self.expected(layer, z)
            law = merged(messages[layer], expected)
            z = law.mean if mean else law.rsample()
            walk.append((law, expected, z))
        return walk

    def expected(self, layer: int, above: Tensor) -> Distribution:
        """p(z of a layer | z of the layer above); layer 0 is nearest to the data."""
        return self.channels[layer](self.conditionals[layer](above))

    def forward(self, y: Tensor, lam: Tensor | float = 1.0) -> Output:
        """The decoder's output and both terms; the rate is the sum over layers, each in closed form."""
        walk = self.descent(self.messages(y))
        rate = torch.stack([divergence(q, p, z) for q, p, z in walk]).sum(0)
        z = walk[-1][2]
        out = self.decoder(z)
        return Output(out, Terms(rate, self.distortion(y, out)), [z for _, _, z in walk])

    def log_joint(self, y: Tensor, samples: int = 1, *, frozen: bool = False, pathwise: bool = True) -> LogJoint:
        """Log-densities at `samples` walks down the ladder; arguments as for `NoisyChannelAutoencoder.log_joint`.

        The conditionals serve p and q both. With `frozen` only their part in q is held; the joint latent of all layers
        still carries gradients, which makes the doubly reparameterised bound unbiased here too (Bauer & Mnih 2021,
        arXiv:2101.11046).

        Raises:
            ModelError: the distortion is no likelihood.
        """
        if not isinstance(self.distortion, Likelihood):
            raise ModelError("Importance weights need p(y | z), but the distortion is no likelihood.")
        repeated = y.expand(samples, *y.shape).flatten(0, 1)
        messages = self.messages(repeated)
        drawn = torch.cat([z for _, _, z in self.descent(messages)], 1)
        latent = (drawn if pathwise else drawn.detach()).unflatten(0, (samples, -1))
        layers = latent.flatten(0, 1).split(self.sizes[::-1], 1)
        prior, posterior = self._densities(messages, layers, frozen)
        likelihood = -self.distortion(repeated, self.decoder(layers[-1]))
        likelihood, prior, posterior = (x.unflatten(0, (samples, -1)) for x in (likelihood, prior, posterior))
        return LogJoint(likelihood, prior, posterior, latent)

    def _densities(self, messages: list[Distribution], layers: Sequence[Tensor], frozen: bool) -> tuple[Tensor, Tensor]:
        """ln p and ln q of latents given from the top down; `frozen` keeps gradients of parameters out of ln q."""
        said = [_constant(law) for law in messages] if frozen else messages
        prior, posterior = self.prior().log_prob(layers[0]), said[-1].log_prob(layers[0])
        for layer, above, z in zip(reversed(range(len(layers) - 1)), layers, layers[1:], strict=False):
            expected = self.expected(layer, above)
            held = self._held(layer, above) if frozen else expected
            prior = prior + expected.log_prob(z)
            posterior = posterior + merged(said[layer], held).log_prob(z)
        return prior, posterior

    def _held(self, layer: int, above: Tensor) -> Distribution:
        """`expected` as a function of the layer above alone: its parameters are constants."""
        net = self.conditionals[layer]
        constants = {name: value.detach() for name, value in net.named_parameters()}
        return self.channels[layer](functional_call(net, constants, (above,)))

    def latent_means(self, y: Tensor) -> Tensor:
        """Posterior means of all units, each layer given the means above, `(batch, units)`."""
        return torch.cat([z for _, _, z in self.descent(self.messages(y), mean=True)], 1)

    def shown(self, out: Tensor) -> Tensor:
        """What the decoder's output looks like as data."""
        return shown(self.distortion, out)

    @torch.no_grad()
    def sample(self, count: int, *, temperature: float = 1.0) -> Tensor:
        """Generates from the top of the ladder down; noise is multiplied by the temperature in every layer.

        Args:
            count: how many.
            temperature: of the latents, see `rdae.generating.tempered`.
        """
        z = tempered(self.prior(), count, temperature)
        for layer in reversed(range(len(self.conditionals))):
            law = cast(Normal, cast(Independent, self.expected(layer, z)).base_dist)
            z = law.loc + temperature * law.scale * torch.randn_like(law.loc)
        return self.shown(self.decoder(z))

    @torch.no_grad()
    def reconstruct(self, y: Tensor) -> Tensor:
        """Each example up and down the ladder at the means."""
        return self.shown(self.decoder(self.descent(self.messages(y), mean=True)[-1][2]))
