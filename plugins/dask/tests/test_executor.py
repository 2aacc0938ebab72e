"""Jobs on a real cluster of two processes: the same answers, the same errors, and words for what goes wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from distributed import LocalCluster

from scorefold.errors import ConfigError, DataError, JobError, PluginError, WorkerError
from scorefold.stage import pack, unpack
from scorefold_dask.config import DaskConfig
from scorefold_dask.executor import DaskExecutor, JobEnvironment, _NoWorkerError, run_packed_job, surroundings
from scorefold_neighbours.config import MLEConfig
from scorefold_neighbours.estimators.estimator import NeighbourEstimator
from scorefold_registry.run.executor import LocalExecutor


def test_answers_are_those_of_local_processes_bit_by_bit_and_in_order(cluster: DaskExecutor) -> None:
    local = LocalExecutor(workers=2, threads=1)
    try:
        expected = local.map("dask_jobs:spectrum", range(6), key="spectra")
    finally:
        local.close()
    found = cluster.map("dask_jobs:spectrum", range(6), key="spectra")
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert cluster.map("dask_jobs:spectrum", [], key="nothing") == []
    again = cluster.map("dask_jobs:spectrum", [5, 5, 0], key="spectra")
    assert torch.equal(again[0], expected[5]), "a key names jobs, and is no promise that they are the same"
    assert torch.equal(again[2], expected[0])


def test_shards_of_an_estimate_give_the_same_bits(cluster: DaskExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorefold_toolkit.nearest.SHARD_ROWS", 64)
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    here, there = (
        NeighbourEstimator(MLEConfig(resamples=2), executor=executor).estimate(x) for executor in (None, cluster)
    )
    assert (here.value, here.interval) == (there.value, there.interval)
    assert torch.equal(here.pointwise, there.pointwise)  # type: ignore[arg-type]
    assert cluster.address is not None


def test_jobs_have_the_threads_and_the_variables_of_who_sends_them(
    cluster: DaskExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOREFOLD_PLUGINS", "standard,-dask")
    found = cluster.map("dask_jobs:around", range(8), key="around")
    assert {item["threads"] for item in found} == {1}
    assert {item["SCOREFOLD_PLUGINS"] for item in found} == {"standard,-dask"}
    processes = {item["process"] for item in found}
    assert os.getpid() not in processes
    monkeypatch.delenv("SCOREFOLD_PLUGINS")
    found = cluster.map("dask_jobs:around", range(8), key="around")
    assert {item["SCOREFOLD_PLUGINS"] for item in found} == {None}
    assert {item["process"] for item in found} <= processes, "the same cluster serves one map after another"


def test_a_job_leaves_its_worker_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOREFOLD_OF_WORKER", "its own")
    threads = torch.get_num_threads()
    around = surroundings(threads + 1)
    sent = JobEnvironment(threads + 1, {"SCOREFOLD_PLUGINS": "-a"}, around.versions)
    seen = unpack(run_packed_job("dask_jobs:around", pack(0, "it"), sent))
    assert (seen["threads"], torch.get_num_threads()) == (threads + 1, threads)
    assert (seen["SCOREFOLD_PLUGINS"], seen["SCOREFOLD_OF_WORKER"]) == ("-a", None)
    assert os.environ["SCOREFOLD_OF_WORKER"] == "its own"
    assert "SCOREFOLD_PLUGINS" not in os.environ


def test_a_worker_of_other_versions_is_refused() -> None:
    around = surroundings(1)
    assert {"python", "torch", "scorefold-core", "safetensors"} <= set(around.versions)
    other = JobEnvironment(1, {}, {**around.versions, "torch": "1.0", "python": "3.9"})
    with pytest.raises(JobError, match=r"has python 3\.\d+ for 3\.9, torch .* for 1\.0") as caught:
        run_packed_job("dask_jobs:around", b"", other)
    assert "environment of the workers" in str(caught.value.hint)


def test_errors_of_jobs_arrive_as_they_were_raised(cluster: DaskExecutor) -> None:
    with pytest.raises(DataError, match="too few points") as caught:
        cluster.map("dask_jobs:fail", ["fine", "data", "fine"], key="fail")
    assert (caught.value.hint, caught.value.file, caught.value.line) == ("give more", "points.csv", 3)
    with pytest.raises(OSError, match="no space left"):
        cluster.map("dask_jobs:fail", ["disk"], key="fail")
    with pytest.raises(JobError, match="dask_jobs:fail failed: StubbornError: it stays here"):
        cluster.map("dask_jobs:fail", ["stubborn"], key="fail")
    with pytest.raises(JobError, match="item 1 of 'generators' can't be sent"):
        cluster.map("dask_jobs:fail", ["fine", (number for number in range(2))], key="generators")
    with pytest.raises(JobError, match="the answer of builtins:memoryview can't be sent"):
        cluster.map("builtins:memoryview", [b"abc"], key="views")
    with pytest.raises(PluginError, match="there is no job 'dask_jobs:no_such'"):
        cluster.map("dask_jobs:no_such", [1], key="x")
    assert cluster.map("dask_jobs:fail", ["a", "b"], key="fail") == ["a", "b"]


def test_large_items_pass(cluster: DaskExecutor) -> None:
    items = [torch.full((3_000_000,), float(number)) for number in range(2)]
    found = cluster.map("torch:sum", items, key="large")
    assert [float(answer) for answer in found] == [0.0, 3_000_000.0]


def test_a_worker_that_dies_is_replaced_and_one_that_dies_again_is_named(tmp_path: Path) -> None:
    executor = DaskExecutor(DaskConfig(workers=1), threads=1)
    try:
        items = [("once" if number == 1 else "never", str(tmp_path), number) for number in range(4)]
        assert executor.map("dask_jobs:die", items, key="die") == [0, 1, 4, 9]
        items = [("always" if number == 2 else "never", str(tmp_path), number) for number in range(4)]
        with pytest.raises(WorkerError, match="every worker that was given job 2 of 'die' ended") as caught:
            executor.map("dask_jobs:die", items, key="die")
        assert caught.value.item == 2
        workers = {item["process"] for item in executor.map("dask_jobs:around", range(8), key="around")}
        listening = [place.laddr.ip for pid in (os.getpid(), *workers) for place in _listening(pid)]
        assert set(listening) == {"127.0.0.1"}, "nobody from outside can send this cluster anything"
    finally:
        executor.close()
    end = time.monotonic() + 20
    while any(map(psutil.pid_exists, workers)):
        assert time.monotonic() < end, "a worker goes on after the cluster was closed"
        time.sleep(0.05)


def test_a_cluster_of_our_own_that_lost_its_workers_is_started_anew() -> None:
    """A worker that dies while it starts is one that Dask does not start again."""
    executor = DaskExecutor(DaskConfig(workers=1, timeout=1), threads=1)
    try:
        assert executor.map("dask_jobs:fail", ["a"], key="one") == ["a"]
        first = executor.address
        assert executor._cluster is not None
        executor._cluster.scale(0)
        executor._cluster.sync(executor._cluster._correct_state)
        assert executor.map("dask_jobs:fail", ["b"], key="two") == ["b"]
        assert executor.address != first
    finally:
        executor.close()


def test_answers_that_came_before_the_workers_were_lost_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, do = DaskExecutor._as_they_come, DaskExecutor._do
    asked: list[list[int]] = []

    def lost_after_one(self: DaskExecutor, *given: Any) -> Iterator[Any]:
        for task in ended(self, *given):
            yield task
            if len(asked) == 1:
                raise _NoWorkerError("all are gone")

    def noted(self: DaskExecutor, target: str, packed: Any, numbers: Any, *given: Any) -> list[int]:
        asked.append(list(numbers))
        return do(self, target, packed, numbers, *given)

    monkeypatch.setattr(DaskExecutor, "_as_they_come", lost_after_one)
    monkeypatch.setattr(DaskExecutor, "_do", noted)
    executor = DaskExecutor(DaskConfig(workers=1), threads=1)
    try:
        assert executor.map("dask_jobs:fail", ["a", "b"], key="two") == ["a", "b"]
    finally:
        executor.close()
    assert asked in ([[0, 1], [1]], [[0, 1], [0]])


def _listening(pid: int) -> list[Any]:
    places = psutil.Process(pid).net_connections("inet")
    return [place for place in places if place.status == psutil.CONN_LISTEN]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("tcp://127.0.0.1:9", "Timed out trying to connect"),
        ("nowhere.invalid:8786", "Timed out trying to connect"),
        ("carrier://pigeon", "unknown address scheme 'carrier'"),
        ("elsewhere", "missing port number"),
    ],
)
def test_a_scheduler_that_does_not_answer_is_reported_in_time(address: str, why: str) -> None:
    began = time.monotonic()
    executor = DaskExecutor(DaskConfig(address=address, timeout=0.5), threads=1)
    with pytest.raises(ConfigError, match=f"no Dask scheduler answers at {address} within 0.5 s") as caught:
        executor.map("dask_jobs:fail", ["fine"], key="fail")
    executor.close()
    assert why in caught.value.message
    assert "dask scheduler" in str(caught.value.hint)
    assert time.monotonic() - began < 10


def test_a_cluster_that_runs_is_joined_and_left_running(tmp_path: Path) -> None:
    with LocalCluster(n_workers=0, threads_per_worker=2, host="127.0.0.1", dashboard_address="127.0.0.1:0") as running:
        settings: dict[str, Any] = {"address": running.scheduler_address, "timeout": 0.5}
        executor = DaskExecutor(DaskConfig(**settings), threads=1)
        with pytest.raises(ConfigError, match=r"has had no worker for 0\.5 s"):
            executor.map("dask_jobs:fail", ["fine"], key="fail")
        executor.close()
        running.scale(1)
        running.wait_for_workers(1, timeout=60)
        executor = DaskExecutor(DaskConfig(**{**settings, "timeout": 60}), threads=1)
        found = executor.map("dask_jobs:around", range(4), key="around")
        assert len({item["process"] for item in found}) == 1
        executor.close()
        # This is how long a client waits for a scheduler that is gone to come back.
        other = DaskExecutor(DaskConfig(**{**settings, "timeout": 2}), threads=1)
        assert other.map("dask_jobs:fail", ["fine"], key="fail") == ["fine"], "who left it has not ended it"
        running.scale(0)
        running.sync(running._correct_state)
        with pytest.raises(JobError, match=r"has had no worker for 2 s"):
            other.map("dask_jobs:fail", ["fine"], key="fail")
        running.close()
        # Which of the two is noticed first is a matter of load.
        with pytest.raises(JobError, match=r"the Dask scheduler (was lost|at .* has had no worker)"):
            other.map("dask_jobs:fail", ["fine"], key="fail")
        other.close()
