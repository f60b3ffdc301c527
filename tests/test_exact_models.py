"""Models with exact posteriors against enumeration, autograd, closed forms and scikit-learn."""

from __future__ import annotations

import itertools
import math

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from rdae.errors import DataError, ModelError, ShapeError
from rdae.exact import (
    BernoulliComponents,
    BernoulliMixture,
    CategoricalComponents,
    FactorAnalysis,
    GaussianComponents,
    GaussianMixture,
    HiddenMarkovModel,
    JointTable,
    MarkovChain,
    Mixture,
    PointMass,
    ProbabilisticPCA,
    collapsed,
    diagonal_gap,
    linear_autoencoder,
    point_mass,
)
from rdae.exact.components import COVARIANCES
from rdae.exact.model import ExactModel
from rdae.measures.likelihood import active_units, importance_log_likelihood, log_evidence
from rdae.objectives import divergence, elbo_from_entropy, elbo_from_evidence, elbo_from_rate, importance_bound

DIGITS = {"rtol": 1e-10, "atol": 1e-10}  # float64, some hundreds of operations
LENGTH = 4


def scattered(model: ExactModel) -> ExactModel:
    """The model with random parameters; covariances stay far from singular."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return model


def gaussian(covariance: str) -> tuple[ExactModel, Tensor]:
    return scattered(GaussianMixture(3, 2, covariance)), torch.randn(7, 2).double()


def chain(emissions, y: Tensor) -> tuple[ExactModel, Tensor]:
    return scattered(HiddenMarkovModel(emissions, LENGTH)), y


MODELS = {f"mixture-{name}": lambda name=name: gaussian(name) for name in COVARIANCES} | {
    "bernoulli": lambda: (scattered(BernoulliMixture(3, 5)), torch.bernoulli(torch.full((7, 5), 0.4)).double()),
    "categorical": lambda: (scattered(Mixture(CategoricalComponents(3, 5))), torch.arange(5)),
    "table": lambda: (scattered(JointTable(4, 5)), torch.arange(5)),
    "hmm-discrete": lambda: chain(CategoricalComponents(3, 5), torch.randint(5, (6, LENGTH))),
    "hmm-gaussian": lambda: chain(GaussianComponents(3, 2, "diag"), torch.randn(6, LENGTH, 2).double()),
    "hmm-binary": lambda: chain(BernoulliComponents(2, 3), torch.bernoulli(torch.full((6, LENGTH, 3), 0.5)).double()),
    "factor": lambda: (scattered(FactorAnalysis(5, 2)), torch.randn(7, 5).double()),
    "ppca": lambda: (scattered(ProbabilisticPCA(5, 2)), torch.randn(7, 5).double()),
}
DISCRETE = [name for name in MODELS if name not in ("factor", "ppca")]
EVERY = pytest.mark.parametrize("name", list(MODELS))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def another_law(model: ExactModel, y: Tensor) -> Distribution:
    """A law of the latent that is not the posterior, of a family for which KL is known."""
    q = model.posterior(y)
    if isinstance(q, Categorical):
        return Categorical(logits=q.logits.detach() + torch.randn(q.logits.shape).double())
    if isinstance(q, MarkovChain):
        noise = torch.randn(q.transition.shape).double()
        return MarkovChain(q.initial.detach() + torch.randn(q.initial.shape).double(), q.transition.detach() + noise)
    factor = torch.linalg.cholesky(q.covariance_matrix.detach()) + 0.1 * torch.randn(2, 2).double().tril()
    return MultivariateNormal(q.mean.detach() + 0.3, scale_tril=factor)


def latents(model: ExactModel) -> Tensor:
    """All values of a discrete latent, `(count, *event)`."""
    if isinstance(model, HiddenMarkovModel):
        return torch.tensor(list(itertools.product(range(model.emissions.states), repeat=model.length)))
    return torch.arange(model.prior().logits.shape[-1])


def joint_table(model: ExactModel, y: Tensor) -> Tensor:
    """ln p(z, y) of every latent, `(count, n)`, each entry by itself."""
    rows = []
    for z in latents(model):
        rows.append(model.log_joint(y, z.expand(len(y), *z.shape)))
    return torch.stack(rows)


# --- enumeration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DISCRETE)
def test_the_marginal_and_the_posterior_are_sums_over_the_joint_table(name):
    """V2; for the hidden Markov model over all K^T paths."""
    model, y = MODELS[name]()
    table = joint_table(model, y)
    torch.testing.assert_close(model.log_prob(y), table.logsumexp(0), **DIGITS)
    q = model.posterior(y)
    every = latents(model)
    law = torch.stack([q.log_prob(z.expand(len(y), *z.shape)) for z in every])
    torch.testing.assert_close(law, table.log_softmax(0), **DIGITS)
    torch.testing.assert_close(q.entropy(), torch.special.entr(law.exp()).sum(0), **DIGITS)
    assert torch.equal(q.mode, every[table.argmax(0)])


@pytest.mark.parametrize("name", DISCRETE)
def test_expectations_and_divergences_are_sums_over_the_joint_table(name):
    model, y = MODELS[name]()
    q, table = another_law(model, y), joint_table(model, y)
    law = torch.stack([q.log_prob(z.expand(len(y), *z.shape)) for z in latents(model)])
    prior = torch.stack([model.prior().log_prob(z) for z in latents(model)])
    torch.testing.assert_close(law.logsumexp(0), torch.zeros(len(y)).double(), **DIGITS)
    torch.testing.assert_close(model.expected_log_joint(y, q), (law.exp() * table).sum(0), **DIGITS)
    torch.testing.assert_close(model.expected_log_prior(q), (law.exp() * prior[:, None]).sum(0), **DIGITS)
    gap = (law.exp() * (law - table.log_softmax(0))).sum(0)
    torch.testing.assert_close(kl_divergence(q, model.posterior(y)), gap, **DIGITS)
    rate = (law.exp() * (law - prior[:, None])).sum(0)
    torch.testing.assert_close(model.terms(y, q).rate, rate, **DIGITS)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_gaussian_components_are_the_densities_of_their_means_and_covariances(covariance):
    model, y = gaussian(covariance)
    laws = MultivariateNormal(model.components.means(), covariance_matrix=model.components.covariances())
    torch.testing.assert_close(model.components.log_prob(y), laws.log_prob(y[:, None]), **DIGITS)


@pytest.mark.parametrize("covariance", ["tied", "full"])
def test_densities_keep_their_digits_far_from_the_origin_and_in_parts(covariance, monkeypatch):
    model, y = gaussian(covariance)
    grain, offset = 2.0**-20, 2.0**20  # so that float64 holds the sums exactly
    y = (y / grain).round() * grain
    with torch.no_grad():
        model.components.mean.div_(grain).round_().mul_(grain)
    here = model.components.log_prob(y)
    with torch.no_grad():
        model.components.mean += offset
    there = model.components.log_prob(y + offset)
    torch.testing.assert_close(there, here, rtol=1e-12, atol=1e-12)
    monkeypatch.setattr("rdae.exact.components.IN_CACHE", 1)
    torch.testing.assert_close(model.components.log_prob(y + offset), there, rtol=1e-12, atol=1e-12)


def test_a_covariance_is_learned_in_parts_as_in_one(monkeypatch):
    model, y = gaussian("full")
    q = model.posterior(y)
    learned = []
    for numbers in (1 << 16, 8):
        monkeypatch.setattr("rdae.exact.components.IN_CACHE", numbers)
        model.m_step(y, q)
        learned.append(model.components.covariances().detach())
    torch.testing.assert_close(*learned, **DIGITS)


@pytest.mark.parametrize("hard", [False, True])
@EVERY
def test_the_e_step_is_the_posterior_or_its_mode_with_the_bound_there(name, hard):
    model, y = MODELS[name]()
    q, bound = model.e_step(y, hard)
    torch.testing.assert_close(bound, model.bound(y, q), **DIGITS)
    if not hard:
        torch.testing.assert_close(bound, model.log_prob(y), **DIGITS)
    best = point_mass(model.posterior(y)) if hard else model.posterior(y)
    torch.testing.assert_close(q.entropy(), best.entropy(), **DIGITS)
    torch.testing.assert_close(bound, model.bound(y, best), **DIGITS)


def test_bernoulli_components_are_those_of_torch():
    model, y = MODELS["bernoulli"]()
    laws = Independent(Bernoulli(probs=model.components.means()), 1)
    torch.testing.assert_close(model.components.log_prob(y), laws.log_prob(y[:, None]), **DIGITS)


@pytest.mark.parametrize("name", ["hmm-discrete", "table", "categorical"])
def test_probabilities_of_all_examples_sum_to_one(name):
    model, _ = MODELS[name]()
    every = torch.tensor(list(itertools.product(range(5), repeat=LENGTH))) if "hmm" in name else torch.arange(5)
    assert float(model.log_prob(every).logsumexp(0).detach()) == pytest.approx(0, abs=1e-12)


def test_marginals_pairs_and_draws_of_a_chain_are_those_of_its_joint_table():
    model, y = MODELS["hmm-discrete"]()
    with torch.no_grad():
        q = model.posterior(y[:2])
    paths = latents(model)
    law = torch.stack([q.log_prob(z.expand(2, -1)) for z in paths], 1).exp()
    one_hot = torch.nn.functional.one_hot(paths, 3).double()
    torch.testing.assert_close(q.marginals, torch.einsum("bp,ptk->btk", law, one_hot), **DIGITS)
    pairs = torch.einsum("bp,pti,ptj->btij", law, one_hot[:, :-1], one_hot[:, 1:])
    torch.testing.assert_close(q.pairs, pairs, **DIGITS)
    n = 20_000
    drawn = torch.nn.functional.one_hot(q.sample((n,)), 3).double()
    found = torch.einsum("sbti,sbtj->btij", drawn[:, :, :-1], drawn[:, :, 1:]) / n
    assert bool(((found - pairs).abs() < 4.5 * (pairs * (1 - pairs) / n).sqrt() + 1e-9).all())


def test_a_long_sequence_neither_underflows_nor_slows_down():
    model = scattered(HiddenMarkovModel(CategoricalComponents(4, 3), 2000))
    y = torch.randint(3, (2, 2000))
    value = model.log_prob(y).detach()
    assert bool(torch.isfinite(value).all())
    assert bool((value < -1000).all())  # its probability is no float64
    with torch.no_grad():
        assert float((model.bound(y, model.posterior(y)) - value).abs().max()) < 1e-8
        assert bool((model.bound(y, point_mass(model.posterior(y))) < value).all())


def test_chains_of_one_step_are_categorical():
    model = scattered(HiddenMarkovModel(CategoricalComponents(3, 5), 1))
    y = torch.arange(5)[:, None]
    mixture = Mixture(model.emissions)
    with torch.no_grad():
        mixture.log_weight.copy_(model.log_initial)
    torch.testing.assert_close(model.log_prob(y), mixture.log_prob(y[:, 0]), **DIGITS)
    torch.testing.assert_close(model.posterior(y).entropy(), mixture.posterior(y[:, 0]).entropy(), **DIGITS)
    assert torch.equal(point_mass(model.posterior(y)).mode[:, 0], mixture.posterior(y[:, 0]).mode)


def test_mutual_information_of_a_table():
    table = torch.tensor([[0.4, 0.1], [0.1, 0.4]])
    model = JointTable.of(table)
    wanted = math.log(2) + 2 * (0.4 * math.log(0.8) + 0.1 * math.log(0.2))  # ln 2 - h(0.2)
    assert float(model.mutual_information().detach()) == pytest.approx(wanted, abs=1e-7)
    assert float(JointTable.of(torch.eye(2)).mutual_information().detach()) == pytest.approx(math.log(2), abs=1e-12)


# --- the laws that every exact model keeps ---------------------------------------------------------------------------


@EVERY
def test_the_gradient_of_ln_p_is_the_posterior_mean_of_the_gradient_of_the_joint(name):
    """V3, the expected-gradient identity."""
    model, y = MODELS[name]()
    with torch.no_grad():
        q = model.posterior(y)
    parameters = list(model.parameters())
    evidence = torch.autograd.grad(model.log_prob(y).sum(), parameters)
    joint = torch.autograd.grad(model.expected_log_joint(y, q).sum(), parameters)
    for left, right in zip(evidence, joint, strict=True):
        torch.testing.assert_close(left, right, **DIGITS)
    assert max(float(gradient.abs().max()) for gradient in evidence) > 1e-3


@pytest.mark.parametrize("name", DISCRETE)
def test_the_same_with_the_joint_at_each_latent_by_itself(name):
    """V3 without `expected_log_joint`: the sum over all latents of p(z | y) times the gradient of ln p(z, y)."""
    model, y = MODELS[name]()
    parameters = list(model.parameters())
    table = joint_table(model, y)
    averaged = torch.autograd.grad((table.detach().softmax(0) * table).sum(), parameters)
    evidence = torch.autograd.grad(model.log_prob(y).sum(), parameters)
    for left, right in zip(evidence, averaged, strict=True):
        torch.testing.assert_close(left, right, **DIGITS)


@EVERY
def test_three_forms_of_the_bound_agree_and_the_gap_is_the_divergence(name):
    """V9-V15, N16: at a law that is not the posterior, at the posterior, and term by term."""
    model, y = MODELS[name]()
    truth = model.posterior(y)
    for q in (another_law(model, y), truth):
        gap = kl_divergence(q, truth)
        first = elbo_from_entropy(model.expected_log_joint(y, q)[None], q.entropy())
        second = elbo_from_evidence(model.log_prob(y), gap)
        third = elbo_from_rate(model.expected_log_likelihood(y, q)[None], divergence(q, model.prior()))
        torch.testing.assert_close(first, second, **DIGITS)
        torch.testing.assert_close(first, third, **DIGITS)
        torch.testing.assert_close(model.bound(y, q), first, **DIGITS)
        terms = model.terms(y, q)
        torch.testing.assert_close(-(terms.rate + terms.distortion), first, **DIGITS)
        cross = model.log_prob(y) - model.expected_log_joint(y, q)  # V13: H(q, p(z | y))
        torch.testing.assert_close(cross - q.entropy(), gap, **DIGITS)  # V14
    assert float(kl_divergence(another_law(model, y), truth).detach().min()) > 1e-4
    torch.testing.assert_close(model.bound(y, truth), model.log_prob(y), **DIGITS)  # V12: tight at the posterior


@EVERY
def test_importance_weights_are_p_of_y_at_the_posterior_and_a_bound_elsewhere(name):
    model, y = MODELS[name]()
    q = model.posterior(y)
    z = q.sample((5,))
    weights = model.log_joint(y, z) - q.log_prob(z)
    torch.testing.assert_close(weights, model.log_prob(y).expand(5, -1), **DIGITS)
    torch.testing.assert_close(importance_bound(weights), model.log_prob(y), **DIGITS)
    q = another_law(model, y)
    z = q.sample((4000,))
    weights = (model.log_joint(y, z) - q.log_prob(z)).detach()
    error = weights.std(0) / math.sqrt(len(weights))
    assert bool(((weights.mean(0) - model.bound(y, q)).abs() < 4.5 * error + 1e-9).all())


@pytest.mark.parametrize("name", DISCRETE)
def test_at_a_point_mass_the_bound_is_the_joint_and_the_rate_a_code_length(name):
    """V19: hard EM's objective is ln p(z, y) at the mode, with the logarithm."""
    model, y = MODELS[name]()
    truth = model.posterior(y)
    q = point_mass(truth)
    torch.testing.assert_close(model.bound(y, q), model.log_joint(y, truth.mode), **DIGITS)
    torch.testing.assert_close(model.terms(y, q).rate, -model.prior().log_prob(truth.mode), **DIGITS)
    torch.testing.assert_close(model.log_prob(y) - model.bound(y, q), -truth.log_prob(truth.mode), **DIGITS)
    assert float(q.entropy().abs().max()) == 0


def test_at_a_point_mass_of_a_continuous_latent_the_bound_is_the_joint_too():
    model, y = MODELS["factor"]()
    q = point_mass(model.posterior(y))
    assert isinstance(q, PointMass)
    torch.testing.assert_close(model.bound(y, q), model.log_joint(y, q.mean), **DIGITS)
    terms = model.terms(y, q)
    torch.testing.assert_close(-(terms.rate + terms.distortion), model.bound(y, q), **DIGITS)


@EVERY
def test_samples_have_the_cross_entropy_of_the_model(name):
    """Drawing and ln p(y) know each other: the score averages to zero under the model."""
    model, _ = MODELS[name]()
    y = model.sample(4000)
    parameters = [p for p in model.parameters() if p.requires_grad]
    halves = [torch.autograd.grad(model.log_prob(part).mean(), parameters) for part in y.split(100)]
    for each in zip(*halves, strict=True):
        scores = torch.stack(each).reshape(len(halves), -1)
        error = scores.std(0) / math.sqrt(len(scores))
        assert bool((scores.mean(0).abs() < 4.5 * error + 1e-9).all())


# --- linear Gaussian models ------------------------------------------------------------------------------------------


def test_the_evidence_and_posterior_of_factor_analysis_are_those_of_the_joint_gaussian():
    model, y = MODELS["factor"]()
    w, std = model.weight, model.std
    joint = torch.cat([torch.cat([torch.eye(2), w.T], 1), torch.cat([w, w @ w.T + torch.diag(std**2)], 1)]).double()
    marginal = MultivariateNormal(model.mean, covariance_matrix=joint[2:, 2:])
    torch.testing.assert_close(model.log_prob(y), marginal.log_prob(y), **DIGITS)
    gain = joint[:2, 2:] @ torch.linalg.inv(joint[2:, 2:])
    q = model.posterior(y)
    torch.testing.assert_close(q.mean, (y - model.mean) @ gain.T, **DIGITS)
    torch.testing.assert_close(q.covariance_matrix[0], joint[:2, :2] - gain @ joint[2:, :2], **DIGITS)


def spread_data(n: int = 400, features: int = 6) -> Tensor:
    return torch.randn(n, features).double() @ torch.randn(features, features).double() + 3


def test_closed_form_ppca_is_that_of_the_eigenvalues_and_of_scikit_learn():
    """X6, O1: sigma^2 is the mean of the eigenvalues left out."""
    decomposition = pytest.importorskip("sklearn.decomposition")
    y, model = spread_data(), ProbabilisticPCA(6, 2)
    eigenvalues = model.fit_closed_form(y)
    torch.testing.assert_close(eigenvalues, torch.linalg.eigvalsh(torch.cov(y.T, correction=0)).flip(0), **DIGITS)
    torch.testing.assert_close(model.std[0] ** 2, eigenvalues[2:].mean(), **DIGITS)
    n, d = len(y), 6  # Tipping & Bishop 1999, eq. 8
    left = eigenvalues[2:].mean()
    wanted = -0.5 * (d * math.log(2 * math.pi) + eigenvalues[:2].log().sum() + 4 * left.log() + d)
    torch.testing.assert_close(model.log_prob(y).mean(), wanted, **DIGITS)
    # scikit-learn divides by n - 1: the same model, and the same score, for data larger by sqrt((n - 1) / n)
    pca = decomposition.PCA(2).fit((y - y.mean(0)).numpy())
    ours = ProbabilisticPCA.of(
        model.weight * math.sqrt(n / (n - 1)), model.mean * 0, model.std[0] * math.sqrt(n / (n - 1))
    )
    assert float(ours.log_prob(y - y.mean(0)).mean().detach()) == pytest.approx(
        pca.score((y - y.mean(0)).numpy()), abs=1e-9
    )


def test_the_likelihood_of_a_closed_form_is_a_maximum():
    y, model = spread_data(), ProbabilisticPCA(6, 2)
    model.fit_closed_form(y)
    gradients = torch.autograd.grad(model.log_prob(y).mean(), list(model.parameters()))
    assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-10
    best = float(model.log_prob(y).mean().detach())
    for _ in range(20):
        other = ProbabilisticPCA.of(model.weight, model.mean, model.std[0].detach())
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        assert float(other.log_prob(y).mean().detach()) < best


def test_directions_below_the_noise_collapse():
    """X6: with a fixed noise, exactly the latents whose eigenvalue is below its variance are their prior."""
    y, model = spread_data(), ProbabilisticPCA(6, 5)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(y.T, correction=0)).flip(0)
    with torch.no_grad():
        model.log_std.fill_(0.5 * math.log(float(eigenvalues[1] + eigenvalues[2]) / 2))
    model.log_std.requires_grad_(False)
    model.fit_closed_form(y)
    assert collapsed(model) == 3
    assert active_units(linear_autoencoder(model), y) == 2
    q = model.posterior(y)
    torch.testing.assert_close(q.variance[0, 2:], torch.ones(3).double(), **DIGITS)
    assert float(q.mean[:, 2:].detach().abs().max()) < 1e-10
    model.fit_closed_form(y)
    free = ProbabilisticPCA(6, 5)
    free.fit_closed_form(y)
    assert collapsed(free) == 0


@pytest.mark.parametrize("kind", [FactorAnalysis, ProbabilisticPCA])
def test_a_linear_autoencoder_is_the_model_with_its_exact_posterior(kind):
    model, y = scattered(kind(5, 2)), torch.randn(7, 5).double()
    neural = linear_autoencoder(model)
    with torch.no_grad():
        torch.testing.assert_close(
            kl_divergence(neural.posterior(y), model.posterior(y)), torch.zeros(7).double(), **DIGITS
        )
        joint = neural.log_joint(y, 3)
        torch.testing.assert_close(joint.likelihood + joint.prior, model.log_joint(y, joint.latent), **DIGITS)
        torch.testing.assert_close(joint.log_weight, model.log_prob(y).expand(3, -1), **DIGITS)
        torch.testing.assert_close(log_evidence(neural, y, 1), model.log_prob(y), **DIGITS)
        measured = importance_log_likelihood(neural, y, 2)
        assert measured.value == pytest.approx(float(model.log_prob(y).mean()), abs=1e-10)
        torch.testing.assert_close(
            neural.reconstruct(y), model.mean + model.posterior(y).mean @ model.weight.T, **DIGITS
        )


def test_the_best_diagonal_posterior_leaves_the_gap_that_is_stated():
    """N20, X6: none if the columns of W are orthogonal."""
    model = FactorAnalysis.of(torch.randn(5, 2), torch.randn(5), torch.rand(5) + 0.5)
    y = torch.randn(7, 5).double()
    neural = linear_autoencoder(model, diagonal=True)
    q = neural.posterior(y)
    assert isinstance(q, Independent)
    gap = kl_divergence(MultivariateNormal(q.mean, torch.diag_embed(q.variance)), model.posterior(y))
    torch.testing.assert_close(gap, torch.full((7,), diagonal_gap(model), dtype=torch.float64), **DIGITS)
    torch.testing.assert_close(model.log_prob(y) - model.bound(y, q), gap, **DIGITS)
    assert diagonal_gap(model) > 1e-3
    for factor in (0.9, 1.1):  # no other spread does better
        law = Independent(Normal(q.mean, factor * q.stddev), 1)
        assert bool((model.bound(y, law) < model.bound(y, q)).all())
    fitted = ProbabilisticPCA(6, 2)
    fitted.fit_closed_form(spread_data())
    assert diagonal_gap(fitted) < 1e-12


def test_a_posterior_too_narrow_for_a_channel_is_refused():
    model = ProbabilisticPCA.of(1e5 * torch.eye(3, 2), torch.zeros(3), 1.0)
    with pytest.raises(ModelError, match="Raise the noise"):
        linear_autoencoder(model)


# --- bad input -------------------------------------------------------------------------------------------------------


@EVERY
def test_data_of_another_shape_are_refused_everywhere(name):
    model, y = MODELS[name]()
    wrong = y[..., None]
    for call in (model.log_prob, model.posterior, model.check):
        with pytest.raises(ShapeError, match=r"Reshape|Cut"):
            call(wrong)


@EVERY
def test_empty_data_and_nan_are_refused(name):
    model, y = MODELS[name]()
    with pytest.raises(DataError, match="empty"):
        model.check(y[:0])
    broken = y.double().clone()
    broken[0] = math.nan
    with pytest.raises(DataError, match="NaN"):
        model.check(broken)
    model.check(y)


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: GaussianMixture(0, 2), "1 or more"),
        (lambda: GaussianMixture(2, 0), "1 or more"),
        (lambda: GaussianMixture(2, 2, "diagonal"), "Choose one of"),
        (lambda: GaussianMixture(2, 2, min_std=0.0), "positive"),
        (lambda: BernoulliMixture(2, 2, 0.7), "between 0 and 1/2"),
        (lambda: FactorAnalysis(3, 0), "1 or more"),
        (lambda: FactorAnalysis(3, 1, min_std=-1), "positive"),
        (lambda: HiddenMarkovModel(CategoricalComponents(2, 2), 0), "1 or more"),
        (lambda: JointTable(0, 2), "1 or more"),
    ],
)
def test_models_that_cannot_be_are_refused(make, cure):
    with pytest.raises(ModelError, match=cure):
        make()


@pytest.mark.parametrize(
    ("model", "y", "cure"),
    [
        (BernoulliMixture(2, 2), torch.full((3, 2), 0.5), "Binarise"),
        (JointTable(2, 3), torch.tensor([0, 3]), "Number them"),
        (JointTable(2, 3), torch.tensor([0.5]), "Number them"),
        (JointTable(2, 3), torch.tensor([-1]), "Number them"),
    ],
)
def test_values_out_of_range_are_refused(model, y, cure):
    with pytest.raises(DataError, match=cure):
        model.check(y)


def test_parameters_of_other_shapes_are_refused():
    with pytest.raises(ShapeError, match="needs a mean"):
        FactorAnalysis.of(torch.zeros(3, 2), torch.zeros(2), 1.0)
    with pytest.raises(ShapeError, match="needs a mean"):
        ProbabilisticPCA.of(torch.zeros(3, 2), torch.zeros(3), torch.ones(3))
