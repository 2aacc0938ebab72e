"""Worker of the cluster: one job at a time, with the settings of the process that sent it."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version

from scorefold.errors import JobError
from scorefold.stage import perform

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
    """Those of this process."""
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
