"""End of interpolation: the budget from which the training loss of a learner is clearly above 0.

Below it the best labels a task depend on the budget in another way than above it, so a pilot there says nothing of a
larger budget (Cioba et al., "How to distribute data across tasks for meta-learning?", AAAI 2022, arXiv 2103.08463).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from scipy import stats

from scorefold_allocation.search.grid import Limits
from scorefold_allocation.search.scale import as_losses
from scorefold_allocation.search.trials import Trial, Trials


@dataclass(frozen=True)
class Threshold:
    """The scan's outcome: ``labels`` is the first scanned budget above the threshold, ``below`` the last one below it.

    Either is None where no budget was so; both are where training losses are not reported.
    """

    labels: int | None = None
    below: int | None = None

    @property
    def seen(self) -> bool:
        """True if the scan crossed it."""
        return self.labels is not None and self.below is not None

    def summary(self) -> dict[str, Any]:
        """The threshold as JSON."""
        return asdict(self)


def scan(trials: Trials, limits: Limits, largest: float, *, seeds: range, share: float) -> Threshold:
    """Budgets doubled up to ``largest`` until training losses are clearly above 0 at two middle sizes.

    Clearly: above ``share`` of the test loss (of 1 for an accuracy, whose training loss is not one), one-sided at 5 %
    over the seeds. Sizes that can't be trained show nothing, nor do budgets that pay for no plan.
    """
    below, budget = None, max(1, 4 * math.ceil(limits.cost(limits.smallest)))
    while budget <= largest:
        sizes = limits.sizes(budget, 4)
        cells = [limits.cell(size, budget) for size in sizes[1:3] or sizes]
        trained = [trial for trial in trials.run(cells, seeds) if any(map(math.isfinite, trial.test))]
        if any(trial.train is None for trial in trained):
            return Threshold()
        if trained and all(_is_above(trial, trials, share) for trial in trained):
            return Threshold(budget, below)
        below, budget = budget if trained else below, 2 * budget
    return Threshold(None, below)


def _is_above(trial: Trial, trials: Trials, share: float) -> bool:
    train = torch.tensor(trial.train, dtype=torch.float64)
    if trials.measure == "loss":
        train = train / as_losses(torch.tensor(trial.test, dtype=torch.float64), trials.measure)
    train = train[train.isfinite()]
    if not len(train):
        return False
    if len(train) == 1:
        return float(train) > share
    error = float(train.std()) / math.sqrt(len(train))
    return float(train.mean()) - float(stats.t.ppf(0.95, len(train) - 1)) * error > share
