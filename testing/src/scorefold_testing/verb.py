"""Checks of verbs: what a stage does, on the examples that the verb declares.

A verb is checked as a component of the kind ``verb`` whose config is the verb's options.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from scorefold.artefacts import json_text
from scorefold.errors import ArtefactError
from scorefold.plugin import Component, Verb
from scorefold.stage import Outcome, StageContext
from scorefold_testing.contract import VERB, Check, Subject, check, resolve
from scorefold_testing.require import NotApplicableError, require

NUMBERS = (int, float, str, type(None))
_NONE = "scorefold.config:Config"


def as_component(verb: Verb) -> Component:
    """A verb as the checks see it."""
    examples = tuple({"stage": example, "config": example.get("options", {})} for example in verb.examples)
    return Component(
        VERB,
        verb.name,
        target=verb.target,
        config=verb.options or _NONE,
        summary=f"The verb {verb.name}",
        requires=verb.takes,
        figures=verb.figures,
        examples=examples,
    )


def _created(subject: Subject) -> Any:
    """The example's component, built anew."""
    stage = subject.example["stage"]
    name = stage["use"].rpartition("/")[2].partition("@")[0]
    every = (item.component for item in subject.host.components(name.partition(":")[0]))
    declared = next(each for each in every if name in (each.id, *(f"{each.kind}:{alias}" for alias in each.aliases)))
    own = {port.name for port in declared.requires}
    plugged = {name: value for name, value in stage.get("inputs", {}).items() if name in own}
    return subject.host.create(stage["use"], stage.get("config"), generator=subject.generator("build"), **plugged)


def _done(subject: Subject) -> tuple[Any, Any]:
    """The example's component and what the verb makes of it."""
    stage, component = subject.example["stage"], _created(subject)
    inputs: dict[str, Any] = {}
    for port in subject.component.requires:
        given = stage.get("inputs", {}).get(port.name, port.default)
        if given is not None and port.many:
            several = [given] if isinstance(given, Mapping) else given
            inputs[port.name] = [_built(subject, each) for each in several]
        elif given is not None:
            inputs[port.name] = _built(subject, given)
    has_options = subject.component.config != _NONE
    options = subject.config_model.model_validate(stage.get("options", {})) if has_options else None
    return component, subject.target(component, inputs, options, StageContext("checked", seed_root=subject.seed))


def _built(subject: Subject, use: Mapping[str, Any]) -> Any:
    return subject.host.create(
        use["use"], use.get("config"), generator=subject.generator("input"), **use.get("inputs", {})
    )


@check("verb-signature", VERB, level="contract", once=True)
def verb_signature(subject: Subject) -> str:
    """The target is a function of a component, inputs, options and context."""
    found = len(inspect.signature(subject.target).parameters)
    require(found == 4, f"{subject.component.target} takes {found} arguments", "component, inputs, options, context")
    return "component, inputs, options, context"


@check("verb-outcome", VERB, level="contract")
def verb_outcome(subject: Subject) -> str:
    """It gives an ``Outcome`` whose result is JSON, with flat metrics and, where there is an answer, its quantity."""
    _, outcome = _done(subject)
    require(isinstance(outcome, Outcome), f"it gave a {type(outcome).__name__}", "a scorefold.stage.Outcome")
    try:
        json_text(outcome.result)
    except ArtefactError as error:
        require(False, f"the result is no JSON: {error}", "numbers, text, lists and mappings")
    metrics = outcome.result.get("metrics", {})
    odd = [name for name, value in metrics.items() if not isinstance(value, NUMBERS)]
    require(not odd, f"the metrics {odd} are no numbers", "a flat mapping of names to numbers")
    answer = outcome.result.get("answer", {"quantity": "", "value": 0})
    require({"quantity", "value"} <= answer.keys(), f"the answer has {sorted(answer)}", "quantity and value")
    return f"{len(metrics)} metrics, {len(outcome.arrays)} arrays"


@check("verb-repeats", VERB, level="determinism")
def verb_repeats(subject: Subject) -> str:
    """The same seed gives the same result, but for seconds, and the same arrays."""
    (_, first), (_, second) = _done(subject), _done(subject)
    once, again = _untimed(first.result), _untimed(second.result)
    same = json_text(once) == json_text(again) and first.arrays.keys() == second.arrays.keys()
    require(same, f"the result is {json_text(once)} and then {json_text(again)}", "the same result")
    moved = [name for name, array in first.arrays.items() if not _same(array, second.arrays[name])]
    require(not moved, f"the arrays {moved} differ the second time", "the same arrays")
    return f"result and {len(first.arrays)} arrays"


def _untimed(result: Any) -> Any:
    """A result without what it says of seconds."""
    if isinstance(result, Mapping):
        return {name: _untimed(value) for name, value in result.items() if "second" not in name}
    return [_untimed(item) for item in result] if isinstance(result, list) else result


def _same(first: Any, second: Any) -> bool:
    return first.shape == second.shape and bool(((first == second) | (first.isnan() & second.isnan())).all())


@check("verb-random-state", VERB, level="determinism")
def verb_random_state(subject: Subject) -> str:
    """It draws from the stage's generators, and leaves torch's own generator where it was."""
    before = torch.get_rng_state()
    _done(subject)
    same = torch.equal(before, torch.get_rng_state())
    torch.set_rng_state(before)
    require(same, "torch's global random state has moved", "context.generator(purpose)")
    return "the global random state is as it was"


@check("verb-leaves-component", VERB, level="contract")
def verb_leaves_component(subject: Subject) -> str:
    """A component that is not handed on is left as it was."""
    component, outcome = _done(subject)
    if outcome.value is component or not isinstance(component, nn.Module):
        raise NotApplicableError("it hands the component on" if outcome.value is component else "it has no tensors")
    now, then = component.state_dict(), _created(subject).state_dict()
    changed = [name for name, value in then.items() if not _same(value, now[name])]
    require(not changed, f"the verb changed {', '.join(changed)}", "a component that is as it was")
    return f"{len(then)} tensors"


@check("verb-figures", VERB, level="contract")
def verb_figures(subject: Subject) -> str:
    """Its figures are drawn from what it gives, by name."""
    if subject.component.figures is None:
        raise NotApplicableError("it draws nothing")
    _, outcome = _done(subject)
    found = resolve(subject.component.figures)(outcome.drawn)
    drawn = isinstance(found, Mapping) and all(hasattr(figure, "savefig") for figure in found.values())
    require(drawn, f"its figures are {found!r:.100}", "a mapping of names to matplotlib figures")
    for figure in found.values():
        figure.clear()
    return ", ".join(found) or "no figure of this example"


CHECKS: tuple[Check, ...] = (
    verb_signature,
    verb_outcome,
    verb_repeats,
    verb_random_state,
    verb_leaves_component,
    verb_figures,
)
