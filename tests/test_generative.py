"""Generative recipes: trained by the loop, saved, opened, sampled; the commands; measures with known answers."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image
from safetensors.torch import save as save_tensors
from torch import nn
from torch.distributions import Independent, Normal
from torch.nn.functional import leaky_relu

from rdae.autoencoder import NoisyChannelAutoencoder
from rdae.channels import GaussianChannel
from rdae.data.arrays import ArrayData, Kind, as_floats
from rdae.data.sources import open_data
from rdae.errors import DataError, ModelError, ShapeError, TrainingError
from rdae.generating import between, interpolate, latents_of, traverse
from rdae.ladder import LadderAutoencoder, merged
from rdae.likelihoods import Gaussian
from rdae.measures.likelihood import active_units, importance_log_likelihood, log_evidence
from rdae.measures.measure import Kind as Statement
from rdae.measures.measure import mean_of
from rdae.networks.halved import HalvedDecoder, halved
from rdae.objectives import Terms, doubly_reparameterised_bound, importance_bound, score_function_bound
from rdae.priors.latent import NormalPrior, StandardNormalPrior, VampPrior
from rdae.recipes import GENERATIVE_RECIPES, generative_recipe
from rdae.recipes.model_file import model_file, open_model
from rdae.recipes.noisy_channel import scale_of
from rdae.reports.grids import image_grid, write_examples
from rdae.training.checkpoint import load_checkpoint
from rdae.training.loop import Settings, train
from rdae.training.weighing import Beta, Capacity

NOISY = [name for name in GENERATIVE_RECIPES if name not in ("gan", "wgan_gp", "r3gan")]
EVERY_RECIPE = pytest.mark.parametrize("name", NOISY)
SMALL = {"latent": 3, "hidden": [8], "widths": [4, 4], "batch": 8}


def pictures(n: int = 40, channels: int = 1, height: int = 10, width: int = 7) -> ArrayData:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (n, channels, height, width), dtype=np.uint8)
    return ArrayData(torch.from_numpy(values), Kind.BYTES, name="pictures")


def table(n: int = 60) -> ArrayData:
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(n, 3)) * [1e-3, 1.0, 1e4] + [5.0, 0.0, -1e5]
    return ArrayData(torch.from_numpy(columns.astype(np.float32)), Kind.TABULAR, name="table")


def settings(out, **changes) -> Settings:
    return replace(Settings(data=out, out=out, accelerator="cpu", devices="1"), **changes)


# --- recipes -------------------------------------------------------------------------------------------------------


@EVERY_RECIPE
@pytest.mark.parametrize(
    "data", [pictures(), pictures(channels=3, height=9, width=12), table()], ids=["grey", "rgb", "table"]
)
def test_every_recipe_trains_is_saved_and_opened(name, data, tmp_path):
    options = {"latents": [3, 2], "hidden": [8, 6], "widths": [4, 4], "batch": 8} if "ladder" in name else dict(SMALL)
    if data.kind is Kind.TABULAR:
        options["network"] = "dense"
        options |= {"binarisation": "none"} if name == "iwae" else {}
    recipe = replace(generative_recipe(name, data, data, options), steps=3)
    checkpoint = train(recipe, settings(tmp_path, validate_steps=3))
    assert checkpoint is not None
    path = tmp_path / f"{name}.model"
    path.write_bytes(model_file(recipe, checkpoint, command="rdae train ...", terms="public domain"))
    saved = open_model(tmp_path)
    assert saved.card["recipe"] == name
    assert saved.card["training"]["steps"] == 3
    trained = recipe.trained(load_checkpoint(checkpoint)["average"]["average"])
    y = as_floats(data.values[:5], data.kind)
    torch.testing.assert_close(saved.model.reconstruct(y), trained.reconstruct(y), rtol=0, atol=0)
    assert saved.model.reconstruct(y).shape == y.shape
    samples = saved.model.sample(4)
    assert samples.shape == (4, *data.event)
    assert bool(torch.isfinite(samples).all())
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert any(line.get("valid") and "active_units" in line for line in lines)


def test_a_resumed_run_is_bit_equal(tmp_path):
    recipe = replace(generative_recipe("iwae", pictures(), None, SMALL), steps=6)
    straight = train(recipe, settings(tmp_path / "straight"))
    half = replace(recipe, steps=3, flat=1.0 - 1e-9)
    full = replace(recipe, flat=1.0 - 1e-9)  # the same rates whatever the length of the run
    straight = train(full, settings(tmp_path / "full"))
    train(half, settings(tmp_path / "halves"))
    resumed = train(full, settings(tmp_path / "halves"))
    a, b = (load_checkpoint(path)["model"] for path in (straight, resumed))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_training_lowers_the_loss_and_uses_the_latent():
    """Two well separated clusters: one latent unit tells them apart."""
    torch.manual_seed(0)
    which = torch.arange(400) % 2
    values = torch.where(which[:, None] == 1, 3.0, -3.0) + 0.3 * torch.randn(400, 4)
    recipe = generative_recipe(
        "gaussian_vae",
        ArrayData(values, Kind.REAL),
        None,
        {"latent": 2, "batch": 40, "hidden": [16], "learning_rate": 1e-2},
    )
    model = recipe.model()
    optimizer = recipe.optimizer(model)
    for step in range(1200):
        loss = recipe.weigh(model(values[step % 10 :: 10]).terms, step).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert active_units(model, values) == 1
    codes = model.posterior(values).mean
    best = codes[:, codes.var(0).argmax()]
    assert abs(float(torch.corrcoef(torch.stack([best.detach(), which.float()]))[0, 1])) > 0.99
    # the mean over clusters of N(+-3, 0.3^2): ln 1/2 for the cluster, then four Gaussians
    truth = math.log(0.5) - 4 * (math.log(0.3) + 0.5 * math.log(2 * math.pi) + 0.5)
    estimate = importance_log_likelihood(model.eval(), values, 500)
    assert estimate.value < truth + 4 * estimate.standard_error + 0.1
    assert estimate.value > truth - 1.5


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    recipe = replace(generative_recipe("gaussian_vae", pictures(), None, SMALL), steps=8, clip=None)
    run = settings(tmp_path, checkpoint_minutes=0.0)
    calls = []

    def breaking(terms: Terms, step: int):
        calls.append(step)
        return terms.rate * (math.nan if step == 5 else 1.0) + terms.distortion

    with pytest.raises(TrainingError, match=r"nan at step 5.*step-00000005\.pt.*learning rate"):
        train(replace(recipe, weigh=breaking), run)
    assert calls[-1] == 5
    state = load_checkpoint(tmp_path / "checkpoints" / "step-00000005.pt")
    assert all(bool(torch.isfinite(value).all()) for value in state["model"].values())


def test_data_outside_the_range_of_the_likelihood_are_refused_by_name(tmp_path):
    wild = ArrayData(torch.full((20, 4), 3.0), Kind.REAL, name="wild.npy")
    recipe = generative_recipe("gaussian_vae", wild, None, {**SMALL, "network": "dense"})

    def model():
        from rdae.likelihoods import Bernoulli

        made = recipe.model()
        made.distortion = Bernoulli()
        return made

    with pytest.raises(DataError, match=r"wild\.npy reaches from 3 to 3.*Bernoulli.*0 to 1"):
        train(replace(recipe, model=model, steps=1), settings(tmp_path))


def test_options_that_do_not_exist_are_named():
    with pytest.raises(DataError, match=r"no option 'layers'. It has .*latent"):
        generative_recipe("iwae", pictures(), None, {"layers": 2})
    with pytest.raises(DataError, match="no recipe 'vae'"):
        generative_recipe("vae", pictures())
    with pytest.raises(DataError, match="no images"):
        generative_recipe("gaussian_vae", table(), None, {"network": "convolutional"}).model()
    with pytest.raises(DataError, match="no images"):
        generative_recipe("gaussian_vae", table(), None, {"network": "halved"}).model()


def test_half_the_size_is_the_mean_of_four_pixels_and_of_fewer_at_an_odd_border():
    y = torch.rand(3, 2, 5, 8, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([
        torch.stack([y[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3)) for j in range(4)], -1)
        for i in range(3)
    ], -2)  # fmt: skip
    torch.testing.assert_close(halved(y), expected)
    torch.testing.assert_close(halved(y[0]), expected[0])


def test_a_halved_decoder_is_dense_layers_made_larger_between_neighbours():
    torch.manual_seed(0)
    start = torch.rand(2, 5, 8)
    decoder = HalvedDecoder((2, 5, 8), 3, (7,), features=2, bias=start)
    z = torch.randn(4, 3)
    first, last = decoder.layers[0], decoder.layers[2]
    small = last(leaky_relu(first(z), 0.2)).view(4, 4, 3, 4)

    def finer(n: int, side: int) -> torch.Tensor:
        """Pixels lie a quarter to the left and to the right of each coarse one; beyond the border nothing changes."""
        at = (torch.arange(n) / 2 - 0.25).clamp(0, side - 1)
        return (1 - (at[:, None] - torch.arange(side)).abs()).clamp(min=0)

    expected = torch.einsum("ih,nchw,jw->ncij", finer(5, 3), small, finer(8, 4))
    expected[:, :2] += start
    torch.testing.assert_close(decoder(z), expected)


def test_a_halved_network_begins_at_the_mean_of_the_data_and_learns(tmp_path):
    recipe = generative_recipe("gaussian_vae", pictures(), None, {**SMALL, "network": "halved"})
    model = recipe.model()
    z = torch.randn(2, 3)
    torch.nn.init.zeros_(model.decoder.layers[-1].weight)
    torch.testing.assert_close(model.decoder(z), scale_of(pictures()).mean.expand(2, -1, -1, -1))
    checkpoint = train(replace(recipe, steps=3), settings(tmp_path))
    assert recipe.trained(load_checkpoint(checkpoint)["average"]["average"]).sample(5).shape == (5, 1, 10, 7)


def test_collapse_is_noticed(caplog):
    recipe = generative_recipe("gaussian_vae", pictures(), pictures(), SMALL)
    model = recipe.model().eval()
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()
    with caplog.at_level("WARNING"):
        (point,) = recipe.validate(model, recipe.held_out(None))
    assert point["active_units"] == 0
    assert "posterior collapse" in caplog.text


def test_pseudo_inputs_begin_as_examples():
    data = pictures()
    prior = generative_recipe("vamp_vae", data, None, {**SMALL, "components": 4}).model().prior
    assert isinstance(prior, VampPrior)
    torch.testing.assert_close(prior.pseudo_inputs.detach(), as_floats(data.values[[0, 10, 20, 30]], data.kind))


# --- weighing ------------------------------------------------------------------------------------------------------


def test_beta_rises_in_a_line_and_capacity_holds_the_rate():
    terms = Terms(torch.tensor([2.0, 4.0]), torch.tensor([10.0, 20.0]))
    beta = Beta(beta=4.0, lam=0.5, warmup=10)
    for step, share in ((0, 0.1), (4, 0.5), (9, 1.0), (50, 1.0)):
        torch.testing.assert_close(beta(terms, step), 4 * share * terms.rate + 0.5 * terms.distortion)
    torch.testing.assert_close(Beta()(terms, 0), terms.rate + terms.distortion)
    capacity = Capacity(nats=6.0, steps=10, gamma=2.0)
    for step, due in ((0, 0.0), (5, 3.0), (20, 6.0)):
        torch.testing.assert_close(capacity(terms, step), 2 * abs(3.0 - due) + terms.distortion)


# --- measures ------------------------------------------------------------------------------------------------------


def linear(spread: float) -> NoisyChannelAutoencoder:
    """y = W z + spread * noise with a rough posterior; ln p(y) is known."""
    torch.manual_seed(1)
    decoder, encoder = nn.Linear(2, 4, bias=False), nn.Linear(4, 4)
    with torch.no_grad():
        encoder.weight.mul_(0.2)
    return NoisyChannelAutoencoder(
        encoder, GaussianChannel(2), StandardNormalPrior(2), decoder, Gaussian(spread)
    ).eval()


def test_importance_sampling_finds_the_evidence_of_a_linear_model():
    model = linear(0.8)
    y = torch.randn(6, 4)
    w = model.decoder.weight.detach()
    law = torch.distributions.MultivariateNormal(torch.zeros(4), w @ w.T + 0.64 * torch.eye(4))
    torch.testing.assert_close(log_evidence(model, y, 40_000), law.log_prob(y), rtol=0, atol=0.05)
    few = log_evidence(model, y.repeat(300, 1), 2).unflatten(0, (300, 6)).mean(0)
    assert bool((few < law.log_prob(y)).all())  # a lower bound in expectation


def test_a_measure_says_value_error_unit_and_kind():
    measure = mean_of(torch.tensor([1.0, 2.0, 3.0, 6.0]), "nats per example", Statement.LOWER)
    assert measure.value == 3.0
    assert measure.standard_error == pytest.approx(math.sqrt(14 / 3) / 2)
    assert str(measure) == "3.0000 +- 1.0801 nats per example (lower bound)"


# --- ladders -------------------------------------------------------------------------------------------------------


def test_merging_is_the_product_of_two_gaussians():
    torch.manual_seed(0)
    a, b = (
        Independent(Normal(torch.randn(1, 1), torch.rand(1, 1) + 0.3), 1) for _ in range(2)
    )  # fmt: skip
    z = torch.linspace(-6, 6, 2001)[:, None]
    product = (a.log_prob(z[:, None]) + b.log_prob(z[:, None])).flatten().exp()
    joined = merged(a, b).log_prob(z[:, None]).flatten().exp()
    torch.testing.assert_close(joined, product / (product.sum() * 12 / 2000), rtol=1e-4, atol=1e-5)


def linear_ladder() -> tuple[LadderAutoencoder, torch.Tensor, torch.Tensor]:
    """z2 ~ N(0, I), z1 = A z2 + noise, y = B z1 + noise; the model, and the covariances of z1 and y."""
    torch.manual_seed(2)
    conditional, decoder = nn.Linear(2, 6), nn.Linear(3, 4, bias=False)
    with torch.no_grad():
        conditional.weight[3:] = 0.0  # ln std of z1 does not depend on z2
        conditional.bias[:3], conditional.bias[3:] = 0.0, math.log(0.7)
    heads = [nn.Linear(5, 6), nn.Linear(5, 4)]
    for head in heads:
        head.weight.data.mul_(0.3)
    encoders = [nn.Sequential(nn.Linear(4, 5), nn.Tanh()), nn.Sequential(nn.Linear(5, 5), nn.Tanh())]
    model = LadderAutoencoder(encoders, heads, [3, 2], StandardNormalPrior(2), [conditional], decoder, Gaussian(0.9))
    a, b = conditional.weight.detach()[:3], decoder.weight.detach()
    first = a @ a.T + 0.49 * torch.eye(3)
    return model.eval(), first, b @ first @ b.T + 0.81 * torch.eye(4)


def test_the_evidence_of_a_linear_ladder():
    model, _, spread = linear_ladder()
    y = torch.randn(5, 4)
    truth = torch.distributions.MultivariateNormal(torch.zeros(4), spread).log_prob(y)
    torch.testing.assert_close(log_evidence(model, y, 60_000), truth, rtol=0, atol=0.05)
    terms = [model(y.repeat(500, 1)).terms for _ in range(4)]
    elbo = -torch.cat([t.rate + t.distortion for t in terms]).view(-1, 5).mean(0)
    assert bool((elbo < truth).all())
    sampled = model.log_joint(y, 4000).log_weight.detach()
    torch.testing.assert_close(elbo.detach(), sampled.mean(0), rtol=0, atol=0.15)  # closed KL against its samples


def test_samples_of_a_linear_ladder_have_its_covariance():
    model, first, _ = linear_ladder()
    torch.manual_seed(0)
    b = model.decoder.weight.detach()
    shown = model.sample(40_000)  # means of p(y | z1)
    torch.testing.assert_close(torch.cov(shown.T), b @ first @ b.T, rtol=0.05, atol=0.02)
    assert model.latent_means(torch.randn(3, 4)).shape == (3, 5)


def test_a_ladder_without_temperature_shows_its_mean():
    model = linear_ladder()[0]
    model.prior = NormalPrior(2)
    torch.nn.init.normal_(model.prior.mean)
    conditional = model.conditionals[0]
    mean = model.prior.mean @ conditional.weight[:3].T
    due = (mean @ model.decoder.weight.T).detach().expand(3, 4)
    torch.testing.assert_close(model.sample(3, temperature=0.0), due)


def test_a_ladder_names_what_does_not_fit():
    with pytest.raises(ShapeError, match="one conditional fewer"):
        LadderAutoencoder([nn.Identity()], [nn.Identity()], [2], StandardNormalPrior(2), [], nn.Identity(), Gaussian())


def ladder_gradients(model: LadderAutoencoder, y: torch.Tensor, bound, runs: int) -> torch.Tensor:
    """One row a run: the gradient of the mean bound for all parameters."""
    rows = []
    for _ in range(runs):
        model.zero_grad()
        bound(model, y).mean().backward()
        rows.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    return torch.stack(rows)


def test_gradient_estimators_of_a_ladder_agree_in_the_mean():
    """The conditionals serve p and q: their gradient has a plain part and a doubly reparameterised one."""
    model, _, _ = linear_ladder()
    model = model.double()
    y = torch.randn(2, 4, dtype=torch.float64)
    estimators = {
        "plain": lambda m, y: importance_bound(m.log_joint(y, 8).log_weight),
        "double": lambda m, y: doubly_reparameterised_bound(m.log_joint(y, 8, frozen=True)),
    }
    drawn = {name: ladder_gradients(model, y, bound, 500) for name, bound in estimators.items()}
    error = sum(rows.var(0) / len(rows) for rows in drawn.values()).sqrt()
    gap = (drawn["double"].mean(0) - drawn["plain"].mean(0)).abs()
    assert float((gap / error.clamp_min(1e-12)).max()) < 4.5  # of 100 numbers
    encoder = slice(0, sum(p.numel() for p in (*model.encoders.parameters(), *model.heads.parameters())))
    assert float(drawn["double"][:, encoder].var(0).sum()) < float(drawn["plain"][:, encoder].var(0).sum())
    one = {
        "score": lambda m, y: score_function_bound(m.log_joint(y, 8, pathwise=False)),
        "sticking": lambda m, y: m.log_joint(y, 8, frozen=True).log_weight.mean(0),
    }
    drawn = {name: ladder_gradients(model, y, bound, 500) for name, bound in one.items()}
    error = sum(rows.var(0) / len(rows) for rows in drawn.values()).sqrt()
    # sticking the landing leaves out a term of mean zero for q, and only for q
    gap = (drawn["sticking"].mean(0) - drawn["score"].mean(0)).abs()
    assert float((gap / error.clamp_min(1e-12)).max()) < 4.5


# --- walks and pictures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spherical", [False, True])
def test_walks_begin_and_end_where_they_should(spherical):
    start, end = torch.randn(5), torch.randn(5)
    path = between(start, end, 9, spherical=spherical)
    torch.testing.assert_close(path[0], start)
    torch.testing.assert_close(path[-1], end)
    if spherical:
        lengths = torch.linspace(0, 1, 9) * (end.norm() - start.norm()) + start.norm()
        torch.testing.assert_close(path.norm(dim=1), lengths)
        unit = path / path.norm(dim=1, keepdim=True)
        turns = torch.arccos((unit[1:] * unit[:-1]).sum(1).clamp(-1, 1))
        torch.testing.assert_close(turns, turns.mean().expand(8), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(between(start, start, 3, spherical=spherical), start.expand(3, 5))


def test_walks_through_a_model():
    recipe = generative_recipe("gaussian_vae", pictures(), None, SMALL)
    model = recipe.model().eval()
    y = as_floats(pictures().values[:4], Kind.BYTES)
    ends = latents_of(model, y)
    walks = interpolate(model, ends[:2], ends[2:], 5)
    assert walks.shape == (2, 5, 1, 10, 7)
    torch.testing.assert_close(walks[:, -1], model.reconstruct(y[2:]))
    rows = traverse(model, torch.zeros(3), [0, 2], 4, 2.0)
    assert rows.shape == (2, 4, 1, 10, 7)
    torch.testing.assert_close(rows[1, 0], model.decoder(torch.tensor([[0.0, 0.0, -2.0]])).detach()[0])
    with pytest.raises(ShapeError, match="units"):
        traverse(model, torch.zeros(3), [3])


def test_a_grid_places_pictures_row_by_row():
    images = torch.arange(5).view(5, 1, 1, 1).expand(5, 1, 40, 40) / 4
    sheet = np.asarray(image_grid(images, 2))
    assert sheet.shape == (3 * 40 + 2 * 2, 2 * 40 + 2)
    assert [int(sheet[42 * (k // 2) + 5, 42 * (k % 2) + 5]) for k in range(5)] == [0, 64, 128, 191, 255]
    with pytest.raises(ShapeError, match=r"\.npz"):
        image_grid(torch.zeros(2, 3), 1)


def test_examples_are_written_as_pictures_or_arrays(tmp_path):
    images = torch.rand(4, 3, 8, 8)
    write_examples(tmp_path / "a.png", images, 2)
    assert Image.open(tmp_path / "a.png").mode == "RGB"
    write_examples(tmp_path / "a.npz", images, 2)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["examples"], images.numpy())


# --- files and commands --------------------------------------------------------------------------------------------


def test_what_is_no_model_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match="holds 0 model files"):
        open_model(tmp_path)
    with pytest.raises(ModelError, match="cannot be read"):
        open_model(tmp_path / "none.model")
    for data in (b"", b"not a model at all", b"\xff" * 64):
        (tmp_path / "bad.model").write_bytes(data)
        with pytest.raises(ModelError, match="no model file"):
            open_model(tmp_path / "bad.model")


def test_a_card_that_asks_for_what_the_file_has_not_got_is_refused_before_it_is_built(tmp_path):
    card = {
        "version": 1, "recipe": "gaussian_vae", "options": {"hidden": [10**7, 10**7], "network": "dense"},
        "event": [4], "kind": "real", "binarisation": "none",
    }  # fmt: skip
    (tmp_path / "huge.model").write_bytes(save_tensors({"x": torch.zeros(1)}, {"card": json.dumps(card)}))
    with pytest.raises(ModelError, match=r"does not hold the weights.*copy it again"):  # 400 TB otherwise
        open_model(tmp_path / "huge.model")


def command(*arguments: str, cwd) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "rdae.cli.main", *arguments], capture_output=True, text=True, timeout=300, cwd=cwd
    )


def test_the_commands_from_data_to_pictures(tmp_path):
    np.save(tmp_path / "faces.npy", pictures(64, 3, 12, 16).values.permute(0, 2, 3, 1).numpy())
    trained = command(
        "train", "gaussian_vae", "--data", "faces.npy", "--steps", "2", "--set", "latent=4", "--set", "widths=[4,4]",
        "-o", "run", cwd=tmp_path,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert "rdae sample" in trained.stdout
    for words in (
        ["sample", "run", "-n", "9", "-o", "s.png"],
        ["reconstruct", "run", "--data", "faces.npy", "-o", "r.png"],
        ["interpolate", "run", "--data", "faces.npy", "--spherical", "-o", "i.png"],
        ["interpolate", "run", "-o", "j.png"],
        ["traverse", "run", "-o", "t.png"],
    ):
        done = command(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert Image.open(tmp_path / words[-1]).mode == "RGB"
    wrong = command("train", "gaussian_vae", "--data", "faces.npy", "--set", "latnt=4", cwd=tmp_path)
    assert wrong.returncode == 1
    assert "no option 'latnt'" in wrong.stderr


def test_sprites_come_through_the_same_door():
    data = open_data("sprites")
    assert data.event == (1, 32, 32)
