"""What torchgan and torch-mimicry import for pictures, scores and data sets, none of which games.py uses."""

import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec

import torch.utils.model_zoo

__all__ = ["stand_ins"]

MISSING = {
    "torchvision", "tensorflow", "tensorboard", "scipy", "lmdb", "sklearn", "skimage", "matplotlib", "requests", "wget",
    "pandas", "psutil", "six", "torch._six",
}  # fmt: skip


class _StandIn(types.ModuleType):
    """A module whose every name is an empty class."""

    __path__: Sequence[str] = ()

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Finder:
    """Finds what is missing, and nothing that is installed."""

    def __init__(self) -> None:
        self.missing = {name for name in MISSING if find_spec(name) is None}
        if self.missing & {"tensorboard", "tensorflow"}:
            self.missing.add("torch.utils.tensorboard")  # which would look for both

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        stood_in = name in self.missing or name.split(".")[0] in self.missing
        return ModuleSpec(name, self, is_package=True) if stood_in else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing to run."""


@contextmanager
def stand_ins() -> Iterator[None]:
    """While a peer is imported; what is installed is used."""
    if not hasattr(torch.utils.model_zoo, "tqdm"):
        torch.utils.model_zoo.tqdm = None  # type: ignore[attr-defined]  # PyTorch's once, for downloads
    finder = _Finder()
    sys.meta_path.insert(0, finder)  # type: ignore[arg-type]
    try:
        yield
    finally:
        sys.meta_path.remove(finder)  # type: ignore[arg-type]
