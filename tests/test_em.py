"""EM, soft and hard: a bound that never falls, scikit-learn's mixture and k-means, closed forms, degenerate data."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rdae.errors import DataError, ModelError, TrainingError
from rdae.exact import (
    BernoulliComponents,
    BernoulliMixture,
    CategoricalComponents,
    FactorAnalysis,
    GaussianComponents,
    GaussianMixture,
    HiddenMarkovModel,
    JointTable,
    Mixture,
    ProbabilisticPCA,
    fit_em,
    point_mass,
    restart_em,
)
from rdae.exact.components import COVARIANCES
from rdae.exact.seeding import kmeans_plus_plus

N = 60


def real(features: int = 3) -> Tensor:
    """Two clumps, one of them stretched."""
    y = torch.randn(N, features).double()
    y[: N // 2] = y[: N // 2] * torch.linspace(0.2, 2, features) + 2
    return y


def binary(*shape: int) -> Tensor:
    odds = torch.where(torch.arange(shape[0]).view(-1, *[1] * (len(shape) - 1)) % 2 == 0, 0.2, 0.7)
    return torch.bernoulli(odds.expand(shape)).double()


CASES = {f"mixture-{name}": lambda name=name: (GaussianMixture(3, 3, name), real()) for name in COVARIANCES} | {
    "bernoulli": lambda: (BernoulliMixture(3, 4), binary(N, 4)),
    "categorical": lambda: (Mixture(CategoricalComponents(2, 4)), torch.randint(4, (N,))),
    "table": lambda: (JointTable(3, 4), torch.randint(4, (N,))),
    "factor": lambda: (FactorAnalysis(3, 2), real()),
    "ppca": lambda: (ProbabilisticPCA(3, 2), real()),
    "hmm-discrete": lambda: (HiddenMarkovModel(CategoricalComponents(2, 3), 6), torch.randint(3, (10, 6))),
    "hmm-gaussian": lambda: (HiddenMarkovModel(GaussianComponents(2, 3), 6), real().unflatten(0, (10, 6))),
    "hmm-binary": lambda: (HiddenMarkovModel(BernoulliComponents(2, 4), 6), binary(10, 6, 4)),
}
BOTH = pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def never_falls(history: list[float]) -> bool:
    """Up to the rounding of a mean of some tens of numbers of size up to a hundred."""
    return all(after >= before - 1e-11 * max(1, abs(before)) for before, after in pairwise(history))


# --- the bound -------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("name", list(CASES))
def test_the_bound_never_falls(name, hard):
    """V16-V19."""
    for seed in range(6):
        torch.manual_seed(seed)
        model, y = CASES[name]()
        model.start(y)
        history = fit_em(model, y, hard=hard, tol=0, max_steps=40).history
        assert never_falls(history)
        assert len(history) > 1


@settings(max_examples=30, deadline=None)
@given(
    y=st.lists(st.tuples(*[st.floats(-1e3, 1e3, width=16)] * 2), min_size=1, max_size=12),
    covariance=st.sampled_from(COVARIANCES),
    components=st.integers(1, 4),
    hard=st.booleans(),
)
def test_the_bound_never_falls_and_is_a_number_on_any_data(y, covariance, components, hard):
    """Few points, repeated points, more components than points: empty and collapsed components."""
    torch.manual_seed(0)
    model, data = GaussianMixture(components, 2, covariance), torch.tensor(y).double()
    model.start(data)
    history = fit_em(model, data, hard=hard, max_steps=30).history
    # densities reach (1e-3)^-2, distances 1e3 / 1e-3: the squares that are summed, 1e12, keep 1e-4
    assert all(after >= before - 1e-11 * max(1, abs(before)) - 1e-4 for before, after in pairwise(history))
    assert all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())


@BOTH
def test_each_step_is_a_maximum_of_the_same_bound(hard):
    """V16, V17: neither another law nor other parameters near by do better."""
    model, y = CASES["mixture-full"]()
    model.start(y)
    with torch.no_grad():
        truth = model.posterior(y)
        q = point_mass(truth) if hard else truth
        best = model.bound(y, q).sum()
        if not hard:
            for _ in range(20):
                other = torch.distributions.Categorical(logits=q.logits + torch.randn_like(q.logits))
                assert bool((model.bound(y, other) <= model.bound(y, q) + 1e-12).all())
        else:
            for state in range(3):
                other = torch.distributions.Categorical(logits=torch.eye(3).double().log()[state].expand(N, -1))
                assert bool((model.bound(y, other) <= model.bound(y, q) + 1e-12).all())
        model.m_step(y, q)
        after = model.bound(y, q).sum()
        assert after > best
        for _ in range(20):
            kept = {name: value.clone() for name, value in model.state_dict().items()}
            for parameter in model.parameters():
                parameter.add_(1e-3 * torch.randn_like(parameter))
            assert model.bound(y, q).sum() < after
            model.load_state_dict(kept)


@pytest.mark.parametrize("name", [name for name in CASES if name != "table"])
def test_the_m_step_leaves_no_gradient_of_the_expected_joint(name):
    """V17, for whatever law q: here the posterior at other parameters."""
    model, y = CASES[name]()
    model.start(y)
    with torch.no_grad():
        q = model.posterior(y)
    model.m_step(y, q)
    loss = model.expected_log_joint(y, q).mean()
    for parameter, gradient in zip(
        model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
    ):
        assert float(gradient.abs().max()) < 1e-9 * max(1, float(parameter.detach().abs().max()))


def test_soft_em_ends_where_the_gradient_of_the_likelihood_is_zero():
    model, y = CASES["mixture-diag"]()
    restart_em(model, y, starts=2, tol=1e-14, max_steps=5000)
    gradients = torch.autograd.grad(model.log_prob(y).mean(), list(model.parameters()))
    assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-5


def test_after_a_soft_e_step_the_bound_is_the_likelihood_and_after_a_hard_one_below_it():
    model, y = CASES["mixture-spherical"]()
    model.start(y)
    soft = fit_em(model, y, max_steps=3)
    with torch.no_grad():
        assert soft.history[-1] == pytest.approx(float(model.log_prob(y).mean()), abs=1e-12)
        hard = float(model.bound(y, point_mass(model.posterior(y))).mean())
    assert hard < soft.history[-1]
    assert not soft.converged


def test_hard_em_needs_the_logarithm():
    """V19, slip 20: data 1, 1, 0 of one Bernoulli; the sum of p is largest at p = 1, that of ln p at 2/3."""
    model = BernoulliMixture(1, 1)
    y = torch.tensor([[1.0], [1.0], [0.0]])
    fit_em(model, y, hard=True)
    assert float(model.components.means().detach()) == pytest.approx(2 / 3, abs=1e-12)
    p = torch.linspace(0.01, 0.99, 99)
    assert float(p[(2 * p + (1 - p)).argmax()]) == pytest.approx(0.99)
    assert float(p[(2 * p.log() + (1 - p).log()).argmax()]) == pytest.approx(0.67)


# --- scikit-learn ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance", ["spherical", "diag", "tied", "full"])
def test_soft_em_is_that_of_scikit_learn(covariance):
    """The same start and as many steps: the same parameters, posteriors and likelihoods."""
    mixture = pytest.importorskip("sklearn.mixture")
    y, model = real(), GaussianMixture(3, 3, covariance, min_std=1e-8)
    model.start(y)
    covariances = model.components.covariances().detach()
    precisions = {
        "spherical": lambda: 1 / covariances[:, 0, 0], "diag": lambda: 1 / covariances.diagonal(dim1=1, dim2=2),
        "tied": lambda: torch.linalg.inv(covariances[0]), "full": lambda: torch.linalg.inv(covariances),
    }[covariance]()  # fmt: skip
    theirs = mixture.GaussianMixture(
        3, covariance_type=covariance, reg_covar=0, tol=0, max_iter=25, weights_init=model.weights.detach().numpy(),
        means_init=model.components.mean.detach().numpy(), precisions_init=precisions.numpy(),
    )  # fmt: skip
    with pytest.warns(match="converge"):
        theirs.fit(y.numpy())
    fit_em(model, y, tol=0, max_steps=25)
    close = {"rtol": 1e-7, "atol": 1e-7}  # 25 steps, each of a few hundred operations
    torch.testing.assert_close(model.weights.detach(), torch.tensor(theirs.weights_), **close)
    torch.testing.assert_close(model.components.mean.detach(), torch.tensor(theirs.means_), **close)
    torch.testing.assert_close(
        model.posterior(y).probs.detach(), torch.tensor(theirs.predict_proba(y.numpy())), **close
    )
    torch.testing.assert_close(model.log_prob(y).detach(), torch.tensor(theirs.score_samples(y.numpy())), **close)


def lloyd_model(components: int) -> GaussianMixture:
    """Equal weights and one spread, both fixed."""
    model = GaussianMixture(components, 3, "isotropic")
    model.log_weight.requires_grad_(False)
    model.components.log_std.requires_grad_(False)
    return model


@pytest.mark.parametrize("std", [0.1, 1.0, 10.0])
def test_hard_em_with_equal_spherical_covariances_is_k_means(std):
    """V19: from the same seeds the same assignments and centres as Lloyd's algorithm, whatever the spread."""
    cluster = pytest.importorskip("sklearn.cluster")
    for seed in range(5):
        torch.manual_seed(seed)
        y, model = real(), lloyd_model(4)
        with torch.no_grad():
            model.components.log_std.fill_(math.log(std))
            model.components.mean.copy_(y[kmeans_plus_plus(y, 4)])
        start = model.components.mean.detach().clone().numpy()
        theirs = cluster.KMeans(4, init=start, n_init=1, algorithm="lloyd", tol=0).fit(y.numpy())
        fit = fit_em(model, y, hard=True, tol=0)
        assert torch.equal(model.posterior(y).mode, torch.tensor(theirs.labels_).long())
        centres = torch.tensor(theirs.cluster_centers_)
        torch.testing.assert_close(model.components.mean.detach(), centres, rtol=1e-12, atol=1e-12)
        inertia = theirs.inertia_ / (2 * std**2 * N)  # lam = 1 / (2 sigma^2), V35
        constant = math.log(4) + 1.5 * math.log(2 * math.pi * std**2)
        assert fit.history[-1] == pytest.approx(-inertia - constant, rel=1e-10)


def test_soft_em_tends_to_k_means_as_the_spread_tends_to_zero():
    y, model = real(), lloyd_model(3)
    with torch.no_grad():
        model.components.mean.copy_(y[kmeans_plus_plus(y, 3)])
        start = {name: value.clone() for name, value in model.state_dict().items()}
    fit_em(model, y, hard=True, tol=0)
    wanted, distances = model.components.mean.detach().clone(), []
    for std in (1.0, 0.3, 0.1, 0.03):
        model.load_state_dict(start)
        with torch.no_grad():
            model.components.log_std.fill_(math.log(std))
        fit_em(model, y, tol=0, max_steps=500)
        distances.append(float((model.components.mean - wanted).detach().abs().max()))
    assert distances[-1] < 1e-3 < distances[0]


def test_factor_analysis_reaches_the_likelihood_of_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    y = (
        torch.randn(500, 6).double() * torch.linspace(0.5, 2, 6)
        + torch.randn(500, 2).double() @ torch.randn(2, 6).double()
    )
    model = FactorAnalysis(6, 2)
    model.start(y)
    fit = fit_em(model, y, tol=1e-9, max_steps=2000)
    theirs = decomposition.FactorAnalysis(2, tol=1e-9, max_iter=5000, svd_method="lapack").fit(y.numpy())
    assert fit.history[-1] == pytest.approx(theirs.score(y.numpy()), abs=1e-6)
    covariance = model.marginal().covariance_matrix.detach()
    torch.testing.assert_close(covariance, torch.tensor(theirs.get_covariance()), rtol=1e-2, atol=1e-2)


# --- closed forms ----------------------------------------------------------------------------------------------------


def test_em_of_ppca_reaches_the_closed_form():
    """V18: the same likelihood, the same noise, the same W up to a rotation."""
    y = real(5)
    exact, model = ProbabilisticPCA(5, 2), ProbabilisticPCA(5, 2)
    exact.fit_closed_form(y)
    model.start(y)
    fit = fit_em(model, y, tol=1e-14, max_steps=5000)
    assert fit.history[-1] == pytest.approx(float(exact.log_prob(y).mean().detach()), abs=1e-9)
    close = {"rtol": 1e-4, "atol": 1e-4}  # at a maximum, 1e-9 of the likelihood leaves its root to the parameters
    torch.testing.assert_close(model.weight @ model.weight.T, exact.weight @ exact.weight.T, **close)
    torch.testing.assert_close(model.std, exact.std, **close)


def test_hard_em_of_ppca_finds_the_principal_subspace_while_latents_shrink():
    y = real(5)
    exact, model = ProbabilisticPCA(5, 2), ProbabilisticPCA(5, 2)
    exact.fit_closed_form(y)
    model.start(y)
    fit_em(model, y, hard=True, tol=0, max_steps=300)
    with torch.no_grad():
        basis, _ = torch.linalg.qr(exact.weight)
        found, _ = torch.linalg.qr(model.weight)
        assert float((basis @ basis.T - found @ found.T).abs().max()) < 1e-3
        early = model.posterior(y).mean.norm()
        fit_em(model, y, hard=True, tol=0, max_steps=300)
        assert model.posterior(y).mean.norm() < early


def test_a_table_is_fitted_in_one_step():
    """It can be any law: p(y) becomes the frequencies, and the bound minus their entropy."""
    model, y = JointTable(3, 4), torch.tensor([0, 0, 1, 2, 2, 2])
    model.start(y)
    history = fit_em(model, y).history
    frequency = torch.tensor([2, 1, 3]).double() / 6
    assert history[1] == pytest.approx(float((frequency * frequency.log()).sum()), abs=1e-12)
    assert len(history) == 3


def test_bernoulli_mixtures_and_hidden_markov_models_find_what_generated_the_data():
    """Not worse than the truth on the data, which is what a global maximum is."""
    truth = BernoulliMixture(2, 8)
    with torch.no_grad():
        truth.components.logit.copy_(torch.tensor([[2.0] * 8, [-2.0] * 4 + [2.0] * 4]))
    y = truth.sample(500)
    fitted = BernoulliMixture(2, 8)
    assert restart_em(fitted, y, starts=3).history[-1] > float(truth.log_prob(y).mean().detach())
    chain = HiddenMarkovModel(GaussianComponents(2, 1, "spherical"), 50)
    with torch.no_grad():
        chain.emissions.mean.copy_(torch.tensor([[-1.5], [1.5]]))
        chain.log_transition.copy_(torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log())
    y = chain.sample(20)
    fitted = HiddenMarkovModel(GaussianComponents(2, 1, "spherical"), 50)
    assert restart_em(fitted, y, starts=3).history[-1] > float(chain.log_prob(y).mean().detach())
    order = fitted.emissions.mean[:, 0].argsort()
    rows = fitted.log_transition.softmax(1)[order][:, order].detach()
    assert float((rows - torch.tensor([[0.9, 0.1], [0.2, 0.8]])).abs().max()) < 0.08  # 4 errors of a few hundred leaps


# --- degenerate data, frozen parameters, bad input -------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_more_components_than_points_and_constant_data_end_in_numbers(covariance, hard):
    for y in (torch.ones(5, 2).double(), torch.tensor([[0.0, 0.0], [1.0, 1.0]]).double(), torch.zeros(1, 2).double()):
        model = GaussianMixture(4, 2, covariance, min_std=0.01)
        fit = restart_em(model, y, starts=2, hard=hard, max_steps=50)
        assert math.isfinite(fit.history[-1])
        spreads = torch.linalg.eigvalsh(model.components.covariances())
        assert float(spreads.min().detach()) > 0.99e-4  # min_std squared
        assert bool(torch.isfinite(model.posterior(y).probs).all())


def test_an_empty_component_keeps_its_law_and_is_out_of_the_game():
    model = GaussianMixture(2, 1, "spherical")
    y = torch.randn(20, 1).double()
    with torch.no_grad():
        model.components.mean.copy_(torch.tensor([[0.0], [1e6]]))
    fit_em(model, y)
    assert float(model.components.mean[1].detach()) == 1e6
    assert float(model.weights[1]) < 1e-299
    assert float(model.weights[0]) == 1


@BOTH
@pytest.mark.parametrize("kind", [FactorAnalysis, ProbabilisticPCA])
def test_factors_of_constant_or_exactly_explained_data_end_in_numbers(kind, hard):
    line = torch.arange(6).double()[:, None] * torch.tensor([1.0, 2.0, 0.0])
    for y in (torch.ones(5, 3).double(), line, line[:1]):
        model = kind(3, 2)
        fit = restart_em(model, y, starts=2, hard=hard, max_steps=100)
        assert never_falls(fit.history)
        assert float(model.std.min().detach()) >= 0.999e-3
        assert all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())


def test_a_state_that_is_never_visited_does_no_harm():
    model = HiddenMarkovModel(CategoricalComponents(3, 2), 4)
    y = torch.zeros(5, 4).long()
    fit = restart_em(model, y, starts=2, hard=True)
    assert fit.history[-1] == pytest.approx(0, abs=1e-9)  # one path, one symbol: certain
    assert bool(torch.isfinite(model.log_transition).all())
    impossible = torch.ones(1, 4).long()
    assert -1e4 < float(model.log_prob(impossible).detach()) < -600


@pytest.mark.parametrize("name", list(CASES))
def test_frozen_parameters_stay(name):
    """The M-step moves each parameter, and none that is frozen."""
    for frozen in [parameter for parameter, _ in CASES[name]()[0].named_parameters()]:
        torch.manual_seed(0)
        model, y = CASES[name]()
        model.start(y)
        model.get_parameter(frozen).requires_grad_(False)
        before = model.get_parameter(frozen).clone()
        history = fit_em(model, y, tol=0, max_steps=10).history
        assert never_falls(history)
        assert torch.equal(model.get_parameter(frozen), before)


def test_restarts_keep_the_best_run():
    y = real()
    runs, model = [], GaussianMixture(4, 3)
    torch.manual_seed(5)
    for _ in range(4):
        model.start(y)
        runs.append(fit_em(model, y).history[-1])
    torch.manual_seed(5)
    fit = restart_em(model, y, starts=4)
    assert fit.history[-1] == max(runs)
    assert max(runs) > min(runs)
    assert float(model.log_prob(y).mean().detach()) == pytest.approx(max(runs), abs=1e-12)


def test_k_means_plus_plus_draws_by_squared_distance():
    y = torch.tensor([[0.0], [1.0], [3.0]]).double()
    seconds = torch.zeros(3)
    for _ in range(4000):
        first, second = kmeans_plus_plus(y, 2)
        if first == 0:
            seconds[second] += 1
    share = seconds / seconds.sum()
    assert float(share[0]) == 0
    assert abs(float(share[2]) - 0.9) < 4.5 * math.sqrt(0.09 / float(seconds.sum()))


def test_bad_arguments_and_data_are_refused():
    model, y = GaussianMixture(2, 3), real()
    with pytest.raises(ModelError, match="neither may be negative"):
        fit_em(model, y, max_steps=-1)
    with pytest.raises(ModelError, match="neither may be negative"):
        fit_em(model, y, tol=math.nan)
    with pytest.raises(ModelError, match="starts=1"):
        restart_em(model, y, starts=0)
    with pytest.raises(DataError, match="Drop those examples"):
        fit_em(model, y / 0)
    with pytest.raises(TrainingError, match="common scale"):
        fit_em(model, torch.full((4, 3), 1e300, dtype=torch.float64))
