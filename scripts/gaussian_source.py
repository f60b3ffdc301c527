"""Models of a Gaussian source held against its rate-distortion function: the tables of docs/limits.md.

    python scripts/gaussian_source.py --work runs/gaussian

The source has 32 dimensions, variances that fall by a factor of 100 in a basis drawn at random. Noisy-channel models
(recipe gaussian_rda, linear networks, the package's loop) are trained at five rates and judged on 100,000 fresh
examples; rounding models at the two highest, whose symbols are written to real streams by the package's range coder.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import put, table
from torch import Tensor, nn

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import Mixed
from rdae.coding.rangecoder import CoderTables, SymbolReader, SymbolWriter
from rdae.coding.tables import Tables
from rdae.data.arrays import ArrayData, Kind
from rdae.data.synthetic import GaussianSource
from rdae.measures.measure import Measure
from rdae.measures.rate_distortion import water_filling, water_filling_at_rate
from rdae.objectives import BITS_PER_NAT, rate_distortion
from rdae.priors.factorised import FactorisedPrior
from rdae.recipes import generative_recipe
from rdae.recipes.limits import operating_point
from rdae.training.checkpoint import load_newest
from rdae.training.export_convolutional import channel_tables
from rdae.training.loop import Settings, train

DOCS = Path(__file__).parent.parent / "docs"
SIZE = 32
VARIANCES = 4 * np.geomspace(1, 0.01, SIZE)
BITS = (0.1, 0.3, 1.0, 2.0, 3.0)  # per dimension
ROUNDED_BITS = BITS[-2:]
LEARNED_FROM, JUDGED_BY = 200_000, 100_000
CODED = 20_000  # examples of a stream
STEP_LOSS = 0.5 * math.log2(2 * math.pi * math.e / 12)  # bits that a uniform step loses, 0.2546
ROUNDING_STEPS, ROUNDING_BATCH = 6000, 512


def noisy(source: GaussianSource, bits: float, data: ArrayData, y: Tensor, work: Path) -> dict[str, Any]:
    """A noisy-channel model at a rate, beside R(D) at the distortion that it came to."""
    aim = water_filling_at_rate(source.variances, bits * SIZE / BITS_PER_NAT)
    recipe = generative_recipe("gaussian_rda", data, None, {
        "lam": aim.lam, "latent": SIZE, "hidden": (), "epochs": 50.0, "batch": 500, "learning_rate": 1e-2,
    })  # fmt: skip
    out = work / f"noisy-{bits:g}"
    train(recipe, Settings(data=work, out=out, accelerator="cpu", devices="1"))
    state = load_newest(out / "checkpoints")
    assert state is not None
    rate, distortion = operating_point(recipe.trained(state["average"]["average"]), y)
    return beside(source, bits, aim.lam, rate, distortion)


def beside(source: GaussianSource, bits: float, lam: float, rate: Measure, distortion: Measure) -> dict[str, Any]:
    """Rate and distortion of a model, and R at its distortion, in bits per dimension."""
    exact = water_filling(source.variances, distortion.value)
    per_dimension = BITS_PER_NAT / SIZE
    # an error of the distortion is one of R(D), of slope -lam
    error = math.hypot(rate.standard_error, exact.lam * distortion.standard_error)
    return {
        "asked_bits": bits, "lam": lam, "distortion": distortion.value, "rate_bits": rate.value * per_dimension,
        "exact_bits": exact.rate * per_dimension, "error_bits": error * per_dimension,
        "active": int((source.variances > exact.level).sum()),
    }  # fmt: skip


class WithLam(nn.Module):
    """A network that has no use for lam."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, lam: Tensor) -> Tensor:
        return self.net(x)


def rounding_model(source: GaussianSource, lam: float) -> RateDistortionAutoencoder:
    """Linear, from the principal axes on, in the step that is best at high rates: step**2 / 12 = 1 / (2 lam)."""
    step = math.sqrt(6 / lam)
    encoder, decoder = nn.Conv2d(SIZE, SIZE, 1), nn.Conv2d(SIZE, SIZE, 1)
    basis = torch.from_numpy(source.basis.copy()).float()
    with torch.no_grad():
        encoder.weight.copy_((basis.T / step)[..., None, None])
        decoder.weight.copy_((basis * step)[..., None, None])
    spread = torch.from_numpy(np.sqrt(source.variances)).float() / step
    prior = FactorisedPrior(spread, slope=0.0, components=1, family="gaussian")
    prior.gain.requires_grad_(False)
    return RateDistortionAutoencoder(WithLam(encoder), prior, WithLam(decoder), Mixed())


def rounded(source: GaussianSource, bits: float, data: ArrayData) -> dict[str, Any]:
    """A rounding model at a rate, its symbols written and read again."""
    lam = water_filling_at_rate(source.variances, bits * SIZE / BITS_PER_NAT).lam
    torch.manual_seed(0)
    model = rounding_model(source, lam)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ROUNDING_STEPS)
    for _ in range(ROUNDING_STEPS):
        y = data.values[torch.randint(len(data), (ROUNDING_BATCH,))][..., None, None]
        loss = rate_distortion(model(y, torch.full((len(y),), lam)).terms, lam).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    y = torch.from_numpy(source.sample(CODED, seed=3)).float()[..., None, None]
    with torch.no_grad():
        z = torch.floor(model.encoder(y, y) + 0.5)
        squared = (y - model.decoder(z, y)).square().flatten(1).sum(1)
        index = model.prior.index(torch.full((1,), lam))
        estimate = float(model(y, torch.full((len(y),), lam)).terms.rate.mean())
    symbols = z.flatten(1).int().numpy()
    numbers, reach, counts = channel_tables(model.prior.density, index)
    tables, of_table = CoderTables(Tables(reach, counts)), np.tile(numbers[0], len(symbols))
    writer = SymbolWriter()
    writer.write(symbols.ravel(), of_table, tables)
    stream = writer.finish()
    assert (SymbolReader(stream).read(of_table, tables) == symbols.ravel()).all()
    nats = 8 * len(stream) / BITS_PER_NAT / CODED
    distortion = Measure(float(squared.mean()), float(squared.std()) / math.sqrt(CODED), "", "estimate")  # type: ignore[arg-type]
    # bytes are those of this very sample; what they would be of another varies as ln p does, half of Gauss's chi-square
    spread = math.sqrt(SIZE / 2 / CODED)
    found = beside(source, bits, lam, Measure(nats, spread, "", "estimate"), distortion)  # type: ignore[arg-type]
    beyond = (found["rate_bits"] - found["exact_bits"]) * SIZE / found["active"]
    return found | {
        "bytes": len(stream), "estimate_bits": estimate * BITS_PER_NAT / SIZE, "beyond_bits_per_active": beyond,
        "error_per_active": found["error_bits"] * SIZE / found["active"],
    }  # fmt: skip


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Tables of docs/limits.md by mark."""
    first = [
        [f"{m['asked_bits']:g}", f"{m['lam']:.4g}", f"{m['distortion']:.4f}", f"{m['rate_bits']:.4f}",
         f"{m['exact_bits']:.4f} ± {m['error_bits']:.4f}", f"{100 * (m['rate_bits'] / m['exact_bits'] - 1):+.2f} %"]
        for m in result["noisy"]
    ]  # fmt: skip
    second = [
        [f"{m['asked_bits']:g}", f"{m['bytes']:,}", f"{m['rate_bits']:.4f}", f"{m['estimate_bits']:.4f}",
         f"{m['exact_bits']:.4f} ± {m['error_bits']:.4f}", f"{m['active']}",
         f"{m['beyond_bits_per_active']:.4f} ± {m['error_per_active']:.4f}"]
        for m in result["rounded"]
    ]  # fmt: skip
    return {
        "noisy-gaussian": table(["asked for", "λ", "squared error", "rate of the model", "R(D)", "above it"], first),
        "rounded-gaussian": table(
            ["asked for", "bytes", "of the stream", "the model's estimate", "R(D)", "active", "above it, per active"],
            second,
        ),
    }  # fmt: skip


def main() -> None:
    """Trains, judges, fills the tables in."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, default=DOCS)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    source = GaussianSource.rotated(VARIANCES, seed=0)
    data = ArrayData(torch.from_numpy(source.sample(LEARNED_FROM, seed=1)).float(), Kind.REAL, name="a Gaussian")
    y = torch.from_numpy(source.sample(JUDGED_BY, seed=2)).float()
    result: dict[str, Any] = {"dimension": SIZE, "variances": VARIANCES.tolist(), "step_loss_bits": STEP_LOSS}
    result["noisy"] = [noisy(source, bits, data, y, arguments.work) for bits in BITS]
    result["rounded"] = [rounded(source, bits, data) for bits in ROUNDED_BITS]
    (arguments.output / "results").mkdir(parents=True, exist_ok=True)
    (arguments.output / "results" / "gaussian-source.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    page = arguments.output / "limits.md"
    for mark, text in tables(result).items():
        print(text)
        if page.exists():
            put(page, mark, text)


if __name__ == "__main__":
    main()
