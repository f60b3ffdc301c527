"""Makes tests/golden: small streams that every later version must decode, with a small codec file of their own.

    python scripts/make_golden.py

Run once per format version, never again for one that was released: the files are a promise, not a fixture.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import RateDistortionRounding
from rdae.coding.codec import Codec
from rdae.coding.model import unpack_model
from rdae.coding.picture import from_array
from rdae.coding.pil_images import to_pil
from rdae.networks.pyramid import PyramidEncoder
from rdae.networks.subbands import SubbandCorrector, SubbandDecoder
from rdae.priors.subbands import SubbandPrior
from rdae.recipes.photo import photo
from rdae.training.export_subbands import export_subbands

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"


def main() -> None:
    """Writes the codec file, the streams and what they decode to."""
    GOLDEN.mkdir(parents=True)
    torch.manual_seed(20)
    model = RateDistortionAutoencoder(
        PyramidEncoder(5), SubbandPrior(5, (8, 8, 8)), SubbandDecoder(SubbandCorrector((8, 8)), 8),
        RateDistortionRounding(6.0),
    )  # fmt: skip
    _scatter(model)
    data = export_subbands(model.eval(), replace(photo(), name="golden"), {"tile": 128})
    (GOLDEN / "golden.codec").write_bytes(data)
    codec = Codec(unpack_model(data))
    kodak = np.asarray(Image.open(GOLDEN.parents[1] / "examples" / "kodim23.png"))[180:330, 300:500]
    alpha = np.linspace(0, 255, kodak[..., 0].size).astype(np.uint8).reshape(kodak.shape[:2])
    pictures = {
        "rgb-tiles-q40": (kodak, 40),
        "rgb-odd-q75": (kodak[:67, :45], 75),
        "grey-q30": (kodak[..., 1], 30),
        "rgba-q20": (np.dstack([kodak, alpha])[:64, :64], 20),
        "grey16-q90": (kodak[:50, :70, 1].astype(np.uint16) * 200 + 77, 90),
        "one-pixel-q50": (kodak[:1, :1], 50),
    }
    for name, (pixels, quality) in pictures.items():
        stream = codec.compress_picture(from_array(pixels), quality).data
        (GOLDEN / f"{name}.rdae").write_bytes(stream)
        to_pil(codec.decompress(stream)).save(GOLDEN / f"{name}.png")


@torch.no_grad()
def _scatter(model: Any) -> None:
    """Weights that make use of most tables, and corrections that are not zero."""
    for layer in model.decoder.corrector.write:
        layer.weight.normal_(0, 0.1)
    for level in model.prior.nets:
        for head in level.heads:
            head.index.weight.mul_(3)
            head.skew.weight.mul_(8)
            head.index.bias.add_(7 + torch.randn_like(head.index.bias))


if __name__ == "__main__":
    main()
