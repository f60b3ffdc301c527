"""Checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch

from rdae.errors import CheckpointError

__all__ = ["load_checkpoint", "load_newest", "save_checkpoint"]

log = logging.getLogger("rdae")
KEEP = 2


def save_checkpoint(folder: Path, state: dict[str, Any]) -> Path:
    """Writes `step-N.pt` whole or not at all, and keeps only one other, the newest."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{state['step']:08d}.pt"
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    for old in sorted(other for other in folder.glob("step-*.pt") if other != path)[: 1 - KEEP]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint; only tensors and plain values are accepted, never code.

    Raises:
        CheckpointError: the file is damaged or is no checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers beneath raise a dozen kinds
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({error}). Use an earlier one.") from error
    if not isinstance(state, dict) or "step" not in state or "model" not in state:
        raise CheckpointError(f"{path} is not a checkpoint of this package. Use a step-*.pt file that training wrote.")
    return state


def load_newest(folder: Path) -> dict[str, Any] | None:
    """The newest readable checkpoint of a run, or None where there is none yet.

    Raises:
        CheckpointError: there are checkpoints, but none can be read; to begin anew would throw the run away.
    """
    paths = sorted(folder.glob("step-*.pt"), reverse=True)
    for path in paths:
        try:
            return load_checkpoint(path)
        except CheckpointError as error:
            log.warning("%s", error)
    if paths:
        raise CheckpointError(f"None of the {len(paths)} checkpoints in {folder} can be read. Choose another --out.")
    return None
