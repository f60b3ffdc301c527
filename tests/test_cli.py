"""The command line as a user meets it: in a subprocess, in a folder of its own."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.core import TyperCommand

from rdae.cli.commands import COMMANDS
from rdae.cli.main import app
from rdae.coding.codec import Codec
from rdae.coding.container import parse
from rdae.coding.model import shipped_models

pytestmark = pytest.mark.skipif("photo" not in shipped_models(), reason="the package ships no model yet")


def rdae(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "rdae.cli.main", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture
def folder(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name, size in (("one.png", (90, 70)), ("two.jpg", (64, 64)), ("sub/three.bmp", (33, 40))):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    return tmp_path


def test_one_image_there_and_back(folder):
    done = rdae("compress", "in/one.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "90 x 70" in done.stdout
    assert "bpp" in done.stdout
    done = rdae("decompress", "in/one.rdae", "-o", "back.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    back, original = (np.asarray(Image.open(folder / p)) for p in ("back.png", "in/one.png"))
    assert back.shape == original.shape
    assert np.abs(back.astype(int) - original).mean() < 10


def test_a_folder_keeps_its_structure_and_a_second_run_leaves_files_alone(folder):
    done = rdae("compress", "in", "-o", "out", "-q", 30, "--jobs", 2, "--verify", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("verified") == 3
    names = sorted(str(p.relative_to(folder / "out")) for p in (folder / "out").rglob("*") if p.is_file())
    assert names == ["one.rdae", "sub/three.rdae", "two.rdae"]
    before = {p: p.stat().st_mtime_ns for p in (folder / "out").rglob("*.rdae")}
    (folder / "out" / "two.rdae").unlink()
    done = rdae("compress", "in", "-o", "out", "-q", 90, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "2 of 3 files existed" in done.stderr
    after = {p: p.stat().st_mtime_ns for p in (folder / "out").rglob("*.rdae")}
    assert after.keys() == before.keys()
    assert sum(before[p] != after[p] for p in before) == 1
    done = rdae("compress", "in", "-o", "out", "-q", 90, "--overwrite", cwd=folder)
    assert done.stdout.count("quality 90") == 3


def test_one_bad_file_does_not_stop_the_others(folder):
    (folder / "in" / "bad.png").write_bytes(b"broken")
    done = rdae("compress", "in", "-o", "out", cwd=folder)
    assert done.returncode == 1
    assert "bad.png" in done.stderr
    assert len(list((folder / "out").rglob("*.rdae"))) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("compress", "nowhere.png"), 1, "does not exist"),
        (("compress", "in/one.png", "-q", "101"), 2, "from 0 .smallest. to 100"),
        (("compress", "in/one.png", "-q", "50", "--bpp", "1"), 2, "Give only one"),
        (("compress", "in/one.png", "--size", "20"), 1, "at least"),
        (("compress", "in/one.png", "--psnr", "99"), 1, "reaches"),
        (("compress", "in/one.png", "--model", "nowhere.codec"), 1, "rdae models"),
        (("compress", "--quality"), 2, "--help"),
        (("compress", "in/one.png", "--qualty", "3"), 2, "--help"),
        (("decompress", "in/two.jpg"), 1, "not an rdae file"),
        (("info", "in/one.png"), 1, "not an rdae file"),
    ],
)  # fmt: skip
def test_failures_say_what_to_do(folder, arguments, code, message):
    import re

    done = rdae(*arguments, cwd=folder)
    assert done.returncode == code
    assert re.search(message, done.stderr)
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert not list(folder.rglob("*.partial"))


def test_two_inputs_for_one_output_are_refused(folder):
    Image.open(folder / "in" / "one.png").save(folder / "in" / "one.jpg")
    done = rdae("compress", "in", "-o", "out", cwd=folder)
    assert done.returncode == 1
    assert "would both be written" in done.stderr


@pytest.mark.parametrize(("option", "value"), [("--bpp", 1.5), ("--size", 900), ("--psnr", 33.0)])
def test_targets_are_met(folder, option, value):
    done = rdae("compress", "in/one.png", "-o", "t.rdae", option, value, "--verify", cwd=folder)
    assert done.returncode == 0, done.stderr
    size = (folder / "t.rdae").stat().st_size
    if option == "--psnr":
        assert float(done.stdout.split("verified, ")[1].split()[0]) >= value
    else:
        assert size <= (value if option == "--size" else value * 90 * 70 / 8)
        assert size > 0.9 * (value if option == "--size" else value * 90 * 70 / 8)


def test_info_in_words_and_json(folder):
    rdae("compress", "in/one.png", "-q", 42.5, cwd=folder)
    done = rdae("info", "in/one.rdae", "--json", cwd=folder)
    facts = json.loads(done.stdout)
    assert (facts["width"], facts["height"], facts["quality"], facts["tiles"]) == (90, 70, 42.5, 1)
    assert facts["bytes"] == (folder / "in" / "one.rdae").stat().st_size
    assert "quality: 42.5" in rdae("info", "in/one.rdae", cwd=folder).stdout


def test_models_and_version(folder):
    assert "photo" in rdae("models", cwd=folder).stdout
    assert json.loads(rdae("models", "--json", cwd=folder).stdout.splitlines()[0])["name"] == "photo"
    assert "rdae" in rdae("--version", cwd=folder).stdout


def test_every_command_explains_itself(folder):
    text = rdae("--help", cwd=folder).stdout
    listed = " ".join(text.partition("Commands:")[2].split())
    assert listed == " ".join(f"{name} {line}" for name, (_, line) in COMMANDS.items())
    for command in ("compress", "decompress", "info", "models", "train"):
        assert rdae(command, "--help", cwd=folder).returncode == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_each_command_says(name):
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    first = inspect.cleandoc(command.help).partition("\n\n")[0]
    assert COMMANDS[name][1] == " ".join(first.split())
    assert command.name == name


HEAVY = {"PIL", "constriction", "numpy", "onnxruntime", "pydantic", "rich", "safetensors", "torch"}


@pytest.mark.parametrize(
    ("arguments", "commands"),
    [
        (("--help",), set()),
        (("compress", "--help"), {"coding"}),
        (("info", "in/one.rdae"), {"coding"}),
        (("info", "--json", "in/one.rdae"), {"coding"}),
    ],
)
def test_a_command_imports_little_more_than_itself(folder, arguments, commands):
    assert rdae("compress", "in/one.png", cwd=folder).returncode == 0
    code = f"""
import sys
from rdae.cli.main import main
sys.argv = ["rdae", *{arguments!r}]
assert main() == 0
print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    loaded = done.stderr.split()
    assert not HEAVY & {name.partition(".")[0] for name in loaded}
    modules = {module.partition(".")[0] for module, _ in COMMANDS.values()}
    assert {module for module in modules if f"rdae.cli.{module}" in loaded} == commands


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("info", ("a.rdae",)),
        ("info", ("a.rdae", "--json", "in/b.rdae")),
        ("info", ("--json", "--", "--json", "-x")),
        ("info", ("", ".")),
        ("info", ("file:///c.rdae", "a")),
        ("info", ("--json", "memory://d.rdae")),
        ("decompress", ("a.rdae", "b.rdae", "-o", "out", "--overwrite")),
        ("decompress", ("a.rdae", "-o", "memory://out", "--format", "tif", "-m", "own.codec", "--quiet")),
        ("decompress", ("a.rdae", "--jobs", "2", "--max-pixels", "100", "--dask", "tcp://host:1")),
        ("compress", ("a.png", "-q", "37.5", "--verify")),
        ("compress", ("a.png", "-q", " 7")),
        ("compress", ("a.png", "-q", "1e2", "-o", "b")),
        ("compress", ("a.png", "--bpp", "0.5", "-e", "3", "--weights", "run")),
    ],
)
def test_direct_commands_take_arguments_as_the_parser_would(name, arguments):
    """They have a way of their own for paths, words and flags, which must end where the long way does."""
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    short = command.make_context(name, list(arguments))
    long = short.__class__(command)
    TyperCommand.parse_args(command, long, list(arguments))
    assert short.params == long.params
    assert {key: type(value) for key, value in short.params.items()} == {
        key: type(value) for key, value in long.params.items()
    }
    assert list(map(type, short.params["inputs"])) == list(map(type, long.params["inputs"]))
    assert short.args == long.args


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("info", ()),
        ("decompress", ("--quiet",)),
        ("decompress", ("a.rdae", "--jobs", "0")),
        ("decompress", ("a.rdae", "--none-such")),
        ("decompress", ("a.rdae", "-o", "http://[x")),
        ("info", ("http://[x",)),
        ("compress", ("a.png", "-q", "high")),
        ("compress", ("a.png", "-q", "nan")),
    ],
)
def test_direct_commands_refuse_what_the_parser_refuses(name, arguments):
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    found = []
    for way in (command.parse_args, partial(TyperCommand.parse_args, command)):
        context = typer.Context(command)
        try:
            way(context, list(arguments))
            found.append(str(sorted(context.params.items())))
        except Exception as error:
            told = getattr(error, "format_message", error.__str__)()
            found.append(f"{type(error).__name__}, {getattr(error, 'exit_code', None)}: {told}")
    assert found[0] == found[1]


@pytest.mark.parametrize("command", [[], ["--help"], ["models", "--json"], ["info", "--json", "one.rdae"]])
def test_a_reader_that_has_left_is_left_in_peace(folder, command):
    assert rdae("compress", "in/one.png", "-o", "one.rdae", cwd=folder).returncode == 0
    reading, writing = os.pipe()
    os.close(reading)
    whole = [sys.executable, "-m", "rdae.cli.main", *command]
    done = subprocess.run(whole, cwd=folder, stdout=writing, stderr=subprocess.PIPE, timeout=300)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_closed_output_is_no_error(folder):
    assert rdae("compress", "in/one.png", "-o", "one.rdae", cwd=folder).returncode == 0
    command = f"{sys.executable} -m rdae.cli.main decompress one.rdae -o two.png >&-"
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (0, "", False)
    assert (folder / "two.png").exists()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_only_whole_files_and_can_go_on(folder, kind):
    source = Image.open(folder / "in" / "one.png").resize((700, 600))
    for k in range(30):
        source.save(folder / "in" / f"many{k:02}.png", compress_level=1)
    command = [sys.executable, "-m", "rdae.cli.main", "compress", "in", "-o", "out", "--jobs", "2"]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs inherit it ignored
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(list(folder.glob("out/*.rdae"))) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, kind)
    _, said = process.communicate(timeout=120)
    assert process.returncode == (130 if kind == signal.SIGINT else -kind)
    assert (b"interrupted; every file written so far is whole" in said) == (kind == signal.SIGINT)
    written = list((folder / "out").rglob("*.rdae"))
    assert 3 <= len(written) < 33
    for path in written:
        parse(path.read_bytes(), str(path))  # whole: every checksum holds
    for path in folder.rglob("*.partial"):  # of a run that could not clean up behind itself: another day ...
        os.utime(path, (0, 0))
    done = rdae("compress", "in", "-o", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert len(list((folder / "out").rglob("*.rdae"))) == 33
    assert not list(folder.rglob("*.partial"))


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_reports_go_to_stdout_and_the_bar_to_the_terminal(folder):
    command = [sys.executable, "-m", "rdae.cli.main", "compress", "in", "--overwrite"]
    (folder / "in" / "bad.png").write_bytes(b"broken")
    for both in (False, True):
        ours, theirs = os.openpty()
        with subprocess.Popen(
            command, cwd=folder, stdout=theirs if both else subprocess.PIPE, stderr=theirs,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "200"},
        ) as process:  # fmt: skip
            os.close(theirs)
            screen = b""
            while part := read_terminal(ours):
                screen += part
            report = b"" if process.stdout is None else process.stdout.read()
        os.close(ours)
        assert process.returncode == 1
        assert (report.count(b" bpp"), screen.count(b" bpp")) == ((0, 3) if both else (3, 0))
        assert screen.count(b"bad.png: ") == 1
        assert b"100%" in screen


def read_terminal(at: int) -> bytes:
    try:
        return os.read(at, 65536)
    except OSError:  # the other side is closed
        return b""


def test_a_name_in_no_encoding_is_compressed_and_told(folder):
    name = os.fsdecode(b"in/sub/\xff.png")
    (folder / name).write_bytes((folder / "in" / "one.png").read_bytes())
    done = rdae("compress", "in/sub", cwd=folder, env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"})
    assert done.returncode == 0, done.stderr
    assert "\\udcff.rdae: 90 x 70" in done.stdout
    assert "three.rdae" in done.stdout


def test_pillow_reads_and_writes_our_files(folder, monkeypatch):
    import rdae.pillow  # noqa: F401

    image = Image.open(folder / "in" / "one.png").convert("RGB")
    path = folder / "x.rdae"
    image.save(path, quality=60)
    calls = []
    decode = Codec.decompress
    monkeypatch.setattr(Codec, "decompress", lambda *a, **k: calls.append(1) or decode(*a, **k))
    opened = Image.open(path)
    assert (opened.format, opened.size, opened.mode) == ("RDAE", (90, 70), "RGB")
    assert not calls  # the header alone was read
    assert np.abs(np.asarray(opened).astype(int) - np.asarray(image)).mean() < 8
    assert calls == [1]
    assert Image.MIME["RDAE"] == "image/x-rdae"


def test_pillows_limit_acts_before_anything_is_decoded(folder, monkeypatch):
    import rdae.pillow  # noqa: F401

    Image.open(folder / "in" / "one.png").convert("RGB").save(folder / "x.rdae")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(folder / "x.rdae")


def test_a_damaged_file_is_an_os_error_for_pillow(folder):
    import rdae.pillow  # noqa: F401

    Image.open(folder / "in" / "one.png").convert("RGB").save(folder / "x.rdae")
    data = bytearray((folder / "x.rdae").read_bytes())
    data[-6] ^= 1
    (folder / "x.rdae").write_bytes(data)
    with pytest.raises(OSError, match="damaged"):
        Image.open(folder / "x.rdae").load()
