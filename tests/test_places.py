"""URLs: what holds for a path of this machine holds in a store, whatever the store does."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("upath")
fsspec = pytest.importorskip("fsspec")

from fsspec.implementations.local import LocalFileSystem

from rdae.coding import files
from rdae.coding.archive import Archive
from rdae.coding.files import SUFFIX, clear_partial, is_image, plan, whole_file
from rdae.coding.model import shipped_models
from rdae.coding.places import PUT_WHOLE, at_hand, place, put_whole, search, state
from rdae.errors import ImageError, MissingExtraError

needs_model = pytest.mark.skipif("photo" not in shipped_models(), reason="the package ships no model yet")
PICTURES = ("one.png", "sub/deep/three.bmp", "sub/two.jpg")
LEFT_OUT = (".hidden.png", ".dot/four.png", "notes.txt")


class PlainStore(LocalFileSystem):
    """A store of files, not of objects, as most are: a file is there while it is written, a move onto one fails."""

    protocol = "plain"
    fails_at = ""  # what `put_file` and `ls` cannot do
    seen: list[list[str]] = []  # names beside a file while it is put, but for those that are hidden

    @classmethod
    def _strip_protocol(cls, path):
        return LocalFileSystem._strip_protocol(path.removeprefix("plain://"))

    def put_file(self, lpath, rpath, **kwargs):
        if self.fails_at == "put":
            Path(rpath).write_bytes(b"half")
            raise RuntimeError("the line is broken")
        Path(rpath).touch()
        self.seen.append(sorted(p.name for p in Path(rpath).parent.iterdir() if not p.name.startswith(".")))
        super().put_file(lpath, rpath)

    def ls(self, path, detail=False, **kwargs):
        if self.fails_at and path.endswith(self.fails_at):
            raise RuntimeError("no entry")
        return super().ls(path, detail=detail, **kwargs)

    def mv(self, path1, path2, **kwargs):
        if Path(path2).exists():
            raise FileExistsError(path2)
        Path(path1).rename(path2)


fsspec.register_implementation("plain", PlainStore, clobber=True)


@pytest.fixture
def store(monkeypatch):
    """The store in memory, empty at first."""
    memory = fsspec.filesystem("memory")
    monkeypatch.setattr(type(memory), "store", {})
    monkeypatch.setattr(type(memory), "pseudo_dirs", [""])
    return memory


@pytest.fixture
def plain(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(PlainStore, "seen", [])
    (tmp_path / "plain").mkdir()
    return place(f"plain://{tmp_path}/plain")


@pytest.fixture
def pictures(tmp_path) -> dict[str, bytes]:
    """A folder `in` with small pictures, nested, and what is to be left out of it."""
    rng, made = np.random.default_rng(0), {}
    for name in (*PICTURES, *LEFT_OUT):
        image, file = Image.fromarray(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)), io.BytesIO()
        image.save(file, "JPEG" if name.endswith("jpg") else "BMP" if name.endswith("bmp") else "PNG")
        made[name] = file.getvalue()
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(made[name])
    return made


def fill(folder: Path, contents: dict[str, bytes]) -> None:
    for name, data in contents.items():
        with whole_file(folder / name) as file:
            file.write(data)


def names(folder: Path) -> list[str]:
    return sorted(path.as_posix() for path in search(folder, []))


@pytest.fixture
def server(tmp_path):
    """A web server of `tmp_path`; gives its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


# --- what a place is


def test_paths_stay_paths_and_urls_of_this_machine_become_paths():
    for text, path in (
        ("a/b", "a/b"),
        ("C://x", "C:/x"),
        ("a:b", "a:b"),
        ("a::b", "a::b"),
        ("file:///x/y z", "/x/y z"),
        ("-", "-"),
    ):
        assert type(place(text)) is type(Path())
        assert place(text) == Path(path)


@needs_model
def test_a_url_that_cannot_be_used_is_told_with_the_cure(rdae, monkeypatch):
    code, _, error = rdae("compress", "nonsense://x/y")
    assert code == 2
    assert "nonsense://x/y cannot be used" in error
    code, _, error = rdae("compress", "ftp://127.0.0.1:1/x")
    assert code == 1
    assert "ftp://127.0.0.1:1/x cannot be reached" in error
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtraError, match="driver of s3"):
        place("s3://bucket/x")
    monkeypatch.setitem(sys.modules, "upath", None)
    for arguments in (("compress", "memory://x"), ("info", "memory://x"), ("pack", "in", "-o", "memory://x.zip")):
        code, out, error = rdae(*arguments)
        assert (code, out) == (1, "")
        assert 'pip install "rdae[remote]"' in error


@needs_model
def test_paths_of_this_machine_need_neither_fsspec_nor_dask(tmp_path, pictures):
    code = """
import sys
for name in ("fsspec", "upath", "dask", "distributed", "aiohttp"):
    sys.modules[name] = None  # cannot be imported
from rdae.cli.main import main
for line in ("compress in -o out", "decompress out -o back", "info out/one.rdae", "pack in -o a.zip", "verify a.zip"):
    sys.argv = ["rdae", *line.split()]
    assert main() == 0, line
sys.argv = ["rdae", "compress", "in", "-o", "away", "--dask", "tcp://127.0.0.1:1"]
assert main() == 1
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert 'pip install "rdae[cluster]"' in done.stderr


# --- searching


def test_what_is_found_in_a_store_is_what_is_found_in_a_folder(tmp_path, store, plain, pictures):
    here = [(tmp_path / "in", tmp_path / "out")]
    stored = [(place("memory://in"), place("memory://out")), (plain / "in", place("memory://out"))]
    for source, _ in stored:
        fill(source, pictures)
    for source, target in here + stored:
        jobs = plan([source], target, SUFFIX, wanted=is_image).jobs
        assert [str(job.source).removeprefix(f"{source}/") for job in jobs] == list(PICTURES)
        assert [str(job.target) for job in jobs] == [f"{target}/{Path(name).with_suffix(SUFFIX)}" for name in PICTURES]
        beside = plan([source], None, SUFFIX, wanted=is_image).jobs
        assert [job.target for job in beside] == [job.source.with_suffix(SUFFIX) for job in jobs]


def test_a_listing_that_leads_out_of_its_folder_is_not_followed(monkeypatch, plain):
    told = [
        "../up.png",
        "/etc/out.png",
        "in/../../x.png",
        "in/a.png",
        "in/a/b.png",
        "in/",
        "in",
        "in//",
        "in/..",
        "inn/c",
    ]
    root = plain.path
    listing = [{"name": f"{root}/{name}", "type": "file"} for name in told]
    listing += [{"name": f"{root}/in/..", "type": "directory"}, {"name": "/etc", "type": "directory"}]
    monkeypatch.setattr(PlainStore, "ls", lambda self, path, **kwargs: listing)
    assert names(plain / "in") == ["a.png"]


def test_an_archive_made_to_harm_writes_nothing_outside(tmp_path, pictures):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("one.png", "../../up.png", "/root.png", "sub/../../up2.png"):
            archive.writestr(name, pictures["one.png"])
    jobs = plan([place(f"zip://::{tmp_path}/in.zip")], tmp_path / "out", SUFFIX, wanted=is_image).jobs
    assert [job.target for job in jobs] == [tmp_path / "out" / "one.rdae", tmp_path / "out" / "root.rdae"]


def test_a_folder_that_cannot_be_listed_is_told_and_the_rest_is_found(plain, monkeypatch, pictures):
    fill(plain, pictures)
    monkeypatch.setattr(PlainStore, "fails_at", "deep")
    found = plan([plain], None, SUFFIX, wanted=is_image)
    assert len(found.jobs) == 2
    assert len(found.unreadable) == 1
    assert f"{plain}/sub/deep cannot be searched: no entry" in found.unreadable[0]


def test_two_inputs_for_one_output_and_inputs_written_over_are_refused_in_stores(store, pictures):
    fill(place("memory://in"), {"a.png": b"", "a.jpg": b"", "b.rdae": b""})
    with pytest.raises(ImageError, match="both be written"):
        plan([place("memory://in")], place("memory://out"), SUFFIX, wanted=is_image)
    with pytest.raises(ImageError, match="Name another output with -o"):
        plan([place("memory://in/b.rdae")], None, SUFFIX, wanted=is_image)


# --- whole files


def test_a_file_appears_in_a_store_once_it_is_complete(plain):
    target = plain / "new" / "a.rdae"
    for data in (b"1" * 9000, b"2" * 8000):  # the second time it is there already
        with whole_file(target) as file:
            file.write(data)
            assert not target.exists() or target.read_bytes() != data
        assert target.read_bytes() == data
    assert PlainStore.seen == [[], ["a.rdae"]]  # what was put had another name, and the old file stood
    assert [path.name for path in target.parent.iterdir()] == ["a.rdae"]


@pytest.mark.parametrize("kind", ["plain", "memory"])
def test_what_fails_half_way_leaves_no_file_and_the_old_one_as_it_was(plain, store, monkeypatch, kind):
    target = (plain if kind == "plain" else place("memory://out")) / "a.rdae"
    for old in (None, b"old"):
        if old is not None:
            fill(target.parent, {"a.rdae": old})
        with pytest.raises(RuntimeError, match="mine"), whole_file(target) as file:
            file.write(b"half")
            raise RuntimeError("mine")
        if kind == "plain":
            with monkeypatch.context() as broken, pytest.raises(ImageError, match="line is broken"):
                broken.setattr(PlainStore, "fails_at", "put")
                with whole_file(target) as file:
                    file.write(b"half")
        assert (target.read_bytes() if target.exists() else None) == old
        assert names(target.parent) == ([] if old is None else ["a.rdae"])
    if kind == "plain":
        assert [path.name for path in plain.iterdir()] == ["a.rdae"]  # nothing hidden either


def test_stores_of_objects_are_written_at_once(store, monkeypatch):
    assert "memory" in PUT_WHOLE
    put, seen = type(store).put_file, []
    monkeypatch.setattr(type(store), "put_file", lambda self, *a, **k: seen.append(a[1]) or put(self, *a, **k))
    monkeypatch.setattr(type(store), "mv", lambda *a, **k: pytest.fail("moved"))
    fill(place("memory://out"), {"a.rdae": b"x"})
    assert seen == ["/out/a.rdae"]


def test_partial_files_in_a_store_are_cleared_a_day_after_a_run_was_killed(plain, store, tmp_path):
    import os

    old, new = (tmp_path / "plain" / name for name in (".rdae-0a.partial", ".rdae-0b.partial"))
    for path in (old, new):
        path.touch()
    os.utime(old, (0, time.time() - files.STALE - 60))
    clear_partial([plain, plain / "nowhere", place("memory://nowhere")])
    assert [path.name for path in (tmp_path / "plain").iterdir()] == [new.name]


def test_a_file_written_again_has_another_state(tmp_path, store, plain):
    for folder in (tmp_path, place("memory://out"), plain):
        assert state(folder / "a") is None
        fill(folder, {"a": b"same"})
        first = state(folder / "a")
        assert first is not None
        assert state(folder / "a") == first
        time.sleep(0.01)
        fill(folder, {"a": b"same"})
        assert state(folder / "a") not in (None, first)


def test_a_copy_of_a_url_lies_at_hand_and_is_removed(store, tmp_path):
    fill(place("memory://x"), {"a.zip": b"zip"})
    with at_hand(place("memory://x/a.zip")) as path:
        assert path.read_bytes() == b"zip"
    assert not path.exists()
    with at_hand(tmp_path / "b") as path:
        assert path == tmp_path / "b"
    with pytest.raises(ImageError, match=r"memory://x/b\.zip cannot be read"), at_hand(place("memory://x/b.zip")):
        pass
    with pytest.raises(ImageError, match=r"broken: memory://x/a\.zip"), at_hand(place("memory://x/a.zip")) as path:
        raise ImageError(f"broken: {path}")  # a user knows the URL, not the copy


def test_what_cannot_be_put_is_told_by_its_url(tmp_path, plain, monkeypatch):
    monkeypatch.setattr(PlainStore, "fails_at", "put")
    (tmp_path / "x").write_bytes(b"1")
    with pytest.raises(ImageError, match=f"{plain}/y cannot be written: the line is broken"):
        put_whole(tmp_path / "x", plain / "y")


# --- the commands


@needs_model
def test_a_store_holds_what_a_folder_holds_and_a_second_run_completes(rdae, tmp_path, store, pictures):
    fill(place("memory://in"), pictures)
    assert rdae("compress", "in", "-o", "out", "--quiet")[0] == 0
    code, said, error = rdae("compress", "memory://in", "-o", "memory://out", "--jobs", 2, "--verify")
    assert (code, error) == (0, "")
    assert said.count("verified") == 3
    assert "memory://out/sub/two.rdae: 12 x 8" in said
    expected = {Path(name).with_suffix(SUFFIX).as_posix() for name in PICTURES}
    out = place("memory://out")
    assert set(names(out)) == expected
    for name in expected:
        assert (out / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    before = {name: state(out / name) for name in expected}
    (out / "sub" / "two.rdae").unlink()
    code, said, error = rdae("compress", "memory://in", "-o", "memory://out")
    assert (code, said.count("bytes")) == (0, 1)
    assert "2 of 3 files existed" in error
    assert {name for name in expected if state(out / name) != before[name]} == {"sub/two.rdae"}
    assert rdae("compress", "memory://in", "-o", "memory://out", "--overwrite", "-q", 20, "--quiet") == (0, "", "")
    assert not {name for name in expected if state(out / name) == before[name]}
    for where in ("memory://back", "back"):
        assert rdae("decompress", "memory://out", "-o", where, "--quiet") == (0, "", "")
        with Image.open(io.BytesIO((place(where) / "sub/deep/three.png").read_bytes())) as image:
            assert (image.format, image.size) == ("PNG", (12, 8))
    assert (tmp_path / "back" / "one.png").read_bytes() == (place("memory://back") / "one.png").read_bytes()
    code, said, _ = rdae("info", "memory://out/one.rdae", "--json")
    assert (code, json.loads(said)["width"]) == (0, 12)


@needs_model
def test_trouble_in_a_store_is_told_by_its_url_and_stops_no_other_file(
    rdae, tmp_path, store, plain, monkeypatch, pictures
):
    fill(place("memory://in"), {**pictures, "bad.png": b"broken"})
    code, said, error = rdae("compress", "memory://in", "-o", "memory://out")
    assert (code, said.count("bpp")) == (1, 3)
    assert "rdae: memory://in/bad.png: " in error
    assert len(names(place("memory://out"))) == 3
    for arguments, what in (
        (("compress", "memory://nowhere"), "memory://nowhere does not exist"),
        (("decompress", "memory://in/sub/two.jpg"), "not an rdae file"),
        (("info", "memory://in", "memory://gone.rdae"), "Name the files in it"),
        (("info", "memory://gone.rdae"), "gone.rdae cannot be read"),
        (("compress", "memory://in/one.png", "-o", "memory://out/x.png"), "Name it x.rdae"),
    ):
        code, _, error = rdae(*arguments)
        assert code == 1
        assert what in error
    monkeypatch.setattr(PlainStore, "fails_at", "put")
    code, _, error = rdae("compress", "memory://in/one.png", "-o", f"{plain}/")
    assert code == 1
    assert "one.rdae cannot be written: the line is broken" in error
    assert list(plain.iterdir()) == []


@needs_model
def test_pictures_are_read_from_the_web_and_from_zip_files(rdae, tmp_path, server, pictures):
    assert rdae("compress", "in", "-o", "out", "--quiet")[0] == 0
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name, data in pictures.items():
            archive.writestr(name, data)
    for k, source in enumerate(
        (f"{server}/in", f"{server}/in/", "zip://::in.zip", f"zip://::simplecache::{server}/in.zip")
    ):
        code, said, error = rdae("compress", source, "-o", f"to{k}")
        assert (error, code, said.count("bpp")) == ("", 0, 3)
        for name in PICTURES:
            path = Path(name).with_suffix(SUFFIX)
            assert (tmp_path / f"to{k}" / path).read_bytes() == (tmp_path / "out" / path).read_bytes()
        code, _, error = rdae("compress", source)
        assert code == 1
        assert "only read. Name another output with -o" in error
    assert rdae("compress", f"{server}/in/one.png?key=1.5/b", "-o", "one", "--quiet") == (0, "", "")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["one.rdae"]
    code, _, error = rdae("compress", "in", "-o", f"{server}/out")
    assert code == 1
    assert "only read" in error
    assert rdae("info", f"{server}/out/one.rdae")[0] == 0
    code, _, error = rdae("compress", f"{server}/in/gone.png", "-o", "x")
    assert code == 1
    assert "gone.png does not exist" in error


@needs_model
def test_archives_are_packed_to_urls_and_read_from_them(rdae, tmp_path, store, server, pictures):
    fill(place("memory://in"), pictures)
    assert rdae("pack", "in", "-o", "here.zip", "--quiet")[0] == 0
    code, said, error = rdae("pack", "memory://in", "-o", "memory://a.zip")
    assert (code, error) == (0, "")
    assert said.splitlines()[-1].startswith("memory://a.zip: 3 images")
    url = place("memory://a.zip")
    assert url.read_bytes() == (tmp_path / "here.zip").read_bytes()
    code, _, error = rdae("pack", "memory://in", "-o", "memory://a.zip")
    assert code == 1
    assert "Pass --append" in error
    fill(place("memory://in"), {"new.png": pictures["one.png"], "bad.png": b"broken"})
    code, said, error = rdae("pack", "memory://in", "-o", "memory://a.zip", "--append")
    assert code == 1
    assert "rdae: memory://in/bad.png: " in error
    assert "3 names were in memory://a.zip before" in error
    code, said, _ = rdae("list", "memory://a.zip", "--json")
    assert (code, sorted(json.loads(said)["members"])) == (
        0,
        ["new.rdae", "one.rdae", "sub/deep/three.rdae", "sub/two.rdae"],
    )
    assert rdae("verify", "memory://a.zip")[1] == "memory://a.zip: 4 of 4 images are whole\n"
    assert rdae("unpack", f"{server}/here.zip", "-o", "memory://out", "--quiet") == (0, "", "")
    assert rdae("unpack", "here.zip", "-o", "out", "--quiet") == (0, "", "")
    for name in PICTURES:
        path = Path(name).with_suffix(".png").as_posix()
        assert (place("memory://out") / path).read_bytes() == (tmp_path / "out" / path).read_bytes()
    fill(place("memory://"), {"broken.zip": b"PK\x03\x04"})
    code, _, error = rdae("unpack", "memory://broken.zip", "-o", "out")
    assert code == 1
    assert "memory://broken.zip" in error
    fill(place("memory://only"), {"bad.png": b"broken"})
    code, _, error = rdae("pack", "memory://only", "-o", "memory://none.zip")
    assert code == 1
    assert "memory://none.zip was not written" in error
    assert not place("memory://none.zip").exists()
    with at_hand(url) as path, Archive(path) as archive:
        assert len(archive.names) == 4
