"""Factor analysis and probabilistic principal component analysis: linear Gaussian models."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, LowRankMultivariateNormal, MultivariateNormal, Normal

from rdae.errors import ModelError, ShapeError
from rdae.exact.model import ExactModel, PointMass, at_least_one, check_finite, read

__all__ = ["FactorAnalysis", "ProbabilisticPCA"]

LOG_TWO_PI = math.log(2 * math.pi)


class FactorAnalysis(ExactModel):
    """`y = mean + W z + std * noise`, z ~ N(0, I), noise ~ N(0, I), one standard deviation a feature.

    A feature that latents explain without error would get the standard deviation 0 and an infinite density (a Heywood
    case): none is let below `min_std`, and since the best W does not depend on it, the M-step stays exact.

    Hard EM takes z at its posterior mean. Its bound rises without ever settling: W grows and z shrinks, for a density
    of z at one point is no code length. With one standard deviation for all features the columns of W still come to
    span the leading principal components.

    Args:
        features: length of an example.
        latent: number of latent variables.
        min_std: smallest standard deviation of the noise, in units of y.
    """

    def __init__(self, features: int, latent: int, min_std: float = 1e-3) -> None:
        super().__init__()
        if not 0 < min_std < math.inf:
            raise ModelError(f"min_std is {min_std}, but must be positive and finite. Pass a small part of the data's.")
        self.features, self.latent = at_least_one(features, "features"), at_least_one(latent, "latent variables")
        self.min_std = min_std
        self.weight = nn.Parameter(torch.zeros(features, latent).double())
        self.mean = nn.Parameter(torch.zeros(features).double())
        self.log_std = nn.Parameter(torch.zeros(self._noise_shape()).double())

    def _noise_shape(self) -> tuple[int, ...]:
        return (self.features,)

    def _noise_variance(self, square: Tensor) -> Tensor:
        """The best variances of the noise, given the mean squared residual of each feature."""
        return square

    @classmethod
    def of(cls, weight: Tensor, mean: Tensor, std: Tensor | float) -> FactorAnalysis:
        """The model with these parameters.

        Args:
            weight: W, `(features, latent)`.
            mean: `(features,)`.
            std: of the noise, one number or `(features,)`.

        Raises:
            ShapeError: they do not fit together.
        """
        model = cls(*weight.shape)
        spread = torch.as_tensor(std, dtype=torch.float64)
        if mean.shape != model.mean.shape or spread.shape not in (torch.Size(), model.log_std.shape):
            raise ShapeError(
                f"W is {tuple(weight.shape)}, mean {tuple(mean.shape)} and std {tuple(spread.shape)}. {cls.__name__} "
                f"needs a mean {tuple(model.mean.shape)} and a std () or {tuple(model.log_std.shape)} for this W."
            )
        with torch.no_grad():
            model.weight.copy_(weight)
            model.mean.copy_(mean)
            model.log_std.copy_(spread.log().expand_as(model.log_std))
        return model

    @property
    def std(self) -> Tensor:
        """Standard deviation of the noise of each feature, `(features,)`."""
        return self.log_std.exp().expand(self.features)

    def marginal(self) -> LowRankMultivariateNormal:
        """p(y) = N(mean, W W^T + diag(std^2))."""
        return LowRankMultivariateNormal(self.mean, self.weight, self.std.square(), validate_args=False)

    def prior(self) -> Distribution:
        zero = torch.zeros(self.latent, dtype=torch.float64)
        return Independent(Normal(zero, torch.ones_like(zero), validate_args=False), 1, validate_args=False)

    def precision(self) -> Tensor:
        """Inverse covariance of the posterior, `I + W^T diag(std^-2) W`, `(latent, latent)`: the same for every y."""
        scaled = self.weight / self.std[:, None]
        return torch.eye(self.latent, dtype=torch.float64) + scaled.T @ scaled

    def posterior(self, y: Tensor) -> MultivariateNormal:
        y = read(y, (self.features,), self)
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(self.precision()))
        mean = (y - self.mean) / self.std.square() @ self.weight @ covariance
        return MultivariateNormal(mean, scale_tril=torch.linalg.cholesky(covariance), validate_args=False)

    def log_prob(self, y: Tensor) -> Tensor:
        return self.marginal().log_prob(read(y, (self.features,), self))

    def log_joint(self, y: Tensor, z: Tensor) -> Tensor:
        likelihood = Normal(self.mean + z @ self.weight.T, self.std, validate_args=False)
        return self.prior().log_prob(z) + likelihood.log_prob(read(y, (self.features,), self)).sum(-1)

    def expected_log_prior(self, q: Distribution) -> Tensor:
        second = q.mean.square().sum(-1) + q.variance.sum(-1)
        return -0.5 * (second + self.latent * LOG_TWO_PI)

    def expected_log_likelihood(self, y: Tensor, q: Distribution) -> Tensor:
        y = read(y, (self.features,), self)
        mean, covariance = moments(q)
        residual = ((y - self.mean - mean @ self.weight.T) / self.std).square().sum(-1)
        scaled = self.weight / self.std[:, None]
        spread = (covariance * (scaled.T @ scaled)).sum((-2, -1))
        return -0.5 * (residual + spread + self.features * LOG_TWO_PI) - self.std.log().sum()

    @torch.no_grad()
    def m_step(self, y: Tensor, q: Distribution) -> None:
        y = read(y, (self.features,), self)
        z, covariance = moments(q)
        spread = covariance.sum(0)
        self._learn_map(y, z, spread)
        if self.log_std.requires_grad:
            square = (y - self.mean - z @ self.weight.T).square().sum(0)
            square = (square + ((self.weight @ spread) * self.weight).sum(1)) / len(y)
            self.log_std.copy_(0.5 * self._noise_variance(square).clamp_min(self.min_std**2).log())

    def _learn_map(self, y: Tensor, z: Tensor, spread: Tensor) -> None:
        """W and mean by regression of y on z; a direction in which no latent varies gets no weight."""
        learns_mean, learns_weight = self.mean.requires_grad, self.weight.requires_grad
        if learns_weight:
            centre_z = z.mean(0) if learns_mean else torch.zeros_like(z[0])
            centre_y = y.mean(0) if learns_mean else self.mean
            centred = z - centre_z
            second = centred.T @ centred + spread
            self.weight.copy_((y - centre_y).T @ centred @ torch.linalg.pinv(second, hermitian=True))
        if learns_mean:
            self.mean.copy_((y - z @ self.weight.T).mean(0))

    @torch.no_grad()
    def start(self, y: Tensor) -> None:
        """The mean of the data, a random W that explains half of the variance, noise for the other half."""
        y = read(y, (self.features,), self)
        std = y.std(0, correction=0).clamp_min(self.min_std)
        if self.mean.requires_grad:
            self.mean.copy_(y.mean(0))
        if self.weight.requires_grad:
            self.weight.copy_(std[:, None] * torch.randn_like(self.weight) / math.sqrt(2 * self.latent))
        if self.log_std.requires_grad:
            self.log_std.copy_(0.5 * self._noise_variance(std.square() / 2).clamp_min(self.min_std**2).log())

    def check(self, y: Tensor) -> None:
        check_finite(read(y, (self.features,), self))

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        return self.marginal().sample((count,))


def moments(q: Distribution) -> tuple[Tensor, Tensor]:
    """Mean `(n, latent)` and covariance `(n, latent, latent)` of each example's law."""
    if isinstance(q, MultivariateNormal):
        factor = q.scale_tril
        if factor.stride(0) == 0:  # one factor shown n times: one product will do
            return q.mean, (factor[0] @ factor[0].mT).expand_as(factor)
        return q.mean, factor @ factor.mT
    if isinstance(q, LowRankMultivariateNormal):
        return q.mean, q.covariance_matrix
    if isinstance(q, PointMass | Independent):
        return q.mean, torch.diag_embed(q.variance)
    raise ModelError(f"Moments of a {type(q).__name__} are not known. Use a Gaussian or a PointMass.")


class ProbabilisticPCA(FactorAnalysis):
    """Factor analysis with one standard deviation for all features (Tipping & Bishop 1999); a linear VAE.

    Arguments as for `FactorAnalysis`.
    """

    def _noise_shape(self) -> tuple[int, ...]:
        return ()

    def _noise_variance(self, square: Tensor) -> Tensor:
        return square.mean()

    @torch.no_grad()
    def fit_closed_form(self, y: Tensor) -> Tensor:
        """Sets the parameters to those of the greatest likelihood.

        The noise variance is the mean of the eigenvalues left out, and `W = U (L - std^2)^(1/2)`. Where the standard
        deviation is frozen, or its least value is reached, the column of an eigenvalue below its square is zero: that
        latent variable is *collapsed*, its posterior is its prior.

        Args:
            y: `(n, features)`.

        Returns:
            Eigenvalues of the covariance of the data, falling, `(features,)`; the first `latent` belong to W.
        """
        self.check(y)
        y = read(y, (self.features,), self)
        if not (self.mean.requires_grad and self.weight.requires_grad):
            raise ModelError("The closed form is one of mean and W together, but one of them is frozen. Use fit_em.")
        self.mean.copy_(y.mean(0))
        centred = y - self.mean
        value, vector = torch.linalg.eigh(centred.T @ centred / len(y))
        value, vector = value.flip(0).clamp_min(0), vector.flip(1)
        if self.log_std.requires_grad:
            left = value[self.latent :]
            variance = left.mean() if len(left) else value.new_zeros(())
            self.log_std.copy_(0.5 * variance.clamp_min(self.min_std**2).log())
        kept = min(self.latent, self.features)
        self.weight.zero_()
        gain = (value[:kept] - torch.exp(2 * self.log_std)).clamp_min(0).sqrt()
        self.weight[:, :kept] = vector[:, :kept] * gain
        return value
