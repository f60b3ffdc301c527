"""EM beside scikit-learn's, and Blahut-Arimoto beside dit's: seconds, and how far each is from the closed form.

    OMP_NUM_THREADS=1 python benchmarks/exact.py [--dit PYTHON] [--rounds 5] [--json FILE]

EM is that of a mixture of 20 Gaussians with full covariances on 100,000 examples of 16 features, from the same start,
for the same number of iterations; an iteration is a run of several less a run of one, so that set-up does not count.
The source of Blahut-Arimoto has letters of random probabilities and Hamming distortion, whose R(D) has a closed form
while every letter is in use. PYTHON is an interpreter of an environment with dit 2.3; dit is asked with its own
settings (100 starts) and with one start, the package for a bound on its error of 1e-7 nats, which dit does not have.
All take turns; times are the least of all rounds, of the processor, so that other jobs of the machine count little.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.mixture import GaussianMixture as SklearnMixture

from rdae.exact import GaussianMixture, fit_em
from rdae.measures.blahut_arimoto import blahut_arimoto

EXAMPLES, FEATURES, COMPONENTS, ITERATIONS = 100_000, 16, 20, 6
LETTERS, DISTORTIONS = (2, 16, 128), (0.05, 0.2)
TOLERANCE = 1e-7  # nats
RATIO = "ratio"
LEAST = 0.1  # seconds that are timed together


def processor_seconds(call: Callable[[], object]) -> float:
    """Of one call, over all threads; short ones are repeated."""
    began = time.process_time()
    call()
    taken = time.process_time() - began
    count = math.ceil(LEAST / max(taken, 1e-6)) if taken < LEAST else 0
    if not count:
        return taken
    began = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - began) / count


class _Mixtures:
    """The same data and start for both; each leaves what it found in `log_likelihood`."""

    def __init__(self, examples: int) -> None:
        torch.manual_seed(0)
        scattered = 3 * torch.randn(COMPONENTS, FEATURES).double()
        spread = torch.randn(COMPONENTS, FEATURES, FEATURES).double() / 4
        own = torch.randint(COMPONENTS, (examples,))
        noise = torch.randn(examples, FEATURES, 1).double()
        self.y = scattered[own] + (spread[own] @ noise)[..., 0] + 0.3 * torch.randn(examples, FEATURES).double()
        self.start = self.y[torch.randperm(examples)[:COMPONENTS]]
        self.std = float(self.y.std())
        self.log_likelihood: dict[str, float] = {}

    def ours(self, iterations: int) -> None:
        model = GaussianMixture(COMPONENTS, FEATURES, min_std=1e-6)
        with torch.no_grad():
            model.components.mean.copy_(self.start)
            model.components.factor.copy_(self.std * torch.eye(FEATURES))
        fit = fit_em(model, self.y, tol=0.0, max_steps=iterations)
        assert len(fit.history) == iterations + 1
        self.log_likelihood["rdae"] = fit.history[-1]

    def theirs(self, iterations: int) -> None:
        model = SklearnMixture(
            COMPONENTS, max_iter=iterations, tol=0.0, reg_covar=0.0, init_params="random_from_data",
            weights_init=np.full(COMPONENTS, 1 / COMPONENTS), means_init=self.start.numpy(), random_state=0,
            precisions_init=np.broadcast_to(np.eye(FEATURES) / self.std**2, (COMPONENTS, FEATURES, FEATURES)).copy(),
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged, and is not meant to
            model.fit(self.y.numpy())
        assert model.n_iter_ == iterations
        if iterations == ITERATIONS:
            self.log_likelihood["scikit-learn"] = float(model.score(self.y.numpy()))


def em(rounds: int, examples: int) -> dict[str, Any]:
    """Seconds of an iteration of both, and what both have reached."""
    mixtures = _Mixtures(examples)
    runs = {"rdae": mixtures.ours, "scikit-learn": mixtures.theirs}
    seconds: dict[str, dict[int, list[float]]] = {name: {1: [], ITERATIONS: []} for name in runs}
    for _ in range(rounds):
        for count in (1, ITERATIONS):
            for name, run in runs.items():
                began = time.process_time()
                run(count)
                seconds[name][count].append(time.process_time() - began)
    least = {name: (min(taken[ITERATIONS]) - min(taken[1])) / (ITERATIONS - 1) for name, taken in seconds.items()}
    return {
        "examples": examples, "features": FEATURES, "components": COMPONENTS, "iterations": ITERATIONS,
        "seconds_per_iteration": least, RATIO: least["scikit-learn"] / least["rdae"],
        "log_likelihood": mixtures.log_likelihood,
    }  # fmt: skip


class _Dit:
    """A subprocess that answers a source and a slope with a point and the seconds that it took."""

    def __init__(self, python: str) -> None:
        script = Path(__file__).with_name("dit_speed.py")
        self._process = subprocess.Popen(
            [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __call__(self, p: np.ndarray, lam: float, starts: int) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"p": p.tolist(), "beta": lam / math.log(2), "starts": starts}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def source(letters: int) -> np.ndarray:
    """Probabilities of letters, none below half of the mean one."""
    p = np.random.default_rng(letters).uniform(0.5, 1.5, letters)
    return p / p.sum()


def closed_form(p: np.ndarray, distortion: float) -> float:
    """R(D) in bits under Hamming distortion, for D up to `(letters - 1) min p` (Berger 1971)."""
    assert 0 < distortion <= (len(p) - 1) * p.min()
    entropy = -float((p * np.log(p)).sum())
    noise = -distortion * math.log(distortion) - (1 - distortion) * math.log1p(-distortion)
    return (entropy - noise - distortion * math.log(len(p) - 1)) / math.log(2)


def curves(rounds: int, python: str | None) -> list[dict[str, Any]]:
    """One entry for each source and distortion."""
    dit = _Dit(python) if python else None
    found = []
    for letters in LETTERS:
        p, d = source(letters), 1 - np.eye(letters)
        for distortion in DISTORTIONS:
            found.append({"letters": letters, "distortion": distortion, **_compared(p, d, distortion, dit, rounds)})
    return found


def _compared(p: np.ndarray, d: np.ndarray, asked: float, dit: _Dit | None, rounds: int) -> dict[str, Any]:
    lam = math.log((1 - asked) * (len(p) - 1) / asked)  # minus the slope of R at this distortion

    def ours() -> dict[str, float]:
        point = blahut_arimoto(p, d, lam, tolerance=TOLERANCE)
        return {"rate_bits": point.rate / math.log(2), "distortion": point.distortion}

    def timed() -> dict[str, float]:
        return ours() | {"seconds": processor_seconds(ours)}

    runs: dict[str, Callable[[], dict[str, float]]] = {"rdae": timed}
    if dit is not None:
        runs |= {"dit": lambda: dit(p, lam, 100), "dit, one start": lambda: dit(p, lam, 1)}
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            answers[name].append(run())
    seconds = {name: min(answer["seconds"] for answer in given) for name, given in answers.items()}
    off = {name: given[0]["rate_bits"] - closed_form(p, given[0]["distortion"]) for name, given in answers.items()}
    return {
        "seconds": seconds, "bits_above_closed_form": off,
        "distortion_off": {name: given[0]["distortion"] - asked for name, given in answers.items()},
        RATIO: {name: taken / seconds["rdae"] for name, taken in seconds.items() if name != "rdae"},
    }  # fmt: skip


def main() -> None:
    """Times everything in turn and prints the least times and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dit", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    said = {"threads": torch.get_num_threads(), "rounds": arguments.rounds}
    said["blahut_arimoto"] = curves(arguments.rounds, arguments.dit)
    for row in said["blahut_arimoto"]:
        print(f"{row['letters']} letters, distortion {row['distortion']}:")
        for name, taken in row["seconds"].items():
            ratio = row[RATIO].get(name, 1.0)
            off, aside = row["bits_above_closed_form"][name], row["distortion_off"][name]
            print(f"  {name:16s} {1e3 * taken:10.3f} ms  {ratio:8.1f} x rdae   {off:+.1e} bits, {aside:+.1e} aside")
    said["em"] = em(arguments.rounds, arguments.examples)
    for name, taken in said["em"]["seconds_per_iteration"].items():
        print(f"EM, {name:16s} {taken:.3f} s an iteration, ln p(y) {said['em']['log_likelihood'][name]:.9f}")
    print(f"EM: {said['em'][RATIO]:.2f} times as fast as scikit-learn")
    if arguments.json:
        arguments.json.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
