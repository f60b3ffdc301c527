"""Exact models as scikit-learn estimators: its own checks, its own mixture and factor models as oracles."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sklearn = pytest.importorskip("sklearn", minversion="1.6")

from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from rdae.errors import RdaeError
from rdae.exact.components import COVARIANCES
from rdae.exact.estimators import (
    BernoulliMixtureEstimator,
    FactorAnalysisEstimator,
    GaussianMixtureEstimator,
    ProbabilisticPCAEstimator,
)

ESTIMATORS = [
    GaussianMixtureEstimator(2, max_iter=50),
    GaussianMixtureEstimator(2, hard=True, covariance_type="isotropic"),
    BernoulliMixtureEstimator(2, max_iter=50),
    FactorAnalysisEstimator(max_iter=50),
    ProbabilisticPCAEstimator(),
]


@parametrize_with_checks(ESTIMATORS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learn_finds_nothing_amiss(estimator, check):
    check(estimator)


@pytest.fixture
def blobs():
    return make_blobs(300, 4, centers=3, cluster_std=1.0, random_state=0)


@pytest.mark.parametrize("covariance", ["spherical", "diag", "tied", "full"])
def test_the_likelihood_is_that_of_scikit_learn(blobs, covariance):
    """Clear clusters: both find the same maximum from starts of their own."""
    y, _ = blobs
    ours = GaussianMixtureEstimator(3, covariance_type=covariance, tol=1e-10, n_init=3, random_state=0).fit(y)
    theirs = GaussianMixture(3, covariance_type=covariance, tol=1e-10, reg_covar=0, n_init=3, random_state=0).fit(y)
    assert ours.score(y) == pytest.approx(theirs.score(y), abs=1e-6)
    assert ours.bic(y) == pytest.approx(theirs.bic(y), rel=1e-6)
    assert ours.aic(y) == pytest.approx(theirs.aic(y), rel=1e-6)
    assert adjusted_rand_score(ours.predict(y), theirs.predict(y)) == 1


def test_hard_isotropic_clusters_of_equal_size_are_those_of_k_means(blobs):
    y, labels = blobs
    ours = GaussianMixtureEstimator(3, covariance_type="isotropic", hard=True, n_init=3, random_state=0)
    found = ours.fit_predict(y)
    assert adjusted_rand_score(found, KMeans(3, n_init=3, random_state=0).fit_predict(y)) == 1
    assert adjusted_rand_score(found, labels) > 0.95


@pytest.mark.parametrize("estimator", ESTIMATORS[:4], ids=repr)
def test_the_bounds_of_a_fit_never_fall(estimator, blobs):
    y, _ = blobs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = sklearn.base.clone(estimator).set_params(random_state=1).fit(y)
    assert np.all(np.diff(fitted.lower_bounds_) >= -1e-10)
    assert fitted.lower_bound_ == fitted.lower_bounds_[-1]
    assert fitted.n_iter_ == len(fitted.lower_bounds_) - 1


def test_probabilities_sum_to_one_and_scores_are_densities(blobs):
    y, _ = blobs
    fitted = GaussianMixtureEstimator(3, random_state=0).fit(y)
    np.testing.assert_allclose(fitted.predict_proba(y).sum(1), 1, atol=1e-12)
    np.testing.assert_array_equal(fitted.predict(y), fitted.predict_proba(y).argmax(1))
    assert fitted.score(y) == pytest.approx(fitted.score_samples(y).mean())
    line = GaussianMixtureEstimator(2, random_state=0).fit(y[:, :1])
    axis = np.linspace(-60, 60, 20001)
    assert np.exp(line.score_samples(axis[:, None])).sum() * (axis[1] - axis[0]) == pytest.approx(1, abs=1e-6)


def test_factor_models_are_those_of_scikit_learn(blobs):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(300, 1)) * [1, -2, 3, 1] + rng.normal(size=(300, 4)) * [1, 1, 2, 2]
    ours = FactorAnalysisEstimator(1, tol=1e-9, random_state=0).fit(y)
    theirs = FactorAnalysis(1, tol=1e-9, svd_method="lapack").fit(y)
    assert ours.score(y) == pytest.approx(theirs.score(y), abs=1e-6)
    np.testing.assert_allclose(np.abs(ours.transform(y)), np.abs(theirs.transform(y)), atol=1e-2)
    y = blobs[0]
    probabilistic, pca = ProbabilisticPCAEstimator(2).fit(y), PCA(2).fit(y)
    ratio = len(y) / (len(y) - 1)
    np.testing.assert_allclose(ratio * probabilistic.get_covariance(), pca.get_covariance(), rtol=1e-9)
    np.testing.assert_allclose(probabilistic.get_precision() @ probabilistic.get_covariance(), np.eye(4), atol=1e-9)
    assert probabilistic.inverse_transform(probabilistic.transform(y)).shape == y.shape
    assert list(probabilistic.get_feature_names_out()) == ["probabilisticpcaestimator0", "probabilisticpcaestimator1"]


def test_binary_data_and_their_threshold():
    rng = np.random.default_rng(0)
    odds = np.where(np.arange(400)[:, None] < 200, 0.1, 0.9)
    y = (rng.random((400, 6)) < odds).astype(int)
    fitted = BernoulliMixtureEstimator(2, n_init=3, random_state=0).fit(y)
    assert adjusted_rand_score(fitted.predict(y), np.arange(400) < 200) > 0.9
    assert set(np.unique(fitted.sample(50))) == {0, 1}
    exact = BernoulliMixtureEstimator(2, binarize=None, n_init=3, random_state=0)
    np.testing.assert_array_equal(exact.fit(y).means_, fitted.means_)
    with pytest.raises(RdaeError, match="Binarise"):
        exact.fit(y / 2)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_draws_have_the_likelihood_of_the_model(blobs, covariance):
    fitted = GaussianMixtureEstimator(3, covariance_type=covariance, random_state=0).fit(blobs[0])
    first, second = (
        fitted.score_samples(fitted.sample(4000)),
        fitted.set_params(random_state=1).score_samples(fitted.sample(4000)),
    )
    assert abs(first.mean() - second.mean()) < 4.5 * np.sqrt((first.var() + second.var()) / 4000)


def test_seeds_decide_everything_and_the_generator_of_torch_is_left_alone(blobs):
    y, _ = blobs
    torch.manual_seed(3)
    before = torch.get_rng_state()
    fits = [GaussianMixtureEstimator(5, random_state=seed).fit(y) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(fits[0].means_, fits[1].means_)
    assert not np.array_equal(fits[0].means_, fits[2].means_)
    np.testing.assert_array_equal(fits[0].sample(5), fits[1].sample(5))


def test_units_do_not_matter(blobs):
    """The floor of spreads follows the data: a change of unit changes no assignment."""
    y, _ = blobs
    fits = [GaussianMixtureEstimator(3, random_state=0).fit(unit * y) for unit in (1, 1e-6, 1e6)]
    for fitted, unit in zip(fits, (1, 1e-6, 1e6), strict=True):
        np.testing.assert_allclose(fitted.predict_proba(unit * y), fits[0].predict_proba(y), atol=1e-6)


def test_pipelines_and_grid_searches(blobs):
    y, _ = blobs
    pipeline = make_pipeline(StandardScaler(), GaussianMixtureEstimator(random_state=0))
    search = GridSearchCV(pipeline, {"gaussianmixtureestimator__n_components": [1, 3]}).fit(y)
    assert search.best_params_ == {"gaussianmixtureestimator__n_components": 3}


def test_bad_parameters_and_unfitted_estimators_say_so(blobs):
    y, _ = blobs
    with pytest.raises(NotFittedError):
        GaussianMixtureEstimator().predict(y)
    for parameters, cure in (
        ({"n_components": 0}, "1 or more"),
        ({"n_init": 0}, "starts=1"),
        ({"covariance_type": "round"}, "Choose one of"),
        ({"min_std": 0.0}, "positive"),
    ):
        with pytest.raises(RdaeError, match=cure):
            GaussianMixtureEstimator(**parameters).fit(y)
    with pytest.raises(RdaeError, match="1 or more"):
        GaussianMixtureEstimator().fit(y).sample(0)
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        GaussianMixtureEstimator(8, max_iter=1, random_state=0).fit(y)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    import importlib
    import sys

    from rdae.errors import MissingExtraError

    monkeypatch.delitem(sys.modules, "rdae.exact.estimators")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(MissingExtraError, match=r"rdae\[train,measures\]"):
        importlib.import_module("rdae.exact.estimators")
