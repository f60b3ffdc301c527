"""The codec file: identity, and every way in which it can be wrong."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import photograph
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from rdae.coding.codec import Codec
from rdae.coding.container import Contents, Header, serialise
from rdae.coding.fidelity import psnr
from rdae.coding.model import CODEC_VERSION, load_model, pack_model, shipped_models, unpack_model
from rdae.coding.pyramid import PyramidCoder
from rdae.coding.registry import codec_for, decompress, load
from rdae.errors import ModelError


@pytest.fixture(scope="module")
def parts(tiny) -> tuple[dict, dict[str, np.ndarray]]:
    """Card and arrays of the tiny codec file."""
    arrays = load_arrays(tiny.data)
    card = json.loads(arrays.pop("card").tobytes())
    return card, arrays


def changed(parts, card=None, **arrays) -> bytes:
    """The tiny codec file with other entries; None removes one."""
    old_card, old = parts
    new = {k: v for k, v in {**old, **arrays}.items() if v is not None}
    new_card = {k: v for k, v in {**old_card, **(card or {})}.items() if v is not ...}
    return save_arrays({**new, "card": np.frombuffer(json.dumps(new_card).encode(), dtype=np.uint8)})


def use(data: bytes) -> None:
    """Opens a codec file and codes an image with it."""
    codec = Codec(unpack_model(data))
    codec.decompress(codec.compress(photograph(20, 20, 0)))


def test_the_identity_is_the_beginning_of_the_hash(tiny):
    assert unpack_model(tiny.data).identity == hashlib.sha256(tiny.data).digest()[:8]


def test_a_file_carries_the_identity(codec):
    data = codec.compress(photograph(8, 8, 0))
    assert codec.model.identity in data[:40]


def test_packing_is_deterministic(parts, tiny):
    card, arrays = parts
    again = pack_model(dict(reversed(card.items())), dict(reversed(arrays.items())))
    assert again == pack_model(card, arrays) == tiny.data


def test_export_is_deterministic(tiny):
    from rdae.training.export_subbands import export_subbands

    assert export_subbands(tiny.torch, tiny.recipe, {"training_data": "none"}) == tiny.data


def test_what_was_packed_is_read_back(parts, tiny):
    card, arrays = parts
    model = unpack_model(tiny.data)
    assert model.card == card
    assert model.card["version"] == CODEC_VERSION
    for name, value in arrays.items():
        np.testing.assert_array_equal(model.array(name), value)
    assert model.lam.shape == (201,)
    assert (np.diff(np.log(model.lam)) > 0).all()


def test_a_codec_file_holds_no_pickle_and_no_path(tiny):
    assert str(Path(__file__).parent.parent).encode() not in tiny.data
    assert b"/home" not in tiny.data
    assert not tiny.data.startswith(b"\x80")


@pytest.mark.parametrize("data", [b"", b"no codec", bytes(100), b"\xff" * 100, b"\x08" + bytes(7) + b"{}      "])
def test_what_is_no_codec_file_is_refused(data):
    with pytest.raises(ModelError, match="not a codec file"):
        unpack_model(data)


def test_a_codec_file_cut_short_is_refused(tiny):
    for length in np.linspace(0, len(tiny.data) - 1, 50).astype(int):
        with pytest.raises(ModelError):
            unpack_model(tiny.data[:length])


@pytest.mark.parametrize("version", [0, CODEC_VERSION + 1, "1", None])
def test_another_version_is_refused_with_a_cure(parts, version):
    with pytest.raises(ModelError, match=r"layout version .*Install the version"):
        unpack_model(changed(parts, {"version": version}))


@pytest.mark.parametrize("key", ["name", "coder", "tile", "halo", "version", "levels", "distortion_weight"])
def test_a_card_that_lacks_an_entry_is_refused(parts, key):
    with pytest.raises(ModelError):
        use(changed(parts, {key: ...}))


@pytest.mark.parametrize(
    "entry",
    [
        {"tile": 0}, {"tile": -64}, {"tile": 100}, {"tile": "large"}, {"tile": None}, {"halo": [128]}, {"halo": 5},
        {"halo": [-64, 192]}, {"halo": [1, 2]}, {"halo": ["a", "b"]}, {"levels": 0}, {"levels": -3}, {"levels": 10**9},
        {"levels": "five"}, {"distortion_weight": "heavy"}, {"coder": []},
        {"tile": float("inf")}, {"tile": 64.5}, {"tile": True}, {"halo": [float("inf"), 0]}, {"halo": [64, 64, 64]},
        {"levels": float("inf")}, {"distortion_weight": float("nan")}, {"distortion_weight": -1.0}, {"name": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_card_with_an_impossible_entry_is_refused(parts, entry):
    with pytest.raises(ModelError):
        Codec(unpack_model(changed(parts, entry)))


def test_weights_that_are_no_weights_are_refused(parts):
    lam = parts[1]["lam"]
    for wrong in (lam - 2 * lam[0], lam - lam[0], lam * 1e300, np.append(lam[:-1], np.inf), np.arange(201)):
        with pytest.raises(ModelError, match="lam"):
            unpack_model(changed(parts, lam=wrong))


def test_arrays_of_another_shape_or_type_are_refused(parts):
    for name in ("quality", "low.index", "low.terms", "low.corner", "details.reach", "details.counts"):
        for wrong in (parts[1][name].ravel()[:-1].astype(np.float32), parts[1][name][..., None], np.zeros((), int)):
            with pytest.raises(ModelError, match=r"Fetch the codec file again|fetch it again"):
                Codec(unpack_model(changed(parts, **{name: np.ascontiguousarray(wrong)})))


def fewer(parts, count):
    """A codec file with its first detail tables alone."""
    reach, counts = parts[1]["details.reach"][:count], parts[1]["details.counts"]
    few = {"details.reach": reach, "details.counts": counts[: int((2 * reach.astype(int) + 2).sum())]}
    return changed(parts, **few)


def test_tables_that_lack_a_skew_are_refused(parts):
    with pytest.raises(ModelError, match="names tables that it does not hold"):
        Codec(unpack_model(fewer(parts, 5)))


def test_what_networks_name_beyond_the_tables_means_the_last(parts, codec):
    """Encoder and decoder clip alike: a file of few tables costs bytes, and its symbols come back."""
    few = Codec(unpack_model(fewer(parts, 2 * parts[0]["skews"])))
    picture = photograph(64, 96, 1)
    data = few.compress(picture, 60)
    few.decompress(data)  # which refuses symbols of another checksum
    assert len(data) > len(codec.compress(picture, 60))


def test_a_graph_in_the_place_of_another_gives_nothing_but_a_named_error(parts):
    refused = 0
    for name in ("analysis", "coarse", "synthesis", "reanalysis", "low", "level2.start", "level1.pass1"):
        for other in {"analysis", "coarse", "synthesis", "reanalysis", "level3.start", "level3.finish"} - {name}:
            try:  # level 3 in the place of level 2 fits, and only costs bytes
                use(changed(parts, **{f"graph.{name}": parts[1][f"graph.{other}"]}))
            except ModelError:
                refused += 1
    assert refused > 10


def test_a_codec_file_that_changed_is_loaded_anew(parts, tiny, tmp_path):
    path = tmp_path / "own.codec"
    path.write_bytes(tiny.data)
    first = load(path)
    assert load(str(path)) is first
    path.write_bytes(changed(parts, {"name": "another name"}))
    assert load(path).model.name == "another name"


def test_threads_that_ask_at_once_get_one_codec(tiny, tmp_path):
    path = tmp_path / "own.codec"
    path.write_bytes(tiny.data)
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: id(load(path)), range(16)))) == 1


def test_bytes_for_too_few_qualities_are_refused(parts):
    with pytest.raises(ModelError, match="each quality level"):
        Codec(unpack_model(changed(parts, quality=parts[1]["quality"][:100])))


@pytest.mark.parametrize("card", [b"", b"[]", b"5", b"\xff\xfe", b'"card"', b"{", b"null", b"[" * 100_000])
def test_a_card_that_is_no_card_is_refused(parts, card):
    with pytest.raises(ModelError, match="not a codec file"):
        unpack_model(save_arrays({**parts[1], "card": np.frombuffer(card, dtype=np.uint8)}))


def test_a_coder_of_the_future_is_named(parts):
    with pytest.raises(ModelError, match=r"'quantum'.*Install a newer one"):
        Codec(unpack_model(changed(parts, {"coder": "quantum"})))


@pytest.mark.parametrize(
    "name",
    [
        "lam", "quality", "details.reach", "details.counts", "low.reach", "low.counts", "low.index", "low.terms",
        "low.corner", "graph.analysis", "graph.coarse", "graph.synthesis", "graph.low", "graph.entry1",
        "graph.level3.finish", "graph.moments", "graph.pixels",
    ],
)  # fmt: skip
def test_a_missing_array_is_named(parts, name):
    with pytest.raises(ModelError, match=name):
        use(changed(parts, **{name: None}))


def test_damaged_tables_are_refused(parts):
    counts = parts[1]["details.counts"].copy()
    counts[3] += 1
    with pytest.raises(ModelError, match=r"'details'.*damaged"):
        Codec(unpack_model(changed(parts, **{"details.counts": counts})))
    with pytest.raises(ModelError, match=r"'low'.*damaged"):
        Codec(unpack_model(changed(parts, **{"low.counts": parts[1]["low.counts"][:-1]})))


def test_a_number_of_a_table_that_is_not_there_is_refused(parts):
    name = "low.corner"
    for value in (-1, 10_000):
        numbers = parts[1][name].copy()
        numbers.flat[0] = value
        with pytest.raises(ModelError, match="names tables that it does not hold"):
            PyramidCoder.of(unpack_model(changed(parts, **{name: numbers})))
    with pytest.raises(ModelError):
        PyramidCoder.of(unpack_model(changed(parts, **{name: parts[1][name][:1]})))


def test_a_codec_file_of_an_earlier_build_is_named(parts):
    with pytest.raises(ModelError, match="earlier build"):
        Codec(unpack_model(changed(parts, **{"low.index": None, "low.number": np.zeros((5, 2, 3, 8), np.int16)})))


@pytest.mark.parametrize("name", ["low.index", "low.terms"])
@pytest.mark.parametrize("value", [-(2**15), 2**15 - 1])
def test_sums_of_the_low_band_name_no_table_beyond_the_last(parts, name, value):
    """Whatever the numbers, a table that is there is named: the same picture comes back."""
    image = photograph(70, 90, 3)
    right, wrong = (
        Codec(unpack_model(data))
        for data in (changed(parts), changed(parts, **{name: np.full_like(parts[1][name], value)}))
    )
    files = right.compress(image, 60), wrong.compress(image, 60)
    assert len(files[1]) > len(files[0])
    shown = right.decompress(files[0]).pixels, wrong.decompress(files[1]).pixels
    assert abs(psnr(image, shown[0]) - psnr(image, shown[1])) < 0.5  # shifts of tables may change a rounding


@pytest.mark.parametrize(
    "name", ["graph.analysis", "graph.reanalysis", "graph.moments", "graph.coarse", "graph.level1.start"]
)
def test_a_damaged_graph_is_named(parts, name):
    graph = parts[1][name].copy()
    for damaged in (graph[: graph.size // 2], np.zeros(10, np.uint8)):
        with pytest.raises(ModelError, match=name.removeprefix("graph.")):
            use(changed(parts, **{name: damaged}))


@pytest.mark.parametrize("name", ["analysis", "synthesis", "reanalysis", "moments"])
def test_a_graph_of_the_wrong_type_is_named(parts, name):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(parts[1][f"graph.{name}"].tobytes())
    for output in model.graph.output:
        model.graph.node.append(onnx.helper.make_node("Cast", [output.name], [f"{output.name}.whole"], to=6))
        output.name += ".whole"
        output.type.tensor_type.elem_type = 6  # int32
    whole = np.frombuffer(model.SerializeToString(), dtype=np.uint8)
    with pytest.raises(ModelError, match=f"'{name}' .* do not fit together"):
        use(changed(parts, **{f"graph.{name}": whole}))


def test_a_graph_of_the_wrong_shape_is_named(parts):
    with pytest.raises(ModelError, match=r"'level3.start' .* failed"):
        use(changed(parts, **{"graph.entry3": parts[1]["graph.entry1"]}))


@pytest.mark.parametrize("name", ["no-such-model", "/no/such/file.codec", "/", ""])
def test_a_missing_model_is_refused_with_a_cure(name):
    with pytest.raises(ModelError, match="`rdae models` lists"):
        load_model(name)


def test_a_file_that_is_far_too_large_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "huge.codec"
    with open(path, "wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ModelError, match="at most"):
        load_model(path)


def test_a_codec_file_is_loaded_by_path(tiny, tmp_path):
    path = tmp_path / "own.codec"
    path.write_bytes(tiny.data)
    image = photograph(30, 40, 2)
    data = Codec(unpack_model(tiny.data)).compress(image)
    back = decompress(data, model=path, as_array=True)
    np.testing.assert_array_equal(back, Codec(load_model(path)).decompress(data).pixels)


def test_decoding_without_the_model_names_it(codec):
    stranger = bytes.fromhex("00c0ffee00c0ffee")
    data = serialise(Contents(Header(1, 100, 8, 8, stranger), [bytes(9)]))
    with pytest.raises(ModelError, match=rf"{stranger.hex()}.*--model"):
        codec_for(data)
    with pytest.raises(ModelError, match=rf"{stranger.hex()}.*this is {codec.model.name}"):
        codec.decompress(data)


def test_shipped_models_are_loaded_by_name():
    for name, path in shipped_models().items():
        assert load_model(name).identity == hashlib.sha256(path.read_bytes()).digest()[:8]
