"""Seconds of annealed importance sampling, and the rate of importance sampling against that of bare matrix products.

    python benchmarks/likelihood.py [--temperatures 1000] [--images 100] [--model FILE] [--json FILE]

The model is a Gaussian VAE with dense networks (784-200-200-50, tanh) and Bernoulli pixels: untrained, or from a file
that `rdae train` wrote. Its cost does not depend on weights or data. Fewer temperatures or images are measured in
less time; the figure is scaled to 1,000 and 100, of which the cost is a multiple. Wall time and time of the processor
are both told: on a machine that does other things too, the second is the one to look at.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.channels import GaussianChannel
from rdae.likelihoods import Bernoulli
from rdae.measures.annealing import (
    SETTLING,
    TUNED_EVERY,
    TUNED_LEAST,
    annealed_log_evidence,
    sigmoid_ladder,
)
from rdae.measures.likelihood import log_evidence
from rdae.networks.dense import DenseDecoder, DenseEncoder
from rdae.priors.latent import StandardNormalPrior
from rdae.recipes.model_file import open_model

EVENT, LATENT, HIDDEN = (1, 28, 28), 50, (200, 200)
CHAINS, LEAPFROG, TEMPERATURES, IMAGES = 16, 10, 1000, 100
SAMPLES, ALL = 5000, 10_000


class Seconds(NamedTuple):
    """Of one call."""

    wall: float
    processor: float  # summed over threads


def timed(call: Callable[[], object]) -> Seconds:
    """How long a call takes."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return Seconds(time.perf_counter() - wall, time.process_time() - processor)


def untrained() -> NoisyChannelAutoencoder:
    """The model with the weights it starts with."""
    torch.manual_seed(0)
    channel = GaussianChannel(LATENT)
    return NoisyChannelAutoencoder(
        DenseEncoder(EVENT, channel.features, HIDDEN), channel, StandardNormalPrior(LATENT),
        DenseDecoder(EVENT, LATENT, HIDDEN), Bernoulli(),
    )  # fmt: skip


def products(decoder: nn.Module) -> float:
    """Multiplications and additions of one pass of one latent through the decoder."""
    return sum(2.0 * layer.weight.numel() for layer in decoder.modules() if isinstance(layer, nn.Linear))


def machine_rate(decoder: nn.Module, rows: int = 4000, rounds: int = 20) -> Seconds:
    """Operations a second of bare products of the shapes of the decoder, by wall time and by processor time."""
    weights = [layer.weight.detach().T for layer in decoder.modules() if isinstance(layer, nn.Linear)]
    inputs = [torch.randn(rows, weight.shape[0]) for weight in weights]
    outputs = [torch.empty(rows, weight.shape[1]) for weight in weights]

    def run() -> None:
        for _ in range(rounds):
            for x, weight, out in zip(inputs, weights, outputs, strict=True):
                torch.mm(x, weight, out=out)

    run()
    best = min((timed(run) for _ in range(3)), key=lambda seconds: seconds.processor)
    operations = rounds * rows * products(decoder)
    return Seconds(operations / best.wall, operations / best.processor)


def moves(temperatures: int) -> int:
    """Trajectories of a chain, those of tuning counted."""
    return temperatures + SETTLING + max(TUNED_LEAST, temperatures // TUNED_EVERY)


def annealing(model: NoisyChannelAutoencoder, y: Tensor, temperatures: int) -> Seconds:
    """Seconds for 100 images and 1,000 temperatures, tuning of the steps counted."""
    taken = timed(lambda: annealed_log_evidence(
        model, y, sigmoid_ladder(temperatures), chains=CHAINS, leapfrog=LEAPFROG
    ))  # fmt: skip
    scale = moves(TEMPERATURES) / moves(temperatures) * IMAGES / len(y)
    return Seconds(taken.wall * scale, taken.processor * scale)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--temperatures", type=int, default=TEMPERATURES)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    model = (open_model(arguments.model).model if arguments.model else untrained()).eval()
    y = torch.bernoulli(torch.full((arguments.images, *EVENT), 0.3))
    decoder = model.decoder
    threads = torch.get_num_threads()
    log_evidence(model, y[:2], 1000)  # what is done once in a process is done
    machine = machine_rate(decoder)
    taken = timed(lambda: log_evidence(model, y, SAMPLES))
    operations = len(y) * SAMPLES * products(decoder)
    share = Seconds(operations / taken.wall / machine.wall, operations / taken.processor / machine.processor)
    annealed = annealing(model, y, arguments.temperatures)
    print(f"{threads} threads; bare products: {machine.processor / 1e9:.0f} GFLOP/s of processor time")
    print(f"importance sampling, {SAMPLES} samples: {taken.wall / len(y):.3f} s an image, "
          f"{ALL / len(y) * taken.wall / 60:.0f} min for {ALL:,}; {share.processor:.0%} of the rate of bare products "
          f"({share.wall:.0%} by wall time)")  # fmt: skip
    print(f"annealing, {IMAGES} images x {TEMPERATURES} temperatures x {CHAINS} chains x {LEAPFROG} leapfrog steps: "
          f"{annealed.wall:.0f} s, {annealed.processor:.0f} s of processor time "
          f"(measured with {arguments.temperatures} temperatures and {arguments.images} images)")  # fmt: skip
    if arguments.json:
        said = {
            "threads": threads, "measured_temperatures": arguments.temperatures, "measured_images": arguments.images,
            "products_per_second": machine._asdict(), "importance_seconds": taken._asdict(),
            "importance_share_of_products": share._asdict(), "annealing_seconds": annealed._asdict(),
        }  # fmt: skip
        arguments.json.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
