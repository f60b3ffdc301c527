"""The training loop: one page, any model, any number of devices (Lightning Fabric)."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from rdae.errors import CheckpointError, DataError, TrainingError
from rdae.training.averaging import WeightAverage
from rdae.training.checkpoint import load_newest, save_checkpoint
from rdae.training.monitor import Monitor
from rdae.training.recipe import Recipe, Step

__all__ = ["Settings", "train"]

log = logging.getLogger("rdae")
LOOK = 20  # steps between looks at the loss on devices that would have to be waited for


@dataclass(frozen=True)
class Settings:
    """Where a run reads and writes, and on what it computes.

    Args:
        data, valid: folders of images, for recipes that read folders; without `valid` a codec does not validate.
        out: folder of the run: checkpoints, TensorBoard logs, the file made at the end.
        seed: of weights, batches, lam and noise.
        accelerator, devices, nodes, precision: as Lightning Fabric names them.
        workers: processes that read images; 0 reads in the training process.
        checkpoint_minutes, validate_steps: how often.
    """

    data: Path
    out: Path
    valid: Path | None = None
    seed: int = 0
    accelerator: str = "auto"
    devices: str = "auto"
    nodes: int = 1
    precision: str = "32-true"
    workers: int = 0
    checkpoint_minutes: float = 5.0
    validate_steps: int = 1000


class _Loss(nn.Module):
    """A recipe's loss as a module: Fabric prepares devices and gathers gradients around one call."""

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe

    def forward(self, batch: Tensor, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        return self.recipe.loss(self.model, batch, step)


class _Run:
    """The state of a run, and how it is kept and taken up again."""

    def __init__(self, recipe: Recipe, settings: Settings, start: dict[str, Tensor] | None) -> None:
        devices: Any = int(settings.devices) if settings.devices.isdigit() else settings.devices
        precision: Any = settings.precision
        self.fabric = Fabric(
            accelerator=settings.accelerator, devices=devices, num_nodes=settings.nodes, precision=precision
        )
        self.fabric.launch()
        torch.manual_seed(settings.seed)
        self.recipe, self.settings = recipe, settings
        self.bare: nn.Module = recipe.model()
        if start is not None:
            self.bare.load_state_dict(start)
        self.average = WeightAverage(self.bare, recipe.average)
        loss = _Loss(self.bare, recipe)
        self.loss, self.optimizer = self.fabric.setup(loss, recipe.optimizer(loss))
        self.newest: Path | None = None
        self.first = self._resume()

    def _resume(self) -> int:
        folder = self.settings.out / "checkpoints"
        state = load_newest(folder)
        if state is None:
            return 0
        name, seed = state["recipe"]["name"], state["seed"]
        if name != self.recipe.name or seed != self.settings.seed:
            raise CheckpointError(
                f"{self.settings.out} holds a run of recipe {name!r} with seed {seed}, not {self.recipe.name!r} with "
                f"seed {self.settings.seed}. Choose another --out, or the same recipe and seed."
            )
        try:
            self.bare.load_state_dict(state["model"])
        except RuntimeError as error:
            raise CheckpointError(
                f"The checkpoint in {folder} is of a model of other sizes. Choose another --out, or the options and "
                f"data it was trained with. ({str(error).splitlines()[0]})"
            ) from error
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.newest = folder / f"step-{state['step']:08d}.pt"
        log.info("going on from step %d", state["step"])
        return int(state["step"])

    def step(self, number: int, batch: Tensor, share: slice) -> dict[str, Tensor]:
        """One step of the optimiser; returns the report."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(number)
        fabric = self.fabric
        torch.manual_seed(self.settings.seed * 7_919 + number * fabric.world_size + fabric.global_rank)
        loss, report = self.loss(fabric.to_device(batch), Step(number, self.settings.seed, share))
        if (fabric.device.type == "cpu" or number % LOOK == 0) and not bool(torch.isfinite(report["loss"])):
            kept = f"The last good checkpoint is {self.newest}" if self.newest else "No checkpoint was written yet"
            raise TrainingError(
                f"The loss became {float(report['loss'])} at step {number}. {kept}. Lower the learning rate, "
                "or look for extreme values in the data."
            )
        self.optimizer.zero_grad()
        fabric.backward(loss)
        if self.recipe.clip is not None:
            fabric.clip_gradients(self.loss, self.optimizer, max_norm=self.recipe.clip)
        self.optimizer.step()
        self.average.update(self.bare)
        return report

    def keep(self, step: int) -> None:
        """Writes a checkpoint."""
        if self.fabric.is_global_zero:
            state = {
                "step": step,
                "seed": self.settings.seed,
                "recipe": self.recipe.schedule(),
                "model": self.bare.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
            self.newest = save_checkpoint(self.settings.out / "checkpoints", state)

    def averaged(self) -> nn.Module:
        """A model with the averaged weights, in `eval()` mode."""
        model: nn.Module = self.recipe.model()
        model.load_state_dict(self.average.average)
        return model.to(self.fabric.device).eval()


def train(recipe: Recipe, settings: Settings, start: dict[str, Tensor] | None = None) -> Path | None:
    """Trains until `recipe.steps`, going on from the newest checkpoint in `settings.out` if there is one.

    Args:
        recipe: what to train, and on what.
        settings: where, and on what machine.
        start: weights to begin with instead of fresh ones; ignored when a checkpoint is found.

    Returns:
        Path of the last checkpoint; None in all processes but the first.

    Raises:
        CheckpointError: the folder holds another run, or one that is already past `recipe.steps`.
        TrainingError: the loss is no longer finite.
    """
    torch.set_flush_denormal(True)
    run = _Run(recipe, settings, start)
    fabric = run.fabric
    if recipe.batch % fabric.world_size:
        raise DataError(
            f"A batch of {recipe.batch} does not split over {fabric.world_size} processes. "
            f"Choose a multiple of {fabric.world_size}."
        )
    if run.first > recipe.steps:
        raise CheckpointError(
            f"{settings.out} is at step {run.first}, past the {recipe.steps} asked for. Ask for more, or choose "
            "another --out."
        )
    batches = recipe.batches(settings.data, seed=settings.seed, rank=fabric.global_rank, world=fabric.world_size)
    loader = DataLoader(
        batches, batch_size=None, sampler=range(run.first, recipe.steps), num_workers=settings.workers,
        persistent_workers=settings.workers > 0,
    )  # fmt: skip
    share = recipe.share(fabric.global_rank, fabric.world_size)
    held_out = recipe.held_out(settings.valid)
    monitor = Monitor(settings.out, recipe.steps, run.first, active=fabric.is_global_zero)
    saved = time.monotonic()
    run.loss.train()
    try:
        for step, batch in enumerate(loader, start=run.first):
            monitor.step(step + 1, run.step(step, batch, share))
            done = step + 1
            last = done == recipe.steps
            if fabric.is_global_zero and held_out is not None and (last or done % settings.validate_steps == 0):
                monitor.validation(done, recipe.validate(run.averaged(), held_out))
            if last or time.monotonic() - saved > 60 * settings.checkpoint_minutes:
                run.keep(done)
                saved = time.monotonic()
    finally:
        monitor.close()
    fabric.barrier()
    return run.newest if fabric.is_global_zero else None
