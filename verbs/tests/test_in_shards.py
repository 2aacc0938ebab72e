"""Evaluation in shards: the same bits for any number of workers, and models that can't be sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from verb_toys import Normal, Shifted, Source, context

from scorefold.data import Dataset, TensorSpec
from scorefold.errors import WorkerError
from scorefold.stage import Executor
from scorefold_registry.run.executor import LocalExecutor
from scorefold_toolkit.drawing import EventCounts
from scorefold_verbs import assess as assessing
from scorefold_verbs.assess import assess
from scorefold_verbs.config import AssessOptions, LikelihoodOptions, OutlierOptions
from scorefold_verbs.likelihoods import evaluate_likelihood, outliers

VERBS: dict[str, Any] = {
    "evaluate": (evaluate_likelihood, LikelihoodOptions(batch_size=16), "log-likelihoods"),
    "outliers": (outliers, OutlierOptions(batch_size=16, others=2), "log-likelihoods"),
    "assess": (assess, AssessOptions(conditions=40, n=2, batch_size=32, steps=5), "samples"),
}


class Counting(LocalExecutor):
    def __init__(self, workers: int) -> None:
        super().__init__(workers, threads=torch.get_num_threads())
        self.asked: list[tuple[str, int]] = []

    def map(self, target: str, items: Any, key: str) -> list[Any]:
        self.asked.append((key, len(items)))
        return super().map(target, items, key)


@pytest.fixture(scope="module")
def workers(warm_workers: None) -> Iterator[Counting]:
    executor = Counting(2)
    yield executor
    executor.close()


def points() -> Source:
    noise = torch.Generator().manual_seed(0)
    condition = torch.randn(40, generator=noise)
    return Source(test=Dataset(1 + condition[:, None] + torch.randn(40, 2, generator=noise), condition=condition))


def arrays_of(verb: str, model: Any, executor: Executor | None) -> dict[str, Tensor]:
    act, options, _ = VERBS[verb]
    arrays: dict[str, Tensor] = act(model, {"data": points()}, options, replace(context(), executor=executor)).arrays
    return arrays


@pytest.mark.parametrize("model", [Shifted(spec=TensorSpec((), None)), Normal()], ids=["flow", "score"])
@pytest.mark.parametrize("verb", VERBS)
def test_any_number_of_workers_gives_the_same_bits(verb: str, model: Any, workers: Counting) -> None:
    alone = arrays_of(verb, model, None)
    one = Counting(1)
    assert arrays_of(verb, model, one).keys() == alone.keys()
    assert not one.asked, "one worker is given no jobs"
    workers.asked.clear()
    shared = arrays_of(verb, model, workers)
    assert set(workers.asked) == {(VERBS[verb][2], 3)}
    assert alone.keys() == shared.keys()
    for name, values in alone.items():
        assert torch.equal(values, shared[name]), name


@pytest.mark.parametrize("verb", VERBS)
def test_a_model_that_no_other_process_knows_is_evaluated_here(verb: str, workers: Counting) -> None:
    class Local(Shifted):
        """Its class has no name that another process could import."""

    model = Local(spec=TensorSpec((), None))
    expected = arrays_of(verb, model, None)
    found = arrays_of(verb, model, workers)
    assert all(torch.equal(values, found[name]) for name, values in expected.items())


def test_a_worker_that_ends_is_said_and_its_job_not_done_here() -> None:
    class Dying(Executor):
        def map(self, target: str, items: Any, key: str) -> list[Any]:
            raise WorkerError("the worker process ended", item=0)

    with pytest.raises(WorkerError, match="the worker process ended"):
        arrays_of("evaluate", Normal(), Dying())


@pytest.mark.parametrize(("conditioned", "calls"), [(True, [3, 3, 1]), (False, [6, 6, 2])])
def test_draws_of_a_shard_are_made_a_batch_at_a_time(
    conditioned: bool, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """7 draws for each of two points in batches of 6: three of both, or six of all 14 without a condition."""
    made: list[int] = []

    def draw_within(component: Any, count: int, *given: Any) -> tuple[Tensor, EventCounts]:
        made.append(count)
        return torch.full((count, 2, 3) if conditioned else (count, 3), float(len(made))), EventCounts(count, 2 * count)

    monkeypatch.setattr(assessing, "device_of", lambda component: torch.device("cpu"))
    monkeypatch.setattr(assessing, "condition_of", lambda *given: torch.zeros(2, 1) if conditioned else None)
    monkeypatch.setattr(assessing, "draw_within", draw_within)
    options = SimpleNamespace(n=7, batch_size=6)
    shard = assessing.AssessmentShard(SimpleNamespace(event_shape=(3,)), Dataset(torch.zeros(2, 3)), options, 0)  # type: ignore[arg-type]
    x, counts = assessing.draws_of(shard)
    assert x.shape == (7, 2, 3)
    assert counts == (sum(calls), 2 * sum(calls))
    assert made == calls
