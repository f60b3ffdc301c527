"""Implicit models in the loop of all others: turns, exact resume, recipes from data to a file that samples."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from rdae.adversarial import (
    R1,
    AdversarialPair,
    GradientPenalty,
    ImplicitModel,
    Lazy,
    Relativistic,
    packed_event,
    spectrally_normalised,
)
from rdae.cli.main import app
from rdae.data.arrays import ArrayData, Kind
from rdae.data.synthetic import MixtureSource
from rdae.errors import CheckpointError, DataError, ModelError
from rdae.measures.modes import mode_coverage
from rdae.networks.critics import DenseCritic
from rdae.networks.dense import DenseDecoder
from rdae.priors.latent import StandardNormalPrior
from rdae.recipes import generative_recipe
from rdae.recipes.model_file import model_file, open_model
from rdae.training.adversarial_recipe import AdversarialRecipe
from rdae.training.checkpoint import load_checkpoint
from rdae.training.loop import Settings, _Run, train

IMPLICIT = ("gan", "wgan_gp", "r3gan")
SMALL = {"latent": 3, "hidden": (8, 8), "widths": (4, 4), "batch": 8}


def settings(out, **changes) -> Settings:
    return replace(Settings(data=out, out=out, accelerator="cpu", devices="1"), **changes)


def game(steps: int) -> AdversarialRecipe:
    """Everything at once: packs, spectral normalisation, a lazy penalty, two turns of the critic."""
    data = ArrayData(torch.randn(64, 2, generator=torch.Generator().manual_seed(0)), Kind.REAL)

    def model() -> AdversarialPair:
        critic = spectrally_normalised(DenseCritic(packed_event((2,), 2), (8,)))
        implicit = ImplicitModel(StandardNormalPrior(3), DenseDecoder((2,), 3, (8,)))
        return AdversarialPair(implicit, critic, Relativistic(), (GradientPenalty(0.1), Lazy(R1(0.1), 4)), 2)

    return AdversarialRecipe(
        name="game", model=model, data=data, steps=steps, batch=8, learning_rate=1e-2, critic_learning_rate=3e-2,
        critic_steps=2, warmup=1, flat=0.999, clip=None,
    )  # fmt: skip


def test_only_the_player_whose_turn_it_is_moves(tmp_path):
    recipe = game(6)
    run = _Run(recipe, settings(tmp_path), None)
    batches = recipe.batches(tmp_path, seed=0, rank=0, world=1)
    for number in range(6):
        before = {name: value.clone() for name, value in run.bare.named_parameters()}
        averages = run.average.count
        run.step(number, batches[number], slice(0, 8))
        moved = {name.split(".")[0] for name, value in run.bare.named_parameters() if not value.equal(before[name])}
        assert moved == ({"model"} if number % 3 == 2 else {"critic"})
        assert run.average.count - averages == (number % 3 == 2)
    assert [optimizer.param_groups[0]["lr"] for optimizer in run.optimizers] == pytest.approx([1e-2, 3e-2])


def test_a_run_stopped_in_the_middle_of_a_round_goes_on_bit_by_bit(tmp_path):
    whole = load_checkpoint(train(game(20), settings(tmp_path / "whole")))
    for steps in (7, 11, 20):
        parts = train(game(steps), settings(tmp_path / "parts"))
    parts = load_checkpoint(parts)
    assert whole["average"]["count"] == 20 // 3
    for a, b in ((whole["model"], parts["model"]), (whole["average"]["average"], parts["average"]["average"])):
        assert all(torch.equal(a[name], b[name]) for name in a)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert {"critic_loss", "generator_loss", "gap", "penalty", "loss"} <= set(lines[-1])


def test_penalties_that_fade_go_on_fading_bit_by_bit(tmp_path):
    recipe = replace(game(20), fade=0.01)
    whole = load_checkpoint(train(recipe, settings(tmp_path / "whole")))
    run = _Run(recipe, settings(tmp_path / "parts"), None)
    batches = recipe.batches(tmp_path, seed=0, rank=0, world=1)
    for number in range(7):
        run.step(number, batches[number], slice(0, 8))
    run.keep(7)
    parts = load_checkpoint(train(recipe, settings(tmp_path / "parts")))
    assert all(torch.equal(value, parts["model"][name]) for name, value in whole["model"].items())


def examples(kind: str) -> ArrayData:
    g = torch.Generator().manual_seed(1)
    if kind == "table":
        return ArrayData(100 + 5 * torch.randn(40, 4, generator=g), Kind.TABULAR)
    shape = {"grey": (40, 1, 10, 7), "colour": (40, 3, 9, 12)}[kind]
    return ArrayData(torch.randint(0, 256, shape, dtype=torch.uint8, generator=g), Kind.BYTES)


@pytest.mark.parametrize("name", IMPLICIT)
@pytest.mark.parametrize("kind", ["grey", "colour", "table"])
def test_every_recipe_trains_is_saved_opened_and_samples(name, kind, tmp_path):
    data = examples(kind)
    recipe = replace(generative_recipe(name, data, data, SMALL), steps=7)
    checkpoint = train(recipe, settings(tmp_path, validate_steps=7))
    (tmp_path / f"{name}.model").write_bytes(model_file(recipe, checkpoint, command="rdae train", terms="none"))
    saved = open_model(tmp_path)
    assert isinstance(saved.model, ImplicitModel)
    average = load_checkpoint(checkpoint)["average"]["average"]
    assert all(torch.equal(value, average[key]) for key, value in saved.model.state_dict().items())
    samples = saved.model.sample(5)
    assert samples.shape == (5, *data.event)
    if kind == "table":  # made in the scale of the data
        assert 50 < float(samples.mean()) < 150
    else:
        assert 0 <= float(samples.min()) <= float(samples.max()) <= 1
    points = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert any("energy_distance" in point for point in points)


def test_the_relativistic_game_with_both_penalties_finds_all_modes_of_a_ring(tmp_path):
    source = MixtureSource.ring()
    values = torch.from_numpy(source.sample(20_000, seed=0)).float()
    options = {
        "latent": 2, "hidden": (64, 64), "batch": 128, "learning_rate": 2e-3, "critic_learning_rate": 2e-3,
        "network": "dense",
    }  # fmt: skip
    recipe = replace(generative_recipe("r3gan", ArrayData(values, Kind.REAL), None, options), steps=3000, average=0.99)
    checkpoint = train(recipe, settings(tmp_path))
    model = recipe.result(recipe.model())
    model.load_state_dict(load_checkpoint(checkpoint)["average"]["average"])
    torch.manual_seed(0)
    found = mode_coverage(model.sample(4000), torch.from_numpy(source.means), 0.1)
    assert found.covered == 8


def test_a_collapsed_generator_is_noticed(caplog):
    recipe = game(1)
    model = recipe.result(recipe.model()).eval()
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.mul_(1e-3)
    with caplog.at_level(logging.WARNING, logger="rdae"):
        (point,) = recipe.validate(model, torch.randn(200, 2))
    assert point["spread_ratio"] < 0.1
    assert "collapsed" in caplog.text


def test_wrong_wishes_are_named():
    with pytest.raises(DataError, match="no game 'chess'"):
        generative_recipe("gan", examples("grey"), None, {"game": "chess"})
    with pytest.raises(DataError, match="no option 'gamma'"):
        generative_recipe("gan", examples("grey"), None, {"gamma": 1.0})
    for wrong in ({"batch": 0}, {"critic_steps": 0}, {"r1": -1.0}, {"learning_rate": "fast"}):
        with pytest.raises(DataError):
            generative_recipe("gan", examples("grey"), None, wrong)
    with pytest.raises(DataError, match="packing is 0"):
        generative_recipe("gan", examples("grey"), None, {"packing": 0}).model()
    assert generative_recipe("r3gan", examples("grey"), None, {"packing": 2, "gamma": 1.0}).critic_steps == 1


def test_a_run_does_not_go_on_under_other_options(tmp_path):
    data = examples("grey")
    train(replace(generative_recipe("gan", data, None, SMALL), steps=2), settings(tmp_path))
    other = replace(generative_recipe("gan", data, None, {**SMALL, "game": "hinge"}), steps=4)
    with pytest.raises(CheckpointError, match="options"):
        train(other, settings(tmp_path))
    slower = replace(generative_recipe("gan", data, None, {**SMALL, "learning_rate": 1e-4}), steps=4)
    assert train(slower, settings(tmp_path)) is not None


def test_the_critic_sees_pixels_as_they_are_and_real_numbers_in_their_scale():
    grey, real = examples("grey"), examples("table")
    for network in ("dense", "convolutional"):
        pair = generative_recipe("gan", grey, None, {**SMALL, "network": network}).model()
        layer = pair.critic.critic
        scale = layer.network.scale if network == "dense" else layer.scale
        assert bool((scale == 1).all())
    scale = generative_recipe("gan", real, None, SMALL).model().critic.critic.network.scale
    torch.testing.assert_close(scale, real.values.std(0))


def test_the_command_trains_and_samples(tmp_path):
    np.save(tmp_path / "data.npy", examples("grey").values.numpy())
    words = ["train", "gan", "--data", str(tmp_path / "data.npy"), "--steps", "4", "-o", str(tmp_path / "run")]
    words += [f"--set={key}={value}" for key, value in SMALL.items()]
    assert not app([*words, "--accelerator", "cpu"], standalone_mode=False)
    assert not app(["sample", str(tmp_path / "run"), "-n", "9", "-o", str(tmp_path / "s.npz")], standalone_mode=False)
    assert np.load(tmp_path / "s.npz")["examples"].shape == (9, 1, 10, 7)
    for words in (["interpolate", "--steps", "3", "-n", "2"], ["traverse", "--steps", "3"]):
        done = app([words[0], str(tmp_path / "run"), *words[1:], "-o", str(tmp_path / "w.npz")], standalone_mode=False)
        assert not done
        assert np.load(tmp_path / "w.npz")["examples"].shape[1:] == (1, 10, 7)
    for words in ("reconstruct", "interpolate", "traverse"):  # an example has no latent here
        with pytest.raises(ModelError, match="no encoder"):
            app(
                [words, str(tmp_path / "run"), "--data", str(tmp_path / "data.npy"), "-o", "x.npz"],
                standalone_mode=False,
            )
