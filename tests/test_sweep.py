"""Many trainings into one table: what is varied, what is not done twice, what comes out."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

pytest.importorskip("torch")

from rdae.cli.main import app
from rdae.errors import DataError
from rdae.measures.measure import Kind, Measure
from rdae.recipes.order import Order
from rdae.recipes.sweep import Setting, judged, settings_of, sweep, trials
from rdae.reports.sweep import ABSENT, sweep_table, write_sweep


@pytest.fixture
def order(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("learned", "judged"):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(64, 3)).astype(np.float32))
    return Order(
        recipe="gaussian_rda", data=str(tmp_path / "learned.npy"), valid=str(tmp_path / "judged.npy"),
        out=tmp_path / "runs", steps=3, batch=16, options={"latent": 2, "hidden": (8,)},
        settings={"accelerator": "cpu", "devices": "1"},
    )  # fmt: skip


def test_every_combination_is_a_run_of_its_own(order):
    runs = trials(order, {"lam": [1.0, 10.0], "distortion": ["squared", "absolute"]}, [0, 1, 2])
    assert len({run.order.out for run in runs}) == len(runs) == 12
    assert all(run.order.options == order.options | run.options for run in runs)
    assert all(run.order.settings["seed"] == run.seed for run in runs)
    assert all(run.order.out.parent == order.out for run in runs)


@pytest.mark.parametrize(
    ("over", "seeds", "words"),
    [
        ({"latent": [1, 2]}, [0], "both set and swept"),
        ({"lam": []}, [0], "each once"),
        ({"lam": [1.0, 1.0]}, [0], "each once"),
        ({"lam": [1.0]}, [0, 0], "each once"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(order, over, seeds, words):
    with pytest.raises(DataError, match=words):
        trials(order, over, seeds)


def test_finished_runs_are_not_repeated_and_unfinished_ones_go_on(order):
    runs = trials(order, {"lam": [1.0, 10.0]}, [0])
    first = sweep(runs)
    assert len(first) == 2
    assert first[0]["rate_nats"] != first[1]["rate_nats"]
    before = {run.order.target: run.order.target.stat().st_mtime_ns for run in runs}
    runs[1].order.target.unlink()  # as if the process had been killed before its last act
    assert sweep(runs) == first
    assert runs[0].order.target.stat().st_mtime_ns == before[runs[0].order.target]
    assert runs[1].order.target.exists()


def test_a_cluster_does_what_one_process_does(order, tmp_path):
    distributed = pytest.importorskip("distributed")
    here = sweep(trials(order, {"lam": [1.0, 10.0]}, [0, 1]))
    from dataclasses import replace

    away = trials(replace(order, out=tmp_path / "away"), {"lam": [1.0, 10.0]}, [0, 1])
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        assert sweep(away, cluster.scheduler_address) == here


class Asked(Exception):
    """Instead of the training."""


@pytest.mark.parametrize("module", ["sweep", "limits"])
@pytest.mark.parametrize(("words", "due"), [([], "auto"), (["--accelerator", "cpu"], "cpu")])
def test_the_runs_of_a_command_compute_where_they_are_told_to(order, monkeypatch, module, words, due):
    def asked(runs, dask):
        raise Asked({run.order.settings["accelerator"] for run in runs})

    monkeypatch.setattr(f"rdae.recipes.{module}.sweep", asked)
    command = {"sweep": ["sweep", "gaussian_rda", "--over", "lam=1,10"], "limits": ["limits", "--lam", "1,10"]}[module]
    command += ["--data", order.data, "--valid", order.valid, "-o", str(order.out), *words]
    with pytest.raises(Asked) as found:
        app(command, standalone_mode=False)
    assert found.value.args == ({due},)


def test_runs_without_held_out_data_have_nothing_to_compare(order):
    from dataclasses import replace

    with pytest.raises(DataError, match="--valid"):  # before anything is trained
        trials(replace(order, valid=None), {}, [0])


def test_a_folder_that_holds_another_run_is_not_taken_for_this_one(order):
    from dataclasses import replace

    sweep(trials(order, {"lam": [1.0]}, [0]))
    with pytest.raises(DataError, match=r"steps 3 and not 4\. Choose another --out"):
        sweep(trials(replace(order, steps=4), {"lam": [1.0]}, [0]))


def test_a_run_that_died_before_its_last_validation_is_not_read(tmp_path):
    lines = [{"step": 2, "valid": True, "x": 1.0}, {"step": 4, "x": 9.0}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match="before its last validation"):
        judged(tmp_path)


def test_combinations_that_would_share_a_folder_are_refused(order):
    with pytest.raises(DataError, match="share a folder"):
        trials(order, {"widths": [(8, 8), [8, 8]]}, [0])


def test_measures_stand_below_their_own_names():
    def row(k: int, **measures: float) -> Setting:
        return Setting({"k": k}, [0], {n: Measure(v, math.nan, n, Kind.ESTIMATE) for n, v in measures.items()})

    table = sweep_table([row(0, a=1.0), row(1, b=2.0, a=3.0)]).splitlines()
    assert table[0] == "| k | seeds | a | b |"
    assert table[2:] == [f"| 0 | 1 | 1 | {ABSENT} |", "| 1 | 1 | 3 | 2 |"]


def test_means_and_standard_errors_are_over_seeds(order):
    runs = trials(order, {"lam": [1.0, 10.0]}, [0, 1])
    rows = settings_of(runs, [{"rate_nats": v} for v in (1.0, 3.0, 5.0, 5.0)])
    assert [row.options for row in rows] == [{"lam": 1.0}, {"lam": 10.0}]
    assert rows[0].measures["rate_nats"] == Measure(2.0, 1.0, "nats per example", Kind.ESTIMATE)  # sqrt(2) / sqrt(2)
    assert rows[1].measures["rate_nats"].standard_error == 0
    single = settings_of(runs[:1], [{"distortion": 2.0}])[0].measures["distortion"]
    assert math.isnan(single.standard_error)


def test_the_last_validation_counts(tmp_path):
    lines = [{"step": 1, "valid": True, "x": 1.0}, {"step": 2, "x": 9.0}, {"step": 2, "valid": True, "x": None}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert math.isnan(judged(tmp_path)["x"])
    lines = [{"step": 2, "valid": True, "quality": q, "bpp": q / 100} for q in (10, 20)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert judged(tmp_path) == {"bpp@10": 0.1, "bpp@20": 0.2}


def test_the_report_says_what_was_found(tmp_path):
    def row(lam: float, rate: float, distortion: float) -> Setting:
        return Setting({"lam": lam}, [0, 1], {
            "rate_nats": Measure(rate, 0.1, "nats per example", Kind.ESTIMATE),
            "distortion": Measure(distortion, math.nan, "distortion", Kind.ESTIMATE),
        })  # fmt: skip

    rows = [row(1.0, 2.0, 3.0), row(10.0, 4.0, 1.0), row(11.0, 4.0, 1.0)]  # two that tie
    assert write_sweep(rows, tmp_path) == sweep_table(rows)
    assert "| 1.0 | 2 | 2 ± 0.1 | 3 |" in (tmp_path / "sweep.md").read_text("utf-8")
    assert json.loads((tmp_path / "sweep.json").read_text())[1]["measures"]["distortion"] == [1.0, None]
    assert (tmp_path / "sweep.png").stat().st_size > 1000
