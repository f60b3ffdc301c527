"""Run by training_steps.py in an environment of CompressAI's: its hyperprior in the loop of its own examples/train.py.

    python compressai_training.py BATCH SIDE

Quality 4 of bmshj2018-hyperprior: N = 128, M = 192. First says how large the network is; then each line read, a number
of steps, is answered with what they took.
"""

import json
import sys
import time
from argparse import Namespace

import torch
from compressai_stand_ins import stand_ins
from step_facts import step_facts

with stand_ins():
    from compressai.losses import RateDistortionLoss
    from compressai.zoo import bmshj2018_hyperprior
    from examples.train import configure_optimizers, train_one_epoch

batch, side = map(int, sys.argv[1:3])


class Batches(list):
    """One batch, several times; what the loop asks of a loader."""

    dataset = range(1)


answers = sys.stdout
sys.stdout = sys.stderr  # the loop reports every tenth step
torch.manual_seed(0)
y = torch.randint(256, (batch, 3, side, side), dtype=torch.uint8).float() / 255
model = bmshj2018_hyperprior(4, pretrained=False).train()
criterion = RateDistortionLoss()
optimizers = configure_optimizers(model, Namespace(learning_rate=1e-4, aux_learning_rate=1e-3))
facts = step_facts(model, lambda: criterion(model(y), y)["loss"])
print(json.dumps(facts), file=answers, flush=True)
for line in sys.stdin:
    began = time.perf_counter(), time.process_time()
    train_one_epoch(model, criterion, Batches([y] * int(line)), *optimizers, epoch=0, clip_max_norm=1.0)
    taken = {"seconds": time.perf_counter() - began[0], "cpu_seconds": time.process_time() - began[1]}
    print(json.dumps(taken), file=answers, flush=True)
