"""Claims of the linear model, by formula and by simulation: all of them gates.

The numbers that they are held to were derived and simulated for this implementation: the tables of the papers, and the
wording of their theorems, were not at hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scorefold.plugin import Claim

_CLOSED, _SIMULATED = "closed form", "a simulation of its own"
_META = "Bernacchia 2021"
_VERSIONS = "Batzolis et al. 2020: the best number of tasks grows like the root of the budget"
_CIOBA = "Cioba et al. 2022, claim"
_LABELS, _RISK = "labels a task", "|w - w0|^2"
_HERE = "scorefold_allocation.claims_"


def law_claims() -> Iterable[Claim]:
    yield from _risks()
    yield from _optimum()
    yield from _limits()
    yield from _growth()
    yield from _uniform()
    yield from _hard()
    yield from _easy()


def _risks() -> Iterable[Claim]:
    for tasks, query, p, value in ((10, 6, 20, 1.0970), (30, 1, 20, 4.336), (25, 2, 40, 8.623)):
        yield _gate(
            f"risk-{tasks}-tasks-{query}-query-{p}-weights",
            f"a = 0: R of {tasks} tasks with {query} query labels and {p} weights, simulated",
            "linear:exact_risk",
            value,
            ("rel", 0.01),
            _RISK,
            tasks=tasks,
            query=query,
            dimension=p,
        )
    yield _gate(
        "risk-leading-order",
        "Above the threshold leading order is off by about (p + 1) / N at most: the worst of 12 plans, in such units",
        "linear:leading_error",
        1.05,
        ("max", 1.2),
        "(p + 1) / N",
        source=_SIMULATED,
    )
    yield _gate(
        "loss-identity",
        "The loss on new tasks follows from |w - w0|^2 alone: simulated whole, over the identity",
        "linear:test_loss",
        1.0,
        ("abs", 0.015),
        "ratio",
    )
    yield _gate(
        "solution-gradient",
        "The gradient of one-step MAML's loss, differentiated through the step, at the weights in closed form",
        "linear:solution_gradient",
        0.0,
        ("abs", 1e-12),
        "loss",
    )
    yield _gate(
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
    yield _gate(
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
        yield _gate(
            f"optimum-{budget}",
            f"p = 20, a = 0.4: the best labels a task for {budget} labels, {budget / 40:g} thresholds",
            "optimum:best_size",
            size,
            tolerances.get(budget, ("abs", 2.0)),
            _LABELS,
            source=_SIMULATED,
            budget=budget,
        )
    about = "By how much R is above the least with the size of large budgets"
    for budget, bound in ((60, ("min", 0.03)), (480, ("max", 0.02)), (960, ("max", 0.02))):
        yield _gate(
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
        yield _gate(
            f"threshold-{budget}",
            f"p = 20: {side} learnt by heart: the {end} training loss over sizes for {budget} labels",
            "optimum:training_loss",
            0.0 if end == "greatest" else None,
            bound,
            "loss",
            budget=budget,
            end=end,
        )
    for tasks, value in ((1, 1.618), (18, 1.769)):
        yield _gate(
            f"single-task-{tasks}",
            f"p = 20, a = 0.2, little noise, a far start: R of 72 labels in {tasks} of tasks; a single one is best",
            "optimum:one_task",
            value,
            ("rel", 0.03),
            _RISK,
            source=_SIMULATED,
            tasks=tasks,
        )


def _limits() -> Iterable[Claim]:
    """The size that is best for large budgets."""
    yield _gate(
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
            yield _gate(
                f"limit-rate-{_word(rate)}-weights-{p}",
                f"a = {rate:g}, {p} weights: the best labels a task of large budgets",
                "optimum:limit_size",
                size,
                ("abs", 0.0),
                _LABELS,
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
            yield _gate(
                f"share-rate-{_word(rate)}-noise-{_word(noise2)}",
                f"a = {rate:g}, sigma^2 / nu^2 = {noise2:g}, many weights: c*, the best labels a task over 2 p",
                "optimum:limit_share",
                value,
                ("abs", 0.0006),
                "share",
                rate=rate,
                noise2=noise2,
            )
    yield _gate(
        "unique-minima",
        "Claim 2, the optimum is unique: the most local minima of b R over sizes, of 153 problems",
        "optimum:most_minima",
        1.0,
        ("abs", 0.0),
        "minima",
        source=f"{_CIOBA} 2",
    )


def _growth() -> Iterable[Claim]:
    """Two laws, for two ways to adapt to a new task."""
    for labels, words in (("fixed", "20 labels"), ("tied", "as many labels as a training task's support")):
        values = {"fixed": (8, 8, 8, 8), "tied": (388, 1228, 3890, 12274)}[labels]
        for power, value in zip((4, 5, 6, 7), values, strict=True):
            yield _gate(
                f"growth-{labels}-1e{power}",
                f"p = 20, a = 0.3, adaptation with {words}: the best labels a task for 10^{power}",
                "growth:size",
                value,
                ("abs", 0.0) if labels == "fixed" else ("rel", 0.04),
                _LABELS,
                labels=labels,
                budget=10**power,
            )
        for of in ("labels", "tasks"):
            tied, what = labels == "tied", {"labels": "labels a task", "tasks": "tasks"}[of]
            yield _gate(
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
    yield _gate(
        "growth-tied-best-rate-labels",
        "The same, with the best rate of adaptation: as few tasks as may be, at any budget: exponent of labels a task",
        "growth:exponent",
        1.0,
        ("abs", 0.02),
        "exponent",
        labels="tied-best-rate",
        of="labels",
    )


def _uniform() -> Iterable[Claim]:
    for weighting in ("pooled", "task-mean", "best"):
        yield _gate(
            f"uniform-{weighting}",
            f"Claim 1, equal tasks get equal labels: b R of the best of 3,000 mixes over that of one size, {weighting}",
            "mixtures:least_mix",
            1.0,
            ("min", 1 - 1e-12),
            "ratio",
            source=f"{_CIOBA} 1",
            weighting=weighting,
        )
    splits = ((8, "pooled", 0.203), (4, "pooled", 0.223), (4, "task-mean", 0.323), (2, "pooled", 0.269))
    for smaller, weighting, value in (*splits, (2, "task-mean", 0.677)):
        yield _gate(
            f"uniform-{smaller}-{16 - smaller}-{weighting}",
            f"Claim 1: R of 40 tasks of {smaller} and {16 - smaller} labels in turn, p = 8, a = 0.4, {weighting}",
            "mixtures:split_risk",
            value,
            ("rel", 0.03),
            _RISK,
            source=_SIMULATED,
            smaller=smaller,
            weighting=weighting,
        )
    for task_cost, value in ((10, 28.64), (100, 90.55), (1000, 286.4)):
        yield _gate(
            f"overhead-{task_cost}",
            f"p = 20, a = 0: the best labels a task where a task costs as much as {task_cost} labels besides",
            "mixtures:overhead_size",
            value,
            ("abs", 2.0),
            _LABELS,
            source="two-stage cluster sampling, sqrt(2 c c0 / (nu^2 c1))",
            task_cost=task_cost,
        )


def _hard() -> Iterable[Claim]:
    table = {0.2: (4, 6, 6), 0.4: (12, 10, 10)}
    told = {0.2: "holds", 0.4: "is reversed"}
    for rate, sizes in table.items():
        for noise2, size in zip((0.1, 1.0, 10.0), sizes, strict=True):
            yield _gate(
                f"hard-rate-{_word(rate)}-noise-{_word(noise2)}",
                f"Claim 3, noisy tasks want more labels, {told[rate]} at a = {rate:g}, p = 20: sigma^2 = {noise2:g}",
                "optimum:limit_size",
                size,
                ("abs", 0.0),
                _LABELS,
                source=f"{_CIOBA} 3, which has no such condition",
                dimension=20,
                rate=rate,
                noise2=noise2,
            )


def _easy() -> Iterable[Claim]:
    source = f"{_CIOBA} 4, which names no weighting"
    best = (
        ("under", "pooled", 18, "above the threshold"),
        ("under", "task-mean", 6, "above the threshold"),
        ("under", "best", 18, "above the threshold"),
        ("over", "pooled", 18, "below the threshold"),
        ("flipped", "pooled", 6, "a large rate and few labels"),
    )
    for case, weighting, value, words in best:
        holds = "holds" if value > 10 else "does not hold"
        bound: tuple[str, float] = ("abs", 2.0) if value < 10 else ("min", 16.0)
        yield _gate(
            f"easy-{case}-{weighting}",
            f"Claim 4, easy tasks get more, {holds}: {words}, {weighting}: best labels of an easy task, of 20",
            "mixtures:best_easy",
            value,
            bound,
            _LABELS,
            source=source,
            case=case,
            weighting=weighting,
        )
    risks = {
        ("under", "pooled"): {4: 0.221, 16: 0.123},
        ("under", "task-mean"): {6: 0.143, 16: 0.374},
        ("over", "pooled"): {2: 4.11, 6: 3.39, 10: 2.72, 14: 2.09, 18: 1.49},
    }
    for (case, weighting), row in risks.items():
        for easy, risk in row.items():
            yield _gate(
                f"easy-{case}-{weighting}-{easy}",
                f"Claim 4: R where easy tasks have {easy} labels of 20, noise variances 0.1 and 4, {case}, {weighting}",
                "mixtures:easy_risk",
                risk,
                ("rel", 0.03),
                _RISK,
                source=_SIMULATED,
                case=case,
                easy=easy,
                weighting=weighting,
            )
    for weighting, size in (("pooled", 72), ("task-mean", 52)):
        yield _gate(
            f"easy-closed-{weighting}",
            f"a = 0, p = 30, noise variances 0.2 and 1: the best labels of an easy task, of 120, {weighting}",
            "mixtures:best_easy",
            size,
            ("abs", 2.0),
            _LABELS,
            source="closed form; per task mean it is Neyman's rule",
            case="closed",
            weighting=weighting,
        )


def _gate(
    name: str,
    statement: str,
    target: str,
    published: float | None,
    tolerance: tuple[str, Any],
    unit: str,
    *,
    source: str = _CLOSED,
    **options: str | float,
) -> Claim:
    return Claim(
        name=name,
        statement=statement,
        source=source,
        target=_HERE + target,
        published=published,
        tolerance=tolerance,
        unit=unit,
        options=options,
    )


def _word(number: float) -> str:
    """A number as part of a name."""
    return f"{number:g}".replace("-", "minus-").replace(".", "-")
