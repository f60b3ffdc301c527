"""Latents on spheres and tori: laws against quadrature and closed forms, models against the topology of their data."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import typer

torch = pytest.importorskip("torch")

from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.channels import GaussianChannel, NoisyChannel, PowerSpherical, SphereChannel, TorusChannel
from rdae.channels.geodesics import geodesic, turned
from rdae.channels.sphere import LOGIT_MAX, LOGIT_MIN, log_area, on_spheres, unit_vector
from rdae.channels.torus import angles_of, on_circles
from rdae.cli import generating as commands
from rdae.data.arrays import ArrayData, Kind, as_floats
from rdae.data.rotations import rotations
from rdae.errors import DataError, ModelError, ShapeError
from rdae.generating import drawn_latents, interpolate, latents_of, traverse
from rdae.likelihoods import Gaussian
from rdae.measures.likelihood import active_units, log_evidence
from rdae.measures.winding import largest_jump, same_neighbours, winding
from rdae.networks.unit import UnitVectors, unit
from rdae.objectives import divergence, sampled_divergence
from rdae.priors.latent import StandardNormalPrior, VampPrior
from rdae.priors.manifold import UniformSphere, UniformSpherePrior, UniformTorusPrior
from rdae.recipes import GENERATIVE_RECIPES, generative_recipe
from rdae.recipes.gaussian_vae import gaussian_vae
from rdae.recipes.model_file import model_file, open_model
from rdae.recipes.sphere_vae import sphere_vae
from rdae.recipes.torus_vae import torus_vae
from rdae.training.generative_recipe import GenerativeRecipe
from rdae.training.loop import Settings, train
from rdae.training.recipe import Step

SIZES = pytest.mark.parametrize("size", [2, 3, 5, 20])
CONCENTRATIONS = pytest.mark.parametrize("concentration", [0.0, 0.3, 4.0, 150.0])
DRAWS = 20_000


@pytest.fixture(autouse=True)
def priors_in_double(in_double):
    for _, prior, _ in PAIRS.values():
        prior.double()


def within(estimate: Tensor, truth: Tensor | float, error: Tensor, errors: float = 4.5) -> bool:
    """Whether every estimate lies within so many of its standard errors."""
    return bool(((estimate - truth).abs() <= errors * error + 1e-12).all())


def law(size: int, concentration: float) -> PowerSpherical:
    return PowerSpherical(unit(torch.randn(size)), torch.tensor(concentration))


def rotation(size: int) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size))[0]


def along(size: int, nodes: int = 50_000) -> tuple[Tensor, Tensor]:
    """Cosines t of angles from a direction, and the area of the sphere that each stands for (midpoint rule)."""
    angle = (torch.arange(nodes) + 0.5) * math.pi / nodes
    ring = 2.0 if size == 2 else math.exp(log_area(size - 1))
    return angle.cos(), ring * angle.sin() ** (size - 2) * math.pi / nodes


# --- the laws ------------------------------------------------------------------------------------------------------


def test_areas_of_spheres():
    for size, area in ((1, 2), (2, 2 * math.pi), (3, 4 * math.pi), (4, 2 * math.pi**2)):
        assert log_area(size) == pytest.approx(math.log(area), abs=1e-14)
    assert log_area(52) - log_area(50) == pytest.approx(math.log(2 * math.pi / 50), abs=1e-12)  # A(n + 2) = 2 pi A(n)/n


@CONCENTRATIONS
def test_the_density_integrates_to_one_on_the_circle_and_on_the_ball(concentration):
    """By quadrature over the surface; the density has a cusp opposite to its mean, where the rule errs most."""
    angle = (torch.arange(4000) + 0.5) * 2 * math.pi / 4000
    q = law(2, concentration)
    assert float(q.log_prob(on_circles(angle)).exp().mean()) * 2 * math.pi == pytest.approx(1, abs=1e-5)
    q = law(3, concentration)
    height, weight = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(200))
    circle = on_circles(angle[::10]) * (1 - height.square()).sqrt()[:, None, None]
    x = torch.cat([circle, height[:, None, None].expand(-1, 400, 1)], -1)
    total = (q.log_prob(x).exp().mean(1) * weight).sum() * 2 * math.pi
    assert float(total) == pytest.approx(1, abs=1e-5)


@SIZES
@CONCENTRATIONS
def test_entropy_moments_and_divergence_are_those_of_quadrature(size, concentration):
    t, area = along(size)
    loc = torch.zeros(size)
    loc[-1] = 1
    q, p = PowerSpherical(loc, torch.tensor(concentration)), UniformSphere(size)
    x = torch.zeros(len(t), size)
    x[:, -1], x[:, 0] = t, (1 - t.square()).sqrt()
    log_density = q.log_prob(x)
    mass = log_density.exp() * area
    assert float(mass.sum()) == pytest.approx(1, abs=1e-7)
    assert float(q.entropy()) == pytest.approx(-float((mass * log_density).sum()), abs=1e-6)
    gap = log_density - p.log_prob(x)
    assert float(kl_divergence(q, p)) == pytest.approx(float((mass * gap).sum()), abs=1e-6)
    assert float(q.mean[-1]) == pytest.approx(float((mass * t).sum()), abs=1e-7)
    variance = (mass * t.square()).sum() - (mass * t).sum() ** 2
    assert float(q.variance[-1]) == pytest.approx(float(variance), abs=1e-7)
    across = (mass * (1 - t.square())).sum() / (size - 1)
    torch.testing.assert_close(q.variance[:-1], across.expand(size - 1), rtol=0, atol=1e-7)


@SIZES
@CONCENTRATIONS
def test_draws_lie_on_the_sphere_and_have_the_moments_and_divergence_of_the_law(size, concentration):
    q = law(size, concentration)
    x = q.rsample((DRAWS,))
    assert bool(unit_vector.check(x).all())
    assert within(x.mean(0), q.mean, (q.variance / DRAWS).sqrt())
    squared = (x - q.mean).square()
    assert within(squared.mean(0), q.variance, squared.std(0) / math.sqrt(DRAWS))
    ratio = q.log_prob(x) - UniformSphere(size).log_prob(x)
    assert within(ratio.mean(), kl_divergence(q, UniformSphere(size)), ratio.std() / math.sqrt(DRAWS))


@pytest.mark.parametrize("size", [2, 3, 20])
def test_angles_of_draws_follow_the_law(size):
    """Kolmogorov-Smirnov: (1 + <loc, x>) / 2 is Beta(concentration + half, half)."""
    stats = pytest.importorskip("scipy.stats")
    q = law(size, 4.0)
    share = (1 + (q.sample((DRAWS,)) * q.loc).sum(-1)) / 2
    assert stats.kstest(share.numpy(), stats.beta(4 + (size - 1) / 2, (size - 1) / 2).cdf).pvalue > 1e-3


@SIZES
@CONCENTRATIONS
def test_pathwise_gradients_are_those_of_the_mean(size, concentration):
    """d |E x| / d concentration = (size - 1) / (concentration + size - 1)^2; and E x moves with the direction."""
    loc = unit(torch.randn(size))
    each = torch.full((DRAWS,), concentration, requires_grad=True)
    locs = loc.expand(DRAWS, size).clone().requires_grad_()
    target = torch.randn(size)
    x = PowerSpherical(locs, each).rsample()
    of_concentration, of_loc = torch.autograd.grad((x @ target).sum(), [each, locs])
    closed = (size - 1) / (concentration + size - 1) ** 2 * (loc @ target)
    error = of_concentration.std() / math.sqrt(DRAWS)
    # torch approximates the derivative of a Gamma draw to a few parts in 10,000
    assert within(of_concentration.mean(), closed, error + 2e-4 * abs(float(closed)))
    tangent = of_loc - (of_loc @ loc)[:, None] * loc  # loc stays on the sphere
    wanted = concentration / (concentration + size - 1) * (target - (target @ loc) * loc)
    assert within(tangent.mean(0), wanted, tangent.std(0) / math.sqrt(DRAWS))


@SIZES
def test_the_rate_has_the_gradient_of_its_closed_form(size):
    concentration = torch.tensor([0.1, 3.0, 80.0], requires_grad=True)
    q = PowerSpherical(unit(torch.randn(3, size)), concentration)
    rate = divergence(q, UniformSphere(size))
    assert torch.autograd.gradcheck(
        lambda k: kl_divergence(PowerSpherical(q.loc.detach(), k), UniformSphere(size)), concentration
    )
    assert bool((rate > 0).all())
    assert bool((rate.diff() > 0).all())


def test_without_concentration_the_law_is_uniform():
    for size in (2, 3, 20):
        q, p = law(size, 0.0), UniformSphere(size)
        x = p.sample((100,))
        torch.testing.assert_close(q.log_prob(x), p.log_prob(x), rtol=0, atol=1e-12)
        assert float(q.entropy()) == pytest.approx(float(p.entropy()), abs=1e-12)
        torch.testing.assert_close(q.mean, p.mean)
        torch.testing.assert_close(q.variance, p.variance)
        assert float(q.log_prob(-q.loc)) == pytest.approx(-log_area(size), abs=1e-12)  # where (1 + <loc, x>) is 0


def test_a_narrow_law_is_a_gaussian_in_the_tangent_space():
    """Of variance 2 / concentration, so its rate is ln area - (size - 1) / 2 ln(2 pi e 2 / concentration)."""
    for size in (2, 3, 20):
        concentration = 1e7
        wanted = log_area(size) - (size - 1) / 2 * math.log(4 * math.pi * math.e / concentration)
        assert float(kl_divergence(law(size, concentration), UniformSphere(size))) == pytest.approx(wanted, abs=1e-4)


@SIZES
def test_everything_turns_with_the_direction(size):
    turn, q = rotation(size), law(size, 5.0)
    turned_law = PowerSpherical(turn @ q.loc, q.concentration)
    x = q.sample((50,))
    torch.testing.assert_close(turned_law.log_prob(x @ turn.T), q.log_prob(x), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(turned_law.mean, turn @ q.mean)
    torch.testing.assert_close(turned_law.entropy(), q.entropy())
    covariance = torch.cov(q.sample((DRAWS,)).T)
    torch.testing.assert_close(covariance.diagonal(), q.variance, rtol=0, atol=0.05)


@pytest.mark.parametrize("size", [2, 3, 50])
def test_float32_stays_finite_and_right_at_extreme_concentrations(size):
    concentration = torch.tensor([0.0, 1e-30, 1e-3, 1e4, 1e6, 1e8], dtype=torch.float32)
    loc = unit(torch.randn(6, size)).float()
    k, at = concentration.clone().requires_grad_(), loc.clone().requires_grad_()
    q = PowerSpherical(at, k)
    x = q.rsample((2000,))
    rate = divergence(q, UniformSphere(size, dtype=torch.float32))
    log_prob = q.log_prob(x)
    exact = PowerSpherical(unit(loc.double()), concentration.double())
    torch.testing.assert_close(rate.double(), divergence(exact, UniformSphere(size)), rtol=1e-6, atol=1e-5)
    closeness = (log_prob.double() - exact.log_prob(unit(x.double()))).abs()
    assert float(closeness.detach().max()) < 0.03  # float32 places points to 6e-8; at 1e8 a law is 1e-4 wide
    assert float(closeness[:, :4].detach().max()) < 1e-3
    poles = q.log_prob(torch.stack([loc, -loc]))
    assert bool(torch.isfinite(poles).all())
    for value in (x.sum(), rate.sum(), log_prob.sum(), poles.sum()):
        for gradient in torch.autograd.grad(value, [k, at], retain_graph=True, allow_unused=True):
            assert gradient is None or bool(torch.isfinite(gradient).all())


def test_laws_are_refused_what_they_cannot_be():
    with pytest.raises(ShapeError, match="2 elements or more"):
        PowerSpherical(torch.ones(3, 1), torch.ones(3))
    with pytest.raises(ModelError, match="Choose 2 or more"):
        SphereChannel(1)
    with pytest.raises(ValueError, match="loc"):
        PowerSpherical(torch.tensor([1.0, 1.0]), torch.tensor(1.0), validate_args=True)
    with pytest.raises(ValueError, match="support"):
        law(3, 1.0).log_prob(torch.tensor([1.0, 1.0, 0.0]))


# --- channels and priors -------------------------------------------------------------------------------------------

PAIRS: dict[str, tuple[NoisyChannel, nn.Module, tuple[int, ...]]] = {
    "circle": (SphereChannel(2), UniformSpherePrior(2), (2,)),
    "sphere": (SphereChannel(4), UniformSpherePrior(4), (4,)),
    "one-circle torus": (TorusChannel(1), UniformTorusPrior(1), (1, 2)),
    "torus": (TorusChannel(3), UniformTorusPrior(3), (3, 2)),
}
EVERY_PAIR = pytest.mark.parametrize("name", PAIRS)


@EVERY_PAIR
def test_the_rate_of_a_channel_is_exact_and_its_draws_agree(name):
    channel, prior, event = PAIRS[name]
    q, p = channel(torch.randn(4, channel.features)), prior()
    assert (q.batch_shape, q.event_shape, p.batch_shape, p.event_shape) == ((4,), event, (), event)
    assert on_spheres(q)
    assert on_spheres(p)
    rate = divergence(q, p)
    assert rate.shape == (4,)
    assert within(rate, *sampled_divergence(q, p, DRAWS))
    z = p.sample((DRAWS,))
    assert within(z.mean(0), 0.0, (p.variance / DRAWS).sqrt())
    assert float(p.entropy()) == pytest.approx(-float(p.log_prob(z[0])))


def test_the_logit_is_that_of_the_means_length_in_every_dimension():
    logit = torch.tensor([-3.0, 0.0, 2.0])
    for channel in (SphereChannel(2), SphereChannel(30), TorusChannel(1)):
        h = torch.cat([torch.randn(3, channel.features - 1), logit[:, None]], 1)
        torch.testing.assert_close(channel(h).mean.flatten(1).norm(dim=1), torch.sigmoid(logit))
        torch.testing.assert_close(unit(channel(h).mean), unit(h[:, :-1]).view_as(channel(h).mean))


def test_a_torus_is_a_product_of_circles():
    channel, h = TorusChannel(3), torch.randn(5, 9)
    circles = [SphereChannel(2)(part) for part in h.split(3, 1)]
    q, z = channel(h), UniformTorusPrior(3)().sample((5,))
    torch.testing.assert_close(q.log_prob(z), sum(c.log_prob(z[:, i]) for i, c in enumerate(circles)))
    rates = sum(divergence(c, UniformSpherePrior(2)()) for c in circles)
    torch.testing.assert_close(divergence(q, UniformTorusPrior(3)()), rates)
    torch.testing.assert_close(on_circles(angles_of(z)), z)


@EVERY_PAIR
def test_whatever_an_encoder_says_the_channel_stays_finite(name):
    channel, prior, _ = PAIRS[name]
    for scale in (0.0, 1e-20, 1.0, 1e10):
        h = (scale * torch.randn(4, channel.features)).float().requires_grad_()
        q = channel(h)
        z = q.rsample()
        total = divergence(q, prior.float()()).sum() + z.sum() + q.log_prob(z).sum()
        (gradient,) = torch.autograd.grad(total, h)
        assert bool(torch.isfinite(gradient).all())
        assert bool(unit_vector.check(z).all())


def test_concentrations_are_bounded_but_find_back():
    channel = SphereChannel(3)
    for logit, bound in ((-50.0, LOGIT_MIN), (50.0, LOGIT_MAX)):
        h = torch.tensor([[1.0, 0.0, 0.0, logit]], requires_grad=True)
        q = channel(h)
        assert float(q.concentration.detach()) == pytest.approx(2 * math.exp(bound))
        back = torch.autograd.grad(math.copysign(1, logit) * q.concentration.sum(), h)[0][0, 3]
        assert float(back) * logit > 0  # descent leads back


def test_sixteen_bit_outputs_are_widened_and_pictures_refused():
    assert SphereChannel(3)(torch.randn(2, 4, dtype=torch.bfloat16)).rsample().dtype == torch.float32
    for channel in (SphereChannel(3), TorusChannel(2)):
        with pytest.raises(ShapeError, match="is for vectors"):
            channel(torch.zeros(1, channel.features, 3, 3))
        with pytest.raises(ShapeError, match=f"needs {channel.features} features"):
            channel(torch.zeros(2, channel.features + 1))


def test_other_laws_are_not_on_spheres():
    normal = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    assert not on_spheres(normal)
    zuko = pytest.importorskip("zuko")
    assert not on_spheres(zuko.flows.MAF(2, hidden_features=(8,))())


# --- ways ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [(2,), (7,), (1, 2), (3, 2)], ids=str)
def test_the_shortest_way_is_walked_evenly_from_end_to_end(event):
    a, b = unit(torch.randn(event)), unit(torch.randn(event))
    way = geodesic(0.3 * a, 5 * b, 9)  # lengths do not matter
    torch.testing.assert_close(way[0], a)
    torch.testing.assert_close(way[-1], b)
    assert bool(unit_vector.check(way).all())
    steps = torch.arccos((way[1:] * way[:-1]).sum(-1).clamp(-1, 1))
    torch.testing.assert_close(steps, (torch.arccos((a * b).sum(-1)) / 8).expand_as(steps), rtol=0, atol=1e-6)


def test_ways_between_equal_and_opposite_points_are_ways():
    a = unit(torch.randn(5))
    torch.testing.assert_close(geodesic(a, a, 4), a.expand(4, 5))
    way = geodesic(a, -a, 5)
    torch.testing.assert_close(way[-1], -a)
    torch.testing.assert_close(way[2] @ a, torch.tensor(0.0), rtol=0, atol=1e-9)
    mixed = geodesic(torch.stack([a[:2], a[2:4]]), torch.stack([-a[:2], a[2:4]]), 3)
    torch.testing.assert_close(mixed[:, 1], unit(a[2:4]).expand(3, 2))


def test_a_turn_goes_once_around():
    angles = torch.linspace(0, 2 * math.pi, 9)
    z = unit(torch.randn(3, 2))
    way = turned(z, 1, angles)
    torch.testing.assert_close(way[:, [0, 2]], z[[0, 2]].expand(9, 2, 2))
    assert winding(angles_of(way[:-1, 1])).number == 1
    torch.testing.assert_close(way[-1], z)
    z = unit(torch.randn(4))
    way = turned(z, 2, angles)
    torch.testing.assert_close(way @ z, angles.cos())
    to_axis = turned(z, 2, torch.arccos(z[2])[None])[0]
    torch.testing.assert_close(to_axis, torch.eye(4)[2])
    assert bool(unit_vector.check(turned(torch.eye(4)[2], 2, angles)).all())  # from the axis itself


# --- models --------------------------------------------------------------------------------------------------------


def small_model(name: str) -> NoisyChannelAutoencoder:
    channel, prior, event = PAIRS[name]
    decoder = nn.Sequential(UnitVectors(), nn.Linear(math.prod(event), 8), nn.Tanh(), nn.Linear(8, 5))
    return NoisyChannelAutoencoder(nn.Linear(5, channel.features), channel, prior, decoder, Gaussian(0.5))


@EVERY_PAIR
def test_one_model_class_serves_all(name):
    model, y = small_model(name), torch.randn(6, 5)
    event = PAIRS[name][2]
    terms = model(y).terms
    assert terms.rate.shape == terms.distortion.shape == (6,)
    assert model.units == math.prod(event)
    assert model.sample(7).shape == (7, 5)
    assert active_units(model, torch.randn(500, 5)) > 0
    # decoded means are decoded modes: what lies within the sphere is taken to it
    mode = unit(model.posterior(y).mean)
    torch.testing.assert_close(model.reconstruct(y), model.decode(mode))
    ends = latents_of(model, y)
    walks = interpolate(model, ends[:3], ends[3:], 5)
    assert walks.shape == (3, 5, 5)
    torch.testing.assert_close(walks[:, 0], model.reconstruct(y[:3]))
    torch.testing.assert_close(walks[:, -1], model.reconstruct(y[3:]))
    z = drawn_latents(model, 1)[0]
    rows = traverse(model, z, list(range(len(z))), 5, math.pi)
    torch.testing.assert_close(rows[:, 2], model.decode(z[None]).expand(len(z), 5))
    torch.testing.assert_close(rows[:, 0], rows[:, -1])  # half-way around to either side
    with pytest.raises(ShapeError, match="units"):
        traverse(model, z, [len(z)])


@EVERY_PAIR
def test_importance_bounds_rise_to_the_evidence(name):
    """By sampling the prior, and by importance sampling at concentrations where its weights have a finite variance.

    A power spherical density is zero opposite to its mean: E_q (p / q)^2 is finite below half the dimension of the
    sphere only, which is a logit of ln 1/2.
    """
    model, y = small_model(name).eval(), torch.randn(3, 5)
    with torch.no_grad():
        logits = slice(PAIRS[name][2][-1], None, PAIRS[name][2][-1] + 1)
        model.encoder.weight[logits] = 0
        model.encoder.bias[logits] = -1.5
        z = model.code().sample((60_000,))
        weights = torch.stack([(-model.distortion(one.expand(60_000, 5), model.decoder(z))).exp() for one in y])
        truth, error = weights.mean(1), weights.std(1) / math.sqrt(60_000)
        estimate = log_evidence(model, y, 20_000).exp()
        few = torch.stack([-sum(model(y).terms) for _ in range(200)]).mean(0)
    assert within(estimate, truth, error + 0.01 * truth)
    assert bool((few < truth.log()).all())


@EVERY_PAIR
def test_gradient_estimators_agree_in_the_mean(name):
    """Rate in closed form, and from sampled densities: the same gradient for the encoder."""
    model, y, runs = small_model(name), torch.randn(1, 5), 1500
    parameters = list(model.encoder.parameters())
    means = {}
    for kind in ("closed", "sampled", "sticking"):
        totals = []
        for _ in range(20):
            if kind == "closed":
                loss = -sum(model(y.expand(runs, 5)).terms).mean()
            else:
                loss = model.log_joint(y, runs, frozen=kind == "sticking").log_weight.mean()
            totals.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
        rows = torch.stack(totals)
        means[kind] = rows.mean(0), rows.std(0) / math.sqrt(20)
    for kind in ("sampled", "sticking"):
        error = (means[kind][1].square() + means["closed"][1].square()).sqrt()
        assert within(means[kind][0], means["closed"][0], error + 2e-3 * means["closed"][0].abs())


def test_a_mixture_of_posteriors_is_a_prior_on_the_sphere_too():
    model = small_model("sphere")
    model.prior = VampPrior(torch.rand(4, 5))
    assert on_spheres(model.code())
    terms = model(torch.randn(6, 5)).terms
    assert bool(torch.isfinite(terms.rate).all())
    assert model.sample(3).shape == (3, 5)


@pytest.mark.parametrize("make", [sphere_vae, torus_vae])
def test_recipes_make_models_of_pictures_and_tables(make):
    torch.set_default_dtype(torch.float32)
    pictures = ArrayData(torch.randint(0, 256, (30, 1, 9, 7), dtype=torch.uint8), Kind.BYTES)
    table = ArrayData(torch.randn(30, 4), Kind.TABULAR)
    for data in (pictures, table):
        recipe = make(data, data, latent=3, hidden=[8], widths=[4, 4], batch=8, epochs=1, beta=2.0)
        model, y = recipe.model().eval(), as_floats(data.values, data.kind)
        loss, report = recipe.loss(model, y, recipe_step())
        loss.backward()
        assert bool(torch.isfinite(loss))
        (point,) = recipe.validate(model, y)
        assert point["bound64_nats"] > point["elbo_nats"] - 1
        assert model.sample(2).shape == (2, *data.event)
        assert {"rate_nats", "distortion", "loss"} <= set(report)


@pytest.mark.parametrize("make", [sphere_vae, torus_vae])
def test_the_commands_work_on_a_saved_model(make, tmp_path, monkeypatch):
    torch.set_default_dtype(torch.float32)
    name = make.__name__
    monkeypatch.setitem(GENERATIVE_RECIPES, name, make)
    data = rotations(16, 10)
    np.save(tmp_path / "turned.npy", data.values[:, 0].numpy())
    recipe = replace(generative_recipe(name, data, None, {"latent": 3, "widths": [4, 4], "batch": 8}), steps=2)
    checkpoint = train(recipe, Settings(data=tmp_path, out=tmp_path, accelerator="cpu", devices="1"))
    file = tmp_path / f"{name}.model"
    file.write_bytes(model_file(recipe, checkpoint, command="rdae train ...", terms="public domain"))
    source, out = str(tmp_path / "turned.npy"), tmp_path / "out.npz"

    def written() -> np.ndarray:
        return np.load(out)["examples"]

    assert commands.sample(file, out, count=5) == 0
    assert written().shape == (5, 1, 10, 10)
    with pytest.raises(typer.BadParameter, match="all are equally likely"):
        commands.sample(file, out, count=5, temperature=0.5)
    assert commands.sample(file, out, count=5, temperature=1.0) == 0
    assert commands.reconstruct(file, out, source, count=4) == 0
    assert written().shape[0] == 8
    model = open_model(file).model
    for data_or_draws in (source, None):
        assert commands.interpolate(file, out, data_or_draws, count=2, steps=7) == 0
        assert written().shape[0] == 14
        assert commands.traverse(file, out, data_or_draws, steps=5) == 0
        assert written().shape[0] == 15  # three axes, or three circles
    start = model.reconstruct(as_floats(data.values[:1], data.kind))[0]
    commands.traverse(file, out, source, units="2", steps=5)
    np.testing.assert_allclose(written()[2], start.numpy(), atol=1e-5)  # in the middle nothing is moved


def recipe_step():
    return Step(0, 0, slice(0, 30))


# --- topology ------------------------------------------------------------------------------------------------------


def test_windings_of_known_curves():
    turn = torch.arange(100) * 2 * math.pi / 100
    assert winding(turn) == (1, 0.0, pytest.approx(2 * math.pi / 100))
    assert winding(-3 * turn + 1).number == -3
    assert winding(torch.sin(turn)).number == 0
    back = winding(turn + 0.5 * torch.sin(4 * turn))  # slope 1 + 2 cos(4 x): falls from x = pi/6 to pi/3, four times
    assert back.number == 1
    assert back.backwards == pytest.approx(4 * (math.sqrt(3) / 2 - math.pi / 6), abs=0.02)
    assert winding(turn.remainder(2 * math.pi)).jump == pytest.approx(2 * math.pi / 100)
    circle = on_circles(turn)
    assert largest_jump(circle) == pytest.approx(math.sin(math.pi / 100))
    assert largest_jump(turn[:, None]) == pytest.approx(1)
    assert same_neighbours(circle) == 1
    assert same_neighbours(on_circles(2 * turn)) == 0
    with pytest.raises(ShapeError, match="three or more"):
        winding(torch.zeros(2))


def test_turned_pictures_turn():
    data = rotations(8, 15)
    assert data.event == (1, 15, 15)
    quarter = torch.rot90(data.values[:, 0].int(), 1, (1, 2)) - data.values[:, 0].roll(-2, 0).int()
    assert int(quarter.abs().max()) <= 1  # grey values are rounded
    torch.testing.assert_close(data.labels, (torch.arange(8) * math.pi / 4).float())
    with pytest.raises(DataError, match="Choose from flag, R"):
        rotations(drawing="Q")
    with pytest.raises(DataError, match="of 8 or more"):
        rotations(size=4)


def trained(recipe: GenerativeRecipe, seed: int) -> NoisyChannelAutoencoder:
    torch.manual_seed(seed)
    batches = recipe.batches(None, seed=seed, rank=0, world=1)
    model = recipe.model()
    optimizer = recipe.optimizer(model)
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate_at(step)
        loss = recipe.weigh(model(batches[step]).terms, step).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def test_turned_pictures_are_laid_on_a_circle_by_a_torus_and_torn_by_a_line():
    """P27: the map from the angle of a picture to the angle of its latent is one to one and goes around once."""
    torch.set_default_dtype(torch.float32)
    data = rotations(120, 14)
    y = as_floats(data.values, data.kind)
    options = {"latent": 1, "network": "dense", "hidden": (48, 48), "batch": 40, "learning_rate": 5e-3}
    torus = trained(torus_vae(data, epochs=200, **options), 0)
    line = trained(gaussian_vae(data, epochs=200, **options), 0)
    assert isinstance(torus.channel, TorusChannel)
    assert isinstance(line.channel, GaussianChannel)
    assert isinstance(line.prior, StandardNormalPrior)
    with torch.no_grad():
        circle = unit(torus.posterior(y).mean[:, 0])
        on_line = line.posterior(y).mean
        errors = [(model.reconstruct(y) - y).square().flatten(1).mean(1) for model in (torus, line)]
    curve = winding(angles_of(circle))
    assert abs(curve.number) == 1
    assert curve.backwards < 0.05
    assert curve.jump < 0.3  # 0.05 if even
    assert same_neighbours(circle) > 0.9
    assert largest_jump(circle) < 0.15
    assert largest_jump(on_line) > 0.25
    assert float(errors[1].max()) > 3 * float(errors[0].max())
    generated = torus.decode(on_circles(torch.linspace(0, 2 * math.pi, 61)[:, None]))  # once around, closed
    torch.testing.assert_close(generated[0], generated[-1], rtol=0, atol=1e-4)
    nearest = torch.cdist(generated[:60].flatten(1), y.flatten(1)).argmin(1)
    assert abs(winding(data.labels[nearest]).number) == 1


def test_a_sphere_of_data_is_found_with_its_distances():
    """Data W x with x on the ball's surface: latents are the same points up to a rotation or reflection."""
    torch.set_default_dtype(torch.float32)
    x = UniformSphere(3).sample((600,))
    w = torch.linalg.qr(torch.randn(12, 12))[0][:, :3]
    data = ArrayData(x @ w.T, Kind.REAL)
    model = trained(sphere_vae(data, latent=3, hidden=(32, 32), batch=60, epochs=80, learning_rate=5e-3), 0)
    with torch.no_grad():
        z = unit(model.posterior(data.values).mean)
    angles = torch.arccos((x @ x.T).clamp(-1, 1)), torch.arccos((z @ z.T).clamp(-1, 1))
    assert float(torch.corrcoef(torch.stack([a.flatten() for a in angles]))[0, 1]) > 0.98
    u, _, v = torch.linalg.svd(z.T @ x)
    assert float((z @ (u @ v) - x).norm(dim=1).mean()) < 0.2
    assert replace(sphere_vae(data), name="other").name == "other"
