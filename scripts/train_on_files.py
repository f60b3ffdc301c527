"""Trains parts of a photograph codec on files of that codec: a last phase, all else as it is.

Symbols are chosen by the encoder as a file holds them, after its second look at what the decoder makes of a draft. So
every photograph is coded once, at a few qualities, and its symbols are kept on disk. Then the decoder's networks are
trained to make the picture of them, or those of the prior to foretell them, on crops, several times as fast as the
whole model; or the prior's low band alone, on whole photographs. Losses and weights of qualities are those of
`rdae train`. The symbols are those of RUN: once its decoder has changed, the encoder chooses others, so another WORK
folder for what is trained next makes them anew.

python scripts/train_on_files.py RUN photo WORK --data PHOTOS --part decoder --steps 8000   # an hour of a core
python scripts/train_on_files.py RUN photo WORK --data PHOTOS --part prior --steps 2000
python scripts/train_on_files.py RUN photo WORK --data PHOTOS --part low --steps 2000 --rate 3e-2

Goes on from WORK/PART.pt where it was stopped. WORK/PART/ then holds the model: RUN's, with the new weights.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import Rounding
from rdae.coding.blending import PER_WAY, best_blend
from rdae.coding.codec import Codec
from rdae.coding.container import QUALITY_LEVELS
from rdae.coding.files import write_text
from rdae.coding.model import unpack_model
from rdae.coding.picture import from_array
from rdae.coding.tiles import Box
from rdae.data.photographs import find_images, read_rgb
from rdae.networks.blending import Blend
from rdae.networks.block_corrector import BLOCK, SAMPLES
from rdae.networks.pyramid import step_of
from rdae.networks.shuffle import depth_to_space
from rdae.networks.subbands import quality_bytes
from rdae.networks.wavelet import rgb_to_opponent, wavelet_synthesis
from rdae.recipes.photo import photo, photo_ssim
from rdae.training.averaging import WeightAverage
from rdae.training.checkpoint import save_checkpoint
from rdae.training.codec_recipe import evened
from rdae.training.export_subbands import export_subbands
from rdae.training.start import find_start

RECIPES = {"photo": photo, "photo-ssim": photo_ssim}
PER_STEP = 64  # blocks are kept in 64ths of the step
FIRST_CROPS = 240  # photographs that maps begin with
SHRINK = 0.1  # of the mean of what maps read, added to that of each photograph
SEEN = 768  # pixels on a side, at most, of photographs that blends are compared on
LEVELS_OF_BLENDS = (24, 60, 100)  # of quality
PRIOR_WEIGHT = 2.0  # of the identity, in pictures with a blend of 1
UNIT = 64  # crops begin at multiples of so many pixels


class Coded:
    """Coded photographs on disk, those of at least `side` pixels: an index, and one file of arrays of 16 bits."""

    def __init__(self, stem: Path, side: int) -> None:
        entries: list[dict[str, Any]] = json.loads(stem.with_suffix(".json").read_text())
        self.entries = [entry for entry in entries if min(entry["pixels"][1][1:]) >= side]
        self._data = np.memmap(stem.with_suffix(".int16"), np.int16, "r")

    def crop(self, number: int, name: str, box: Box, unit: int) -> Tensor:
        """A part of an array of a coded photograph, of which a position covers `unit` pixels, float32."""
        start, shape = self.entries[number][name]
        whole = self._data[start : start + math.prod(shape)].reshape(shape)
        return torch.from_numpy(whole[(slice(None), *box.cut(Box(0, 0, 0, 0), unit))].astype(np.float32))


def drawn(data: Coded, step: int, options: argparse.Namespace) -> tuple[list[tuple[int, Box]], Tensor, Tensor]:
    """Crops of a step: number and place of each, lam, bits per pixel."""
    rng = np.random.default_rng([options.seed, step])
    crops = []
    for number in np.repeat(rng.integers(len(data.entries), size=options.batch), options.crops):
        sides = data.entries[number]["pixels"][1][1:]
        top, left = (UNIT * int(rng.integers((side - options.size) // UNIT + 1)) for side in sides)
        crops.append((int(number), Box(top, left, top + options.size, left + options.size)))
    lam, bpp = (torch.tensor([data.entries[number][key] for number, _ in crops]) for key in ("lam", "bpp"))
    return crops, lam, bpp


@torch.no_grad()
def code(model: RateDistortionAutoencoder, recipe: Any, photographs: list[Path], stem: Path, per: int) -> None:
    """Codes photographs at `per` qualities each, spread evenly and drawn within their parts."""
    codec, rng = Codec(unpack_model(export_subbands(model, recipe, {}))), np.random.default_rng(0)
    decoder: Any = model.decoder
    entries, at = [], 0
    with open(stem.with_suffix(".int16"), "wb") as out:

        def kept(array: np.ndarray) -> list:
            nonlocal at
            place = [at, list(array.shape)]
            out.write(array.astype(np.int16).tobytes())
            at += array.size
            return place

        for path in photographs:
            whole = read_rgb(path)
            height, width = (side // UNIT * UNIT for side in whole.shape[:2])
            pixels = kept(whole[:height, :width].transpose(2, 0, 1))
            for part in range(per):
                level = round((part + rng.random()) / per * (QUALITY_LEVELS - 1))
                data, (symbols, _) = codec._encode(from_array(whole[:height, :width].copy()), level, [])
                low, *details = (torch.from_numpy(q.astype(np.float32))[None] for q in symbols)
                shown = wavelet_synthesis([low, *(depth_to_space(q) for q in details)], steps=decoder.steps)
                blocks = (F.pixel_unshuffle(shown, BLOCK)[0] * PER_STEP).round().clamp(-32767, 32767)
                entries.append(
                    {
                        "lam": float(codec.model.lam_of(level)[0]),
                        "bpp": 8 * len(data) / (height * width),
                        "pixels": pixels,
                        "blocks": kept(blocks.numpy()),
                    }
                    | {name: kept(q) for name, q in zip(codec._coder.latents, symbols, strict=True)}
                )
    write_text(stem.with_suffix(".json"), json.dumps(entries))


def unfolded(data: Coded, crops: list[tuple[int, Box]], level: int) -> Tensor:
    """Symbols of a level, `(B, 9, h, w)`."""
    name, unit = f"detail{level}", 2 ** (level + 1)
    return depth_to_space(torch.stack([data.crop(number, name, box, unit) for number, box in crops]))


class Shown(NamedTuple):
    """What the decoder makes of crops before its last step, and what it should be, in units of the step."""

    blocks: Tensor
    change: Tensor
    target: Tensor
    y: Tensor  # pixels in [0, 1]


def decoded(model: RateDistortionAutoencoder, data: Coded, crops: list[tuple[int, Box]], lam: Tensor) -> Shown:
    """The linear path of whole pictures is on disk, corrections are added."""
    decoder: Any = model.decoder
    coarsest = decoder.corrector.coarsest
    symbols = [unfolded(data, crops, level) for level in range(coarsest + 1, 0, -1)]
    quality = quality_bytes(lam)
    corrections, handed = decoder.corrector(symbols, quality)
    changes = [depth_to_space(c) for c in corrections]
    low = torch.zeros_like(changes[0][:, :3])
    steps = None if decoder.steps is None else (1.0, *decoder.steps[-coarsest:])
    moved = wavelet_synthesis([low, *changes, torch.zeros_like(symbols[-1])], steps=steps)
    blocks = torch.stack([data.crop(number, "blocks", box, BLOCK) for number, box in crops]) / PER_STEP
    blocks = blocks + F.pixel_unshuffle(moved, BLOCK)
    y = torch.stack([data.crop(number, "pixels", box, 1) for number, box in crops]) / 255
    target = F.pixel_unshuffle(rgb_to_opponent(y - 0.5) / step_of(lam)[:, None, None, None], BLOCK)
    return Shown(blocks, decoder.change(blocks, decoder.told(symbols[-1], handed, quality)), target, y)


def decoder_loss(model: RateDistortionAutoencoder, data: Coded, step: int, options: argparse.Namespace) -> Tensor:
    """Distortion, weighted as in training, each photograph with its best blend."""
    crops, lam, bpp = drawn(data, step, options)
    decoder: Any = model.decoder
    shown = decoded(model, data, crops, lam)
    blend = blends(decoder.blend, shown, options.crops)
    found = decoder.pixels(decoder.blend(shown.blocks, shown.change, blend), lam)
    return evened(lam * model.distortion(shown.y, found), options.size**2, bpp).mean()


def moments(maps: Blend, shown: Shown, crops: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of what maps read and of what is missing, summed over the crops of each photograph.

    Returns:
        `h^T h`, `(n, 96, 96)`; `h^T r`, `(n, 96, 48)`; `r^T r`, `(n,)`.
    """
    parts = maps.features(shown.blocks, shown.change), shown.target - maps(shown.blocks, shown.change)
    h, r = (x.unflatten(0, (-1, crops)).permute(0, 1, 3, 4, 2).flatten(1, 3) for x in parts)
    return (h.mT @ h).numpy(), (h.mT @ r).numpy(), r.square().sum((1, 2)).numpy()


@torch.no_grad()
def first_maps(model: RateDistortionAutoencoder, data: Coded, options: argparse.Namespace) -> Tensor:
    """Maps to begin with, of which zeros would learn nothing: `(ways, 96, 48)`.

    The principal directions, over crops of many photographs, of the map that would leave each the least squared error,
    in the metric of what maps read of all of them; each as large as photographs want of it in the mean.
    """
    maps: Any = model.decoder.blend
    grams, crosses, errors = [], [], []
    for step in range(FIRST_CROPS):
        crops, lam, _ = drawn(data, step, argparse.Namespace(**{**vars(options), "batch": 1, "crops": 4}))
        gram, cross, error = moments(maps, decoded(model, data, crops, lam), 4)
        grams.append(gram[0].astype(float))
        crosses.append(cross[0].astype(float))
        errors.append(float(error[0]))
    mean = np.mean(grams, 0)
    mean += 1e-6 * np.trace(mean) / len(mean) * np.eye(len(mean))
    root = np.linalg.cholesky(mean)
    wanted = [
        (root.T @ np.linalg.solve(gram + SHRINK * mean, cross)).ravel() / math.sqrt(error)
        for gram, cross, error in zip(grams, crosses, errors, strict=True)
    ]
    _, _, directions = np.linalg.svd(np.array(wanted), full_matrices=False)
    found = np.linalg.solve(root.T, directions[: len(maps.ways)].reshape(-1, *root.shape[:1], SAMPLES))
    for _ in range(4):  # blends are clipped and rounded, so their size settles in a few rounds
        taken = [best_blend(g, c, found)[0] / PER_WAY for g, c in zip(grams, crosses, strict=True)]
        found *= np.sqrt(np.mean(np.square(taken), 0))[:, None, None]
    return torch.from_numpy(found).float()


@torch.no_grad()
def blends(maps: Blend, shown: Shown, crops: int) -> Tensor:
    """The best blend of each photograph for its crops, `(B, ways)`, which is taken as given.

    Of squared error it is the minimum, so its gradient does not matter; for others that is an approximation.
    """
    gram, cross, _ = moments(maps, shown, crops)
    ways = maps.ways.numpy()
    found = [best_blend(g, c, ways)[0] for g, c in zip(gram, cross, strict=True)]
    return torch.from_numpy(np.stack(found)).float().div(PER_WAY).repeat_interleave(crops, 0)


def prior_loss(model: RateDistortionAutoencoder, data: Coded, step: int, options: argparse.Namespace) -> Tensor:
    """Rate, weighted as in training."""
    crops, lam, bpp = drawn(data, step, options)
    prior: Any = model.prior
    low = torch.stack([data.crop(number, "low", box, 2**prior.levels) for number, box in crops])
    symbols = [low, *(unfolded(data, crops, level) for level in range(prior.levels, 0, -1))]
    rate = prior(symbols, Rounding(), lam).rate
    return evened(rate, options.size**2, bpp).mean()


def low_loss(model: RateDistortionAutoencoder, data: Coded, step: int, options: argparse.Namespace) -> Tensor:
    """Rate of the low band of whole photographs, weighted as in training."""
    rng, prior = np.random.default_rng([options.seed, step]), cast("Any", model.prior)
    losses = []
    for number in rng.integers(len(data.entries), size=options.batch * options.crops):
        height, width = data.entries[number]["pixels"][1][1:]
        low = data.crop(number, "low", Box(0, 0, height, width), 2**prior.levels)[None]
        losses.append(evened(prior.low(low)[0], height * width, torch.tensor(data.entries[number]["bpp"])))
    return torch.cat(losses).mean()


@torch.no_grad()
def later_blends(model: RateDistortionAutoencoder, recipe: Any, photographs: list[Path]) -> Tensor:
    """What makes the blend that suits a file of that which suits its draft, `(ways + 1, ways)`, by least squares.

    A draft has other errors than the file that comes of it, so another blend suits it. Close to the identity where
    there are few photographs.
    """
    codec = Codec(unpack_model(export_subbands(model, recipe, {})))
    drafts, files = [], []
    for path in photographs:
        picture = from_array(np.ascontiguousarray(read_rgb(path)[:SEEN, :SEEN]))
        box = Box(0, 0, *picture.size)
        for level in LEVELS_OF_BLENDS:
            _, symbols, draft = codec._tile_stream(picture, box, level)
            best = codec._blend(picture, box, level, symbols)
            if len(draft) and len(best):
                drafts.append(np.append(draft / PER_WAY, 1))
                files.append(best / PER_WAY)
    blend: Any = model.decoder.blend
    ways = len(blend.ways)
    identity = np.eye(ways + 1, ways)
    if not drafts:
        return torch.from_numpy(identity).float()
    x, wanted = np.array(drafts), np.array(files)
    prior = np.diag([*[PRIOR_WEIGHT] * ways, 1e-9])
    change = np.linalg.solve(x.T @ x + prior, x.T @ (wanted - x @ identity))
    return torch.from_numpy(identity + change).float()


LOSSES = {"decoder": decoder_loss, "prior": prior_loss, "low": low_loss}


def main() -> None:
    """Codes what is not coded yet, trains, writes the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("run", help="the run whose model it is, or a shipped model")
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--part", choices=LOSSES, default="decoder")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=2, help="photographs a step (low: times --crops)")
    parser.add_argument("--crops", type=int, default=3, help="of each photograph")
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--per", type=int, default=5, help="qualities of each photograph")
    parser.add_argument("--every", type=int, default=15, help="photograph to compare blends on")
    parser.add_argument("--seed", type=int, default=7, help="of the crops")
    options = parser.parse_args()
    if options.size % UNIT:
        parser.error(f"--size {options.size}: crops must be multiples of {UNIT} pixels.")
    options.work.mkdir(parents=True, exist_ok=True)
    recipe = RECIPES[options.recipe]()
    model = recipe.trained(find_start(options.run).weights)
    stem = options.work / "coded"
    if not stem.with_suffix(".json").exists():
        code(model, recipe, [path for path, _ in find_images(options.data)], stem, options.per)
    data = Coded(stem, options.size)
    if options.part == "decoder" and not model.decoder.blend.ways.any():
        with torch.no_grad():
            model.decoder.blend.ways.copy_(first_maps(model, data, options))
    train(model, data, options)
    if options.part == "decoder":
        some = [path for path, _ in find_images(options.data)][:: options.every]
        model.decoder.blend.later = torch.eye(*model.decoder.blend.later.shape)  # drafts are to be seen as they are
        model.decoder.blend.later = later_blends(model, recipe, some)
    weights = model.state_dict()
    save_checkpoint(
        options.work / options.part,
        {"step": options.steps, "recipe": {"name": recipe.name}, "model": weights, "average": {"average": weights}},
    )


def train(model: RateDistortionAutoencoder, data: Coded, options: argparse.Namespace) -> None:
    """Adam; the rate rises for 100 steps, falls evenly over the last 60 %. The model gets the mean weights."""
    part = cast("nn.Module", model.get_submodule({"low": "prior.low"}.get(options.part, options.part)))
    model.train().requires_grad_(False)
    part.requires_grad_(True).to(memory_format=torch.channels_last)
    average = WeightAverage(part, 0.999)
    optimizer = torch.optim.Adam(part.parameters(), options.rate, betas=(0.9, 0.99))
    kept, first = options.work / f"{options.part}.pt", 0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        first = state["step"]
        part.load_state_dict(state["part"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
    losses: list[float] = []
    for step in range(first, options.steps):
        rate = options.rate * min(1.0, (step + 1) / 100, (1 - step / options.steps) / 0.6)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = LOSSES[options.part](model, data, step, options)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update()
        losses.append(float(loss.detach()))
        if (step + 1) % 200 == 0 or step + 1 == options.steps:
            with open(options.work / f"{options.part}.jsonl", "a") as log:
                log.write(json.dumps({"step": step + 1, "loss": float(np.mean(losses)), "rate": rate}) + "\n")
            losses.clear()
            state = {"step": step + 1, "part": part.state_dict(), "average": average.state_dict()}
            torch.save(state | {"optimizer": optimizer.state_dict()}, kept.with_suffix(".partial"))
            os.replace(kept.with_suffix(".partial"), kept)
    part.load_state_dict(average.average)


if __name__ == "__main__":
    main()
