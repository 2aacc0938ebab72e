"""Choice of the task sizes to try: evenly, at random, or one after another by Bayesian optimisation."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable

import torch

from scorefold.seeds import derive_generator, derive_seed
from scorefold_allocation.config.allocator import PilotConfig
from scorefold_allocation.search.grid import Limits
from scorefold_allocation.search.trials import Trials
from scorefold_toolkit.libraries import library


def require_search(config: PilotConfig) -> None:
    """Raise ``ConfigError`` for a search by Ax that is not installed: before anything is tried."""
    if config.search != "ax":
        return
    with library("pilot: {search: ax}", "scorefold-allocation[ax]"):
        import ax.api.client  # noqa: F401


def sizes_to_try(trials: Trials, limits: Limits, budget: float, config: PilotConfig, seeds: int) -> list[int]:
    """Sizes for a budget by ``config.search``, increasing; Ax tries them with the first seeds to choose the next."""
    if config.search == "grid":
        return limits.sizes(budget, config.sizes)
    if config.search == "random":
        return random_sizes(limits, budget, config.sizes, derive_generator(trials.root, "sizes"))
    first = range(min(config.first_seeds, seeds))

    def tried(size: int) -> tuple[float, float]:
        losses = trials.losses([limits.cell(size, budget)], first)[:, 0]
        return float(losses.mean()), _error(losses)

    return sorted(ax_sizes(tried, limits, budget, config.sizes, derive_seed(trials.root, "sizes")))


def random_sizes(limits: Limits, budget: float, count: int, generator: torch.Generator) -> list[int]:
    """Up to ``count`` different sizes, their logarithms drawn evenly between those of the ends; increasing."""
    ends = limits.sizes(budget, 2)
    low, high = math.log(ends[0]), math.log(ends[-1])
    draws = torch.rand(count, generator=generator, dtype=torch.float64).tolist()
    return sorted({limits.nearest(math.exp(low + u * (high - low)), budget) for u in draws})


def ax_sizes(
    loss: Callable[[int], tuple[float, float]], limits: Limits, budget: float, count: int, seed: int
) -> list[int]:
    """The sizes that Ax asks for in ``count`` trials, over log n, in the order of the trials, each once.

    ``loss`` gives the mean loss of a size and its standard error (nan where it is not known). A loss that is not
    finite counts as a failed trial.
    """
    from ax.api.client import Client
    from ax.api.configs import RangeParameterConfig
    from ax.utils.common.logger import set_ax_logger_levels

    ends = limits.sizes(budget, 2)
    if len(ends) < 2:
        return ends
    set_ax_logger_levels(logging.ERROR)
    bounds = (math.log(ends[0]), math.log(ends[-1]))
    tried: dict[int, tuple[float, float]] = {}
    # Ax warns of its own old calls, and of fits that it tries again; what the trials warn of is let through.
    with warnings.catch_warnings(action="ignore"):
        client = Client(random_seed=seed % 2**31)
        client.configure_experiment(
            parameters=[RangeParameterConfig(name="log_size", parameter_type="float", bounds=bounds)]
        )
        client.configure_optimization(objective="-loss")
    for _ in range(count):
        with warnings.catch_warnings(action="ignore"):
            ((number, parameters),) = client.get_next_trials(max_trials=1).items()
        size = limits.nearest(math.exp(float(parameters["log_size"])), budget)
        if size not in tried:
            tried[size] = loss(size)
        mean, error_of_mean = tried[size]
        observed = mean if math.isnan(error_of_mean) else (mean, error_of_mean)
        with warnings.catch_warnings(action="ignore"):
            if math.isfinite(mean):
                client.complete_trial(trial_index=number, raw_data={"loss": observed})
            else:
                client.mark_trial_failed(trial_index=number)
    return list(tried)


def _error(losses: torch.Tensor) -> float:
    return float(losses.std()) / math.sqrt(len(losses)) if len(losses) > 1 else math.nan
