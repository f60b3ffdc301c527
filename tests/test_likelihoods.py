"""Likelihoods: one list of all of them, one set of laws over the list; then what each one says of itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F
from scipy import special, stats
from torch import Tensor
from torch.testing import assert_close

from rdae.distortions import squared_error
from rdae.errors import DataError, ModelError, ShapeError
from rdae.likelihoods import (
    LOG_SPREAD_MAX,
    LOG_SPREAD_MIN,
    Bernoulli,
    Categorical,
    DiscretisedLogisticMixture,
    Gaussian,
    Laplace,
    Likelihood,
    Rescaled,
)

LOCATED = {
    f"{law.__name__}({spread}, {learned!r})": (law, spread, learned)
    for law in (Gaussian, Laplace)
    for spread, learned in ((1.0, ""), (1e-4, ""), (300.0, ""), (0.3, "one"), (0.3, "example"), (0.3, "element"))
}
MAKERS = {name: lambda args=args: args[0](*args[1:]) for name, args in LOCATED.items()} | {
    "Rescaled(Laplace(0.3, 'element'))": lambda: Rescaled(
        Laplace(0.3, "element"), torch.tensor(-50.0), torch.tensor(20.0)
    ),
    "Bernoulli()": Bernoulli,
    "Categorical()": Categorical,
    "DiscretisedLogisticMixture(1)": lambda: DiscretisedLogisticMixture(1),
    "DiscretisedLogisticMixture(5)": lambda: DiscretisedLogisticMixture(5),
}
SHAPES = {"vectors": (3, 4), "images": (2, 3, 4, 5)}
GRID = torch.arange(256, dtype=torch.float64) / 255
DRAWS = 30_000
DOUBLE = {"rtol": 1e-12, "atol": 1e-12}  # float64: thousands of roundings of 1e-16
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


@pytest.fixture(params=MAKERS.values(), ids=MAKERS)
def likelihood(request: pytest.FixtureRequest) -> Likelihood:
    return request.param().double()


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(8)
        yield


def outputs(likelihood: Likelihood, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    """What a decoder might compute for data of that shape."""
    return torch.randn(shape[0], likelihood.features * shape[1], *shape[2:], dtype=dtype)


def data(likelihood: Likelihood, shape: tuple[int, ...]) -> Tensor:
    if likelihood.discrete:
        return GRID[torch.randint(256, shape)]
    if isinstance(likelihood, Bernoulli):
        return torch.randint(2, shape).double()
    return torch.randn(shape, dtype=torch.float64)


def support(likelihood: Likelihood, out: Tensor) -> tuple[Tensor, Tensor]:
    """Points of y and their weights, `(n,)`: all of them, or a quadrature for one element, `out` `(1, features)`."""
    if likelihood.discrete:
        return GRID, torch.ones(256, dtype=torch.float64)
    if isinstance(likelihood, Bernoulli):
        return torch.tensor([0.0, 1.0]).double(), torch.ones(2).double()
    # panels of one spread, 50 to each side, 12 Gauss-Legendre nodes each: e^-50 = 2e-22 of a Laplace is left out
    location, spread = located_at(likelihood, out)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    at = (np.arange(-50, 50)[:, None] + (nodes + 1) / 2).ravel()
    return torch.from_numpy(location + spread * at), torch.from_numpy(np.tile(weights * spread / 2, 100))


def located_at(likelihood: Likelihood, out: Tensor) -> tuple[float, float]:
    """Location and spread of one element."""
    if isinstance(likelihood, Rescaled):
        location, spread = located_at(likelihood.inner, out)
        return float(likelihood.mean_y) + float(likelihood.std_y) * location, float(likelihood.std_y) * spread
    location, log_spread = likelihood._located(out)
    return float(location), math.exp(log_spread.detach())


def density(likelihood: Likelihood, y: Tensor, out: Tensor) -> Tensor:
    """p of one element, whose decoder output is `(1, features)`, at the points y, `(n,)`."""
    return (-likelihood(y[:, None], out.expand(len(y), -1))).exp().detach()


# --- laws of all likelihoods ------------------------------------------------------------------------------------------


def test_total_probability_is_one(likelihood):
    for _ in range(5):
        out = outputs(likelihood, (1, 1))
        y, weight = support(likelihood, out)
        assert_close((weight * density(likelihood, y, out)).sum(), torch.tensor(1.0).double(), **DOUBLE)


@every_shape
def test_an_example_costs_the_sum_of_its_elements_whatever_its_neighbours(likelihood, shape):
    y, out = data(likelihood, shape), outputs(likelihood, shape)
    cost = likelihood(y, out)
    assert cost.shape == shape[:1]
    assert_close(cost, -likelihood.elements(y, out).flatten(1).sum(1), **DOUBLE)
    assert_close(cost, torch.cat([likelihood(y[i : i + 1], out[i : i + 1]) for i in range(shape[0])]), **DOUBLE)


def test_an_image_costs_as_much_as_the_vector_of_its_elements(likelihood):
    y, out = data(likelihood, SHAPES["images"]), outputs(likelihood, SHAPES["images"])
    flat = out.unflatten(1, (likelihood.features, -1)).flatten(2).flatten(1)
    assert_close(likelihood(y.flatten(1), flat), likelihood(y, out), **DOUBLE)
    assert_close(likelihood.mean(flat), likelihood.mean(out).flatten(1), **DOUBLE)


@every_shape
def test_means_and_samples_are_data(likelihood, shape):
    out = outputs(likelihood, shape).requires_grad_()
    mean, sample = likelihood.mean(out), likelihood.sample(out)
    assert mean.shape == sample.shape == shape
    assert mean.requires_grad
    assert not sample.requires_grad
    likelihood.check(sample)
    assert likelihood.low <= mean.min()
    assert mean.max() <= likelihood.high


def test_the_mean_is_that_of_the_law(likelihood):
    for _ in range(5):
        out = outputs(likelihood, (1, 1))
        y, weight = support(likelihood, out)
        tolerance = 1e-12 * max(1, y.abs().max())
        if isinstance(likelihood, DiscretisedLogisticMixture):
            tolerance = 1 / 15 / 255  # as it says of itself; see below
        expected = (weight * density(likelihood, y, out) * y).sum()
        assert_close(likelihood.mean(out)[0, 0].detach(), expected, rtol=0, atol=float(tolerance))


def test_samples_have_the_moments_of_the_law(likelihood):
    for _ in range(2):
        out = outputs(likelihood, (1, 1))
        y, weight = support(likelihood, out)
        p = weight * density(likelihood, y, out)
        mean = (p * y).sum()
        second, fourth = ((p * (y - mean) ** k).sum() for k in (2, 4))
        drawn = likelihood.sample(out.expand(DRAWS, -1))[:, 0]
        assert abs(drawn.mean() - mean) < 4 * (second / DRAWS).sqrt()
        spread = ((drawn - mean) ** 2).mean()  # about the known mean: unbiased, of variance (m4 - m2^2) / n
        assert abs(spread - second) < 4 * ((fourth - second**2) / DRAWS).sqrt()


def test_samples_pass_a_test_of_fit(likelihood):
    out = outputs(likelihood, (1, 1))
    drawn = likelihood.sample(out.expand(DRAWS, -1))[:, 0].numpy()
    if likelihood.discrete or isinstance(likelihood, Bernoulli):
        y, _ = support(likelihood, out)
        expected = DRAWS * density(likelihood, y, out).numpy()
        found = np.array([(np.abs(drawn - value) < 1e-9).sum() for value in y.numpy()])
        assert found.sum() == DRAWS
        order = np.argsort(-expected)  # levels of fewer than ten draws are counted together
        common, rare = order[expected[order] >= 10], order[expected[order] < 10]
        groups = [[k] for k in common] + ([rare] if expected[rare].sum() >= 10 else [])
        found, expected = (np.array([x[g].sum() for g in groups]) for x in (found, expected))
        p = stats.chisquare(found, expected * found.sum() / expected.sum()).pvalue
    else:
        law = stats.norm if isinstance(likelihood, Gaussian) else stats.laplace
        p = stats.kstest(drawn, law(*located_at(likelihood, out)).cdf).pvalue
    assert p > 1e-3


@every_shape
def test_gradients_are_those_of_finite_differences(likelihood, shape):
    shape = (2, 2, *(2 for _ in shape[2:]))
    y, out = data(likelihood, shape), outputs(likelihood, shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda o: likelihood(y, o), (out,), fast_mode=True)
    assert torch.autograd.gradcheck(likelihood.mean, (out,), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda o: likelihood(y, o), (out,), fast_mode=True)


def test_cost_and_gradient_stay_finite_far_out_in_float32(likelihood):
    likelihood.float()
    far = torch.tensor([0.0, 0.5, -1.0, 1.0, -30.0, 30.0, -1e3, 1e3, -1e6, 1e6, -1e14, 1e14])  # squares below 3e38
    low, high = max(likelihood.low, -1e6), min(likelihood.high, 1e6)
    y = torch.tensor([low, 0.0, 0.2, high])[torch.randint(4, (3000, 1))]
    if likelihood.discrete:
        y = (y * 255).round() / 255
    out = far[torch.randint(len(far), (3000, likelihood.features))].requires_grad_()
    for log_spread in (-30.0, -7.0, 0.0, 5.0, 30.0) if hasattr(likelihood, "log_spread") else (None,):
        if log_spread is not None:
            likelihood.log_spread.data.fill_(log_spread)
        cost = likelihood(y, out)
        gradients = torch.autograd.grad(cost.double().sum(), [out, *likelihood.parameters()])
        assert torch.isfinite(cost).all()
        assert all(torch.isfinite(g).all() for g in gradients)
        assert torch.isfinite(likelihood.mean(out)).all()


@every_shape
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_decoder_in_half_precision_is_judged_in_float32(likelihood, shape, dtype):
    likelihood.float()
    y, out = data(likelihood, shape).float(), outputs(likelihood, shape, dtype)
    for half, whole in (
        (likelihood(y, out), likelihood(y, out.float())),
        (likelihood.mean(out), likelihood.mean(out.float())),
    ):
        assert half.dtype == torch.float32
        assert_close(half, whole)
    likelihood.check(likelihood.sample(out))


@every_shape
def test_a_decoder_with_other_features_is_refused(likelihood, shape):
    y, out = data(likelihood, shape), outputs(likelihood, shape)
    fits = rf"likelihood\.features = {likelihood.features} outputs for each channel of y"
    for wrong in (out[:, :-1], torch.cat([out, out], 1), out[..., :-1], out[:1], out[..., None], out[0]):
        with pytest.raises(ShapeError, match=fits):
            likelihood(y, wrong)
    with pytest.raises(ShapeError, match=r"Reshape n numbers to \(n, 1\)"):
        likelihood(y.flatten(), out)
    split = rf"into {likelihood.features} features\. Build the decoder"
    for wrong in (out[0, ..., 0].flatten(), out[:, :0], *([out[:, 1:]] if likelihood.features > 1 else [])):
        for method in (likelihood.mean, likelihood.sample):
            with pytest.raises(ShapeError, match=split):
                method(wrong)


def test_data_that_are_no_numbers_are_refused(likelihood):
    for worst in (math.nan, math.inf, -math.inf):
        y = data(likelihood, (3, 4))
        y[1, 2] = worst
        with pytest.raises(DataError, match=r"table\.npy has 1 of 12 values NaN or infinite\. Drop those examples"):
            likelihood.check(y, "table.npy")
    with pytest.raises(DataError, match=r"y is empty: its shape is \(0, 4\)\. Check where it was taken from"):
        likelihood.check(torch.zeros(0, 4))


def test_data_out_of_range_are_refused(likelihood):
    likelihood.check(data(likelihood, (30, 4)))
    for low, high in ((0, 255), (-1, 1), (0.0, 1.01)):
        y = torch.tensor([[low, high]])
        if math.isinf(likelihood.high):
            likelihood.check(y)
        else:
            with pytest.raises(
                DataError, match=f"from {low:g} to {high:g}, but .* from 0 to 1. Divide 8-bit values by"
            ):
                likelihood.check(y)


# --- location and spread ----------------------------------------------------------------------------------------------


@pytest.fixture(params=LOCATED.values(), ids=LOCATED)
def located(request: pytest.FixtureRequest) -> Likelihood:
    law, spread, learned = request.param
    return in_double(law(spread, learned))


def in_double(likelihood: Likelihood) -> Likelihood:
    """In float64; a learned spread, which began as a float32, starts again where it is said to."""
    likelihood.double()
    for parameter in likelihood.parameters():
        parameter.data.fill_(likelihood.start)
    return likelihood


def spread_of(likelihood: Likelihood, out: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The spread of each element, from its description."""
    spread = math.exp(likelihood.start) * torch.ones(shape, dtype=torch.float64)
    if likelihood.features == 2:
        shift = out.unflatten(1, (2, -1))[:, 1]
        if likelihood.learned == "example":
            shift = shift.flatten(1).mean(1).view(-1, *(1,) * (len(shape) - 1))
        spread = spread * shift.exp()
    return spread


@every_shape
def test_gaussian_and_laplace_are_those_of_torch(located, shape):
    y, out = data(located, shape), outputs(located, shape)
    law = torch.distributions.Normal if isinstance(located, Gaussian) else torch.distributions.Laplace
    expected = law(out.unflatten(1, (located.features, -1))[:, 0], spread_of(located, out, shape)).log_prob(y)
    assert_close(located.elements(y, out).detach(), expected, **DOUBLE)


def test_a_change_of_unit_costs_the_logarithm_of_it(located):
    """p(c y) = p(y) / c if location and spread are scaled as well; so are the bounds of a learned spread."""
    y, out = data(located, (3, 4)), 20 * outputs(located, (3, 4))  # beyond both bounds, too
    c = 1000.0
    scaled = in_double(type(located)(c * math.exp(located.start), located.learned))
    moved = out.unflatten(1, (located.features, -1)) * torch.tensor([c, 1.0])[: located.features, None]
    found = scaled(c * y, moved.flatten(1)).detach()
    assert_close(found, located(y, out).detach() + 4 * math.log(c), **DOUBLE)


def test_the_gaussian_observation_model_with_its_constant():
    """-ln p = |y - y_hat|^2 / (2 s^2) + n/2 ln (2 pi s^2), and exp of minus that integrates to one over the plane."""
    s = 0.7
    y, y_hat = torch.randn(3, 2, 4, 5).double(), torch.randn(3, 2, 4, 5).double()
    expected = squared_error(y, y_hat) / (2 * s**2) + 20 * math.log(2 * math.pi * s**2)
    assert_close(Gaussian(s)(y, y_hat), expected, **DOUBLE)
    # the trapezoidal rule is exact here up to exp(-2 (pi s / h)^2) = e^-315 and the tail beyond ten deviations
    h = s / 4
    axis = h * torch.arange(-40, 41).double()
    plane = torch.cartesian_prod(axis, axis)
    total = h**2 * torch.exp(-Gaussian(s)(plane, torch.tensor([[0.1, -0.2]]).double().expand_as(plane))).sum()
    assert_close(total, torch.tensor(1.0).double(), **DOUBLE)


def test_without_the_constant_a_learned_spread_would_grow_without_end():
    y, y_hat = torch.randn(50, 3).double(), torch.randn(50, 3).double()
    bare = [float((squared_error(y, y_hat) / (2 * s**2)).mean()) for s in (1.0, 10.0, 100.0)]
    whole = [float(Gaussian(s)(y, y_hat).mean()) for s in (1.0, 10.0, 100.0)]
    assert bare[0] > bare[1] > bare[2]
    assert whole[0] < whole[1] < whole[2]


def minimise(cost, parameter: Tensor) -> None:
    optimiser = torch.optim.LBFGS(
        [parameter], max_iter=200, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = cost()
        value.backward()
        return value

    optimiser.step(closure)


@pytest.mark.parametrize(("law", "power"), [(Gaussian, 2), (Laplace, 1)])
@pytest.mark.parametrize("learned", ["one", "example", "element"])
def test_the_best_spread_is_the_mean_residual_over_all_per_example_or_per_element(law, power, learned):
    """Gaussian: spread^2 = MSE; Laplace: spread = mean absolute error. Quadratic at the optimum: 1e-7 for 1e-12."""
    y, location = torch.randn(5, 2, 3, 3).double(), torch.randn(5, 2, 3, 3).double()
    residual = (y - location).abs() ** power
    likelihood = law(0.5, learned).double()
    own = torch.zeros_like(y).requires_grad_()
    if learned == "one":
        minimise(lambda: likelihood(y, location).mean(), likelihood.log_spread)
        best, due = likelihood.log_spread.detach().exp(), residual.mean()
    else:
        minimise(lambda: likelihood(y, torch.cat([location, own], 1)).mean(), own)
        best = 0.5 * own.detach().exp()
        due = residual
        if learned == "example":
            best = 0.5 * own.detach().flatten(1).mean(1).exp()
            due = residual.flatten(1).mean(1)
    assert_close(best**power, due, rtol=1e-7, atol=0)


def test_the_best_location_is_the_mean_for_a_gaussian_and_the_median_for_a_laplace():
    y = torch.tensor([0.0, 1.0, 1.5, 4.0, 20.0]).double()
    candidates = torch.linspace(-1, 21, 22001).double()[:, None]
    for likelihood, best in ((Gaussian(2.0), y.mean()), (Laplace(2.0), y.median())):
        total = likelihood(y.expand(len(candidates), -1), candidates.expand(-1, len(y)))
        assert abs(float(candidates[total.argmin()]) - float(best)) <= 5e-4 + 1e-9  # half a step


@pytest.mark.parametrize("law", [Gaussian, Laplace])
@pytest.mark.parametrize("learned", ["one", "example", "element"])
def test_a_learned_spread_is_held_at_its_bounds_and_finds_its_way_back(law, learned):
    likelihood = law(0.5, learned).double()
    zero, one = torch.zeros(1, 2).double(), torch.ones(1, 2).double()
    for strayed, bound, back in (
        (LOG_SPREAD_MIN - 3, LOG_SPREAD_MIN, one),  # an error this large asks for more
        (LOG_SPREAD_MAX + 3, LOG_SPREAD_MAX, zero),  # none at all asks for less
    ):
        outward = 1e4 * one if back is zero else zero

        def pull(at: float, y: Tensor) -> tuple[float, float]:
            """Cost, and its slope in ln spread."""
            if learned == "one":
                likelihood.log_spread.data.fill_(math.log(0.5) + at)
                cost, asked = likelihood(y, zero).sum(), likelihood.log_spread
            else:
                asked = torch.full((1, 2), at).double().requires_grad_()
                cost = likelihood(y, torch.cat([zero, asked], 1)).sum()
            return float(cost.detach()), float(torch.autograd.grad(cost, asked)[0].sum())

        assert pull(strayed, back) == pytest.approx(pull(bound, back), rel=1e-9)
        assert pull(strayed, back)[1] * strayed > 0
        assert pull(strayed, outward) == (pytest.approx(pull(bound, outward)[0], rel=1e-9), 0.0)


def test_wrong_spreads_are_refused():
    for law, wrong in product((Gaussian, Laplace), (0.0, -1.0, math.nan, math.inf)):
        with pytest.raises(ModelError, match="Pass one in units of y"):
            law(wrong)
    with pytest.raises(ModelError, match="Choose '', 'one', 'example' or 'element'"):
        Gaussian(learned="pixel")


def test_rescaling_is_a_change_of_variables_in_each_column():
    y, out = torch.randn(5, 3).double(), torch.randn(5, 3).double()
    mean, std = torch.tensor([0.0, -3.0, 1e4]).double(), torch.tensor([1.0, 0.02, 500.0]).double()
    likelihood = Rescaled(Gaussian(0.5), mean, std)
    expected = torch.distributions.Normal(mean + std * out, 0.5 * std).log_prob(y)
    assert_close(likelihood.elements(y, out), expected, **DOUBLE)
    assert_close(likelihood.mean(out), mean + std * out, **DOUBLE)


def test_rescaling_that_does_not_fit_is_refused():
    one = torch.ones(3)
    with pytest.raises(ModelError, match=r"Bernoulli is a likelihood of a fixed range\. Use it without rescaling"):
        Rescaled(Bernoulli(), one, one)
    for std in (torch.tensor([1.0, 0.0, 1.0]), torch.tensor([1.0, math.nan, 1.0]), torch.ones(2)):
        with pytest.raises(ModelError, match="Pass 1 where data do not vary"):
            Rescaled(Gaussian(), one, std)
    with pytest.raises(ShapeError, match="Take them over dimension 0 of y"):
        Rescaled(Gaussian(), one, one)(torch.zeros(4, 1), torch.zeros(4, 1))


# --- binary data ------------------------------------------------------------------------------------------------------


def test_bernoulli_is_torchs_binary_cross_entropy_also_for_grey_values():
    y, out = torch.rand(3, 2, 4, 4).double(), 5 * torch.randn(3, 2, 4, 4).double()
    for target in (y, y.round()):
        expected = F.binary_cross_entropy_with_logits(out, target, reduction="none").sum((1, 2, 3))
        assert_close(Bernoulli()(target, out), expected, **DOUBLE)


def test_bernoulli_is_right_in_both_tails_to_the_last_digit_of_the_logit():
    logit = torch.tensor([[-700.0], [-30.0], [-21.0], [21.0], [30.0], [700.0]]).double()
    for y in (0.0, 1.0):
        found = Bernoulli()(torch.full_like(logit, y), logit)
        against = logit if y == 0 else -logit
        expected = torch.clamp(against, min=0) + torch.log1p(torch.exp(-against.abs()))
        error = (found - expected[:, 0]).abs()
        assert bool((error <= torch.finfo(torch.float64).eps * logit[:, 0].abs()).all())


# --- 256 levels -------------------------------------------------------------------------------------------------------

LEVELLED = {name: MAKERS[name] for name in MAKERS if name.startswith(("Categorical", "Discretised"))}
WEIGHTS = (0.0, -50.0, 50.0)
MEANS = (-1e6, -40.0, -3.0, -1.0, -0.7, -0.5, -0.502, -0.4, 0.0, 0.00123, 0.5, 0.6, 1.0, 3.0, 40.0, 1e6)
LOG_SCALES = (-100.0, -5.0, -4.0, -1.0, 0.0, 2.0, 7.0, 100.0)  # both bounds are at -5 and 7


def extreme_mixtures(components: int) -> Tensor:
    """Decoder outputs, `(n, 3 * components)`: all combinations for one component, drawn ones for more."""
    if components == 1:
        return torch.tensor(list(product((0.0,), MEANS, LOG_SCALES))).double()
    drawn = [torch.tensor(v)[torch.randint(len(v), (600, components))] for v in (WEIGHTS, MEANS, LOG_SCALES)]
    return torch.cat(drawn, 1).double()


def log_masses(likelihood: Likelihood, out: Tensor) -> Tensor:
    """ln p of all 256 levels, `(n, 256)`, of n elements whose outputs are `(n, features)`."""
    y = GRID.to(out.dtype).expand(len(out), -1)
    return likelihood.elements(y, out[:, :, None].expand(-1, -1, 256).flatten(1)).detach()


def mixture(out: Tensor, components: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and scales in units of y, `(n, components, 1)`, by the description of the features."""
    logit, mean, log_scale = out.unflatten(1, (3, components))[..., None].unbind(1)
    centre = (np.arange(components)[:, None] + 0.5) / components
    return logit.softmax(1).numpy(), mean.numpy() + centre, np.exp(np.clip(log_scale.numpy() - 2, -7, 5))


@pytest.mark.parametrize("components", [1, 5])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_masses_of_extreme_mixtures_sum_to_one(components, dtype, tolerance):
    likelihood = DiscretisedLogisticMixture(components).to(dtype)
    total = log_masses(likelihood, extreme_mixtures(components).to(dtype)).double().exp().sum(1)
    assert (total - 1).abs().max() < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_masses_of_extreme_categories_sum_to_one(dtype, tolerance):
    out = torch.tensor([0.0, -1.0, 1.0, -30.0, 30.0, 1e4, -1e4])[torch.randint(7, (300, 256))].to(dtype)
    total = log_masses(Categorical(), out).double().exp().sum(1)
    assert (total - 1).abs().max() < tolerance


def test_categorical_is_the_table_it_is_given():
    out = torch.randn(2, 256 * 3, 4, 4).double()
    y = data(Categorical(), (2, 3, 4, 4))
    logits = out.unflatten(1, (256, 3)).permute(0, 2, 3, 4, 1)
    expected = torch.distributions.Categorical(logits=logits).log_prob((255 * y).round())
    assert_close(Categorical().elements(y, out), expected, **DOUBLE)


@pytest.mark.parametrize("components", [1, 5])
def test_masses_of_bins_are_differences_of_the_logistic_cumulative(components):
    """The edge bins are half-lines. Read on the side of the smaller tail, the difference loses few digits."""
    out = extreme_mixtures(components)
    weight, mean, scale = mixture(out, components)
    edges = np.concatenate([[-np.inf], (np.arange(1, 256) - 0.5) / 255, [np.inf]])
    lower, upper = edges[:-1], edges[1:]
    law = stats.logistic(mean, scale)
    left = law.cdf(upper) - law.cdf(lower)
    right = law.sf(lower) - law.sf(upper)
    expected = (weight * np.where((lower + upper) / 2 < mean, left, right)).sum(1)
    found = log_masses(DiscretisedLogisticMixture(components).double(), out).exp().numpy()
    # a mean of 1e6 is known to 1e-10, which is 1e-7 of the smallest scale; a bin of the widest loses 1e-11 of its mass
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-15)
    moderate = (np.abs(mean) < 50).all((1, 2))
    np.testing.assert_allclose(found[moderate], expected[moderate], rtol=1e-9, atol=1e-15)


def test_float32_agrees_with_float64():
    out = extreme_mixtures(5).float()
    found = log_masses(DiscretisedLogisticMixture(5), out)
    expected = log_masses(DiscretisedLogisticMixture(5).double(), out.double())
    # 255 * mean is rounded once: 1.5e-5 of a level at most near the range, over the smallest scale of 0.23 levels
    assert_close(found.double(), expected, rtol=1e-6, atol=7e-5)


def test_the_mean_of_a_mixture_is_that_of_its_clipped_values():
    """The integral of 1 - F over [0, 1], by quadrature on panels of two of the smallest scales."""
    nodes, weights = np.polynomial.legendre.leggauss(10)
    at = (np.arange(500)[:, None] + (nodes + 1) / 2).ravel() / 500
    for components in (1, 5):
        out = extreme_mixtures(components)[:200]
        weight, mean, scale = mixture(out, components)
        expected = ((weight * special.expit((mean - at) / scale)).sum(1) * np.tile(weights / 1000, 500)).sum(1)
        found = DiscretisedLogisticMixture(components).double().mean(out)
        np.testing.assert_allclose(found[:, 0].numpy(), expected, rtol=0, atol=1e-9)
        single = DiscretisedLogisticMixture(components).mean(out.float()).double()
        assert_close(single, found, rtol=0, atol=1e-5)


def test_the_mean_of_a_mixture_is_within_a_fifteenth_of_a_level_of_the_discretised_law():
    level = torch.cat([torch.linspace(-5, 5, 201), torch.linspace(100, 101, 21), torch.tensor([-1e6, -300, 300, 1e6])])
    mean, log_scale = level.double() / 255 - 0.5, torch.linspace(-6.0, 8.0, 29).double()
    out = torch.cartesian_prod(torch.zeros(1).double(), mean, log_scale)
    likelihood = DiscretisedLogisticMixture(1).double()
    exact = (log_masses(likelihood, out).exp() * GRID).sum(1)
    assert (255 * (likelihood.mean(out)[:, 0] - exact)).abs().max() < 1 / 15


def test_zeros_spread_the_components_evenly():
    for components in (1, 5):
        likelihood = DiscretisedLogisticMixture(components).double()
        out = torch.zeros(1, likelihood.features).double()
        masses = log_masses(likelihood, out)
        assert_close(masses, masses.flip(1), **DOUBLE)
        assert_close(likelihood.mean(out), torch.full((1, 1), 0.5).double(), **DOUBLE)


def test_a_mixture_of_no_components_is_refused():
    with pytest.raises(ModelError, match="components=1 or more"):
        DiscretisedLogisticMixture(0)


@pytest.fixture(params=LEVELLED.values(), ids=LEVELLED)
def levelled(request: pytest.FixtureRequest) -> Likelihood:
    return request.param().double()


def test_eight_bit_data_of_any_making_are_accepted(levelled):
    levels = torch.arange(256)
    for y in (levels / 255, levels.float() * (1 / 255), levels.double() / 255, levels.half() / 255, levels // 255):
        levelled.check(y)


def test_data_between_two_levels_are_refused(levelled):
    levels = torch.arange(256).double()
    for y in (levels / 256, torch.arange(65536).double() / 65535, (levels[:-1] + 0.5) / 255, torch.rand(1000)):
        with pytest.raises(DataError, match=r"of a level away .* Use 8-bit values divided by 255, not resized"):
            levelled.check(y)


def test_what_lies_between_two_levels_is_read_as_the_nearest(levelled):
    y, out = data(levelled, (3, 4)), outputs(levelled, (3, 4))
    for shift in (-0.49, 0.49):
        assert_close(levelled(y + shift / 255, out), levelled(y, out), rtol=0, atol=0)
