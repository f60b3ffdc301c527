"""Jobs on the machines of a Dask cluster: each is done by some worker, whole or not at all, and once."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rdae.coding.files import Job, Outcome, attempt
from rdae.coding.places import State, remote, state
from rdae.errors import ImageError, MissingExtraError, RdaeError

if TYPE_CHECKING:
    from distributed import Client, Future, as_completed

__all__ = ["spread_jobs"]

AHEAD = 1000  # jobs that a cluster knows of; it may grow for them, but a million are not sent at once


def spread_jobs(
    jobs: Sequence[Job], work: Callable[[Job], str], *, address: str, overwrite: bool
) -> Generator[Outcome, None, None]:
    """Runs jobs on a cluster and yields an outcome for each as it finishes; an error stops only its own job.

    A job whose worker is lost is given to another one. By then its file may have been written; it is not written again,
    for it is no longer what it was when the job was sent.

    Args:
        jobs: what to read and write; paths lead to the same files on every machine.
        work: done to a job by a worker; it can be pickled, and workers can import its module.
        address: of the scheduler, such as tcp://host:8786.
        overwrite: files that exist are replaced; otherwise their jobs are skipped.

    Raises:
        ImageError: a place that only this process sees.
        MissingExtraError: Dask is not installed.
        OSError: there is no scheduler at the address, or it is lost.
    """
    for job in jobs:
        _check_shared(job)
    with _connected(address) as client:
        from distributed import as_completed

        sent: dict[Future, Job] = {}
        finished = as_completed()
        try:
            for job in jobs:
                try:
                    before = state(job.target)
                except (RdaeError, OSError) as error:
                    yield Outcome(job, error=str(error))
                    continue
                if before is not None and not overwrite:
                    yield Outcome(job, skipped=True)
                    continue
                future = client.submit(_once, _absolute(job), work, before, pure=False)
                sent[future] = job
                finished.add(future)
                while len(sent) >= AHEAD or finished.has_ready():
                    yield _taken(finished, sent)
            while sent:
                yield _taken(finished, sent)
        finally:
            client.cancel(list(sent))


def _connected(address: str) -> Client:
    try:
        from distributed import Client
        from distributed.comm import get_address_host_port
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "A Dask cluster needs the package distributed, which is not installed. Install it with: "
            'pip install "rdae[cluster]"'
        ) from error
    try:
        get_address_host_port(address)  # of a wrong one a client is made that cannot be closed
        return Client(address)
    except (OSError, ValueError) as error:
        raise OSError(f"No Dask scheduler answers at {address}: {error}. Start one, or check the address.") from error


def _check_shared(job: Job) -> None:
    for path in (job.source, job.target):
        url = remote(path)
        if url is not None and url.protocol == "memory":
            raise ImageError(f"{path} is in the memory of this process, where no worker sees it. Name a shared place.")


def _absolute(job: Job) -> Job:
    """With whole paths: a worker may stand in another folder."""
    return Job(*(path if remote(path) else Path(os.path.abspath(path)) for path in (job.source, job.target)))


def _once(job: Job, work: Callable[[Job], str], before: State | None) -> Outcome:
    """On a worker, which may be the second one that takes the job."""

    def unless_done(job: Job) -> str:
        return work(job) if state(job.target) == before else "written by a worker that was lost afterwards"

    return attempt(job, unless_done)


def _taken(finished: as_completed, sent: dict[Future, Job]) -> Outcome:
    """The next outcome, of a job as it was named here."""
    future = next(finished)
    job = sent.pop(future)
    if future.cancelled():
        raise ConnectionError("The Dask scheduler is lost. Every file written so far is whole: run the command again.")
    failure = future.exception()
    if failure is not None:
        return Outcome(job, error=f"no worker could do it ({type(failure).__name__}: {failure})")
    outcome = replace(future.result(), job=job)
    if not outcome.error and remote(job.target) is None and state(job.target) is None:
        return Outcome(job, error=f"a worker wrote {job.target}, but it is not here. Name a place all machines share.")
    return outcome
