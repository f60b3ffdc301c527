"""Many files: no input is lost, no output is half there, and no file's trouble is another's."""

from __future__ import annotations

import json
import os
import stat
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdae.cli import coding, running
from rdae.coding import files, model, one_file, registry
from rdae.coding.codec import Codec
from rdae.coding.files import SUFFIX, Job, clear_partial, is_image, plan, run_jobs, whole_file
from rdae.coding.model import shipped_models
from rdae.errors import FormatError, ImageError

needs_model = pytest.mark.skipif("photo" not in shipped_models(), reason="the package ships no model yet")


def pairs(jobs: list[Job], base: Path) -> list[tuple[str, str]]:
    return [(str(job.source.relative_to(base)), str(job.target.relative_to(base))) for job in jobs]


def planned(*inputs: Path, output: Path | None = None, suffix: str = SUFFIX) -> files.Plan:
    return plan(list(inputs), output, suffix, wanted=is_image)


@pytest.fixture
def picture(tmp_path) -> Path:
    """A picture of 20 x 16 pixels with alpha and EXIF."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (16, 20, 4), dtype=np.uint8), "RGBA")
    exif = Image.Exif()
    exif[0x010E] = "a description"
    image.save(tmp_path / "one.png", exif=exif)
    return tmp_path / "one.png"


# --- a plan


def test_hidden_folders_are_left_out_unless_named(tmp_path):
    for name in ("a.png", "sub/b.JPG", ".hidden/c.png", "sub/.thumbs/d.png", ".e.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = pairs(planned(tmp_path, output=tmp_path / "out").jobs, tmp_path)
    assert found == [("a.png", "out/a.rdae"), ("sub/b.JPG", "out/sub/b.rdae")]
    assert pairs(planned(tmp_path / ".hidden").jobs, tmp_path) == [(".hidden/c.png", ".hidden/c.rdae")]


def test_names_of_pictures_are_those_whose_pixels_can_be_read():
    assert all(is_image(Path(name)) for name in ("a.png", "a.JPG", "a.tiff", "a.webp", "a.ppm", "a.mpo", "a.gif"))
    assert not any(is_image(Path(name)) for name in ("a.pdf", "a.mpg", "a.h5", "a.grib", "a.wmf", "a.txt", "a.rdae"))


def test_a_target_that_is_an_input_is_refused(tmp_path):
    photo, other = tmp_path / "self.rdae", tmp_path / "other.rdae"
    photo.write_bytes(b"a photograph")
    other.symlink_to(photo)
    for inputs, output in (((photo,), photo), ((photo,), other), ((photo,), None), ((photo,), tmp_path)):
        with pytest.raises(ImageError, match="Name another output with -o"):
            planned(*inputs, output=output)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "photo.png").write_bytes(b"a photograph")
    (tmp_path / "photo.rdae").hardlink_to(tmp_path / "x" / "photo.png")  # another name of an input
    with pytest.raises(ImageError, match="Name another output with -o"):
        planned(tmp_path / "x", output=tmp_path)


def test_compressed_bytes_never_get_the_name_of_a_picture(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(ImageError, match=r"Name it keep\.rdae"):
        planned(tmp_path / "a.png", output=tmp_path / "keep.png")
    assert planned(tmp_path / "a.png", output=tmp_path / "keep.bin").jobs[0].target == tmp_path / "keep.bin"
    (tmp_path / "b.rdae").touch()
    with pytest.raises(ImageError, match=r"Use \.png"):
        planned(tmp_path / "b.rdae", output=tmp_path / "back.xyz", suffix=".png")


def test_what_is_no_file_or_folder_is_refused_by_name(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").touch()
    os.mkfifo(tmp_path / "pipe")
    for inputs, output, cure in (
        (("a.png",), "/dev/null", "Name a file"),
        (("pipe",), None, "Write what it gives to a file"),
        (("pipe",), "p.rdae", "Write what it gives to a file"),
        (("a.png", "b.png"), "a.png", "Name another with -o"),
    ):
        with pytest.raises(ImageError, match=cure):
            planned(*(tmp_path / name for name in inputs), output=output and tmp_path / output)
    with pytest.raises(ImageError, match="Write it to a file"):
        planned(Path("-"))
    with pytest.raises(ImageError, match="Name a file"):
        planned(tmp_path / "a.png", output=Path("-"))


def test_two_inputs_for_one_output_are_refused_however_spelt(tmp_path):
    (tmp_path / "x").mkdir()
    for name in ("a.png", "a.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(ImageError, match="both be written"):
        planned(tmp_path / "a.png", tmp_path / "x" / ".." / "a.jpg")


# --- whole files


def test_two_runs_may_write_one_name_at_once(tmp_path):
    target = tmp_path / "a.rdae"
    with whole_file(target) as first:
        first.write(b"1" * 9000)
        with whole_file(target) as second:
            second.write(b"2" * 8000)
        assert target.read_bytes() == b"2" * 8000
        first.write(b"1" * 1000)
    assert target.read_bytes() == b"1" * 10000
    with pytest.raises(RuntimeError), whole_file(target) as third:
        third.write(b"half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a.rdae"]
    assert target.read_bytes() == b"1" * 10000


def test_any_valid_name_will_do_and_permissions_are_the_users(tmp_path):
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / ("x" * 250 + SUFFIX)) as file:  # 255 bytes, the longest there is
            file.write(b"y")
    finally:
        os.umask(before)
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_partial_files_are_cleared_a_day_after_a_run_was_killed(tmp_path):
    old, new, strange = (tmp_path / name for name in (".rdae-0a.partial", ".rdae-0b.partial", ".x.partial"))
    for path in (old, new, strange):
        path.touch()
    for path in (old, strange):
        os.utime(path, (0, time.time() - files.STALE - 60))
    clear_partial([tmp_path, tmp_path / "nowhere"])
    assert sorted(tmp_path.iterdir()) == sorted([new, strange])


# --- several at once


@pytest.mark.parametrize("workers", [1, 2])
def test_whatever_one_file_raises_the_others_are_done(tmp_path, workers):
    trouble = [SyntaxError("bad tag"), struct.error("bad struct"), EOFError(), RuntimeError("x"), MemoryError(), None]

    def work(job: Job) -> str:
        error = trouble[int(job.source.name)]
        if error is not None:
            raise error
        return "done"

    jobs = [Job(Path(str(k)), tmp_path / str(k)) for k in range(len(trouble))]
    outcomes = sorted(run_jobs(jobs, work, workers=workers, overwrite=False), key=lambda o: o.job.source)
    said = [outcome.error for outcome in outcomes]
    for text, part in zip(
        said[:5], ("SyntaxError: bad tag", "bad struct", "EOFError", "RuntimeError", "memory"), strict=True
    ):
        assert part in text
    assert (said[5], outcomes[5].report) == ("", "done")


def test_a_target_that_cannot_be_looked_up_is_one_files_trouble(tmp_path, monkeypatch):
    exists = Path.exists

    def locked(self, **options):
        if self.name == "1":
            raise PermissionError(13, "Permission denied")
        return exists(self, **options)

    monkeypatch.setattr(Path, "exists", locked)
    jobs = [Job(tmp_path, tmp_path / "out" / str(k)) for k in range(3)]
    outcomes = list(run_jobs(jobs, lambda job: "done", workers=1, overwrite=False))
    assert [outcome.report for outcome in outcomes] == ["done", "", "done"]
    assert "Permission denied" in outcomes[1].error


def test_a_slow_file_holds_no_other_up(tmp_path):
    """Of two threads one works on the first file until we have been told of all others."""
    others_told = threading.Event()

    def work(job: Job) -> str:
        assert job.source.name != "0" or others_told.wait(20)
        return ""

    jobs = [Job(Path(str(k)), tmp_path / str(k)) for k in range(10)]
    told = []
    for outcome in run_jobs(jobs, work, workers=2, overwrite=False):
        assert not outcome.error
        told.append(outcome.job.source.name)
        if len(told) == 9:
            others_told.set()
    assert told[-1] == "0"
    assert len(told) == 10


def test_jobs_share_the_cores_this_process_may_use(monkeypatch):
    monkeypatch.setattr(model, "usable_cores", lambda: 6)
    assert [running.threads_of(0, jobs) for jobs in (1, 2, 4, 9)] == [0, 3, 1, 1]
    assert running.threads_of(5, 2) == 5


# --- the commands, in this process


@needs_model
def test_verification_comes_before_writing_and_looks_at_all_that_is_kept(picture, rdae, monkeypatch):
    decompress = Codec.decompress
    for damage in ("alpha", "exif", "size", "raise"):

        def wrong(self, data, damage=damage, **options):
            shown = decompress(self, data, **options)
            if damage == "alpha":
                shown.alpha = shown.alpha ^ 1
            elif damage == "exif":
                shown.exif = None
            elif damage == "size":
                shown.pixels = shown.pixels[1:]
            else:
                raise FormatError("decoded symbols do not match. Please report it.")
            return shown

        monkeypatch.setattr(Codec, "decompress", wrong)
        code, out, error = rdae("compress", "one.png", "--verify")
        assert (code, out) == (1, "")
        assert "report it" in error
        assert [p.name for p in picture.parent.iterdir()] == ["one.png"]
    monkeypatch.setattr(Codec, "decompress", decompress)
    code, out, _ = rdae("compress", "one.png", "--verify")
    assert code == 0
    assert "verified" in out


@needs_model
def test_a_photograph_is_never_written_over_by_what_was_made_of_it(picture, rdae):
    photo = picture.read_bytes()
    for arguments in (("one.png", "-o", "one.png", "--overwrite"), ("one.png", "-o", "keep.png")):
        assert rdae("compress", *arguments)[0] == 1
    assert rdae("compress", ".")[0] == 0
    code, _, error = rdae("decompress", ".", "--overwrite")
    assert code == 1
    assert "-o ." in error
    assert picture.read_bytes() == photo
    assert sorted(p.name for p in picture.parent.iterdir()) == ["one.png", "one.rdae"]
    assert rdae("decompress", ".", "--overwrite", "-o", ".")[0] == 0  # asked for twice
    assert picture.read_bytes() != photo


@needs_model
def test_a_second_run_succeeds_and_says_what_it_left_alone(picture, rdae):
    for name in ("two.png", "three.png"):
        (picture.parent / name).write_bytes(picture.read_bytes())
    assert rdae("compress", "one.png", "-o", "out")[0] == 0
    for inputs, said in ((("one.png",), "exists and was left alone"), (("one.png", "two.png"), "1 of 2 files existed")):
        code, _, error = rdae("compress", *inputs, "-o", "out")
        assert code == 0
        assert said in error
    assert rdae("compress", "one.png", "-o", "out", "--quiet") == (0, "", "")
    (picture.parent / "bad.png").write_bytes(b"broken")
    code, out, error = rdae("compress", "bad.png", "three.png", "-o", "out", "--quiet")
    assert (code, out) == (1, "")
    assert "bad.png" in error
    assert (picture.parent / "out" / "three.rdae").exists()


@needs_model
def test_a_folder_that_cannot_be_read_is_a_failure_but_the_rest_is_done(picture, rdae, monkeypatch):
    (picture.parent / "locked").mkdir()
    scan = os.scandir

    def scandir(path="."):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    code, out, error = rdae("compress", ".", "--quiet")
    assert (code, out) == (1, "")
    assert "locked" in error
    assert (picture.parent / "one.rdae").exists()


@needs_model
def test_options_do_what_they_say(picture, rdae, monkeypatch):
    assert rdae("compress", "one.png", "--quiet") == (0, "", "")
    assert read_chunks(rdae, "one.rdae") == {"EXIF", "alpha"}
    assert rdae("compress", "one.png", "-o", "bare.rdae", "--strip")[0] == 0
    assert read_chunks(rdae, "bare.rdae") == {"alpha"}
    for folder, spelling in (("a", "tif"), ("b", ".tif")):
        assert rdae("decompress", "one.rdae", "-f", spelling, "-o", folder, "--quiet") == (0, "", "")
        with Image.open(picture.parent / folder / "one.tif") as image:
            assert (image.format, image.mode, image.size) == ("TIFF", "RGBA", (20, 16))
    asked, load = [], registry.load
    monkeypatch.setattr(
        registry, "load", lambda name, *, threads=0: asked.append(threads) or load(name, threads=threads)
    )
    assert rdae("compress", "one.png", "--threads", 3, "-o", "t.rdae")[0] == 0
    assert rdae("decompress", "t.rdae", "--threads", 2, "-o", "t.png")[0] == 0
    assert set(asked) == {3, 2}


def read_chunks(rdae, name: str) -> set[str]:
    code, out, _ = rdae("info", name, "--json")
    assert code == 0
    return set(json.loads(out)["chunks"])


@needs_model
def test_wrong_arguments_are_found_before_any_file_is_read(picture, rdae, monkeypatch):
    monkeypatch.setattr(one_file, "read_picture", lambda source: pytest.fail("a picture was read"))
    monkeypatch.setattr(one_file, "decompress_file", lambda *a, **k: pytest.fail("a file was read"))
    for arguments in (("-q", 101), ("-q", 50, "--bpp", 1), ("--psnr", "nan"), ("--max-pixels", 0)):
        code, out, error = rdae("compress", ".", *arguments)
        assert (code, out) == (2, ""), arguments
        assert error.startswith("rdae: Invalid value")
    (picture.parent / "one.rdae").touch()
    for ending in ("", ".", "a/b", "xyz", "rdae", "h5"):
        code, out, error = rdae("decompress", ".", "-f", ending)
        assert (code, out) == (2, ""), ending
        assert "Use .png" in error
    code, _, error = rdae("decompress", ".", "-o", "out", "--model", "nowhere.codec")
    assert code == 1
    assert error.count("rdae models") == 1


@needs_model
def test_the_limit_on_pixels_is_ours_and_can_be_raised(picture, rdae, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own, which 20 x 16 pixels pass threefold
    for limit in (100, 319):
        code, _, error = rdae("compress", "one.png", "--max-pixels", limit)
        assert code == 1
        assert "--max-pixels" in error
    for k, options in enumerate([(), ("--max-pixels", 320)]):
        assert rdae("compress", "one.png", "-o", f"{k}.rdae", *options)[0] == 0


@needs_model
def test_info_goes_on_after_a_bad_file(picture, rdae):
    rdae("compress", "one.png")
    code, out, error = rdae("info", "one.rdae", "one.png", "nowhere", ".", "one.rdae")
    assert code == 1
    assert out.count("width: 20") == 2
    assert "not an rdae file" in error
    assert "Name the files in it" in error
    assert len(error.splitlines()) == 3


@needs_model
@pytest.mark.parametrize("jobs", [1, 2])
def test_the_codec_is_loaded_before_there_are_threads(picture, rdae, monkeypatch, jobs):
    rdae("compress", "one.png")
    loading, load = [], registry.load_model
    monkeypatch.setattr(
        registry, "load_model", lambda *a, **k: loading.append(threading.current_thread()) or load(*a, **k)
    )
    packed = picture.parent / "own.codec"
    packed.write_bytes(shipped_models()["photo"].read_bytes())
    assert rdae("decompress", "one.rdae", "--model", packed, "-o", "x.png", "--jobs", jobs)[0] == 0
    assert loading == [threading.main_thread()]


@pytest.mark.parametrize(
    ("error", "code", "said"), [(KeyboardInterrupt, 130, "interrupted"), (EOFError, 1, "too early")]
)
def test_what_the_parser_would_end_in_silence_is_told(rdae, monkeypatch, error, code, said):
    def stop(path: Path) -> None:
        raise error

    monkeypatch.setattr(coding, "_facts", stop)
    found, _, message = rdae("info", "a.rdae")
    assert found == code
    assert message.startswith("rdae: ")
    assert said in message


def test_rdae_alone_shows_its_help_and_nothing_else(rdae):
    code, out, error = rdae()
    assert code == 2
    assert "compress" in out
    assert error == ""
