"""Linear Gaussian models as autoencoders: a linear VAE about which everything is known."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.channels.gaussian import LOG_STD_MIN, FullGaussianChannel, GaussianChannel
from rdae.errors import ModelError
from rdae.exact.factor import FactorAnalysis
from rdae.likelihoods import Gaussian, Rescaled
from rdae.priors.latent import StandardNormalPrior

__all__ = ["collapsed", "diagonal_gap", "linear_autoencoder"]


@torch.no_grad()
def linear_autoencoder(model: FactorAnalysis, *, diagonal: bool = False) -> NoisyChannelAutoencoder:
    """The same model as an autoencoder whose encoder is the exact posterior, in float64.

    What measures on neural models report of it (ln p(y), rates, bounds, active units) can be held against `model`.

    Args:
        model: factor analysis or probabilistic PCA.
        diagonal: with the best posterior of independent latent variables in place of the exact one; its bound is
            `diagonal_gap` below ln p(y).

    Raises:
        ModelError: a posterior is narrower than any that a channel allows.
    """
    precision = model.precision()
    gain = torch.linalg.solve(precision, (model.weight / model.std.square()[:, None]).T)  # (latent, features)
    channel: FullGaussianChannel | GaussianChannel
    if diagonal:
        channel = GaussianChannel(model.latent)
        log_std, below = -0.5 * precision.diagonal().log(), gain.new_zeros(0)
    else:
        channel = FullGaussianChannel(model.latent).double()
        factor = torch.linalg.cholesky(torch.linalg.inv(precision))
        log_std, below = factor.diagonal().log(), factor[channel.rows, channel.columns]
    if float(log_std.min()) < LOG_STD_MIN:
        raise ModelError(
            f"A posterior standard deviation is e^{float(log_std.min()):.1f}, but channels stop at e^{LOG_STD_MIN:g}. "
            "Raise the noise of the model, or scale W down."
        )
    encoder = nn.Linear(model.features, channel.features).double()
    encoder.weight.zero_()
    encoder.weight[: model.latent] = gain
    encoder.bias.copy_(torch.cat([-gain @ model.mean, log_std, below]))
    decoder = nn.Linear(model.latent, model.features).double()
    decoder.weight.copy_(model.weight)
    decoder.bias.copy_(model.mean)
    # y / std has unit noise: one likelihood for one spread and for many
    likelihood = Rescaled(Gaussian(1.0), torch.zeros_like(model.mean), model.std)
    return NoisyChannelAutoencoder(
        encoder, channel, StandardNormalPrior(model.latent).double(), _Divided(decoder, model.std), likelihood
    )


class _Divided(nn.Module):
    """A decoder whose output is divided by `std`, for a likelihood of `y / std`."""

    std: Tensor

    def __init__(self, decoder: nn.Module, std: Tensor) -> None:
        super().__init__()
        self.decoder = decoder
        self.register_buffer("std", std.detach().clone())

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(z) / self.std


@torch.no_grad()
def diagonal_gap(model: FactorAnalysis) -> float:
    """KL in nats from the best posterior of independent latent variables to the exact one; the same for every y.

    `(sum_j ln P_jj - ln det P) / 2` for the posterior precision P; zero exactly if `W^T diag(std^-2) W` is diagonal.
    """
    precision = model.precision()
    return float(0.5 * (precision.diagonal().log().sum() - torch.logdet(precision)))


@torch.no_grad()
def collapsed(model: FactorAnalysis, tolerance: float = 1e-6) -> int:
    """Number of latent directions whose posterior is the prior: eigenvalues of `W^T diag(std^-2) W` near zero.

    In a fitted linear VAE these are the directions whose data eigenvalue is not above the noise variance.
    """
    signal = torch.linalg.eigvalsh(model.precision()) - 1
    return int((signal < tolerance).sum())
