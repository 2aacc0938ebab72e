"""The purchases of a budget, counted by hand: proportions, bounds, owned tasks that grow, splits of labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold_allocation.config import MetaConfig
from scorefold_allocation.theory.linear_model import shrinkage, shrunk_traces, wishart_traces
from scorefold_allocation.theory.optimum import log_axis
from scorefold_allocation.theory.purchase import Bought, SizeBounds, bounds_of, buy, smallest_of, step_of, support_of


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def bought(
    config: MetaConfig, budget: float, support: tuple[float, ...], query: tuple[float, ...], **bounds: Any
) -> Bought:
    """The last of what can be bought at one size for each type: where there are owned tasks, these grow."""
    free = SizeBounds(**{"min_tasks": 1, "max_tasks": None, "labels": ((2, None),) * len(support), **bounds})
    return list(buy(config, free, budget, column(*support)[None], column(*query)[None]))[-1]


TWO = ({"name": "a", "share": 2, "task_cost": 3}, {"name": "b", "share": 4, "label_cost": 2})


@pytest.mark.parametrize(
    ("budget", "most", "new", "cost"),
    [
        # A set of one a and two b costs (3 + 4) + 2 * (2 * 6) = 31.
        (100, None, (3, 6), 93),
        (93, None, (3, 6), 93),
        (92, None, (2, 4), 62),
        (1000, 8, (2, 4), 62),
        (1000, 9, (3, 6), 93),
    ],
)
def test_types_in_proportion_are_bought_in_sets(
    budget: float, most: int | None, new: tuple[int, int], cost: float
) -> None:
    config = MetaConfig(task_types=TWO, mix="fixed")
    found = bought(config, budget, (2, 3), (2, 3), max_tasks=most)
    assert found.new.tolist() == [list(new)]
    assert found.cost.tolist() == [cost]


def test_free_types_are_bought_out_in_every_order() -> None:
    """Tasks of 7 and of 12: of 40 first five of the one and none of the other, or three of the other and none."""
    config = MetaConfig(task_types=TWO, mix="free")
    free = SizeBounds(1, None, ((2, None), (2, None)))
    found = [one.new.tolist()[0] for one in buy(config, free, 40, column(2, 3)[None], column(2, 3)[None])]
    assert found == [[5, 0], [0, 3]]
    capped = MetaConfig(task_types=({**TWO[0], "max_tasks": 2}, TWO[1]), mix="free")
    found = [one.new.tolist()[0] for one in buy(capped, free, 40, column(2, 3)[None], column(2, 3)[None])]
    assert found == [[2, 2], [0, 3]]
    few = [
        one.new.tolist()[0]
        for one in buy(capped, SizeBounds(1, 3, free.labels), 40, column(2, 3)[None], column(2, 3)[None])
    ]
    assert few == [[2, 1], [0, 3]]


OWNED = ({"name": "a", "label_cost": 2, "owned": ({"tasks": 3, "support": 2, "query": 2},)},)


@pytest.mark.parametrize(("budget", "grown", "new"), [(5, 2, 0), (6, 3, 0), (16, 3, 1), (26, 3, 2)])
def test_owned_tasks_grow_at_the_price_of_what_they_lack(budget: float, grown: int, new: int) -> None:
    """To 3 + 2 labels each lacks one, at 2; a new task costs 10."""
    found = bought(MetaConfig(task_types=OWNED), budget, (3,), (2,))
    assert (found.grown.tolist(), found.new.tolist()) == ([[grown]], [[new]])
    assert found.plans.tasks.tolist() == [[grown + new, 3 - grown]]
    assert found.plans.support.tolist() == [[3, 2]]
    assert found.cost.tolist() == [2 * grown + 10 * new]


def test_owned_tasks_as_large_stay_as_they_are() -> None:
    for support, query in ((2, 2), (1, 5), (5, 1)):
        assert bought(MetaConfig(task_types=OWNED), 12, (support,), (query,)).grown.tolist() == [[0]]


def test_plans_keep_to_the_number_of_tasks() -> None:
    """Three are owned: of five at most two are new, and one of seven is none that 40 pay for."""
    config = MetaConfig(task_types=OWNED)
    assert bought(config, 100, (2,), (2,), max_tasks=5).new.tolist() == [[2]]
    assert bought(config, 16, (2,), (2,), min_tasks=5).allowed.tolist() == [True]
    assert bought(config, 16, (2,), (2,), min_tasks=6).allowed.tolist() == [False]
    assert bought(config, 16, (2,), (2,), max_tasks=2).allowed.tolist() == [False]


def test_support_is_a_share_of_whole_labels_a_class() -> None:
    """A share of 0.3 of 2, 5 and 10 labels a class: 0.6, 1.5 and 3, rounded half up, with one for query at least."""
    assert support_of(column(6, 15, 30), 0.3, 3).tolist() == [3, 6, 9]
    assert support_of(column(6, 30), 0.99, 3).tolist() == [3, 27]
    assert support_of(column(30), 0.01, 3).tolist() == [3]


def test_sizes_are_whole_labels_a_class() -> None:
    even, fixed = MetaConfig(), MetaConfig(split={"name": "fixed", "support_share": 0.2})
    kind = MetaConfig(task_types=({"name": "a", "ways": 3},)).task_types[0]
    assert (step_of(kind, even), step_of(kind, fixed)) == (6, 3)
    assert [smallest_of(kind, even, least) for least in (2, 6, 7)] == [6, 6, 12]
    assert [smallest_of(kind, fixed, least) for least in (2, 6, 7)] == [6, 6, 9]


def test_bounds_that_hold_one_size_are_bounds() -> None:
    config = MetaConfig(task_types=({"name": "a", "ways": 3},))
    assert bounds_of(config, {"min_labels": 6, "max_labels": 6, "min_tasks": 4, "max_tasks": 4}) == SizeBounds(
        4, 4, ((6, 6),)
    )
    with pytest.raises(ConfigError, match="has 6 or more"):
        bounds_of(config, {"max_labels": 5})
    with pytest.raises(ConfigError, match="have 7 labels or more and 6 or fewer"):
        bounds_of(config, {"min_labels": 7, "max_labels": 6})
    with pytest.raises(ConfigError, match="min_tasks is 4 and max_tasks 3"):
        bounds_of(config, {"min_tasks": 4, "max_tasks": 3})


def test_moments_of_one_number_are_those_of_chi_squared() -> None:
    """With one row and column S = z^2: E z^4 = 3, E z^6 = 15, E z^8 = 105, and A = 1 - a z^2."""
    s = wishart_traces(1, 1)
    assert [float(one) for one in s] == pytest.approx([1, 3, 15, 105, 3, 15, 105])
    a = 0.3
    h = 1 - 2 * a + 3 * a**2
    g = 1 - 2 * a * 3 + a**2 * 15
    fourth = 1 - 4 * a + 6 * 3 * a**2 - 4 * 15 * a**3 + 105 * a**4
    assert [float(one) for one in shrunk_traces(1, 1, a)] == pytest.approx([h, g, g, fourth, fourth])
    assert float(shrinkage(1, 1, a)) == pytest.approx(h)


def test_an_axis_has_its_ends_and_all_small_sizes() -> None:
    assert log_axis(2, 10, 2, 50).tolist() == [2, 4, 6, 8, 10]
    found = log_axis(2, 2000, 2, 8).tolist()
    ratio = [2 * 1000 ** (k / 7) for k in range(8)]
    assert found == sorted({2.0, 4.0, 2000.0, *(2 + 2 * round((one - 2) / 2) for one in ratio)})
