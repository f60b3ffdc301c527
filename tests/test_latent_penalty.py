"""Autoencoders whose latents are shaped as a whole: closed forms, games in turns, exact resume, recipes by command."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.distributions import Independent, Normal

from rdae.adversarial import LatentPair, density_ratio, non_saturating
from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.channels import DeterministicChannel, GaussianChannel
from rdae.cli.main import app
from rdae.data.arrays import ArrayData, Kind, as_floats
from rdae.decomposition import ESTIMATORS, decomposed, minibatch_stratified
from rdae.distortions import squared_error
from rdae.errors import CheckpointError, DataError
from rdae.generating import latents_of
from rdae.measures.independence import dhsic, gaussian_total_correlation
from rdae.measures.mmd import WAE_SCALES, gaussian_mmd, inverse_multiquadric, mmd, mmd_penalty, rbf
from rdae.networks.critics import DenseCritic
from rdae.priors.latent import StandardNormalPrior
from rdae.recipes import generative_recipe
from rdae.recipes.model_file import model_file, open_model
from rdae.training.checkpoint import load_checkpoint
from rdae.training.latent_game_recipe import LatentGameRecipe
from rdae.training.latent_penalty import (
    Dependence,
    MarginalDiscrepancy,
    PriorDiscrepancy,
    WeighedParts,
    against_marginals,
    against_prior,
    latent_point,
)
from rdae.training.loop import Settings, _Run, train
from rdae.training.recipe import Step
from rdae.training.weighing import Beta

SMALL = {"latent": 3, "hidden": [8], "widths": [4, 4], "batch": 8}
GAMES = pytest.mark.parametrize("name", ["factor_vae", "wae_gan"])


def settings(out, **changes) -> Settings:
    return replace(Settings(data=out, out=out, accelerator="cpu", devices="1"), **changes)


def examples(n: int = 40) -> ArrayData:
    g = torch.Generator().manual_seed(0)
    return ArrayData(torch.randint(0, 256, (n, 1, 10, 7), dtype=torch.uint8, generator=g), Kind.BYTES)


def prior(units: int):
    return StandardNormalPrior(units)()


def gaussians(count: int, units: int) -> Independent:
    g = torch.Generator().manual_seed(1)
    mean = torch.randn(count, units, generator=g)
    return Independent(Normal(mean, 0.3 + torch.rand(count, units, generator=g)), 1)


# --- penalties -----------------------------------------------------------------------------------------------------


def test_the_discrepancy_from_the_prior_is_right_on_average():
    """z ~ N(m, s^2 I): MMD^2 under a Gaussian kernel is known, and the mean over batches is it."""
    torch.manual_seed(0)
    mean, std, p = torch.tensor([0.7, -0.2]), 0.6, prior(2)
    penalty = PriorDiscrepancy(3.0, rbf(1.0))
    drawn = torch.stack([penalty(None, p, mean + std * torch.randn(40, 2)) for _ in range(800)])
    due = 3.0 * gaussian_mmd(mean, std**2 * torch.eye(2), torch.zeros(2), torch.eye(2), 1.0)
    assert abs(float(drawn.mean()) - due) < 4 * float(drawn.std()) / math.sqrt(800)
    at_prior = torch.stack([penalty(None, p, torch.randn(40, 2)) for _ in range(800)])
    assert abs(float(at_prior.mean())) < 4 * float(at_prior.std()) / math.sqrt(800)
    assert bool((at_prior < 0).any())  # unbiased, so on both sides of 0


@pytest.mark.parametrize("penalty", [Dependence(1.0), MarginalDiscrepancy(1.0, rbf(1.0))], ids=["dhsic", "mmd"])
def test_dependence_costs_and_independence_does_not(penalty):
    torch.manual_seed(0)
    means = []
    for correlation in (0.0, 0.5, 0.9):
        factor = torch.tensor([[1.0, 0.0], [correlation, math.sqrt(1 - correlation**2)]])
        runs = torch.stack([penalty(None, prior(2), torch.randn(200, 2) @ factor.T) for _ in range(50)])
        means.append((float(runs.mean()), float(runs.std()) / math.sqrt(50)))
    (none, e0), (some, e1), (much, e2) = means
    assert some - none > 4 * math.hypot(e0, e1)
    assert much - some > 4 * math.hypot(e1, e2)
    if isinstance(penalty, MarginalDiscrepancy):
        assert abs(none) < 4 * e0
        half = gaussian_mmd(
            torch.zeros(2), torch.tensor([[1.0, 0.9], [0.9, 1.0]]), torch.zeros(2), torch.eye(2), 1.0
        )  # fmt: skip
        assert abs(much - half) < 4 * e2
    else:
        z = torch.randn(100, 2)
        assert float(penalty(None, prior(2), z)) == pytest.approx(dhsic(z).value, rel=1e-4)


def test_weights_of_one_leave_a_variational_autoencoder():
    plain, weighed = (
        generative_recipe(name, examples(), None, SMALL | more)
        for name, more in (("gaussian_vae", {}), ("beta_tcvae", {"beta": 1.0}))
    )
    model = plain.model()
    batch = as_floats(examples().values[:8], Kind.BYTES)
    losses = []
    for recipe in (plain, weighed):
        torch.manual_seed(0)
        losses.append(recipe.loss(model, batch, Step(1, 0, slice(0, 8)))[0])
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_penalty_is_the_weighed_sum_of_the_parts(estimator):
    q, p = gaussians(8, 3), prior(3)
    torch.manual_seed(0)
    z = q.sample()
    parts = decomposed(q, p, z, ESTIMATORS[estimator](8, 50))
    due = 1.0 * parts.index_information + 4.0 * parts.total_correlation - 0.5 * parts.dimension_wise
    penalty = WeighedParts(2.0, 5.0, 0.5, ESTIMATORS[estimator], 50)
    torch.testing.assert_close(penalty(q, p, z), due.mean())


def test_a_heavier_weight_lowers_total_correlation():
    """Posteriors of one unknown mean each, correlated at the start; only the penalty moves them."""
    torch.manual_seed(0)
    mean = torch.randn(64, 2) @ torch.tensor([[1.0, 0.9], [0.0, 0.4]])
    before = None
    mean.requires_grad_()
    optimizer, p = torch.optim.Adam([mean], lr=0.02), prior(2)
    penalty = WeighedParts(1.0, 11.0, 1.0, minibatch_stratified, 64)
    for _ in range(150):
        q = Independent(Normal(mean, 0.3 * torch.ones_like(mean)), 1)
        loss = penalty(q, p, q.rsample())
        before = before or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert before > 5.0
    with torch.no_grad():
        own = [decomposed(q, p, q.sample(), minibatch_stratified(64, 64)).total_correlation.mean() for _ in range(20)]
    assert float(torch.stack(own).mean()) < 0.3 * before / 10


# --- a channel without noise -----------------------------------------------------------------------------------------


def test_a_channel_without_noise_has_an_infinite_rate():
    q = DeterministicChannel(3)(torch.randn(4, 3))
    assert q.sample((2,)).shape == (2, 4, 3)
    assert bool((q.stddev == 0).all())
    assert bool((q.log_prob(q.mean) == torch.inf).all())
    assert bool((q.log_prob(q.mean + 0.1) == -torch.inf).all())
    model = NoisyChannelAutoencoder(
        nn.Linear(4, 3), DeterministicChannel(3), StandardNormalPrior(3), nn.Linear(3, 4), squared_error
    )
    y = torch.randn(5, 4)
    terms = model(y).terms
    assert bool((terms.rate == torch.inf).all())
    torch.testing.assert_close(model.reconstruct(y), model.decoder(latents_of(model, y)).detach())


def test_the_rate_of_a_deterministic_encoder_is_never_shown_as_a_number(tmp_path):
    data = examples()
    recipe = replace(generative_recipe("wae_mmd", data, data, SMALL), steps=20)
    train(recipe, settings(tmp_path, validate_steps=20))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all(line["rate_nats"] is None for line in lines)  # JSON has no infinity
    shown = [line for line in lines if line.get("valid")]
    assert {"prior_mmd", "distortion", "active_units"} <= set(shown[0])
    assert not {"elbo_nats", "bound64_nats", "total_correlation_nats"} & set(shown[0])
    gaussian = replace(generative_recipe("wae_mmd", data, data, SMALL | {"encoder": "gaussian"}), steps=1)
    (point,) = gaussian.validate(gaussian.model().eval(), gaussian.held_out(None))
    assert 0 < point["rate_nats"] < math.inf
    assert "total_correlation_nats" in point


# --- Wasserstein autoencoders ----------------------------------------------------------------------------------------


def cloud(n: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(2)
    return torch.randn(n, 2, generator=g) @ torch.tensor([[2.0, 0.5], [0.0, 0.7]])


def fitted(recipe, steps: int):
    """Trained by hand, as the loop does, with a learning rate that falls."""
    torch.manual_seed(0)
    model = recipe.model()
    players, batches = recipe.optimizers(model), recipe.batches(None, seed=0, rank=0, world=1)
    for step in range(steps):
        player = players[recipe.turn(step)]
        player.param_groups[0]["lr"] = recipe.rate_at(step)
        loss, _ = recipe.loss(model, batches[step], Step(step, 0, slice(0, recipe.batch)))
        model.zero_grad()
        loss.backward()
        player.step()
    return recipe.result(model).eval()


def compared(model, y: torch.Tensor) -> tuple[float, float, float]:
    """Error of reconstructions from drawn latents in standard deviations, MMD^2 to the prior, and its error."""
    torch.manual_seed(0)
    with torch.no_grad():
        z = model.posterior(y).sample()
        error = ((model.decode(z) - y) / y.std(0)).square().sum(1).mean()
    gap = mmd(z, torch.randn(len(y), 2), inverse_multiquadric(4.0))
    return float(error), gap.value, gap.standard_error


def test_a_wasserstein_autoencoder_reconstructs_better_than_a_variational_one_at_the_prior():
    """Gaussian data have an encoder onto N(0, I) that loses nothing; a VAE keeps noise however good its q(z)."""
    y = cloud(2000)
    data = ArrayData(y, Kind.REAL)
    options = {"latent": 2, "hidden": [32], "batch": 100, "learning_rate": 1e-2, "epochs": 40}
    wasserstein = replace(generative_recipe("wae_mmd", data, None, options | {"weight": 20.0}), steps=500)
    variational = replace(wasserstein, model=generative_recipe(
        "wae_mmd", data, None, options | {"encoder": "gaussian"}
    ).model, penalty=None, weigh=Beta())  # fmt: skip
    error, gap, spread = compared(fitted(wasserstein, 500), y)
    vae_error, vae_gap, vae_spread = compared(fitted(variational, 500), y)
    assert gap < 4 * spread + 1e-3  # near its floor
    assert vae_gap < 4 * vae_spread + 5e-3  # and the other is no better for having left the prior
    # with beta = 1 and variance 1/2 a unit of variance 1 keeps a noise of 1/2, in the linear model
    assert vae_error > 0.5
    assert error < 0.1 * vae_error


@GAMES
def test_only_the_player_whose_turn_it_is_moves(name, tmp_path):
    recipe = replace(generative_recipe(name, examples(), None, SMALL | {"critic_steps": 2}), steps=6, warmup=1)
    assert isinstance(recipe, LatentGameRecipe)
    run = _Run(recipe, settings(tmp_path), None)
    batches = recipe.batches(tmp_path, seed=0, rank=0, world=1)
    for number in range(6):
        before = {key: value.clone() for key, value in run.bare.named_parameters()}
        run.step(number, batches[number], slice(0, 8))
        moved = {key.split(".")[0] for key, value in run.bare.named_parameters() if not value.equal(before[key])}
        assert moved == ({"model"} if number % 3 == 2 else {"critic"})


@GAMES
def test_a_run_stopped_in_the_middle_of_a_round_goes_on_bit_by_bit(name, tmp_path):
    def recipe(steps: int):
        made = generative_recipe(name, examples(), examples(), SMALL | {"critic_steps": 2})
        return replace(made, steps=steps, flat=0.999, warmup=1)

    whole = load_checkpoint(train(recipe(11), settings(tmp_path / "whole")))
    for steps in (4, 8, 11):
        parts = train(recipe(steps), settings(tmp_path / "parts"))
    parts = load_checkpoint(parts)
    for a, b in ((whole["model"], parts["model"]), (whole["average"]["average"], parts["average"]["average"])):
        assert all(torch.equal(a[key], b[key]) for key in a)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert {"critic_loss", "critic_accuracy", "penalty", "distortion"} <= set().union(*lines)
    other = generative_recipe(name, examples(), None, SMALL | {"critic_steps": 1})
    with pytest.raises(CheckpointError, match="critic_steps"):
        train(replace(other, steps=20), settings(tmp_path / "parts"))


class Recorded(LatentGameRecipe):
    """Appends the loss of every step to a file for each share of a batch."""

    @classmethod
    def of_wae_gan(cls, steps: int) -> Recorded:
        """With a reference law that is a point: nothing is drawn, so that a batch and its halves cost the same."""
        made = generative_recipe("wae_gan", examples(), None, SMALL | {"critic_steps": 2})

        def model() -> LatentPair:
            pair = made.model()
            pair.contrast = lambda p, z: (z, torch.full_like(z, 0.5))
            return pair

        held = {field.name: getattr(made, field.name) for field in fields(made)}
        return cls(**held | {"model": model, "steps": steps, "warmup": 1})

    def loss(self, model, batch, step):
        loss, report = super().loss(model, batch, step)
        with open(f"{os.environ['LOSSES']}-{step.share.start}", "a") as file:
            file.write(f"{float(loss.detach())!r}\n")
        return loss, report


def test_two_processes_play_the_game_of_one(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from rdae.training.loop import train\n"
        "from test_latent_penalty import Recorded, settings\n"
        "if __name__ == '__main__':\n"
        "    train(Recorded.of_wae_gan(9), settings(Path(sys.argv[1]), devices=sys.argv[2]))\n"
    )
    for devices in ("1", "2"):
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path / devices), devices], capture_output=True, text=True,
            timeout=600, env={**os.environ, "LOSSES": str(tmp_path / f"losses-{devices}")},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (load_checkpoint(tmp_path / d / "checkpoints" / "step-00000009.pt")["model"] for d in ("1", "2"))
    # the same sums in another order; measured 9e-8 after nine steps of Adam, and 1.1e-7 of the losses
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
    losses = []
    for devices, shares in (("1", (0,)), ("2", (0, 4))):
        texts = [(tmp_path / f"losses-{devices}-{share}").read_text() for share in shares]
        losses.append(np.mean([[float(line) for line in text.splitlines()] for text in texts], 0))
    assert len(losses[0]) == 9
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_passes_are_those_of_the_autoencoder():
    plain, game = (generative_recipe(name, examples(), None, SMALL) for name in ("wae_mmd", "wae_gan"))
    assert game.steps == 2 * plain.steps


@GAMES
def test_the_file_of_a_game_holds_the_autoencoder_alone(name, tmp_path):
    data = examples()
    recipe = replace(generative_recipe(name, data, None, SMALL), steps=4)
    checkpoint = train(recipe, settings(tmp_path))
    (tmp_path / f"{name}.model").write_bytes(model_file(recipe, checkpoint, command="rdae train", terms="none"))
    saved = open_model(tmp_path)
    assert isinstance(saved.model, NoisyChannelAutoencoder)
    assert not any("critic" in key for key in saved.model.state_dict())


# --- critics of latents ----------------------------------------------------------------------------------------------


def still(units: int) -> NoisyChannelAutoencoder:
    """An autoencoder whose latents are the data."""
    return NoisyChannelAutoencoder(
        nn.Identity(), DeterministicChannel(units), StandardNormalPrior(units), nn.Identity(), squared_error
    )


def taught(pair: LatentPair, draw, steps: int) -> float:
    """Trains the critic; returns how often it was right in the last quarter."""
    optimizer = torch.optim.Adam(pair.critic.parameters(), lr=3e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    right = []
    for step in range(steps):
        loss, report = pair.critic_loss(draw(512))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        if step >= 3 * steps // 4:
            right.append(float(report["critic_accuracy"]))
    return sum(right) / len(right)


def test_the_density_ratio_of_a_critic_is_the_total_correlation_of_gaussians():
    torch.manual_seed(0)
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    factor = torch.linalg.cholesky(covariance)
    pair = LatentPair(still(2), DenseCritic((2,), (32, 32)), against_marginals, density_ratio, 1.0)
    taught(pair, lambda n: torch.randn(n, 2) @ factor.T, 500)
    z = torch.randn(20_000, 2) @ factor.T
    with torch.no_grad():
        estimate = float(pair.penalty(None, prior(2), z))
        spread = float(pair.critic(z).std()) / math.sqrt(len(z))
    truth = gaussian_total_correlation(covariance)  # 0.5108
    assert abs(estimate - truth) < 4 * spread + 0.1 * truth  # a tenth for what the critic has not learned


def test_a_critic_is_at_a_loss_where_latents_follow_the_prior():
    torch.manual_seed(0)
    pair = LatentPair(still(2), DenseCritic((2,), (32,)), against_prior, non_saturating, 1.0)
    right = taught(pair, lambda n: torch.randn(n, 2), 100)
    assert abs(right - 0.5) < 4 * 0.5 / math.sqrt(2 * 512 * 25) + 0.01  # what it learned by heart of single batches
    assert taught(pair, lambda n: torch.randn(n, 2) + 2.0, 100) > 0.8  # Phi(sqrt 2) = 0.92 at best


def test_the_contrast_to_the_marginals_keeps_the_marginals():
    torch.manual_seed(0)
    z = torch.arange(40.0).view(20, 2)
    own, permuted = against_marginals(prior(2), z)
    assert own.equal(z[:10])
    for unit in range(2):
        assert permuted[:, unit].sort().values.equal(z[10:, unit])
    assert not bool((permuted[:, 1] - permuted[:, 0] == 1).any())
    with pytest.raises(DataError, match="batch of 6 or more"):
        against_marginals(prior(3), torch.randn(5, 3))


# --- wishes and commands ---------------------------------------------------------------------------------------------


def test_wrong_wishes_are_named():
    for name, wrong, said in (
        ("wae_mmd", {"kernel": "cubic"}, "no kernel 'cubic'"),
        ("wae_mmd", {"encoder": "noisy"}, "no encoder 'noisy'"),
        ("wae_mmd", {"distortion": "absolute"}, "no distortion 'absolute'"),
        ("wae_gan", {"kernel": "rbf"}, "no option 'kernel'"),
        ("wae_gan", {"critic_steps": 0}, "needs a turn"),
        ("factor_vae", {"critic_steps": 0}, "needs a turn"),
        ("beta_tcvae", {"estimator": "mean"}, "no estimator 'mean'"),
        ("hsic_vae", {"independence": "faith"}, "no independence 'faith'"),
    ):
        with pytest.raises(DataError, match=said):
            generative_recipe(name, examples(), None, wrong)


def test_what_is_validated_of_latents_is_of_their_law():
    model = NoisyChannelAutoencoder(
        nn.Linear(2, 4), GaussianChannel(2), StandardNormalPrior(2), nn.Linear(2, 2), squared_error
    )
    with torch.no_grad():  # z = (y1, y1) + a little noise
        model.encoder.weight.copy_(torch.tensor([[1.0, 0], [1.0, 0], [0, 0], [0, 0]]))
        model.encoder.bias.copy_(torch.tensor([0.0, 0.0, -1.0, -1.0]))
    torch.manual_seed(0)
    point = latent_point(model, torch.randn(1000, 2))
    noise = math.exp(-2)
    covariance = torch.ones(2, 2) + noise * torch.eye(2)
    assert point["total_correlation_nats"] == pytest.approx(gaussian_total_correlation(covariance), abs=0.1)
    assert point["index_information_nats"] == pytest.approx(0.5 * math.log((1 + noise) ** 2 - 1) + 2, abs=0.1)
    assert point["prior_mmd"] > 0.01


def test_options_reach_the_penalty():
    rbf_wae = generative_recipe("wae_mmd", examples(), None, SMALL | {"kernel": "rbf", "weight": 3.0})
    torch.manual_seed(0)
    z, other = torch.randn(10, 3), torch.randn(10, 3)
    torch.manual_seed(5)
    value = rbf_wae.penalty(None, prior(3), z)
    torch.manual_seed(5)
    drawn = prior(3).sample((10,))
    torch.testing.assert_close(value, 3.0 * mmd_penalty(z, drawn, rbf(math.sqrt(3), (0.25, 0.5, 1.0, 2.0))))
    imq = generative_recipe("wae_mmd", examples(), None, SMALL).penalty.kernel
    torch.testing.assert_close(imq(z, other), inverse_multiquadric(6.0, WAE_SCALES)(z, other))
    marginal = generative_recipe("hsic_vae", examples(), None, SMALL | {"independence": "mmd"}).penalty
    assert isinstance(marginal, MarginalDiscrepancy)
    assert generative_recipe("hsic_vae", examples(), None, SMALL | {"beta": 2.0}).weigh == Beta(beta=2.0)


@pytest.mark.parametrize("name", ["wae_mmd", "wae_gan", "factor_vae"])
def test_the_commands_work_on_such_models(name, tmp_path):
    np.save(tmp_path / "data.npy", examples().values.numpy())
    data, run, out = (str(tmp_path / part) for part in ("data.npy", "run", "out.npz"))
    words = ["train", name, "--data", data, "--steps", "4", "-o", run, "--accelerator", "cpu"]
    words += [f"--set={key}={value}" for key, value in SMALL.items()]
    assert not app(words, standalone_mode=False)
    for command, shape in (
        (["sample", run, "-n", "9"], (9, 1, 10, 7)),
        (["reconstruct", run, "--data", data, "-n", "4"], (8, 1, 10, 7)),
        (["interpolate", run, "--data", data, "-n", "2", "--steps", "3"], (6, 1, 10, 7)),
        (["traverse", run, "--data", data, "--steps", "3"], (9, 1, 10, 7)),
    ):
        assert not app([*command, "-o", out], standalone_mode=False)
        assert np.load(out)["examples"].shape == shape
