"""Imports point down, and the coding half needs no PyTorch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

import rdae

ROOT = Path(rdae.__file__).parent

# low to high; a module imports only from its own row or from rows before it
ROWS = (
    ("errors",),
    ("coding",),
    ("networks",),
    ("channels", "decomposition", "distortions", "objectives", "likelihoods", "multipliers"),
    ("priors",),
    ("autoencoder", "ladder", "generating"),
    ("adversarial",),
    ("exact",),
    ("measures",),
    ("data",),
    ("training",),
    ("recipes",),
    ("reports",),
    ("cli", "__main__"),
)
ROW = {name: row for row, names in enumerate(ROWS) for name in names}
PUBLIC_FACE = ("rdae", "rdae.pillow")  # no row of their own ...
SHOWN = ("errors", "coding")  # ... but these rows only


def modules() -> dict[str, ast.Module]:
    """Name and syntax tree of every module of the package."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text("utf-8"), str(path))
    return found


def imports(name: str, tree: ast.Module, known: dict[str, ast.Module]) -> Iterator[str]:
    """Full names of what a module imports from the package, wherever the import stands."""
    package = name if (ROOT.parent / Path(*name.split(".")) / "__init__.py").exists() else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "rdae")
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
            if base.partition(".")[0] == "rdae":
                for alias in node.names:  # `from rdae import cli` imports a module, `from rdae import load` does not
                    whole = f"{base}.{alias.name}"
                    yield whole if whole in known else base


def row_name(module: str) -> str | None:
    """Folder or file under rdae/ that a module belongs to; None for the public face."""
    return None if module in PUBLIC_FACE else module.split(".")[1]


def test_every_module_has_a_row():
    strangers = {row_name(name) for name in modules()} - {None} - set(ROW)
    assert not strangers, f"{strangers} have no row: add them to ROWS where they belong."


def test_imports_point_down():
    known = modules()
    wrong = []
    for name, tree in known.items():
        for imported in imports(name, tree, known):
            here, there = row_name(name), row_name(imported)
            if there is None:  # the version, the registration of the plugin: the top only
                allowed = here is None or ROW[here] == len(ROWS) - 1
            elif here is None:
                allowed = there in SHOWN
            else:
                allowed = ROW[there] <= ROW[here]
            if not allowed:
                wrong.append(f"{name} imports {imported}")
    assert not wrong, "; ".join(wrong) + ": move what they share down."


def test_the_rule_sees_every_way_to_import():
    known = modules() | {"rdae.cli": ast.parse("")}
    text = """
import rdae.priors.density
from rdae import cli, load
from ..priors import density
def f():
    from rdae.training.loop import train
"""
    found = set(imports("rdae.coding.codec", ast.parse(text), known))
    assert found == {"rdae.priors.density", "rdae.cli", "rdae", "rdae.training.loop"}


WITHOUT_TORCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "lightning_fabric", "onnx"}:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)

sys.meta_path.insert(0, Blocker())
"""


def run_without_torch(code: str) -> str:
    """Standard output of a fresh interpreter in which PyTorch and its friends cannot be imported."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH + code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_blocker_blocks():
    code = """
for name in ("torch", "torch.nn", "lightning_fabric", "onnx"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        print("blocked", name)
"""
    assert len(run_without_torch(code).splitlines()) == 4


def test_the_coding_half_and_the_command_line_import_without_torch():
    names = [name for name in modules() if name in PUBLIC_FACE or name.split(".")[1] in ("errors", "coding", "cli")]
    assert "rdae.cli.main" in names
    assert "rdae.coding.codec" in names
    code = f"""
from importlib import import_module
import rdae
for name in {names!r}:
    import_module(name)
for name in rdae.__all__:
    getattr(rdae, name)
print("imported")
"""
    assert run_without_torch(code).strip() == "imported"


def test_a_shipped_model_codes_without_torch():
    from rdae.coding.model import shipped_models

    if not shipped_models():
        pytest.skip("no model is shipped")
    code = """
import numpy as np
import rdae
y = (np.arange(12 * 9 * 3) % 256).astype(np.uint8).reshape(12, 9, 3)
data = rdae.compress(y, 50)
image = rdae.decompress(data, as_array=True)
assert image.shape == y.shape and image.dtype == np.uint8
print(len(data))
"""
    assert int(run_without_torch(code)) > 40


def test_import_rdae_costs_little():
    """`import rdae` loads neither NumPy's clients nor a model: what is public is fetched when first named."""
    code = """
import sys
import rdae
heavy = {"numpy", "PIL", "onnxruntime", "constriction", "typer"} & set(sys.modules)
print(sorted(heavy))
"""
    assert run_without_torch(code).strip() == "[]"
