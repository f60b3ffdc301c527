"""Data in memory: every format there and back, laws of the batches, binarisation, named sets, sprites, bad input."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import struct
import tracemalloc
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from rdae.data import named
from rdae.data.arrays import ArrayBatches, ArrayData, Binarisation, Kind, as_floats, binarise, steps_for_epochs
from rdae.data.named import NAMED, cache_folder, load_named
from rdae.data.sources import open_data, read_array
from rdae.data.sprites import sprites
from rdae.errors import DataError

IDX_CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx_bytes(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    """An idx file of an array; a `shape` other than its own is a lie."""
    shape = array.shape if shape is None else shape
    head = bytes([0, 0, IDX_CODES[array.dtype.str[1:]], len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def bytes_data(*shape: int) -> ArrayData:
    return ArrayData(torch.from_numpy(pictures(*shape)), Kind.BYTES)


def numbered(n: int) -> ArrayData:
    return ArrayData(torch.arange(n, dtype=torch.float32)[:, None], Kind.REAL)


# --- formats ----------------------------------------------------------------------------------------------------------


def as_npz(path: Path, array: np.ndarray) -> None:
    np.savez_compressed(path, data=array)


def as_fortran(path: Path, array: np.ndarray) -> None:
    np.save(path, np.asfortranarray(array))


def as_big_endian(path: Path, array: np.ndarray) -> None:
    np.save(path, array.astype(array.dtype.newbyteorder(">")))


FORMATS = {
    "a.npy": np.save,
    "fortran.npy": as_fortran,
    "big-endian.npy": as_big_endian,
    "a.npz": as_npz,
    "a-idx3-ubyte": lambda path, array: path.write_bytes(idx_bytes(array)),
    "a-idx3-ubyte.gz": lambda path, array: path.write_bytes(gzip.compress(idx_bytes(array))),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
def test_every_format_gives_back_what_was_written(name, dtype, tmp_path):
    array = (pictures(5, 4, 3) / (1 if dtype[0] in "ui" else 8)).astype(dtype)
    FORMATS[name](tmp_path / name, array)
    data = open_data(tmp_path / name, kind="real")
    assert data.values.dtype == torch.float32
    assert np.array_equal(data.values.numpy(), array[:, None])  # (n, H, W) is one channel
    assert data.name == str(tmp_path / name)


def test_pictures_are_laid_out_channel_first():
    last = pictures(6, 7, 8, 3)
    assert np.array_equal(open_data(last).values, last.transpose(0, 3, 1, 2))
    first = pictures(6, 3, 8, 5)
    assert np.array_equal(open_data(torch.from_numpy(first)).values, first)
    assert open_data(last.astype(np.float32), kind="real").event == (7, 8, 3)  # only of bytes is the layout known


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pictures(4, 5, 5), Kind.BYTES),
        (pictures(4, 3, 5, 5), Kind.BYTES),
        (pictures(4, 5) > 99, Kind.BINARY),
        (pictures(4, 5) / 3, Kind.TABULAR),
    ],
)
def test_a_kind_is_guessed_where_there_is_but_one(array, kind):
    assert open_data(array).kind is kind


@pytest.mark.parametrize(
    "array",
    [
        pictures(4, 5),  # levels, counts or categories
        pictures(4, 5, 5) % 2,  # a mask, or very dark pictures
        pictures(4, 5, 5) / 255,
        pictures(4, 5, 5).astype(np.int64),
    ],
)
def test_an_ambiguous_kind_must_be_said(array):
    with pytest.raises(DataError, match="Say which with kind"):
        open_data(array)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_levels_divided_by_255_are_recognised(dtype):
    levels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    scaled = levels.astype(dtype) / dtype(255)
    assert np.array_equal(open_data(scaled, kind="8-bit").values[:, 0], levels)
    assert np.array_equal(open_data(levels.astype(dtype), kind="8-bit").values[:, 0], levels)
    assert torch.equal(as_floats(torch.from_numpy(levels), Kind.BYTES), torch.from_numpy(levels).float() / 255)


class Items(Dataset):
    """A dataset as torchvision has them: pairs of a picture and a number."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def test_datasets_of_pictures_arrays_and_tensors_are_one():
    array, labels = pictures(5, 6, 7), [3, 1, 4, 1, 5]
    tensor = torch.from_numpy(array)
    for source in (
        Items([Image.fromarray(image) for image in array], labels),
        Items(list(tensor), [torch.tensor(label) for label in labels]),
        TensorDataset(tensor, torch.tensor(labels)),
    ):
        data = open_data(source)
        assert np.array_equal(data.values[:, 0], array)
        assert data.labels is not None
        assert data.labels.tolist() == labels
    with pytest.raises(DataError, match=r"source\[1\].*one shape and type"):
        open_data(Items([array[0], array[1][:3]], labels))


def test_labels_come_from_keys_files_and_neighbours(tmp_path):
    array, labels = pictures(5, 6, 7), np.array([3, 1, 4, 1, 5], np.uint8)
    np.savez(tmp_path / "both.npz", images=array, digits=labels)
    np.save(tmp_path / "labels.npy", labels)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(array)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    for data in (
        open_data(tmp_path / "both.npz", key="images", labels="digits"),
        open_data(tmp_path / "both.npz", key="images", labels=tmp_path / "labels.npy"),
        open_data(tmp_path / "t10k-images-idx3-ubyte.gz"),
        open_data(tmp_path, split="test"),
        open_data(array, labels=labels),
    ):
        assert np.array_equal(data.values[:, 0], array)
        assert data.labels is not None
        assert data.labels.tolist() == labels.tolist()
    with pytest.raises(DataError, match=r"images, digits.*key="):
        open_data(tmp_path / "both.npz")
    with pytest.raises(DataError, match="one label for each example"):
        open_data(array, labels=labels[:4])


def save_images(folder: Path, images: dict[str, np.ndarray]) -> Path:
    for name, pixels in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    return folder


def test_a_folder_of_one_size_is_read_as_it_is(tmp_path):
    images = {"a.png": pictures(48, 64, 3), "deep/er/b.png": pictures(48, 64, 3, seed=1)}
    data = open_data(save_images(tmp_path, images))
    assert data.kind is Kind.BYTES
    assert np.array_equal(data.values, np.stack(list(images.values())).transpose(0, 3, 1, 2))


def test_a_folder_has_one_channel_only_if_all_is_grey(tmp_path):
    grey = np.broadcast_to(pictures(8, 8, 1), (8, 8, 3))  # grey, though stored as colour
    deep = pictures(8, 8).astype(np.uint16) * 257
    folder = save_images(tmp_path, {"a.png": pictures(8, 8), "b.png": np.ascontiguousarray(grey), "c.png": deep})
    data = open_data(folder)
    assert data.event == (1, 8, 8)
    assert np.array_equal(data.values[2, 0], deep // 257)
    save_images(folder, {"d.png": pictures(8, 8, 3)})
    assert open_data(folder).event == (3, 8, 8)


def test_mixed_sizes_are_cut_at_the_centre_and_resized(tmp_path):
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 200
    tall = np.zeros((120, 20, 3), np.uint8)
    tall[50:70] = 200
    folder = save_images(tmp_path, {"wide.png": wide, "tall.png": tall})
    with pytest.raises(DataError, match="size=64"):
        open_data(folder)
    inner = open_data(folder, size=16).values[..., 4:-4, 4:-4]  # the filter's three lobes end before
    assert inner.unique().tolist() == [200]
    assert open_data(folder, size=(12, 16)).event == (1, 12, 16)


def test_broken_images_are_reported_and_skipped(tmp_path, caplog):
    save_images(tmp_path, {"a.png": pictures(40, 40, 3), "cut.png": pictures(40, 40, 3)})
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:2000])
    (tmp_path / "broken.png").write_bytes(b"not an image")
    Image.fromarray(pictures(40, 40).astype(np.float32)).save(tmp_path / "float.tiff")
    with caplog.at_level("WARNING"):
        assert len(open_data(tmp_path)) == 1
    assert all(name in caplog.text for name in ("cut.png", "broken.png", "float.tiff"))
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="files named above"):
        open_data(tmp_path)


def test_a_folder_has_the_splits_that_it_holds(tmp_path):
    save_images(tmp_path, {"train/a.png": pictures(8, 8), "test/b.png": pictures(8, 8, seed=1)})
    assert len(open_data(tmp_path)) == len(open_data(tmp_path, split="test")) == 1
    assert not torch.equal(open_data(tmp_path).values, open_data(tmp_path, split="test").values)
    with pytest.raises(DataError, match="source of their own"):
        open_data(tmp_path / "train", split="test")
    (tmp_path / "train" / "a.png").unlink()
    (tmp_path / "train").rmdir()
    with pytest.raises(DataError, match="beside the other split"):
        open_data(tmp_path)


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "batch"), [(10, 3), (7, 7), (5, 12), (100, 1), (12, 4)])
def test_every_epoch_shows_every_example_once(n, batch):
    steps = steps_for_epochs(n, batch, 6)
    batches = ArrayBatches(numbered(n), batch=batch, steps=steps, seed=1)
    shown = torch.cat([y[:, 0] for y in batches])[: 6 * n].view(6, n)
    assert torch.equal(shown.sort(1).values, torch.arange(n).float().expand(6, n))
    assert len(batches) == steps == math.ceil(6 * n / batch)
    assert batches.steps_per_epoch == math.ceil(n / batch)
    if n > 6:  # 7! orders: two alike would be chance of 1 in 500
        assert len({tuple(order.tolist()) for order in shown}) == 6


@pytest.mark.parametrize("how", Binarisation)
def test_a_step_is_the_same_whenever_it_is_asked_for(how):
    def batches(seed: int) -> ArrayBatches:
        return ArrayBatches(bytes_data(50, 3, 4, 5), batch=8, steps=40, seed=seed, binarisation=how)

    straight = list(DataLoader(batches(5), batch_size=None))
    resumed = DataLoader(batches(5), batch_size=None, sampler=range(17, 40))
    assert all(torch.equal(a, b) for a, b in zip(straight[17:], resumed, strict=True))
    one = batches(5)
    assert all(torch.equal(straight[step], one[step]) for step in (39, 3, 20, 3))
    assert not torch.equal(straight[0], batches(6)[0])
    assert straight[0].shape == (8, 3, 4, 5)
    assert straight[0].dtype == torch.float32


@pytest.mark.parametrize("how", Binarisation)
def test_shares_of_processes_make_up_the_batch_of_one(how):
    data = bytes_data(50, 3, 4, 5)
    whole = ArrayBatches(data, batch=24, steps=9, seed=5, binarisation=how)
    shares = [ArrayBatches(data, batch=24, steps=9, seed=5, binarisation=how, rank=r, world=3) for r in range(3)]
    for step in range(9):  # the third batch crosses into the next epoch
        assert torch.equal(whole[step], torch.cat([share[step] for share in shares]))
    with pytest.raises(DataError, match="multiple of 5"):
        ArrayBatches(data, batch=24, steps=9, seed=5, world=5)


def test_batches_are_floats_in_the_unit_of_their_kind():
    levels = torch.arange(256, dtype=torch.uint8).view(2, 128)
    batch = ArrayBatches(ArrayData(levels, Kind.BYTES), batch=2, steps=1, seed=0)[0]
    assert torch.equal(batch.flatten().sort().values, torch.arange(256).float() / 255)
    table = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    batches = ArrayBatches(ArrayData(table, Kind.TABULAR), batch=6, steps=1, seed=0)
    assert torch.equal(batches[0], table[batches.indices(0)])
    with pytest.raises(IndexError):
        batches[1]


# --- binarisation -----------------------------------------------------------------------------------------------------


def grey_ramp(copies: int) -> ArrayData:
    return ArrayData(torch.arange(256, dtype=torch.uint8).repeat(copies)[None], Kind.BYTES)


def assert_probabilities(ones, draws: int) -> None:
    """`ones` of 256 levels out of `draws` each are what probabilities g/255 give."""
    p = torch.arange(256, dtype=torch.float64) / 255
    assert ones[0] == 0
    assert ones[255] == draws
    z = (ones - draws * p)[1:255] / (draws * p * (1 - p))[1:255].sqrt()
    # 254 independent squares, each of mean 1 and variance 2 - 6/draws + 1/(draws p (1-p)) < 2.01: 5 standard errors.
    # A byte compared as it is, with probability g/256, would add draws/256**2 * sum p/(1-p): 400 at 20,000 draws
    assert abs(float(z.square().sum()) - 254) < 5 * math.sqrt(2.01 * 254)


def test_dynamic_binarisation_has_the_grey_value_as_probability():
    copies, steps = 256, 400
    batches = ArrayBatches(grey_ramp(copies), batch=1, steps=steps, seed=3, binarisation=Binarisation.DYNAMIC)
    assert batches.kind is Kind.BINARY
    draws = torch.stack([y.view(copies, 256).sum(0) for y in batches])
    assert_probabilities(draws.double().sum(0), copies * steps)


def test_dynamic_draws_are_independent_from_step_to_step_and_place_to_place():
    grey = ArrayData(torch.full((1, 50_000), 128, dtype=torch.uint8), Kind.BYTES)
    batches = ArrayBatches(grey, batch=1, steps=4, seed=0, binarisation=Binarisation.DYNAMIC)
    x = torch.cat(list(batches)).double() - 128 / 255
    for a, b in ((x[:-1], x[1:]), (x[:, :-1], x[:, 1:]), (x[:, :-8], x[:, 8:])):  # 8: bytes of one random number
        correlation = float((a * b).mean()) / (128 / 255 * 127 / 255)
        assert abs(correlation) < 4.5 / math.sqrt(a.numel())


def test_static_binarisation_is_drawn_once():
    data = grey_ramp(20_000)
    drawn = binarise(data, Binarisation.STATIC, seed=3)
    assert drawn.kind is Kind.BINARY
    assert_probabilities(drawn.values.view(-1, 256).double().sum(0), 20_000)
    assert torch.equal(drawn.values, binarise(data, Binarisation.STATIC, seed=3).values)
    assert not torch.equal(drawn.values, binarise(data, Binarisation.STATIC, seed=4).values)
    small = bytes_data(10, 30)
    batches = ArrayBatches(small, batch=5, steps=6, seed=3, binarisation=Binarisation.STATIC)
    fixed = binarise(small, Binarisation.STATIC, seed=3).values.float()
    assert all(torch.equal(batches[step], fixed[batches.indices(step)]) for step in range(6))


def test_a_threshold_is_at_one_half():
    data = binarise(grey_ramp(1), Binarisation.THRESHOLD, seed=0)
    assert torch.equal(data.values[0], (torch.arange(256) / 255 > 0.5).byte())


def test_only_grey_values_are_binarised():
    binary = ArrayData(torch.ones(2, 3, dtype=torch.uint8), Kind.BINARY)
    assert binarise(binary, Binarisation.NONE, seed=0) is binary
    for how in (Binarisation.STATIC, Binarisation.DYNAMIC):
        with pytest.raises(DataError, match="binarisation 'none'"):
            ArrayBatches(binary, batch=1, steps=1, seed=0, binarisation=how)
    with pytest.raises(DataError, match=r"Scale to 0\.\.\.255"):
        binarise(numbered(3), Binarisation.THRESHOLD, seed=0)
    with pytest.raises(DataError, match="Use 'static'"):
        binarise(grey_ramp(1), Binarisation.DYNAMIC, seed=0)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_bad_element_is_named_with_its_place_and_the_cure(tmp_path):
    array = np.zeros((4, 5, 6))
    array[2, 3, 1] = np.nan
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=r"a\.npy: element \[2, 3, 1\] is nan.*fill such values in"):
        open_data(tmp_path / "a.npy", kind="real")
    array[2, 3, 1] = 1e39  # infinite in float32
    with pytest.raises(DataError, match=r"source: element \[2, 3, 1\] is inf.*beyond 3e38"):
        open_data(array, kind="real")
    with pytest.raises(DataError, match=r"values: element \[1, 0\] is -inf"):
        ArrayData(torch.tensor([[0.0], [-math.inf]]), Kind.TABULAR)


@pytest.mark.parametrize(
    ("array", "kind", "cure"),
    [
        (np.array([[0, 1], [1, 2]], np.uint8), "binary", r"\[1, 1\] is 2.*binarisation"),
        (np.array([[0, 0.5]]), "binary", r"\[0, 1\] is 0.5.*binarisation"),
        (np.array([[0, math.nan]]), "binary", r"\[0, 1\] is nan"),
        (np.array([[0, 256]]), "8-bit", r"\[0, 1\] is 256.*uint8"),
        (np.array([[-1.0, 3]]), "8-bit", r"\[0, 0\] is -1.0.*uint8"),
        (np.array([[0.3, 1]]), "8-bit", r"\[0, 0\] is 0.3.*divided by 255.*uint8"),
        (np.array([[7, math.inf]]), "8-bit", r"\[0, 1\] is inf"),
        (np.array([[0.0, 1]]), "8-bit", "Use kind 'binary'"),
        (np.zeros((3, 2, 2)), "tabular", "use kind 'real'"),
        (np.zeros(3), "real", r"Reshape n single numbers to \(n, 1\)"),
        (np.zeros((0, 3)), "real", "is empty"),
        (np.zeros((3, 0)), None, "is empty"),
        (np.array([["a", "b"]]), None, "Encode words as integers"),
        (np.zeros((2, 2), complex), "real", "not numbers"),
        (np.zeros((2, 2)), "colour", "Choose kind from 'binary', '8-bit', 'real', 'tabular'"),
    ],
)
def test_arrays_outside_their_kind_are_refused(array, kind, cure):
    with pytest.raises(DataError, match=cure):
        open_data(array, kind=kind)


def test_the_type_of_an_array_must_be_that_of_its_kind():
    with pytest.raises(DataError, match="Use open_data"):
        ArrayData(torch.zeros(2, 2), Kind.BYTES)


@pytest.mark.parametrize("writer", [np.save, as_npz])
def test_a_pickle_is_refused_not_run(writer, tmp_path):
    ran = []

    class Evil:
        def __reduce__(self):
            return (ran.append, (1,))

    with open(tmp_path / "a.npy", "wb") as file:
        writer(file, np.array([Evil()], dtype=object))
    with pytest.raises(DataError, match="Save an array of numbers"):
        open_data(tmp_path / "a.npy")
    assert not ran


def lying_npy(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(100)


def lying_npz(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", lying_npy(shape))
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        idx_bytes(pictures(100), (2**32 - 1, 2**32 - 1)),
        idx_bytes(pictures(100), (60000, 28, 28)),
        gzip.compress(idx_bytes(pictures(100), (60000, 28, 28))),
        gzip.compress(idx_bytes(pictures(100), (400, 400))),  # as much as packing could yield, and not there
        lying_npy((60000, 28, 28)),
        lying_npy((2**40, 2**40)),
        lying_npy((-1, 100)),
        lying_npz((60000, 28, 28)),
    ],
)
def test_a_claimed_size_is_not_believed(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="claims an array"):
            open_data(tmp_path / "a", kind="8-bit")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_short_is_refused(name, tmp_path):
    FORMATS[name](tmp_path / name, pictures(20, 8, 8))
    whole = (tmp_path / name).read_bytes()
    for length in (0, 1, 5, 15, len(whole) // 2, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"copy|Pass|Write it again"):
            open_data(tmp_path / name, kind="8-bit")
    if "idx" in name:
        (tmp_path / name).write_bytes(gzip.compress(gzip.decompress(whole) + b"!") if "gz" in name else whole + b"!")
        with pytest.raises(DataError, match=r"holds more|holds at most"):
            open_data(tmp_path / name, kind="8-bit")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("formats")
    for name, write in FORMATS.items():
        write(folder / name, pictures(5, 4, 3))
    return {name: (folder / name).read_bytes() for name in FORMATS} | {"": (folder / "a.npy").read_bytes()}


@pytest.mark.filterwarnings("ignore:.*invalid escape sequence")  # a damaged header is parsed as a literal
@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(sorted(FORMATS)), at=st.integers(0, 10**6), value=st.binary(min_size=1, max_size=4))
def test_a_damaged_file_is_read_or_refused_and_never_a_crash(written, tmp_path_factory, name, at, value):
    whole = written[name]
    at %= len(whole)
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(whole[:at] + value + whole[at + len(value) :])
    with suppress(DataError):  # any other error fails
        assert isinstance(read_array(path), np.ndarray)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        open_data(tmp_path / "nowhere.npy")
    with pytest.raises(DataError, match="holds no image"):
        open_data(tmp_path)
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(DataError, match="is no array file"):
        open_data(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="Choose split"):
        open_data("sprites", split="valid")


def test_options_without_effect_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", pictures(4, 4, 4))
    for source, option in (
        (tmp_path / "a.npy", {"size": 8}),
        (tmp_path / "a.npy", {"key": "x"}),
        ("mnist", {"size": 8}),
        ("sprites", {"folder": tmp_path}),
        (pictures(4, 4, 4), {"key": "x"}),
    ):
        with pytest.raises(DataError, match="Leave it out"):
            open_data(source, **option)
    with pytest.raises(DataError, match="Leave kind out"):
        open_data("sprites", kind="real")


# --- named sets -------------------------------------------------------------------------------------------------------


class Mirrors:
    """Stands for the network: serves files by name, counts, and can refuse or damage."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked, self.damage = files, [], {}

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        if not self.files:
            raise URLError("no network")
        data = self.files[url.rpartition("/")[2]]
        return self.damage.get(url.rpartition("/")[0], lambda x: x)(data)


def flipped(data: bytes) -> bytes:
    """The same packed file with one bit of its content changed, its own checksum right again."""
    content = bytearray(gzip.decompress(data))
    content[-1] ^= 1
    return gzip.compress(bytes(content))


@pytest.fixture
def mirrors(monkeypatch, tmp_path) -> Mirrors:
    """A Fashion-MNIST of three pictures, published on a network of our own; cached in tmp_path/cache."""
    contents = {"images": idx_bytes(pictures(3, 28, 28)), "labels": idx_bytes(np.array([9, 2, 1], np.uint8))}
    sums = {f"train-{what}": hashlib.sha256(content).hexdigest() for what, content in contents.items()}
    files = {f"train-{named.STEMS[what]}.gz": gzip.compress(content) for what, content in contents.items()}
    known = NAMED["fashion-mnist"]
    small = named.NamedSet(("https://one.example/", "https://two.example/"), known.prefixes, sums)
    monkeypatch.setitem(named.NAMED, "fashion-mnist", small)
    monkeypatch.setitem(named.PARTS, "train", ("train", 3))
    monkeypatch.setenv("RDAE_CACHE", str(tmp_path / "cache"))
    network = Mirrors(files)
    monkeypatch.setattr(named, "fetch", network)
    return network


def check_small(data: ArrayData) -> None:
    assert np.array_equal(data.values, pictures(3, 28, 28)[:, None])
    assert data.labels is not None
    assert data.labels.tolist() == [9, 2, 1]


def test_a_named_set_is_downloaded_once(mirrors, tmp_path):
    check_small(open_data("fashion-mnist"))
    assert len(mirrors.asked) == 2
    check_small(open_data("fashion-mnist"))
    assert len(mirrors.asked) == 2
    assert sorted(path.name for path in (tmp_path / "cache" / "fashion-mnist").iterdir()) == sorted(mirrors.files)


def test_a_flipped_byte_is_refused_and_the_next_mirror_asked(mirrors, tmp_path):
    mirrors.damage["https://one.example"] = flipped
    check_small(load_named("fashion-mnist"))
    assert len(mirrors.asked) == 4
    cached = tmp_path / "cache" / "fashion-mnist" / "train-images-idx3-ubyte.gz"
    cached.write_bytes(flipped(cached.read_bytes()))
    mirrors.damage["https://two.example"] = lambda data: data[:-3]
    with pytest.raises(DataError, match=r"SHA-256 differs.*Connect to the network"):
        load_named("fashion-mnist")
    mirrors.damage.clear()
    check_small(load_named("fashion-mnist"))
    assert not any(path.name.endswith("partial") for path in cached.parent.iterdir())


def test_without_a_network_the_cure_is_said(mirrors):
    mirrors.files = {}
    with pytest.raises(DataError, match=r"no network.*put train-images-idx3-ubyte.gz into a folder"):
        open_data("fashion-mnist")


@pytest.mark.parametrize("prefix", ["", "fashion-", "FashionMNIST/raw/"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_folder_may_use_any_of_the_namings(mirrors, tmp_path, prefix, packed):
    for name, data in mirrors.files.items():
        path = tmp_path / "mine" / (prefix + (name if packed else name.removesuffix(".gz")))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if packed else gzip.decompress(data))
    check_small(open_data("fashion-mnist", folder=tmp_path / "mine"))
    assert not mirrors.asked


def test_another_set_under_the_same_names_is_not_taken_for_this_one(mirrors, tmp_path):
    for name, data in mirrors.files.items():
        (tmp_path / name).write_bytes(flipped(data))
    with pytest.raises(DataError, match=r"not the published file of fashion-mnist.*copy it again"):
        open_data("fashion-mnist", folder=tmp_path)
    for name, data in mirrors.files.items():  # both sets in one folder
        (tmp_path / f"fashion-{name}").write_bytes(data)
    check_small(open_data("fashion-mnist", folder=tmp_path))
    with pytest.raises(DataError, match="Name the file"):
        open_data(tmp_path)
    with pytest.raises(DataError, match="holds no t10k-images"):
        open_data("fashion-mnist", split="test", folder=tmp_path)


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("RDAE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "rdae"
    monkeypatch.setenv("RDAE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


@pytest.fixture(scope="module")
def digits(data_folder) -> Path:
    if not (data_folder / "mnist").is_dir():
        pytest.skip("RDAE_DATA has no folder mnist/")
    return data_folder / "mnist"


def test_mnist_is_what_was_published(digits):
    train, test = (open_data("mnist", split=split, folder=digits) for split in ("train", "test"))
    assert train.values.shape == (60000, 1, 28, 28)
    assert test.values.shape == (10000, 1, 28, 28)
    assert train.kind is Kind.BYTES
    assert train.labels is not None
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert float(train.values.float().mean()) / 255 == pytest.approx(0.1307, abs=5e-5)  # the mean all recipes quote


def test_both_sets_are_found_in_one_folder(digits):
    data = open_data("fashion-mnist", split="test", folder=digits)
    assert data.values.shape == (10000, 1, 28, 28)
    assert data.labels is not None
    assert data.labels.bincount().tolist() == [1000] * 10
    with pytest.raises(DataError, match="not the published file"):  # train-images there is the digits'
        open_data("fashion-mnist", folder=digits)


def test_the_checksums_are_those_of_the_manifest(digits):
    rows = [line.split("\t") for line in (digits / "MANIFEST.tsv").read_text("utf-8").splitlines()[1:]]
    sums = {row[0].rpartition(" ")[2]: row[4] for row in rows}
    for name, prefix in (("mnist", ""), ("fashion-mnist", "fashion-")):
        for part, due in NAMED[name].sums.items():
            split, what = part.split("-")
            assert sums[f"{prefix}{split}-{named.STEMS[what]}.gz"] == due


# --- sprites ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn():
    return sprites()


def test_every_combination_of_factors_is_drawn_once_and_differently(drawn):
    assert drawn.data.values.shape == (3 * 4 * 8 * 8 * 8, 1, 32, 32)
    assert drawn.names == ("shape", "size", "rotation", "x", "y")
    assert (drawn.factors.max(0).values + 1).tolist() == [3, 4, 8, 8, 8]
    assert len(drawn.factors.unique(dim=0)) == len(drawn.factors) == 6144
    assert len({picture.tobytes() for picture in drawn.data.values.numpy()}) == 6144
    assert drawn.data.labels is not None
    assert torch.equal(drawn.data.labels, drawn.factors[:, 0])


@pytest.mark.parametrize("size", [32, 48])
def test_the_centre_of_mass_is_the_place(size):
    drawn = sprites(size)
    mass = drawn.data.values[:, 0].double()
    total = mass.sum((1, 2))
    at = torch.arange(size).double() + 0.5
    x, y = (mass.sum(1) @ at) / total, (mass.sum(2) @ at) / total
    # 16 points a pixel misplace an edge by 1/32 pixel at most. All around, at radius r, and over the least area:
    # 2 pi r * r / 32 / (pi r**2 / 2) = 1/8 pixel, where places are 2 apart
    for place, column in ((x, 3), (y, 4)):
        due = (9 + 2 * drawn.factors[:, column]) * size / 32
        assert float((place - due).abs().max()) < 1 / 8


def test_area_and_moments_tell_size_shape_and_rotation(drawn):
    shape, size, rotation = drawn.factors[:, :3].T
    area = drawn.data.values.double().sum((1, 2, 3)) / 255
    radius = torch.tensor([3.5, 5.0, 6.5, 8.0])[size].double()
    share = torch.tensor([math.pi / 2, 2.0, 3.66198 / 1.293483**2])[shape]  # of radius**2; the heart's by quadrature
    # an edge misplaced by at most 1/32 pixel all around, and 60 levels rounded by at most 1/510
    assert ((area - share * radius**2).abs() < 2 * math.pi * radius / 32 + 60 / 510).all()
    ellipse = (shape == 0).nonzero()[:, 0]
    at = torch.arange(32) + 0.5
    mass = drawn.data.values[ellipse, 0].double()
    mass /= mass.sum((1, 2), keepdim=True)
    dx = (at - 9 - 2 * drawn.factors[ellipse, 3:4])[:, None, :]
    dy = -(at - 9 - 2 * drawn.factors[ellipse, 4:5])[:, :, None]
    xx, yy, xy = ((mass * product).sum((1, 2)) for product in (dx**2, dy**2, dx * dy))
    angle = torch.rad2deg(torch.atan2(2 * xy, xx - yy) / 2) % 180
    off = (angle - 22.5 * rotation[ellipse] + 90) % 180 - 90
    assert float(off.abs().max()) < 22.5 / 4  # a quarter of a step: no rotation is taken for its neighbour


def test_one_sprite_in_eight_is_held_out_evenly():
    train, test = open_data("sprites"), open_data("sprites", split="test")
    assert (len(train), len(test)) == (5376, 768)
    seen = {row.tobytes() for row in train.values.numpy()}
    assert not any(row.tobytes() in seen for row in test.values.numpy())
    assert test.labels is not None
    assert test.labels.bincount().tolist() == [256] * 3


def test_a_size_that_puts_places_between_pixels_is_refused():
    for size in (16, 40, (48, 64)):
        with pytest.raises(DataError, match="multiple of 16"):
            open_data("sprites", size=size)


def test_moments_are_those_of_the_values_and_kept() -> None:
    values = torch.tensor([[1.0, 5.0], [3.0, 5.0], [8.0, 5.0]])
    data = ArrayData(values, Kind.TABULAR)
    mean, std = data.moments
    assert mean.tolist() == [4.0, 5.0]
    torch.testing.assert_close(std, torch.tensor([math.sqrt(13), 0.0]))
    assert data.moments[0] is mean  # not computed again
    assert replace(data, values=values * 2).moments[0].tolist() == [8.0, 10.0]


def test_a_model_that_changes_its_buffers_leaves_the_data_alone() -> None:
    from rdae.recipes.noisy_channel import scale_of

    data = ArrayData(torch.rand(20, 3), Kind.REAL)
    before = data.moments[0].clone()
    scale_of(data).mean.zero_()
    assert torch.equal(data.moments[0], before)
