"""What a run does when it is stopped, taken up again, moved, or badly fed; with a model of one weight."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn
from torch.utils.data import Dataset

from rdae.errors import CheckpointError, TrainingError
from rdae.training.averaging import WeightAverage
from rdae.training.checkpoint import load_checkpoint, load_newest, save_checkpoint
from rdae.training.loop import Settings, _Run, train
from rdae.training.monitor import Monitor
from rdae.training.recipe import Recipe, Step


class Numbers(Dataset):
    """Item n is a batch drawn from n."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Tensor:
        return torch.randn(4, 2, generator=torch.Generator().manual_seed(step))


@dataclass(frozen=True, kw_only=True)
class Small(Recipe):
    """A linear layer learns to be the identity."""

    def batches(self, data: Path, *, seed: int, rank: int, world: int) -> Numbers:
        return Numbers(self.steps)

    def loss(self, model: nn.Module, batch: Tensor, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (model(batch) - batch).square().mean()
        return loss, {"loss": loss.detach()}


def small(steps: int = 6, **changes) -> Small:
    plain = Small(
        name="small", model=lambda: nn.Linear(2, 2), steps=steps, batch=4, learning_rate=0.1, warmup=1, flat=0.99
    )
    return replace(plain, **changes)


def settings(out: Path, **changes) -> Settings:
    return replace(Settings(data=out, out=out, accelerator="cpu", devices="1"), **changes)


def log_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_weights_and_their_average_go_on_as_if_nothing_had_happened(tmp_path):
    whole = load_checkpoint(train(small(6), settings(tmp_path / "whole")))
    train(small(3), settings(tmp_path / "halves"))
    resumed = load_checkpoint(train(small(6), settings(tmp_path / "halves")))
    for part in ("model", "average"):
        a, b = (state[part].get("average", state[part]) for state in (whole, resumed))
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert whole["average"]["count"] == resumed["average"]["count"] == 6
    assert not torch.equal(whole["model"]["weight"], whole["average"]["average"]["weight"])


def test_runs_of_different_seeds_draw_different_noise():
    """Not even the low 32 bits, which are all that PyTorch reads on the CPU, come back in a row."""
    steps, runs = 8500, [(0, 0), (0, 1), (1, 0), (2, 0), (2**32 - 1, 0)]  # of a seed and a process
    drawn = [[Step(n, seed, slice(0, 1)).noise_seed(rank) & 0xFFFFFFFF for n in range(steps)] for seed, rank in runs]
    every = [value for stream in drawn for value in stream]
    pairs = len(every) * (len(every) - 1) / 2
    expected = pairs / 2**32  # chance meetings of single steps: a Poisson number
    assert len(every) - len(set(every)) <= expected + 5 * math.sqrt(expected) + 1
    following = [both for stream in drawn for both in pairwise(stream)]
    assert len(set(following)) == len(following)


def test_a_step_draws_noise_of_its_seed_number_and_process(tmp_path):
    class Noisy(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            drawn.append(torch.rand(3))
            return super().forward(x)

    drawn: list[Tensor] = []
    run = _Run(small(4, model=lambda: Noisy(2, 2)), settings(tmp_path, seed=3), None)
    for number in (1, 0, 1):
        run.step(number, Numbers(4)[number], slice(0, 4))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    due = torch.Generator().manual_seed(Step(1, 3, slice(0, 4)).noise_seed(0))
    assert torch.equal(drawn[0], torch.rand(3, generator=due))


def test_the_average_is_of_the_weights_after_every_step(tmp_path):
    run = _Run(small(4), settings(tmp_path), None)
    expected = {n: v.clone() for n, v in run.bare.state_dict().items()}
    for count in range(1, 5):
        run.step(count - 1, Numbers(4)[count - 1], slice(0, 4))
        rate = 1 - min(0.998, (count + 1) / (count + 10))
        expected = {n: expected[n] + rate * (v - expected[n]) for n, v in run.bare.state_dict().items()}
    for name, value in run.averaged().state_dict().items():
        torch.testing.assert_close(value, expected[name])


def test_the_average_lies_where_the_model_was_moved(tmp_path, monkeypatch):
    """On another device the average of weights that have since moved could not be updated."""
    import rdae.training.loop as loop

    inner = loop.Fabric.setup

    def setup(self, module, optimizer):
        made = inner(self, module, optimizer)
        module.to(torch.float64)  # stands for a move to another device: the tensors are new ones
        return made

    monkeypatch.setattr(loop.Fabric, "setup", setup)
    run = _Run(small(), settings(tmp_path), None)
    assert all(value.dtype == torch.float64 for value in run.average.average.values())


@pytest.mark.parametrize("change", [{"batch": 2}, {"weight_decay": 0.5}, {"betas": (0.5, 0.9)}])
def test_a_run_does_not_go_on_with_other_numbers(tmp_path, change):
    train(small(2), settings(tmp_path))
    (name,) = change
    with pytest.raises(CheckpointError, match=rf"{name} .* and not .*Choose another --out"):
        train(small(4, **change), settings(tmp_path))
    assert train(small(4, learning_rate=0.01), settings(tmp_path)) is not None


def test_a_run_that_is_past_the_steps_asked_for_says_so(tmp_path):
    train(small(3), settings(tmp_path))
    with pytest.raises(CheckpointError, match="at step 3, past the 2"):
        train(small(2), settings(tmp_path))


def test_damaged_checkpoints_are_passed_over_and_never_all_thrown_away(tmp_path):
    folder = tmp_path / "checkpoints"
    train(small(3), settings(tmp_path))
    (folder / "step-00000009.pt").write_bytes(b"cut short")
    assert load_newest(folder)["step"] == 3
    (folder / "step-00000003.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="None of the 2 checkpoints"):
        train(small(5), settings(tmp_path))
    kept = save_checkpoint(folder, {"step": 4, "model": {}})
    assert kept.exists()
    assert len(list(folder.glob("step-*.pt"))) == 2


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_no_number_stops_the_run_by_name(tmp_path, what):
    class Broken(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return y * float("nan") if what == "loss" else y + torch.sqrt(0 * y.abs())  # infinite slope at zero

    with pytest.raises(TrainingError, match=rf"The {what} became (nan|inf) at step 0. No checkpoint"):
        train(small(model=lambda: Broken(2, 2)), settings(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_stop_keeps_what_it_has(tmp_path, number):
    script = f"""
        import sys, os, signal
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_loop import Numbers, settings, small
        from rdae.training.loop import train
        inner = Numbers.__getitem__
        def item(self, step):
            if step == 40:
                os.kill(os.getpid(), {int(number)})
            return inner(self, step)
        Numbers.__getitem__ = item
        try:
            train(small(10**6), settings(Path(sys.argv[1])))
        except KeyboardInterrupt:
            sys.exit(77)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], capture_output=True, timeout=120
    )
    assert done.returncode == 77, done.stderr.decode()
    assert b"goes on from there" in done.stderr
    state = load_newest(tmp_path / "checkpoints")
    assert state is not None
    assert 40 <= state["step"] <= 42


def test_every_step_is_reported_once(tmp_path):
    train(small(25), settings(tmp_path))
    assert [line["step"] for line in log_of(tmp_path)] == [20, 25]
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write(json.dumps({"step": 31, "loss": 1.0}) + '\n{"step": 3')  # what a kill leaves
    train(small(45), settings(tmp_path))
    assert [line["step"] for line in log_of(tmp_path)] == [20, 25, 40, 45]


def test_numbers_that_json_cannot_hold_are_null(tmp_path):
    monitor = Monitor(tmp_path, 1, 0, active=True)
    monitor.validation(1, [{"quality": 5.0, "psnr_db": float("inf")}])
    monitor.close()
    assert log_of(tmp_path) == [{"step": 1, "valid": True, "quality": 5.0, "psnr_db": None}]


def test_an_average_begins_with_a_short_memory():
    layer = nn.Linear(1, 1, bias=False)
    average = WeightAverage(layer, 0.999)
    with torch.no_grad():
        layer.weight.fill_(average.average["weight"].item() + 11.0)
    average.update()
    assert float(layer.weight.detach() - average.average["weight"]) == pytest.approx(11 * 2 / 11)


def test_the_state_of_the_process_is_put_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    train(small(2), settings(tmp_path))
    assert signal.getsignal(signal.SIGTERM) == before
    assert float(torch.tensor(1e-310, dtype=torch.float64) * 1) > 0  # denormal numbers are numbers again


def test_a_device_that_is_not_there_is_named(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(TrainingError, match=r"cannot train as asked for.*accelerator cpu"):
        train(small(1), settings(tmp_path, accelerator="cuda"))
