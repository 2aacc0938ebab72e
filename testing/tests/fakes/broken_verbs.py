"""The broken fakes of verbs: each is ``count`` but for one thing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import good_fakes
import torch
from broken_fakes import BREAKS, COMPONENTS, calls
from good_declarations import COUNT, COUNTED
from torch import nn

from scorefold.stage import Outcome
from scorefold_testing import verb

_COUNT: Counter[str] = Counter()
_STATEFUL = {**COUNTED, "use": "flow:small", "options": {}}


def breaks(check: str, function: Any = None, **declared: Any) -> None:
    """Registers a verb that does what ``count`` does, but by a function of its own or declared otherwise."""
    _COUNT[check] += 1
    name = check if _COUNT[check] == 1 else f"{check}-{_COUNT[check]}"
    if function is not None:
        globals()[name.replace("-", "_")] = function
        declared["target"] = f"broken_verbs:{name.replace('-', '_')}"
    component = replace(verb.verb_as_component(replace(COUNT, **declared)), name=f"breaks-{name}")
    COMPONENTS.append(component)
    BREAKS[component.id] = check


def giving(change: Any) -> Any:
    """``count`` with its outcome changed by ``change(outcome)``."""

    def function(component: Any, inputs: Any, options: Any, context: Any) -> Any:
        return change(good_fakes.count(component, inputs, options, context))

    function.__doc__ = "A fake."
    return function


def few(component: Any, inputs: Any) -> Outcome:
    """A fake of two arguments."""
    return Outcome({})


def draws(component: Any, inputs: Any, options: Any, context: Any) -> Outcome:
    """A fake that draws from the wrong generator."""
    torch.randn(1)
    return good_fakes.count(component, inputs, options, context)


def spoils(component: nn.Module, inputs: Any, options: Any, context: Any) -> Outcome:
    """A fake that changes what it is given."""
    with torch.no_grad():
        next(component.parameters()).add_(1)
    return good_fakes.count(component, inputs, options, context)


def sorts(component: Any, inputs: Any, options: Any, context: Any) -> Outcome:
    """A fake that puts its data in another order."""
    outcome = good_fakes.count(component, inputs, options, context)
    points = inputs["data"].all.x
    points.copy_(points.sort(0).values)
    return outcome


def exchanges(component: Any, inputs: Any, options: Any, context: Any) -> Outcome:
    """A fake that takes an input out."""
    inputs["more"] = inputs["more"] * 2
    return good_fakes.count(component, inputs, options, context)


def moves(component: Any, inputs: Any, options: Any, context: Any) -> Outcome:
    """A fake that computes in float64 from now on."""
    torch.set_default_dtype(torch.float64)
    return good_fakes.count(component, inputs, options, context)


def hands_data_on(component: Any, inputs: Any, options: Any, context: Any) -> Outcome:
    """A fake whose value is its data."""
    return replace(good_fakes.count(component, inputs, options, context), value=inputs["data"])


def no_mapping(value: Any) -> Any:
    """A figure without a name."""
    return [value]


def with_result(**more: Any) -> Any:
    return giving(lambda outcome: replace(outcome, result={**outcome.result, **more}))


breaks("verb-signature", few)
breaks("verb-outcome", giving(lambda outcome: outcome.result))
breaks("verb-outcome", with_result(thing=object()))
breaks("verb-outcome", with_result(metrics={"points": {"train": 3}}))
breaks("verb-outcome", with_result(answer={"value": 3.0}))
breaks("verb-repeats", giving(lambda outcome: replace(outcome, result={"calls": next(calls)})))
breaks("verb-repeats", giving(lambda outcome: replace(outcome, arrays={"x": torch.full((1,), float(next(calls)))})))
breaks("verb-random-state", draws)
breaks("verb-leaves-component", spoils, examples=(_STATEFUL,))
breaks("verb-leaves-inputs", sorts)
breaks("verb-leaves-inputs", exchanges)
breaks("verb-settings", moves)
breaks("verb-gives", hands_data_on)
breaks("verb-gives", gives="score")
breaks("verb-figures", figures="broken_verbs:no_mapping")
