"""The report of a model, held against linear Gaussian models about which everything is known."""

from __future__ import annotations

import json
import math

import pytest

torch = pytest.importorskip("torch")

from rdae.adversarial import ImplicitModel
from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.data.arrays import ArrayData
from rdae.data.arrays import Kind as DataKind
from rdae.distortions import squared_error
from rdae.exact import FactorAnalysis, diagonal_gap, linear_autoencoder
from rdae.measures.measure import Kind, Measure
from rdae.objectives import BITS_PER_NAT
from rdae.priors.latent import StandardNormalPrior
from rdae.recipes import GENERATIVE_RECIPES, generative_recipe
from rdae.reports.model_page import _value, model_page
from rdae.reports.model_report import Budget, ModelReport, model_report

BUDGET = Budget(examples=300, samples=200, latent_examples=300, searched=20, temperatures=60, search_steps=30)


@pytest.fixture(scope="module")
def model() -> FactorAnalysis:
    weight = torch.randn(6, 2, generator=torch.Generator().manual_seed(1)).double()
    return FactorAnalysis.of(weight, torch.ones(6), 0.7).requires_grad_(False)


@pytest.fixture(scope="module")
def y(model):
    torch.manual_seed(11)  # another than that of the report, which would draw the very noise that made y
    return model.sample(300)


@pytest.fixture(scope="module")
def report(model, y) -> ModelReport:
    return model_report(linear_autoencoder(model, diagonal=True), y, DataKind.REAL, BUDGET)


def of(report: ModelReport, name: str) -> Measure:
    named = {line.name: line.measure for section in report.sections for line in section.lines}
    (found,) = [named[name]] if name in named else [named[full] for full in named if full.startswith(name)]
    return found


def test_bounds_lie_where_theory_puts_them(model, y, report):
    exact, gap = model.log_prob(y), diagonal_gap(model)
    elbo, weighed = of(report, "ELBO"), of(report, "importance weighting")
    assert elbo.kind is weighed.kind is Kind.LOWER
    assert elbo.value == pytest.approx(float(exact.mean()) - gap, abs=0.2)  # the same examples, one draw each
    assert weighed.value == pytest.approx(float(exact.mean()), abs=0.02)
    few = float(exact[: BUDGET.searched].mean())
    assert of(report, "annealing, 60").value == pytest.approx(few, abs=0.1)
    assert abs(of(report, "annealing minus").value) < 0.1
    assert of(report, "annealing, upper").value > -0.1
    assert of(report, "prior sampling").value < few + 0.1


def test_the_rate_is_the_sum_of_its_parts(report):
    rate = report.sections[0].lines[0].measure
    assert rate.kind is Kind.UPPER
    assert of(report, "rate in bits").value == pytest.approx(rate.value * BITS_PER_NAT)
    parts = [of(report, name) for name in ("index information", "KL(q(z)")]
    error = math.hypot(*(part.standard_error for part in parts))
    assert sum(part.value for part in parts) == pytest.approx(rate.value, abs=4 * error)
    inner = [of(report, name) for name in ("total correlation", "dimension-wise KL")]
    error = math.hypot(parts[1].standard_error, *(part.standard_error for part in inner))
    assert sum(part.value for part in inner) == pytest.approx(parts[1].value, abs=4 * error)
    assert report.unit_rates is not None
    assert float(report.unit_rates.sum()) == pytest.approx(rate.value, rel=1e-6)
    assert of(report, "active units").value == 2


def test_the_information_lies_between_its_bounds(model, report):
    """Of the linear Gaussian model with its diagonal posterior S: I = ln [det(S + W' V W) / det S] / 2, y ~ N(0, V)."""
    lower, upper, rate = (of(report, name) for name in ("I(y; z), InfoNCE", "I(y; z), leave-one-out", "rate"))
    assert (lower.kind, upper.kind) == (Kind.LOWER, Kind.UPPER)
    linear = linear_autoencoder(model, diagonal=True)
    basis = torch.cat([torch.zeros(1, 6), torch.eye(6)]).double()
    q = linear.posterior(basis)
    weight, noise = q.mean[1:] - q.mean[0], torch.diag(q.variance[0])  # posterior mean y W + b, one covariance
    covariance = model.weight @ model.weight.T + torch.diag(model.std**2)
    truth = 0.5 * float((torch.logdet(noise + weight.T @ covariance @ weight) - torch.logdet(noise)).detach())
    off = math.exp(truth) / (2 * BUDGET.latent_examples)  # of either bound, to first order in 1 / N
    assert lower.value == pytest.approx(truth, abs=4 * lower.standard_error + 4 * off)
    assert upper.value == pytest.approx(truth, abs=4 * upper.standard_error + 4 * off)
    assert lower.value < upper.value
    assert rate.value > truth - 4 * rate.standard_error
    index = of(report, "index information")  # the same mean, of other draws
    assert index.value == pytest.approx(lower.value, abs=6 * index.standard_error)


def test_the_bound_is_of_the_draws_of_rate_and_distortion(report):
    rate, distortion, elbo = (of(report, name) for name in ("rate", "-ln p(y|z)", "ELBO"))
    assert elbo.value == pytest.approx(-rate.value - distortion.value, rel=1e-12)


def test_an_exact_encoder_has_nothing_to_find(report):
    assert abs(of(report, "amortisation gap").value) < 0.02


def test_the_generator_of_the_process_is_left_alone(model, y):
    neural = linear_autoencoder(model)
    state = torch.get_rng_state()
    small = Budget(examples=8, samples=2, latent_examples=8, searched=2, temperatures=0, search_steps=0)
    first, second = (model_report(neural, y, DataKind.REAL, small) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.as_json() == second.as_json()
    names = [line.name for section in first.sections for line in section.lines]
    assert not [name for name in names if "annealing" in name or "amortisation" in name]


def test_what_a_model_cannot_be_asked_is_said(model, y):
    gan = ImplicitModel(StandardNormalPrior(2), torch.nn.Linear(2, 6))
    report = model_report(gan, y.float(), DataKind.REAL, BUDGET)
    assert not any(section.lines for section in report.sections)
    assert "rdae judge" in report.text()
    whole = linear_autoencoder(model)
    plain = NoisyChannelAutoencoder(whole.encoder, whole.channel, whole.prior, whole.decoder, squared_error)
    report = model_report(plain, y, DataKind.REAL, BUDGET)
    assert "no likelihood" in report.text()
    assert of(report, "distortion").unit == "distortion per example"


@pytest.mark.parametrize("name", [name for name in GENERATIVE_RECIPES if name not in ("gan", "r3gan", "wgan_gp")])
def test_every_model_with_an_encoder_can_be_measured(name):
    data = ArrayData(torch.randn(40, 4), DataKind.REAL)
    options = {} if name == "ladder_vae" else {"latent": 2, "hidden": (8,)}
    recipe = generative_recipe(name, data, None, options)
    small = Budget(examples=12, samples=3, latent_examples=8, searched=2, temperatures=3, search_steps=2)
    report = model_report(recipe.result(recipe.model()).eval(), data.values, DataKind.REAL, small)
    assert report.sections[0].lines
    assert name in model_page(report, name)


def test_the_page_holds_every_number_and_needs_no_network(report):
    page = model_page(report, "a <model>", "rdae measure x --data y")
    assert "a &lt;model&gt;" in page
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace("http-equiv", "")
    for section in report.sections:
        assert all(line.reading.split("'")[0].replace("&", "&amp;") in page for line in section.lines)
        assert all(f"<td>{_value(line.measure)}</td>" in page for line in section.lines)
    assert all(_value(line.measure) for section in report.sections for line in section.lines)
    kept = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert sum(len(section["measures"]) for section in kept["sections"]) >= 16
