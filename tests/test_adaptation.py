"""Adapting a shipped codec: it begins exactly where its parent ended, and what it learns fits a small delta."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import numpy as np
from conftest import Tiny, build_tiny, photograph
from PIL import Image

import rdae.coding.model as model_module
from rdae.cli.training import published
from rdae.coding.archive import Archive, carried
from rdae.coding.codec import Codec
from rdae.coding.files import Job
from rdae.coding.model import load_model, shipped_models, unpack_model
from rdae.coding.packing import pack
from rdae.coding.pyramid_order import LOW_UNIT
from rdae.coding.registry import load
from rdae.errors import CheckpointError, DataError, ModelError, RdaeError
from rdae.recipes import CODEC_RECIPES
from rdae.recipes.order import Order
from rdae.recipes.photo import KEPT
from rdae.training.checkpoint import load_checkpoint
from rdae.training.codec_file import codec_file
from rdae.training.export_subbands import export_subbands
from rdae.training.loop import Settings, _Run
from rdae.training.start import find_start, weights_file

SMALL = {"steps": 2, "batch": 2, "size": 64}


@pytest.fixture(scope="module")
def parent(tiny: Tiny):
    """A model whose weights are all different: of those that are equal, an exporter writes one."""
    model = build_tiny()
    model.load_state_dict(tiny.torch.state_dict())
    generator = torch.Generator().manual_seed(21)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias") and not name.startswith(KEPT):
                value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return model.eval()


@pytest.fixture(scope="module")
def shipped(tiny: Tiny, parent, tmp_path_factory) -> Iterator[Path]:
    """A folder of shipped models: the tiny one, with its weights."""
    folder = tmp_path_factory.mktemp("shipped")
    codec = export_subbands(parent, tiny.recipe, {})
    (folder / "tiny.codec").write_bytes(codec)
    (folder / "tiny.weights").write_bytes(weights_file("tiny", parent.state_dict(), unpack_model(codec).identity))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_module, "SHIPPED", folder)
        patch.setitem(CODEC_RECIPES, "tiny", lambda: tiny.recipe)
        yield folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(3):
        Image.fromarray(photograph(80, 96, seed)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def run(shipped, pictures, tmp_path_factory) -> Path:
    """The folder of an adaptation of two steps."""
    folder = tmp_path_factory.mktemp("run")
    assert order(folder, pictures, "tiny").carry_out() == folder / "tiny.codec"
    return folder


def order(out: Path, data: Path, start: str, **changes) -> Order:
    settings = {"accelerator": "cpu", "devices": "1"}
    return Order(
        **{"recipe": "tiny", "data": str(data), "out": out, "start": start, "settings": settings, **SMALL, **changes}
    )


@pytest.mark.parametrize("name", shipped_models())
def test_the_shipped_weights_are_those_of_the_shipped_codec(name):
    start = find_start(name)
    assert start.recipe == name
    assert start.parent == load_model(name).identity.hex()
    model = CODEC_RECIPES[name]().trained(start.weights)
    learned = {name for name, _ in model.named_parameters()}
    assert all(any(name.startswith(kept) for name in learned) for kept in KEPT)
    # the integers of the codec file are those of these weights
    for part in ("index", "terms"):
        whole = (getattr(model.prior.low, part) * LOW_UNIT).round().to(torch.int16).numpy()
        np.testing.assert_array_equal(whole, load_model(name).array(f"low.{part}"))


def test_a_run_begins_exactly_where_its_parent_ended(shipped, tiny, parent, pictures, tmp_path):
    start = find_start("tiny")
    recipe = dataclasses.replace(tiny.recipe.adapting(start.parent), **SMALL)
    run = _Run(recipe, Settings(data=pictures, out=tmp_path / "run", accelerator="cpu", devices="1"), start.weights)
    held_out = recipe.held_out(pictures)
    due = recipe.validate(parent, held_out)
    assert recipe.validate(run.averaged(), held_out) == due
    assert recipe.validate(run.bare.eval(), held_out) == due
    run.keep(0)
    data = codec_file(recipe, run.newest, data=pictures, terms="", command="")
    own, shipped_codec = Codec(unpack_model(data, threads=1)), load("tiny", threads=1)
    for picture in pictures.iterdir():
        mine, theirs = own.compress(picture, 40), shipped_codec.compress(picture, 40)
        assert mine[26:] == theirs[26:]  # all but the model's name and the header's checksum
        assert mine[:14] == theirs[:14]


def test_an_adapted_codec_is_packed_with_a_delta_and_unpacked_without_the_codec(run, pictures, tmp_path):
    codec = tmp_path / "own.codec"
    codec.write_bytes((run / "tiny.codec").read_bytes())
    assert unpack_model(codec.read_bytes()).card["parent"] == load_model("tiny").identity.hex()
    model = carried(codec)
    assert 0 < len(model.delta) < codec.stat().st_size / 4
    jobs = [Job(path, Path(path.stem + ".rdae")) for path in sorted(pictures.iterdir())]
    own = load(codec, threads=1)
    list(pack(tmp_path / "own.zip", jobs, own, model))
    shown = {job.target.name: own.decompress(own.compress(job.source)).pixels for job in jobs}
    codec.unlink()
    with Archive(tmp_path / "own.zip", threads=1) as opened:
        for name in opened.names:
            np.testing.assert_array_equal(opened.picture(name).pixels, shown[name])


def test_what_is_kept_stays_and_the_rest_learns(run, parent):
    state = load_checkpoint(run / "checkpoints" / "step-00000002.pt")
    before = parent.state_dict()
    moved = {name for name, value in state["average"]["average"].items() if not torch.equal(value, before[name])}
    assert not [name for name in moved if name.startswith(KEPT)]
    assert {name.partition(".")[0] for name in moved} == {"prior", "decoder"}


def test_a_run_can_be_adapted_further(run, parent):
    for place in (run, run / "checkpoints", run / "checkpoints" / "step-00000002.pt"):
        start = find_start(str(place))
        assert (start.recipe, start.parent) == ("tiny", load_model("tiny").identity.hex())
        assert start.weights.keys() == parent.state_dict().keys()


def test_another_recipe_begins_with_weights_that_fit_and_is_no_adaptation(shipped, tiny, parent, pictures, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CODEC_RECIPES, "other", lambda: dataclasses.replace(tiny.recipe, name="other", **SMALL))
        made = order(tmp_path / "run", pictures, "tiny", recipe="other").carry_out()
    assert made == tmp_path / "run" / "other.codec"
    assert unpack_model(made.read_bytes()).card.get("parent") is None
    weights, before = find_start(str(tmp_path / "run")).weights, parent.state_dict()
    moved = {name: float((value - before[name]).abs().max()) for name, value in weights.items()}
    assert 0 < max(moved.values()) < 0.01  # two steps of Adam; fresh weights would be further away
    assert any(size for name, size in moved.items() if name.startswith(KEPT))  # an adaptation leaves them alone


def test_a_run_goes_on_only_from_the_same_parent(run, pictures):
    with pytest.raises(CheckpointError, match=r"parent .* and not .*Choose another --out"):
        order(run, pictures, None, steps=3).carry_out()


def test_what_cannot_be_started_from_says_why(shipped, pictures, tmp_path, monkeypatch):
    folder = tmp_path / "shipped"
    shutil.copytree(shipped, folder)
    monkeypatch.setattr(model_module, "SHIPPED", folder)
    cases: list[tuple[str, type[RdaeError], str]] = [
        (str(folder / "tiny.codec"), ModelError, "not the weights that training needs"),
        ("nothing", ModelError, "no weights 'nothing'"),
        (str(pictures), CheckpointError, "holds no checkpoint"),
        (str(pictures / "0.png"), CheckpointError, "cannot be read as a checkpoint"),
    ]
    for name, error, match in cases:
        with pytest.raises(error, match=match):
            find_start(name)
    with pytest.raises(DataError, match=r"weights of tiny, whose networks are not those of photo"):
        order(tmp_path / "run", pictures, "tiny", recipe="photo").carry_out()
    with pytest.raises(DataError, match=r"Choose 192 or more"):
        order(tmp_path / "run", pictures, None, recipe="photo-ssim", size=128).carry_out()
    with pytest.raises(DataError, match=r"--from is for codecs"):
        order(tmp_path / "run", pictures, "tiny", recipe="gaussian_vae").carry_out()
    whole = (folder / "tiny.weights").read_bytes()
    for damaged in (b"", whole[:100], whole.replace(b'\\"version\\": 1', b'\\"version\\": 2'), whole[:-1]):
        (folder / "tiny.weights").write_bytes(damaged)
        with pytest.raises(ModelError, match="Install the package again"):
            find_start("tiny")
    (folder / "tiny.weights").unlink()
    with pytest.raises(ModelError, match="shipped without the weights"):
        find_start("tiny")


def test_a_card_does_not_tell_where_a_run_lay():
    command = ["train", "--from", "/home/me/secret/run", "--data", "/home/me/scans"]
    assert published(command) == "rdae train --from run --data scans"


def test_the_command_needs_a_recipe_or_weights(monkeypatch, capsys, tmp_path):
    from rdae.cli.main import main

    monkeypatch.setattr("sys.argv", ["rdae", "train", "--data", str(tmp_path)])
    assert main() == 2
    assert "--from" in capsys.readouterr().err
