"""Run by speed.py in an environment of CompressAI's: times its hyperprior, one line of answer per line of question."""

import sys
import time
import types

import numpy as np
import torch
from PIL import Image


class _StandIn(types.ModuleType):
    """A module whose every name is an empty class."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "functional_transform":  # used as a decorator factory
            return lambda *_: lambda x: x
        return type(name, (), {})


# CompressAI imports these for features this benchmark does not use
for missing in ("torchvision", "torchvision.transforms", "torch_geometric", "torch_geometric.transforms",
                "torch_geometric.data", "torch_geometric.data.datapipes", "pandas"):  # fmt: skip
    sys.modules.setdefault(missing, _StandIn(missing))

from compressai.zoo import bmshj2018_hyperprior

torch.manual_seed(0)
model = bmshj2018_hyperprior(4, pretrained=False).eval()
model.update(force=True)
pixels = np.asarray(Image.open(sys.argv[1]).convert("RGB"))
y = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
with torch.no_grad():
    coded = model.compress(y)
    model.decompress(**coded)
    for line in sys.stdin:
        began = time.perf_counter()
        if line.strip() == "encode":
            model.compress(y)
        elif line.strip() == "decode":
            model.decompress(**coded)
        print(time.perf_counter() - began, flush=True)
