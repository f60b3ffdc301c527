"""Run by generative.py in an environment of pythae's: seconds of one epoch of its VAE, one line of answer per question.

    python pythae_speed.py DATA.npy BATCH HIDDEN LATENT

DATA.npy holds the examples, `(n, elements)` float32 of zeros and ones. The networks are those of the recipe
`gaussian_vae`: hidden layers of tanh units. Each line read is answered with the seconds of an epoch: a run of two
epochs less a run of one, so that set-up and saving do not count.
"""

import logging
import sys
import tempfile
import time
from itertools import pairwise

import numpy as np
import torch
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.pipelines import TrainingPipeline
from pythae.trainers import BaseTrainerConfig
from torch import nn

logging.disable(logging.WARNING)
data, batch, hidden, latent = np.load(sys.argv[1]), *map(int, sys.argv[2:5])


def layers(*sizes: int) -> nn.Sequential:
    """Linear layers, each with tanh."""
    return nn.Sequential(*(layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.Tanh())))


class Encoder(BaseEncoder):
    """Two hidden layers, means and log-variances."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = layers(data.shape[1], hidden, hidden)
        self.mean, self.log_variance = nn.Linear(hidden, latent), nn.Linear(hidden, latent)

    def forward(self, x: torch.Tensor) -> ModelOutput:
        h = self.layers(x)
        return ModelOutput(embedding=self.mean(h), log_covariance=self.log_variance(h))


class Decoder(BaseDecoder):
    """Two hidden layers, probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(layers(latent, hidden, hidden), nn.Linear(hidden, data.shape[1]), nn.Sigmoid())

    def forward(self, z: torch.Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.layers(z))


def seconds(epochs: int) -> float:
    """A whole run."""
    with tempfile.TemporaryDirectory() as folder:
        config = VAEConfig(input_dim=(data.shape[1],), latent_dim=latent, reconstruction_loss="bce")
        trainer = BaseTrainerConfig(
            output_dir=folder, num_epochs=epochs, per_device_train_batch_size=batch, learning_rate=1e-3, no_cuda=True,
        )  # fmt: skip
        pipeline = TrainingPipeline(model=VAE(config, encoder=Encoder(), decoder=Decoder()), training_config=trainer)
        began = time.perf_counter()
        pipeline(data)
        return time.perf_counter() - began


answers = sys.stdout
sys.stdout = sys.stderr  # its progress goes elsewhere
for _ in sys.stdin:
    print(seconds(2) - seconds(1), file=answers, flush=True)
