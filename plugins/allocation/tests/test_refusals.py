"""What the procedure refuses, and what it says where it does not: small pilots, limits, failures, ties, one seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from known_pilots import Accurate, Failing, Known, Nothing, constant
from pydantic import ValidationError

from scorefold.errors import ConfigError
from scorefold.results import Allocation
from scorefold.stage import showing
from scorefold_allocation.config import MetaConfig, PilotConfig
from scorefold_allocation.learners.interface import Learner, Losses
from scorefold_allocation.search.procedure import run_pilot
from scorefold_allocation.search.trials import Trainee


def run(learner: Learner, budget: int, pilot: Mapping[str, Any] | None = None, **config: Any) -> Allocation:
    settings = MetaConfig(pilot={"labels": 1600, "seeds": 6, **(pilot or {})}, **config)
    return run_pilot(settings, Trainee(learner, Nothing()), budget)


def spent(found: Allocation) -> int:
    return sum(row.tasks * (row.support + row.query) for row in found.plan)


@pytest.mark.parametrize("labels", [1, 3, 4, 8])
def test_a_pilot_too_small_for_three_sizes_is_refused(labels: int) -> None:
    found = run(Accurate(constant), 1000, pilot={"labels": labels})
    assert (found.status, found.leftover) == ("refused", 1000)
    assert "set pilot.labels higher" in found.reason
    found = run_pilot(MetaConfig(pilot={"labels": labels}), lambda m, s, q: constant(s + q, m), 1000)
    assert found.status == "refused"


@pytest.mark.parametrize("seed", range(4))
def test_a_pilot_of_noise_is_refused_and_the_band_is_named(seed: int) -> None:
    noise = np.random.default_rng(seed)
    found = run_pilot(MetaConfig(), lambda m, s, q: 1 + noise.normal() / 10, 1000)
    assert found.status == "refused"
    assert found.reason.startswith("the pilot does not separate the sizes tried, 2 to 500 labels per task: ")
    assert "set pilot.seeds above 10" in found.reason
    assert len(found.curve["tasks"]) > 5


def test_a_valley_under_the_same_noise_is_found() -> None:
    noise = np.random.default_rng(0)
    found = run_pilot(MetaConfig(), lambda m, s, q: 1 + math.log2((s + q) / 32) ** 2 / 20 + noise.normal() / 10, 1000)
    assert found.status == "feasible"
    assert 8 < found.diagnostics["n"] < 128


def test_equal_losses_make_every_size_as_good() -> None:
    found = run_pilot(MetaConfig(), lambda m, s, q: 0.5, 1000)
    assert found.text().endswith(
        "Every size tried, from 2 to 500 labels per task, gave the same loss: each is as good."
    )
    assert found.diagnostics["near_optimal"] == found.diagnostics["band"] == [2, 500]


@pytest.mark.parametrize("config", [{"task_types": [{"min_labels": 10, "max_labels": 10}]}, {"min_tasks": 50}])
def test_the_scan_reports_budgets_that_were_tried_alone(config: dict[str, Any]) -> None:
    found = run(Known(constant, threshold=100), 160_000, **config)
    assert found.status == "feasible"
    assert found.diagnostics["scan"]["below"] in (None, 80, 100)
    assert 100 < found.diagnostics["threshold"] <= 200


def test_tasks_and_labels_that_cost_nothing_come_to_an_end() -> None:
    kind = {"task_cost": 0, "label_cost": 0, "max_tasks": 10, "max_labels": 40}
    found = run(Known(constant, threshold=1e9), 16, task_types=[kind])
    assert found.plan[0].tasks == 10
    assert found.leftover == 16


@pytest.mark.parametrize("raises", [False, True])
def test_a_learner_that_always_fails_is_refused_for_that(raises: bool) -> None:
    found = run(Failing(constant, 1, raises), 160_000)
    assert found.status == "refused"
    assert "no size of a task gave a finite loss" in found.reason


def test_a_refused_pilot_shows_the_trials_that_it_paid_for() -> None:
    shown: list[tuple[int, int, str]] = []
    settings = MetaConfig(pilot={"labels": 1600, "seeds": 6})
    with showing(lambda *at: shown.append(at)):
        found = run_pilot(settings, Trainee(Known(constant, threshold=1000), Nothing()), 160_000)
    assert found.status == "refused"
    table = found.curve
    assert list(table) == ["tasks", "support", "query", "seeds", "loss", "training loss"]
    labels = sum(m * (s + q) * r for m, s, q, r in zip(*list(table.values())[:4], strict=True))
    assert labels == found.diagnostics["label_runs"] > 0
    first = (
        f"{table['tasks'][0]} tasks of {table['support'][0] + table['query'][0]} labels: loss {table['loss'][0]:.4g}"
    )
    assert f"Tried until then ({labels:,} labels over all trainings): {first}" in found.text()
    assert len(found.csv().splitlines()) == len(table["loss"]) + 1
    assert len(shown) == len(table["loss"])
    assert all(0 <= done < total and "tasks of" in text for done, total, text in shown)


def test_trials_that_gave_no_loss_are_shown_without_one() -> None:
    found = run(Failing(constant, 1, True), 160_000)
    assert set(found.curve["loss"]) == {None}
    assert "loss not known" in found.text()


def test_cells_that_fail_take_no_threshold_away() -> None:
    found = run(Failing(constant, 30, raises=True), 160_000)
    assert found.diagnostics["threshold"] is not None
    assert not any("no training loss" in text for text in found.warnings)


def test_growth_is_not_read_off_budgets_near_the_threshold_or_sizes_that_a_budget_holds_down() -> None:
    low = run(Known(constant, threshold=100), 160_000, pilot={"budgets": 6})
    assert min(low.curve["budget"]) >= 2 * low.diagnostics["threshold"]
    held = run(Known(constant, noise=0.02), 160_000, min_tasks=50)
    assert held.diagnostics["gamma"] is None
    assert held.diagnostics["n"] == pytest.approx(20, abs=2)


def test_noise_is_not_taken_for_none_where_coarse_accuracies_agree() -> None:
    class Coarse(Accurate):
        def evaluate(self, source: Any, cells: Any, seed: int) -> Losses:
            accuracies = super().evaluate(source, cells, seed).test
            return Losses((accuracies * 40).round() / 40)

    found = run(Coarse(lambda n, m: 20 * constant(n, m)), 1600)
    assert found.diagnostics["seeds"] == 6
    assert found.interval is not None
    assert found.interval[0] < found.interval[1]


def test_perfect_and_hopeless_accuracies_are_reported() -> None:
    class Always(Accurate):
        accuracy = 1.0

        def evaluate(self, source: Any, cells: Any, seed: int) -> Losses:
            return Losses(torch.full((len(cells),), self.accuracy).double())

    for accuracy in (0.0, 1.0):
        learner = Always(constant)
        learner.accuracy = accuracy
        for budget in (1600, 160_000):
            found = run(learner, budget)
            assert found.predicted_loss == pytest.approx(1 - accuracy, abs=2e-3)
            assert any("nothing separates them" in text for text in found.warnings)
            low, high = found.diagnostics["band"]
            assert low <= found.diagnostics["n"] <= high


def test_one_seed_has_no_band_and_says_so() -> None:
    found = run(Known(constant), 1600, pilot={"seeds": 1, "first_seeds": 1})
    assert any("one seed" in text for text in found.warnings)
    assert not any("one seed" in text for text in run(Known(constant), 1600).warnings)


def test_a_function_has_no_threshold_and_says_so() -> None:
    found = run_pilot(MetaConfig(pilot={"labels": 400}), lambda m, s, q: constant(s + q, m), 16_000)
    assert any("no training loss is reported" in text for text in found.warnings)


def test_limits_that_leave_no_plan_are_named() -> None:
    for config, said in (
        ({"task_types": [{"max_tasks": 1}]}, "there may be 1 tasks, and min_tasks is 2"),
        ({"task_types": [{"task_cost": 900}]}, "does not pay for 2 tasks of 2 labels"),
    ):
        found = run(Known(constant), 1600, **config)
        assert (found.status, found.plan, found.leftover) == ("infeasible", (), 1600)
        assert said in found.reason


def test_more_tasks_owned_than_may_be_is_infeasible() -> None:
    config = MetaConfig(task_types=[{"owned": [{"tasks": 10, "support": 4, "query": 4}]}], pilot={"labels": 400})
    found = run_pilot(config, Trainee(Known(constant), Nothing()), 1600, constraints={"max_tasks": 5})
    assert found.status == "infeasible"
    assert "there may be 5 tasks, and 10 are owned" in found.reason


def test_a_budget_below_the_best_size_buys_a_smaller_task_where_one_is_missing() -> None:
    kind = {"owned": [{"tasks": 1, "support": 50, "query": 50}]}
    found = run(Known(constant), 6, task_types=[kind])
    assert sum(row.tasks for row in found.plan) == 2
    assert spent(found) + found.leftover == 106
    assert any("does not pay for enough" in text for text in found.warnings)
    assert not any("is kept" in text for text in found.warnings)
    found = run(Known(constant), 1, task_types=[kind])
    assert (found.status, found.leftover) == ("infeasible", 1)


def test_owned_tasks_that_are_too_large_are_no_reason_for_a_rosy_loss() -> None:
    kind = {"owned": [{"tasks": 10, "support": 100, "query": 100}]}
    found = run(Known(constant, noise=0.02), 400, task_types=[kind])
    assert any("10 owned tasks have more" in text for text in found.warnings)


def test_the_loss_is_that_of_the_size_that_is_kept() -> None:
    kind = {"owned": [{"tasks": 10, "support": 16, "query": 16}]}
    found = run(Known(constant, noise=1.0), 1280, task_types=[kind], pilot={"seeds": 3})
    free = run(Known(constant, noise=1.0), 1600, pilot={"seeds": 3})
    if any("is kept" in text for text in found.warnings):
        assert found.predicted_loss > free.predicted_loss


def test_ax_is_asked_for_before_anything_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ax.api.client", None)
    learner = Known(constant)
    with pytest.raises(ConfigError, match=r"search: ax} needs a library that can't be imported"):
        run(learner, 1600, pilot={"search": "ax"})
    assert learner.asked == 0


def test_fewer_seeds_than_the_first_are_refused_only_where_both_are_given() -> None:
    few = PilotConfig(seeds=2)
    assert (few.seeds, few.first_seeds) == (2, 2)
    assert PilotConfig.model_validate(few.model_dump()) == few
    assert (PilotConfig(seeds=3).first_seeds, PilotConfig().first_seeds) == (3, 3)
    with pytest.raises(ValidationError, match="first_seeds is 3; expected at most seeds, 2"):
        PilotConfig(seeds=2, first_seeds=3)
