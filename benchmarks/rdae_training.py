"""Run by training_steps.py: the package's training loop on a hyperprior, answering as compressai_training.py does.

    python rdae_training.py NETWORK BATCH SIDE

NETWORK is `equal`, the layers of CompressAI's bmshj2018-hyperprior as encoder, prior and decoder of the package's
autoencoder, or `recipe`, the package's own network of the recipe `hyperprior` with as many channels.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from one_batch import TURNS, OneBatch, train_for_ever
from step_facts import step_facts
from torch import Tensor, nn

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import Channel, Coded, Mixed, UniformNoise
from rdae.networks.convolutional import ConvolutionalDecoder, ConvolutionalEncoder, typical_spread
from rdae.priors.factorised import FactorisedPrior, unit_bin_log_mass
from rdae.priors.hyperprior import Hyperprior
from rdae.recipes.hyperprior import hyperprior
from rdae.training.codec_recipe import CodecRecipe
from rdae.training.recipe import Step

N, M = 128, 192  # channels of the hidden layers, and of the latent
SCALE_MIN = 0.11
PEDESTAL = 2.0**-36


class Normalisation(nn.Module):
    """`x / sqrt(beta + gamma x**2)`, or times it (Balle, Laparra & Simoncelli 2016); no part of the package.

    Args:
        channels: `(B, channels, H, W)` keeps its shape.
        inverse: times in place of divided by.
    """

    def __init__(self, channels: int, *, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.sqrt(torch.ones(channels) + PEDESTAL))
        self.gamma = nn.Parameter(torch.sqrt(0.1 * torch.eye(channels) + PEDESTAL))

    def forward(self, x: Tensor) -> Tensor:
        beta = self.beta.clamp_min(math.sqrt(1e-6 + PEDESTAL)).square() - PEDESTAL
        gamma = self.gamma.clamp_min(math.sqrt(PEDESTAL)).square() - PEDESTAL
        squared = F.conv2d(x.square(), gamma[..., None, None], beta)
        return x * (squared.sqrt() if self.inverse else squared.rsqrt())


def down(inputs: int, outputs: int) -> nn.Module:
    """5 x 5, stride 2."""
    return nn.Conv2d(inputs, outputs, 5, stride=2, padding=2)


def up(inputs: int, outputs: int) -> nn.Module:
    """5 x 5, transposed, stride 2."""
    return nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1)


class Layers(nn.Sequential):
    """Layers that need not be told lam."""

    def forward(self, x: Tensor, lam: Tensor) -> Tensor:
        return super().forward(x)


class ScaleHyperprior(nn.Module):
    """A summary tells the scale of each symbol; as `rdae.priors.hyperprior`, with float networks and no means."""

    def __init__(self) -> None:
        super().__init__()
        self.analysis = nn.Sequential(nn.Conv2d(M, N, 3, padding=1), nn.ReLU(), down(N, N), nn.ReLU(), down(N, N))
        self.synthesis = nn.Sequential(up(N, N), nn.ReLU(), up(N, N), nn.ReLU(), nn.Conv2d(N, M, 3, padding=1))
        self.summary = FactorisedPrior(torch.full((N,), 4.0), slope=0.0)

    def forward(self, z: Tensor, channel: Channel, lam: Tensor) -> Coded:
        summary = self.summary(self.analysis(z.abs()), channel, lam)
        scale = F.relu(self.synthesis(summary.latent)).clamp_min(SCALE_MIN)
        sent = channel(z)
        nats = -unit_bin_log_mass(sent.rate, torch.zeros(()), scale, "gaussian")
        return Coded(sent.decoder, summary.rate + nats.sum((1, 2, 3)))


def equal() -> RateDistortionAutoencoder:
    """CompressAI's layers."""
    encoder = Layers(
        down(3, N), Normalisation(N), down(N, N), Normalisation(N), down(N, N), Normalisation(N), down(N, M)
    )
    turns = (Normalisation(N, inverse=True) for _ in range(3))
    decoder = Layers(up(M, N), next(turns), up(N, N), next(turns), up(N, N), next(turns), up(N, 3))
    return RateDistortionAutoencoder(encoder, ScaleHyperprior(), decoder, UniformNoise())


def own() -> RateDistortionAutoencoder:
    """The recipe's network with N, N, N and M channels at strides 2, 4, 8 and 16."""
    widths = N, N, N, M
    return RateDistortionAutoencoder(
        ConvolutionalEncoder(widths),
        Hyperprior(typical_spread(2 ** len(widths)), width=N),
        ConvolutionalDecoder(widths),
        Mixed(),
    )


NETWORKS = {"equal": equal, "recipe": own}


@dataclass(frozen=True, kw_only=True)
class Repeated(CodecRecipe):
    """A codec's recipe whose pictures are in memory."""

    blocks: OneBatch

    def batches(self, data: Path, *, seed: int, rank: int, world: int) -> OneBatch:  # type: ignore[override]
        return self.blocks


def main() -> None:
    """Counts, then answers."""
    network, batch, side = NETWORKS[sys.argv[1]], int(sys.argv[2]), int(sys.argv[3])
    torch.manual_seed(0)
    pixels = torch.randint(256, (batch, 3, side, side), dtype=torch.uint8)
    plain = replace(hyperprior(steps=TURNS, batch=batch, size=side, learning_rate=1e-4), model=network)
    model = plain.model().train()
    facts = step_facts(model, lambda: plain.loss(model, pixels, Step(0, 0, slice(None)))[0])
    train_for_ever(Repeated(**{**vars(plain), "blocks": OneBatch(pixels, facts)}))


if __name__ == "__main__":
    main()
