"""Compressed pictures as a data set: the same tensors from an archive, from a folder, and in worker processes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import photograph
from PIL import Image
from torch.utils.data import DataLoader

from rdae.coding.archive import carried
from rdae.coding.files import Job
from rdae.coding.model import shipped_models
from rdae.coding.packing import pack
from rdae.coding.registry import load
from rdae.data.compressed import CompressedImages
from rdae.errors import DataError, FormatError, LimitError

pytestmark = pytest.mark.skipif("photo" not in shipped_models(), reason="the package ships no model yet")


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> tuple[Path, Path]:
    """An archive and a folder of the same compressed pictures: colour, grey, 16 bits, turned, with alpha."""
    root = tmp_path_factory.mktemp("compressed")
    colour = photograph(32, 48, 0)
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(colour).save(root / "a.png")
    Image.fromarray(colour[..., 0]).save(root / "b.png")
    Image.fromarray(colour[..., 1].astype(np.uint16) * 257).save(root / "c.png")
    Image.fromarray(colour).save(root / "d.png", exif=turned)
    Image.fromarray(np.concatenate([colour, colour[..., :1]], 2)).save(root / "e.png")
    codec = load("photo", threads=1)
    jobs = [Job(path, Path("in", path.stem + ".rdae")) for path in sorted(root.glob("*.png"))]
    list(pack(root / "all.zip", jobs, codec, carried("photo"), quality=60))
    (root / "folder" / "in").mkdir(parents=True)
    for job in jobs:
        (root / "folder" / job.target).write_bytes(codec.compress(job.source, 60))
    return root / "all.zip", root / "folder"


def test_archive_and_folder_give_the_same_tensors(places):
    archive, folder = map(CompressedImages, places)
    assert archive.names == folder.names == [f"in/{letter}.rdae" for letter in "abcde"]
    assert len(archive) == 5
    for one, other in zip(archive, folder, strict=True):
        assert one.dtype == torch.uint8
        assert one.is_contiguous()
        assert torch.equal(one, other)
    assert [tuple(archive[k].shape) for k in range(5)] == [(3, 32, 48)] * 3 + [(3, 48, 32), (3, 32, 48)]
    assert torch.equal(archive[1][0], archive[1][2])  # grey
    assert torch.equal(archive[0].rot90(-1, (1, 2)), archive[3])  # EXIF 6: a quarter turn clockwise


def test_tensors_are_what_the_codec_shows(places):
    codec = load("photo", threads=1)
    shown = codec.decompress(places[1] / "in" / "a.rdae").pixels
    np.testing.assert_array_equal(CompressedImages(places[0])[0].permute(1, 2, 0).numpy(), shown)


@pytest.mark.parametrize("which", [0, 1])
def test_workers_give_what_the_process_itself_gives(places, which):
    data = CompressedImages(places[which])
    here = [data[k] for k in range(len(data))]  # the archive is open by now, and must be opened anew by each worker
    there = list(DataLoader(data, batch_size=None, num_workers=2))
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    again = pickle.loads(pickle.dumps(data))  # as workers that are started, not forked, receive it
    assert torch.equal(again[4], here[4])


def test_what_holds_no_compressed_picture_is_named(places, tmp_path):
    with pytest.raises(DataError, match="no compressed picture"):
        CompressedImages(tmp_path)
    (tmp_path / "a.zip").write_bytes(b"something else")
    for path in (tmp_path / "a.zip", tmp_path / "missing.zip"):
        with pytest.raises(DataError, match="neither an archive nor a folder"):
            CompressedImages(path)
    (tmp_path / "cut.zip").write_bytes(places[0].read_bytes()[:-30])
    with pytest.raises(FormatError, match="cut short"):
        CompressedImages(tmp_path / "cut.zip")


def test_the_limit_on_pixels_holds(places):
    for place in places:
        data = CompressedImages(place, max_pixels=1000)
        with pytest.raises(LimitError, match="limit of 1000"):
            data[0]
    with pytest.raises(IndexError):
        CompressedImages(places[0])[5]
