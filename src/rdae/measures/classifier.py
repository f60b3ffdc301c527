"""The digit classifier whose weights ship with the package: classes of MNIST digits, and features of any pictures.

61 thousand parameters, trained by `scripts/train_classifier.py` on MNIST; `digits_card` says how, and how often it is
right. Distances of its features can be compared with each other only: another network gives other numbers.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from rdae.errors import ModelError, ShapeError

__all__ = ["FEATURES", "SIDE", "DigitClassifier", "Seen", "digits", "digits_card", "see"]

WEIGHTS = Path(__file__).parent / "weights" / "digits.safetensors"
SIDE = 28  # pixels
CLASSES = 10
FEATURES = 64  # of one channel
AT_ONCE = 1024  # planes in memory together


class Seen(NamedTuple):
    """What the classifier makes of pictures."""

    features: Tensor  # (n, 64 channels) float32, the last layer before the classes, of the channels side by side
    labels: Tensor  # (n, channels) int64, the likeliest digit in each channel


class DigitClassifier(nn.Module):
    """Three convolutions, each followed by the largest of 2 x 2, and two dense layers: `(n, 1, 28, 28)` to logits."""

    def __init__(self, widths: tuple[int, int, int] = (16, 32, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, width in zip((1, *widths), widths, strict=False):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(9 * widths[-1], FEATURES), nn.ReLU())
        self.head = nn.Linear(FEATURES, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """The last layer before the classes, `(n, 64)`, at least 0."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the ten digits, `(n, 10)`.

        Args:
            x: `(n, 1, 28, 28)` in [0, 1], bright on dark.
        """
        return self.head(self.features(x))


@functools.cache
def digits() -> DigitClassifier:
    """The classifier with the weights of the package, in `eval()` mode; they are kept as 16-bit floats.

    Raises:
        ModelError: the installed package lacks the file, or it is damaged.
    """
    model = DigitClassifier()
    try:
        with safe_open(WEIGHTS, "pt") as file:
            model.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    except Exception as error:  # the reader has an exception type of its own for each kind of damage
        raise _damaged(error) from error
    return model.eval().requires_grad_(False)


@functools.cache
def digits_card() -> dict[str, Any]:
    """What the weights were trained on and how often they are right: `test_errors` of `test_examples`.

    Raises:
        ModelError: as for `digits`.
    """
    try:
        with safe_open(WEIGHTS, "pt") as file:
            return json.loads(file.metadata()["card"])
    except Exception as error:
        raise _damaged(error) from error


def _damaged(error: Exception) -> ModelError:
    return ModelError(f"{WEIGHTS} cannot be read ({error}). Install the package again.")


@torch.no_grad()
def see(images: Tensor) -> Seen:
    """Features and digits of pictures of any size and number of channels.

    Each channel is looked at by itself, as a grey picture, so that three stacked digits are three digits and colours
    count. A picture of another size is stretched to 28 x 28: bilinear, averaging where it shrinks. Of what are no
    digits the labels mean nothing; the features still tell strokes and places apart.

    Args:
        images: `(n, channels, H, W)`, uint8, or floats in [0, 1]; what lies beyond is clipped.

    Raises:
        ShapeError: these are no pictures.
    """
    if images.ndim != 4 or 0 in images.shape:
        raise ShapeError(
            f"The classifier looks at pictures (n, channels, height, width), but these are {tuple(images.shape)}. "
            "Add a dimension for the channels of grey pictures."
        )
    n, channels, height, width = images.shape
    model, features, labels = digits().to(images.device), [], []
    for planes in images.reshape(n * channels, 1, height, width).split(AT_ONCE):
        x = planes.float().div(255) if planes.dtype == torch.uint8 else planes.float().clamp(0, 1)
        if (height, width) != (SIDE, SIDE):
            x = functional.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True)
        found = model.features(x)
        features.append(found)
        labels.append(model.head(found).argmax(1))
    return Seen(torch.cat(features).view(n, channels * FEATURES), torch.cat(labels).view(n, channels))
