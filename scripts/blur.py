"""Which decoders blur, at equal rate: the numbers and pictures of docs/blur.md.

    python scripts/blur.py PHOTOS --test FOLDER [FOLDER ...] --work runs/blur

Photographs are reduced so that the shorter side has 128 pixels; the models learn random crops of 64 x 64 of those
below PHOTOS and are judged on four of each photograph below the test folders. One encoder and one decoder are trained
with each distortion at each rate; lam follows the rate until it is the one asked for. Crops and trained models are kept
in the work folder: what is there is not made again. Pictures are drawn, and the page's tables filled in, at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from blur_page import draw, tables
from figures import put
from PIL import Image
from torch import Tensor, nn

import rdae
from rdae.autoencoder import NoisyChannelAutoencoder, Output, RateDistortionAutoencoder
from rdae.channels import Mixed, Rounding
from rdae.data.arrays import ArrayData, Kind
from rdae.data.photographs import decoded_images
from rdae.distortions import absolute_error, psnr, squared_error
from rdae.likelihoods import Gaussian, Laplace, Likelihood
from rdae.measures.measure import Kind as Statement
from rdae.measures.measure import Measure, mean_of
from rdae.measures.sharpness import (
    OCTAVES,
    band_power,
    gradient_energy,
    independent_ratio,
    laplacian_variance,
    paired_ratio,
    power_spectrum,
)
from rdae.multipliers import Multipliers
from rdae.objectives import BITS_PER_NAT, Terms
from rdae.priors.factorised import FactorisedPrior
from rdae.priors.latent import StandardNormalPrior
from rdae.recipes.noisy_channel import decoder_for, encoder_for, one_layer
from rdae.training.checkpoint import load_newest
from rdae.training.generative_recipe import GenerativeRecipe
from rdae.training.loop import Settings, train

DOCS = Path(__file__).parent.parent / "docs"
SIDE, SHORTER = 64, 128
CROPS, QUARTERS = 20, 4  # of each photograph, to learn from and to be judged on
RATES = (50.0, 600.0)  # nats per picture
LATENT = 256
NETWORK: tuple[Any, ...] = ("convolutional", (), (8, 16, 48, 96))
SPREAD = 0.2  # of learned spreads, where they start
STEP_SCALE = 4.0  # latents in rounding steps, against the encoder's output at the start
QUALITIES = (0, 10, 20, 35, 50, 75, 100)  # of the shipped codec
SHOWN = range(0, 16, 2)  # photographs


def reduced(pixels: np.ndarray) -> np.ndarray:
    """A photograph whose shorter side has `SHORTER` pixels."""
    image = Image.fromarray(pixels)
    factor = SHORTER / min(image.size)
    size = tuple(max(SHORTER, round(side * factor)) for side in image.size)
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS))


def random_crops(pixels: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """`CROPS` crops, half of them mirrored, `(3, SIDE, SIDE)` each."""
    for k in range(CROPS):
        top, left = (int(rng.integers(0, side - SIDE + 1)) for side in pixels.shape[:2])
        crop = pixels[top : top + SIDE, left : left + SIDE]
        yield (crop[:, ::-1] if k % 2 else crop).transpose(2, 0, 1)


def quarters(pixels: np.ndarray) -> list[np.ndarray]:
    """The four crops around the centre, `(3, SIDE, SIDE)` each."""
    top, left = (side // 2 - SIDE for side in pixels.shape[:2])
    corners = [(top, left), (top, left + SIDE), (top + SIDE, left), (top + SIDE, left + SIDE)]
    return [pixels[r : r + SIDE, c : c + SIDE].transpose(2, 0, 1) for r, c in corners]


def training_crops(photographs: Path, kept: Path) -> ArrayData:
    """What the models learn from, made once."""
    if not kept.exists():
        rng = np.random.default_rng(0)
        crops = [crop for _, pixels in decoded_images(photographs) for crop in random_crops(reduced(pixels), rng)]
        np.save(kept, np.stack(crops))
    return ArrayData(torch.from_numpy(np.load(kept)), Kind.BYTES, name=str(kept))


@dataclass
class HeldRate:
    """`rate + lam * distortion`, lam rising while the rate is below the one asked for and falling while it is above.

    lam stays where it starts for the first fifth of the run, in which a rate says little; its steps shrink to nothing
    towards the end, and it becomes a constant.

    Args:
        nats: the rate to hold, per example.
        lam: where to start, nats per unit of distortion.
        steps: of the run.
        gain: of ln lam for a rate off by a factor e.
    """

    nats: float
    lam: float
    steps: int
    gain: float = 0.01

    def __call__(self, terms: Terms, step: int) -> Tensor:
        short = math.log(self.nats / max(float(terms.rate.detach().mean()), 1e-3))
        share = min(1.0, 2 * (1 - step / self.steps)) if step > self.steps / 5 else 0.0
        self.lam *= math.exp(self.gain * share * max(-1.0, min(1.0, short)))
        return terms.rate + self.lam * terms.distortion


class _Coarse(nn.Module):
    """An encoder of vectors as one of a single latent sample per channel, in rounding steps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, y: Tensor, lam: Tensor) -> Tensor:
        return STEP_SCALE * self.network(y)[..., None, None]


class _Fine(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, lam: Tensor) -> Tensor:
        return self.network(z.flatten(1) / STEP_SCALE)


class RoundingAutoencoder(RateDistortionAutoencoder):
    """One lam for all. In training the rate has the value of rounded latents and the gradient of noisy ones."""

    def forward(self, y: Tensor, lam: Tensor | float = 1.0) -> Output:
        lam = torch.full((len(y),), 20.0)  # a number that no part depends on
        z = self.encoder(y, lam)
        coded = self.prior(z, self.channel, lam)
        rate = coded.rate + (self.prior(z, Rounding(), lam).rate - coded.rate).detach()
        y_hat = self.decoder(coded.latent, lam)
        return Output(y_hat, Terms(rate, self.distortion(y, y_hat)), coded.latent)

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        """Whole numbers drawn from the densities, decoded."""
        density = self.prior.density
        channel, index = torch.arange(density.channels)[:, None], torch.zeros(1, 1)
        reach = int(density.reach(channel, index).max())
        symbols = torch.arange(-reach, reach + 1.0)
        z = symbols[torch.distributions.Categorical(logits=density.log_prob(symbols, channel, index)).sample((count,))]
        return self.decoder(z[..., None, None], torch.ones(count))

    def shown(self, out: Tensor) -> Tensor:
        """The decoder's output is a picture."""
        return out


def noisy(data: ArrayData, distortion: Callable[[Tensor, Tensor], Tensor]) -> NoisyChannelAutoencoder:
    """The networks with Gaussian noise between them."""
    return one_layer(data, StandardNormalPrior(LATENT), distortion, LATENT, *NETWORK)


def rounding(data: ArrayData) -> RoundingAutoencoder:
    """The same networks with rounding between them, and a learned density for each latent."""
    prior = FactorisedPrior(torch.ones(LATENT), slope=0.0)
    prior.gain.requires_grad_(False)  # one lam, one density
    return RoundingAutoencoder(
        _Coarse(encoder_for(data, LATENT, *NETWORK)), prior,
        _Fine(decoder_for(data, LATENT, squared_error, *NETWORK)), Mixed(),
    )  # fmt: skip


class Contestant(NamedTuple):
    """A model, its lam to start with, and the density whose bound it maximises at its last lam."""

    model: Callable[[ArrayData], Any]
    lam: float
    likelihood: Callable[[float, Any], Likelihood]


def _gaussian(lam: float, model: Any) -> Likelihood:
    return Gaussian(Multipliers(lam).sigma)


def _own(lam: float, model: Any) -> Likelihood:
    return model.distortion


CONTESTANTS = {
    "L2": Contestant(lambda data: noisy(data, squared_error), 5.0, _gaussian),
    "L1": Contestant(lambda data: noisy(data, absolute_error), 3.0, lambda lam, model: Laplace(1 / lam)),
    "L2, one sigma": Contestant(lambda data: noisy(data, Gaussian(SPREAD, learned="one")), 0.1, _own),
    "L2, sigma(z)": Contestant(lambda data: noisy(data, Gaussian(SPREAD, learned="element")), 0.1, _own),
    "L2, rounding": Contestant(rounding, 50.0, _gaussian),
}  # fmt: skip


@dataclass
class Trained:
    """A model with its averaged weights."""

    name: str
    target: float
    model: Any
    lam: float
    seconds: float

    @property
    def likelihood(self) -> Likelihood:
        """The density of pictures given a latent."""
        return CONTESTANTS[self.name].likelihood(self.lam, self.model)


def trained(name: str, target: float, data: ArrayData, work: Path, arguments: argparse.Namespace) -> Trained:
    """A contestant at a rate, from the work folder where it is there."""
    contestant = CONTESTANTS[name]
    stem = f"{list(CONTESTANTS).index(name)}-{target:g}"
    kept, folder = work / f"{stem}.pt", work / stem
    if not kept.exists():
        shutil.rmtree(folder, ignore_errors=True)  # a run cut short has lost its lam
        weigh = HeldRate(target, contestant.lam, arguments.steps)
        recipe = GenerativeRecipe(
            name="blur", model=lambda: contestant.model(data).to(memory_format=torch.channels_last), data=data,
            weigh=weigh, steps=arguments.steps, batch=arguments.batch, learning_rate=2e-3, weight_decay=0.0,
            betas=(0.9, 0.999), average=0.995, clip=1.0,
        )  # fmt: skip
        start = time.process_time()
        train(recipe, Settings(data=work, out=folder, accelerator="cpu", devices="1"))
        state = load_newest(folder / "checkpoints")
        assert state is not None
        seconds = time.process_time() - start
        torch.save({"weights": state["average"]["average"], "lam": weigh.lam, "seconds": seconds}, kept)
        print(f"{name} at {target:g} nats: lam {weigh.lam:.4g}, {seconds:.0f} s of CPU", flush=True)
    state = torch.load(kept, weights_only=True)
    model = contestant.model(data).eval()
    model.load_state_dict(state["weights"])
    return Trained(name, target, model, state["lam"], state["seconds"])


def by_photograph(values: Tensor) -> Tensor:
    """Means over the crops of each photograph: they are no independent pictures."""
    return values.unflatten(0, (-1, QUARTERS)).mean(1)


MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "gradient": gradient_energy,
    "laplacian": laplacian_variance,
    **{f"band{k}": lambda y, k=k: band_power(y)[:, k] for k in range(len(OCTAVES))},
}


def sharpness(images: Tensor, y: Tensor, ratio: Callable[[Tensor, Tensor], Measure]) -> dict[str, Any]:
    """All ratios, and the mean spectrum."""
    found: dict[str, Any] = {
        name: ratio(by_photograph(measure(images)), by_photograph(measure(y))) for name, measure in MEASURES.items()
    }
    return found | {"power": power_spectrum(images).power.mean(0).tolist()}


class Judged(NamedTuple):
    """The numbers of a model, and its pictures."""

    numbers: dict[str, Any]
    reconstructions: Tensor
    samples: Tensor


@torch.no_grad()
def judged(t: Trained, y: Tensor) -> Judged:
    """A model on held-out crops, in [0, 1]. Reconstructions are those of latents drawn from the channel: they are what
    the rate pays for. Pictures are clipped to [0, 1]."""
    torch.manual_seed(0)
    out = t.model(y)
    raw = t.model.shown(out.y_hat)
    y_hat, samples = raw.clamp(0, 1), t.model.sample(len(y)).clamp(0, 1)
    likelihood = t.likelihood
    drawn = likelihood.sample(out.y_hat).clamp(0, 1)
    missing = {
        f"band{k}": paired_ratio(
            by_photograph(band_power(y)[:, k] - band_power(raw)[:, k]), by_photograph(band_power(y - raw)[:, k])
        )
        for k in range(len(OCTAVES))
    }

    def mean(values: Tensor, unit: str) -> Measure:
        return mean_of(by_photograph(values), unit, Statement.ESTIMATE)

    spread = math.exp(float(likelihood.log_spread)) if getattr(likelihood, "learned", "") == "one" else None
    numbers = {
        "model": t.name,
        "target_nats": t.target,
        "rate": mean(out.terms.rate, "nats per picture"),
        "lam": t.lam,
        "spread": spread,
        "cpu_seconds": round(t.seconds),
        "elbo": mean(-out.terms.rate - likelihood(y, out.y_hat), "nats per picture"),
        "psnr": mean(psnr(y, y_hat), "dB"),
        "rmse": 255 * float(squared_error(y, y_hat).mean() / y[0].numel()) ** 0.5,
        "absolute": mean(255 * absolute_error(y, y_hat) / y[0].numel(), "levels"),
        "reconstructions": sharpness(y_hat, y, paired_ratio),
        "missing_over_error": missing,
        "drawn": sharpness(drawn, y, paired_ratio),
        "samples": sharpness(samples, y, independent_ratio),
    }
    return Judged(numbers, y_hat, samples)


def codec_points(photographs: list[np.ndarray], y: Tensor) -> list[dict[str, Any]]:
    """The shipped codec, trained on squared error, on whole reduced photographs: rate and sharpness of the crops."""
    codec = rdae.load()
    points = []
    for quality in QUALITIES:
        crops, nats = [], []
        for pixels in photographs:
            data = codec.compress(pixels, quality)
            shown = np.asarray(rdae.decompress(data, as_array=True))
            crops += quarters(shown)
            nats.append(8 * len(data) / BITS_PER_NAT * SIDE**2 / (pixels.shape[0] * pixels.shape[1]))
        y_hat = torch.from_numpy(np.stack(crops)).float() / 255
        points.append({
            "quality": quality,
            "rate": mean_of(torch.tensor(nats), "nats per picture", Statement.ESTIMATE),
            "psnr": mean_of(by_photograph(psnr(y, y_hat)), "dB", Statement.ESTIMATE),
            "reconstructions": sharpness(y_hat, y, paired_ratio),
        })  # fmt: skip
    return points


def plain(value: Any) -> Any:
    """For JSON: measures as value and standard error, numbers of five digits."""
    if isinstance(value, Measure):
        return [plain(value.value), plain(value.standard_error)]
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def main() -> None:
    """Makes crops, trains, measures, draws."""
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--test", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, default=DOCS)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    for folder in (arguments.work, arguments.output / "results", arguments.output / "images"):
        folder.mkdir(parents=True, exist_ok=True)
    data = training_crops(arguments.photographs, arguments.work / "crops.npy")
    photographs = [reduced(pixels) for folder in arguments.test for _, pixels in decoded_images(folder)]
    y = torch.from_numpy(np.stack([crop for pixels in photographs for crop in quarters(pixels)])).float() / 255
    models, pictures = [], {}
    shown = [QUARTERS * k for k in SHOWN]
    for rate in RATES:
        rows: dict[str, dict[str, Tensor]] = {"reconstructions": {"data": y[shown]}, "samples": {"data": y[shown]}}
        for name in CONTESTANTS:
            numbers, y_hat, samples = judged(trained(name, rate, data, arguments.work, arguments), y)
            print(json.dumps(plain({k: v for k, v in numbers.items() if not isinstance(v, dict)}), ensure_ascii=False))
            models.append(numbers)
            rows["reconstructions"][name], rows["samples"][name] = y_hat[shown], samples[: len(shown)]
        pictures[rate] = rows
    spectrum = power_spectrum(y)
    result = plain({
        "crops": len(data), "test_photographs": len(photographs), "test_crops": len(y), "steps": arguments.steps,
        "batch": arguments.batch, "latent": LATENT, "widths": list(NETWORK[2]), "seed": 0,
        "frequency": spectrum.frequency.tolist(), "data_power": spectrum.power.mean(0).tolist(), "models": models,
        "codec": codec_points(photographs, y),
    })  # fmt: skip
    (arguments.output / "results" / "blur.json").write_text(
        json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8"
    )
    draw(result, pictures, arguments.output / "images")
    page = arguments.output / "blur.md"
    if page.exists():
        for mark, text in tables(result).items():
            put(page, mark, text)


if __name__ == "__main__":
    main()
