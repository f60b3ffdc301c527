"""Run by speed.py in an environment of CompressAI's: times its hyperprior, one line of answer per line of question."""

import sys
import time

import numpy as np
import torch
from compressai_stand_ins import stand_ins
from PIL import Image

with stand_ins():
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
