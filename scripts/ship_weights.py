"""Makes src/rdae/coding/models/NAME.weights: the averaged weights behind each shipped codec, to adapt it from.

python scripts/ship_weights.py
"""

from __future__ import annotations

from pathlib import Path

from rdae.coding.files import whole_file
from rdae.coding.model import load_model, shipped_models
from rdae.training.checkpoint import load_newest
from rdae.training.start import WEIGHTS_SUFFIX, weights_file

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Writes the files beside the codec files."""
    for name, codec in shipped_models().items():
        state = load_newest(ROOT / "models" / name)
        if state is None:
            raise SystemExit(f"models/{name} holds no checkpoint")
        data = weights_file(state["recipe"]["name"], state["average"]["average"], load_model(name).identity)
        target = codec.with_suffix(WEIGHTS_SUFFIX)
        with whole_file(target) as file:
            file.write(data)
        print(f"{target}: {len(data)} bytes")


if __name__ == "__main__":
    main()
