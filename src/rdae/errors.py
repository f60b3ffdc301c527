"""Every error a user can meet. Each message says what was found, what was expected and the cure."""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "DataError",
    "FormatError",
    "ImageError",
    "LimitError",
    "MissingExtraError",
    "ModelError",
    "RdaeError",
    "ShapeError",
    "TableError",
    "TargetError",
    "TrainingError",
]  # fmt: skip


class RdaeError(Exception):
    """Base of all errors raised by this package for a foreseen reason."""


class ShapeError(RdaeError, ValueError):
    """Two arrays, or an array and a network, do not fit together."""


class FormatError(RdaeError, ValueError):
    """A compressed file is damaged, cut short, or not one of ours."""


class ModelError(RdaeError, ValueError):
    """A codec file is missing, damaged, of another version, or not the one a stream names."""


class ImageError(RdaeError, ValueError):
    """An image cannot be read or written."""


class LimitError(RdaeError, ValueError):
    """A file asks for more memory or pixels than the caller allows."""


class TableError(RdaeError, ValueError):
    """A probability table or its symbols are out of range."""


class TargetError(RdaeError, ValueError):
    """A wished size or quality cannot be reached, or two wishes contradict each other."""


class DataError(RdaeError, ValueError):
    """A data folder or array cannot be used for training."""


class CheckpointError(RdaeError, ValueError):
    """A training checkpoint is damaged or belongs to another run."""


class TrainingError(RdaeError, RuntimeError):
    """Training cannot go on: its loss is no longer a number."""


class MissingExtraError(RdaeError, ImportError):
    """A feature needs an optional dependency that is not installed."""
