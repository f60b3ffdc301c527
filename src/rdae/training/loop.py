"""The training loop: one page, any model, any number of devices (Lightning Fabric)."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
import time
from collections.abc import Iterable, Iterator
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
MAY_CHANGE = {
    "steps",
    "learning_rate",
    "critic_learning_rate",
    "warmup",
    "flat",
    "clip",
}  # of a schedule, when a run goes on
LOOK = 19  # steps between looks at the loss where a device would have to be waited for; prime: all players' turn comes


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
    """A recipe's loss as a module: Fabric prepares devices and gathers gradients around one call.

    Fabric looks at all that goes in and comes out, which takes longer than a small layer: that is the batch and the
    loss alone, and what else a step needs and reports stands beside.
    """

    step: Step
    report: dict[str, Tensor]

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe

    def forward(self, batch: Tensor) -> Tensor:
        loss, self.report = self.recipe.loss(self.model, batch, self.step)
        return loss


class _Run:
    """The state of a run, and how it is kept and taken up again."""

    def __init__(self, recipe: Recipe, settings: Settings, start: dict[str, Tensor] | None) -> None:
        devices: Any = int(settings.devices) if settings.devices.isdigit() else settings.devices
        precision: Any = settings.precision
        try:
            self.fabric = Fabric(
                accelerator=settings.accelerator, devices=devices, num_nodes=settings.nodes, precision=precision,
                strategy=_strategy(recipe, settings),
            )  # fmt: skip
        except (RuntimeError, ValueError, TypeError) as error:
            raise TrainingError(
                f"This machine cannot train as asked for: {error}. Use accelerator cpu, or fewer devices."
            ) from error
        self.fabric.launch()
        torch.manual_seed(settings.seed)
        self.recipe, self.settings = recipe, settings
        self.bare: nn.Module = recipe.model()
        if start is not None:
            self.bare.load_state_dict(start)
        self.inner = _Loss(self.bare, recipe)
        self.loss, *self.optimizers = self.fabric.setup(self.inner, *recipe.optimizers(self.bare))
        self.result = recipe.result(self.bare)
        self.average = WeightAverage(self.result, recipe.average)  # now that the weights are where they will stay
        # torch.manual_seed asks for every kind of device whether it is there, which takes longer than a small layer
        on_cpu = self.fabric.device.type == "cpu"
        self._seed = torch.default_generator.manual_seed if on_cpu else torch.manual_seed
        self.newest: Path | None = None
        self.first = self._resume()
        world = self.fabric.world_size
        if recipe.batch % world:
            raise DataError(
                f"A batch of {recipe.batch} does not split over {world} processes. Choose a multiple of {world}."
            )
        if self.first > recipe.steps:
            raise CheckpointError(
                f"{settings.out} is at step {self.first}, past the {recipe.steps} asked for. Ask for more, or choose "
                "another --out."
            )

    def _resume(self) -> int:
        folder = self.settings.out / "checkpoints"
        # the first process reads for all: on several machines the others may not see the folder
        state = self.fabric.broadcast(load_newest(folder) if self.fabric.is_global_zero else None)
        if state is None:
            return 0
        name, seed = state["recipe"]["name"], state["seed"]
        if name != self.recipe.name or seed != self.settings.seed:
            raise CheckpointError(
                f"{self.settings.out} holds a run of recipe {name!r} with seed {seed}, not {self.recipe.name!r} with "
                f"seed {self.settings.seed}. Choose another --out, or the same recipe and seed."
            )
        _same_run(state["recipe"], self.recipe.schedule(), self.settings.out)
        kept = state.get("optimizers") or [state["optimizer"]]  # in the singular before there were games
        try:
            self.bare.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            for optimizer, its_state in zip(self.optimizers, kept, strict=True):
                optimizer.load_state_dict(its_state)
        except (RuntimeError, ValueError, KeyError) as error:  # of sizes, numbers and names
            raise CheckpointError(
                f"The checkpoint in {folder} is of a model of other sizes. Choose another --out, or the options and "
                f"data it was trained with. ({str(error).splitlines()[0]})"
            ) from error
        self.newest = folder / f"step-{state['step']:08d}.pt"
        log.info("going on from step %d", state["step"])
        return int(state["step"])

    def step(self, number: int, batch: Tensor, share: slice) -> dict[str, Tensor]:
        """One step of the optimiser; returns the report."""
        player = self.recipe.turn(number)
        optimizer, fabric = self.optimizers[player], self.fabric
        for group in optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(number)
        self.inner.step = Step(number, self.settings.seed, share)
        self._seed(self.inner.step.noise_seed(fabric.global_rank))
        loss = self.loss(fabric.to_device(batch))
        report = self.inner.report
        look = fabric.device.type == "cpu" or number % LOOK == 0
        if look:
            self._refuse_no_number(report["loss"], "loss", number)
        optimizer.zero_grad()  # of the player whose turn it is; what another's turn left is cleared at the other's
        fabric.backward(loss)
        if self.recipe.clip is not None:
            clip: Any = self.recipe.clip
            norm = fabric.clip_gradients(self.loss, optimizer, max_norm=clip, error_if_nonfinite=False)
            if look and norm is not None:
                self._refuse_no_number(norm, "gradient", number)
        optimizer.step()
        if player == 0:  # the one whose work is the result
            self.average.update()
        return report

    def _refuse_no_number(self, value: Tensor, what: str, step: int) -> None:
        if not math.isfinite(value.item()):
            kept = f"The last good checkpoint is {self.newest}" if self.newest else "No checkpoint was written yet"
            raise TrainingError(
                f"The {what} became {float(value)} at step {step}. {kept}. Lower the learning rate, "
                "or look for extreme values in the data."
            )

    def keep(self, step: int) -> None:
        """Writes a checkpoint."""
        if self.fabric.is_global_zero:
            state = {
                "step": step,
                "seed": self.settings.seed,
                "recipe": self.recipe.schedule(),
                "model": self.bare.state_dict(),
                "average": self.average.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            }
            self.newest = save_checkpoint(self.settings.out / "checkpoints", state)

    def averaged(self) -> nn.Module:
        """A model with the averaged weights, in `eval()` mode."""
        return self.recipe.trained(self.average.average).to(self.fabric.device)


def _strategy(recipe: Recipe, settings: Settings) -> str:
    """Between processes, gradients of those who rest while another player has its turn are not waited for."""
    alone = (settings.devices, settings.nodes) == ("1", 1)
    return "ddp_find_unused_parameters_true" if recipe.alternating and not alone else "auto"


def _same_run(before: dict[str, Any], now: dict[str, Any], out: Path) -> None:
    """A run goes on with what it began with; only its length and its learning rate may change."""
    changed = [name for name in before.keys() & now.keys() - MAY_CHANGE if before[name] != now[name]]
    if changed:
        words = ", ".join(f"{name} {before[name]} and not {now[name]}" for name in sorted(changed))
        raise CheckpointError(f"{out} holds a run with {words}. Choose another --out, or the numbers it began with.")


class _Stop:
    """Turns Ctrl-C and SIGTERM into a wish that the loop grants between two steps; a second one acts at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Stop:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


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
        TrainingError: the loss is no longer finite, or the machine lacks what was asked for.
    """
    with _denormals_flushed():
        return _trained(_Run(recipe, settings, start))


@contextlib.contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Weights of dead units decay into denormals, which are a hundred times slower; the setting is put back."""
    before = float(torch.tensor(1e-310, dtype=torch.float64) * 1) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _trained(run: _Run) -> Path | None:
    recipe, settings, fabric = run.recipe, run.settings, run.fabric
    batches = recipe.batches(settings.data, seed=settings.seed, rank=fabric.global_rank, world=fabric.world_size)
    due = range(run.first, recipe.steps)
    loader: Iterable[Tensor] = (batches[step] for step in due)
    if settings.workers:
        loader = DataLoader(
            batches, batch_size=None, sampler=due, num_workers=settings.workers, persistent_workers=True
        )  # fmt: skip
    held_out = recipe.held_out(settings.valid) if fabric.is_global_zero else None
    monitor = Monitor(settings.out, recipe.steps, run.first, active=fabric.is_global_zero)
    with _Stop() as stop, contextlib.closing(monitor):
        _steps(run, loader, held_out, monitor, stop)
    fabric.barrier()
    return run.newest if fabric.is_global_zero else None


def _steps(run: _Run, loader: Iterable[Tensor], held_out: Any, monitor: Monitor, stop: _Stop) -> None:
    recipe, settings = run.recipe, run.settings
    share = recipe.share(run.fabric.global_rank, run.fabric.world_size)
    saved = time.monotonic()
    run.loss.train()
    for step, batch in enumerate(loader, start=run.first):
        if stop.asked:
            run.keep(step)
            log.warning("stopped at step %d; the same command goes on from there", step)
            raise KeyboardInterrupt
        monitor.step(step + 1, run.step(step, batch, share))
        done = step + 1
        last = done == recipe.steps
        if held_out is not None and (last or done % settings.validate_steps == 0):
            monitor.validation(done, recipe.validate(run.averaged(), held_out))
        if last or time.monotonic() - saved > 60 * settings.checkpoint_minutes:
            run.keep(done)  # after the validation: a run that is killed in between does it again
            saved = time.monotonic()
