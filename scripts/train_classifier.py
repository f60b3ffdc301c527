"""Trains the digit classifier that ships with the package, and writes its weights, card and log.

    RDAE_CACHE=FOLDER python scripts/train_classifier.py      # some five minutes on one core

All 60,000 training pictures of MNIST, each shifted by up to two pixels at random; ten passes of Adam with one cycle of
its learning rate; the weights after the last step, rounded to 16 bits. The test pictures are looked at after each pass
for the log, and nothing is chosen by them.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from rdae.data.named import load_named
from rdae.measures.classifier import WEIGHTS, DigitClassifier

LOG = Path(__file__).parent.parent / "docs" / "results" / "classifier.json"
EPOCHS, BATCH, LEARNING_RATE = 10, 128, 3e-3
SHIFT = 2  # pixels, in each direction
SEED = 0


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture moved by up to `SHIFT` pixels down and across, dark where it has left, `(n, 1, 28, 28)`."""
    n, _, height, width = images.shape
    padded = functional.pad(images, (SHIFT,) * 4)[:, 0]
    down, across = torch.randint(2 * SHIFT + 1, (2, n, 1), generator=generator)
    rows, columns = down + torch.arange(height), across + torch.arange(width)
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]


@torch.no_grad()
def errors(model: DigitClassifier, images: Tensor, labels: Tensor) -> int:
    """Pictures whose digit is not found."""
    return sum(
        int((model(x).argmax(1) != y).sum()) for x, y in zip(images.split(1000), labels.split(1000), strict=True)
    )


def trained(images: Tensor, labels: Tensor, test: tuple[Tensor, Tensor]) -> tuple[DigitClassifier, list[dict]]:
    """The classifier, and a line for each pass."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model, log = DigitClassifier(), []
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=EPOCHS * math.ceil(len(images) / BATCH)
    )
    for epoch in range(EPOCHS):
        total, start = 0.0, time.process_time()
        for rows in torch.randperm(len(images), generator=generator).split(BATCH):
            loss = functional.cross_entropy(model(shifted(images[rows], generator)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
            total += float(loss.detach()) * len(rows)
        log.append({
            "epoch": epoch + 1, "train_nats": round(total / len(images), 4), "test_errors": errors(model, *test),
            "cpu_seconds": round(time.process_time() - start, 1),
        })  # fmt: skip
        print(log[-1], flush=True)
    return model, log


def main() -> None:
    """Trains, rounds, counts errors, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    train, test = (load_named("mnist", split=split) for split in ("train", "test"))
    assert train.labels is not None
    assert test.labels is not None
    judged = test.values.float() / 255, test.labels
    model, log = trained(train.values.float() / 255, train.labels, judged)
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    card = {
        "name": "digits",
        "task": "which digit a 28 x 28 grey picture shows; features for judging samples",
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_data": "the 60,000 training pictures of MNIST",
        "terms": "MNIST: Y. LeCun, C. Cortes, C. Burges; CC BY-SA 3.0. Weights: Apache-2.0",
        "command": "python scripts/train_classifier.py",
        "seed": SEED, "epochs": EPOCHS, "batch": BATCH, "learning_rate": LEARNING_RATE, "shift_pixels": SHIFT,
        "test_examples": len(test), "test_errors": errors(model, *judged),
    }  # fmt: skip
    WEIGHTS.parent.mkdir(exist_ok=True)
    save_file(weights, WEIGHTS, {"card": json.dumps(card, sort_keys=True)})
    LOG.write_text(json.dumps({"card": card, "log": log}, indent=1) + "\n", encoding="utf-8")
    print(f"{WEIGHTS}: {WEIGHTS.stat().st_size} bytes, {card['test_errors']} errors on {len(test)} test pictures")


if __name__ == "__main__":
    main()
