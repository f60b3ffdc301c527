"""A cluster: what one machine does, workers do too, whoever of them dies; nothing is lost, nothing written twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

from rdae.coding import spread
from rdae.coding.container import parse
from rdae.coding.files import Job, Outcome, whole_file
from rdae.coding.model import load_model, shipped_models
from rdae.coding.one_file import compress_file
from rdae.coding.places import state
from rdae.coding.spread import spread_jobs
from rdae.errors import MissingExtraError, ModelError

needs_model = pytest.mark.skipif("photo" not in shipped_models(), reason="the package ships no model yet")
JOBS = 8


@pytest.fixture(scope="module")
def cluster():
    """Two workers, each a process of one thread, which a nanny starts again when it dies, however long that takes."""
    settings = {"distributed.deploy.lost-worker-timeout": "1h", "distributed.scheduler.worker-saturation": 1.0}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as running,
    ):
        yield running


@pytest.fixture
def folder(tmp_path) -> Path:
    """Inputs 0 to 7 in `in`; a `journal` of what workers do."""
    for name in ("in", "journal"):
        (tmp_path / name).mkdir()
    for k in range(JOBS):
        (tmp_path / "in" / str(k)).write_text(f"input {k}")
    return tmp_path


def jobs(folder: Path) -> list[Job]:
    return [Job(folder / "in" / str(k), folder / "out" / str(k)) for k in range(JOBS)]


def note(journal: Path, event: str) -> int:
    """Writes down an event; returns how often it was written down before."""
    before = len(list(journal.glob(f"{event}-*")))
    (journal / f"{event}-{time.monotonic_ns()}-{os.getpid()}").touch()
    return before


def work(job: Job, *, dies: str = "") -> str:
    """Writes the input to the output. The first worker that does job 3 dies, at a certain moment of it."""
    journal, first = job.source.parent.parent / "journal", False

    def die_at(moment: str) -> None:
        if first and dies == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    first = note(journal, f"began {job.source.name}") == 0 and job.source.name == "3"
    die_at("before")
    with whole_file(job.target) as file:
        file.write(job.source.read_bytes())
        file.flush()
        die_at("while writing")
    note(journal, f"wrote {job.source.name}")
    die_at("after")
    return f"by {os.getpid()}"


def written(folder: Path) -> dict[str, int]:
    """How often each job was written."""
    events = [path.name.split("-")[0] for path in (folder / "journal").iterdir()]
    return {str(k): events.count(f"wrote {k}") for k in range(JOBS)}


def run(cluster, folder: Path, work, **options) -> list[Outcome]:
    options = {"address": cluster.scheduler_address, "overwrite": False, **options}
    return sorted(spread_jobs(jobs(folder), work, **options), key=lambda outcome: outcome.job.source)


# --- workers that die


@pytest.mark.parametrize("moment", ["before", "while writing", "after"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_worker_killed_half_way_loses_nothing_and_nothing_is_written_twice(cluster, folder, moment, overwrite):
    if overwrite:
        (folder / "out").mkdir()
        for job in jobs(folder):
            job.target.write_text("old")
    outcomes = run(cluster, folder, partial(work, dies=moment), overwrite=overwrite)
    assert [outcome.job for outcome in outcomes] == jobs(folder)
    assert not [outcome for outcome in outcomes if outcome.error or outcome.skipped]
    assert written(folder) == {str(k): 1 for k in range(JOBS)}
    began = [path for path in (folder / "journal").iterdir() if path.name.startswith("began 3-")]
    assert len(began) == (1 if moment == "after" else 2)  # what was written is not even begun again
    assert ("lost afterwards" in outcomes[3].report) == (moment == "after")
    for job in jobs(folder):
        assert job.target.read_bytes() == job.source.read_bytes()
    hidden = [path for path in (folder / "out").iterdir() if path.name.startswith(".")]
    assert len(hidden) == (1 if moment == "while writing" else 0)  # `clear_partial` takes it away a day later


def test_a_job_that_kills_every_worker_is_one_error(cluster, folder, monkeypatch):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 1)  # three by default
    outcomes = run(cluster, folder, kills)
    assert [bool(outcome.error) for outcome in outcomes] == [k == 3 for k in range(JOBS)]
    assert "KilledWorker" in outcomes[3].error
    assert not (folder / "out" / "3").exists()


def kills(job: Job) -> str:
    if job.source.name == "3":
        os.kill(os.getpid(), signal.SIGKILL)
    return work(job)


# --- as on one machine


def test_what_exists_is_skipped_and_an_error_is_one_jobs_own(cluster, folder):
    (folder / "out").mkdir()
    (folder / "out" / "0").write_text("old")
    (folder / "in" / "1").unlink()
    before = state(folder / "out" / "0")
    outcomes = run(cluster, folder, work)
    assert [outcome.skipped for outcome in outcomes] == [k == 0 for k in range(JOBS)]
    assert [bool(outcome.error) for outcome in outcomes] == [k == 1 for k in range(JOBS)]
    assert "No such file" in outcomes[1].error
    assert state(folder / "out" / "0") == before
    assert all(outcome.skipped for k, outcome in enumerate(run(cluster, folder, work)) if k != 1)


def test_a_target_that_cannot_be_looked_up_is_one_files_trouble(cluster, folder, monkeypatch):
    def locked(path: Path):
        if path.name == "1":
            raise PermissionError(13, "Permission denied")
        return state(path)

    monkeypatch.setattr(spread, "state", locked)
    outcomes = run(cluster, folder, work)
    assert [bool(outcome.error) for outcome in outcomes] == [k == 1 for k in range(JOBS)]
    assert "Permission denied" in outcomes[1].error


def test_paths_of_this_folder_are_the_same_ones_for_a_worker_in_another(cluster, folder, monkeypatch):
    monkeypatch.chdir(folder)
    relative = [Job(Path("in/0"), Path("out/0"))]
    (outcome,) = spread_jobs(relative, work, address=cluster.scheduler_address, overwrite=False)
    assert (outcome.job, outcome.error) == (relative[0], "")
    assert (folder / "out" / "0").exists()


def test_a_file_that_only_its_worker_sees_is_told(cluster, folder):
    outcomes = run(cluster, folder, elsewhere)
    assert all("Name a place all machines share" in outcome.error for outcome in outcomes)


def elsewhere(job: Job) -> str:
    """As a worker would whose disk is its own."""
    return ""


def test_places_that_no_worker_sees_and_addresses_without_a_scheduler_are_refused(folder, monkeypatch):
    upath = pytest.importorskip("upath")
    for job in (
        Job(upath.UPath("memory://in/a"), folder / "a"), Job(folder / "a", upath.UPath("memory://out/a")),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="Name a shared place"):
            list(spread_jobs([job], work, address="tcp://127.0.0.1:1", overwrite=False))
    for address in ("nonsense", "x://y", "tcp://127.0.0.1"):
        with pytest.raises(OSError, match="No Dask scheduler answers"):
            list(spread_jobs(jobs(folder), work, address=address, overwrite=False))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"rdae\[cluster\]"):
        list(spread_jobs(jobs(folder), work, address="tcp://127.0.0.1:1", overwrite=False))


def test_outcomes_that_are_no_longer_wanted_stop_what_has_not_begun(cluster, folder):
    running = spread_jobs(jobs(folder), slow, address=cluster.scheduler_address, overwrite=False)
    next(running)
    running.close()
    time.sleep(1.5)
    done = sum(written(folder).values())
    assert 1 <= done < JOBS
    time.sleep(0.5)
    assert sum(written(folder).values()) == done


def slow(job: Job) -> str:
    time.sleep(0.3)
    return work(job)


def test_a_scheduler_that_is_lost_is_told(folder):
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp://", dashboard_address=":0"
    ) as running:
        outcomes = spread_jobs(jobs(folder), slow, address=running.scheduler_address, overwrite=False)
        next(outcomes)
        running.close()
        with pytest.raises(ConnectionError, match="run the command again"):
            list(outcomes)


# --- the commands


@pytest.fixture
def pictures(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for k in range(12):
        image = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        image.save(tmp_path / "in" / ("sub" if k % 2 else ".") / f"{k}.png")
    return tmp_path


@pytest.fixture
def rdae(rdae, pictures):
    """The command line, where there are pictures."""
    return rdae


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_model
def test_a_cluster_writes_the_files_that_one_machine_writes(cluster, pictures, rdae):
    away = ("--dask", cluster.scheduler_address)
    assert rdae("compress", "in", "-o", "here", "-q", 30, "--quiet", "--threads", 1)[0] == 0
    code, said, error = rdae("compress", "in", "-o", "away", "-q", 30, *away)
    assert (code, said.count("quality 30")) == (0, 12), error
    assert files(pictures / "away") == files(pictures / "here")
    code, _, error = rdae("compress", "in", "-o", "away", *away)
    assert code == 0
    assert "12 of 12 files existed" in error
    for where, options in (("back-here", ("--threads", 1)), ("back-away", away)):
        assert rdae("decompress", "here", "-o", where, "--quiet", *options)[0] == 0
    assert files(pictures / "back-away") == files(pictures / "back-here")
    (pictures / "in" / "bad.png").write_bytes(b"broken")
    code, said, error = rdae("compress", "in", "-o", "away", "--overwrite", *away)
    assert (code, said.count("quality 50")) == (1, 12)
    assert "rdae: in/bad.png: " in error
    code, _, error = rdae("compress", "in", "-o", "away", "--jobs", 2, *away)
    assert code == 2
    assert "--jobs is for this machine" in error


@needs_model
def test_urls_are_read_and_written_by_workers(cluster, pictures, rdae):
    pytest.importorskip("upath")
    import zipfile

    with zipfile.ZipFile(pictures / "in.zip", "w") as archive:
        for path in sorted((pictures / "in").rglob("*.png")):
            archive.write(path, path.relative_to(pictures / "in"))
    away = ("--dask", cluster.scheduler_address, "--quiet")
    assert rdae("compress", "in", "-o", "here", "--quiet", "--threads", 1)[0] == 0
    assert rdae("compress", f"zip://::{pictures}/in.zip", "-o", f"file://{pictures}/out", *away) == (0, "", "")
    assert files(pictures / "out") == files(pictures / "here")
    code, _, error = rdae("compress", "in", "-o", "memory://out", *away)
    assert code == 1
    assert "no worker sees it" in error


@needs_model
def test_workers_with_another_model_refuse(tmp_path, pictures):
    job = Job(pictures / "in" / "0.png", tmp_path / "x.rdae")
    compress_file(job, identity=load_model("photo").identity)
    with pytest.raises(ModelError, match="same version of rdae"):
        compress_file(job, identity=b"otherone")


@needs_model
def test_a_worker_killed_from_outside_while_a_folder_is_compressed(cluster, pictures, rdae):
    """The moment is whatever it happens to be; no file of before is touched again, and all are there in the end."""
    out, seen, killed = pictures / "out", {}, threading.Event()

    def kill_half_way() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            done = list(out.rglob("*.rdae"))
            if len(done) >= 4:
                worker = next(iter(cluster.workers.values()))
                os.kill(worker.pid, signal.SIGKILL)
                seen.update({path: state(path) for path in done})
                killed.set()
                return
            time.sleep(0.002)

    killer = threading.Thread(target=kill_half_way)
    killer.start()
    code, said, error = rdae("compress", "in", "-o", "out", "--verify", "--dask", cluster.scheduler_address)
    killer.join()
    assert killed.is_set()
    assert code == 0, error
    assert len(said.splitlines()) == 12
    assert sorted(files(out)) == sorted(f"{name.removesuffix('.png')}.rdae" for name in files(pictures / "in"))
    assert {path: state(path) for path in seen} == seen
    for name, data in files(out).items():
        parse(data, name)


@needs_model
def test_an_address_where_nobody_answers_is_one_line(pictures):
    command = [sys.executable, "-m", "rdae.cli.main", "compress", "in", "-o", "out", "--dask", "tcp://127.0.0.1:1"]
    env = os.environ | {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "1s"}
    done = subprocess.run(command, cwd=pictures, env=env, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("rdae: No Dask scheduler answers at tcp://127.0.0.1:1: ")


@needs_model
def test_an_interrupted_command_stops_and_leaves_whole_files(cluster, pictures):
    for k in range(30):
        image = Image.open(pictures / "in" / "0.png").resize((700, 600))
        image.save(pictures / "in" / f"many{k:02}.png", compress_level=1)
    command = [
        sys.executable,
        "-m",
        "rdae.cli.main",
        "compress",
        "in",
        "-o",
        "out",
        "--dask",
        cluster.scheduler_address,
    ]
    process = subprocess.Popen(
        command, cwd=pictures, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs inherit it ignored
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(list(pictures.glob("out/*.rdae"))) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "rdae: interrupted; every file written so far is whole"
    time.sleep(1)  # what had begun ends
    done = files(pictures / "out")
    assert 3 <= len(done) < 42
    for name, data in done.items():
        parse(data, name)
