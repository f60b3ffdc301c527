"""The loop: exact resume, several processes, broken data, checkpoints, averaging, schedule."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import Coded, Mixed, RateDistortionRounding, Rounding, StraightThrough, UniformNoise
from rdae.coding.codec import Codec
from rdae.coding.model import unpack_model
from rdae.coding.picture import from_array
from rdae.coding.picture_writing import write_picture
from rdae.data.photographs import Crops, find_images, read_rgb, whole_images
from rdae.distortions import ms_ssim_distortion
from rdae.errors import CheckpointError, DataError, ImageError, MissingExtraError, ModelError
from rdae.networks.pyramid import PyramidEncoder
from rdae.networks.subbands import SubbandCorrector, SubbandDecoder
from rdae.objectives import Terms
from rdae.priors.factorised import LOG_CUMULATIVES, SCALE_RATIO, ChannelDensity, unit_bin_log_mass
from rdae.priors.subbands import SubbandPrior
from rdae.recipes.factorised import factorised
from rdae.recipes.photo import photo
from rdae.training.averaging import WeightAverage
from rdae.training.checkpoint import load_checkpoint, load_newest, save_checkpoint
from rdae.training.codec_file import codec_file
from rdae.training.codec_recipe import CodecRecipe, draw_lam, step_loss, validate
from rdae.training.export_convolutional import export_convolutional
from rdae.training.export_subbands import export_subbands
from rdae.training.loop import Settings, train


def tiny_model() -> RateDistortionAutoencoder:
    return RateDistortionAutoencoder(
        PyramidEncoder(5),
        SubbandPrior(5, channels=(8, 8, 8)),
        SubbandDecoder(SubbandCorrector((8, 8), (1, 1))),
        RateDistortionRounding(6.0),
    )


def tiny_recipe(steps: int = 6) -> CodecRecipe:
    return replace(photo(steps=steps, batch=4, size=64), model=tiny_model, warmup=2)


class Recorded(CodecRecipe):
    """Appends the loss of every step to a file for each share of a batch."""

    @classmethod
    def tiny(cls, steps: int) -> Recorded:
        recipe = tiny_recipe(steps)
        return cls(**{field.name: getattr(recipe, field.name) for field in fields(recipe)})

    def loss(self, model, batch, step):
        loss, report = super().loss(model, batch, step)
        with open(f"{os.environ['LOSSES']}-{step.share.start}", "a") as file:
            file.write(f"{float(loss.detach())!r}\n")
        return loss, report


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


@pytest.mark.parametrize("part", ["average", "optimizer"])
def test_a_run_of_other_weights_is_refused(folder, tmp_path, part):
    """Weights that load may have been of a model that lacked some: its average or its optimiser shows it."""
    chosen = settings(folder, tmp_path)
    train(tiny_recipe(1), chosen)
    state = load_newest(chosen.out / "checkpoints")
    assert state is not None
    if part == "average":
        name, value = next((name, x) for name, x in state["average"]["average"].items() if x.ndim > 1)
        state["average"]["average"][name] = torch.cat([value, value])
    else:
        optimizer = (state.get("optimizers") or [state["optimizer"]])[0]
        optimizer["param_groups"][0]["params"].pop()
    save_checkpoint(chosen.out / "checkpoints", state | {"step": 2})
    with pytest.raises(CheckpointError, match="Choose another --out"):
        train(tiny_recipe(3), chosen)


def test_two_processes_get_the_loss_of_one(folder, tmp_path):
    script = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from rdae.training.loop import train\n"
        "from test_training import Recorded, settings\n"
        "if __name__ == '__main__':\n"
        f"    train(Recorded.tiny(3), settings(Path({str(folder)!r}), Path(sys.argv[1]), devices=sys.argv[2]))\n"
    )
    path = tmp_path / "run.py"
    path.write_text(script)
    for devices in ("1", "2"):
        done = subprocess.run(
            [sys.executable, str(path), str(tmp_path / devices), devices], capture_output=True, text=True, timeout=600,
            env={**os.environ, "LOSSES": str(tmp_path / f"losses-{devices}")},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (weights(tmp_path / d / "checkpoints" / "step-00000003.pt") for d in ("1", "2"))
    # the same sums in another order; measured 2e-7 after three steps of Adam, and of the losses 1.2e-7
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
    losses = []
    for devices, shares in (("1", (0,)), ("2", (0, 2))):
        texts = [(tmp_path / f"losses-{devices}-{share}").read_text() for share in shares]
        losses.append(np.mean([[json.loads(line) for line in text.splitlines()] for text in texts], 0))
    assert len(losses[0]) == 3
    assert np.abs(losses[0] - losses[1]).max() < 1e-5


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
        average.update()
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
    assert model.card["training"]["images"] == 3  # cut.png opens, but does not decode
    assert model.card["training"]["megapixels"] == round((96 * 80 + 70 * 130 + 40 * 200) / 1e6, 1)
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


def saved(path: Path, pixels: np.ndarray, **options) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def test_16_bit_images_are_rounded_to_8(tmp_path):
    rng = np.random.default_rng(3)
    grey = rng.integers(0, 65536, (20, 30), dtype=np.uint16)
    grey[0, :4] = 0, 128, 129, 65535  # half of 257, and the ends
    expected = np.floor(grey / 257 + 0.5).astype(np.uint8)
    assert np.array_equal(read_rgb(saved(tmp_path / "grey.png", grey)), np.repeat(expected[..., None], 3, 2))
    assert np.array_equal(read_rgb(saved(tmp_path / "grey.tif", grey)), np.repeat(expected[..., None], 3, 2))
    colour = rng.integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    with open(tmp_path / "colour.png", "wb") as file:
        write_picture(from_array(colour), tmp_path / "colour.png", file)
    assert np.array_equal(read_rgb(tmp_path / "colour.png"), np.floor(colour / 257 + 0.5).astype(np.uint8))
    assert [path.name for path, _ in find_images(tmp_path)] == ["colour.png", "grey.png", "grey.tif"]


def test_images_whose_range_is_not_declared_are_skipped_and_reported(tmp_path, caplog):
    saved(tmp_path / "fine.png", np.zeros((8, 8), dtype=np.uint8))
    saved(tmp_path / "real.tif", np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8))
    saved(tmp_path / "whole.tif", np.arange(64, dtype=np.int32).reshape(8, 8))
    with caplog.at_level("WARNING"):
        assert [path.name for path, _ in find_images(tmp_path)] == ["fine.png"]
    assert "real.tif: it holds floats" in caplog.text
    assert "whole.tif: it holds 32-bit integers" in caplog.text
    with pytest.raises(ImageError, match="Scale to 8 or 16 bits"):
        read_rgb(tmp_path / "real.tif")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_images_are_read_as_they_should_be_seen(tmp_path, suffix):
    """Orientation 6: the camera's first row is the right-hand column, so the picture is turned clockwise."""
    pixels = np.repeat(np.arange(0, 240, 40, dtype=np.uint8)[:, None, None], 8, 1).repeat(3, 2)
    exif = Image.Exif()
    exif[274] = 6
    path = saved(tmp_path / f"turned.{suffix}", pixels, exif=exif)
    assert read_rgb(path).shape == (8, 6, 3)
    assert (
        np.abs(read_rgb(path).astype(int) - np.rot90(pixels, -1)).max() < 20
    )  # half of what rows differ by: JPEG loses some


def test_palettes_transparency_and_cmyk_become_rgb(tmp_path):
    pixels = np.full((8, 8, 4), (200, 100, 50, 7), dtype=np.uint8)
    assert (read_rgb(saved(tmp_path / "alpha.png", pixels)) == (200, 100, 50)).all()
    Image.fromarray(pixels[..., :3]).quantize(4).save(tmp_path / "palette.png")
    assert (read_rgb(tmp_path / "palette.png") == (200, 100, 50)).all()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.tif")
    assert (read_rgb(tmp_path / "cmyk.tif") == (255, 0, 0)).all()


def numbered(path: Path, height: int, width: int, blue: int) -> tuple[Path, int]:
    """An image whose pixels say where they are and which image they are of."""
    row, column = np.mgrid[:height, :width]
    return saved(path, np.stack([row, column, np.full_like(row, blue)], 2).astype(np.uint8)), height * width


def test_crops_are_windows_of_the_images_flipped_half_of_the_time_and_drawn_by_pixels(tmp_path):
    shapes = [(40, 50), (80, 100), (60, 70)]
    files = [numbered(tmp_path / f"{k}.png", *shape, 10 * k) for k, shape in enumerate(shapes)]
    crops = Crops(files, size=32, batch=100, steps=20, seed=1)
    batches = torch.cat([crops[step] for step in range(20)]).permute(0, 2, 3, 1).numpy()
    count, flips = np.zeros(3), 0
    corners = set()
    for crop in batches:
        which = int(crop[0, 0, 2]) // 10
        flipped = crop[0, 0, 1] > crop[0, 1, 1]
        top, left = int(crop[0, 0, 0]), int(crop[0, -1 if flipped else 0, 1])
        window = read_rgb(files[which][0])[top : top + 32, left : left + 32]
        assert np.array_equal(crop, window[:, ::-1] if flipped else window)
        count[which] += 1
        flips += flipped
        if which == 0:
            corners.add((top, left))
    n = len(batches)
    assert {top for top, _ in corners} == set(range(40 - 32 + 1))  # both ends: 4.6 % of 300 corners lie on each
    assert {left for _, left in corners} == set(range(50 - 32 + 1))
    share = np.array([height * width for height, width in shapes], dtype=float)
    share /= share.sum()
    assert (np.abs(count / n - share) < 4 * np.sqrt(share * (1 - share) / n)).all()  # four standard errors
    assert abs(flips / n - 0.5) < 4 * 0.5 / math.sqrt(n)


def test_the_cache_of_decoded_images_has_the_size_asked_for(tmp_path, monkeypatch):
    files = [numbered(tmp_path / f"{k}.png", 40, 40, k) for k in range(3)]
    read = []
    monkeypatch.setattr("rdae.data.photographs.read_rgb", lambda path: read.append(path) or read_rgb(path))
    small, large = (Crops(files, size=32, batch=20, steps=1, seed=0, cache_bytes=b) for b in (1, 1 << 20))
    assert torch.equal(small[0], large[0])
    assert len(read) > 3 + 3
    read.clear()
    large[0]
    assert not read


class Known(torch.nn.Module):
    """Encoder, prior and decoder of no weight: a rate of so many nats, and an error of so much in every value."""

    channel = None

    def __init__(self, nats: float, error: float) -> None:
        super().__init__()
        self.nats, self.error, self.nothing = nats, error, torch.nn.Parameter(torch.zeros(()))

    def encoder(self, y, lam):
        return y

    def prior(self, z, channel, lam):
        return Coded(z, torch.full((len(z),), self.nats) * torch.log(lam))

    def decoder(self, z, lam):
        return z + self.error

    def forward(self, y, lam):
        from rdae.autoencoder import Output

        coded = self.prior(self.encoder(y, lam), self.channel, lam)
        y_hat = self.decoder(coded.latent, lam)
        return Output(y_hat, Terms(coded.rate, (y - y_hat).abs().flatten(1).sum(1)), coded.latent)


def test_validation_is_the_mean_of_bits_per_pixel_and_of_decibels_by_hand():
    """Errors of 3.4 levels show as 3; where they leave [0, 1], as less."""
    images = [torch.full((1, 3, 8, 8), 100, dtype=torch.uint8), torch.full((1, 3, 16, 8), 254, dtype=torch.uint8)]
    recipe = replace(tiny_recipe(), quality_lam=(20.0, 2000.0))
    points = validate(Known(50.0, 3.4 / 255), images, recipe, (0, 50, 100))
    decibels = (20 * math.log10(255 / 3) + 20 * math.log10(255 / 1)) / 2  # 254 + 3.4 is clipped to 255
    for point, quality, lam in zip(points, (0, 50, 100), (20.0, 200.0, 2000.0), strict=True):
        bits = 50 * math.log(lam) / math.log(2)
        assert point["quality"] == quality
        assert point["bpp"] == pytest.approx((bits / 64 + bits / 128) / 2, rel=1e-6)
        assert point["psnr_db"] == pytest.approx(decibels, abs=1e-4)


def test_an_image_that_comes_back_exactly_does_not_make_the_mean_infinite():
    images = [torch.full((1, 3, 8, 8), 255, dtype=torch.uint8), torch.full((1, 3, 8, 8), 100, dtype=torch.uint8)]
    point = validate(Known(1.0, 10 / 255), images, tiny_recipe(), (50,))[0]
    assert point["psnr_db"] == pytest.approx((100 + 20 * math.log10(255 / 10)) / 2, abs=1e-4)


def test_validation_images_that_are_too_small_are_reported(folder, caplog):
    with caplog.at_level("WARNING"):
        assert len(whole_images(folder, multiple=64)) == 2
    assert "c.bmp: 40 x 200 pixels, below 64 a side" in caplog.text


def test_the_psnr_of_a_step_is_that_of_squared_error_whatever_the_distortion():
    """`Known` is trained on absolute error."""
    y, lam = torch.full((2, 3, 8, 8), 0.5), torch.tensor([20.0, 2000.0])
    model = Known(1.0, 0.1)
    loss, report = step_loss(model, y, lam)
    assert float(report["psnr_db"]) == pytest.approx(20.0, abs=1e-4)
    bpp = torch.log(lam) / math.log(2) / 64
    expected = ((torch.log(lam) + lam * 0.1 * 192) / 64 / (bpp + 0.05).sqrt()).mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_ms_ssim_trains_a_small_model_on_what_networks_see():
    torch.manual_seed(0)
    model = factorised().model()
    model.distortion = ms_ssim_distortion
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((192, 192))
    y = torch.from_numpy(np.asarray(coarse).copy()).permute(2, 0, 1)[None].float() / 255
    lam = torch.tensor([20.0])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    loss, report = step_loss(model.train(), y, lam)
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert float(report["psnr_db"]) < 45
    with torch.no_grad():
        here, worse = model.eval()(y, lam), model(y, lam / 1.4)
    similarity = 1 - float(here.terms.distortion) / y.numel()
    # steps of 140 grey levels are seen: with constants for a peak of 255, everything in [0, 1] is alike (0.9999)
    assert 0.3 < similarity < 0.99
    assert worse.terms.distortion > here.terms.distortion


def test_the_codec_file_is_made_of_averaged_weights(folder, tmp_path):
    recipe = tiny_recipe(1)
    checkpoint = train(recipe, settings(folder, tmp_path))
    state = load_checkpoint(checkpoint)
    average = state["average"]["average"]
    for name, value in average.items():  # an average like no checkpoint's weights
        if name.startswith("decoder.corrector.write") and name.endswith("bias"):
            value.fill_(0.25)
    other = save_checkpoint(tmp_path / "other", state)
    expected = recipe.model()
    expected.load_state_dict(average)
    options = {"terms": "", "command": ""}
    graphs = []
    for path in (checkpoint, other):
        graphs.append(unpack_model(codec_file(recipe, path, data=folder, **options)).array("graph.coarse").tobytes())
    assert graphs[0] != graphs[1]
    shown = unpack_model(codec_file(recipe, other, data=folder, **options))
    direct = unpack_model(export_subbands(expected.eval(), recipe, {}))
    for graph in ("graph.coarse", "graph.synthesis"):
        assert shown.array(graph).tobytes() == direct.array(graph).tobytes()


def test_a_data_folder_that_is_gone_costs_its_line_on_the_card_and_no_more(folder, tmp_path, caplog):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    recipe = tiny_recipe(1)
    checkpoint = train(recipe, settings(copy, tmp_path / "run"))
    shutil.rmtree(copy)
    with caplog.at_level("WARNING"):
        model = unpack_model(codec_file(recipe, checkpoint, data=copy, terms="none", command="rdae train photo"))
    assert "says nothing of the images" in caplog.text
    assert model.card["summary"] == "for PSNR, 1 steps"
    assert "images" not in model.card["training"]
    assert model.card["training"]["terms"] == "none"


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("train photo --data /home/ann/secret/photos -o /home/ann/x/run", "rdae train photo --data photos -o run"),
        ("train photo --data=/home/ann/photos/ --out=../run", "rdae train photo --data=photos --out=run"),
        ("train photo -o/home/ann/run --valid /home/ann/v --seed 3", "rdae train photo -orun --valid v --seed 3"),
        (
            "train beta_vae --data mnist --set latent=10 -o .",
            "rdae train beta_vae --data mnist --set latent=10 -o FOLDER",
        ),
        ("train photo --data --out --out /a/b", "rdae train photo --data --out --out b"),
    ],
)
def test_the_published_command_does_not_say_where_folders_lie(typed, shown):
    from rdae.cli.training import published

    assert published(typed.split()) == shown


@pytest.mark.parametrize(
    ("option", "value", "cure"),
    [
        ("--accelerator", "tpu-9", "is not one of"),
        ("--precision", "foo", "is not one of"),
        ("--seed", "-1", "Invalid value for '--seed'"),
        ("--devices", "0", "neither a number of devices, 1 or more, nor auto"),
        ("--devices", "abc", "neither a number of devices"),
        ("--devices", "-1", "neither a number of devices"),
    ],
)
def test_arguments_that_cannot_be_are_refused_before_anything_is_read(tmp_path, option, value, cure):
    from typer.testing import CliRunner

    from rdae.cli.main import app

    done = CliRunner().invoke(app, ["train", "photo", "--data", str(tmp_path), option, value], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert cure in " ".join(done.output.replace("│", " ").split())
    assert "Traceback" not in done.output


def test_only_a_package_of_the_extra_is_said_to_be_missing():
    from rdae.cli.training import EXTRA, training_extra

    for name in EXTRA:
        with pytest.raises(MissingExtraError, match="pip install 'rdae\\[train\\]'"), training_extra():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    with pytest.raises(ModuleNotFoundError, match="No module named"), training_extra():
        raise ModuleNotFoundError("No module named 'rdae.gone'", name="rdae.gone")
    with pytest.raises(ImportError, match="cannot import name") as caught, training_extra():
        from rdae.training.recipe import nothing_of_this_name  # noqa: F401
    assert not isinstance(caught.value, MissingExtraError)


def test_the_extras_packages_are_those_of_the_project_file():
    import tomllib

    from rdae.cli.training import EXTRA

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    names = {text.split(">")[0].replace("-", "_") for text in project["optional-dependencies"]["train"]}
    assert names == EXTRA


@pytest.mark.parametrize("channel", [UniformNoise(), Mixed()])
def test_a_pyramid_prior_refuses_noise(channel):
    model = tiny_model()
    y, lam = torch.rand(1, 3, 64, 64), torch.tensor([300.0])
    u = model.encoder(y, lam)
    with pytest.raises(ModelError, match="Use RateDistortionRounding, Rounding or StraightThrough"):
        model.prior(u, channel, lam)
    for rounding in (RateDistortionRounding(6.0), Rounding(), StraightThrough()):
        assert torch.isfinite(model.prior(u, rounding, lam).rate).all()


def test_low_pyramids_are_refused():
    symbols = [torch.zeros(1, 3, 4, 4), *(torch.zeros(1, 9, 4 << k, 4 << k) for k in range(4))]
    assert tiny_model().decoder(symbols, torch.ones(1)).shape == (1, 3, 64, 64)
    with pytest.raises(ModelError, match="levels=4 or more"):
        tiny_model().decoder(symbols[:-1], torch.ones(1))


def test_a_recipe_whose_lam_leaves_the_range_of_its_models_gains_is_refused(folder, tmp_path):
    recipe = replace(factorised(steps=1, batch=4, size=64), lam=(1.0, 1000.0))
    with pytest.raises(ModelError, match="narrow the recipe's lam"):
        train(recipe, settings(folder, tmp_path))
    with pytest.raises(ModelError, match="narrow the recipe's lam"):
        export_convolutional(recipe.model(), replace(factorised(), quality_lam=(20.0, 1e6)), {})


@torch.no_grad()
def test_the_nearest_scale_index_costs_as_little_as_it_says():
    """Of a scale half an index away: KL of rounded laws, in nats a symbol, at its largest over all scales."""
    q = torch.arange(-3000, 3001, dtype=torch.float64)
    zero, half = torch.zeros(1, dtype=torch.float64), SCALE_RATIO**0.5
    scales = SCALE_RATIO ** torch.arange(-15, 20, dtype=torch.float64)

    def largest(log_mass) -> float:
        cost = 0.0
        for scale in scales:
            for factor in (half, 1 / half):
                right, wrong = log_mass(scale), log_mass(scale * factor)
                here = right > -700
                cost = max(cost, float((right.exp() * (right - wrong))[here].sum()))
        return cost

    expected = {"logistic": 0.0051, "gaussian": 0.0072, "laplace": 0.0035}
    assert expected.keys() == LOG_CUMULATIVES.keys()
    for family, nats in expected.items():
        assert abs(largest(lambda scale, family=family: unit_bin_log_mass(q, zero, scale, family)) - nats) < 1e-4
    density, channel = ChannelDensity(torch.ones(1)).double(), torch.tensor(0)
    mixture = largest(lambda scale: density.log_prob(q, channel, torch.log(scale) / math.log(SCALE_RATIO)))
    assert abs(mixture - 0.0024) < 1e-4


def test_lam_of_the_levels_is_geometric_between_the_ends():
    recipe = replace(tiny_recipe(), quality_lam=(10.0, 1000.0))
    lam = recipe.lam_of_levels()
    assert lam.dtype == torch.float64
    assert lam[[0, 100, 200]].tolist() == pytest.approx([10.0, 100.0, 1000.0], rel=1e-12)
    assert lam[50] == recipe.lam_at(0.25)
