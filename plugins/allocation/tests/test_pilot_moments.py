"""Moments of a pilot without bias, and the size that they ask for."""

from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.errors import ConfigError, DataError
from scorefold_allocation.allocator import MetaAllocator
from scorefold_allocation.config import MetaConfig
from scorefold_allocation.search.pilot import best_size_band, estimate_moments, with_moments


def pilot(tasks: int, labels: int, seed: int, p: int = 8) -> list[tuple[Tensor, Tensor]]:
    """nu^2 = 2, sigma^2 = 0.5, |w0|^2 = 1."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    found = []
    for _ in range(tasks):
        w, x = p**-0.5 + (2 / p) ** 0.5 * normal(p), normal(labels, p)
        found.append((x, x @ w + 0.5**0.5 * normal(labels)))
    return found


@pytest.mark.parametrize("labels", [2, 6])
def test_moments_have_no_bias_with_two_labels_a_task(labels: int) -> None:
    found = [estimate_moments(pilot(60, labels, seed)) for seed in range(200)]
    for name, true in (("spread2", 2.0), ("noise2", 0.5), ("centre2", 1.0)):
        values = torch.cat([getattr(moments, name) for moments in found])
        assert abs(float(values.mean()) - true) < 5 * float(values.std()) / 200**0.5


def test_counting_a_task_twice_is_no_pair_of_it_with_itself() -> None:
    tasks = pilot(5, 3, 0)
    counted = estimate_moments(tasks, torch.tensor([[2, 1, 0, 1, 1], [1, 1, 1, 1, 1]]))
    plain = estimate_moments(tasks)
    assert float(counted.centre2[1]) == pytest.approx(float(plain.centre2))
    sums = torch.stack([y @ x for x, y in tasks])
    weights = torch.tensor([2.0, 1, 0, 1, 1]).double()
    pairs = (weights[:, None] * weights * (sums @ sums.mT)).fill_diagonal_(0).sum()
    number = 9 * (weights[:, None] * weights).fill_diagonal_(0).sum()
    assert float(counted.centre2[0]) == pytest.approx(float(pairs / number))


def test_a_small_pilot_knows_the_best_size() -> None:
    config = MetaConfig()
    band = best_size_band(config, pilot(40, 6, 1), 3000, torch.Generator().manual_seed(0), draws=60)
    known = with_moments(config, pilot(5000, 6, 2))
    kind = known.task_types[0]
    assert kind.spread**2 == pytest.approx(2, abs=0.2)
    assert kind.noise**2 == pytest.approx(0.5, abs=0.2)
    true = best_size_band(known, pilot(5000, 6, 3), 3000, torch.Generator().manual_seed(0), draws=20).median
    assert band.low <= true <= band.high <= 2 * band.low


def test_a_pilot_without_pairs_is_refused() -> None:
    for tasks in (pilot(1, 5, 0), pilot(9, 1, 0), []):
        with pytest.raises(DataError, match="2 tasks or more"):
            estimate_moments(tasks)
    with pytest.raises(DataError, match="the budget is 3"):
        best_size_band(MetaConfig(), pilot(4, 4, 0), 3, torch.Generator())
    with pytest.raises(DataError, match="differ in shape"):
        estimate_moments([*pilot(3, 3, 0), *pilot(3, 3, 0, p=5)])


def test_the_allocator_plans_by_the_moments_of_a_pilot_of_tasks() -> None:
    found = MetaAllocator(MetaConfig(engine="pilot")).allocate(3000, pilot=pilot(2000, 6, 1))
    known = {"linear": {"dimension": 8, "start_distance": 1}, "task_types": [{"spread": 2**0.5, "noise": 0.5**0.5}]}
    true = MetaAllocator(MetaConfig(**known)).allocate(3000)
    low, high = found.diagnostics["band"]
    assert low <= true.plan[0].support + true.plan[0].query <= high
    assert found.predicted_loss == pytest.approx(true.predicted_loss, rel=0.2)
    assert found.diagnostics["moments"]["spread"] == pytest.approx(2**0.5, rel=0.2)
    with pytest.raises(ConfigError, match="one type"):
        MetaAllocator(MetaConfig(task_types=({"name": "a"}, {"name": "b"}))).allocate(3000, pilot=pilot(9, 3, 0))
    with pytest.raises(DataError, match="2 tasks or more"):
        MetaAllocator(MetaConfig()).allocate(3000, pilot=[])
    assert MetaAllocator(MetaConfig()).allocate(2, pilot=pilot(9, 3, 0)).status == "infeasible"


def test_a_pilot_of_arrays_is_a_pilot_of_tensors() -> None:
    tasks = pilot(9, 3, 0)
    plans = [
        MetaAllocator(MetaConfig()).allocate(3000, pilot=given)
        for given in (tasks, [(x.numpy(), y.tolist()) for x, y in tasks])
    ]
    assert plans[0].plan == plans[1].plan
    assert plans[0].diagnostics["moments"] == plans[1].diagnostics["moments"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (((10, 5, 5), 0.4), r"has inputs of shape \(3,\) and labels of shape \(\)"),
        ((torch.ones(3, 2), torch.ones(4)), r"has inputs of shape \(3, 2\) and labels of shape \(4,\)"),
        ((10, 5, 5, 0.4), r"is \(10, 5, 5, 0.4\)"),
        (7, "is 7"),
        ("ab", "is 'ab'"),
    ],
)
def test_a_pilot_of_no_tasks_is_refused_with_what_a_pilot_is(wrong: Any, said: str) -> None:
    expected = rf"task 3 of the pilot {said}; expected inputs \(n, p\) and labels \(n,\)"
    with pytest.raises(DataError, match=expected) as failed:
        MetaAllocator(MetaConfig()).allocate(3000, pilot=[*pilot(3, 3, 0), wrong])
    assert "def loss(tasks, support, query)" in str(failed.value.hint)
    with pytest.raises(ConfigError, match=r"the pilot is a dict; .* inputs \(n, p\) and labels \(n,\) of each"):
        MetaAllocator(MetaConfig()).allocate(3000, pilot={(10, 5, 5): 0.4})
