"""Jobs on a Dask cluster: a running cluster, or local processes that live as long as the executor.

A worker does one job at a time, with the settings of the process that sent it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from typing import Any
from uuid import uuid4

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, as_completed
from distributed.comm import connect

from scorefold.errors import ConfigError, JobError, WorkerError
from scorefold.stage import Executor, job_function, pack, perform, unpack
from scorefold_dask.config import DaskConfig

_PREFIX = "SCOREFOLD_"

_one_at_a_time = threading.Lock()
"""Threads, variables and the working folder belong to the process, and Dask may give it several jobs at once."""


@dataclass(frozen=True)
class JobEnvironment:
    """Settings on which a job's answer depends: torch's threads, Scorefold's variables, versions of libraries."""

    threads: int
    variables: Mapping[str, str]
    versions: Mapping[str, str]


def surroundings(threads: int) -> JobEnvironment:
    """The environment of jobs in this process."""
    variables = {name: value for name, value in os.environ.items() if name.startswith(_PREFIX)}
    return JobEnvironment(threads, variables, _versions())


@cache
def _versions() -> Mapping[str, str]:
    """The versions of Python, of core, and of the libraries that core requires and has."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    required = distribution("scorefold-core").requires or []
    names = ["scorefold-core", *(item.split(";")[0].split("[")[0].split(">")[0].strip() for item in required)]
    for name in names:
        try:
            # What stands behind a plus sign says for which hardware it was built.
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
    return found


def run_packed_job(target: str, packed: bytes, around: JobEnvironment) -> bytes:
    """Do one job. Raises the job's own error, or ``JobError`` where other versions would give another answer."""
    ours = _versions()
    different = [
        f"{name} {ours.get(name)} for {wanted}" for name, wanted in around.versions.items() if ours.get(name) != wanted
    ]
    if different:
        raise JobError(
            f"the worker on {platform.node()} has {', '.join(different)}",
            hint="install in the environment of the workers what is installed where the command is given",
        )
    with _one_at_a_time, _variables(around.variables):
        return perform(target, packed, around.threads)


@contextmanager
def _variables(wanted: Mapping[str, str]) -> Iterator[None]:
    """The sender's variables: which plugins may be used, and where things go."""
    before = {name: value for name, value in os.environ.items() if name.startswith(_PREFIX)}
    _set(wanted)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith(_PREFIX)]:
        del os.environ[name]
    os.environ.update(variables)


_WORKERS = 2
_SECONDS_BETWEEN_LOOKS = 0.005


class _NoWorkerError(JobError):
    """There are jobs to do, and nobody to do them."""


class DaskExecutor(Executor):
    """Jobs as tasks of a cluster. It is reached, or started, for the first jobs, and left or ended by ``close``.

    Each job is computed with ``settings.threads`` torch threads, or else with ``threads``, the number of this process.
    """

    def __init__(self, settings: DaskConfig, threads: int) -> None:
        self._settings = settings
        self._threads = settings.threads or threads
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None

    @property
    def address(self) -> str | None:
        """Address of the scheduler; None before the first jobs."""
        return None if self._client is None else str(self._client.scheduler_info()["address"])

    def map(self, target: str, items: Iterable[Any], key: str) -> list[Any]:
        """See ``Executor.map``.

        Raises ``ConfigError`` where the scheduler does not answer or has no worker within the timeout, and
        ``JobError`` where it is lost, or all its workers for as long as the timeout. A cluster that was started here
        and lost its workers is started anew.
        """
        job_function(target)
        packed = [pack(item, f"item {number} of {key!r}") for number, item in enumerate(items)]
        if not packed:
            return []
        answers: dict[int, Any] = {}
        # Dask blames a worker's death on every job that stood in its queue; alone, a job shows whether it is at fault.
        for blamed in self._do(target, packed, range(len(packed)), key, answers):
            if self._do(target, packed, [blamed], key, answers):
                raise WorkerError(
                    f"every worker that was given job {blamed} of {key!r} ended in the middle of it",
                    item=blamed,
                    hint="it may have run out of memory, or been killed; the workers' own logs say more",
                )
        return [answers[number] for number in range(len(packed))]

    def _do(
        self, target: str, packed: Sequence[bytes], numbers: Iterable[int], key: str, answers: dict[int, Any]
    ) -> list[int]:
        """Do jobs and add their answers; those whose worker died, in order."""
        client = self._connected()
        around, once = surroundings(self._threads), uuid4().hex[:8]
        with _large_items():
            tasks = {
                client.submit(
                    run_packed_job, target, packed[number], around, key=f"{key}-{number}-{once}", pure=False
                ): number
                for number in numbers
            }
        blamed = []
        try:
            # Answers are fetched as they come: until then they are lost with the worker that has them.
            for task in self._as_they_come(client, tasks):
                try:
                    answers[tasks[task]] = unpack(task.result())
                except KilledWorker:
                    blamed.append(tasks[task])
        except _NoWorkerError:
            if self._settings.address is not None:
                client.cancel(list(tasks), force=True)
                raise
            # One that dies while it starts is not started again.
            self.close()
            blamed = [number for number in tasks.values() if number not in answers]
        except BaseException as error:
            if client.status == "running":
                client.cancel(list(tasks), force=True)
            elif isinstance(error, Exception):
                raise JobError(f"the Dask scheduler was lost in the middle of {key!r}: {error}") from error
            raise
        return sorted(blamed)

    def _as_they_come(self, client: Client, tasks: Iterable[Future]) -> Iterator[Future]:
        """Tasks as they end. Raises ``_NoWorkerError`` where there has been no worker for as long as the timeout."""
        waiting, seen = as_completed(tasks, loop=client.loop), time.monotonic()
        while not waiting.is_empty():
            if waiting.has_ready():
                yield next(waiting)
                continue
            # When the scheduler itself is lost, the tasks end, and say so.
            if client.status != "running" or client.scheduler_info()["workers"]:
                seen = time.monotonic()
            elif time.monotonic() - seen > self._settings.timeout:
                where = self._settings.address
                raise _NoWorkerError(
                    f"the Dask scheduler at {where} has had no worker for {self._settings.timeout:g} s",
                    hint=f"start one with 'dask worker {where} --nthreads 1'",
                )
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _connected(self) -> Client:
        if self._client is None:
            try:
                self._client = self._connect()
            except BaseException:
                self.close()
                raise
        return self._client

    def _connect(self) -> Client:
        settings = self._settings
        if settings.address is None:
            # The cluster serves this process alone, so nothing of it listens beyond this machine.
            with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
                self._cluster = LocalCluster(
                    n_workers=settings.workers or _WORKERS,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                )
            return Client(self._cluster, set_as_default=False)
        try:
            # A client that can't connect leaves threads and sockets behind, so the scheduler is called on first.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, _call_on(settings.address, settings.timeout)).result()
            client = Client(settings.address, timeout=settings.timeout, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"no Dask scheduler answers at {settings.address} within {settings.timeout:g} s: {error}",
                hint="start one with 'dask scheduler', or leave out the address to use processes of this machine",
            ) from error
        try:
            client.wait_for_workers(1, timeout=settings.timeout)
        except TimeoutError as error:
            client.close()
            raise ConfigError(
                f"the Dask scheduler at {settings.address} has had no worker for {settings.timeout:g} s",
                hint=f"start one with 'dask worker {settings.address} --nthreads 1'",
            ) from error
        return client

    def close(self) -> None:
        """Leave the cluster, and end it where it was started here."""
        client, cluster = self._client, self._cluster
        self._client = self._cluster = None
        if client is not None:
            client.close()
        if cluster is not None:
            cluster.close()


async def _call_on(address: str, timeout: float) -> None:
    comm = await connect(address, timeout=timeout)
    await comm.close()


@contextmanager
def _large_items() -> Iterator[None]:
    """Items may hold data. What Dask advises for such, keeping them on workers, would lose them with a worker."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)
        yield
