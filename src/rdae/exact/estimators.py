"""The exact models as scikit-learn estimators: fit, predict, transform, score, in pipelines and grid searches.

Data are arrays `(n_samples, n_features)`. A fitted estimator keeps its model of `rdae.exact` as `model_`, its run as
`lower_bounds_` (the bound before each step, nats per sample), `lower_bound_` (the last of them), `n_iter_` and
`converged_`. Draws follow `random_state`; PyTorch's own generator is left as it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rdae.errors import DataError, MissingExtraError
from rdae.exact.em import Fit, restart_em
from rdae.exact.factor import FactorAnalysis, ProbabilisticPCA
from rdae.exact.mixtures import BernoulliMixture, GaussianMixture, Mixture
from rdae.exact.model import ExactModel

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise MissingExtraError(
        f"Estimators need scikit-learn 1.6 or newer ({error}). Install it with: pip install 'rdae[train,measures]'"
    ) from error

__all__ = [
    "BernoulliMixtureEstimator", "FactorAnalysisEstimator", "GaussianMixtureEstimator", "ProbabilisticPCAEstimator",
]  # fmt: skip


@contextmanager
def _seeded(random_state: Any) -> Iterator[None]:
    """PyTorch's generator seeded from a scikit-learn random state, and restored after."""
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class _Estimator(DensityMixin, BaseEstimator):
    """What mixtures and factor models share."""

    model_: Any
    hard: bool
    tol: float
    max_iter: int
    n_init: int
    random_state: Any

    def _tensor(self, X: Any, reset: bool = False) -> Tensor:
        """X in float64, once it is known to be a finite table, and of the features fitted unless `reset`."""
        if not reset:
            check_is_fitted(self)
        return torch.tensor(validate_data(self, X, reset=reset, dtype=np.float64, ensure_min_samples=1 + reset))

    def _build(self, y: Tensor) -> ExactModel:
        raise NotImplementedError

    def fit(self, X: Any, y: Any = None) -> Any:
        """Fits the model; y is not looked at.

        Raises:
            ValueError: X is no finite table, or a parameter is out of range.
        """
        data = self._tensor(X, reset=True)
        with _seeded(self.random_state):
            self.model_ = self._build(data)
            self._keep(self._run(data))
        if not self.converged_:
            warnings.warn(
                f"EM stopped after max_iter={self.max_iter} steps while the bound still rose. Raise max_iter or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _run(self, data: Tensor) -> Fit:
        return restart_em(self.model_, data, starts=self.n_init, hard=self.hard, tol=self.tol, max_steps=self.max_iter)

    def _keep(self, fit: Fit) -> None:
        self.lower_bounds_ = fit.history
        self.lower_bound_ = fit.history[-1]
        self.n_iter_ = max(1, len(fit.history) - 1)
        self.converged_ = fit.converged

    @torch.no_grad()
    def score_samples(self, X: Any) -> np.ndarray:
        """ln p of each sample in nats, `(n_samples,)`."""
        y = self._tensor(X)
        return self.model_.log_prob(y).numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of `score_samples`, in nats per sample."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1) -> np.ndarray:
        """Draws from the model, `(n_samples, n_features)`; with an integer `random_state` always the same."""
        check_is_fitted(self)
        if n_samples < 1:
            raise DataError(f"There are no {n_samples} samples to draw. Pass n_samples=1 or more.")
        with _seeded(self.random_state):
            return self.model_.sample(n_samples).numpy()


def _floor(y: Tensor, share: float) -> float:
    """`share` of the root mean square of the features' standard deviations, or of 1 where data do not vary."""
    std = float(y.var(0, correction=0).mean().sqrt())
    return share * (std if std > 0 else 1.0)


class _MixtureEstimator(_Estimator):
    """What the mixtures share."""

    model_: Mixture

    def _keep(self, fit: Fit) -> None:
        super()._keep(fit)
        self.weights_ = self.model_.weights.detach().numpy()
        self.means_ = self.model_.components.means().detach().numpy()

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Fits, and returns the likeliest component of each sample."""
        return self.fit(X).predict(X)

    @torch.no_grad()
    def predict_proba(self, X: Any) -> np.ndarray:
        """p(component | sample), `(n_samples, n_components)`."""
        y = self._tensor(X)
        return self.model_.posterior(y).probs.numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest component of each sample, `(n_samples,)`."""
        return self.predict_proba(X).argmax(1)


class GaussianMixtureEstimator(_MixtureEstimator):
    """Mixture of Gaussians fitted by soft or hard EM.

    Differs from `sklearn.mixture.GaussianMixture` in that spreads have a floor instead of a term added to them, so that
    the bound never falls, in hard EM, and in the covariance "isotropic".

    Args:
        n_components: number of Gaussians.
        covariance_type: "full", "tied", "diag", "spherical" or "isotropic", see `GaussianComponents`.
        hard: hard EM.
        tol: a gain of the bound of this or less, nats per sample, ends a run.
        max_iter: steps at most.
        n_init: random starts, k-means++ each.
        min_std: floor of all spreads, in standard deviations of the data (root mean square over features).
        random_state: None, an integer or a NumPy random state.

    Attributes:
        weights_, means_, covariances_: `(K,)`, `(K, n_features)`, `(K, n_features, n_features)`.
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        hard: bool = False,
        tol: float = 1e-6,
        max_iter: int = 1000,
        n_init: int = 1,
        min_std: float = 1e-3,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.hard = hard
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.min_std = min_std
        self.random_state = random_state

    def _build(self, y: Tensor) -> GaussianMixture:
        return GaussianMixture(self.n_components, y.shape[1], self.covariance_type, _floor(y, self.min_std))

    def _keep(self, fit: Fit) -> None:
        super()._keep(fit)
        assert isinstance(self.model_, GaussianMixture)
        self.covariances_ = self.model_.components.covariances().detach().numpy()

    def bic(self, X: Any) -> float:
        """Bayesian information criterion in nats, lower is better: `k ln n - 2 ln p(X)`, k free parameters."""
        n = len(X)
        return self._parameters() * float(np.log(n)) - 2 * n * self.score(X)

    def aic(self, X: Any) -> float:
        """Akaike's information criterion in nats, lower is better: `2 k - 2 ln p(X)`."""
        return 2 * self._parameters() - 2 * len(X) * self.score(X)

    def _parameters(self) -> int:
        check_is_fitted(self)
        components, features = self.means_.shape
        triangle = features * (features + 1) // 2
        spreads = {
            "isotropic": 1, "spherical": components, "diag": components * features, "tied": triangle,
            "full": components * triangle,
        }  # fmt: skip
        return components - 1 + components * features + spreads[self.covariance_type]


class BernoulliMixtureEstimator(_MixtureEstimator):
    """Mixture of independent binary features fitted by soft or hard EM.

    Args:
        binarize: features above it count as 1, as in `sklearn.naive_bayes.BernoulliNB`; None: X is binary already.
        n_components, hard, tol, max_iter, n_init, random_state: as for `GaussianMixtureEstimator`.

    Attributes:
        weights_, means_: `(K,)`, `(K, n_features)`; means are probabilities of 1.
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        binarize: float | None = 0.0,
        hard: bool = False,
        tol: float = 1e-6,
        max_iter: int = 1000,
        n_init: int = 1,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.binarize = binarize
        self.hard = hard
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.random_state = random_state

    def _tensor(self, X: Any, reset: bool = False) -> Tensor:
        y = super()._tensor(X, reset)
        return y if self.binarize is None else (y > self.binarize).double()

    def _build(self, y: Tensor) -> BernoulliMixture:
        return BernoulliMixture(self.n_components, y.shape[1])


class _FactorEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _Estimator):
    """What the factor models share."""

    model_: FactorAnalysis

    def _keep(self, fit: Fit) -> None:
        super()._keep(fit)
        with torch.no_grad():
            self.mean_ = self.model_.mean.numpy().copy()
            self.components_ = self.model_.weight.T.numpy().copy()
            self.noise_variance_ = self.model_.std.square().numpy().copy()

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    @torch.no_grad()
    def transform(self, X: Any) -> np.ndarray:
        """Posterior mean of the latent variables, `(n_samples, n_components)`."""
        y = self._tensor(X)
        return self.model_.posterior(y).mean.numpy()

    def inverse_transform(self, X: Any) -> np.ndarray:
        """`mean + W z`, `(n_samples, n_features)`, of latents `(n_samples, n_components)`."""
        check_is_fitted(self)
        return self.mean_ + np.asarray(X) @ self.components_

    def get_covariance(self) -> np.ndarray:
        """Covariance of the model, `(n_features, n_features)`."""
        check_is_fitted(self)
        return self.components_.T @ self.components_ + np.diag(self.noise_variance_)

    def get_precision(self) -> np.ndarray:
        """Inverse of `get_covariance`."""
        return np.linalg.inv(self.get_covariance())


class FactorAnalysisEstimator(_FactorEstimator):
    """Factor analysis fitted by EM.

    Args:
        n_components: number of latent variables.
        hard: hard EM; see `FactorAnalysis` for what it does.
        tol, max_iter, n_init, min_std, random_state: as for `GaussianMixtureEstimator`.

    Attributes:
        components_, mean_, noise_variance_: `(n_components, n_features)`, `(n_features,)`, `(n_features,)`.
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        hard: bool = False,
        tol: float = 1e-6,
        max_iter: int = 1000,
        n_init: int = 1,
        min_std: float = 1e-3,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.hard = hard
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.min_std = min_std
        self.random_state = random_state

    def _build(self, y: Tensor) -> FactorAnalysis:
        return FactorAnalysis(y.shape[1], self.n_components, _floor(y, self.min_std))


class ProbabilisticPCAEstimator(_FactorEstimator):
    """Probabilistic PCA at its greatest likelihood, in closed form.

    Args:
        n_components: number of latent variables.
        min_std: smallest standard deviation of the noise, as for `GaussianMixtureEstimator`.
        random_state: of `sample`.

    Attributes:
        components_, mean_, noise_variance_: as for `FactorAnalysisEstimator`; all noise variances are equal.
    """

    def __init__(self, n_components: int = 1, *, min_std: float = 1e-3, random_state: Any = None) -> None:
        self.n_components = n_components
        self.min_std = min_std
        self.random_state = random_state

    def _build(self, y: Tensor) -> ProbabilisticPCA:
        return ProbabilisticPCA(y.shape[1], self.n_components, _floor(y, self.min_std))

    def _run(self, data: Tensor) -> Fit:
        assert isinstance(self.model_, ProbabilisticPCA)
        self.model_.fit_closed_form(data)
        with torch.no_grad():
            return Fit([float(self.model_.log_prob(data).mean())], True)
