"""Effort: what is spent lowers rate + lam * distortion of real files, and every decoder reads them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiny, photograph
from PIL import Image
from safetensors.numpy import load as load_arrays

from rdae.coding.codec import Codec
from rdae.coding.container import parse
from rdae.coding.fidelity import ms_ssim
from rdae.coding.model import pack_model, shipped_models, unpack_model
from rdae.coding.registry import load
from rdae.errors import ModelError, TargetError

torch = pytest.importorskip("torch")

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.cli.running import StepBars, display
from rdae.distortions import absolute_error
from rdae.recipes import effort
from rdae.recipes.effort import codec_with_effort
from rdae.recipes.factorised import factorised
from rdae.recipes.photo import photo
from rdae.training.export_convolutional import export_convolutional
from rdae.training.refining import EFFORT_MAX, LEAN, Refiner, steps_of
from rdae.training.start import Start

EXAMPLES = Path(__file__).parent.parent / "examples"


def codec_of(tiny: Tiny, effort: int = 0, seconds: float | None = None) -> Codec:
    assert isinstance(tiny.torch, RateDistortionAutoencoder)
    model = unpack_model(tiny.data, threads=1)
    return Codec(model, Refiner(tiny.torch, effort, seconds) if effort else None)


def objective(codec: Codec, data: bytes, image: np.ndarray, level: int) -> float:
    """Nats of the file + lam * squared error of what it shows, as effort weighs them."""
    error = (codec.decompress(data).pixels.astype(float) - image) / 255
    return 8 * np.log(2) * len(data) + LEAN * float(codec.model.lam[level]) * float((error**2).sum())


def test_effort_lowers_the_objective_of_real_files(tiny: Tiny) -> None:
    image, level = photograph(128, 128, 5), 110
    plain = codec_of(tiny)
    none, little, much = (
        objective(plain, codec.compress(image, level / 2), image, level)
        for codec in (plain, codec_of(tiny, 2), codec_of(tiny, 7))
    )
    assert much < little < none


@pytest.mark.skipif("photo" not in shipped_models(), reason="the package ships no model yet")
def test_the_shipped_codec_gains() -> None:
    image = np.asarray(Image.open(EXAMPLES / "kodim15.png"))[300:400, 100:230]
    plain, keen = load("photo", threads=1), codec_with_effort("photo", 4, threads=1)
    ratios = []
    for quality in (15, 30, 45):
        level = plain.level(quality)
        none, some = (objective(plain, codec.compress(image, quality), image, level) for codec in (plain, keen))
        ratios.append(some / none)
    assert max(ratios) < 1.001  # a file of 350 bytes may be as good without effort
    assert np.mean(ratios) < 0.993


def test_effort_gives_the_same_file_again_and_another_than_none(tiny: Tiny) -> None:
    image = photograph(70, 90, 6)
    data = codec_of(tiny, 3).compress(image, 40)
    assert data == codec_of(tiny, 3).compress(image, 40)
    assert data != codec_of(tiny).compress(image, 40)


def test_effort_is_refused_for_a_distortion_that_it_does_not_know() -> None:
    model = photo().model()
    model.distortion = absolute_error
    with pytest.raises(ModelError, match="Use effort 0, or photo"):
        Refiner(model, 3)


@pytest.mark.skipif("photo-ssim" not in shipped_models(), reason="the package ships no such model yet")
def test_effort_of_the_codec_for_structural_similarity_raises_it() -> None:
    """Of real files; at a quality hardly more bytes."""
    image = np.ascontiguousarray(np.asarray(Image.open(EXAMPLES / "kodim15.png"))[150:406, 200:456])
    plain, keen = load("photo-ssim", threads=1), codec_with_effort("photo-ssim", 4, threads=1)
    sizes, lacking = [], []  # with effort, in parts of without
    for quality in (15, 30, 45):
        files = [codec.compress(image, quality) for codec in (plain, keen)]
        sizes.append(len(files[1]) / len(files[0]))
        none, some = (1 - ms_ssim(image, plain.decompress(data).pixels) for data in files)
        lacking.append(some / none)
    assert max(lacking) < 1
    assert np.mean(lacking) < 0.97
    assert np.mean(sizes) < 1.02


@pytest.mark.skipif("photo-ssim" not in shipped_models(), reason="the package ships no such model yet")
def test_a_tile_too_small_for_structural_similarity_stays_as_it_is() -> None:
    image = photograph(160, 170, 6)
    plain, keen = load("photo-ssim", threads=1), codec_with_effort("photo-ssim", 2, threads=1)
    once, again = (codec._decode_symbols(parse(codec.compress(image, 40)), "").symbols for codec in (plain, keen))
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_time_is_one_pass(tiny: Tiny) -> None:
    image = photograph(70, 90, 6)
    assert codec_of(tiny, 9, seconds=0.0).compress(image, 40) == codec_of(tiny).compress(image, 40)


@pytest.mark.parametrize(("seconds", "steps"), [(None, [0, 1, 2, 3]), (0.0, [0, 3])])
def test_every_step_is_told_and_the_end_however_it_came(tiny: Tiny, seconds: float | None, steps: list[int]) -> None:
    assert isinstance(tiny.torch, RateDistortionAutoencoder)
    told: list[tuple[int, int]] = []
    refiner = Refiner(tiny.torch, 2, seconds, progress=lambda *count: told.append(count))
    Codec(unpack_model(tiny.data, threads=1), refiner).compress(photograph(400, 330, 6), 40)  # too large to look up
    assert told == [(done, 3) for done in steps]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
@pytest.mark.skipif("photo" not in shipped_models(), reason="the package ships no model yet")
def test_a_terminal_shows_the_steps_of_a_single_picture(tmp_path: Path) -> None:
    Image.fromarray(photograph(64, 64, 9)).save(tmp_path / "one.png")
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "rdae.cli.main", "compress", "one.png", "--effort", "1"], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=theirs, env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    ) as process:  # fmt: skip
        os.close(theirs)
        screen = read_terminal(ours)
        assert process.stdout is not None
        report = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0
    assert b"step 1 of 2" in screen
    assert b"step 2 of 2" in screen
    assert b"step" not in report


def read_terminal(at: int) -> bytes:
    """All that is shown until the other side is closed."""
    screen = b""
    try:
        while part := os.read(at, 65536):
            screen += part
    except OSError:
        pass
    return screen


@pytest.mark.parametrize(("files", "terminal"), [(0, True), (1, False), (2, False)])
def test_steps_are_silent_when_quiet_and_without_a_terminal(files: int, terminal: bool, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    bars = StepBars()
    with display(files, bars) as show:
        for done in range(3):
            bars(done, 2)
        show("done", step=1)
    assert capsys.readouterr() == ("done\n", "")


def test_steps_of_a_tile_that_failed_leave_no_second_bar(monkeypatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bars = StepBars()
    with display(1, bars):
        assert bars.progress is not None
        bars(0, 9)
        bars(0, 9)
        assert sum(task.visible for task in bars.progress.tasks) == 1
        bars(9, 9)
        assert not any(task.visible for task in bars.progress.tasks)


@pytest.mark.parametrize("shape", [(1, 1), (65, 3), (50, 70, 3)])
def test_any_picture_can_have_effort(tiny: Tiny, shape: tuple[int, ...]) -> None:
    image = photograph(*shape[:2], 7)
    image = image if len(shape) == 3 else image[..., 0]
    data = codec_of(tiny, 2).compress(image, 30)
    assert codec_of(tiny).decompress(data).pixels.squeeze().shape == image.squeeze().shape


def test_16_bits_and_tiles(tiny: Tiny) -> None:
    arrays = load_arrays(tiny.data)
    card = json.loads(arrays.pop("card").tobytes())
    assert isinstance(tiny.torch, RateDistortionAutoencoder)
    data = pack_model({**card, "tile": 64, "halo": [64, 64]}, arrays)
    codec = Codec(unpack_model(data, threads=1), Refiner(tiny.torch, 2))
    image = photograph(100, 130, 8).astype(np.uint16) * 257
    shown = codec.decompress(codec.compress(image, 60)).pixels
    assert shown.dtype == np.uint16
    assert np.abs(shown.astype(int) - image).mean() < 257 * 20


def test_steps_rise_with_effort() -> None:
    assert [steps_of(effort) for effort in range(1, EFFORT_MAX + 1)] == [2, 3, 4, 6, 9, 13, 19, 28, 40]


@pytest.mark.parametrize("effort", [-1, 0, 10])
def test_an_effort_out_of_range_is_refused(effort: int) -> None:
    with pytest.raises(TargetError, match="0 to 9"):
        codec_with_effort("photo", effort)


def test_other_models_are_refused(tiny: Tiny) -> None:
    recipe = factorised()
    model = recipe.model()
    with pytest.raises(ModelError, match="Use effort 0"):
        Refiner(model, 3)
    with pytest.raises(ModelError, match="Use effort 0"):
        assert isinstance(tiny.torch, RateDistortionAutoencoder)
        Codec(unpack_model(export_convolutional(model, recipe, {})), Refiner(tiny.torch, 3))


def test_a_codec_file_needs_the_weights_behind_it(tiny: Tiny, tmp_path) -> None:
    path = tmp_path / "own.codec"
    path.write_bytes(tiny.data)
    with pytest.raises(ModelError, match="folder of the run"):
        codec_with_effort(path, 3)


def test_weights_of_another_recipe_are_refused(tiny: Tiny, tmp_path, monkeypatch) -> None:
    """Their networks may have the same shapes, so that nothing else would notice."""
    path = tmp_path / "own.codec"
    path.write_bytes(tiny.data)
    monkeypatch.setattr(effort, "find_start", lambda name: Start("photo", photo().model().state_dict(), None))
    with pytest.raises(ModelError, match=r"a-run holds weights of photo, and .* is a codec of tiny"):
        codec_with_effort(path, 3, weights="a-run")
