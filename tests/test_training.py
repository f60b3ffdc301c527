"""The loop: exact resume, several processes, broken data, checkpoints, averaging, schedule."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import RateDistortionRounding
from rdae.coding.codec import Codec
from rdae.coding.model import unpack_model
from rdae.data.photographs import Crops, find_images, whole_images
from rdae.errors import CheckpointError, DataError
from rdae.networks.pyramid import PyramidDecoder, PyramidEncoder
from rdae.networks.refine import SubbandRefiner
from rdae.priors.pyramid import PyramidPrior
from rdae.recipes.photo import photo
from rdae.training.averaging import WeightAverage
from rdae.training.checkpoint import load_checkpoint, load_newest, save_checkpoint
from rdae.training.codec_file import codec_file
from rdae.training.codec_recipe import CodecRecipe, draw_lam, step_loss
from rdae.training.loop import Settings, train


def tiny_model() -> RateDistortionAutoencoder:
    return RateDistortionAutoencoder(
        PyramidEncoder(5),
        PyramidPrior(5, channels=(8, 8, 8)),
        PyramidDecoder(SubbandRefiner(8, 8, 1)),
        RateDistortionRounding(6.0),
    )


def tiny_recipe(steps: int = 6) -> CodecRecipe:
    return replace(photo(steps=steps, batch=4, size=64), model=tiny_model, warmup=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    (root / "nested" / "deep").mkdir(parents=True)
    for name, size in (("a.png", (96, 80)), ("nested/b.jpg", (70, 130)), ("nested/deep/c.bmp", (40, 200))):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(root / name)
    (root / "broken.png").write_bytes(b"not an image")
    cut = (root / "a.png").read_bytes()
    (root / "cut.png").write_bytes(cut[: len(cut) // 2])
    (root / "notes.txt").write_text("no image")
    return root


def settings(folder: Path, out: Path, **changes) -> Settings:
    return replace(Settings(data=folder, out=out, accelerator="cpu", devices="1"), **changes)


def weights(checkpoint: Path) -> dict:
    return load_checkpoint(checkpoint)["model"]


def test_broken_files_are_reported_and_skipped(folder, caplog):
    with caplog.at_level("WARNING"):
        names = {path.name for path, _ in find_images(folder)}
    assert names == {"a.png", "b.jpg", "c.bmp", "cut.png"}  # a header alone does not show that a file is cut
    assert "broken.png" in caplog.text
    crops = Crops(find_images(folder), size=64, batch=8, steps=4, seed=0)
    with caplog.at_level("WARNING"):
        batches = [crops[step] for step in range(4)]
    assert all(batch.shape == (8, 3, 64, 64) for batch in batches)
    assert "cut.png" in caplog.text


def test_an_empty_or_missing_folder_is_a_clear_error(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no image"):
        find_images(tmp_path)


def test_shares_of_processes_make_up_the_batch_of_one(folder):
    files = find_images(folder)
    whole = Crops(files, size=64, batch=4, steps=2, seed=3)[1]
    halves = [Crops(files, size=64, batch=4, steps=2, seed=3, rank=r, world=2)[1] for r in range(2)]
    assert torch.equal(whole, torch.cat(halves))
    with pytest.raises(DataError, match="multiple of 3"):
        Crops(files, size=64, batch=4, steps=2, seed=3, world=3)


def test_validation_images_are_cut_at_the_centre(folder):
    images = whole_images(folder, multiple=64)
    assert {tuple(x.shape[-2:]) for x in images} == {(64, 64), (128, 64)}


def test_resume_gives_bit_equal_weights(folder, tmp_path):
    recipe = tiny_recipe()
    straight = train(recipe, settings(folder, tmp_path / "straight"))
    # a run killed after step 3: its checkpoint is what a run of the same recipe leaves when it stops there
    killed = settings(folder, tmp_path / "killed", checkpoint_minutes=0.0)
    script = (
        "import sys, os\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "import rdae.training.loop as loop\n"
        "from test_training import tiny_recipe, settings\n"
        "inner = loop.save_checkpoint\n"
        "def save(folder, state):\n"
        "    path = inner(folder, state)\n"
        "    if state['step'] == 3: os._exit(9)\n"
        "    return path\n"
        "loop.save_checkpoint = save\n"
        f"data, out = Path({str(folder)!r}), Path({str(killed.out)!r})\n"
        "loop.train(tiny_recipe(), settings(data, out, checkpoint_minutes=0.0))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 9, done.stderr
    state = load_newest(killed.out / "checkpoints")
    assert state is not None
    assert state["step"] == 3
    resumed = train(recipe, killed)
    assert straight is not None
    assert resumed is not None
    a, b = weights(straight), weights(resumed)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_folder_of_another_run_is_refused(folder, tmp_path):
    train(tiny_recipe(1), settings(folder, tmp_path))
    with pytest.raises(CheckpointError, match="Choose another --out"):
        train(tiny_recipe(1), settings(folder, tmp_path, seed=5))


def test_two_processes_get_the_loss_of_one(folder, tmp_path):
    script = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from rdae.training.loop import train\n"
        "from test_training import tiny_recipe, settings\n"
        "if __name__ == '__main__':\n"
        f"    train(tiny_recipe(3), settings(Path({str(folder)!r}), Path(sys.argv[1]), devices=sys.argv[2]))\n"
    )
    path = tmp_path / "run.py"
    path.write_text(script)
    for devices in ("1", "2"):
        done = subprocess.run(
            [sys.executable, str(path), str(tmp_path / devices), devices], capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (weights(tmp_path / d / "checkpoints" / "step-00000003.pt") for d in ("1", "2"))
    # the same sums in another order: after three steps of Adam a float32 rounding has grown to 1e-4 at most
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-3


def test_checkpoints_are_whole_and_the_two_newest_stay(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, {"step": step, "model": {"w": torch.ones(2) * step}})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002.pt", "step-00000003.pt"]
    (tmp_path / "step-00000003.pt").write_bytes(b"cut short")
    state = load_newest(tmp_path)
    assert state is not None
    assert state["step"] == 2
    with pytest.raises(CheckpointError, match="earlier one"):
        load_checkpoint(tmp_path / "step-00000003.pt")


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"step": 1, "model": Evil()}, tmp_path / "step-00000001.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "step-00000001.pt")


def test_averages_follow_the_formula():
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    average = WeightAverage(layer, decay=0.5)
    expected = 0.0
    for count in range(1, 40):
        torch.nn.init.constant_(layer.weight, float(count))
        average.update(layer)
        rate = 1 - min(0.5, (count + 1) / (count + 10))
        expected += rate * (count - expected)
    assert float(average.average["weight"]) == pytest.approx(expected, rel=1e-5)


def test_the_schedule_warms_up_holds_and_decays():
    recipe = photo(steps=1000)
    rates = [recipe.rate_at(step) for step in range(1000)]
    assert rates[0] == pytest.approx(recipe.learning_rate / recipe.warmup)
    assert rates[recipe.warmup] == rates[299] == recipe.learning_rate
    assert all(after <= before for before, after in pairwise(rates[300:]))
    assert rates[-1] < 0.011 * recipe.learning_rate


def test_lam_is_log_uniform_and_a_function_of_the_step():
    recipe = replace(photo(), batch=20000)
    lam = draw_lam(recipe, 0, 7, slice(None))
    assert torch.equal(lam, draw_lam(recipe, 0, 7, slice(None)))
    low, high = (math.log(value) for value in recipe.lam)
    z = (lam.log() - low) / (high - low)
    assert z.min() >= 0
    assert z.max() <= 1
    # mean of 20,000 uniforms: standard error 0.002
    assert abs(float(z.mean()) - 0.5) < 0.008


def test_training_starts_at_a_usable_codec_and_gets_better(folder, tmp_path):
    recipe = tiny_recipe(30)
    torch.manual_seed(0)
    y = whole_images(folder, multiple=64)[0].float() / 255
    lam = torch.tensor([6 * (255 / 20.0) ** 2])
    torch.manual_seed(0)
    fresh = recipe.model().eval()
    with torch.no_grad():
        mse = float((fresh(y, lam).y_hat - y).square().mean())
    assert mse < (20 / 255) ** 2 / 6  # a step of 20 levels: about step**2 / 12 from the linear path alone
    checkpoint = train(recipe, settings(folder, tmp_path))
    assert checkpoint is not None
    trained = recipe.model().eval()
    trained.load_state_dict(weights(checkpoint))
    with torch.no_grad():
        assert float(step_loss(trained, y, lam)[0]) < float(step_loss(fresh, y, lam)[0])


def test_a_run_ends_with_a_codec_file_that_works(folder, tmp_path):
    recipe = tiny_recipe(2)
    checkpoint = train(recipe, settings(folder, tmp_path, valid=folder))
    assert checkpoint is not None
    data = codec_file(recipe, checkpoint, data=folder, terms="made by a test", command="rdae train photo")
    model = unpack_model(data)
    assert model.card["training"]["images"] == 4
    assert model.card["training"]["terms"] == "made by a test"
    assert str(folder) not in str(model.card)
    codec = Codec(model)
    image = np.asarray(Image.open(folder / "a.png"))
    shown = codec.decompress(codec.compress(image, 80)).pixels
    assert np.abs(shown.astype(int) - image).mean() < 8


def test_the_command_line_knows_every_recipe():
    from rdae.cli.training import RecipeName
    from rdae.recipes import CODEC_RECIPES, GENERATIVE_RECIPES

    assert [name.value for name in RecipeName] == [*CODEC_RECIPES, *GENERATIVE_RECIPES]
    assert all(CODEC_RECIPES[name]().name == name for name in CODEC_RECIPES)


def test_the_command_trains_and_its_codec_compresses(folder, tmp_path):
    command = [sys.executable, "-m", "rdae.cli.main"]
    options = ["--data", folder, "--steps", 1, "--batch", 2, "--size", 64, "--accelerator", "cpu", "-o", tmp_path]
    done = subprocess.run([*command, "train", "factorised", *map(str, options)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    target = tmp_path / "factorised.codec"
    source, compressed = folder / "a.png", tmp_path / "a.rdae"
    done = subprocess.run(
        [*command, "compress", str(source), "-o", str(compressed), "--model", str(target), "--verify"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "verified" in done.stdout


def test_mixed_precision_leaves_the_entropy_model_whole(folder, tmp_path):
    torch.manual_seed(1)
    model = tiny_model().eval()
    y = whole_images(folder, multiple=64)[0].float() / 255
    lam = torch.tensor([6 * (255 / 20.0) ** 2])
    z = model.encoder(y, lam)
    with torch.no_grad():
        plain = model.prior(z, model.channel, lam)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model.prior(z, model.channel, lam)
    assert torch.equal(plain.rate, mixed.rate)
    assert all(torch.equal(a, b) for a, b in zip(plain.latent, mixed.latent, strict=True))
    checkpoint = train(tiny_recipe(1), settings(folder, tmp_path, precision="bf16-mixed"))
    assert checkpoint is not None
    assert all(torch.isfinite(w).all() for w in weights(checkpoint).values())
