"""Fakes of hooks and kinds: the good ones, and those that are broken in one way each."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch
from broken_fakes import BREAKS, COMPONENTS

from scorefold.plugin import Comparison, Component, Kind, Verb, hookimpl
from scorefold.stage import Executor, Outcome
from scorefold_testing import observer, verb

_COUNT: Counter[str] = Counter()


def _numbered(check: str) -> str:
    _COUNT[check] += 1
    return f"breaks-{check}" if _COUNT[check] == 1 else f"breaks-{check}-{_COUNT[check]}"


# hooks


class Here(Executor):
    """Does jobs where it is."""

    def map(self, target: str, items: Any, key: str) -> list[Any]:
        module, _, name = target.partition(":")
        return [getattr(__import__(module), name)(item) for item in items]


class Backwards(Here):
    """Answers in the order in which it likes."""

    def map(self, target: str, items: Any, key: str) -> list[Any]:
        return super().map(target, items, key)[::-1]


def scorefold_before_stage(run: Any, inputs: Any) -> None:
    """Looks."""
    assert inputs["data"].load("train").x.shape


def scorefold_after_stage(outputs: Any) -> Iterator[None]:
    """Looks, and yields."""
    assert outputs.result
    yield None


def scorefold_run_stage() -> Any:
    """Hands on what it wraps."""
    outcome = yield
    return outcome


def scorefold_report_sections() -> Any:
    """A section."""
    yield "Title", "<p>Text</p>"


def scorefold_executor() -> Executor:
    """Here."""
    return Here()


def observing(name: str, *functions: Callable[..., Any], wraps: bool = False) -> Component:
    """A component of hooks, which stand in a module of their own."""
    module = ModuleType(f"hooks_{name.replace('-', '_')}")
    for function in functions:
        marked = hookimpl(function, wrapper=wraps and function.__name__ == "scorefold_run_stage")
        setattr(module, function.__name__, marked)
    sys.modules[module.__name__] = module
    found = observer.observer_as_component(name, module.__name__, "light_config:PlainConfig")
    assert found is not None
    return found


def watches(check: str, function: Callable[..., Any], hook: str, *, wraps: bool = False) -> None:
    """Registers hooks of which one breaks a check."""
    function.__name__ = hook
    component = observing(_numbered(check), function, wraps=wraps)
    COMPONENTS.append(component)
    BREAKS[component.id] = check


def empties(inputs: Any) -> None:
    inputs["list"].clear()


def leaks(run: Any) -> None:
    torch.set_default_dtype(torch.float64)


def yields_twice(run: Any) -> Any:
    yield
    yield


GOOD_HOOKS = observing(
    "good",
    scorefold_before_stage,
    scorefold_after_stage,
    scorefold_run_stage,
    scorefold_report_sections,
    scorefold_executor,
    wraps=True,
)
watches("observer-leaves-run", empties, "scorefold_before_stage")
watches("observer-settings", leaks, "scorefold_before_run")
watches("observer-answers", lambda: ["<p>Text</p>"], "scorefold_report_sections")
watches("observer-answers", lambda: {"metrics": {}}, "scorefold_run_stage")
watches("observer-answers", yields_twice, "scorefold_run_stage", wraps=True)
watches("observer-executor", lambda: Backwards(), "scorefold_executor")
watches("observer-executor", lambda: "local", "scorefold_executor")


# kinds


class Thing:
    """What a thing is."""


def weigh(component: Any, inputs: Any, options: Any, context: Any) -> Outcome:
    """What it weighs."""
    return Outcome({})


def measure(component: Any) -> Outcome:
    """A fake of one argument."""
    return Outcome({})


class Bare:
    pass


WEIGH = Verb("weigh", takes=(), gives="metrics", target="broken_hooks:weigh")
THING = Kind(
    "thing", "broken_hooks:Thing", verbs=(WEIGH,), verb_names=("weigh",), comparison=Comparison(("weigh",), "largest")
)
GOOD_KIND = verb.kind_as_component(THING)


def declares(check: str, **declared: Any) -> None:
    """Registers a kind that is declared otherwise."""
    component = verb.kind_as_component(replace(THING, name=_numbered(check), **declared))
    COMPONENTS.append(component)
    BREAKS[component.id] = check


declares("kind-interface", interface="broken_hooks:weigh")
declares("kind-interface", interface="broken_hooks:Bare")
declares("kind-verbs", verb_names=("weigh", "count"))
declares("kind-verbs", verbs=(WEIGH, WEIGH))
declares("kind-verbs", verbs=(replace(WEIGH, target="broken_hooks:measure"),))
declares("kind-comparison", comparison=Comparison(("count",), "largest"))
declares("kind-comparison", comparison=Comparison(("weigh",), "largest", {"sphere": {"data": {"use": "data:sphere"}}}))
