"""Work that splits over points: in shards, which are jobs where an executor runs these in parallel.

A shard has a size of its own, whatever does it, and each is computed by one call of one function. So answers are the
same bit by bit for any number of workers, one included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from scorefold.errors import JobError, WorkerError
from scorefold.stage import Executor, job_function

AT_ONCE = 8
"""Shards that are handed to an executor together: they are copied before the first of them is done."""


def in_shards(target: str, shards: Iterable[Any], executor: Executor | None, key: str) -> Iterator[Any]:
    """``target`` (``module:function``) applied to each shard, in order.

    Shards are jobs of an executor that is ``parallel``, named by ``key`` and taken ``AT_ONCE`` at a time; otherwise,
    where one is left by itself and where they can't be sent, they are computed here. Raises as the function does, and
    ``WorkerError`` where a worker ends.
    """
    function, left = job_function(target), iter(shards)
    while taken := list(islice(left, AT_ONCE if executor is not None and executor.parallel else 1)):
        answers: Iterable[Any] = map(function, taken)
        if executor is not None and len(taken) > 1:
            try:
                answers = executor.map(target, taken, key)
            except WorkerError:
                raise
            except JobError:
                pass  # a model of a class that no other process can import is as good here
        yield from answers
