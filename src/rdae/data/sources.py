"""Any source of examples, a folder, a file, a named set or an array, as `ArrayData`."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from numpy.lib import format as npy
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from rdae.data.arrays import ArrayData, Kind, as_kind, check_elements, refuse_where
from rdae.data.named import GZIP, MOST_DEFLATED, NAMED, load_named, part_of, read_idx
from rdae.data.photographs import decoded_images
from rdae.data.sprites import sprites
from rdae.data.stacked import stacked_mnist
from rdae.data.synthetic import MixtureSource
from rdae.errors import DataError

__all__ = ["MIXTURES", "WITH_TEST", "from_array", "has_test", "image_folder", "open_data", "read_array"]

STACKED = "stacked-mnist"
MIXTURES = {"gaussian-grid": MixtureSource.grid, "gaussian-ring": MixtureSource.ring}
WITH_TEST = (*NAMED, "sprites", STACKED, *MIXTURES)  # names of sets that have a split "test"
POINTS = {"train": 100_000, "test": 20_000}  # drawn of a mixture
HELD_OUT = 8  # one sprite in so many is for testing
ROUNDED = 1e-3  # of a level: more than float32 loses in k / 255 * 255, less than anyone means


def has_test(source: str) -> bool:
    """Whether this is the name of a set with a split "test", with or without a number of examples behind it."""
    return source.partition(":")[0] in WITH_TEST


def open_data(
    source: str | Path | np.ndarray | Tensor | Dataset,
    *,
    split: str = "train",
    kind: Kind | str | None = None,
    size: int | tuple[int, int] | None = None,
    labels: str | Path | np.ndarray | Tensor | None = None,
    key: str | None = None,
    folder: str | Path | None = None,
) -> ArrayData:
    """Examples from wherever they are.

    Args:
        source: "mnist", "fashion-mnist", "sprites", "stacked-mnist" (three digits as colours; with a number of triples:
            "stacked-mnist:128000"), "gaussian-grid" or "gaussian-ring" (points of `MixtureSource`); write "./mnist" for
            a folder of that name; a folder of images or of idx files; a `.npy`, `.npz` or idx file, known by its
            content; an array, a tensor, a map-style dataset.
        split: "train" or "test". Named sets have both: of the sprites one in eight, spread evenly over all factors, is
            for testing; triples and points are drawn with a seed for each. A folder has both if it holds folders, or
            idx files, of both names. Everything else is one set: "train".
        kind: what the numbers are. None is enough for images, uint8 arrays of pictures, booleans and tables of floats.
        size: side, or height and width, in pixels, to which images are cut at the centre and resized; of the sprites
            their side. Needed where the images of a folder differ in size.
        labels: `(n,)`, an array or its file, or a key of the `.npz`; idx files called images bring theirs.
        key: of the array in an `.npz` that holds several.
        folder: holds the files of a named set; None: the cache, and the network once.

    Returns:
        Values `(n, *event)`. Arrays `(n, H, W)` become `(n, 1, H, W)`, uint8 `(n, H, W, 3)` become `(n, 3, H, W)`.
        What needs no conversion is shared with the source, not copied.

    Raises:
        DataError: nothing there, damaged, of unclear kind, or an element that its kind excludes.
    """
    part_of(split)
    kind = None if kind is None else as_kind(kind)
    name, _, triples = str(source).partition(":") if isinstance(source, str) else ("", "", "")
    if name == STACKED or (name in WITH_TEST and not triples):
        return _named_set(name, triples, split, kind, labels=labels, key=key, folder=folder, size=size)
    if isinstance(source, (str, Path)):
        _refuse(str(Path(source)), folder=folder)
        return _folder_or_file(Path(source), split, kind, size, labels, key)
    _refuse("source", size=size, key=key, folder=folder)
    _only_training("source", split)
    values, found = _members(source, "source") if isinstance(source, Dataset) else (source, None)
    return from_array(values, kind=kind, labels=found if labels is None else _labels(labels), name="source")


def _named_set(name: str, triples: str, split: str, kind: Kind | None, **options: Any) -> ArrayData:
    """One of `WITH_TEST`; `triples` is what followed its name."""
    takes = {"sprites": "size"}.get(name, "" if name in MIXTURES else "folder")
    _refuse(name, **{option: value for option, value in options.items() if option != takes})
    due, cure = (Kind.TABULAR, "") if name in MIXTURES else (Kind.BYTES, "; a binarisation makes it binary")
    if kind not in (None, due):
        raise DataError(f"{name} is {due}, not {kind}. Leave kind out{cure}.")
    if name in MIXTURES:
        return _mixture(name, split)
    if name == "sprites":
        return _sprites(split, options["size"])
    if name == STACKED:
        return stacked_mnist(split=split, count=_count(triples), folder=options["folder"])
    return load_named(name, split=split, folder=options["folder"])


def _folder_or_file(path: Path, split: str, kind: Kind | None, size: Any, labels: Any, key: str | None) -> ArrayData:
    """Images of a folder, or the array of a file, which may lie in a folder with those of the other split."""
    if path.is_dir():
        path = _part_of_folder(path, split)
    else:
        _only_training(str(path), split)
    if path.is_dir():
        _refuse(str(path), key=key)
        if kind not in (None, Kind.BYTES):
            raise DataError(f"{path} holds images, which are 8-bit, not {kind}. Leave kind out.")
        return ArrayData(image_folder(path, size), Kind.BYTES, _labels(labels), str(path))
    _refuse(str(path), size=size)
    values = read_array(path, key)
    if isinstance(labels, str) and zipfile.is_zipfile(path) and labels in _keys(path):
        labels = read_array(path, labels)
    found = _idx_labels(path) if labels is None else _labels(labels)
    return from_array(values, kind=kind, labels=found, name=str(path))


def _refuse(name: str, **options: Any) -> None:
    """An option without effect is a misunderstanding."""
    for option, value in options.items():
        if value is not None:
            raise DataError(f"{option} has no meaning for {name}. Leave it out.")


def _only_training(name: str, split: str) -> None:
    if split != "train":
        raise DataError(f"{name} has no {split} split. Open the data to test on as a source of their own.")


def _sprites(split: str, size: Any) -> ArrayData:
    drawn = sprites(32 if size is None else size)
    chosen = (drawn.factors.sum(1) % HELD_OUT == 0) == (split == "test")
    labels = cast(Tensor, drawn.data.labels)[chosen]
    return ArrayData(drawn.data.values[chosen], Kind.BYTES, labels, f"sprites {split}")


def _mixture(name: str, split: str) -> ArrayData:
    """Points of a mixture of Gaussians, and of each the component that it is nearest to."""
    source = MIXTURES[name]()
    points = source.sample(POINTS[split], seed=split == "test")
    nearest = [
        ((part[:, None] - source.means) ** 2).sum(2).argmin(1) for part in np.split(points, POINTS[split] // 1000)
    ]
    return from_array(points, kind=Kind.TABULAR, labels=np.concatenate(nearest), name=f"{name} {split}")


def _count(triples: str) -> int | None:
    if not triples:
        return None
    if not (triples.isascii() and triples.isdigit()):
        raise DataError(f"{triples!r} is no number of triples. Write for example {STACKED}:128000.")
    return int(triples)


def _part_of_folder(folder: Path, split: str) -> Path:
    """The sub-folder, the idx file, or the folder itself, that holds a split."""
    if any((folder / name).is_dir() for name in ("train", "test")):
        if not (folder / split).is_dir():
            raise DataError(f"{folder} holds no folder {split!r} beside the other split. Make one, or name a folder.")
        return folder / split
    names = {part_of(split)[0], split}
    paths = sorted(path for name in names for path in folder.glob(f"*{name}-images-idx3-ubyte*") if path.is_file())
    found = {path.name.removesuffix(".gz"): path for path in reversed(paths)}  # packed and unpacked are one
    if len(found) > 1:
        files = ", ".join(sorted(found))
        raise DataError(f"{folder} holds several sets ({files}). Name the file, or the set and folder={folder}.")
    if found:
        return next(iter(found.values()))
    _only_training(str(folder), split)
    return folder


def _idx_labels(path: Path) -> np.ndarray | None:
    """Labels beside a file of images, packed or not."""
    if "images-idx3" not in path.name:
        return None
    stem = path.name.replace("images-idx3", "labels-idx1").removesuffix(".gz")
    paths = (path.with_name(stem), path.with_name(f"{stem}.gz"))
    return next((read_idx(beside) for beside in paths if beside.is_file()), None)


def _labels(labels: Any) -> Any:
    return read_array(Path(labels)) if isinstance(labels, (str, Path)) else labels


def _members(dataset: Dataset, name: str) -> tuple[np.ndarray | Tensor, Any]:
    """Values and labels of a dataset: of each item the first two parts, or the item alone."""
    if isinstance(dataset, TensorDataset):
        return dataset.tensors[0], dataset.tensors[1] if len(dataset.tensors) > 1 else None
    if not hasattr(dataset, "__len__"):
        raise DataError(f"{name} is a dataset without a length. Pass one that has __len__ and __getitem__.")
    items = [dataset[i] for i in range(len(dataset))]
    pairs = [item if isinstance(item, (tuple, list)) else (item,) for item in items]
    values = [_numbers(pair[0], f"{name}[{i}]") for i, pair in enumerate(pairs)]
    for i, value in enumerate(values):
        if value.shape != values[0].shape or value.dtype != values[0].dtype:
            raise DataError(
                f"{name}[{i}] is {value.dtype} {value.shape}, but {name}[0] is {values[0].dtype} {values[0].shape}. "
                "Give all items one shape and type, in the dataset's transform."
            )
    labels = [pair[1] for pair in pairs if len(pair) > 1]
    return np.stack(values) if values else np.empty((0, 1)), labels or None


def _numbers(values: Any, name: str) -> np.ndarray:
    """An array of numbers in the machine's byte order."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    try:
        array = np.asarray(values)
    except ValueError:  # lists of unequal length
        raise DataError(f"{name} is no regular array. Give all examples one shape.") from None
    if array.dtype.kind not in "buif":
        raise DataError(f"{name} holds {array.dtype}, not numbers. Encode words as integers; columns need one type.")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def from_array(values: Any, *, kind: Kind | None = None, labels: Any = None, name: str = "values") -> ArrayData:
    """`ArrayData` of any array of numbers `(n, *event)`, converted and laid out as `open_data` says.

    Raises:
        DataError: of unclear kind, or with an element that its kind excludes; messages call the array `name`.
    """
    array = _numbers(values, name)
    if array.size == 0:
        raise DataError(f"{name} is empty: its shape is {array.shape}. Check the file or the selection it came from.")
    kind = _guessed(array, name) if kind is None else kind
    array = _stored(array, kind, name)
    if array.ndim == 3 and kind is not Kind.TABULAR:
        array = array[:, None]
    elif array.ndim == 4 and array.dtype == np.uint8 and array.shape[3] in (1, 3) and array.shape[1] not in (1, 3):
        array = np.moveaxis(array, 3, 1)
    if labels is not None:
        labels = _numbers(labels, f"labels of {name}")
        labels = torch.from_numpy(labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64))
    return ArrayData(torch.from_numpy(np.require(array, requirements=("C", "W"))), kind, labels, name)


def _guessed(array: np.ndarray, name: str) -> Kind:
    if array.dtype == bool:
        return Kind.BINARY
    if array.dtype == np.uint8 and array.ndim > 2 and array.max() > 1:
        return Kind.BYTES
    if array.dtype.kind == "f" and array.ndim == 2:
        return Kind.TABULAR
    raise DataError(
        f"{name} holds {array.dtype} {array.shape} from {array.min()} to {array.max()}, which can be several kinds of "
        "data. Say which with kind: 'binary', '8-bit', 'real' or 'tabular'."
    )


def _stored(array: np.ndarray, kind: Kind, name: str) -> np.ndarray:
    """The array in the type in which its kind is held; whole levels as they are, floats k / 255 as level k."""
    if kind is not Kind.BYTES:
        with np.errstate(over="ignore"):  # what becomes infinite is refused
            stored = array if kind is Kind.BINARY else array.astype(np.float32, copy=False)
        check_elements(stored, kind, name)  # before the layout changes, so that the index is the caller's
        return stored.astype(np.uint8, copy=False) if kind is Kind.BINARY else stored
    if array.dtype == np.uint8:
        return array
    scaled = array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1
    if array.dtype == bool or (scaled and ((array == 0) | (array == 1)).all()):
        raise DataError(f"{name} holds only zeros and ones. Use kind 'binary', or store levels 0 to 255 as uint8.")
    levels = array * 255.0 if scaled else array
    nearest = np.rint(levels)
    with np.errstate(invalid="ignore"):  # inf - inf
        good = (abs(levels - nearest) <= ROUNDED) & (nearest >= 0) & (nearest <= 255)
    rule = f"8-bit data are whole levels 0 to 255{', here divided by 255' if scaled else ''}"
    refuse_where(~good, array, name, rule, "Round and store them as uint8, or use kind 'real'")
    return nearest.astype(np.uint8)


def image_folder(folder: str | Path, size: int | tuple[int, int] | None = None) -> Tensor:
    """Images below a folder, sorted by path, `(n, channels, H, W)` uint8; one channel if all are grey, else three.

    Args:
        folder: searched nested; what cannot be decoded is reported and skipped.
        size: side, or height and width, in pixels; images are cut at the centre to its shape, then resized. None: all
            have one size already.

    Raises:
        DataError: no image, or several sizes and no `size`.
    """
    height, width = (size, size) if isinstance(size, int) else size or (None, None)
    if size is not None and not (height and width and height > 0 and width > 0):
        raise DataError(f"size is {size}. Choose a side, or height and width, of 1 pixel or more.")
    images: list[np.ndarray] = []
    first = None
    for path, pixels in decoded_images(folder):
        image = Image.fromarray(pixels)
        if height and width:
            image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
        elif first and first[1] != image.size:
            raise DataError(
                f"{path} has {image.width} x {image.height} pixels, {first[0]} has {first[1][0]} x {first[1][1]}. "
                "Choose one size for all, a side or height and width: size=64, size=(48, 64)."
            )
        first = first or (path, image.size)
        images.append(np.asarray(image).transpose(2, 0, 1))
    if not images:
        raise DataError(f"{folder} holds no image that can be decoded. Check the files named above.")
    grey = all((image == image[:1]).all() for image in images)
    return torch.from_numpy(np.stack([image[:1] for image in images] if grey else images))


def read_array(path: str | Path, key: str | None = None) -> np.ndarray:
    """The array in a `.npy`, `.npz` or idx file, known by its first bytes. Nothing is unpickled, and nothing allocated
    for an array larger than the file can hold.

    Args:
        path: of the file.
        key: of the array, where an `.npz` holds several.

    Raises:
        DataError: missing, damaged, of another format, or with objects in it.
    """
    path = Path(path)
    if not path.is_file():
        names = ", ".join(WITH_TEST)
        raise DataError(f"{path} does not exist. Pass a folder, a .npy, .npz or idx file, or one of {names}.")
    with open(path, "rb") as file:
        head = file.read(6)
    if not head.startswith(b"PK"):
        _refuse(str(path), key=key)
    try:
        if head.startswith(b"PK"):
            return _read_npz(path, key)
        if head == npy.MAGIC_PREFIX:
            with open(path, "rb") as file:
                return _read_npy(file, path.stat().st_size, str(path))
    except DataError:
        raise
    except Exception as error:  # the parsers of foreign formats raise whatever damaged bytes lead them to
        raise DataError(
            f"{path} cannot be read: {error}. It is cut short or damaged: copy or write it again."
        ) from None
    if head.startswith((GZIP, b"\0\0")):
        return read_idx(path)
    raise DataError(f"{path} is no array file: it begins with {head!r}. Pass a .npy, .npz or idx file, or a folder.")


def _keys(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def _read_npz(path: Path, key: str | None) -> np.ndarray:
    keys = _keys(path)
    if (key is None and len(keys) != 1) or (key is not None and key not in keys):
        wished = "" if key is None else f", none called {key!r}"
        raise DataError(f"{path} holds {len(keys)} arrays ({', '.join(keys)}){wished}. Name the one to use with key=.")
    with zipfile.ZipFile(path) as archive:
        entry = archive.infolist()[keys.index(key) if key is not None else 0]
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{path} is packed in a way that NumPy does not write. Save it with numpy.savez.")
        most = min(entry.file_size, path.stat().st_size * MOST_DEFLATED)
        with archive.open(entry) as file:
            return _read_npy(cast(BinaryIO, file), most, f"{path}[{keys[archive.infolist().index(entry)]}]")


def _read_npy(file: BinaryIO, most: int, name: str) -> np.ndarray:
    version = npy.read_magic(file)
    header = npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)
    shape, _, dtype = header
    if dtype.hasobject:
        raise DataError(
            f"{name} holds Python objects, a pickle, which may run code when read. Save an array of numbers."
        )
    length = math.prod(shape) * dtype.itemsize
    if length > most or min(shape, default=0) < 0:
        raise DataError(f"{name} claims an array of {shape}, {length} bytes, but holds at most {most}. Write it again.")
    file.seek(0)
    return npy.read_array(file, allow_pickle=False)
