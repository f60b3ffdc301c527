"""Run by exact.py in an environment of dit's: a point of a rate-distortion curve, and the seconds that it took.

Each line read is JSON, the probabilities `p` of a source, `beta` (rate in bits + beta * distortion is minimised) and
`starts`; each line written has the rate in bits, the distortion (Hamming), and the processor's seconds of one call.
"""

import json
import math
import sys
import time

import numpy as np
from dit.rate_distortion.blahut_arimoto import blahut_arimoto

LEAST = 0.1  # seconds that are timed together


def seconds(call) -> float:
    """Of one call; short ones are repeated."""
    began = time.process_time()
    call()
    taken = time.process_time() - began
    if taken >= LEAST:
        return taken
    count = math.ceil(LEAST / max(taken, 1e-6))
    began = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - began) / count


for line in sys.stdin:
    asked = json.loads(line)
    p, beta, starts = np.array(asked["p"]), asked["beta"], asked["starts"]
    point, _ = blahut_arimoto(p, beta, restarts=starts)
    taken = seconds(lambda p=p, beta=beta, starts=starts: blahut_arimoto(p, beta, restarts=starts))
    print(
        json.dumps({"rate_bits": float(point.rate), "distortion": float(point.distortion), "seconds": taken}),
        flush=True,
    )
