"""Gaussian channels, latent priors and the bounds made of them, against closed forms and models with known answers."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

from rdae.autoencoder import NoisyChannelAutoencoder, standardise
from rdae.channels import (
    FullGaussianChannel,
    GaussianChannel,
    LowRankGaussianChannel,
    NoisyChannel,
    SharedNoiseChannel,
    StandardisedChannel,
)
from rdae.distortions import squared_error
from rdae.errors import MissingExtraError, ModelError, ShapeError
from rdae.generating import tempered
from rdae.likelihoods import Gaussian
from rdae.networks.affine import LatentAffine
from rdae.objectives import (
    divergence,
    doubly_reparameterised_bound,
    elbo_from_entropy,
    elbo_from_evidence,
    elbo_from_rate,
    importance_bound,
    rate_distortion,
    sampled_divergence,
    score_function_bound,
)
from rdae.priors.latent import (
    FlowPrior,
    FullNormalPrior,
    MixturePrior,
    NormalPrior,
    StandardNormalPrior,
    VampPrior,
)

SIZE = 3
CHANNELS: list[NoisyChannel] = [
    GaussianChannel(SIZE),
    SharedNoiseChannel(SIZE, 0.5),
    SharedNoiseChannel(SIZE, 0.5, learned=True),
    FullGaussianChannel(SIZE),
    LowRankGaussianChannel(SIZE, 2),
]
EVERY_CHANNEL = pytest.mark.parametrize("channel", CHANNELS, ids=lambda c: f"{type(c).__name__}-{c.features}")


@pytest.fixture(autouse=True)
def channels_in_double(in_double):
    for channel in CHANNELS:
        channel.double()


def covariance(q: Distribution) -> Tensor:
    return q.covariance_matrix if hasattr(q, "covariance_matrix") else torch.diag_embed(q.variance)


def within(estimate: Tensor, truth: Tensor | float, error: Tensor, errors: float = 4.5) -> bool:
    """Whether every estimate lies within so many of its standard errors."""
    return bool(((estimate - truth).abs() <= errors * error + 1e-12).all())


# --- channels ------------------------------------------------------------------------------------------------------


@EVERY_CHANNEL
def test_draws_have_the_mean_and_covariance_of_the_law(channel):
    q = channel(torch.randn(2, channel.features))
    assert q.batch_shape == (2,)
    assert q.event_shape == (SIZE,)
    n = 40_000
    z = q.rsample((n,))
    centred = z - q.mean
    assert within(z.mean(0), q.mean, (q.variance / n).sqrt())
    outer = centred[..., :, None] * centred[..., None, :]
    assert within(outer.mean(0), covariance(q), outer.std(0) / math.sqrt(n))


@EVERY_CHANNEL
def test_the_reparameterised_gradient_is_that_of_the_expectation(channel):
    """R52: for a linear decoder W, E |y - W z|^2 = |y - W m|^2 + tr(W S W^T)."""
    h = torch.randn(1, channel.features, requires_grad=True)
    w, y = torch.randn(4, SIZE), torch.randn(4)
    q = channel(h)
    exact = (y - w @ q.mean[0]).square().sum() + torch.trace(w @ covariance(q)[0] @ w.T)
    (wanted,) = torch.autograd.grad(exact, h)
    runs = []
    for _ in range(40):
        loss = (y - channel(h).rsample((500,)) @ w.T).square().sum(-1).mean()
        runs.append(torch.autograd.grad(loss, h)[0])
    estimates = torch.cat(runs)
    assert within(estimates.mean(0), wanted[0], estimates.std(0) / math.sqrt(len(runs)))


@EVERY_CHANNEL
def test_the_wrong_number_of_features_is_an_error_with_its_cure(channel):
    with pytest.raises(ShapeError, match=rf"needs {channel.features} features"):
        channel(torch.zeros(2, channel.features + 1))


def test_channels_of_images_keep_height_and_width():
    q = GaussianChannel(4)(torch.randn(2, 8, 3, 5))
    assert q.event_shape == (4, 3, 5)
    shared = SharedNoiseChannel(4, learned=True)(torch.randn(2, 4, 3, 5))
    assert shared.rsample().shape == (2, 4, 3, 5)
    with pytest.raises(ShapeError, match="is for vectors"):
        FullGaussianChannel(2)(torch.zeros(1, 5, 3, 3))


def test_shared_noise_does_not_depend_on_the_data_and_is_fixed_unless_learned():
    fixed, learned = SharedNoiseChannel(2, 0.3), SharedNoiseChannel(2, 0.3, learned=True)
    assert list(fixed.parameters()) == []
    assert len(list(learned.parameters())) == 1
    torch.testing.assert_close(fixed(torch.randn(5, 2)).stddev, torch.full((5, 2), 0.3))


# --- the rate ------------------------------------------------------------------------------------------------------


def diagonal(mean: Tensor, std: Tensor) -> Distribution:
    return Independent(Normal(mean, std), mean.ndim - (mean.ndim > 1))


def printed_kl(mean: Tensor, std: Tensor, prior_mean: Tensor, prior_std: Tensor) -> Tensor:
    """R48: the sum covers all three terms."""
    square = (std**2 + (mean - prior_mean) ** 2) / (2 * prior_std**2)
    return (square + torch.log(prior_std / std) - 0.5).sum(-1)


def test_the_rate_is_the_closed_form_of_the_lecture():
    mean, std = torch.randn(5, SIZE), torch.rand(5, SIZE) + 0.1
    prior = NormalPrior(SIZE)
    with torch.no_grad():
        prior.mean.normal_()
        prior.log_std.normal_()
    q = diagonal(mean, std)
    expected = printed_kl(mean, std, prior.mean, prior.log_std.exp())
    torch.testing.assert_close(divergence(q, prior()), expected, rtol=1e-13, atol=1e-13)
    same = diagonal(prior.mean.detach()[None], prior.log_std.exp().detach()[None])
    assert float(divergence(same, prior()).detach().abs()) < 1e-15


@pytest.mark.parametrize(("mean", "std", "nats"), [(0.0, 1.0, 0.0), (1.0, 1.0, 0.5), (0.0, math.e, 2.194528)])
def test_values_of_g15(mean, std, nats):
    q = diagonal(torch.tensor([[mean]]), torch.tensor([[std]]))
    assert float(divergence(q, StandardNormalPrior(1)())) == pytest.approx(nats, abs=1e-6)


def test_full_covariance_value_of_n19():
    first, second = torch.tensor([[2.0, 0.5], [0.5, 1.0]]), torch.tensor([[1.0, -0.3], [-0.3, 3.0]])
    q, p = (MultivariateNormal(torch.zeros(2), covariance_matrix=s) for s in (first, second))
    assert float(divergence(q, p)) == pytest.approx(0.508564, abs=1e-6)


@EVERY_CHANNEL
def test_closed_form_and_sampling_agree_for_full_covariance_priors(channel):
    prior = FullNormalPrior(SIZE)
    with torch.no_grad():
        prior.mean.normal_()
        prior.below.normal_()
        prior.log_diagonal.normal_(std=0.3)
    q = channel(torch.randn(4, channel.features))
    exact = divergence(q, prior())
    gaussian = MultivariateNormal(q.mean, covariance_matrix=covariance(q))
    torch.testing.assert_close(exact, kl_divergence(gaussian, prior()), rtol=1e-9, atol=1e-9)
    estimate, error = sampled_divergence(q, prior(), 20_000)
    assert within(estimate, exact, error)


def test_the_closed_form_survives_float32_over_twelve_orders_of_magnitude():
    for std in (1e-6, 1e-3, 1.0, 1e3, 1e6):
        for prior_std in (1e-6, 1.0, 1e6):
            mean, scale = torch.zeros(1, 2), torch.full((1, 2), std)
            exact = printed_kl(mean, scale, torch.zeros(2), torch.full((2,), prior_std))
            p = Independent(Normal(torch.zeros(2).float(), torch.full((2,), prior_std).float()), 1)
            q = diagonal(mean.float(), scale.float())
            assert float(divergence(q, p)) == pytest.approx(float(exact), rel=2e-6, abs=1e-6)


# --- priors --------------------------------------------------------------------------------------------------------


def posterior(y: Tensor) -> Distribution:
    return GaussianChannel(2)(y)


def priors() -> dict[str, tuple[nn.Module, Distribution]]:
    vamp = VampPrior(torch.rand(5, 4))
    every = {
        "standard": StandardNormalPrior(2), "normal": NormalPrior(2), "full": FullNormalPrior(2),
        "mixture": MixturePrior(4, 2),
    }  # fmt: skip
    laws = {name: (prior, prior()) for name, prior in every.items()} | {"vamp": (vamp, vamp(posterior))}
    zuko = pytest.importorskip("zuko")
    flow = FlowPrior(zuko.flows.MAF(2, hidden_features=(8,))).double()
    return laws | {"flow": (flow, flow())}


@pytest.mark.parametrize("name", ["standard", "normal", "full", "mixture", "vamp", "flow"])
def test_every_prior_is_a_density_from_which_one_can_draw(name):
    prior, p = priors()[name]
    assert p.batch_shape == ()
    assert p.event_shape == (2,)
    axis = torch.linspace(-12, 12, 481)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    density = p.log_prob(grid.flatten(0, 1)).exp().detach()
    cell = float(axis[1] - axis[0]) ** 2
    assert float(density.sum()) * cell == pytest.approx(1.0, abs=2e-3)
    z = p.sample((20_000,))
    mean = (density[:, None] * grid.flatten(0, 1)).sum(0) * cell
    assert within(z.mean(0), mean, z.std(0) / math.sqrt(len(z)) + 2e-3)
    if any(True for _ in prior.parameters()):
        loss = -p.log_prob(z[:10]).sum()
        gradients = torch.autograd.grad(loss, list(prior.parameters()), allow_unused=True)
        assert any(g is not None and bool(g.abs().sum() > 0) for g in gradients)


def test_a_mixture_has_no_closed_form_and_says_so_without_a_sample():
    q, p = posterior(torch.randn(3, 4)), MixturePrior(4, 2)()
    with pytest.raises(NotImplementedError):
        divergence(q, p)
    z = q.rsample()
    torch.testing.assert_close(divergence(q, p, z), q.log_prob(z) - p.log_prob(z))


def test_a_vamp_prior_asks_for_its_posterior_and_keeps_inputs_in_range():
    vamp = VampPrior(torch.tensor([[-3.0, 0.2, 0.5, 9.0]]))
    with pytest.raises(ModelError, match="posterior"):
        vamp()
    torch.testing.assert_close(vamp(posterior).mean, posterior(vamp.pseudo_inputs.clamp(0, 1)).mean[0])


def test_a_flow_without_zuko_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zuko", None)
    with pytest.raises(MissingExtraError, match=r"rdae\[flows\]"):
        FlowPrior.spline(2)


# --- models --------------------------------------------------------------------------------------------------------


def small_model(channel: NoisyChannel, prior: nn.Module) -> NoisyChannelAutoencoder:
    decoder = nn.Sequential(nn.Linear(SIZE, 8), nn.Tanh(), nn.Linear(8, 5))
    return NoisyChannelAutoencoder(nn.Linear(5, channel.features), channel, prior, decoder, squared_error)


def wild(prior: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.normal_(std=0.5)
    return prior


@pytest.mark.parametrize("full", [False, True], ids=["diagonal prior", "full prior"])
@EVERY_CHANNEL
def test_a_standardised_model_is_the_same_model(channel, full):
    """R49-R51, G5, G16: rate and reconstruction of every example, to float64 accuracy; prior N(0, I)."""
    model = small_model(channel, wild(FullNormalPrior(SIZE) if full else NormalPrior(SIZE)))
    plain = standardise(model)
    assert isinstance(plain.prior, StandardNormalPrior)
    y = torch.randn(6, 5)
    q, p, q_plain = model.posterior(y), model.code(), plain.posterior(y)
    torch.testing.assert_close(divergence(q_plain, plain.code()), divergence(q, p), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(plain.reconstruct(y), model.reconstruct(y), rtol=1e-12, atol=1e-12)
    z = q.rsample()
    assert isinstance(plain.channel, StandardisedChannel)
    torch.testing.assert_close(plain.decoder(plain.channel.affine.inverse(z)), model.decoder(z), rtol=1e-12, atol=1e-12)
    ratio = q.log_prob(z) - p.log_prob(z)
    z_plain = plain.channel.affine.inverse(z)
    moved = q_plain.log_prob(z_plain) - plain.code().log_prob(z_plain)
    torch.testing.assert_close(moved, ratio, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("channel", [GaussianChannel(SIZE), FullGaussianChannel(SIZE)], ids=["diagonal", "full"])
def test_a_standardised_model_has_the_same_loss_with_the_same_seed(channel):
    model = small_model(channel.double(), wild(NormalPrior(SIZE)))
    losses = []
    for each in (model, standardise(model)):
        torch.manual_seed(3)
        losses.append(rate_distortion(each(torch.ones(4, 5)).terms, 7.0))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-10, atol=1e-10)


def test_only_single_gaussians_can_be_standardised():
    with pytest.raises(ModelError, match="single Gaussian"):
        standardise(small_model(GaussianChannel(SIZE), MixturePrior(2, SIZE)))


def test_affine_maps_undo_each_other():
    for scale in (torch.rand(SIZE) + 0.5, torch.randn(SIZE, SIZE).tril(-1) + torch.diag(torch.rand(SIZE) + 0.5)):
        affine = LatentAffine(torch.randn(SIZE), scale)
        z = torch.randn(7, SIZE)
        torch.testing.assert_close(affine(affine.inverse(z)), z)


def test_sampling_never_calls_the_encoder(monkeypatch):
    """V38, G7: decoding noise tells nothing of any y."""
    model = small_model(GaussianChannel(SIZE), StandardNormalPrior(SIZE))
    monkeypatch.setattr(model.encoder, "forward", None)
    assert model.sample(4).shape == (4, 5)
    cold = model.sample(4, temperature=0.0)
    torch.testing.assert_close(cold, model.decoder(torch.zeros(4, SIZE)).detach())


@pytest.mark.parametrize("prior", [NormalPrior(SIZE), FullNormalPrior(SIZE)], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("temperature", [0.0, 0.5, 2.0])
def test_a_temperature_scales_a_learned_prior_about_its_mean(prior, temperature):
    prior.double()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(torch.randn_like(parameter))
    law, draws = prior(), 100_000
    z = tempered(law, draws, temperature)
    error = 5 * temperature * law.stddev.detach() / math.sqrt(draws)
    assert ((z.mean(0) - law.mean.detach()).abs() <= error + 1e-12).all()
    due = temperature**2 * covariance(law).detach()
    size = due.diagonal()
    error = 5 * torch.sqrt((size[:, None] * size + due.square()) / draws)  # of a Gaussian's sample covariance
    assert ((torch.cov(z.T) - due).abs() <= error + 1e-12).all()
    torch.manual_seed(1)
    plain = law.sample((7,))
    torch.manual_seed(1)
    assert torch.equal(tempered(law, 7), plain)


def test_a_temperature_keeps_the_components_of_a_mixture():
    prior = MixturePrior(3, SIZE, spread=50.0).double()
    with torch.no_grad():
        prior.logits.copy_(torch.tensor([0.0, 1.0, 2.0]))
        prior.log_std.normal_()
    draws = 30_000
    z = tempered(prior(), draws, 0.5)
    nearest = torch.cdist(z, prior.mean.detach()).argmin(1)
    share = torch.bincount(nearest, minlength=3) / draws
    due = prior.logits.detach().softmax(0)
    assert ((share - due).abs() <= 5 * (due * (1 - due) / draws).sqrt()).all()
    for k in range(3):
        own, std = z[nearest == k], 0.5 * prior.log_std[k].detach().exp()
        assert ((own.mean(0) - prior.mean[k].detach()).abs() <= 5 * std / math.sqrt(len(own))).all()
        assert ((own.std(0) / std - 1).abs() <= 5 / math.sqrt(2 * len(own))).all()
    cold = tempered(prior(), 50, 0.0)
    assert {tuple(row) for row in cold.tolist()} == {tuple(row) for row in prior.mean.tolist()}


def test_the_centre_of_a_flow_is_the_mean_of_its_draws():
    zuko = pytest.importorskip("zuko")
    law = FlowPrior(zuko.flows.MAF(2, hidden_features=(8,))).double()()
    cold = tempered(law, 3, 0.0)
    plain = law.sample((4096,))
    assert torch.equal(cold, cold[:1].expand(3, 2))
    assert ((cold[0] - plain.mean(0)).abs() <= 5 * math.sqrt(2) * plain.std(0) / math.sqrt(4096)).all()


# --- bounds, on a linear-Gaussian model with known evidence and posterior ------------------------------------------


class Linear(NoisyChannelAutoencoder):
    """y = W z + b + s * noise, z ~ N(0, I); the encoder is the true posterior, off by what one asks for."""

    def __init__(self, channel: NoisyChannel, w: Tensor, s: float) -> None:
        n, d = w.shape
        decoder = nn.Linear(d, n)
        with torch.no_grad():
            decoder.weight.copy_(w)
            decoder.bias.zero_()
        super().__init__(nn.Linear(n, channel.features), channel, StandardNormalPrior(d), decoder, Gaussian(s))
        self.w, self.s = w, s
        precision = torch.eye(d) + w.T @ w / s**2
        self.covariance = torch.linalg.inv(precision)
        self.gain = self.covariance @ w.T / s**2

    def evidence(self, y: Tensor) -> Tensor:
        spread = self.w @ self.w.T + self.s**2 * torch.eye(len(self.w))
        return MultivariateNormal(torch.zeros(len(self.w)), covariance_matrix=spread).log_prob(y)

    def truth(self, y: Tensor) -> MultivariateNormal:
        return MultivariateNormal(y @ self.gain.T, covariance_matrix=self.covariance)

    def make_exact(self) -> None:
        """Sets the encoder to the true posterior, or to the nearest diagonal one in KL(q || p)."""
        d = self.channel.size
        with torch.no_grad():
            self.encoder.weight.zero_()
            self.encoder.bias.zero_()
            self.encoder.weight[:d] = self.gain
            if isinstance(self.channel, FullGaussianChannel):
                factor = torch.linalg.cholesky(self.covariance)
                self.encoder.bias[d : 2 * d] = factor.diagonal().log()
                self.encoder.bias[2 * d :] = factor[self.channel.rows, self.channel.columns]
            else:
                self.encoder.bias[d:] = -0.5 * torch.linalg.inv(self.covariance).diagonal().log()


W = torch.tensor([[1.0, 0.4], [0.2, 0.9], [0.7, 0.8]], dtype=torch.float64)  # columns not orthogonal


def test_three_forms_of_the_elbo_agree():
    """V9-V15, N16: with expectations in closed form, at a posterior that is not the true one."""
    model = Linear(FullGaussianChannel(2).double(), W, 0.6)
    y = torch.randn(5, 3)
    q, p = model.posterior(y), model.code()
    mean, spread = q.mean, q.covariance_matrix
    residual = (y - mean @ W.T).square().sum(-1) + torch.einsum("ij,bjk,ik->b", W, spread, W)
    expected_likelihood = -residual / (2 * 0.6**2) - 1.5 * math.log(2 * math.pi * 0.6**2)
    diagonal_spread = spread.diagonal(dim1=1, dim2=2).sum(-1)
    expected_prior = -0.5 * (mean.square().sum(-1) + diagonal_spread) - math.log(2 * math.pi)
    first = elbo_from_entropy((expected_likelihood + expected_prior)[None], q.entropy())
    second = elbo_from_evidence(model.evidence(y), kl_divergence(q, model.truth(y)))
    third = elbo_from_rate(expected_likelihood[None], divergence(q, p))
    torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(first, third, rtol=1e-10, atol=1e-10)
    assert bool((first <= model.evidence(y)).all())


def test_a_full_posterior_closes_the_gap_and_a_diagonal_one_does_not():
    """N20: the columns of W are not orthogonal, so the true posterior has correlations."""
    y = torch.randn(4, 3)
    gaps = {}
    for channel in (FullGaussianChannel(2), GaussianChannel(2)):
        model = Linear(channel.double(), W, 0.6)
        model.make_exact()
        joint = model.log_joint(y, 2000)
        gaps[type(channel)] = model.evidence(y) - joint.log_weight.mean(0)
    torch.testing.assert_close(gaps[FullGaussianChannel], torch.zeros(4), rtol=0, atol=1e-9)  # every weight is p(y)
    precision = torch.linalg.inv(Linear(GaussianChannel(2).double(), W, 0.6).covariance)
    missing = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))  # KL of the best diagonal law
    assert float(missing) > 0.05
    assert float(gaps[GaussianChannel].detach().mean()) == pytest.approx(float(missing), abs=0.02)


def test_the_importance_bound_rises_with_the_number_of_samples_to_the_evidence():
    """P30: E over draws, so with its standard error."""
    model = Linear(GaussianChannel(2).double(), W, 0.6)
    y = torch.randn(1, 3)
    bounds, errors = [], []
    for k in (1, 4, 16, 64):
        log_weight = model.log_joint(y, 64_000).log_weight.unflatten(0, (k, -1)).flatten(1)
        bound = importance_bound(log_weight)
        bounds.append(float(bound.detach().mean()))
        errors.append(float(bound.detach().std()) / math.sqrt(bound.numel()))
    assert all(b + 3 * eb > a - 3 * ea for a, b, ea, eb in zip(bounds, bounds[1:], errors, errors[1:], strict=False))
    assert bounds[0] < bounds[-1]
    evidence = float(model.evidence(y))
    assert bounds[-1] - 4 * errors[-1] < evidence
    many = importance_bound(model.log_joint(y, 200_000).log_weight)
    assert float(many.detach()) == pytest.approx(evidence, abs=0.05)


GRADIENTS = {
    "closed": lambda m, y: -(m(y).terms.rate + m(y).terms.distortion),
    "sampled": lambda m, y: m.log_joint(y, 1).log_weight.mean(0),
    "sticking": lambda m, y: m.log_joint(y, 1, frozen=True).log_weight.mean(0),
    "score": lambda m, y: score_function_bound(m.log_joint(y, 2, pathwise=False)),
}


def gradients(model: Linear, y: Tensor, bound, runs: int) -> Tensor:
    """`(runs, parameters)` gradients of the encoder; one run an example of a batch, all examples being equal."""
    rows = []
    for _ in range(runs):
        total = bound(model, y).sum()
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(total, list(model.encoder.parameters()))]))
    return torch.stack(rows)


def test_gradient_estimators_agree_in_the_mean_and_rank_in_their_noise():
    """V26: closed-form KL, fully sampled, sticking the landing, score function; away from the optimum."""
    model = Linear(FullGaussianChannel(2).double(), W, 0.6)
    y = torch.randn(3, 3)
    drawn = {name: gradients(model, y, bound, 300) for name, bound in GRADIENTS.items()}
    reference = drawn["closed"]
    for rows in drawn.values():
        error = (rows.var(0) / len(rows) + reference.var(0) / len(reference)).sqrt()
        assert within(rows.mean(0), reference.mean(0), error)
    noise = {name: float(rows.var(0).sum()) for name, rows in drawn.items()}
    assert noise["score"] > 3 * max(noise["closed"], noise["sampled"], noise["sticking"])


def test_sticking_the_landing_has_no_noise_at_the_true_posterior():
    model = Linear(FullGaussianChannel(2).double(), W, 0.6)
    model.make_exact()
    y = torch.randn(3, 3)
    assert float(gradients(model, y, GRADIENTS["sticking"], 20).abs().max()) < 1e-9
    assert float(gradients(model, y, GRADIENTS["sampled"], 20).abs().max()) > 0.1


def test_the_doubly_reparameterised_gradient_is_unbiased_and_less_noisy():
    model = Linear(GaussianChannel(2).double(), W, 0.6)
    model.make_exact()  # the best diagonal law: far from it both are noisy alike
    y = torch.randn(3, 3)
    plain = gradients(model, y, lambda m, y: importance_bound(m.log_joint(y, 16).log_weight), 400)
    double = gradients(model, y, lambda m, y: doubly_reparameterised_bound(m.log_joint(y, 16, frozen=True)), 400)
    error = (plain.var(0) / len(plain) + double.var(0) / len(double)).sqrt()
    assert within(double.mean(0), plain.mean(0), error)
    assert float(double.var(0).sum()) < 0.7 * float(plain.var(0).sum())
    joint = model.log_joint(y, 16, frozen=True)
    torch.testing.assert_close(doubly_reparameterised_bound(joint), importance_bound(joint.log_weight))


def test_entropy_by_sampling_has_the_right_sign():
    """V24, slip 21: H = -E ln q; that of N(0, 1) is +1.4189 nats."""
    q = diagonal(torch.zeros(1, 1), torch.ones(1, 1))
    drawn = -q.log_prob(q.rsample((50_000,)))
    assert float(q.entropy()) == pytest.approx(1.418939, abs=1e-6)
    assert within(drawn.mean(), 1.418939, drawn.std() / math.sqrt(50_000))


def test_importance_weights_need_a_likelihood():
    with pytest.raises(ModelError, match="likelihood"):
        small_model(GaussianChannel(SIZE), StandardNormalPrior(SIZE)).log_joint(torch.zeros(1, 5))
