"""The calibration study on a few problems, and the simulated learner that it stands on."""

import torch

from scorefold_allocation.claims.calibration import (
    CurveProblem,
    NoTasks,
    SearchOutcome,
    SimulatedLearner,
    draw_problem,
    judge_search,
    search_summary,
)
from scorefold_allocation.config import MonteCarloConfig, PilotConfig
from scorefold_allocation.learners.interface import AllocationCell
from scorefold_allocation.theory.engines import simulated_risk
from scorefold_allocation.theory.linear_model import LinearProblem, Plans


def linear(rate: float = 0.4) -> LinearProblem:
    return LinearProblem(6, rate, 1.5, torch.tensor([0.8]).double(), torch.tensor([0.5]).double())


def test_simulated_losses_have_the_expectation_of_the_design_average() -> None:
    for cell in (AllocationCell(12, 3, 3), AllocationCell(40, 1, 1), AllocationCell(2, 1, 1)):
        found = SimulatedLearner(linear()).evaluate_seeds(NoTasks(), [cell], range(3000))
        values = torch.stack([losses.test[0] for losses in found])
        plans = Plans(torch.tensor([0]), *(torch.tensor([[float(count)]]).double() for count in cell))
        expected, error = simulated_risk(linear(), plans, MonteCarloConfig(), torch.Generator().manual_seed(0), 0.005)
        assert abs(float(values.mean() - expected)) < 5 * (float(values.var()) / 3000 + float(error) ** 2) ** 0.5


def test_smaller_cells_are_parts_of_larger_ones() -> None:
    """Without noise and spread every cell of more rows than weights ends at w0, and others at its projection."""
    learner = SimulatedLearner(LinearProblem(6, 0.3, 2.0, torch.zeros(1).double(), torch.zeros(1).double()))
    few, more, enough = learner.evaluate(
        NoTasks(), [AllocationCell(2, 1, 1), AllocationCell(4, 1, 1), AllocationCell(6, 2, 2)], 7
    ).test.tolist()
    assert enough < 1e-20 < more < few < 2
    alone = learner.evaluate(NoTasks(), [AllocationCell(4, 1, 1)], 7).test
    assert float(alone) == more


def test_the_training_loss_leaves_zero_where_there_are_more_rows_than_weights() -> None:
    train = SimulatedLearner(linear()).evaluate(NoTasks(), [AllocationCell(3, 2, 2), AllocationCell(9, 2, 2)], 3).train
    assert train is not None
    assert float(train[0]) < 1e-20
    assert float(train[1]) > 0.01


def test_a_problem_knows_its_regrets() -> None:
    sizes = torch.tensor([2.0, 4, 8, 16]).double()
    problem = CurveProblem(linear(), 1000, sizes, torch.tensor([1.5, 1.0, 1.01, 2.0]).double())
    assert problem.regret(4) == 0
    assert abs(problem.regret(8) - 0.01) < 1e-6
    assert 0 < problem.regret(6) < 0.01
    assert problem.hit(7.9, 8.5)
    assert problem.hit(3, 5)
    assert not problem.hit(9, 30)


def test_refusals_are_counted_apart() -> None:
    figures = search_summary(
        [SearchOutcome(0.01, True, 2.0, 10), SearchOutcome(0.2, False, 8.0, 20), SearchOutcome(reason="below")]
    )
    assert (figures["problems"], figures["refused"], figures["coverage"]) == (3, 1, 0.5)
    assert figures["procedure: regret up to 5 %"] == 0.5


def test_a_band_holds_an_easy_optimum_and_costs_what_others_get() -> None:
    problem = draw_problem(3)
    outcome = judge_search(problem, PilotConfig(seeds=6, sizes=8, draws=200), 0)
    assert outcome.reason == ""
    assert outcome.hit
    assert outcome.regret < 0.25
    assert set(outcome.others) == {"uniform", "random"}
    refused = judge_search(problem, PilotConfig(labels=4 * problem.linear.dimension, seeds=3), 0)
    assert "threshold" in refused.reason
