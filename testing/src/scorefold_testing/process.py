"""The state of the process that checks share: set anew before each check, and compared after it."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from scorefold.seeds import derive_seed
from scorefold_testing.contract import require

DTYPES = (torch.float32, torch.float64)
THREADS = (1, 2)
GRADIENTS = (True, False)


@dataclass(frozen=True)
class ProcessSetting:
    """One thing that all code of a process shares: how it is read, and how it is set."""

    get: Callable[[], Any]
    put: Callable[[Any], Any]


def _numpy_state() -> tuple[Any, ...]:
    state: Any = np.random.get_state()
    return (state[0], state[1].tolist(), *state[2:])


def _filters() -> list[Any]:
    """The filters for every warning: libraries add some for their own, which are nobody's fault."""
    return [each for each in warnings.filters if each[1] is None and each[2] is Warning and each[3] is None]


def _put_filters(filters: list[Any]) -> None:
    added = [each for each in _filters() if each not in filters]
    warnings.filters[:] = [each for each in warnings.filters if each not in added]  # type: ignore[index]


def _folder() -> str | None:
    with suppress(FileNotFoundError):
        return os.getcwd()
    return None


def _put_folder(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)


def _put_environment(variables: Mapping[str, str]) -> None:
    for name in _different(variables, os.environ):
        if name in variables:
            os.environ[name] = variables[name]
        else:
            del os.environ[name]


def _put_deterministic(mode: bool) -> None:
    if mode != torch.are_deterministic_algorithms_enabled():  # setting it loads torch's compiler
        torch.use_deterministic_algorithms(mode)


def _different(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """Names of variables that have another value in one of both, or none."""
    return sorted(name for name in {*first, *second} if first.get(name) != second.get(name))


GENERATORS: Mapping[str, ProcessSetting] = {
    "torch's generator": ProcessSetting(
        lambda: torch.get_rng_state().tolist(),
        lambda state: torch.set_rng_state(torch.tensor(state, dtype=torch.uint8)),
    ),
    "numpy's generator": ProcessSetting(_numpy_state, np.random.set_state),
    "Python's generator": ProcessSetting(random.getstate, random.setstate),
}
ENVIRONMENT = "the environment"
SETTINGS: Mapping[str, ProcessSetting] = {
    "the default dtype": ProcessSetting(torch.get_default_dtype, torch.set_default_dtype),
    "the number of threads": ProcessSetting(torch.get_num_threads, torch.set_num_threads),
    "the gradient mode": ProcessSetting(torch.is_grad_enabled, torch.set_grad_enabled),
    "the deterministic mode": ProcessSetting(torch.are_deterministic_algorithms_enabled, _put_deterministic),
    "the precision of products": ProcessSetting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    ENVIRONMENT: ProcessSetting(lambda: dict(os.environ), _put_environment),
    "the working folder": ProcessSetting(_folder, _put_folder),
    "numpy's errors": ProcessSetting(np.geterr, lambda kinds: np.seterr(**kinds)),
    "the treatment of all warnings": ProcessSetting(_filters, _put_filters),
}
_ALL = {**GENERATORS, **SETTINGS}
FILES = "the content of the working folder"
BY_IMPORTS = frozenset({*GENERATORS, ENVIRONMENT})
"""Settings that libraries may change once, while they are imported."""


def _now() -> dict[str, Any]:
    return {name: setting.get() for name, setting in _ALL.items()}


def _put(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        _ALL[name].put(value)


@contextmanager
def renewed(seed: int, *, gradients: bool = False, opposite: bool = False) -> Iterator[Callable[[], dict[str, str]]]:
    """Set the shared state from a seed within a context, and return a function that lists the changes.

    Generators, the default dtype, the number of threads and the gradient mode follow from the seed. The working folder
    is new and empty. ``opposite`` uses the other dtype, number of threads and gradient mode. ``gradients`` switches
    gradients on. Afterwards the previous state is restored.
    """
    before, here = _now(), os.getcwd()
    _started_in.append(here)
    # What Python finds in the folder it was started in is found as before.
    added = "" in sys.path and here not in sys.path
    sys.path.extend([here] if added else [])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            _start(seed, folder, gradients, opposite)
            start = _now()
            yield lambda: _changes(start, folder)
        finally:
            _put(before)
            _started_in.pop()
            if added and here in sys.path:
                sys.path.remove(here)


_started_in: list[str] = []


def started_in() -> str:
    """The folder that the kit was started in, from which ``scorefold.toml`` is looked for."""
    return _started_in[0] if _started_in else os.getcwd()


def _start(seed: int, folder: str, gradients: bool, opposite: bool) -> None:
    # Not torch.manual_seed, which would also reach accelerators.
    torch.default_generator.manual_seed(derive_seed(seed, "torch"))
    np.random.seed(derive_seed(seed, "numpy") % 2**32)
    random.seed(derive_seed(seed, "random"))
    chosen = {name: derive_seed(seed, name) % 2 ^ opposite for name in ("dtype", "threads", "gradients")}
    torch.set_default_dtype(DTYPES[chosen["dtype"]])
    torch.set_num_threads(THREADS[chosen["threads"]])
    torch.set_grad_enabled(gradients or GRADIENTS[chosen["gradients"]])
    os.chdir(folder)


def _changes(start: Mapping[str, Any], folder: str) -> dict[str, str]:
    """Settings that have changed since, by name, with their new values; generators have only advanced."""
    now = _now()
    changed = {name: "moved" if name in GENERATORS else str(now[name]) for name in _ALL if now[name] != start[name]}
    if ENVIRONMENT in changed:  # values may be secret
        changed[ENVIRONMENT] = f"changed in {', '.join(_different(start[ENVIRONMENT], now[ENVIRONMENT]))}"
    files = sorted(os.listdir(folder))
    if files:
        changed[FILES] = ", ".join(files)
    return changed


def described() -> str:
    """The shared state in a few words, for whoever wants to see a failure again."""
    threads = torch.get_num_threads()
    on = "gradients" if torch.is_grad_enabled() else "no gradients"
    return f"with {torch.get_default_dtype()} as default, {threads} thread{'s' * (threads > 1)}, {on}"


def settings_in(changed: Mapping[str, str]) -> dict[str, str]:
    """Settings that have changed, without generators."""
    return {name: value for name, value in changed.items() if name not in GENERATORS}


def require_unchanged(changed: Mapping[str, str]) -> None:
    """Raises ``ViolationError`` where something has changed."""
    found = [f"{name} is {value}" for name, value in changed.items()]
    require(not found, f"after use {', '.join(found)}", "no change")
