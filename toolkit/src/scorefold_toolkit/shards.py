"""Work that splits over points: in shards, which are jobs where an executor runs these in parallel.

A shard has a size of its own, whatever does it, and each is computed by one call of one function. So answers are the
same bit by bit for any number of workers, one included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from scorefold.jobs import job_function
from scorefold.stage import Executor

AT_ONCE = 8
"""Shards that are handed to an executor together: they are copied before the first of them is done."""


def in_shards(target: str, shards: Iterable[Any], executor: Executor | None, key: str) -> Iterator[Any]:
    """``target`` (``module:function``) applied to each shard, in order.

    Shards are jobs of an executor that is ``parallel``, named by ``key`` and taken ``AT_ONCE`` at a time; otherwise,
    and where one is left by itself, they are computed here. Raises as the function and ``Executor.map`` do.
    """
    function, left = job_function(target), iter(shards)
    while taken := list(islice(left, AT_ONCE if executor is not None and executor.parallel else 1)):
        if executor is None or len(taken) == 1:
            yield from map(function, taken)
        else:
            yield from executor.map(target, taken, key)
