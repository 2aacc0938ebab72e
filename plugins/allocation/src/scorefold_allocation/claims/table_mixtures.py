"""Claims of equal tasks with unequal labels, and of tasks that are easy or hard: gates, as all of the linear model."""

from __future__ import annotations

from collections.abc import Iterable

from scorefold.plugin import Claim
from scorefold_allocation.claims.table_formulas import CIOBA, LABELS, RISK, SIMULATED, gate, word


def mixture_claims() -> Iterable[Claim]:
    yield from _uniform()
    yield from _hard()
    yield from _easy()


def _uniform() -> Iterable[Claim]:
    for weighting in ("pooled", "task-mean", "best"):
        yield gate(
            f"uniform-{weighting}",
            f"Claim 1, equal tasks get equal labels: b R of the best of 3,000 mixes over that of one size, {weighting}",
            "mixtures:least_mix",
            1.0,
            ("min", 1 - 1e-12),
            "ratio",
            source=f"{CIOBA} 1",
            weighting=weighting,
        )
    splits = ((8, "pooled", 0.203), (4, "pooled", 0.223), (4, "task-mean", 0.323), (2, "pooled", 0.269))
    for smaller, weighting, value in (*splits, (2, "task-mean", 0.677)):
        yield gate(
            f"uniform-{smaller}-{16 - smaller}-{weighting}",
            f"Claim 1: R of 40 tasks of {smaller} and {16 - smaller} labels in turn, p = 8, a = 0.4, {weighting}",
            "mixtures:split_risk",
            value,
            ("rel", 0.03),
            RISK,
            source=SIMULATED,
            smaller=smaller,
            weighting=weighting,
        )
    for task_cost, value in ((10, 28.64), (100, 90.55), (1000, 286.4)):
        yield gate(
            f"overhead-{task_cost}",
            f"p = 20, a = 0: the best labels a task where a task costs as much as {task_cost} labels besides",
            "mixtures:overhead_size",
            value,
            ("abs", 2.0),
            LABELS,
            source="two-stage cluster sampling, sqrt(2 c c0 / (nu^2 c1))",
            task_cost=task_cost,
        )


def _hard() -> Iterable[Claim]:
    table = {0.2: (4, 6, 6), 0.4: (12, 10, 10)}
    told = {0.2: "holds", 0.4: "is reversed"}
    for rate, sizes in table.items():
        for noise2, size in zip((0.1, 1.0, 10.0), sizes, strict=True):
            yield gate(
                f"hard-rate-{word(rate)}-noise-{word(noise2)}",
                f"Claim 3, noisy tasks want more labels, {told[rate]} at a = {rate:g}, p = 20: sigma^2 = {noise2:g}",
                "optimum:limit_size",
                size,
                ("abs", 0.0),
                LABELS,
                source=f"{CIOBA} 3, which has no such condition",
                dimension=20,
                rate=rate,
                noise2=noise2,
            )


def _easy() -> Iterable[Claim]:
    source = f"{CIOBA} 4, which names no weighting"
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
        yield gate(
            f"easy-{case}-{weighting}",
            f"Claim 4, easy tasks get more, {holds}: {words}, {weighting}: best labels of an easy task, of 20",
            "mixtures:best_easy",
            value,
            bound,
            LABELS,
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
            yield gate(
                f"easy-{case}-{weighting}-{easy}",
                f"Claim 4: R where easy tasks have {easy} labels of 20, noise variances 0.1 and 4, {case}, {weighting}",
                "mixtures:easy_risk",
                risk,
                ("rel", 0.03),
                RISK,
                source=SIMULATED,
                case=case,
                easy=easy,
                weighting=weighting,
            )
    for weighting, size in (("pooled", 72), ("task-mean", 52)):
        yield gate(
            f"easy-closed-{weighting}",
            f"a = 0, p = 30, noise variances 0.2 and 1: the best labels of an easy task, of 120, {weighting}",
            "mixtures:best_easy",
            size,
            ("abs", 2.0),
            LABELS,
            source="closed form; per task mean it is Neyman's rule",
            case="closed",
            weighting=weighting,
        )
