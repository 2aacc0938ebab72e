"""Costs of a stage: evaluations of models counted once each, and classes left as they were."""

from __future__ import annotations

import functools
import mmap
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from scorefold.data import Condition
from scorefold.diffusion import VE
from scorefold.interfaces import Flow, ScoreModel, evaluations
from scorefold.interfaces.model import Shown
from scorefold_registry.components.building import Made, Memory
from scorefold_registry.run.os_process import cpu_seconds, peak_memory, restart_peak
from scorefold_registry.run.stage_work import models_of
from scorefold_toolkit.nn import StandardNormal


class Exact(ScoreModel):
    """The score of a standard normal distribution."""

    def __init__(self) -> None:
        super().__init__(VE(), (3,))

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, _ = self.match_inputs(x, t, condition)
        return -x / (1 + t[:, None] ** 2)


class Fresh(Exact):
    """One that says its noise itself."""

    def noise(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        return x - 1


class Identity(Flow):
    def __init__(self) -> None:
        super().__init__((3,), StandardNormal())

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return x, x.new_zeros(len(x))

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return z, z.new_zeros(len(z))


X = torch.zeros(5, 3)


def test_a_call_counts_its_rows_once_however_it_is_made() -> None:
    model, t = Exact(), torch.full((5,), 0.5)
    with evaluations([model]) as tally:
        assert tally.points == 0
        model.score(X, t)
        assert tally.points == 5
        model.noise(X, t)
        model.denoise(x=X, t=t)
        assert tally.points == 15
        model.bind()(X[:2], t[:2])
        assert tally.points == 17
        model.score(X[:1], t)
        assert tally.points == 22, "a batch of 1 broadcasts"
    model.score(X, t)
    assert tally.points == 22


def test_samplers_likelihoods_and_flows_are_counted_through() -> None:
    with evaluations([model := Exact()]) as tally:
        model.sample(4, steps=10, sampler="euler-maruyama", generator=torch.Generator().manual_seed(0))
    assert tally.points == 44, "four points at ten steps, and at a last one to zero noise"
    with evaluations([flow := Identity()]) as tally:
        flow.log_prob(X)
        flow.sample(7)
        torch.func.jvp(lambda x: flow(x)[0], (X,), (X,))
    assert tally.points == 17


def test_derivatives_carried_along_do_not_count() -> None:
    with evaluations([flow := Identity()]) as tally:
        torch.func.vmap(lambda v: torch.func.jvp(lambda x: flow(x)[0], (X,), (v,))[1])(torch.zeros(9, 5, 3))
    assert tally.points == 5


class Answers:
    """Gives a score by a method that is not of an interface."""

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        return -x


class Mixed(Answers, Exact):
    pass


def test_methods_of_mixins_count_and_measuring_the_size_of_calls_does_not() -> None:
    with evaluations([model := Mixed()]) as tally:
        model.score(X, torch.zeros(5))
        model.call_rows()
        Exact().score(X, torch.zeros(5))
    assert tally.points == 5, "models of other classes are not counted"


def test_threads_that_a_stage_starts_count_for_it() -> None:
    with evaluations([model := Exact()]) as tally, ThreadPoolExecutor(1) as pool:
        pool.submit(model.score, X, torch.zeros(5)).result()
    assert tally.points == 5


def test_each_of_two_counting_threads_counts_its_own() -> None:
    def counted() -> int | None:
        with evaluations([model := Exact()]) as own:
            model.score(X, torch.zeros(5))
        return own.points

    with evaluations([Exact()]) as tally, ThreadPoolExecutor(1) as pool:
        assert pool.submit(counted).result() == 5
    assert tally.points == 0


def test_methods_of_every_sort_work_and_wrapped_ones_count() -> None:
    class Static(Exact):
        @staticmethod
        def score(x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:  # type: ignore[override]
            return -x

    class Wrapping(Exact):
        @functools.wraps(Exact.score)
        def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
            return -x

    assert torch.equal(Static().score(X, torch.zeros(5)), -X)
    with evaluations([model := Wrapping()]) as tally:
        model.score(X, torch.zeros(5))
    assert tally.points == 5


def test_an_object_that_hands_attributes_on_is_not_shown_as_another() -> None:
    class Deleg(Shown):
        def __init__(self, inner: object) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> object:
            return getattr(self.__dict__["inner"], name)

    inner = Shown()
    vars(inner)["_scorefold_made_from"] = "data:line"
    assert repr(inner) == "<data:line>"
    assert "data:line" not in repr(Deleg(inner))


def test_nothing_is_counted_where_there_is_no_model() -> None:
    with evaluations([]) as tally:
        Exact().score(X, torch.zeros(5))
    assert tally.points is None


def test_classes_are_left_as_they_were_whatever_happens() -> None:
    kinds = (Exact, Fresh, Identity, ScoreModel)
    before = [dict(vars(kind)) for kind in kinds]

    def fail() -> None:
        with evaluations([Exact(), Fresh(), Fresh(), Identity()]) as tally:
            Fresh().score(X, torch.zeros(5))
            Fresh().noise(X, torch.zeros(5))
            pickle.dumps(Exact())
            assert tally.points == 10
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert [dict(vars(kind)) for kind in kinds] == before


def test_models_are_found_through_ports_at_any_depth() -> None:
    class Thing:
        """Holds what it was plugged to."""

    memory, inner, outer, flow, score = Memory(), Thing(), Thing(), Identity(), Exact()

    def keep(obj: object, **ports: object) -> None:
        # What it was made from plays no part here.
        memory.keep(obj, Made(None, ports, frozenset(), None))  # type: ignore[arg-type]

    keep(inner, parts=[flow, flow])
    keep(outer, geometry=inner, data=Thing())
    assert {id(model) for model in models_of(memory, outer, score)} == {id(flow), id(score)}
    assert models_of(memory, Thing()) == []


def test_seconds_are_of_work_and_not_of_waiting() -> None:
    start = cpu_seconds()
    time.sleep(0.05)
    assert cpu_seconds() - start < 0.05
    while cpu_seconds() - start < 0.02:
        sum(range(1000))


@pytest.mark.skipif(peak_memory() is None, reason="this system does not say what a process held")
def test_peak_memory_is_that_since_it_was_restarted() -> None:
    restart_peak()
    before = peak_memory()
    with mmap.mmap(-1, 200_000_000) as block:  # new pages, which no allocator has kept
        block.write(b"x" * 200_000_000)
    after = peak_memory()
    restart_peak()
    anew = peak_memory()
    assert before is not None
    assert after is not None
    assert anew is not None
    assert after > before + 150, "200 MB were held"
    assert anew < after - 100, "and are not any more"
