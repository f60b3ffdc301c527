"""Run by speed.py in an environment of CompressAI's: times its hyperprior, one line of answer per line of question."""

import sys
import time
import types

# CompressAI imports these for features this benchmark does not use
for name in ("torchvision", "torchvision.transforms", "torch_geometric", "torch_geometric.transforms",
             "torch_geometric.data", "torch_geometric.data.datapipes", "pandas"):  # fmt: skip
    stand_in = types.ModuleType(name)
    stand_in.__getattr__ = lambda attribute: type(attribute, (), {})  # type: ignore[method-assign]
    sys.modules.setdefault(name, stand_in)
sys.modules["torch_geometric.data.datapipes"].functional_transform = lambda *_: lambda x: x  # type: ignore[attr-defined]

import numpy as np
import torch
from compressai.zoo import bmshj2018_hyperprior
from PIL import Image

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
