"""The local executor: jobs inside a stage, in this process or in several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from typing import Any

from scorefold.errors import PluginError
from scorefold.stage import Executor


class LocalExecutor(Executor):
    """Runs jobs one after another, or on ``workers`` processes; answers come in the order of the items either way.

    Every process computes with ``threads`` threads, so that results do not depend on the number of workers.
    """

    def __init__(self, workers: int = 1, threads: int | None = None) -> None:
        self._workers = workers
        self._threads = threads
        self._pool: ProcessPoolExecutor | None = None

    def map(self, target: str, items: Iterable[Any], key: str) -> list[Any]:
        """See ``Executor.map``. Raises ``PluginError`` for a target that does not exist."""
        items = list(items)
        function = _function(target)
        if self._workers == 1 or len(items) < 2:
            return [function(item) for item in items]
        if self._pool is None:
            # Forking a process that runs torch's threads may hang, so workers start afresh.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._workers, context, initializer=_start, initargs=(self._threads,))
        return list(self._pool.map(_call, [target] * len(items), items))

    def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _function(target: str) -> Callable[[Any], Any]:
    module, _, name = target.partition(":")
    try:
        function: Callable[[Any], Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"there is no job {target!r}: {error}", hint="name a function as module:function") from error
    return function


def _start(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _call(target: str, item: Any) -> Any:
    return _function(target)(item)
