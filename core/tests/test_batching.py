"""How many events a call of a network gets: what is measured, and that answers don't depend on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from verb_toys import Posterior, Shifted

from scorefold.batching import CPU_BYTES, FEW, MOST, blank_condition, in_calls, set_call_rows
from scorefold.data import EventScale, TensorSpec

ROWS = (1, 7, 40, 10_000, None)


@pytest.fixture(autouse=True)
def _measured() -> Iterator[None]:
    yield
    set_call_rows(None)


class Wide(Posterior):
    """A score that makes ``width`` numbers of each event on its way, and notes how many events it is given."""

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.register_buffer("weight", torch.ones(2, width) / width)
        self.dropout = torch.nn.Dropout(0.5)
        self.asked: list[int] = []

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        self.asked.append(len(x))
        wide = self.dropout(x.flatten(1) @ self.weight)
        return super().score(x, t, condition) + 0 * wide.sum()


def test_the_largest_tensor_decides_and_is_measured_once() -> None:
    for width, dtype, bytes_each in ((1000, torch.float32, 4000), (1000, torch.float64, 8000), (2, torch.float64, 16)):
        model = Wide(width).to(dtype)
        assert model.call_rows() == min(MOST, CPU_BYTES // bytes_each)
        assert model.asked == [1, 3]
        model.call_rows()
        assert len(model.asked) == 2
    assert model.float().call_rows() == MOST
    assert len(model.asked) == 4


def test_measuring_takes_no_random_numbers_and_leaves_the_model_as_it_was() -> None:
    model = Wide(50).train()
    before = torch.get_rng_state()
    model.call_rows()
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


def test_a_model_that_refuses_what_has_no_meaning_is_taken_to_be_large() -> None:
    class Refuses(Posterior):
        def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
            raise ValueError("no such thing")

    assert Refuses().float().call_rows() == CPU_BYTES // (2 * 4 * 256)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("conditions", [None, 3])
@pytest.mark.parametrize("sampler", ["heun", "euler-maruyama"])
def test_draws_do_not_depend_on_the_size_of_calls(sampler: str, conditions: int | None, guidance: float) -> None:
    found, largest = [], []
    for rows in ROWS:
        set_call_rows(rows)
        model = Wide(50, spec=TensorSpec((2,))).double().eval()
        condition = None if conditions is None else torch.arange(6.0).reshape(3, 2).double()
        generator = torch.Generator().manual_seed(1)
        count = 100 if conditions is None else 30
        found.append(model.sample(count, condition, sampler=sampler, steps=4, guidance=guidance, generator=generator))
        largest.append(max(model.asked))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-12, atol=1e-12)
    whole = 100 if conditions is None else 90
    assert largest == [1, 7, 40, whole, whole]


def test_likelihoods_do_not_depend_on_the_size_of_calls() -> None:
    x = torch.randn(30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for trace in ("exact", "hutchinson"):
        found = []
        for rows in ROWS:
            set_call_rows(rows)
            generator = torch.Generator().manual_seed(1)
            found.append(Wide(50).double().eval().log_prob(x, trace=trace, generator=generator))
        for other in found[1:]:
            torch.testing.assert_close(other, found[0], rtol=1e-10, atol=1e-10)


def test_densities_of_flows_do_not_depend_on_the_size_of_calls() -> None:
    condition = torch.arange(50.0)
    x = condition[:, None] + torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    flow = Shifted(spec=TensorSpec(()), scale=EventScale(low=-100.0, high=100.0, levels=2001))
    found = []
    for rows in ROWS:
        set_call_rows(rows)
        with torch.no_grad():
            found.append(flow.log_prob(x, condition, torch.Generator().manual_seed(1)))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])
    # A loss needs the gradient, which goes through one call.
    set_call_rows(1)
    assert flow.log_prob(x.requires_grad_(), condition).requires_grad


def test_calls_are_cut_and_put_together() -> None:
    seen = []

    def function(x: Tensor, t: Tensor, condition: Any) -> tuple[Tensor, Tensor]:
        seen.append((len(x), len(t), len(condition["a"])))
        return x + t, condition["a"]

    x, a = torch.arange(5.0), torch.arange(5) * 10
    both = in_calls(2, function, x, torch.ones(1), condition={"a": a})
    assert seen == [(2, 1, 2), (2, 1, 2), (1, 1, 1)]
    assert torch.equal(both[0], x + 1)
    assert torch.equal(both[1], a)


def test_few_events_are_one_call_and_need_no_measurement() -> None:
    model = Wide(50).double().eval()
    model.sample(FEW, steps=1, sampler="heun", generator=torch.Generator().manual_seed(0))
    assert set(model.asked) == {FEW}


def test_blank_conditions_fit() -> None:
    like = torch.zeros(1, dtype=torch.float64)
    assert blank_condition(None, 3, like) is None
    blank = blank_condition({"a": TensorSpec((2,)), "b": TensorSpec((), classes=4)}, 3, like)
    assert isinstance(blank, dict)
    assert (blank["a"].shape, blank["a"].dtype) == ((3, 2), torch.float64)
    assert (blank["b"].shape, blank["b"].dtype) == ((3,), torch.long)
