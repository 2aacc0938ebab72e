"""The problem of an allocator. No torch here: run files are checked before it is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from scorefold.config import Config


class OwnedConfig(Config):
    """Labels that are there already: so many tasks of a size."""

    tasks: int = Field(ge=1, description="Tasks of this size that are there already")
    support: int = Field(ge=1, description="Support labels of each")
    query: int = Field(ge=1, description="Query labels of each")


class TaskTypeConfig(Config):
    """Tasks of one type: how hard they are, what they cost, and how many there may be.

    Task i has the weights w_i = w0 + (spread / sqrt p) xi_i and the labels y = x . w_i + noise z, with xi and z
    standard normal; all types share w0. Spread and noise are asked for by the engines formula and monte-carlo alone.
    """

    name: str = Field("task", min_length=1, description="What the plan calls it")
    spread: float = Field(
        1.0, ge=0, le=1e6, description="nu, the root mean square distance of a task's weights from w0"
    )
    noise: float = Field(1.0, ge=0, le=1e6, description="sigma, the standard deviation of the label noise")
    task_cost: float = Field(0.0, ge=0, description="What a new task costs, in units of the budget")
    label_cost: float = Field(1.0, ge=0, description="What a new label costs, in units of the budget")
    max_tasks: int | None = Field(None, ge=0, description="Tasks of it that there are, owned ones too; null: no end")
    min_labels: int = Field(2, ge=2, description="Fewest labels of a task, support and query of all classes together")
    max_labels: int | None = Field(None, ge=2, description="Largest number of labels per task; null: no limit")
    ways: int = Field(1, ge=1, description="Classes of a task: support and query labels are multiples of it")
    share: int = Field(1, ge=1, description="Its part in the number of tasks, where mix: fixed; 2 and 4 are as 1 and 2")
    test_share: float = Field(1.0, ge=0, description="Its part in the tasks that are met after training")
    owned: tuple[OwnedConfig, ...] = Field((), description="Labels that are there already: free, and part of the plan")

    @model_validator(mode="after")
    def _is_bounded(self) -> TaskTypeConfig:
        if self.max_labels is not None and self.max_labels < self.min_labels:
            raise ValueError(f"max_labels is {self.max_labels}; expected at least min_labels, {self.min_labels}")
        if self.label_cost == 0 and self.max_labels is None:
            raise ValueError("label_cost is 0, so a task could have labels without end; set max_labels")
        if self.label_cost == 0 and self.task_cost == 0 and self.max_tasks is None:
            raise ValueError("tasks and labels cost 0, so there could be tasks without end; set max_tasks")
        had = sum(row.tasks for row in self.owned)
        if self.max_tasks is not None and self.max_tasks < had:
            raise ValueError(f"max_tasks is {self.max_tasks}; expected at least the {had} tasks that are owned")
        for row in self.owned:
            if row.support % self.ways or row.query % self.ways:
                raise ValueError(
                    f"owned tasks have {row.support} support and {row.query} query labels; expected multiples of "
                    f"ways, {self.ways}"
                )
        return self


class DeploymentConfig(Config):
    """Adaptation to a new task after training."""

    labels: int | Literal["tied"] = Field(
        20,
        description="Labels to adapt with, 1 or more; tied: as many as a training task has support labels. The best "
        "labels per task tend to a constant for a fixed number, and grow like the root of the budget for a tied one",
    )
    rate: float | Literal["training"] | None = Field(
        None, description="Learning rate of the adaptation; training: as in training; null: the best for the plan"
    )
    steps: int = Field(1, ge=1, description="Gradient steps of the adaptation; formula and monte-carlo know 1 and 2")

    @model_validator(mode="after")
    def _adapts(self) -> DeploymentConfig:
        if isinstance(self.labels, int) and self.labels < 1:
            raise ValueError(f"labels is {self.labels}; expected 1 or more, or tied")
        return self


class LinearConfig(Config):
    """One-step MAML on mixed linear regression: the model that formula and monte-carlo solve."""

    dimension: int = Field(20, ge=1, description="p, the number of weights")
    rate: float = Field(
        0.4, ge=-1e3, le=1e3, description="alpha, the learning rate of the inner step on the mean support loss"
    )
    start_distance: float = Field(1.0, ge=0, le=1e6, description="|w_init - w0|, how far from w0 training starts")


class SplitConfig(Config):
    """Division of a task's labels into support and query."""

    name: Literal["even", "fixed", "free"] = Field(
        "even", description="Half and half; a given share of support; or whatever is best"
    )
    support_share: float = Field(0.5, gt=0, lt=1, description="The share of support labels, where name: fixed")

    @property
    def share(self) -> float:
        """The share of support labels of an even or a fixed split."""
        return self.support_share if self.name == "fixed" else 0.5


class MonteCarloConfig(Config):
    """Precision of simulated plans."""

    tolerance: float = Field(
        0.02, gt=0, lt=1, description="Standard error to reach for the best plans, relative to the excess loss"
    )
    max_designs: int = Field(4000, ge=2, description="Most designs to simulate for a plan")
    sizes: int = Field(16, ge=2, description="Sizes of a task that are tried first, spread evenly on a log scale")


class PilotConfig(Config):
    """Trials of a black box.

    A trial trains on m tasks of n labels; a budget's grid tries every n with as many tasks as the budget pays.
    """

    labels: int | None = Field(
        None,
        ge=1,
        description="Largest budget of a trial, at most the budget. null is 8 thresholds if the scan crosses the "
        "threshold. It is a quarter of the budget if all of the scan is above, and the budget if no training loss is "
        "reported",
    )
    budgets: int = Field(2, ge=1, le=6, description="Budgets with a grid of their own, each half of the one before")
    sizes: int = Field(12, ge=3, description="Labels per task to try, spread evenly on a log scale")
    seeds: int = Field(10, ge=1, description="Seeds of a trial")
    first_seeds: int = Field(3, ge=1, description="Seeds after which sizes that are clearly worse are left out")
    draws: int = Field(1000, ge=20, description="Resamples of the seeds that bands are read off")
    thresholds: float = Field(
        4.0, ge=1, description="A trial's budget in thresholds below which nothing is said of a larger budget"
    )
    interpolated: float = Field(
        0.01, gt=0, lt=1, description="Training loss, in units of the test loss, up to which a learner interpolates"
    )
    search: Literal["grid", "random", "ax"] = Field(
        "grid", description="How the sizes to try are chosen: evenly, at random, or by Bayesian optimisation (Ax)"
    )

    @model_validator(mode="before")
    @classmethod
    def _first_of_few(cls, given: Any) -> Any:
        """Fewer seeds than the default of ``first_seeds`` are all of them."""
        few = isinstance(given, Mapping) and "first_seeds" not in given and given.get("seeds") in (1, 2)
        return {**given, "first_seeds": given["seeds"]} if few else given

    @model_validator(mode="after")
    def _is_ordered(self) -> PilotConfig:
        if self.first_seeds > self.seeds:
            raise ValueError(f"first_seeds is {self.first_seeds}; expected at most seeds, {self.seeds}")
        return self


class MetaConfig(Config):
    """Labels per task and number of tasks for meta-learning."""

    engine: Literal["formula", "monte-carlo", "pilot"] = Field(
        "formula",
        description="Closed forms of the linear model, its simulation, or a learner that is tried. A learner with "
        "tasks, and a pilot given from Python, are always tried",
    )
    task_types: tuple[TaskTypeConfig, ...] = Field(
        (TaskTypeConfig(),), min_length=1, max_length=4, description="The types of task that share the budget"
    )
    mix: Literal["free", "fixed"] = Field(
        "free", description="Tasks of each type in any number, or in proportion to their share"
    )
    weighting: Literal["pooled", "task-mean", "best"] = Field(
        "pooled",
        description="How query points weigh in the outer loss: all alike, every task alike, or by their precision",
    )
    split: SplitConfig = Field(SplitConfig(), description="How the labels of a task divide")
    min_tasks: int = Field(
        2, ge=1, description="Fewest tasks over all types; a single one can have an infinite expected loss"
    )
    leftovers: Literal["spread", "keep"] = Field(
        "spread",
        description="Labels that make no further task. spread gives tasks one more support and query label of each "
        "class where that helps (one label for an uneven split). keep leaves them over",
    )
    hold_back: bool = Field(
        False,
        description="Leave part of the budget unspent where all of it is predicted to do harm, as it can around the "
        "interpolation threshold; otherwise a warning says so",
    )
    deployment: DeploymentConfig = Field(DeploymentConfig(), description="How the tasks after training are adapted to")
    linear: LinearConfig = Field(LinearConfig(), description="The model of formula and monte-carlo")
    monte_carlo: MonteCarloConfig = Field(MonteCarloConfig(), description="How exactly plans are simulated")
    pilot: PilotConfig = Field(
        PilotConfig(),
        description="How a learner is tried. In Python, the object's own method takes a function or tasks of yours: "
        "Host.discover().create('allocator:meta').allocate(budget, pilot=...)",
    )
    present: int | None = Field(
        None, ge=2, description="Labels per task taken at present, whose regret is reported; null: none"
    )
    near: float = Field(0.02, gt=0, lt=1, description="Plans within this share of the least loss are near-optimal")
    near_budget: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Formula and monte-carlo: near-optimal plans are also as good as the best one with this share less "
        "of the budget. With many labels nearly all of the loss is there whatever the plan, and any plan is within a "
        "share of it",
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> MetaConfig:
        names = [kind.name for kind in self.task_types]
        if len(set(names)) != len(names):
            raise ValueError("task_types names a type twice")
        if all(kind.test_share == 0 for kind in self.task_types):
            raise ValueError("every test_share is 0, so no task is met after training; expected one above 0")
        return self
