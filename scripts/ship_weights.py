"""Makes src/rdae/coding/models/NAME.weights: the averaged weights behind a shipped codec, to adapt it from.

python scripts/ship_weights.py NAME CHECKPOINTS   # the folder whose newest checkpoint the codec file was made of
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rdae.coding.files import whole_file
from rdae.coding.model import load_model, shipped_models
from rdae.training.checkpoint import load_newest
from rdae.training.start import WEIGHTS_SUFFIX, weights_file


def main() -> None:
    """Writes the file beside the codec file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("name", choices=shipped_models())
    parser.add_argument("checkpoints", type=Path)
    options = parser.parse_args()
    state = load_newest(options.checkpoints)
    if state is None:
        parser.error(f"{options.checkpoints} holds no checkpoint.")
    data = weights_file(state["recipe"]["name"], state["average"]["average"], load_model(options.name).identity)
    target = shipped_models()[options.name].with_suffix(WEIGHTS_SUFFIX)
    with whole_file(target) as file:
        file.write(data)
    print(f"{target}: {len(data)} bytes")


if __name__ == "__main__":
    main()
