"""The best labels a task of a black box, found by trying: scan, grid, fit, band, growth, plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from scorefold.results import Allocation
from scorefold.stage import Executor
from scorefold_allocation.config import MetaConfig, PilotConfig
from scorefold_allocation.learners.interface import AllocationCell
from scorefold_allocation.search.fits import Formula, Surface, exponents, fit_surface, likely_formulas
from scorefold_allocation.search.grid import Limits, Threshold, require_search, scan, sizes_to_try
from scorefold_allocation.search.report import BestSize, budget_with_owned, paid_for, pilot_report
from scorefold_allocation.search.trials import LOG, Trainee, Trials, Tried
from scorefold_allocation.search.valley import CHANCE, Band, PilotRefusal, Valley, stretch, valley

_SCAN_SEEDS = 5
_PILOT_THRESHOLDS = 8
_GROWTH_THRESHOLDS = 2
_CAPPED = 0.25
_SURFACES = 200
_NO_GROWTH = 0.01
_CANDIDATES = 80


def run_pilot(
    config: MetaConfig,
    pilot: Tried,
    budget: int,
    *,
    constraints: Mapping[str, int] | None = None,
    generator: torch.Generator | None = None,
    folder: Path | None = None,
    executor: Executor | None = None,
) -> Allocation:
    """The plan for ``budget`` labels of tasks of one size, by trying a learner or a ``Pilot``.

    ``constraints`` bound min_labels, max_labels, min_tasks and max_tasks further. Trials are kept in ``folder`` and are
    not repeated. A learner's trials are jobs for the ``executor``. Without a generator the seeds come from seed 0. The
    allocation is ``infeasible`` where no plan fits. It is ``refused``, with the reason, where the trials support no
    plan; its ``curve`` then holds the trials.

    Raises ``ConfigError`` for several types of task or a free split, and for a search that is not installed.
    """
    limits, settings, kind = Limits.of(config, constraints), config.pilot, config.task_types[0]
    worth = budget_with_owned(budget, kind.owned, limits)
    require_search(settings)
    why = _why_none(limits, worth, sum(row.tasks for row in kind.owned))
    if why:
        return Allocation("infeasible", (), budget, reason=why)
    generator = generator or torch.Generator().manual_seed(0)
    root = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    trials = Trials(pilot, root, None if folder is None else folder / LOG, executor)
    threshold = Threshold()
    try:
        threshold = scan_threshold(trials, limits, worth, settings)
        labels = pilot_labels(settings, worth, threshold)
        require_above(threshold, labels, worth, settings)
        require_sizes(limits, labels, worth, settings)
        valleys = try_budgets(trials, limits, labels, labels < worth, threshold, settings)
        require_separated(valleys[0], settings)
        best = best_at(valleys, limits, worth, config.near)
    except PilotRefusal as refusal:
        diagnostics = {"engine": "pilot", "threshold": threshold.labels, "scan": threshold.summary()}
        diagnostics |= {"label_runs": trials.label_runs}
        return Allocation(
            "refused",
            (),
            budget,
            curve=trials.table(),
            reason=str(refusal),
            remarks=paid_for(trials),
            warnings=trials.failures,
            diagnostics=diagnostics,
        )
    return pilot_report(config, limits, trials, threshold, valleys, best, budget, worth)


def _why_none(limits: Limits, worth: float, owned: int) -> str:
    """Reason why no plan fits, or nothing if one does."""
    if limits.max_tasks is not None and limits.max_tasks < max(limits.min_tasks, owned):
        least = f"min_tasks is {limits.min_tasks}" if owned <= limits.max_tasks else f"{owned} are owned"
        return f"there may be {limits.max_tasks} tasks, and {least}"
    if limits.most(worth) < limits.smallest:
        return f"a budget of {worth:g} does not pay for {limits.min_tasks} tasks of {limits.smallest} labels"
    return ""


def scan_threshold(trials: Trials, limits: Limits, worth: float, settings: PilotConfig) -> Threshold:
    """Step 1: where the learner stops to interpolate, looked for up to the largest budget of a trial."""
    if not isinstance(trials.tried, Trainee):
        return Threshold()
    largest = worth if settings.labels is None else min(settings.labels, worth)
    seeds = range(min(_SCAN_SEEDS, settings.seeds))
    return scan(trials, limits, largest, seeds=seeds, share=settings.interpolated)


def pilot_labels(settings: PilotConfig, worth: float, threshold: Threshold) -> float:
    """The largest budget of a trial: what is asked for, or as much as the threshold asks for."""
    if settings.labels is not None:
        return min(settings.labels, worth)
    if threshold.labels is None:
        return worth
    asked = _PILOT_THRESHOLDS * threshold.labels
    return min(worth, asked if threshold.below is not None else max(asked, worth / 4))


def require_above(threshold: Threshold, labels: float, worth: float, settings: PilotConfig) -> None:
    """Refuse to say anything of a larger budget from trials that are not well above the threshold.

    Raises ``PilotRefusal``.
    """
    if labels >= worth:
        return
    if threshold.labels is None and threshold.below is not None:
        raise PilotRefusal(
            f"the pilot is below the threshold: with {labels:g} labels the learner still interpolates its training "
            f"tasks, and the best labels per task differ from the best for {worth:g} labels; set pilot.labels higher"
        )
    if threshold.labels is not None and labels < settings.thresholds * threshold.labels:
        raise PilotRefusal(
            f"the pilot is too near the threshold: it has {labels:g} labels, and the learner interpolates up to about "
            f"{threshold.labels}; set pilot.labels to at least {settings.thresholds * threshold.labels:g}"
        )


def require_sizes(limits: Limits, labels: float, worth: float, settings: PilotConfig) -> None:
    """Refuse a pilot that can try fewer than three sizes of the ones that the budget allows.

    Raises ``PilotRefusal``.
    """
    sizes = limits.sizes(labels, settings.sizes)
    if len(sizes) < min(3, len(limits.sizes(worth, settings.sizes))):
        raise PilotRefusal(
            f"the pilot's budget of {labels:g} pays for tasks of {', '.join(map(str, sizes)) or 'no'} labels alone, "
            f"{limits.min_tasks} of them; set pilot.labels higher"
        )


def require_separated(top: Valley, settings: PilotConfig) -> None:
    """Refuse to recommend a size where chance explains the differences between all that were tried.

    Raises ``PilotRefusal``.
    """
    if top.separates:
        return
    band = Band.of(top.fit.position.exp())
    more = f"set pilot.seeds above {settings.seeds}" + ("" if settings.labels is None else ", or pilot.labels higher")
    between = f"{band.low:.0f} to {band.high:.0f}"
    why = f"the best one may be anywhere from {between}"
    if top.chance > CHANCE:
        why = f"chance may explain their differences (the band of the best one is {between})"
    tried = f"{top.ends[0]} to {top.ends[1]} labels per task"
    raise PilotRefusal(f"the pilot does not separate the sizes tried, {tried}: {why}; {more}")


def try_budgets(
    trials: Trials, limits: Limits, labels: float, transfers: bool, threshold: Threshold, settings: PilotConfig
) -> list[Valley]:
    """Steps 2 to 4 at the pilot's budget and, where the answer is for a larger one, at its halves; largest first.

    Halves of less than two thresholds are left out, as growth across the threshold says nothing of that above it.

    A pilot that gives the same loss twice has no noise: one seed is enough then, and sizes are tried ever closer
    around the best one instead.
    """
    middle = limits.cell(_middle(limits.sizes(labels, settings.sizes)), labels)
    first = range(max(2, min(settings.first_seeds, settings.seeds)))
    seeds = 1 if settings.seeds == 1 or noise_free(trials, middle, first) else settings.seeds
    sizes = sizes_to_try(trials, limits, labels, settings, seeds)
    if seeds == 1:
        sizes = refined_sizes(trials, limits, labels, sizes)
    budgets = [labels / 2**i for i in range(settings.budgets if transfers else 1)]
    budgets = [b for b in budgets if b == labels or b >= _GROWTH_THRESHOLDS * (threshold.labels or 0)]
    grids = [(b, [size for size in sizes if size <= limits.most(b)]) for b in budgets]
    return [valley(trials, limits, b, grid, settings, seeds) for b, grid in grids if len(grid) >= 3 or b == labels]


def _middle(sizes: list[int]) -> int:
    return sizes[len(sizes) // 2]


def noise_free(trials: Trials, cell: AllocationCell, seeds: range) -> bool:
    """True if the seeds of a cell, and of all that was tried before, give the same loss to the last bit.

    Accuracies are never taken as free of noise: few new tasks make them equal by chance.
    """
    if trials.measure == "accuracy":
        return False

    def agree() -> bool:
        finite = [trial.test for trial in trials.done.values() if all(map(math.isfinite, trial.test))]
        return all(len(set(test)) == 1 for test in finite)

    return agree() and all(map(math.isfinite, trials.run([cell], seeds)[0].test)) and agree()


def refined_sizes(trials: Trials, limits: Limits, labels: float, sizes: list[int]) -> list[int]:
    """The sizes, with sizes between the neighbours of the best size added twice, for a pilot without noise."""
    for _ in range(2):
        losses = trials.losses([limits.cell(size, labels) for size in sizes], range(1))[0]
        if not bool(losses.isfinite().any()):
            return sizes
        best = int(losses.nan_to_num(torch.inf).argmin())
        low, high = sizes[max(0, best - 1)], sizes[min(best + 1, len(sizes) - 1)]
        sizes = sorted({*sizes, *limits.sizes(labels, 7, low, high)})
    return sizes


def best_at(valleys: list[Valley], limits: Limits, worth: float, near: float) -> BestSize:
    """Step 5: the optimum at the budget from the optima at the pilot's budgets.

    At the pilot's own budget it is the one found there. For a larger one it is the same unless n* ~ b^gamma clearly
    ``grows``; then it is where the surface through all that was tried is least at that budget. An optimum that a
    budget's own size holds down says nothing of growth.
    """
    top = valleys[0]
    band = Band.of(top.fit.position.exp())
    if top.is_flat:
        band = Band(band.median, *map(float, top.ends))
    typical_size = band.median if len(top.losses) > 1 else _best_tried(top)
    if worth <= top.budget:
        return BestSize(typical_size, band, top.loss_at, top.near(near))
    free = [valley for valley in valleys if valley.capped_share(limits) <= _CAPPED]
    gamma, growth = None, torch.zeros(1, dtype=torch.float64)
    if len(free) > 1:
        positions = torch.stack([valley.fit.position for valley in free], 1)
        log_budgets = torch.tensor([valley.budget for valley in free], dtype=torch.float64).log()
        growth = exponents(positions, log_budgets)
        gamma = Band.of(growth)
    growing = grows(growth, len(top.losses))
    surfaces = _surfaces(valleys, limits, growing)

    def loss_at(size: float) -> Tensor:
        one = torch.tensor([size], dtype=torch.float64)
        return torch.cat([surface(one, _tasks(limits, one, worth)) for surface in surfaces])

    if not growing:
        return BestSize(typical_size, band, loss_at, top.near(near), gamma)
    sizes = torch.tensor(limits.sizes(worth, _CANDIDATES), dtype=torch.float64)
    losses = torch.stack([surface(sizes, _tasks(limits, sizes, worth)) for surface in surfaces])
    band = Band.of(sizes[losses.argmin(1)])
    typical = losses.median(0).values
    good = sizes[typical <= (1 + near) * typical.min()]
    return BestSize(band.median, band, loss_at, (float(good.min()), float(good.max())), gamma, grows=True)


def grows(exponents: Tensor, seeds: int) -> bool:
    """True if the draws (D,) of gamma lie all but 1 % on one side of 0.

    To extrapolate growth where there is none costs far more than to miss a slow one, so the band of 90 % is not enough.
    The draws are spread for a band of 90 % of so many seeds, and are spread further for one of 98 %.
    """
    middle = exponents.median()
    wider = 1.0 if seeds < 2 else stretch(seeds, 1 - _NO_GROWTH) / stretch(seeds)
    spread = middle + wider * (exponents - middle)
    return float(torch.minimum((spread <= 0).double().mean(), (spread >= 0).double().mean())) < _NO_GROWTH


def _best_tried(valley: Valley) -> float:
    return float(valley.sizes[valley.losses[0].argmin()])


def _tasks(limits: Limits, sizes: Tensor, budget: float) -> Tensor:
    return torch.tensor([limits.tasks(int(size), budget) for size in sizes.round()], dtype=torch.float64)


def _surfaces(valleys: list[Valley], limits: Limits, growing: bool) -> list[Surface]:
    """Surfaces through the mean losses of all valleys, for each of the first resamples: by every formula that is
    likely.

    An optimum that grows is one of the formula with a floor.
    """
    sizes = torch.cat([valley.sizes for valley in valleys])
    tasks = torch.cat([_tasks(limits, valley.sizes, valley.budget) for valley in valleys])
    weight = torch.cat([valley.weight for valley in valleys])
    means = torch.cat([valley.means for valley in valleys], 1)
    centre = torch.cat([valley.losses.mean(0) for valley in valleys])
    formulas: list[Formula] = ["floor"] if growing else likely_formulas(sizes, tasks, centre, weight)
    return [fit_surface(sizes, tasks, loss, weight, formula) for formula in formulas for loss in means[:_SURFACES]]
