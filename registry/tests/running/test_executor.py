"""The local executor where jobs fail, workers die, and Ctrl-C comes; and who closes a plugin's executor."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from scorefold.errors import DataError, JobError, PluginError, WorkerError
from scorefold.plugin import hookimpl
from scorefold.stage import Executor
from scorefold_registry.host import Host
from scorefold_registry.run.executor import LocalExecutor
from scorefold_registry.run.pipeline import run_file

SHORT = "version: 1\nname: short\nstages:\n  data: {use: data:tiny}\n"


@pytest.fixture
def executor() -> Iterator[LocalExecutor]:
    # Without threads to set, workers import no torch, and start at once.
    executor = LocalExecutor(workers=2)
    yield executor
    executor.close()


def test_errors_of_jobs_arrive_and_the_executor_lives_on(executor: LocalExecutor) -> None:
    with pytest.raises(DataError, match="too few points") as caught:
        executor.map("scorefold_tiny.jobs:fail", ["fine", "data", "fine"], key="fail")
    assert (caught.value.hint, caught.value.file, caught.value.line) == ("give more", "points.csv", 3)
    with pytest.raises(JobError, match="failed: StubbornError"):
        executor.map("scorefold_tiny.jobs:fail", ["stubborn", "fine"], key="fail")
    with pytest.raises(JobError, match=r"the answer of scorefold_tiny\.jobs:fail can't be sent"):
        executor.map("scorefold_tiny.jobs:fail", ["fine", "answer"], key="fail")
    with pytest.raises(JobError, match="item 1 of 'generators' can't be sent"):
        executor.map("scorefold_tiny.jobs:fail", ["fine", (number for number in range(2))], key="generators")
    assert executor.map("scorefold_tiny.jobs:fail", ["a", "b"], key="fail") == ["a", "b"]


def test_a_worker_that_dies_is_started_again_and_one_that_dies_twice_is_named(
    executor: LocalExecutor, tmp_path: Path
) -> None:
    items = [("once" if number == 1 else "never", str(tmp_path), number) for number in range(5)]
    assert executor.map("scorefold_tiny.jobs:die", items, key="die") == [0, 1, 4, 9, 16]
    items = [("always" if number == 3 else "never", str(tmp_path), number) for number in range(5)]
    with pytest.raises(WorkerError, match="ended in the middle of job 3 of 'die', twice") as caught:
        executor.map("scorefold_tiny.jobs:die", items, key="die")
    assert caught.value.item == 3
    assert "memory" in str(caught.value.hint)


WAITING = """
import sys
from scorefold_registry.run.executor import LocalExecutor
if __name__ == "__main__":
    try:
        jobs = [(sys.argv[1], number) for number in range(8)]
        LocalExecutor(workers=2).map("scorefold_tiny.jobs:wait", jobs, key="wait")
    except KeyboardInterrupt:
        sys.exit(7)
"""


@pytest.mark.parametrize("how", ["interrupt", "kill"])
def test_no_worker_outlives_its_parent(how: str, tmp_path: Path, launch: Callable[..., subprocess.Popen[str]]) -> None:
    process = launch(
        str(tmp_path), code=f"if __name__ == '__main__':\n    {WAITING.strip().replace(chr(10), chr(10) + '    ')}"
    )
    end = time.monotonic() + 60
    while len(workers := [int(path.name.split("-")[1]) for path in tmp_path.glob("here-*")]) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT if how == "interrupt" else signal.SIGKILL)
    out, err = process.communicate(timeout=30)
    if how == "interrupt":
        assert (process.returncode, out, err) == (7, "", "")
    end = time.monotonic() + 15
    while any(psutil.pid_exists(worker) for worker in workers):
        assert time.monotonic() < end, "a worker goes on without its parent"
        time.sleep(0.05)
    assert len(list(tmp_path.glob("here-*"))) == 2, "no further job was begun"


def plugin(executor: Callable[[Any], Any]) -> ModuleType:
    module = ModuleType("offering")
    module.__plugin_api__ = "1.0"  # type: ignore[attr-defined]

    def scorefold_executor(run: Any) -> Any:
        return executor(run)

    module.scorefold_executor = hookimpl(scorefold_executor)  # type: ignore[attr-defined]
    return module


def test_an_executor_of_a_plugin_is_closed_with_the_run_however_it_ends(write: Callable[[str], Path]) -> None:
    closed: list[str] = []

    class Offered(Executor):
        def map(self, target: str, items: Any, key: str) -> list[Any]:
            return []

        def close(self) -> None:
            closed.append("closed")
            if len(closed) == 2:
                raise RuntimeError("the cluster is gone")

    host = Host.discover(extra_plugins=[plugin(lambda run: Offered())])
    run_file(host, write(SHORT))
    assert closed == ["closed"]
    result = run_file(host, write(SHORT))
    assert closed == ["closed"] * 2
    assert "scorefold_executor failed: RuntimeError: the cluster is gone" in result.failures[0].text()
    with pytest.raises(DataError):
        run_file(host, write(SHORT), sets=["stages.data.config.path=nowhere.txt"])
    assert closed == ["closed"] * 3


def test_what_is_no_executor_is_refused(write: Callable[[str], Path]) -> None:
    host = Host.discover(extra_plugins=[plugin(lambda run: "a cluster")])
    with pytest.raises(PluginError, match="returned a str; expected an Executor"):
        run_file(host, write(SHORT))
