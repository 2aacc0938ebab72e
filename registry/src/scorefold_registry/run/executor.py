"""Executors for jobs: this process, several processes of this machine, or a plugin's executor."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.connection import Connection
from types import FrameType
from typing import TYPE_CHECKING, Any

from scorefold.errors import PluginError, ScorefoldError, WorkerError
from scorefold.stage import Executor, RunInfo, job_function, pack, perform, reported, unpack
from scorefold_registry.plugins.loading import describe, owners_of, raised_by
from scorefold_registry.plugins.names import with_article
from scorefold_registry.plugins.process_guard import guarded

if TYPE_CHECKING:
    from scorefold_registry.host import Host
    from scorefold_registry.plugins.records import PluginRecord

SECONDS_TO_END = 5.0
"""Time for a job to end cleanly when its worker stops."""


def plugins_executor(host: Host, run: RunInfo) -> Executor | None:
    """The executor that a plugin offers for a run, or None. Raises ``PluginError`` where its hook fails, or changes the
    process that all stages run in."""
    owners = owners_of(host.manager, host.plugins, "scorefold_executor")
    try:
        with guarded() as changed:
            executor = host.hook.scorefold_executor(run=replace(run))
    except ScorefoldError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and not raised_by(error, {record.package for record in owners}):
            raise
        at_fault = owners_of(host.manager, host.plugins, "scorefold_executor", error)
        raise _executor_error(at_fault, f"failed: {describe(error)}") from error
    # Ours are known not to; an object of a library's is from whoever is not known to give executors.
    others = [record for record in owners if not record.distribution.startswith("scorefold-")] or owners
    if changed:
        raise _executor_error(others, f"changed {' and '.join(changed)}, which was put back")
    if executor is not None and not isinstance(executor, Executor):
        module = type(executor).__module__.partition(".")[0]
        at_fault = [record for record in owners if record.package == module] or others
        raise _executor_error(at_fault, f"returned {with_article(type(executor).__name__)}; expected an Executor")
    return executor


def _executor_error(records: Sequence[PluginRecord], fault: str) -> PluginError:
    who = " or ".join(repr(record.name) for record in records)
    hint = f"switch it off: --plugins={','.join(f'-{record.name}' for record in records)}"
    return PluginError(f"scorefold_executor of plugin {who} {fault}", hint=hint)


class LocalExecutor(Executor):
    """Runs jobs one after another, or on ``workers`` processes; answers come in the order of the items either way.

    Every process computes with ``threads`` threads, so that results do not depend on the number of workers. Where a
    process ends in the middle of a job, the jobs are done again, those that may be at fault one at a time.
    """

    def __init__(self, workers: int = 1, threads: int | None = None) -> None:
        self._workers = workers
        self.parallel = workers > 1
        self._threads = threads
        self._pool: ProcessPoolExecutor | None = None
        self._leash: tuple[Connection, Connection] | None = None

    def map(self, target: str, items: Iterable[Any], key: str) -> list[Any]:
        """See ``Executor.map``. Raises ``PluginError`` for a target that does not exist."""
        items = list(items)
        function = job_function(target)
        if self._workers == 1 or len(items) < 2:
            return [function(item) for item in reported(items, len(items), key)]
        packed = [pack(item, f"item {number} of {key!r}") for number, item in enumerate(items)]
        answers: dict[int, bytes] = {}
        try:
            while len(answers) < len(packed):
                self._go_on(target, packed, key, answers)
        except KeyboardInterrupt:
            self._interrupt()
            raise
        return [unpack(answers[number]) for number in range(len(packed))]

    def _go_on(self, target: str, packed: Sequence[bytes], key: str, answers: dict[int, bytes]) -> None:
        """Do the jobs that are left, or some of them where a worker dies. Raises ``WorkerError`` for its job."""
        try:
            self._do(target, packed, key, _left(packed, answers), answers)
        except BrokenProcessPool:
            # Each worker holds one job and the queue before them one more each, and one: the fault is among these.
            for number in _left(packed, answers)[: 2 * self._workers + 1]:
                try:
                    self._do(target, packed, key, [number], answers)
                except BrokenProcessPool:
                    raise WorkerError(
                        f"the worker process ended in the middle of job {number} of {key!r}, twice",
                        item=number,
                        hint="it may have run out of memory, or been killed; with one worker its messages are printed",
                    ) from None

    def _do(
        self, target: str, packed: Sequence[bytes], key: str, numbers: Iterable[int], answers: dict[int, bytes]
    ) -> None:
        jobs = {}
        try:
            for number in numbers:
                jobs[number] = self._running_pool().submit(_work, target, packed[number], self._threads)
            for number, job in reported(jobs.items(), len(jobs), key):
                answers[number] = job.result()
        except BaseException as error:
            for number, job in jobs.items():
                if not job.cancel() and job.done() and job.exception() is None:
                    answers[number] = job.result()
            if isinstance(error, BrokenProcessPool):
                self.close()
            raise

    def _running_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Forking a process that runs torch's threads may hang, so workers start afresh.
            context = multiprocessing.get_context("spawn")
            self._leash = context.Pipe(duplex=False)
            self._pool = ProcessPoolExecutor(self._workers, context, initializer=_start, initargs=(self._leash[0],))
        return self._pool

    def _interrupt(self) -> None:
        """Stop the jobs that are being done as Ctrl-C would, and end the workers."""
        if self._leash is not None:
            self._leash[1].close()
        self.close()

    def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        if self._leash is not None:
            for end in self._leash:
                end.close()
            self._leash = None


def _left(packed: Sequence[bytes], answers: dict[int, bytes]) -> list[int]:
    return [number for number in range(len(packed)) if number not in answers]


_working, _stopped = threading.Event(), threading.Event()
"""State of a worker process: it runs a job; it has to stop."""


def _start(leash: Connection) -> None:
    """Prepare a worker. A terminal's Ctrl-C reaches every process, but only the one that waits says what it means."""
    signal.signal(signal.SIGINT, _on_interrupt)
    threading.Thread(target=_watch, args=(leash,), daemon=True).start()


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    # A worker that waits for its next job is ended by its queue; an exception there would only be noise.
    if _stopped.is_set() and _working.is_set():
        raise KeyboardInterrupt


def _watch(leash: Connection) -> None:
    """Interrupt the job when the leash is let go, by a parent that stops or by one that was killed."""
    leash.poll(None)
    _stopped.set()
    if hasattr(signal, "pthread_kill"):
        # Sent to the thread that does the job, it ends a wait there too.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)
    time.sleep(SECONDS_TO_END)
    os._exit(1)


def _work(target: str, packed: bytes, threads: int | None) -> bytes:
    _working.set()
    try:
        if _stopped.is_set():
            raise KeyboardInterrupt
        return perform(target, packed, threads)
    except KeyboardInterrupt:
        # What it carries is of no use to the parent, and may not pass through pickle.
        raise KeyboardInterrupt from None
    finally:
        _working.clear()
