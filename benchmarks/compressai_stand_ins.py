"""What CompressAI imports for features that no benchmark here uses, so that its environment can stay small."""

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["stand_ins"]

MISSING = (
    "torchvision", "torchvision.transforms", "torch_geometric", "torch_geometric.transforms", "torch_geometric.data",
    "torch_geometric.data.datapipes", "pandas",
)  # fmt: skip


class _StandIn(types.ModuleType):
    """A module whose every name is an empty class."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "functional_transform":  # used as a decorator factory
            return lambda *_: lambda x: x
        return type(name, (), {})


@contextmanager
def stand_ins() -> Iterator[None]:
    """While CompressAI is imported; gone afterwards, for PyTorch looks up what is there."""
    absent = [name for name in MISSING if name not in sys.modules]
    sys.modules.update((name, _StandIn(name)) for name in absent)
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name)
