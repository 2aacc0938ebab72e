"""Which sizes there are, and plans around what is owned."""

from itertools import pairwise

import pytest

from scorefold.errors import ConfigError
from scorefold.results import PlanRow
from scorefold_allocation.config import MetaConfig, OwnedConfig
from scorefold_allocation.learners.interface import AllocationCell
from scorefold_allocation.search.grid import Limits
from scorefold_allocation.search.report import budget_with_owned, incremental_plan, present_size, size_to_keep
from scorefold_allocation.search.valley import Band


def limits(**kind: object) -> Limits:
    return Limits.of(MetaConfig(task_types=({"name": "task", **kind},)))


def test_sizes_are_even_within_limits_and_spread_evenly_in_logarithms() -> None:
    sizes = limits().sizes(960, 12)
    assert sizes[0] == 2
    assert sizes[-1] == 480
    assert all(size % 2 == 0 for size in sizes)
    ratios = [b / a for a, b in pairwise(sizes[3:])]
    assert max(ratios) / min(ratios) < 1.25
    assert limits(min_labels=7, max_labels=21).sizes(960, 50) == [8, 10, 12, 14, 16, 18, 20]
    assert limits().sizes(3, 12) == []


def test_cells_spend_the_budget_by_cost_and_split_by_class() -> None:
    assert limits().cell(10, 105) == AllocationCell(10, 5, 5)
    assert limits(task_cost=5).cell(10, 105) == AllocationCell(7, 5, 5)
    assert limits(max_tasks=4).cell(10, 105) == AllocationCell(4, 5, 5)
    assert limits(ways=5).sizes(200, 20)[0] == 10
    config = MetaConfig(task_types=({"ways": 5},), split={"name": "fixed", "support_share": 0.2})
    assert Limits.of(config).cell(50, 100) == AllocationCell(2, 10, 40)
    assert Limits.of(config).cell(15, 100) == AllocationCell(6, 5, 10)


def test_constraints_tighten() -> None:
    tight = Limits.of(MetaConfig(), {"min_labels": 5, "max_labels": 12, "min_tasks": 3, "max_tasks": 9})
    assert tight.sizes(1000, 20) == [6, 8, 10, 12]
    assert tight.tasks(6, 1000) == 9
    assert tight.most(30) == 10


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (MetaConfig(task_types=({"name": "a"}, {"name": "b"})), "one type"),
        (MetaConfig(split={"name": "free"}), "split"),
    ],
)
def test_what_a_black_box_is_not_tried_on_is_refused(config: MetaConfig, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Limits.of(config)


def test_a_plan_tops_up_what_is_owned_and_then_buys() -> None:
    owned = (OwnedConfig(tasks=3, support=2, query=2), OwnedConfig(tasks=2, support=8, query=8))
    rows, left, buy = incremental_plan("task", limits(), 10, 60, owned)
    assert buy == {"task_type": "task", "new_tasks": 4, "grown": [{"tasks": 3, "support": 2, "query": 2}]}
    assert rows == (PlanRow("task", 7, 5, 5), PlanRow("task", 2, 8, 8))
    assert left == 60 - 3 * 6 - 4 * 10
    rows, left, buy = incremental_plan("task", limits(), 10, 14, owned)
    assert (buy["new_tasks"], buy["grown"][0]["tasks"]) == (0, 2)
    assert rows == (PlanRow("task", 1, 2, 2), PlanRow("task", 2, 5, 5), PlanRow("task", 2, 8, 8))
    assert left == 2
    assert budget_with_owned(60, owned, limits()) == 60 + 12 + 32


def test_leftovers_go_to_new_tasks() -> None:
    assert incremental_plan("task", limits(), 10, 107, (), "spread")[:2] == (
        (PlanRow("task", 7, 5, 5), PlanRow("task", 3, 6, 6)),
        1,
    )
    assert incremental_plan("task", limits(max_labels=12), 10, 107, (), "spread").left == 1
    assert incremental_plan("task", limits(), 10, 107)[:2] == ((PlanRow("task", 10, 5, 5),), 7)
    assert incremental_plan("task", limits(max_labels=10), 10, 107, (), "spread").left == 7


def test_a_size_is_kept_while_the_band_holds_it() -> None:
    band = Band(12, 8, 20)
    assert size_to_keep(12, band, 18) == 18
    assert size_to_keep(12, band, 24) == 12
    assert size_to_keep(12, band, None) == 12
    assert present_size((OwnedConfig(tasks=3, support=2, query=2), OwnedConfig(tasks=2, support=8, query=8))) == 16
    assert present_size(()) is None
