"""Judging samples: floors, perfect and collapsed samplers, copies, modes, the classifier that ships, the command."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from test_mmd import generator, normal

from rdae.data.arrays import ArrayData, Kind
from rdae.data.samples import drawn_samples, like_data, read_samples
from rdae.data.sources import MIXTURES, open_data
from rdae.data.stacked import stacked_mnist
from rdae.errors import DataError, ModelError, ShapeError
from rdae.measures import classifier
from rdae.measures.classifier import FEATURES, digits, digits_card, see
from rdae.measures.copying import copied_share, nearer_share, nearest_squared
from rdae.measures.judging import Better, Examples, judge, standardised
from rdae.measures.labelling import labels_of_neighbours, leave_one_out, nearest_centres
from rdae.reports.judgement import judgement
from rdae.reports.judgement_page import READING, judgement_page

T_NINE = 4.78  # Student's t of ten values at one in a thousand


def mixture(n: int, seed: int, modes: int = 5, sd: float = 0.1) -> Examples:
    """Round Gaussians in a row, equally likely."""
    g = generator(seed)
    which = torch.randint(modes, (n,), generator=g)
    x = normal(n, 2, g) * sd
    x[:, 0] += which
    return Examples(x, which, x.sub(torch.stack([which, 0 * which], 1)).norm(dim=1) <= 3 * sd)


def judged(samples: Examples, seed: int = 0, **options) -> dict:
    return {row.key: row for row in judge(samples, mixture(800, 100), generator(seed), modes=5, **options)}


# --- measures ------------------------------------------------------------------------------------------------------


def test_a_perfect_sampler_sits_on_every_floor():
    rows = judged(mixture(400, 1), training=mixture(600, 2).features, round_modes=True)
    assert len(rows) == 15
    for key, row in rows.items():
        assert math.isfinite(row.value.value), key
        assert row.deviations is None or abs(row.deviations) < T_NINE, key
        if row.theory is not None and row.floor.spread:  # ten splits of 800 points have these points in common
            assert abs(row.floor.mean - row.theory) < 4 * row.floor.spread, key
    assert rows["covered"].value.value == 5
    assert rows["quality"].theory == pytest.approx(1 - math.exp(-4.5))
    assert rows["reverse_kl"].theory == pytest.approx(4 / 800)


def test_a_collapsed_sampler_is_worse_in_each_measure_that_can_see_it():
    good, poor = judged(mixture(400, 1), round_modes=True), judged(mixture(400, 1, modes=2), round_modes=True)
    unseen = {"precision", "quality", "density"}  # what is left is good
    for key in set(good) - unseen:
        a, b = good[key].value.value, poor[key].value.value
        assert (b < a) if good[key].better is Better.MORE else (b > a), key
        assert poor[key].deviations is None or abs(poor[key].deviations) > T_NINE, key
    noisy = mixture(400, 1)._replace(features=mixture(400, 1, sd=0.4).features, good=mixture(400, 1, sd=0.4).good)
    noisy = noisy._replace(good=(noisy.features[:, 1].abs() < 0.3))
    worse = judged(noisy, round_modes=True)
    assert all(worse[key].value.value < good[key].value.value for key in unseen)


def test_the_same_seed_gives_the_same_numbers():
    a, b = judged(mixture(100, 1), seed=5), judged(mixture(100, 1), seed=5)
    assert a == b
    assert a["frechet"] != judged(mixture(100, 1), seed=6)["frechet"]


@pytest.mark.parametrize(
    ("samples", "reference", "message"),
    [
        (torch.zeros(7, 2), torch.rand(40, 2), "8 samples or more"),
        (torch.rand(20, 2), torch.rand(15, 2), "16 reference examples or more"),
        (torch.rand(20, 3), torch.rand(40, 2), "one width"),
        (torch.full((20, 2), math.nan), torch.rand(40, 2), "not finite"),
        (torch.rand(20, 2), torch.ones(40, 2), "All reference examples are equal"),
    ],
)
def test_what_cannot_be_judged_is_said(samples, reference, message):
    with pytest.raises((ShapeError, DataError), match=message):
        judge(Examples(samples), Examples(reference), generator())
    with pytest.raises(DataError, match="modes of samples are not known"):
        judge(Examples(torch.rand(20, 2)), Examples(torch.rand(40, 2)), generator(), modes=3)


def test_eight_samples_that_are_all_equal_are_judged():
    rows = judge(Examples(torch.zeros(8, 2)), Examples(torch.rand(16, 2)), generator())
    assert all(math.isfinite(row.value.value) for row in rows)


def test_standardised_elements_have_mean_0_and_deviation_1_but_where_nothing_varies():
    reference = torch.cat([normal(50, 2, generator()) * 5 + 3, torch.ones(50, 1)], 1)
    found = standardised(reference)(reference)
    torch.testing.assert_close(found.mean(0), torch.zeros(3).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.std(0), torch.tensor([1.0, 1.0, 0.0]).double())


# --- copies --------------------------------------------------------------------------------------------------------


def test_nearer_is_a_share_of_pairs_with_the_error_of_its_draws():
    g = generator(3)
    a, b = torch.randint(5, (30,), generator=g), torch.randint(6, (40,), generator=g)
    pairs = (a[:, None] < b).double() + 0.5 * (a[:, None] == b).double()
    assert nearer_share(a, b).value == pytest.approx(float(pairs.mean()), abs=1e-12)
    found = [nearer_share(torch.rand(80, generator=g), torch.rand(120, generator=g) + 0.2) for _ in range(300)]
    values = torch.tensor([f.value for f in found])
    error = sum(f.standard_error for f in found) / len(found)
    assert error == pytest.approx(float(values.std()), rel=4 / math.sqrt(2 * 300))
    with pytest.raises(ShapeError, match="Pass"):
        nearer_share(torch.zeros(3, 2), torch.zeros(3))


def test_copies_are_found_and_new_samples_are_not_taken_for_copies():
    g = generator(4)
    training, held_out, fresh = (normal(300, 5, g) + 50 for _ in range(3))
    to = {name: nearest_squared(x, training) for name, x in
          (("held", held_out), ("fresh", fresh), ("copy", training[:200]), ("near", training + 0.01))}  # fmt: skip
    brute = (held_out[:, None] - training).square().sum(2).amin(1).double()
    torch.testing.assert_close(to["held"], brute, rtol=1e-4, atol=1e-5)
    assert copied_share(to["copy"], training.double()).value == 1
    assert copied_share(to["near"], training.double()).value == copied_share(to["fresh"], training.double()).value == 0
    assert nearer_share(to["copy"], to["held"]).value == 1
    fair = nearer_share(to["fresh"], to["held"])
    assert abs(fair.value - 0.5) < 4 * fair.standard_error


# --- modes ---------------------------------------------------------------------------------------------------------


def test_neighbours_tell_labels():
    known, labels = torch.tensor([[0.0], [1.0], [5.0], [6.0], [6.2]]), torch.tensor([3, 3, 7, 7, 3])
    assert labels_of_neighbours(torch.tensor([[0.4], [5.4], [6.3]]), known, labels).tolist() == [3, 7, 3]
    told, right = leave_one_out(known, labels)
    assert told.tolist() == [3, 3, 7, 3, 7]
    assert right.value == 0.6
    index, distance = nearest_centres(torch.tensor([[4.0], [0.5]]), known)
    assert index.tolist()[0] == 2
    torch.testing.assert_close(distance, torch.tensor([1.0, 0.5]).double())
    with pytest.raises(ShapeError, match="one label for each"):
        labels_of_neighbours(known, known, labels[:2])
    with pytest.raises(DataError, match="whole number"):
        leave_one_out(known, labels.float())


def test_named_mixtures_have_their_modes_quality_and_floors():
    data = open_data("gaussian-grid", split="test")
    data = ArrayData(data.values[:3000], data.kind, data.labels[:3000], data.name)
    source = MIXTURES["gaussian-grid"]()
    samples = torch.from_numpy(source.sample(1000, 3)).float()
    found = judgement(samples, data, name="gaussian-grid")
    rows = {row.key: row for row in found.rows}
    assert rows["covered"].value.unit == "of 25"
    assert rows["covered"].value.value == 25
    assert rows["quality"].theory == pytest.approx(0.98889, abs=1e-5)
    assert abs(rows["quality"].value.value - 0.98889) < 4 * math.sqrt(0.98889 * 0.01111 / 1000)
    assert rows["reverse_kl"].theory == 24 / 2000
    assert "nearer" not in rows


def test_points_of_a_mixture_are_the_same_for_a_split_and_other_for_the_other():
    train, test = (open_data("gaussian-ring", split=split) for split in ("train", "test"))
    assert (len(train), len(test), train.kind, train.event) == (100_000, 20_000, Kind.TABULAR, (2,))
    assert torch.equal(test.values, open_data("gaussian-ring", split="test").values)
    assert not torch.equal(test.values, train.values[:20_000])
    centres = torch.from_numpy(MIXTURES["gaussian-ring"]().means)[test.labels]
    assert float((test.values - centres).norm(dim=1).max()) < 0.06  # six standard deviations
    with pytest.raises(DataError, match="Leave kind out"):
        open_data("gaussian-ring", kind="real")


# --- the classifier ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mnist_folder(data_folder):
    if not (data_folder / "mnist").is_dir():
        pytest.skip("RDAE_DATA has no folder mnist/")
    return data_folder / "mnist"


def test_the_classifier_is_right_as_often_as_its_card_says(mnist_folder):
    test = open_data("mnist", split="test", folder=mnist_folder)
    errors = int((see(test.values).labels[:, 0] != test.labels).sum())
    card = digits_card()
    assert errors <= 100
    assert abs(errors - card["test_errors"]) <= 2  # a tie of logits can fall differently elsewhere
    assert card["test_examples"] == len(test)


def test_the_weights_are_small_and_of_the_network():
    assert classifier.WEIGHTS.stat().st_size < 500_000
    assert sum(p.numel() for p in digits().parameters()) == digits_card()["parameters"] < 100_000
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in digits().parameters())


def test_channels_are_looked_at_one_by_one_and_sizes_are_brought_to_28():
    grey = torch.rand(5, 1, 28, 28, generator=generator())
    one = see(grey)
    assert one.features.shape == (5, FEATURES)
    three = see(torch.cat([grey, grey.flip(0), grey], 1))
    torch.testing.assert_close(three.features[:, :FEATURES], one.features)
    torch.testing.assert_close(three.features[:, FEATURES : 2 * FEATURES], one.features.flip(0))
    torch.testing.assert_close(see((grey * 255).round().to(torch.uint8)).features, one.features, rtol=0.05, atol=0.05)
    enlarged = grey.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert see(enlarged).features.shape == (5, FEATURES)
    torch.testing.assert_close(
        see(torch.full((2, 1, 9, 50), 0.3)).features, see(torch.full((2, 1, 28, 28), 0.3)).features
    )
    torch.testing.assert_close(see(grey + 5).features, see(torch.ones_like(grey)).features)
    with pytest.raises(ShapeError, match="Add a dimension"):
        see(grey[:, 0])


def test_damaged_weights_are_said(tmp_path, monkeypatch):
    (tmp_path / "bad").write_bytes(b"nothing")
    monkeypatch.setattr(classifier, "WEIGHTS", tmp_path / "bad")
    with pytest.raises(ModelError, match="Install the package again"):
        digits.__wrapped__()
    with pytest.raises(ModelError, match="Install the package again"):
        digits_card.__wrapped__()


def test_stacked_digits_are_told_and_collapse_shows(mnist_folder):
    data = stacked_mnist(split="test", count=1200, folder=mnist_folder)
    assert data.values.shape == (1200, 3, 28, 28)
    perfect = stacked_mnist(split="test", count=600, seed=7, folder=mnist_folder)
    found = judgement(perfect.values, data, name="stacked-mnist")
    rows = {row.key: row for row in found.rows}
    assert found.accuracy.value > 0.97
    expected = 1000 * (1 - (1 - 1 / 1000) ** 600)  # classes that 600 equal draws hit
    assert abs(rows["covered"].value.value - expected) < 4 * math.sqrt(1000 * 0.55 * 0.45)
    assert rows["reverse_kl"].theory is None  # 600 draws of 1000 classes are too few for its formula
    assert abs(rows["reverse_kl"].deviations) < T_NINE
    collapsed = perfect.values[perfect.labels < 100]  # the first digit is 0
    collapsed = collapsed[torch.arange(300) % len(collapsed)]
    poor = {row.key: row for row in judgement(collapsed, data, name="stacked-mnist").rows}
    assert poor["covered"].value.value < 115
    assert poor["reverse_kl"].value.value > math.log(10) - 0.1
    assert poor["frechet"].deviations > T_NINE
    assert poor["recall"].deviations < -T_NINE


def test_the_number_of_triples_can_be_named(mnist_folder, monkeypatch):
    data = open_data("stacked-mnist:50", folder=mnist_folder)
    digits_alone = open_data("mnist", folder=mnist_folder)
    assert len(data) == 50
    assert torch.equal(data.values, open_data("stacked-mnist:50", folder=mnist_folder).values)
    index, label = data.values[3, 1], int(data.labels[3])
    where = (digits_alone.values[:, 0] == index).all(1).all(1).nonzero()[0, 0]
    assert int(digits_alone.labels[where]) == label // 10 % 10
    with pytest.raises(DataError, match="stacked-mnist:128000"):
        open_data("stacked-mnist:many", folder=mnist_folder)
    with pytest.raises(DataError, match="Ask for 1 or more"):
        stacked_mnist(count=0, folder=mnist_folder)


# --- samples of files and models -----------------------------------------------------------------------------------


def bytes_data(n: int = 80, channels: int = 3) -> ArrayData:
    values = np.random.default_rng(0).integers(0, 256, (n, channels, 12, 16), dtype=np.uint8)
    return ArrayData(torch.from_numpy(values), Kind.BYTES, torch.arange(n) % 4, "faces")


def test_samples_take_the_form_of_the_data():
    data, levels = bytes_data(), bytes_data(10).values
    assert torch.equal(like_data(levels.float() / 255, data, "s"), levels)
    assert torch.equal(like_data(levels.movedim(1, 3), data, "s"), levels)
    grey = bytes_data(4, 1)
    assert torch.equal(like_data(grey.values[:, 0], grey, "s"), grey.values)
    for wrong, message in (
        (levels.float(), "divide levels by 255"),
        (levels.long() + 1, "levels go from 0 to 255"),
        (torch.full((2, 3, 12, 16), math.nan), "not finite"),
    ):
        with pytest.raises(DataError, match=message):
            like_data(wrong, data, "s")
    with pytest.raises(ShapeError, match="data of their shape"):
        like_data(levels[..., :5], data, "s")


def test_samples_are_drawn_with_the_seed_and_leave_the_global_state(tmp_path):
    class Noise:
        def sample(self, count):
            return torch.rand(count, 3, 12, 16)

    before = torch.random.get_rng_state()
    a, b = drawn_samples(Noise(), bytes_data(), 300, 1), drawn_samples(Noise(), bytes_data(), 300, 1)
    assert torch.equal(a, b)
    assert a.shape == (300, 3, 12, 16)
    assert torch.equal(torch.random.get_rng_state(), before)
    np.savez(tmp_path / "s.npz", examples=a.numpy())
    assert torch.equal(read_samples(tmp_path / "s.npz", bytes_data()), a)


def test_the_page_is_whole_and_names_no_address():
    data = bytes_data()
    found = judgement(data.values[:20], data, training=data)
    assert {row.key for row in found.rows} <= set(READING)
    assert "4 labels of the data" in found.modes
    page = judgement_page(found, data.values[:20], data.values, title="<faces> & more", command="rdae judge x")
    assert "&lt;faces&gt; &amp; more" in page
    assert page.count("data:image/png;base64,") == 2
    assert not re.search(r"https?://|<script|<link", page)
    assert all(row.name in page for row in found.rows)
    copies = next(row for row in found.rows if row.key == "copies")
    assert copies.value.value == 1
    for values in (torch.randn(40, 2), torch.randn(40, 3)):
        table = ArrayData(values, Kind.TABULAR, name="t")
        page = judgement_page(judgement(values[:20], table), values[:20], values, title="t")
        assert ("base64" in page) == (values.shape[1] == 2)


def command(*arguments: str, cwd) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "rdae.cli.main", *arguments], capture_output=True, text=True, timeout=600, cwd=cwd
    )


def test_the_command_from_data_to_a_page(tmp_path):
    np.savez(tmp_path / "faces.npz", images=bytes_data().values.movedim(1, 3).numpy(), kinds=np.arange(80) % 4)
    np.save(tmp_path / "images.npy", bytes_data().values.movedim(1, 3).numpy())
    np.save(tmp_path / "kinds.npy", np.arange(80) % 4)
    done = command(
        "train", "gaussian_vae", "--data", "images.npy", "--steps", "2", "--set", "latent=4", "--set", "widths=[4,4]",
        "-o", "run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = command("judge", "run", "--data", "images.npy", "--labels", "kinds.npy", "-o", "out/report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Fréchet distance" in done.stdout
    assert "4 labels" in done.stdout
    facts = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert facts["samples"] == 40
    assert {m["key"] for m in facts["measures"]} >= {"frechet", "kid", "coverage", "covered", "reverse_kl"}
    assert (tmp_path / "out" / "report.html").read_text("utf-8").startswith("<!doctype html>")
    done = command(
        "judge", "images.npy", "--data", "images.npy", "--training", "images.npy", "--samples", "20", "--json",
        "-o", "again.html", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert next(m for m in facts["measures"] if m["key"] == "copies")["value"] == 1
    assert (tmp_path / "again.html").is_file()
    assert (tmp_path / "again.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere", "--data", "a.npy"), "does not exist. Pass a .model file"),
        (("photo", "--data", "a.npy"), "rdae sample photo"),
        (("a.npy", "--data", "nowhere.npy"), "does not exist"),
        (("a.npy", "--data", "b.npy"), "data of their shape"),
        (("a.npy", "--data", "a.npy", "--kind", "grey"), "Choose kind"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused_with_a_cure(words, message, tmp_path, capsys, monkeypatch):
    from rdae.cli.main import main

    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(40, 2)))
    np.save(tmp_path / "b.npy", np.random.default_rng(0).normal(size=(40, 3)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rdae", "judge", *words])
    assert main() == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "judgement.html").exists()
