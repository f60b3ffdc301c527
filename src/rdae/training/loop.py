"""The training loop: one page, any autoencoder, any number of devices (Lightning Fabric)."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.data.photographs import Crops, find_images, whole_images
from rdae.errors import CheckpointError
from rdae.objectives import BITS_PER_NAT, rate_distortion
from rdae.training.averaging import WeightAverage
from rdae.training.checkpoint import load_newest, save_checkpoint
from rdae.training.monitor import Monitor
from rdae.training.recipe import Recipe
from rdae.training.validation import validate

__all__ = ["Settings", "draw_lam", "learning_rate", "step_loss", "train"]

log = logging.getLogger("rdae")
CLIP_NORM = 1.0


@dataclass(frozen=True)
class Settings:
    """Where a run reads and writes, and on what it computes.

    Args:
        data, valid: folders of images; without `valid` the run does not validate.
        out: folder of the run: checkpoints, TensorBoard logs, codec file.
        seed: of weights, crops, lam and noise.
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


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, flat until 30 % of the run, then a cosine to 1 % of the peak."""
    warm = min(1.0, (step + 1) / recipe.warmup)
    late = min(1.0, max(0.0, (step / recipe.steps - 0.3) / 0.7))
    return recipe.learning_rate * warm * (0.505 + 0.495 * math.cos(math.pi * late))


def draw_lam(recipe: Recipe, seed: int, step: int, share: slice) -> Tensor:
    """lam of each example of step `step`, log-uniform; the same for a step whenever and wherever it is drawn."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
    low, high = (math.log(value) for value in recipe.lam)
    return torch.exp(low + (high - low) * torch.rand(recipe.batch, generator=generator))[share]


def step_loss(model: nn.Module, y: Tensor, lam: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean over examples of (rate + lam * distortion) per pixel, each weighted by 1 / sqrt(bits per pixel).

    The weight evens out how much low and high rates pull at shared weights: a model for all rates otherwise learns
    for the high ones, whose terms are a hundred times larger.
    """
    terms = model(y, lam).terms
    pixels = y.shape[-1] * y.shape[-2]
    bpp = terms.rate.detach() * (BITS_PER_NAT / pixels)
    loss = (rate_distortion(terms, lam) / pixels / (bpp + 0.05).sqrt()).mean()
    mse = terms.distortion.detach() / (pixels * y.shape[1])
    return loss, {"bpp": bpp.mean(), "psnr_db": (-10 * torch.log10(mse.clamp_min(1e-10))).mean(), "loss": loss.detach()}


def train(recipe: Recipe, settings: Settings, start: dict[str, Tensor] | None = None) -> Path | None:
    """Trains until `recipe.steps`, going on from the newest checkpoint in `settings.out` if there is one.

    Args:
        recipe: what to train.
        settings: where and on what.
        start: weights to begin with instead of fresh ones; ignored when a checkpoint is found.

    Returns:
        Path of the last checkpoint; None in all processes but the first.

    Raises:
        CheckpointError: the folder holds a run of another recipe or seed.
    """
    torch.set_flush_denormal(True)
    devices: Any = int(settings.devices) if settings.devices.isdigit() else settings.devices
    precision: Any = settings.precision
    fabric = Fabric(accelerator=settings.accelerator, devices=devices, num_nodes=settings.nodes, precision=precision)
    fabric.launch()
    torch.manual_seed(settings.seed)
    bare = recipe.model()
    if start is not None:
        bare.load_state_dict(start)
    average = WeightAverage(bare, recipe.average)
    model, optimizer = fabric.setup(bare, recipe.optimizer(bare))
    first = _resume(recipe, settings, bare, average, optimizer)
    files = find_images(settings.data)
    crops = Crops(
        files, size=recipe.size, batch=recipe.batch, steps=recipe.steps, seed=settings.seed,
        rank=fabric.global_rank, world=fabric.world_size,
    )  # fmt: skip
    loader = DataLoader(
        crops, batch_size=None, sampler=range(first, recipe.steps), num_workers=settings.workers,
        persistent_workers=settings.workers > 0,
    )  # fmt: skip
    held_out = whole_images(settings.valid, multiple=recipe.multiple) if settings.valid else []
    monitor = Monitor(settings.out, recipe.steps, first, active=fabric.is_global_zero)
    newest = settings.out / "checkpoints" / f"step-{first:08d}.pt"
    saved = time.monotonic()
    model.train()
    for step, pixels in enumerate(loader, start=first):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        torch.manual_seed(settings.seed * 7_919 + step * fabric.world_size + fabric.global_rank)
        y = fabric.to_device(pixels).float() / 255
        lam = fabric.to_device(draw_lam(recipe, settings.seed, step, crops.share))
        loss, report = step_loss(model, y, lam)
        optimizer.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=CLIP_NORM)
        optimizer.step()
        average.update(bare)
        done = step + 1
        monitor.step(done, report)
        if fabric.is_global_zero and held_out and (done % settings.validate_steps == 0 or done == recipe.steps):
            monitor.validation(done, validate(_averaged(recipe, average, fabric), held_out, recipe))
        if done == recipe.steps or time.monotonic() - saved > 60 * settings.checkpoint_minutes:
            if fabric.is_global_zero:
                newest = save_checkpoint(
                    settings.out / "checkpoints", _state(recipe, settings, done, bare, average, optimizer)
                )
            saved = time.monotonic()
    monitor.close()
    fabric.barrier()
    return newest if fabric.is_global_zero else None


def _averaged(recipe: Recipe, average: WeightAverage, fabric: Fabric) -> RateDistortionAutoencoder:
    model = recipe.model()
    model.load_state_dict(average.average)
    return model.to(fabric.device).eval()


def _state(
    recipe: Recipe,
    settings: Settings,
    step: int,
    model: nn.Module,
    average: WeightAverage,
    optimizer: torch.optim.Optimizer,
) -> dict[str, Any]:
    schedule = {name: value for name, value in asdict(recipe).items() if name not in ("model", "notes")}
    return {
        "step": step,
        "seed": settings.seed,
        "recipe": schedule,
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }


def _resume(
    recipe: Recipe,
    settings: Settings,
    model: nn.Module,
    average: WeightAverage,
    optimizer: torch.optim.Optimizer,
) -> int:
    state = load_newest(settings.out / "checkpoints")
    if state is None:
        return 0
    if state["recipe"]["name"] != recipe.name or state["seed"] != settings.seed:
        raise CheckpointError(
            f"{settings.out} holds a run of recipe {state['recipe']['name']!r} with seed {state['seed']}, "
            f"not {recipe.name!r} with seed {settings.seed}. Choose another --out, or the same recipe and seed."
        )
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    log.info("going on from step %d", state["step"])
    return int(state["step"])
