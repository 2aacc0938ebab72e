"""Answers that take long: a worker thread for answers, one for trainings, progress, and a way to stop."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from scorefold.errors import ScorefoldError
from scorefold.stage import showing

KEPT = 200
"""Jobs that are remembered."""


class StoppedError(Exception):
    """Raised inside a job that was stopped, at the next report of its progress."""


@dataclass
class Job:
    """A question on its way: ``state`` is waiting, running, done, failed or stopped."""

    number: int
    ask: Callable[[], Any]
    state: str = "waiting"
    done: int = 0
    total: int = 0
    text: str = ""
    result: Any = None
    error: dict[str, Any] | None = None
    seconds: float = 0.0
    apart: bool = False
    ended: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)

    def as_json(self) -> dict[str, Any]:
        """The job as JSON for the page, with the result if there is one."""
        facts = {"job": self.number, "state": self.state, "done": self.done, "total": self.total, "text": self.text}
        if self.state == "done":
            facts |= {"result": self.result, "seconds": self.seconds}
        return facts | ({} if self.error is None else {"error": self.error})


class QuestionWorker:
    """One thread that answers one question after another, and one beside it for what takes minutes."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        self._numbers = itertools.count(1)
        self._queues: dict[bool, queue.SimpleQueue[Job | None]] = {}
        for apart in (False, True):
            waiting = self._queues[apart] = queue.SimpleQueue()
            threading.Thread(target=_work, args=(waiting,), name="explore", daemon=True).start()

    def start(self, ask: Callable[[], Any], apart: bool = False) -> Job:
        """Puts a question behind those that wait. Of those ``apart`` one runs at a time: another gets its answer."""
        going = [one for one in self._jobs.values() if one.apart and not one.ended.is_set()]
        if apart and going:
            return going[0]
        job = Job(next(self._numbers), ask, apart=apart)
        self._jobs[job.number] = job
        for number in [n for n, one in self._jobs.items() if one.ended.is_set()][:-KEPT]:
            del self._jobs[number]
        self._queues[apart].put(job)
        return job

    def find(self, number: int) -> Job | None:
        """A job that is remembered."""
        return self._jobs.get(number)

    def stop(self, job: Job) -> None:
        """Stops a job: one that waits never begins, one that runs ends at its next report."""
        job.stop.set()
        if job.state == "waiting":
            job.state = "stopped"
            job.ended.set()

    def close(self) -> None:
        """Stops everything; the threads end after the step that runs."""
        for job in list(self._jobs.values()):
            job.stop.set()
        for waiting in self._queues.values():
            waiting.put(None)


def _work(waiting: queue.SimpleQueue[Job | None]) -> None:
    while (job := waiting.get()) is not None:
        if not job.stop.is_set():
            _run(job)


def _run(job: Job) -> None:
    def show(done: int, total: int, text: str) -> None:
        job.done, job.total, job.text = done, total, text
        if job.stop.is_set():
            raise StoppedError

    job.state, began = "running", time.perf_counter()
    try:
        with showing(show):
            result = job.ask()
        job.seconds = time.perf_counter() - began
        job.result, job.state = result, "done"
    except StoppedError:
        job.state = "stopped"
    except ScorefoldError as error:
        job.error, job.state = error.as_json(), "failed"
    except Exception as error:  # what a model raises is the answer to this question, and ends no server
        message = f"{type(error).__name__}: {error}"
        job.error, job.state = {"message": message, "hint": "the model of this run raised it"}, "failed"
    finally:
        job.ended.set()
