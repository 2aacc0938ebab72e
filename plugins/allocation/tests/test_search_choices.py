"""Choices of the search by hand: drawn problems, what is topped up first, the pilot's labels, its own budget."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scorefold.results import PlanRow
from scorefold.seeds import derive_generator
from scorefold_allocation.claims import calibration
from scorefold_allocation.config import OwnedConfig, PilotConfig
from scorefold_allocation.search.fits import LocalFit, local_fit
from scorefold_allocation.search.grid import Limits, Threshold
from scorefold_allocation.search.procedure import best_at, pilot_labels
from scorefold_allocation.search.report import incremental_plan
from scorefold_allocation.search.valley import Valley


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_problem_is_drawn_from_the_ranges_that_it_names(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """6 to 24 weights, a rate of -0.3 to 0.6, variances of 1/4 to 4, budgets of 30 to 300 times 2 p by ratio."""
    asked: dict[str, Any] = {}

    def risk(linear, plans, config, generator, tolerance):
        asked.update(plans=plans)
        return plans.support[:, 0], None

    monkeypatch.setattr(calibration, "simulated_risk", risk)
    problem = calibration.draw_problem(seed)
    u = torch.rand(6, generator=derive_generator(seed, "problem"), dtype=torch.float64).tolist()
    linear, weights = problem.linear, 6 + int(19 * u[0])
    assert linear.dimension == weights
    assert linear.rate == pytest.approx(-0.3 + 0.9 * u[4])
    found = [float(linear.spread2), float(linear.noise2), linear.start2]
    assert found == pytest.approx([0.25 * 16**share for share in u[1:4]])
    assert problem.budget == round(2 * weights * 30 * 10 ** u[5])
    plans = asked["plans"]
    assert torch.equal(plans.support, plans.query)
    assert torch.equal(plans.support[:, 0] * 2, problem.sizes)
    assert plans.tasks[:, 0].tolist() == [problem.budget // size for size in problem.sizes.tolist()]
    assert problem.sizes[0] == 2
    assert problem.sizes[-1] <= 5 * weights


def test_tasks_that_lack_least_are_topped_up_first() -> None:
    """Up to 4 and 4 rows, 2 and 4 lack two labels, and 3 and 1 lack four: of four labels, two are left."""
    owned = (OwnedConfig(tasks=1, support=3, query=1), OwnedConfig(tasks=1, support=2, query=4))
    rows, left, _ = incremental_plan("task", Limits(2, None, 2), 8, 4, owned)
    assert rows == (PlanRow("task", 1, 3, 1), PlanRow("task", 1, 4, 4))
    assert left == 2


def test_a_window_of_a_fit_holds_its_ends_up_to_rounding() -> None:
    x = torch.arange(5, dtype=torch.float64)
    fit = local_fit(x, (x[None] - 2) ** 2, torch.ones(5).double())
    ends = torch.tensor([-5e-10, 4 + 5e-10], dtype=torch.float64)
    assert fit.at(ends)[0].tolist() == pytest.approx([4, 4])
    assert fit.at(torch.tensor([-2e-9, 4 + 2e-9], dtype=torch.float64)).isinf().all()


def test_a_pilot_tries_eight_thresholds_and_a_quarter_where_the_first_budget_is_above() -> None:
    settings = PilotConfig()
    assert pilot_labels(settings, 1000, Threshold(10, 5)) == 80
    assert pilot_labels(settings, 1000, Threshold(10)) == 250
    assert pilot_labels(settings, 200, Threshold(10)) == 80
    assert pilot_labels(settings, 50, Threshold(10)) == 50
    assert pilot_labels(settings, 1000, Threshold()) == 1000
    assert pilot_labels(PilotConfig(labels=400), 300, Threshold(10)) == 300


def test_at_the_pilots_own_budget_the_best_is_the_one_found_there() -> None:
    sizes = torch.tensor([4.0, 16, 64], dtype=torch.float64)
    losses = torch.tensor([[4.0, 1, 9]], dtype=torch.float64).expand(3, 3)
    ones = torch.ones(3, dtype=torch.float64)
    fit = LocalFit(sizes[1].log() * ones, 0 * ones, torch.zeros(3, 3).double(), ones, ones, ones)
    centre = local_fit(sizes.log(), losses[:1].log(), ones)
    found = Valley(100.0, "loss", sizes, losses, losses, fit, centre, (4, 64), (), chance=0.0)
    best = best_at([found], Limits(2, None, 2), 100.0, 0.02)
    assert best.loss_at(8).tolist() == pytest.approx([2.0] * 3)
    assert best.band.median == pytest.approx(16)
