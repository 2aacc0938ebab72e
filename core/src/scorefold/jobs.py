"""Jobs for other processes: what an executor sends, what a worker does with it, and errors that survive the way."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from importlib import import_module
from typing import Any

from scorefold.errors import JobError, PluginError


def job_function(target: str) -> Callable[[Any], Any]:
    """The function that ``module:function`` names. Raises ``PluginError`` for one that does not exist."""
    module, _, name = target.partition(":")
    try:
        function: Callable[[Any], Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"there is no job {target!r}: {error}", hint="name a function as module:function") from error
    return function


def pack(value: Any, what: str) -> bytes:
    """A value as it is sent; ``what`` names it in the ``JobError`` raised for one that can't be pickled. Tensors are
    copied: sharing their memory, as torch's own queues do, would tie it to the process that made them.
    """
    try:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        hint = "jobs take and return plain data, tensors and objects of importable classes"
        raise JobError(f"{what} can't be sent to another process: {error}", hint=hint) from error


def unpack(packed: bytes) -> Any:
    """Unpack an object that a process of this program packed."""
    return pickle.loads(packed)


def perform(target: str, packed: bytes, threads: int | None) -> bytes:
    """Do one job in a worker: ``target`` on a packed item, with so many torch threads (None leaves them); packed.
    Raises the job's own error, or a ``JobError`` with its words where the error itself can't be sent.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        return pack(job_function(target)(unpack(packed)), f"the answer of {target}")
    except Exception as error:
        try:
            unpack(pickle.dumps(error))
        except Exception:
            raise JobError(f"{target} failed: {type(error).__name__}: {error}") from None
        raise
    finally:
        torch.set_num_threads(before)
