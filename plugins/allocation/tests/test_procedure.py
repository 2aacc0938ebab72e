"""The procedure on losses with a known optimum: found, reported with its band, refused below the threshold, resumed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from known_pilots import Accurate, Balanced, Failing, Known, Nothing, constant, root, swaying

from scorefold.errors import ConfigError
from scorefold.results import Allocation
from scorefold.stage import Executor, pack, perform, unpack
from scorefold_allocation.config import MetaConfig
from scorefold_allocation.learners.interface import Learner
from scorefold_allocation.search.procedure import run_pilot
from scorefold_allocation.search.trials import LOG, Trainee


def run(
    learner: Learner,
    budget: int,
    pilot: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    **more: Any,
) -> Allocation:
    """The plan for a budget by trials of up to 1600 labels, unless ``pilot`` says otherwise."""
    settings = MetaConfig(pilot={"labels": 1600, **(pilot or {})}, **(config or {}))
    return run_pilot(settings, Trainee(learner, Nothing()), budget, **more)


def size(found: Allocation) -> int:
    return found.plan[0].support + found.plan[0].query


@pytest.mark.parametrize(("formula", "best"), [(constant, 20), (root, 80)])
def test_a_noisy_learner_is_planned_for_near_its_optimum(formula: Any, best: int) -> None:
    found = run(Known(formula), 1600)
    least = formula(best, 1600 / best)
    assert found.status == "feasible"
    assert formula(size(found), 1600 / size(found)) < 1.03 * least
    low, high = found.diagnostics["band"]
    assert low < high < 3 * low
    # Whole numbers of tasks take the optimum to 2% below, with a deviation of as much; its loss, 2%, by 3%.
    assert best / 1.2 < high
    assert low < best * 1.2
    assert found.interval is not None
    low, high = found.interval
    assert low < found.predicted_loss < high
    assert low < 1.2 * least
    assert least / 1.2 < high
    assert found.diagnostics["near_optimal"][0] <= best <= found.diagnostics["near_optimal"][1]
    assert sum(row.tasks * (row.support + row.query) for row in found.plan) + found.leftover == 1600


def test_an_optimum_that_stays_is_taken_to_a_larger_budget() -> None:
    found = run(Balanced(swaying, threshold=100), 160_000)
    gamma = found.diagnostics["gamma"]
    assert gamma["low"] < 0 < gamma["high"]
    assert constant(size(found), 1) * size(found) < 1.05 * 40
    assert (found.diagnostics["threshold"], found.diagnostics["regime"]) == (128, "under")


def test_growth_that_is_seen_is_extrapolated_with_a_warning() -> None:
    found = run(Known(root, noise=0.02, threshold=100), 160_000, pilot={"budgets": 3})
    assert found.diagnostics["gamma"]["low"] > 0.2
    assert root(size(found), 160_000 / size(found)) < 1.1 * 4 / math.sqrt(160_000)
    assert any("extrapolated" in warning for warning in found.warnings)


def test_growth_that_can_not_be_excluded_is_reported() -> None:
    found = run(Balanced(swaying, threshold=100), 1_000_000)
    assert found.diagnostics["gamma"]["low"] < 0 < found.diagnostics["gamma"]["high"]
    assert any("can't be excluded" in warning for warning in found.warnings)


@pytest.mark.parametrize(("threshold", "said"), [(800, "too near the threshold"), (10_000, "below the threshold")])
def test_a_pilot_below_the_threshold_is_refused(threshold: float, said: str) -> None:
    found = run(Known(constant, threshold=threshold), 160_000)
    assert (found.status, found.plan, found.leftover) == ("refused", (), 160_000)
    assert said in found.reason
    assert "pilot.labels" in found.reason
    json.dumps(found.summary(), allow_nan=False)


def test_without_a_size_the_pilot_is_as_large_as_the_threshold_asks() -> None:
    found = run(Known(constant, threshold=100), 100_000, pilot={"labels": None})
    assert found.diagnostics["pilot_labels"] == 8 * 128
    found = run(Known(constant, threshold=1e9), 2000, pilot={"labels": None})
    assert (found.status, found.diagnostics["regime"]) == ("feasible", "over")
    assert any("interpolates" in warning for warning in found.warnings)


@pytest.mark.parametrize("raises", [False, True])
def test_cells_that_fail_are_left_out_and_reported(raises: bool) -> None:
    found = run(Failing(constant, 100, raises), 1600)
    assert constant(size(found), 1600 // size(found)) < 1.1 * 40 / 1600
    assert any("not finite" in warning for warning in found.warnings)
    assert max(found.curve["labels_per_task"]) <= 100


def test_nothing_that_can_be_trained_is_a_refusal() -> None:
    found = run(Failing(constant, 1), 1600)
    assert found.status == "refused"
    assert "no size of a task gave a finite loss" in found.reason
    for value in (0.0, -1.0):
        found = run_pilot(MetaConfig(), lambda tasks, support, query, value=value: value, 1600)
        assert found.status == "refused"
        assert "expected losses above 0" in found.reason
    found = run_pilot(MetaConfig(), lambda tasks, support, query: math.inf, 1600)
    assert found.status == "refused"


def test_an_accuracy_is_planned_by_its_error() -> None:
    found = run(Accurate(constant), 1600)
    assert constant(size(found), 1600 // size(found)) < 1.05 * 40 / 1600
    assert found.predicted_loss == pytest.approx(0.025 / 1.025, rel=0.2)
    assert found.diagnostics["measure"] == "accuracy"
    assert any("no training loss" in warning for warning in run(Accurate(constant), 16_000).warnings)


@pytest.mark.parametrize(("formula", "least"), [(root, 4 / math.sqrt(6400)), (constant, 40 / 6400)])
def test_a_pilot_without_noise_takes_few_calls(formula: Any, least: float) -> None:
    calls = []

    def pilot(tasks: int, support: int, query: int) -> float:
        calls.append(tasks * (support + query))
        return formula(support + query, tasks)

    found = run_pilot(MetaConfig(), pilot, 6400)
    assert sum(
        row.tasks * formula(row.support + row.query, sum(r.tasks for r in found.plan)) for row in found.plan
    ) / sum(row.tasks for row in found.plan) == pytest.approx(least, rel=0.01)
    assert len(calls) < 30
    assert max(calls) <= 6400


@pytest.mark.parametrize("budget", [0, 3])
def test_a_budget_of_no_plan_is_infeasible(budget: int) -> None:
    found = run(Known(constant), budget)
    assert (found.status, found.leftover) == ("infeasible", budget)
    assert "2 tasks of 2 labels" in found.reason


@pytest.mark.parametrize("budget", [4, 5, 8, 13])
def test_the_smallest_budgets_have_a_plan(budget: int) -> None:
    found = run(Known(constant), budget)
    assert sum(row.tasks * (row.support + row.query) for row in found.plan) + found.leftover == budget


def test_the_present_choice_has_a_regret() -> None:
    regret = run(Known(constant, noise=0.01), 1600, config={"present": 80}).diagnostics["regret"]
    assert regret["median"] == pytest.approx(constant(80, 20) / constant(20, 80) - 1, rel=0.1)
    assert regret["low"] < regret["median"] < regret["high"]


def test_owned_labels_keep_their_size_while_the_band_holds_it() -> None:
    kind = {"name": "t", "owned": [{"tasks": 10, "support": 8, "query": 8}]}
    found = run(Balanced(swaying), 1440, config={"task_types": [kind], "leftovers": "keep"})
    assert [(row.tasks, row.support, row.query) for row in found.plan] == [(100, 8, 8)]
    assert any("kept" in warning for warning in found.warnings)
    kind["owned"] = [{"tasks": 10, "support": 100, "query": 100}]
    found = run(Known(constant, noise=0.02), 1380, config={"task_types": [kind]})
    assert all(row.support < 20 or (row.tasks, row.support) == (10, 100) for row in found.plan)


def test_what_was_interrupted_goes_on_to_the_same_answer(tmp_path: Path) -> None:
    whole = run(Known(constant, threshold=100), 160_000)
    for stop in (0, 7, 90):
        folder = tmp_path / str(stop)
        folder.mkdir()
        with pytest.raises(KeyboardInterrupt):
            run(Known(constant, threshold=100, stops_after=stop), 160_000, folder=folder)
        if (folder / LOG).exists():
            with (folder / LOG).open("a") as log:
                log.write('{"cell": [3, 1')  # what a kill in the middle of a line leaves
        again = Known(constant, threshold=100)
        assert run(again, 160_000, folder=folder).summary() == whole.summary()
        done = Known(constant, threshold=100)
        assert run(done, 160_000, folder=folder).summary() == whole.summary()
        assert done.asked == 0


class Recorder(Executor):
    """Does jobs in this process, through pickle as workers do, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def map(self, target: str, items: Iterable[Any], key: str) -> list[Any]:
        jobs = list(items)
        self.asked.append((target, len(jobs)))
        return [unpack(perform(target, pack(job, key), None)) for job in jobs]


def test_an_executor_gets_the_cells_as_jobs_and_gives_the_same_answer(tmp_path: Path) -> None:
    executor = Recorder()
    found = run(Known(constant), 1600, executor=executor, folder=tmp_path)
    assert found.summary() == run(Known(constant), 1600).summary()
    assert {target for target, _ in executor.asked} == {"scorefold_allocation.search.trials:run_trial"}
    assert max(count for _, count in executor.asked) >= 11
    lines = (tmp_path / LOG).read_text().splitlines()
    assert len(lines) == sum(count for _, count in executor.asked)
    assert all(json.loads(line)["test"] for line in lines)


def test_seeds_come_from_the_generator() -> None:
    one, other, again = (
        run(Known(constant), 1600, generator=torch.Generator().manual_seed(seed)).summary() for seed in (1, 2, 1)
    )
    assert one == again
    assert one != other


def test_a_search_that_is_not_installed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ax.api.client", None)
    with pytest.raises(ConfigError, match=r"search: ax} needs a library that can't be imported"):
        run(Known(constant), 1600, pilot={"search": "ax"})


def test_a_random_search_finds_the_valley_too() -> None:
    found = run(Known(constant), 1600, pilot={"search": "random"})
    assert constant(size(found), 1) * size(found) < 1.1 * 40


@pytest.mark.needs("ax")
# As Ax is imported, it and torch deprecate functions that Ax itself uses.
@pytest.mark.filterwarnings(r"ignore::DeprecationWarning:(ax|torch)\.")
def test_ax_finds_the_valley_too() -> None:
    found = run(Known(constant), 1600, pilot={"search": "ax"})
    assert constant(size(found), 1) * size(found) < 1.1 * 40


def above_threshold(n: int, m: int) -> float:
    """Falls faster than 1 / b at first."""
    return constant(n, m) + 16_000 / (n * m) ** 2


def with_floor(n: int, m: int) -> float:
    return 0.05 + constant(n, m)


@pytest.mark.parametrize("formula", [constant, above_threshold, with_floor])
def test_intervals_of_losses_at_larger_budgets_hold_the_truth(formula: Any) -> None:
    """Half of the seeds lose a tenth more and half a tenth less, and their optima grow or fall with the budget."""

    def loss(n: int, m: int, sign: int) -> float:
        return formula(n, m) * math.exp(0.1 * sign * (1 + math.log(n / 20) * math.log(n * m / 800)))

    found = run(Balanced(loss), 32_000, pilot={"seeds": 6})
    assert found.interval is not None
    low, high = found.interval
    assert low <= found.predicted_loss <= high < 3 * formula(20, 1600)  # type: ignore[operator]
    assert low <= formula(size(found), 32_000 // size(found)) <= high
