"""Trains the corrector of pixels of a photograph codec on files of that codec: a last phase, all else as it is.

Symbols do not depend on what the decoder makes of them, so every photograph is coded once, at a few qualities, and
what the inverse wavelet makes of it is kept on disk; then the network alone is trained on crops, ten times as fast as
the whole model. Loss and weights of qualities are those of `rdae train`.

python scripts/train_finisher.py RUN photo WORK --data PHOTOS --steps 20000    # an hour or two of one core

Goes on from WORK/state.pt where it was stopped. WORK/checkpoints then holds the model: RUN's, with the new weights.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.coding.files import write_text
from rdae.coding.model import unpack_model
from rdae.coding.pyramid import PyramidCoder
from rdae.coding.tiles import Box, padded, pixels_of
from rdae.data.photographs import find_images, read_rgb
from rdae.networks.block_corrector import BLOCK
from rdae.networks.shuffle import depth_to_space
from rdae.networks.subbands import FOLDED_BANDS, HANDED, planes, quality_bytes
from rdae.recipes.photo import photo, photo_ssim
from rdae.training.averaging import WeightAverage
from rdae.training.checkpoint import save_checkpoint
from rdae.training.export_subbands import export_subbands
from rdae.training.start import find_start

RECIPES = {"photo": photo, "photo-ssim": photo_ssim}
PER_STEP = 64  # blocks are kept in 64ths of the step
TOP_QUALITY = 72  # beyond it the finisher has little to add
KINDS = {"pixels": np.uint8, "blocks": np.int16, "symbols": np.int8, "handed": np.uint8}


class Coded:
    """Coded photographs on disk: an index, and one file for each kind of array."""

    def __init__(self, stem: Path) -> None:
        self.entries: list[dict[str, Any]] = json.loads(stem.with_suffix(".json").read_text())
        self._arrays = {kind: np.memmap(stem.with_suffix(f".{kind}"), np.uint8, "r") for kind in KINDS}

    def view(self, number: int, kind: str) -> np.ndarray:
        """An array of a coded photograph."""
        start, shape = self.entries[number][kind]
        size = int(np.prod(shape)) * np.dtype(KINDS[kind]).itemsize
        return self._arrays[kind][start : start + size].view(KINDS[kind]).reshape(shape)

    def crop(self, number: int, top: int, left: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels in [0, 1], blocks in units of the step, what their corrector is told."""
        rows, columns = slice(top // BLOCK, (top + size) // BLOCK), slice(left // BLOCK, (left + size) // BLOCK)
        pixels = torch.from_numpy(self.view(number, "pixels")[top : top + size, left : left + size].astype(np.float32))
        blocks, symbols, handed = (
            torch.from_numpy(self.view(number, kind)[:, rows, columns].astype(np.float32))
            for kind in ("blocks", "symbols", "handed")
        )
        quality = quality_bytes(torch.tensor([self.entries[number]["lam"]]))
        told = torch.cat([symbols.clamp_min(0), (-symbols).clamp_min(0), handed, planes(quality, handed)[0]])
        return pixels.permute(2, 0, 1) / 255, blocks / PER_STEP, told


@torch.no_grad()
def code(model: RateDistortionAutoencoder, recipe: Any, photographs: list[Path], stem: Path, per: int) -> None:
    """Codes photographs at `per` qualities each, spread evenly and drawn within their parts."""
    file = unpack_model(export_subbands(model, recipe, {}))
    coder, rng = PyramidCoder.of(file), np.random.default_rng(0)
    decoder: Any = model.decoder
    entries, files = [], {kind: open(stem.with_suffix(f".{kind}"), "wb") for kind in KINDS}  # noqa: SIM115

    def kept(kind: str, array: np.ndarray) -> list:
        start = files[kind].tell()
        files[kind].write(array.astype(KINDS[kind]).tobytes())
        return [start, list(array.shape)]

    for path in photographs:
        whole = read_rgb(path)
        height, width = (side // BLOCK * BLOCK for side in whole.shape[:2])
        pixels = kept("pixels", whole[:height, :width])
        box = Box(0, 0, *(padded(side, coder.unit) for side in (height, width)))
        y = torch.from_numpy(pixels_of(whole[:height, :width], box).copy()).permute(2, 0, 1)[None].float() / 255
        for part in range(per):
            level = round((part + rng.random()) * TOP_QUALITY / per / 100 * (len(file.lam) - 1))
            lam = torch.tensor(file.lam[level : level + 1], dtype=torch.float32)
            latents = file.run("analysis", {"y": y.numpy(), "lam": lam.numpy()})
            stream, symbols = coder.encode([x[0] for x in latents], level, (height, width))
            low, *details = (torch.from_numpy(q.astype(np.float32))[None] for q in symbols)
            blocks, told = decoder.blocks([low, *(depth_to_space(q) for q in details)], lam)
            rows, columns = height // BLOCK, width // BLOCK
            whole_steps = (blocks[0, :, :rows, :columns] * PER_STEP).round().clamp(-32767, 32767)
            seen = told[0, : 2 * FOLDED_BANDS + HANDED, :rows, :columns].numpy()
            entries.append(
                {
                    "lam": float(lam),
                    "bpp": 8 * len(stream) / (height * width),
                    "pixels": pixels,
                    "blocks": kept("blocks", whole_steps.numpy()),
                    "symbols": kept("symbols", seen[:FOLDED_BANDS] - seen[FOLDED_BANDS : 2 * FOLDED_BANDS]),
                    "handed": kept("handed", seen[2 * FOLDED_BANDS :]),
                }
            )  # fmt: skip
    for file_ in files.values():
        file_.close()
    write_text(stem.with_suffix(".json"), json.dumps(entries))


def drawn(data: Coded, rng: np.random.Generator, batch: int, size: int) -> tuple[Tensor, ...]:
    """A batch of crops: pixels, blocks, what their corrector is told, lam, bits per pixel."""
    numbers = rng.integers(len(data.entries), size=batch)
    crops = []
    for number in numbers:
        height, width = data.entries[number]["pixels"][1][:2]
        top, left = (BLOCK * int(rng.integers((side - size) // BLOCK + 1)) for side in (height, width))
        crops.append(data.crop(number, top, left, size))
    told = [torch.tensor([data.entries[number][key] for number in numbers]) for key in ("lam", "bpp")]
    return *(torch.stack(part) for part in zip(*crops, strict=True)), *told


def main() -> None:
    """Codes what is not coded yet, trains, writes the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("run", help="the run whose model it is, or a shipped model")
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--per", type=int, default=4, help="qualities of each photograph")
    parser.add_argument("--seed", type=int, default=7, help="of the crops")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    recipe = RECIPES[options.recipe]()
    model = recipe.trained(find_start(options.run).weights)
    stem = options.work / "coded"
    if not stem.with_suffix(".json").exists():
        code(model, recipe, [path for path, _ in find_images(options.data)], stem, options.per)
    train(model, recipe, Coded(stem), options)


def train(model: RateDistortionAutoencoder, recipe: Any, data: Coded, options: argparse.Namespace) -> None:
    """Adam; the rate rises for 100 steps, falls evenly over the last 60 %."""
    decoder: Any = model.decoder
    finisher = decoder.finisher.requires_grad_(True).to(memory_format=torch.channels_last)
    average = WeightAverage(finisher, 0.999)
    optimizer = torch.optim.Adam(finisher.parameters(), options.rate, betas=(0.9, 0.99))
    kept, first = options.work / "state.pt", 0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        first = state["step"]
        finisher.load_state_dict(state["finisher"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
    losses: list[float] = []
    for step in range(first, options.steps):
        rate = options.rate * min(1.0, (step + 1) / 100, (1 - step / options.steps) / 0.6)
        for group in optimizer.param_groups:
            group["lr"] = rate
        rng = np.random.default_rng([options.seed, step])
        y, blocks, told, lam, bpp = drawn(data, rng, options.batch, options.size)
        found = decoder.finished(blocks, told, lam)
        loss = (lam * model.distortion(y, found) / options.size**2 / (bpp + 0.05).sqrt()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update()
        losses.append(float(loss.detach()))
        if (step + 1) % 200 == 0 or step + 1 == options.steps:
            with open(options.work / "log.jsonl", "a") as log:
                log.write(json.dumps({"step": step + 1, "loss": float(np.mean(losses)), "rate": rate}) + "\n")
            losses.clear()
            state = {"step": step + 1, "finisher": finisher.state_dict(), "average": average.state_dict()}
            torch.save(state | {"optimizer": optimizer.state_dict()}, kept.with_suffix(".partial"))
            os.replace(kept.with_suffix(".partial"), kept)
    finisher.load_state_dict(average.average)
    weights = model.state_dict()
    save_checkpoint(
        options.work / "checkpoints",
        {"step": options.steps, "recipe": {"name": recipe.name}, "model": weights, "average": {"average": weights}},
    )


if __name__ == "__main__":
    main()
