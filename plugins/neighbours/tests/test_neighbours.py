"""Large tables: the same bits for any number of workers, no point too many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.data import Dataset, StreamedDataset
from scorefold.errors import DataError
from scorefold.results import Estimate
from scorefold.stage import Executor
from scorefold_neighbours import config as configs
from scorefold_neighbours.estimators import pca
from scorefold_neighbours.estimators.estimator import AT_ONE_DISTANCE, NeighbourEstimator, ended_at, sample_size
from scorefold_neighbours.estimators.pca import PCAEstimator, component_variances, variances_by_batches
from scorefold_neighbours.estimators.points import points_and_positions, sampled_points
from scorefold_registry import Host, run_file
from scorefold_registry.run.executor import LocalExecutor
from scorefold_toolkit import nearest


@pytest.fixture(scope="module")
def workers(warm_workers: None) -> Iterator[Executor]:
    executor = LocalExecutor(2, threads=torch.get_num_threads())
    yield executor
    executor.close()


def table(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("config", [configs.MLEConfig(resamples=2), configs.TwoNNConfig(resamples=2)])
def test_estimators_answer_the_same_for_any_number_of_workers(config: Any, workers: Executor) -> None:
    x = table(2 * nearest.SHARD_ROWS + 100, 3)
    one = NeighbourEstimator(config, executor=LocalExecutor(1)).estimate(x, generator=gen(4))
    two = NeighbourEstimator(config, executor=workers).estimate(x, generator=gen(4))
    assert (one.value, one.interval) == (two.value, two.interval)
    if one.pointwise is not None:
        assert torch.equal(one.pointwise, two.pointwise)  # type: ignore[arg-type]
    assert one.value == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize(
    ("limit", "columns", "size"),
    [("auto", 15, 100_000), ("auto", 16, 10_000), (None, 3, None), (7, 3, 7)],
)
def test_sample_sizes(limit: Any, columns: int, size: int | None) -> None:
    assert sample_size(limit, columns) == size


def test_only_the_sample_is_read_and_the_note_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorefold_neighbours.estimators.estimator.sample_size", lambda limit, columns: 500)
    x, read = table(4000, 5), []

    def fetch(rows: Tensor) -> Dataset:
        read.append(len(rows))
        return Dataset(x=x[rows])

    streamed = StreamedDataset(x=torch.empty(0, 5, dtype=torch.float64), fetch=fetch, size=4000)
    found = NeighbourEstimator(configs.TwoNNConfig(resamples=0)).estimate(streamed)
    assert read == [500]
    assert found.diagnostics["note"].endswith("on a sample of 500 of 4,000 points")
    assert "note" not in NeighbourEstimator(configs.TwoNNConfig(resamples=0)).point_estimate(x[:500]).diagnostics


def test_components_of_many_points_are_read_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far from 0, where a covariance about 0 would lose all digits; and no batch is larger than it may be."""
    monkeypatch.setattr(pca, "_BATCH", 4 * 1500)
    x = table(10_001, 4) * torch.tensor([3.0, 2.0, 1.0, 0.0], dtype=torch.float64) + 1e6
    read: list[int] = []

    def fetch(rows: Tensor) -> Dataset:
        read.append(len(rows))
        return Dataset(x=x[rows])

    streamed = StreamedDataset(x=torch.empty(0, 4, dtype=torch.float64), fetch=fetch, size=len(x))
    found = PCAEstimator(configs.PCAConfig(resamples=20)).estimate(streamed, generator=gen(1))
    assert read == [*[1500] * 6, 1001, 10_000]
    assert found.spectrum is not None
    torch.testing.assert_close(found.spectrum[0], component_variances(x), rtol=1e-9, atol=1e-12)
    assert (found.value, found.diagnostics["points"]) == (3.0, 10_001)
    assert found.diagnostics["note"] == "the interval is for 10,000 points"
    few = PCAEstimator(configs.PCAConfig(resamples=20, limit=9000)).estimate(streamed, generator=gen(1))
    assert few.diagnostics["note"] == "on a sample of 9,000 of 10,001 points"


def test_points_that_are_not_finite_are_named_in_any_batch() -> None:
    x = table(2000, 2)
    x[1234, 1] = torch.nan
    with pytest.raises(DataError, match="1 of the points are NaN or infinite, the first in row 1234"):
        variances_by_batches(Dataset(x=x), torch.arange(2000))
    with pytest.raises(DataError, match="the first in row 1234"):
        points_and_positions(x, None, gen(), least=3, who="PCA")


RUN = """\
version: 1
name: shards
runtime: {{workers: {workers}, device: cpu, threads: 1}}
stages:
  data: {{use: data:sphere, config: {{dimension: 2, ambient: 4, points: 2000, seed: 3}}}}
  dimension: {{use: estimator:mle, inputs: {{data: data}}, config: {{resamples: 2}}}}
"""


def test_a_run_file_shares_shards_among_workers(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "SHARD_ROWS", 64)
    jobs: list[int] = []
    alone = LocalExecutor.map

    def watched(self: LocalExecutor, target: str, items: Any, key: str) -> list[Any]:
        jobs.append(len(items))
        return alone(self, target, items, key)

    monkeypatch.setattr(LocalExecutor, "map", watched)
    found = []
    for workers in (1, 2):
        (tmp_path / "run.yaml").write_text(RUN.format(workers=workers))
        run = run_file(host, tmp_path / "run.yaml", runs=tmp_path / "kept", cache=tmp_path / f"{workers}")
        found.append(run.stages[-1].metrics)
        assert bool(jobs) == (workers == 2)
    assert found[0] == found[1]
    assert found[0]["intrinsic dimension"] == pytest.approx(2, abs=0.3)


def test_a_sample_of_streamed_points_is_read_in_batches() -> None:
    x, most = table(30_000, 3).float(), 0

    def fetch(index: Tensor) -> Dataset:
        nonlocal most
        most = max(most, len(index))
        return Dataset(x=x[index], index=index)

    streamed = StreamedDataset(x=torch.empty(0, 3), fetch=fetch, size=len(x))
    taken, positions = sampled_points(streamed, 20_000, gen(), least=3, who="PCA")
    batches = [batch.x for batch in taken.batches(1000)]
    assert most == 1000
    assert torch.equal(torch.cat(batches), x[positions])


def test_an_answer_ends_at_the_number_of_coordinates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NeighbourEstimator, "_fit", lambda self, cloud, seed, heard: (1.06 + len(cloud) * 1e-6, None))
    estimator = NeighbourEstimator(configs.MLEConfig())
    column = torch.arange(400.0)[:, None]
    found = estimator.estimate(column)
    assert (found.value, found.diagnostics["reading"]) == (1.0, pytest.approx(1.0604))
    assert found.interval == (1, 1)
    assert found.diagnostics["note"] == "it reads 1.06, above the number of coordinates"
    assert estimator.point_estimate(column).value == pytest.approx(1.0604)
    below = Estimate("intrinsic dimension", 1.9, (1.8, 2.1))
    assert ended_at(below, 2) == replace(below, interval=(1.8, 2))
    assert ended_at(below, 3) is below
    facts = {"method": "MLE"}
    far = ended_at(Estimate("intrinsic dimension", 3.1, (2.9, 3.3), diagnostics=facts), 2)
    assert (far.value, far.interval, far.diagnostics["reading"]) == (None, None, 3.1)
    assert far.headline == "it reads 3.1 in 2 coordinates, so the points are not what MLE assumes"
    for value, interval, given in ((3.0, (2.49, 3.3), 2), (3.0, (2.51, 3.3), None), (2.9, None, 2), (3.1, None, None)):
        assert ended_at(Estimate("intrinsic dimension", value, interval, diagnostics=facts), 2).value == given
    near = ended_at(Estimate("intrinsic dimension", 2.001, (2.0, 2.002), diagnostics=facts), 2)
    assert (near.value, near.diagnostics) == (2.0, {**facts, "reading": 2.001})  # no sentence: 2 is not above 2
    ties = {**facts, "warnings": [f"30% of the points {AT_ONE_DISTANCE}, as counts have"]}
    low = ended_at(Estimate("intrinsic dimension", 0.49, (0.4, 0.6), diagnostics=ties), 2)
    assert (low.value, low.interval) == (None, None)
    assert low.headline == "it reads 0.49 in 2 coordinates, so the points are not what MLE assumes"
    assert ended_at(Estimate("intrinsic dimension", 0.04, (0.0, 0.6), diagnostics=facts), 2).value is None
    # A dust may have half a dimension.
    for half, own in ((0.5, ties), (0.06, facts)):
        found = Estimate("intrinsic dimension", half, (0.0, 0.6), diagnostics=own)
        assert ended_at(found, 2) is found
