"""Claims of the linear model, by formula and by simulation: all of them gates.

The numbers that they are held to were derived and simulated for this implementation: the tables of the papers, and the
wording of their theorems, were not at hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scorefold.plugin import Claim

CLOSED, SIMULATED = "closed form", "a simulation of its own"
_META = "Bernacchia 2021"
_VERSIONS = "Batzolis et al. 2020: the best number of tasks grows like the root of the budget"
CIOBA = "Cioba et al. 2022, claim"
LABELS, RISK = "labels a task", "|w - w0|^2"
_HERE = "scorefold_allocation.claims."


def formula_claims() -> Iterable[Claim]:
    yield from _risks()
    yield from _optimum()
    yield from _limits()
    yield from _growth()


def _risks() -> Iterable[Claim]:
    for tasks, query, p, value in ((10, 6, 20, 1.0970), (30, 1, 20, 4.336), (25, 2, 40, 8.623)):
        yield gate(
            f"risk-{tasks}-tasks-{query}-query-{p}-weights",
            f"a = 0: R of {tasks} tasks with {query} query labels and {p} weights, simulated",
            "linear:exact_risk",
            value,
            ("rel", 0.01),
            RISK,
            tasks=tasks,
            query=query,
            dimension=p,
        )
    yield gate(
        "risk-leading-order",
        "Above the threshold leading order is off by about (p + 1) / N at most: the worst of 12 plans, in such units",
        "linear:leading_error",
        1.05,
        ("max", 1.2),
        "(p + 1) / N",
        source=SIMULATED,
    )
    yield gate(
        "loss-identity",
        "The loss on new tasks follows from |w - w0|^2 alone: simulated whole, over the identity",
        "linear:test_loss",
        1.0,
        ("abs", 0.015),
        "ratio",
    )
    yield gate(
        "solution-gradient",
        "The gradient of one-step MAML's loss, differentiated through the step, at the weights in closed form",
        "linear:solution_gradient",
        0.0,
        ("abs", 1e-12),
        "loss",
    )
    yield gate(
        "training-rate",
        "Below the threshold the best training rate is below 0: for 30 support labels and 60 weights",
        "linear:training_rate",
        -1.0111521,
        ("abs", 1e-7),
        "rate",
        source=_META,
        labels=30,
        dimension=60,
    )
    yield gate(
        "adaptation-rate",
        "The best rate of adaptation is above 0: the least over 10,000 random problems",
        "linear:least_adaptation_rate",
        None,
        ("min", 1e-300),
        "rate",
        source=_META,
    )


def _optimum() -> Iterable[Claim]:
    """p = 20, whose threshold is 40 labels, and a = 0.4."""
    tolerances: dict[int, tuple[str, Any]] = {
        12: ("abs", 0.0),
        24: ("abs", 0.0),
        36: ("range", (2, 8)),
        48: ("range", (2, 8)),
        60: ("range", (2, 8)),
        72: ("abs", 2.0),
    }
    sizes = {12: 2, 24: 2, 36: 4, 48: 4, 60: 4, 72: 4, 96: 6, 120: 6, 240: 8, 480: 10, 960: 10}
    for budget, size in sizes.items():
        yield gate(
            f"optimum-{budget}",
            f"p = 20, a = 0.4: the best labels a task for {budget} labels, {budget / 40:g} thresholds",
            "optimum:best_size",
            size,
            tolerances.get(budget, ("abs", 2.0)),
            LABELS,
            source=SIMULATED,
            budget=budget,
        )
    about = "By how much R is above the least with the size of large budgets"
    for budget, bound in ((60, ("min", 0.03)), (480, ("max", 0.02)), (960, ("max", 0.02))):
        yield gate(
            f"freezing-{budget}",
            f"p = 20, a = 0.4: {about}, for {budget / 40:g} thresholds of labels",
            "optimum:frozen_cost",
            None,
            bound,
            "share",
            source="Cioba et al. 2021: the optimum becomes constant around the threshold of interpolation",
            budget=budget,
        )
    for budget, end, bound in ((36, "greatest", ("max", 1e-20)), (48, "least", ("min", 1e-3))):
        side = "below the threshold, 2 p, tasks of every size are" if end == "greatest" else "above it none is"
        yield gate(
            f"threshold-{budget}",
            f"p = 20: {side} memorised: the {end} training loss over sizes for {budget} labels",
            "optimum:training_loss",
            0.0 if end == "greatest" else None,
            bound,
            "loss",
            budget=budget,
            end=end,
        )
    for tasks, value in ((1, 1.618), (18, 1.769)):
        yield gate(
            f"single-task-{tasks}",
            f"p = 20, a = 0.2, little noise, a far start: R of 72 labels in {tasks} of tasks; a single one is best",
            "optimum:one_task",
            value,
            ("rel", 0.03),
            RISK,
            source=SIMULATED,
            tasks=tasks,
        )


def _limits() -> Iterable[Claim]:
    """The size that is best for large budgets."""
    yield gate(
        "limit-risk",
        "At 200 thresholds b R is what it tends to, but for 1 in 100",
        "optimum:budget_limit",
        1.0,
        ("abs", 0.03),
        "ratio",
    )
    table = {
        0.4: {5: 6, 10: 8, 20: 10, 50: 22, 400: 158},
        0.2: {5: 2, 10: 4, 20: 6, 400: 76},
        0.3: {20: 8},
        0.8: {50: 14, 100: 18, 200: 24, 400: 34, 800: 48},
    }
    for rate, row in table.items():
        for p, size in row.items():
            yield gate(
                f"limit-rate-{word(rate)}-weights-{p}",
                f"a = {rate:g}, {p} weights: the best labels a task of large budgets",
                "optimum:limit_size",
                size,
                ("abs", 0.0),
                LABELS,
                dimension=p,
                rate=rate,
            )
    shares = {
        0.1: (0.038, 0.042, 0.049),
        0.2: (0.090, 0.094, 0.101),
        0.3: (0.149, 0.148, 0.145),
        0.4: (0.211, 0.192, 0.153),
        0.5: (0.259, 0.194, 0.054),
        -0.2: (0.114, 0.169, 0.427),
        0.0: (0.0, 0.0, 0.0),
        0.8: (0.0, 0.0, 0.0),
    }
    for rate, values in shares.items():
        for noise2, value in zip((0.1, 1.0, 10.0), values, strict=True):
            yield gate(
                f"share-rate-{word(rate)}-noise-{word(noise2)}",
                f"a = {rate:g}, sigma^2 / nu^2 = {noise2:g}, many weights: c*, the best labels a task over 2 p",
                "optimum:limit_share",
                value,
                ("abs", 0.0006),
                "share",
                rate=rate,
                noise2=noise2,
            )
    yield gate(
        "unique-minima",
        "Claim 2, the optimum is unique: the most local minima of b R over sizes, of 153 problems",
        "optimum:most_minima",
        1.0,
        ("abs", 0.0),
        "minima",
        source=f"{CIOBA} 2",
    )


def _growth() -> Iterable[Claim]:
    """Two formulas, for two ways to adapt to a new task."""
    for labels, words in (("fixed", "20 labels"), ("tied", "as many labels as a training task's support")):
        values = {"fixed": (8, 8, 8, 8), "tied": (388, 1228, 3890, 12274)}[labels]
        for power, value in zip((4, 5, 6, 7), values, strict=True):
            yield gate(
                f"growth-{labels}-1e{power}",
                f"p = 20, a = 0.3, adaptation with {words}: the best labels a task for 10^{power}",
                "growth:size",
                value,
                ("abs", 0.0) if labels == "fixed" else ("rel", 0.04),
                LABELS,
                labels=labels,
                budget=10**power,
            )
        for of in ("labels", "tasks"):
            tied, what = labels == "tied", {"labels": "labels a task", "tasks": "tasks"}[of]
            yield gate(
                f"growth-{labels}-{of}",
                f"Adaptation with {words}: the exponent of the best {what} in the budget",
                "growth:exponent",
                0.5 if tied else float(of == "tasks"),
                ("abs", 0.02),
                "exponent",
                source=_VERSIONS if tied else "Cioba et al. 2021: the best labels a task tend to a constant",
                labels=labels,
                of=of,
            )
    yield gate(
        "growth-tied-best-rate-labels",
        "The same, with the best rate of adaptation: as few tasks as may be, at any budget: exponent of labels a task",
        "growth:exponent",
        1.0,
        ("abs", 0.02),
        "exponent",
        labels="tied-best-rate",
        of="labels",
    )


def gate(
    name: str,
    statement: str,
    target: str,
    reference: float | None,
    tolerance: tuple[str, Any],
    unit: str,
    *,
    source: str = CLOSED,
    **options: str | float,
) -> Claim:
    return Claim(
        name=name,
        statement=statement,
        source=source,
        target=_HERE + target,
        reference=reference,
        tolerance=tolerance,
        unit=unit,
        options=options,
    )


def word(number: float) -> str:
    """A number as part of a name."""
    return f"{number:g}".replace("-", "minus-").replace(".", "-")
