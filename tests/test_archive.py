"""Archives: one file for a folder, with what was adapted; and archives made to harm."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import photograph
from PIL import Image
from test_hostile import bounded
from test_layers import WITHOUT_TORCH

from rdae.coding import delta, weight_steps
from rdae.coding.archive import DELTA, MANIFEST, Archive, Carried, carried, unpack_member, verify
from rdae.coding.delta import apply_delta, make_delta, parent_identity
from rdae.coding.files import Job
from rdae.coding.model import load_model, shipped_models, unpack_model
from rdae.coding.packing import pack
from rdae.coding.registry import load, shipped_bytes
from rdae.errors import FormatError, ImageError, LimitError, ModelError, RdaeError

pytestmark = pytest.mark.skipif("photo" not in shipped_models(), reason="the package ships no model yet")
SIZES = {"a.png": (40, 56), "b/c.png": (64, 64), "b/d.jpg": (33, 47), "e.png": (20, 24)}


def parent() -> bytes:
    return shipped_models()["photo"].read_bytes()


def neighbour(seed: int = 0, share: float = 0.05, **card) -> bytes:
    """A codec file a few steps of the grid away from the shipped one."""
    rng, layout = np.random.default_rng(seed), delta._layout(parent())
    changes = []
    for array, region in layout.regions:
        size = (region.stop - region.start) // np.dtype(region.dtype).itemsize
        steps = rng.integers(-2, 3, size) * (rng.random(size) < share) * array.startswith("graph.")
        changes.append(steps.astype(np.int32))
    told = {**load_model("photo").card, "parent": load_model("photo").identity.hex(), **card}
    return delta._result(layout, changes, json.dumps(told).encode())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed, (name, size) in enumerate(SIZES.items()):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(photograph(*size, seed)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A codec file adapted from the shipped one."""
    path = tmp_path_factory.mktemp("own") / "own.codec"
    path.write_bytes(neighbour())
    return path


def jobs(folder: Path, names=SIZES) -> list[Job]:
    return [Job(folder / name, Path(name).with_suffix(".rdae")) for name in names]


def packed(path: Path, folder: Path, model="photo", names=SIZES, **options) -> Path:
    """An archive of some pictures."""
    codec = options.pop("codec", None) or load(model, threads=1)
    outcomes = list(pack(path, jobs(folder, names), codec, carried(model), quality=40, **options))
    assert not [outcome.error for outcome in outcomes if outcome.error]
    return path


@pytest.fixture(scope="module")
def plain(pictures, tmp_path_factory) -> Path:
    return packed(tmp_path_factory.mktemp("plain") / "plain.zip", pictures)


@pytest.fixture(scope="module")
def adapted(pictures, own, tmp_path_factory) -> Path:
    return packed(tmp_path_factory.mktemp("adapted") / "adapted.zip", pictures, own)


# --- deltas --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_a_delta_gives_the_adapted_codec_to_the_bit(share):
    codec = neighbour(1, share)
    change = make_delta(parent(), codec)
    assert parent_identity(change) == load_model("photo").identity
    assert apply_delta(parent(), change) == codec
    assert unpack_model(apply_delta(parent(), change)).identity == unpack_model(codec).identity
    regions = delta._layout(parent()).regions
    weights = sum((r.stop - r.start) // np.dtype(r.dtype).itemsize for name, r in regions if name.startswith("graph."))
    # bits of a number that is 0, or one of -2 ... 2 with chance `share`; tables fit no such law, but within a quarter
    zero = 1 - 0.8 * share
    bits = -zero * np.log2(zero) - sum(0.2 * share * np.log2(0.2 * share) for _ in range(4) if share)
    assert len(change) < 1.25 * weights * bits / 8 + 2048


def test_a_codec_file_is_found_by_its_identity():
    assert shipped_bytes(load_model("photo").identity) == parent()
    with pytest.raises(ModelError, match="0102030405060708 does not ship with this version"):
        shipped_bytes(bytes(range(1, 9)))


def test_weights_between_the_steps_of_the_grid_go_to_the_nearest():
    layout = delta._layout(parent())
    rng = np.random.default_rng(3)
    for array, region in layout.regions:
        if region.kind == "grid":
            weights = weight_steps.numbers_of(layout.arrays[array], region)
            grid = weight_steps._grid(weights, region.rows)
            wished = (weights + rng.normal(0, 5, weights.size) * grid).astype(np.float32)
            reached = weight_steps.moved(weights, weight_steps.steps_to(weights, wished, region), region, "test")
            slack = np.abs(wished) * 2.0**-23
            assert (np.abs(reached.astype(np.float64) - wished) <= grid / 2 + slack).all()
            again = weight_steps.moved(weights, weight_steps.steps_to(weights, reached, region), region, "test")
            np.testing.assert_array_equal(reached, again)


def test_the_weights_of_convolutions_are_found_as_onnx_finds_them():
    onnx = pytest.importorskip("onnx")
    layout = delta._layout(parent())
    for name, data in layout.arrays.items():
        if name.startswith("graph."):
            graph = onnx.load_from_string(data).graph
            used = {x for node in graph.node if node.op_type == "Conv" for x in node.input[1:3]}
            used |= {node.input[k] for node in graph.node if node.op_type == "QLinearConv" for k in (3, 4, 8)}
            due = [t.raw_data for t in graph.initializer if t.name in used]
            assert [data[r.start : r.stop] for array, r in layout.regions if array == name] == due


def test_networks_of_bytes_change_by_whole_numbers_and_doublings(monkeypatch):
    onnx = pytest.importorskip("onnx")
    from safetensors.numpy import save

    def codec(weight, step, bias) -> bytes:
        arrays = {
            "w": np.int8(weight),
            "s": np.float32(step),
            "b": np.int32(bias),
            "one": np.float32(1),
            "o": np.uint8(0),
        }
        names = ["x", "one", "o", "w", "s", "z", "one", "o", "b"]
        arrays["z"] = np.zeros(len(weight), np.int8)
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("QLinearConv", names, ["y"])], "g", [], [],
            [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
        )  # fmt: skip
        data = onnx.helper.make_model(graph).SerializeToString()
        return save({"graph.g": np.frombuffer(data, np.uint8), "card": np.frombuffer(b"{}", np.uint8)})

    rng = np.random.default_rng(0)
    weight = rng.integers(-63, 64, (4, 8, 1, 1))
    shipped = codec(weight, [0.25, 0.5, 0.25, 2.0], [1, -20_000, 3, 4])
    for step in ([0.25, 0.5, 0.25, 2.0], [0.5, 0.5, 0.0625, 2.0]):
        wished = codec(np.clip(weight + rng.integers(-3, 4, weight.shape), -63, 63), step, [1, 5, 3, 70_000])
        change = make_delta(shipped, wished)
        result = apply_delta(shipped, change)
        assert delta._arrays(result)["graph.g"] == delta._arrays(wished)["graph.g"]
        assert make_delta(shipped, result) == change


@pytest.mark.parametrize("what", ["lam", "graph", "shape", "more", "node"])
def test_a_codec_of_another_kind_has_no_delta(what):
    from safetensors.numpy import load as load_arrays
    from safetensors.numpy import save as save_arrays

    arrays = {name: array.copy() for name, array in load_arrays(parent()).items()}
    if what == "lam":
        arrays["lam"] *= 2
    elif what == "graph":
        arrays["graph.low"] = arrays["graph.low"][:-1]
    elif what == "shape":
        arrays["quality"] = arrays["quality"][:-1]
    elif what == "more":
        arrays["more"] = np.zeros(1, np.int32)
    else:  # the graph itself, at the same length
        place = arrays["graph.low"].tobytes().index(b"Conv")
        arrays["graph.low"][place] ^= 1
    with pytest.raises(ModelError, match="more than numbers"):
        make_delta(parent(), save_arrays(arrays))


def test_a_delta_of_another_parent_is_refused():
    change = make_delta(neighbour(1), neighbour(2))
    with pytest.raises(ModelError, match="Install the version"):
        apply_delta(parent(), change)


@pytest.mark.parametrize("claim", [2**32 - 1, 1 << 16, 70_000])
def test_a_delta_that_claims_much_is_refused(claim):
    change = bytearray(make_delta(parent(), neighbour()))
    struct.pack_into("<I", change, delta.HEAD.size - 4, claim)
    with bounded(), pytest.raises(FormatError):
        apply_delta(parent(), bytes(change))


def test_a_hundred_hostile_deltas():
    codec = neighbour()
    good = make_delta(parent(), codec)
    rng, refused = np.random.default_rng(5), 0
    for _ in range(100):
        bad = bytearray(good)
        for _ in range(int(rng.integers(1, 4))):
            end = len(bad) if rng.random() < 0.5 else 1200  # the head, the card and the tables as often as the stream
            bad[int(rng.integers(min(end, len(bad))))] = int(rng.integers(256))
        if rng.random() < 0.3:
            del bad[int(rng.integers(len(bad))) :]
        try:
            assert apply_delta(parent(), bytes(bad)) == codec
        except RdaeError:
            refused += 1
    assert refused > 80


# --- archives ------------------------------------------------------------------------------------------------------


def test_the_same_pictures_give_the_same_bytes(plain, adapted, pictures, own, tmp_path):
    assert packed(tmp_path / "again.zip", pictures).read_bytes() == plain.read_bytes()
    assert packed(tmp_path / "two.zip", pictures, own, workers=2).read_bytes() == adapted.read_bytes()


def test_an_archive_is_a_zip_of_stored_members(adapted):
    with zipfile.ZipFile(adapted) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == [DELTA, "a.rdae", "b/c.rdae", "b/d.rdae", "e.rdae", MANIFEST]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        told = json.loads(archive.read(MANIFEST))
        for name in names[:-1]:
            data = archive.read(name)
            assert told["members"][name] == [len(data), hashlib.sha256(data).hexdigest()]


def test_members_decode_as_single_files_do(plain, adapted, pictures, own):
    for path, codec in ((plain, load("photo", threads=1)), (adapted, load(own, threads=1))):
        with Archive(path, threads=1) as archive:
            assert archive.names == ["a.rdae", "b/c.rdae", "b/d.rdae", "e.rdae"]
            assert archive.identity == codec.model.identity
            for job in jobs(pictures):
                name = job.target.as_posix()
                assert archive.read(name) == codec.compress(job.source, 40)
                np.testing.assert_array_equal(archive.picture(name).pixels, codec.decompress(archive.read(name)).pixels)


def test_an_adapted_archive_needs_nothing_but_the_package(adapted, pictures, own, tmp_path):
    """No PyTorch, and no codec file."""
    code = """
import sys
from pathlib import Path
from rdae.cli.main import main
sys.argv = ["rdae", "unpack", sys.argv[1], "b/c.rdae", "a.rdae", "-o", sys.argv[2]]
sys.exit(main())
"""
    arguments = [sys.executable, "-c", WITHOUT_TORCH + code, str(adapted), str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.png"))
    assert found == ["out/a.png", "out/b/c.png"]
    codec = load(own, threads=1)
    shown = codec.decompress(codec.compress(pictures / "a.png", 40)).pixels
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/a.png")), shown)


@pytest.mark.parametrize("model", ["photo", "own"])
def test_appending_gives_the_archive_of_all(plain, adapted, pictures, own, tmp_path, model):
    whole, name = (plain, "photo") if model == "photo" else (adapted, own)
    path = packed(tmp_path / "grown.zip", pictures, name, ["b/c.png", "e.png"])
    base = Archive(path, threads=1)
    outcomes = list(
        pack(path, jobs(pictures, ["a.png", "b/d.jpg"]), base.codec(), base.carried(), base=base, quality=40)
    )
    assert len(outcomes) == 2
    assert path.read_bytes() == whole.read_bytes()


def test_archives_beyond_four_gigabytes_are_read(pictures, tmp_path, monkeypatch):
    """With the extension of zip that large ones need, here forced upon a small one."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 200)
    path = packed(tmp_path / "large.zip", pictures)
    assert b"PK\x06\x07" in path.read_bytes()
    with Archive(path, threads=1) as archive:
        assert not [wrong for _, wrong in verify(archive) if wrong]


def test_a_broken_picture_stops_only_itself(pictures, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    work = [
        *jobs(pictures, ["a.png"]),
        Job(tmp_path / "bad.png", Path("bad.rdae")),
        Job(pictures / "e.png", Path("a:b.rdae")),
    ]
    outcomes = list(pack(tmp_path / "some.zip", work, load("photo", threads=1), carried("photo")))
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, True]
    with Archive(tmp_path / "some.zip") as archive:
        assert archive.names == ["a.rdae"]


def test_an_archive_appears_whole_or_not_at_all(pictures, tmp_path):
    codec, model = load("photo", threads=1), carried("photo")
    running = pack(tmp_path / "cut.zip", jobs(pictures), codec, model)
    next(running)
    running.close()
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(ImageError, match="No picture could be compressed"):
        list(pack(tmp_path / "none.zip", [Job(tmp_path / "bad.png", Path("bad.rdae"))], codec, model))
    assert [p.name for p in tmp_path.iterdir()] == ["bad.png"]


def test_a_model_that_no_one_has_is_not_packed(tmp_path):
    for name, codec in (("stranger", neighbour(1, parent=None)), ("orphan", neighbour(1, parent="00" * 8))):
        path = tmp_path / f"{name}.codec"
        path.write_bytes(codec)
        with pytest.raises(ModelError, match=r"rdae train --from photo|Install the one"):
            carried(path)


def test_a_codec_between_the_steps_is_not_packed(tmp_path):
    """Nobody could unpack what the codec beside the delta's had compressed."""
    layout = delta._layout(parent())
    (array, region), data = next(item for item in layout.regions if item[1].kind == "grid"), bytearray(parent())
    at = bytes(data).index(layout.arrays[array]) + region.start
    (weight,) = struct.unpack_from("<f", data, at)
    struct.pack_into("<f", data, at, weight + 2.0**-20)
    change = [np.zeros((r.stop - r.start) // np.dtype(r.dtype).itemsize, np.int32) for _, r in layout.regions]
    card = json.dumps({**load_model("photo").card, "parent": load_model("photo").identity.hex()}).encode()
    moved = delta._layout(bytes(data))
    (tmp_path / "own.codec").write_bytes(delta._result(moved, change, card))
    with pytest.raises(ModelError, match="between the delta's steps"):
        carried(tmp_path / "own.codec")


def test_unpacking_writes_the_format_that_was_asked_for(plain, tmp_path):
    with Archive(plain, threads=1) as archive:
        unpack_member(archive, "a.rdae", tmp_path / "deep" / "a.tif")
        assert Image.open(tmp_path / "deep" / "a.tif").size == (56, 40)
        with pytest.raises(FormatError, match=r"no member 'x'.*rdae list"):
            archive.read("x")


# --- the command line ----------------------------------------------------------------------------------------------


def rdae(monkeypatch, *arguments) -> int:
    from rdae.cli.main import main

    monkeypatch.setattr(sys, "argv", ["rdae", *map(str, arguments)])
    return main()


def test_the_commands_pack_list_verify_append_and_unpack(pictures, own, tmp_path, monkeypatch, capsys):
    path, few = tmp_path / "own.zip", tmp_path / "few"
    few.mkdir()
    (few / "new.png").write_bytes((pictures / "a.png").read_bytes())
    assert rdae(monkeypatch, "pack", pictures, "-o", path, "--model", own, "-q", 30, "-j", 2) == 0
    assert "takes" in capsys.readouterr().err  # four pictures are fewer than a model is worth
    assert rdae(monkeypatch, "pack", few, "-o", path) == 1
    assert "--append" in capsys.readouterr().err
    assert rdae(monkeypatch, "pack", few, "-o", path, "--append", "-q", 30, "--model", "photo") == 1
    assert "its own" in capsys.readouterr().err
    assert rdae(monkeypatch, "pack", few, "-o", path, "--append", "-q", 30) == 0
    capsys.readouterr()
    assert rdae(monkeypatch, "list", path, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts["members"]) == ["a.rdae", "b/c.rdae", "b/d.rdae", "e.rdae", "new.rdae"]
    assert facts["adapted_bytes"] > 0
    assert facts["bytes"] == path.stat().st_size
    assert rdae(monkeypatch, "verify", path) == 0
    assert "5 of 5 images are whole" in capsys.readouterr().out
    assert rdae(monkeypatch, "unpack", path, "-o", tmp_path / "out", "new.rdae", "b/d.rdae", "-f", "ppm") == 0
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.ppm")) == ["d.ppm", "new.ppm"]
    assert rdae(monkeypatch, "unpack", path, "-o", tmp_path / "out", "nothing") == 1


def test_a_link_does_not_lead_out_of_the_folder(plain, tmp_path, monkeypatch, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "b").symlink_to(tmp_path / "elsewhere")
    assert rdae(monkeypatch, "unpack", plain, "-o", tmp_path / "out") == 1
    assert "leads out of" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())


# --- archives made to harm -----------------------------------------------------------------------------------------


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: list[tuple[str, bytes]], *, told=None, compress=zipfile.ZIP_STORED) -> bytes:
    """An archive with a manifest that fits, or with the one of `told`; a writer that checks nothing."""
    if told is None:
        model = {"name": "photo", "identity": load_model("photo").identity.hex()}
        entries = {name: [len(data), hashlib.sha256(data).hexdigest()] for name, data in members}
        told = json.dumps({"version": 1, "model": model, "members": entries}).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compress) as archive:
        for name, data in [*members, (MANIFEST, told)]:
            archive.writestr(zipfile.ZipInfo(name), data, compress)
    return buffer.getvalue()


def opened(tmp_path: Path, data: bytes) -> Archive:
    path = tmp_path / "bad.zip"
    path.write_bytes(data)
    with bounded():
        return Archive(path, threads=1)


def test_the_unchecked_writer_can_tell_the_truth(plain, tmp_path):
    members = [(name, data) for name, data in members_of(plain).items() if name != MANIFEST]
    with opened(tmp_path, zipped(members)) as archive:
        assert not [wrong for _, wrong in verify(archive) if wrong]


@pytest.mark.parametrize(
    "name",
    ["../a.rdae", "/a.rdae", "b/../../a.rdae", "b//a.rdae", "./a.rdae", "..\\a.rdae", "C:a.rdae", "a.png", "b/",
     ".rdae/..", "a\x1b[2J.rdae", "a\n.rdae", "x" * 600 + ".rdae", "b./a.rdae", "b /a.rdae", "a.rdae\0.rdae"],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(plain, tmp_path, name):
    data = members_of(plain)["a.rdae"]
    with pytest.raises(FormatError, match=r"cannot be the name|read otherwise|disagree"):
        opened(tmp_path, zipped([(name, data)]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_occur_twice_are_refused(plain, tmp_path):
    data = members_of(plain)["a.rdae"]
    with pytest.raises(FormatError, match="twice"):
        opened(tmp_path, zipped([("a.rdae", data), ("a.rdae", data)]))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_members_are_refused(tmp_path, method):
    bomb = zipped([("a.rdae", bytes(1 << 24))], compress=method)
    assert len(bomb) < 1 << 17
    with pytest.raises(FormatError, match="compressed or encrypted"):
        opened(tmp_path, bomb)


@pytest.mark.parametrize(
    ("told", "match"),
    [
        (b"", "manifest"), (b"\xff", "manifest"), (b"[]", "manifest"), (b"{}", "manifest"), (b"null", "manifest"),
        (b"[" * 900, "manifest"), (b'{"version":1}', "manifest"), (b'{"version":2}', "version 2"),
        (b'{"version":1,"model":{"name":"x","identity":"zz"},"members":{}}', "manifest"),
        (b'{"version":1,"model":{"name":"x","identity":"00"},"members":{}}', "disagree"),
        (b'{"version":1,"model":{"name":"x","identity":"00"},"members":{"a.rdae":[1]}}', "manifest"),
        (b'{"version":1,"model":{"name":"x","identity":"00"},"members":{"a.rdae":["1","2"]}}', "disagree"),
        (b" " * 20_000, "too long"),
    ],
)  # fmt: skip
def test_lies_of_the_manifest_are_refused(plain, tmp_path, told, match):
    with pytest.raises(FormatError, match=match):
        opened(tmp_path, zipped([("a.rdae", members_of(plain)["a.rdae"])], told=told))


def test_a_member_with_another_checksum_is_refused_before_it_is_decoded(plain, tmp_path):
    members = members_of(plain)
    told = members.pop(MANIFEST)
    members["a.rdae"] = bytes(len(members["a.rdae"]))
    with opened(tmp_path, zipped(list(members.items()), told=told)) as archive:
        with pytest.raises(FormatError, match=r"checksum of a\.rdae"):
            archive.read("a.rdae")
        assert [name for name, wrong in verify(archive) if wrong] == ["a.rdae"]


def test_the_model_of_the_pictures_must_be_that_of_the_delta(adapted, tmp_path):
    members = members_of(adapted)
    members[DELTA] = make_delta(parent(), neighbour(9))
    told = json.loads(members.pop(MANIFEST))
    told["members"][DELTA] = [len(members[DELTA]), hashlib.sha256(members[DELTA]).hexdigest()]
    with (
        opened(tmp_path, zipped(list(members.items()), told=json.dumps(told).encode())) as archive,
        pytest.raises(ModelError, match=r"not .*, which made the pictures"),
    ):
        archive.picture("a.rdae")


@pytest.mark.parametrize("count", [0, 1, 3, 65_002, 65_535])
def test_a_false_count_of_members_is_refused(plain, tmp_path, count):
    data = bytearray(zipped([("a.rdae", members_of(plain)["a.rdae"])]))
    struct.pack_into("<2H", data, len(data) - 14, count, count)
    with pytest.raises((FormatError, LimitError)):
        opened(tmp_path, bytes(data))


@pytest.mark.parametrize("fields", [(2**32 - 1, 0), (0, 2**32 - 1), (1 << 26, 0), (50, 10)])
def test_a_directory_that_is_not_there_is_refused(plain, tmp_path, fields):
    data = bytearray(zipped([("a.rdae", members_of(plain)["a.rdae"])]))
    struct.pack_into("<2I", data, len(data) - 10, *fields)
    with pytest.raises((FormatError, LimitError)):
        opened(tmp_path, bytes(data))


def test_members_within_each_other_are_refused(plain, tmp_path):
    data = bytearray(zipped([("a.rdae", members_of(plain)["a.rdae"]), ("b.rdae", bytes(40))]))
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    struct.pack_into("<I", data, second + 42, 3)
    with pytest.raises(FormatError, match="within another"):
        opened(tmp_path, bytes(data))


def test_a_member_that_claims_more_than_the_file_is_refused(plain, tmp_path):
    data = bytearray(zipped([("a.rdae", members_of(plain)["a.rdae"])]))
    struct.pack_into("<2I", data, data.index(b"PK\x01\x02") + 20, 1 << 31, 1 << 31)
    with pytest.raises(FormatError, match=r"within another|disagree|beyond"):
        opened(tmp_path, bytes(data))


def test_a_great_many_members_are_refused_before_they_are_listed(tmp_path):
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * 300_000
    for count in (100, 65_000):
        end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(directory), 0, 0)
        with pytest.raises(FormatError, match="names more than"):
            opened(tmp_path, directory + end)


def test_an_archive_cut_short_is_refused(adapted, tmp_path):
    data = adapted.read_bytes()
    for length in [*range(60), *range(len(data) - 60, len(data)), *range(0, len(data), 997)]:
        with pytest.raises(FormatError):
            opened(tmp_path, data[:length])


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes changed, left out, doubled or moved; as often near the end, where the directory is."""
    bad = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        near = rng.random() < 0.6
        at = len(bad) - 1 - int(rng.integers(min(len(bad), 1400))) if near else int(rng.integers(len(bad)))
        kind = rng.random()
        if kind < 0.6:
            bad[at] = int(rng.integers(256))
        elif kind < 0.75:
            bad[at] ^= 1 << int(rng.integers(8))
        elif kind < 0.85:
            del bad[at : at + int(rng.integers(1, 50))]
        else:
            bad[at:at] = bad[at : at + int(rng.integers(1, 50))]
    return bytes(bad)


def test_four_hundred_hostile_archives(plain, adapted, tmp_path):
    """Each is refused by name, or holds what it held: bytes of members, and the codec that the delta gives."""
    rng, ends = np.random.default_rng(11), {"refused": 0, "same": 0}
    truth = {path: members_of(path) for path in (plain, adapted)}
    originals = {path: path.read_bytes() for path in truth}
    for number in range(400):
        source = adapted if number % 4 == 0 else plain
        path = tmp_path / "bad.zip"
        path.write_bytes(mutated(originals[source], rng))
        whole = True
        try:
            with Archive(path) as archive:
                for name in archive.names:
                    try:
                        assert archive.read(name) == truth[source][name]
                    except RdaeError:
                        whole = False
                carries = archive.carried()
                if carries.delta is not None:
                    assert carries.delta == truth[source][DELTA]
        except RdaeError:
            whole = False
        ends["same" if whole else "refused"] += 1
    assert min(ends.values()) > 5, ends


def test_a_hostile_archive_is_read_in_little_memory(adapted, tmp_path):
    rng = np.random.default_rng(12)
    for _ in range(30):
        path = tmp_path / "bad.zip"
        path.write_bytes(mutated(adapted.read_bytes(), rng))
        with bounded():
            try:
                with Archive(path) as archive:
                    for name in archive.names:
                        archive.read(name)
                    if archive.carried().delta is not None:
                        apply_delta(parent(), archive.carried().delta)
            except RdaeError:
                pass


def test_carried_is_what_the_archive_says(adapted, own):
    with Archive(adapted) as archive:
        assert archive.carried() == carried(own) == Carried("photo", archive.identity, archive.read(DELTA))
