"""The table of multipliers: round trips, the relations of the lectures, and one gradient for all objectives."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn
from torch.testing import assert_close

from rdae.autoencoder import NoisyChannelAutoencoder, RateDistortionAutoencoder
from rdae.channels import GaussianChannel, UniformNoise
from rdae.distortions import squared_error
from rdae.errors import ModelError
from rdae.likelihoods import Gaussian
from rdae.multipliers import Multipliers
from rdae.objectives import rate_distortion
from rdae.priors.factorised import FactorisedPrior
from rdae.priors.latent import StandardNormalPrior

FORMS: dict[str, Callable[[float], Multipliers]] = {
    "lam": Multipliers,
    "lam_bits": Multipliers.from_lam_bits,
    "vae_lam": Multipliers.from_vae_lam,
    "vae_lam_bits": Multipliers.from_vae_lam_bits,
    "sigma": Multipliers.from_sigma,
    "beta": Multipliers.from_beta,
}
VALUES = (1e-9, 0.3, 1.0, math.pi, 7e8)
LN2 = math.log(2)


@pytest.mark.parametrize("there", FORMS)
@pytest.mark.parametrize("back", FORMS)
def test_every_form_leads_to_every_other_and_back(there, back):
    for value in VALUES:
        first = FORMS[there](value)
        second = FORMS[back](getattr(first, back))
        assert getattr(first, there) == pytest.approx(value, rel=1e-15)  # a few roundings of 1e-16
        for form in FORMS:
            assert getattr(second, form) == pytest.approx(getattr(first, form), rel=2e-15)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", VALUES)
def test_the_relations_of_the_lectures(form, value):
    m = FORMS[form](value)
    assert m.lam == pytest.approx(1 / (2 * m.sigma**2))  # noisy channel, nats
    assert m.vae_lam == pytest.approx(1 / m.sigma**2)  # VAE lecture, nats
    assert m.vae_lam_bits == pytest.approx(1 / (m.sigma**2 * LN2))  # the same in code lengths
    assert m.lam_bits == pytest.approx(m.lam / LN2)  # a rate in bits is 1 / ln 2 times larger, and so must lam be
    assert m.beta == pytest.approx(1 / (2 * m.lam)) == pytest.approx(1 / m.vae_lam) == pytest.approx(m.sigma**2)


def test_by_hand():
    m = Multipliers.from_sigma(0.1)
    assert [m.lam, m.vae_lam, m.beta] == pytest.approx([50, 100, 0.01])
    assert [m.lam_bits, m.vae_lam_bits] == pytest.approx([72.134752, 144.269504], rel=1e-7)
    assert Multipliers.from_beta(4.0) == Multipliers(0.125) == Multipliers.from_sigma(2.0)


def test_a_likelihood_is_its_lam_times_squared_error_and_a_constant():
    y, y_hat = torch.randn(4, 3).double(), torch.randn(4, 3).double()
    for sigma in (0.02, 1.0, 30.0):
        constant = 1.5 * math.log(2 * math.pi * sigma**2)
        expected = Multipliers.from_sigma(sigma).lam * squared_error(y, y_hat) + constant
        assert_close(Gaussian(sigma)(y, y_hat), expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_what_is_no_multiplier_is_refused(form, value):
    with pytest.raises(ModelError, match=f"Pass {form} > 0"):
        FORMS[form](value)


@pytest.mark.parametrize("value", [1e-200, 1e200])
def test_a_sigma_without_a_finite_lam_is_refused(value):
    with pytest.raises(ModelError, match="Pass lam > 0"):
        Multipliers.from_sigma(value)


# --- one gradient -----------------------------------------------------------------------------------------------------

SIGMA = 0.7
TRADE = Multipliers.from_sigma(SIGMA)


class Linear(nn.Linear):
    """An encoder or decoder of the rounding autoencoder, which hands lam on to it."""

    def forward(self, x: Tensor, lam: Tensor | None = None) -> Tensor:
        return super().forward(x.flatten(1)).view(-1, self.out_features, *x.shape[2:])


def linear_vae() -> NoisyChannelAutoencoder:
    torch.manual_seed(1)
    model = NoisyChannelAutoencoder(
        nn.Linear(5, 4), GaussianChannel(2), StandardNormalPrior(2), nn.Linear(2, 5), Gaussian(SIGMA)
    )
    return model.double()


def linear_rounding() -> RateDistortionAutoencoder:
    torch.manual_seed(1)
    prior = FactorisedPrior(torch.tensor([2.0, 5.0]))
    return RateDistortionAutoencoder(Linear(5, 2), prior, Linear(2, 5), UniformNoise()).double()


def closed_form(model: NoisyChannelAutoencoder, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rate, squared error and -ln p(y | z) at one latent, the rate in closed form."""
    out = model(y)
    return out.terms.rate, squared_error(y, out.y_hat), out.terms.distortion


def sampled(model: NoisyChannelAutoencoder, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same with the rate at the latent drawn, as the lecture on VAEs has it."""
    joint = model.log_joint(y)
    return (joint.posterior - joint.prior)[0], squared_error(y, model.decoder(joint.latent[0])), -joint.likelihood[0]


def gradient(model: nn.Module, objective: Callable[[], Tensor]) -> Tensor:
    """Of the mean over the batch, in all parameters, with the same noise whenever it is called."""
    torch.manual_seed(2)
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(objective().mean(), parameters, allow_unused=True)
    return torch.cat([g.flatten() for g in found if g is not None])


@pytest.mark.parametrize("estimator", [closed_form, sampled])
def test_all_objectives_of_a_variational_autoencoder_have_one_gradient(estimator):
    model = linear_vae()
    y = 3 * torch.randn(40, 5).double()
    m = TRADE

    def of(objective: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        return gradient(model, lambda: objective(*estimator(model, y)))

    elbo = of(lambda rate, error, minus_log_p: rate + minus_log_p)
    assert elbo.norm() > 1
    objectives = {
        "lam": (of(lambda rate, error, _: rate + m.lam * error), 1),
        "lam_bits": (of(lambda rate, error, _: rate / LN2 + m.lam_bits * error), 1 / LN2),
        "vae_lam": (of(lambda rate, error, _: rate + m.vae_lam / 2 * error), 1),
        "vae_lam_bits": (of(lambda rate, error, _: rate / LN2 + m.vae_lam_bits / 2 * error), 1 / LN2),
        "beta": (of(lambda rate, error, _: error / 2 + m.beta * rate), m.beta),
    }
    for found, factor in objectives.values():
        assert_close(found, factor * elbo, rtol=1e-12, atol=1e-12 * float(elbo.norm()))
    other = of(lambda rate, error, _: rate + m.vae_lam * error)  # the slip: the lam of one lecture in the other's place
    assert torch.nn.functional.cosine_similarity(other, elbo, dim=0) < 0.999


def test_code_lengths_of_the_vae_lecture_by_their_definition():
    """|z|_prior + (lam / 2) |y - y_hat|^2 - |z|_posterior with lengths -log2 p is the negative ELBO over ln 2."""
    model = linear_vae()
    y = torch.randn(40, 5).double()

    def code_lengths() -> Tensor:
        joint = model.log_joint(y)
        half_error = squared_error(y, model.decoder(joint.latent[0])) / 2
        return -joint.prior[0] / LN2 + TRADE.vae_lam_bits * half_error + joint.posterior[0] / LN2

    expected = gradient(model, lambda: -model.log_joint(y).log_weight[0]) / LN2
    assert_close(gradient(model, code_lengths), expected, rtol=1e-12, atol=1e-12)


def test_the_rounding_autoencoder_in_bits_and_in_nats():
    model = linear_rounding()
    y, lam = 3 * torch.randn(6, 5, 1, 1).double(), torch.ones(6).double()

    def in_bits() -> Tensor:
        terms = model(y, lam).terms
        return terms.rate / LN2 + TRADE.lam_bits * terms.distortion

    in_nats = gradient(model, lambda: rate_distortion(model(y, lam).terms, TRADE.lam))
    assert in_nats.norm() > 1
    assert_close(gradient(model, in_bits), in_nats / LN2, rtol=1e-12, atol=1e-12 * float(in_nats.norm()))
