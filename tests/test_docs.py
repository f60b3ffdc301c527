"""The documentation is true: its Python runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from rdae.coding.model import shipped_models

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.skipif("photo" not in shipped_models(), reason="the package ships no model yet")
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_in_the_documentation_runs(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    names: dict = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)  # an exception fails the test
    assert len(names) > 1 or not blocks(page, "python")  # each block binds something


@pytest.mark.skipif("photo" not in shipped_models(), reason="the package ships no model yet")
def test_the_five_lines_of_the_readme_do_what_their_comments_say(monkeypatch):
    monkeypatch.chdir(ROOT)
    names: dict = {}
    (block,) = blocks(ROOT / "README.md", "python")
    exec(compile(block, "README.md", "exec"), names)
    assert isinstance(names["data"], bytes)
    assert isinstance(names["image"], Image.Image)
    assert names["pixels"].shape == (names["image"].height, names["image"].width, 3)
    assert names["codec"].decompress(names["data"]).size == names["pixels"].shape[:2]


def test_the_documented_bound_on_memory_covers_what_was_measured():
    """README and docs/format.md name it; the figures are those of benchmarks/memory.py."""
    for page in ("README.md", "docs/format.md"):
        assert "1 GiB and 10 bytes a pixel" in " ".join((ROOT / page).read_text(encoding="utf-8").split())
    for run in json.loads((ROOT / "docs/results/memory.json").read_text(encoding="utf-8")):
        assert run["peak_gib"] <= 1 + 10 * run["megapixels"] * 1e6 / 2**30


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_and_options_in_the_documentation_exist(page):
    import typer

    from rdae.cli.main import app

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            words = line.split("#")[0].split()
            if not words or words[0] != "rdae" or words[1].startswith("-"):
                continue
            command = commands[words[1]]
            known = {option for parameter in command.params for option in parameter.opts}
            unknown = {w.split("=")[0] for w in words if re.match(r"^--?[a-z]", w)} - known - {"--help"}
            assert not unknown, f"{page.name}: {line}"
