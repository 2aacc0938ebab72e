"""Claims of what is measured by trials: bands that hold are gates, what training came to is told whatever it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scorefold.plugin import Claim

_TRAINED = ("quick", "full")
_PILOT, _TRAINING = "scorefold_allocation.claims.pilot:", "scorefold_allocation.claims.training:"
_OURS = "a run of another implementation"
_UNKNOWN = "Cioba et al. 2022; the values of its figures are not at hand"
_OUT = ("min", 0.0)
"""Of reports: all of these numbers are 0 or more."""

_SINUSOID: Mapping[int, Sequence[float]] = {
    200: (1.54, 1.30, 0.87, 1.51, 2.36, 2.67),
    1000: (0.830, 0.609, 0.504, 0.391, 0.530, 0.631, 2.12),
    4000: (0.347, 0.242, 0.184, 0.199, 0.477, 1.02),
}
_DIGITS: Mapping[int, Sequence[float]] = {
    400: (73.0, 75.0, 72.9, 69.8, 64.5, 62.0),
    2000: (75.9, 77.3, 77.8, 76.8, 75.1, 71.1),
    8000: (73.4, 73.9, 76.5, 76.6, 76.9),
}
_SIZES: Mapping[int, Sequence[int]] = {
    200: (4, 10, 20, 50, 100, 200),
    1000: (4, 10, 20, 50, 100, 200, 500),
    4000: (20, 50, 100, 200, 500, 1000),
}
_FEW = (2, 4, 8, 16, 32, 64)


def measured_claims() -> Iterable[Claim]:
    yield from _calibration()
    yield from _moments()
    yield from _sinusoids()
    yield from _digits()


def _calibration() -> Iterable[Claim]:
    about = "200 simulated problems"
    for name, figure, words, tolerance, unit in (
        ("coverage", "coverage", "the 90 % band has the optimum or a plan within 2 % of it", ("min", 0.85), "share"),
        ("width", "median width", "the median band, from end to end", ("max", 4.0), "factor"),
    ):
        yield Claim(
            name=f"calibration-{name}",
            statement=f"{about}: {words}, refusals apart",
            source="what a band of 90 % promises",
            target=f"{_PILOT}calibration",
            tolerance=tolerance,
            unit=unit,
            profiles=_TRAINED,
            options={"figure": figure},
        )
    yield _report("calibration-refused", f"{about}: refusals", f"{_PILOT}calibration", "problems", figure="refused")
    for search, words in (("procedure", "ours"), ("uniform", "a grid of sizes"), ("random", "sizes at random")):
        yield from _regrets(search, f"{about}, {words}", f"{_PILOT}calibration")
    for search, words in (("procedure", "ours"), ("ax", "Ax")):
        yield from _regrets(search, f"20 of them, {words}", f"{_PILOT}ax_calibration", "ax-study-")


def _regrets(search: str, about: str, target: str, prefix: str = "") -> Iterable[Claim]:
    for figure, words in (("median", "median regret"), ("95 %", "95 % regret")):
        yield _report(
            f"{prefix}regret-{search}-{figure.removesuffix(' %')}",
            f"{about}: {words} at equal label-runs, by how much the loss is above the least",
            target,
            "share",
            figure=f"{search}: {words}",
        )


def _moments() -> Iterable[Claim]:
    """The best size is known from pilots that hardly know the moments."""
    for tasks, errors in ((20, (0.55, 0.60, 0.37)), (200, (0.17, 0.19, 0.10))):
        about = f"A pilot of {tasks} tasks of 10 labels, p = 20, a = 0.4"
        for share, value in ((0.05, 10), (0.5, 10), (0.95, 12)):
            yield Claim(
                name=f"moments-{tasks}-size-{round(100 * share)}",
                statement=f"{about}: the best labels a task by its moments, {share:.0%} quantile; the true one is 10",
                source=_OURS,
                target=f"{_PILOT}moment_size",
                reference=value,
                basis="earlier run",
                tolerance=("abs", 2.0),
                unit="labels a task",
                options={"tasks": tasks, "share": share},
            )
        for moment, error in zip(("spread2", "noise2", "centre2"), errors, strict=True):
            yield Claim(
                name=f"moments-{tasks}-{moment}",
                statement=f"{about}: the deviation of {moment}, whose truth is 1",
                source=_OURS,
                target=f"{_PILOT}moment_error",
                role="report",
                reference=error,
                basis="earlier run",
                tolerance=("rel", 0.2),
                unit="",
                options={"tasks": tasks, "moment": moment},
            )


def _sinusoids() -> Iterable[Claim]:
    words = {
        "sinusoid": "Sinusoids, adaptation with 500 labels",
        "sinusoid-tied": "Sinusoids, adaptation with as many labels as a training task's support",
    }
    best: Mapping[str, Mapping[int, float]] = {"sinusoid": {200: 20, 1000: 50, 4000: 100}, "sinusoid-tied": {}}
    for table, about in words.items():
        for budget, sizes in _SIZES.items():
            values = _SINUSOID[budget] if table == "sinusoid" else (None,) * len(sizes)
            for size, value in zip(sizes, values, strict=True):
                yield _cell(table, about, budget, size, value, "squared error", f"{size} labels a task")
            yield _best(table, about, budget, best[table].get(budget), "labels a task")
            yield _edge(table, about, budget, ("min", 2.0), "ratio")
        yield from _exponents(table, about, 0.5 if table == "sinusoid" else None)
    about, table = "Sinusoids, adaptation with 500 labels", "sinusoid-large"
    for size in (50, 100, 200, 500, 1000):
        name = f"{size} labels a task"
        yield _cell(table, about, 20_000, size, None, "squared error", name, profiles=("full",))
    yield _best(table, about, 20_000, None, "labels a task", profiles=("full",))


def _digits() -> Iterable[Claim]:
    about, best = "Turned digits, 5 classes a task", {400: 4, 2000: 8, 8000: 32}
    for budget, values in _DIGITS.items():
        for size, value in zip(_FEW, values, strict=False):
            yield _cell("digits", about, budget, size, value, "%", f"{size} labels a class")
        yield _best("digits", about, budget, best[budget], "labels a class")
        if budget < 8000:
            yield _edge("digits", about, budget, ("min", 3.0), "points")
    yield from _exponents("digits", about, None)
    noisy = "Turned digits, 30 % of labels wrong for good"
    for size in _FEW:
        yield _cell("digits-noisy", noisy, 2000, size, None, "%", f"{size} labels a class")
    yield _best("digits-noisy", f"Claim 3, hard tasks want more labels. {noisy}", 2000, None, "labels a class")
    for easy in (2, 6, 10):
        yield _report(
            f"digits-easy-{easy}",
            f"Claim 4, easy tasks get more. Turned digits, half of the tasks with 30 % of labels wrong: accuracy with "
            f"{easy} labels a class of an easy task, {12 - easy} of a hard one",
            f"{_TRAINING}easy_hard",
            "%",
            source=_UNKNOWN,
            easy=easy,
        )


def _cell(
    table: str,
    about: str,
    budget: int,
    size: int,
    reference: float | None,
    unit: str,
    words: str,
    profiles: tuple[str, ...] = _TRAINED,
) -> Claim:
    return _report(
        f"{table}-{budget}-{size}",
        f"{about}: MAML with {budget} labels, {words}",
        f"{_TRAINING}row",
        unit,
        reference=reference,
        profiles=profiles,
        table=table,
        budget=budget,
        size=size,
    )


def _best(
    table: str, about: str, budget: int, reference: float | None, unit: str, profiles: tuple[str, ...] = _TRAINED
) -> Claim:
    return _report(
        f"{table}-{budget}-best",
        f"{about}: the best size for {budget} labels",
        f"{_TRAINING}best",
        unit,
        reference=reference,
        profiles=profiles,
        table=table,
        budget=budget,
    )


def _edge(table: str, about: str, budget: int, tolerance: tuple[str, float], unit: str) -> Claim:
    """The valley is there: an order that any run should show, unlike its numbers."""
    gate = table in ("sinusoid", "digits")
    return Claim(
        name=f"{table}-{budget}-edge",
        statement=f"{about}: how much worse the fewest tasks are than the best number for {budget} labels",
        source=_OURS if gate else _UNKNOWN,
        target=f"{_TRAINING}edge",
        role="gate" if gate else "report",
        tolerance=tolerance if gate else _OUT,
        unit=unit,
        profiles=_TRAINED,
        options={"table": table, "budget": budget},
    )


def _exponents(table: str, about: str, reference: float | None) -> Iterable[Claim]:
    for name, words in (("exponent", "gamma of the best size in the budget"), ("exponent-error", "its deviation")):
        yield _report(
            f"{table}-{name}",
            f"{about}: {words}",
            f"{_TRAINING}{name.replace('-', '_')}",
            "exponent",
            reference=reference if name == "exponent" else None,
            tolerance=("min", -2.0),
            table=table,
        )


def _report(
    name: str,
    statement: str,
    target: str,
    unit: str,
    *,
    source: str = "",
    reference: float | None = None,
    tolerance: tuple[str, Any] = _OUT,
    profiles: tuple[str, ...] = _TRAINED,
    **options: str | float,
) -> Claim:
    """A claim that prints what comes out, whatever it is."""
    return Claim(
        name=name,
        statement=statement,
        source=source or (_UNKNOWN if reference is None else _OURS),
        target=target,
        role="report",
        reference=reference,
        basis="earlier run",
        tolerance=tolerance,
        unit=unit,
        profiles=profiles,
        options=options,
    )
