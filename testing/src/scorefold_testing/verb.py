"""Checks of verbs, and of kinds of a plugin's own.

A verb is checked as a component of the kind ``verb`` whose config is the verb's options. Checked is a stage of it, on
the examples that the verb declares. A kind is checked as a component of the kind ``kind``: its interface, the verbs
that it names, and how its components are compared. Its verbs and its components are checked like all others.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from scorefold.artefacts import json_text
from scorefold.config import Use
from scorefold.errors import ArtefactError, ConfigError, ScorefoldError
from scorefold.plugin import Component, Kind, Verb
from scorefold.seeds import derive_generator
from scorefold.stage import Outcome, StageContext
from scorefold_testing.contents import changed_parts, contents
from scorefold_testing.contract import KIND, VERB, Check, Host, NotApplicableError, Subject, check, require, resolve
from scorefold_testing.process import GENERATORS, SETTINGS, renewed, require_unchanged, settings_in

NUMBERS = (int, float, str, type(None))
_NONE = "scorefold.config:Config"


def verb_as_component(verb: Verb, kind: str = "") -> Component:
    """A verb as the checks see it; one that stands in a kind is called by both."""
    examples = tuple(
        {"stage": example, "config": example.get("options", {}), "gives": verb.gives or kind}
        for example in verb.examples
    )
    return Component(
        VERB,
        f"{kind}-{verb.name}" if kind else verb.name,
        target=verb.target,
        config=verb.options or _NONE,
        summary=f"The verb {verb.name}",
        requires=verb.takes,
        figures=verb.figures,
        examples=examples,
    )


@dataclass(frozen=True)
class StageCall:
    """A stage in text and numbers, so that another process can do it: the verb's function and model of options, what it
    is given, and the seed of all that is drawn."""

    target: str
    model: str | None
    options: Mapping[str, Any]
    inputs: Mapping[str, Any]
    seed: int

    def inputs_of(self, host: Host) -> dict[str, Any]:
        """Inputs of the verb, built by a host."""
        found: dict[str, Any] = {}
        for name, given in self.inputs.items():
            several = [_built(host, each, self.seed) for each in (given if isinstance(given, list) else [given])]
            found[name] = several if isinstance(given, list) else several[0]
        return found

    def done(self, component: Any, inputs: Mapping[str, Any]) -> Any:
        """Outcome of the verb for a component and inputs."""
        options = None if self.model is None else resolve(self.model).model_validate(dict(self.options))
        return resolve(self.target)(component, inputs, options, StageContext("checked", seed_root=self.seed))


def _built(host: Host, use: Mapping[str, Any], seed: int) -> Any:
    generator = derive_generator(seed, "input")
    return host.create(use["use"], use.get("config"), generator=generator, dtype=torch.float32, **use.get("inputs", {}))


def plan_of(subject: Subject) -> StageCall:
    """The stage of a verb's example."""
    stage, declared = subject.example["stage"], subject.component
    inputs: dict[str, Any] = {}
    for port in declared.requires:
        given = stage.get("inputs", {}).get(port.name, port.default)
        if given is not None:
            inputs[port.name] = [given] if port.many and isinstance(given, Mapping) else given
    model = None if declared.config == _NONE else declared.config
    return StageCall(declared.target, model, stage.get("options", {}), inputs, subject.seed)


def plan_of_component(subject: Subject) -> StageCall:
    """The stage that shows what a component of a plugin's own kind does: the first verb of its kind with an example.

    Raises ``NotApplicableError`` where the kind has none.
    """
    component = subject.component
    verbs: Iterable[Verb] = subject.host.verbs(component.kind) if hasattr(subject.host, "verbs") else ()
    able = [verb for verb in verbs if verb.examples and set(verb.needs) <= set(component.provides)]
    if not able:
        raise NotApplicableError(f"no verb of the kind {component.kind} has an example to use it in")
    mine = {component.name, *component.aliases}
    stage = next((each for each in able[0].examples if _name(each).partition(":")[2] in mine), able[0].examples[0])
    return plan_of(replace(subject, component=verb_as_component(able[0]), example={"stage": stage}))


def answers_in(plan: StageCall, host: Host, component: Any) -> dict[str, Tensor]:
    """The numbers of a stage done with a component.

    Raises ``NotApplicableError`` where it refuses them: the verb's example may be of another component.
    """
    try:
        return outcome_numbers(plan.done(component, plan.inputs_of(host)))
    except ConfigError as error:
        raise NotApplicableError(f"it refuses the example of the verb: {error.message}") from error


def outcome_numbers(outcome: Outcome) -> dict[str, Tensor]:
    """The numbers of a result, but for seconds, and its arrays."""
    found = dict(outcome.arrays)
    for name, value in _flat(_untimed(outcome.result)):
        found[name] = torch.tensor(float(value), dtype=torch.float64)
    return found


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{name} {key}".strip())
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _flat(item, f"{name}[{number}]")
    elif isinstance(value, int | float):
        yield name, value


def _name(stage: Mapping[str, Any]) -> str:
    """The ``kind:name`` of a stage's component."""
    return str(stage["use"]).rpartition("/")[2].partition("@")[0]


def _created(subject: Subject) -> Any:
    """The example's component, built anew."""
    stage = subject.example["stage"]
    name = _name(stage)
    every = (item.component for item in subject.host.components(name.partition(":")[0]))
    declared = next(each for each in every if name in (each.id, *(f"{each.kind}:{alias}" for alias in each.aliases)))
    own = {port.name for port in declared.requires}
    plugged = {name: value for name, value in stage.get("inputs", {}).items() if name in own}
    generator = subject.generator("build")
    # As data are, whatever the default.
    return subject.host.create(stage["use"], stage.get("config"), generator=generator, dtype=torch.float32, **plugged)


def done(subject: Subject) -> tuple[Any, Any]:
    """The example's component and what the verb makes of it."""
    plan, component = plan_of(subject), _created(subject)
    return component, plan.done(component, plan.inputs_of(subject.host))


@check("verb-signature", VERB, level="contract", once=True)
def verb_signature(subject: Subject) -> str:
    """The target is a function of a component, inputs, options and context."""
    found = len(inspect.signature(subject.target).parameters)
    require(found == 4, f"{subject.component.target} takes {found} arguments", "component, inputs, options, context")
    return "component, inputs, options, context"


@check("verb-outcome", VERB, level="contract")
def verb_outcome(subject: Subject) -> str:
    """It gives an ``Outcome`` whose result is JSON, with flat metrics and, where there is an answer, its quantity."""
    _, outcome = done(subject)
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
    (_, first), (_, second) = done(subject), done(subject)
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
    """It draws from the stage's generators, and leaves those that torch, numpy and Python share where they were."""
    done(subject)
    with renewed(subject.seed, gradients=True) as changes:
        done(subject)
        moved = changes().keys() & GENERATORS.keys()
        require(not moved, f"{', '.join(sorted(moved))} has moved", "context.generator(purpose)")
    return "the generators that all share are as they were"


@check("verb-leaves-component", VERB, level="contract")
def verb_leaves_component(subject: Subject) -> str:
    """A component that is not handed on is left as it was."""
    plan, component = plan_of(subject), _created(subject)
    before = contents(component, "the component")
    outcome = plan.done(component, plan.inputs_of(subject.host))
    if outcome.value is component:
        raise NotApplicableError("it hands the component on")
    changed = changed_parts(before, contents(component, "the component"))
    require(not changed, f"the verb changed {', '.join(changed)}", "a component that is as it was")
    return f"{len(before)} parts"


@check("verb-leaves-inputs", VERB, level="contract")
def verb_leaves_inputs(subject: Subject) -> str:
    """Its inputs and its options are left as they were, whatever it does to the component."""
    plan, component = plan_of(subject), _created(subject)
    inputs = plan.inputs_of(subject.host)
    if not inputs:
        raise NotApplicableError("its example gives it nothing")
    before, given = contents(inputs, "input"), dict(inputs)
    plan.done(component, inputs)
    gone = [name for name, value in given.items() if inputs.get(name) is not value]
    require(not gone, f"the verb exchanged its inputs {', '.join(gone)}", "the mapping as it was")
    changed = changed_parts(before, contents(inputs, "input"))
    require(not changed, f"the verb changed {', '.join(changed)}", "inputs that are as they were")
    return f"unchanged: {', '.join(inputs)}"


@check("verb-gives", VERB, level="contract")
def verb_gives(subject: Subject) -> str:
    """The value is a component of the kind in ``gives`` (empty: the component's own), and otherwise None."""
    kind = subject.example["gives"] or _name(subject.example["stage"]).partition(":")[0]
    _, outcome = done(subject)
    value, found = outcome.value, type(outcome.value).__name__
    interface = _interface(subject.host, kind)
    if interface is not None:
        require(isinstance(value, interface), f"it gives {kind}, and the value is a {found}", interface.__name__)
        return f"a {found}, which is a {interface.__name__}"
    kinds = {item.component.kind for item in subject.host.components()}
    found_kinds = [each for each in sorted(kinds) if isinstance(value, _interface(subject.host, each) or ())]
    require(
        not found_kinds,
        f"it gives {kind}, and the value is a {found}, of the kind {found_kinds}",
        f"gives={found_kinds}",
    )
    return f"{kind}: a {found}"


def _interface(host: Host, kind: str) -> type | None:
    try:
        found = host.interface(kind)
    except ScorefoldError:
        return None
    return None if found is object else found


@check("verb-settings", VERB, level="determinism")
def verb_settings(subject: Subject) -> str:
    """It leaves the default dtype, gradient mode, threads, environment and working folder as they were."""
    done(subject)  # what it imports may set variables
    for opposite in (False, True):
        with renewed(subject.seed, gradients=True, opposite=opposite) as changes:
            done(subject)
            require_unchanged(settings_in(changes()))
    return ", ".join(SETTINGS)


@check("verb-figures", VERB, level="contract")
def verb_figures(subject: Subject) -> str:
    """Its figures are drawn from what it gives, by name."""
    if subject.component.figures is None:
        raise NotApplicableError("it draws nothing")
    _, outcome = done(subject)
    found = resolve(subject.component.figures)(outcome.drawn)
    drawn = isinstance(found, Mapping) and all(hasattr(figure, "savefig") for figure in found.values())
    require(drawn, f"its figures are {found!r:.100}", "a mapping of names to matplotlib figures")
    for figure in found.values():
        figure.clear()
    return ", ".join(found) or "no figure of this example"


def kind_as_component(kind: Kind) -> Component:
    """A kind as the checks see it."""
    return Component(
        KIND,
        kind.name,
        kind.interface,
        "scorefold.config:Config",
        kind.summary or f"The kind {kind.name}",
        examples=({"kind": kind},),
    )


def _kind(subject: Subject) -> Kind:
    found: Kind = subject.example["kind"]
    return found


def _verbs(subject: Subject) -> dict[str, Any]:
    """The verbs of a kind by name: its own, and those that plugins give it."""
    kind = _kind(subject)
    given = subject.host.verbs(kind.name) if hasattr(subject.host, "verbs") else ()
    return {verb.name: verb for verb in (*kind.verbs, *given)}


@check("kind-interface", KIND, level="contract")
def kind_interface(subject: Subject) -> str:
    """Its interface is a class with a docstring."""
    found = subject.target
    require(isinstance(found, type), f"{_kind(subject).interface} is a {type(found).__name__}", "a class")
    require(bool((found.__doc__ or "").strip()), f"{found.__name__} has no docstring", "one")
    return f"{found.__name__}"


@check("kind-verbs", KIND, level="contract")
def kind_verbs(subject: Subject) -> str:
    """The verbs that it lists are given by it or by a plugin, each by one name, and are functions of a stage."""
    kind, verbs = _kind(subject), _verbs(subject)
    own = [verb.name for verb in kind.verbs]
    twice = sorted({name for name in own if own.count(name) > 1})
    require(not twice, f"it has several verbs called {', '.join(twice)}", "a name for each")
    unknown = [name for name in kind.verb_names if name not in verbs]
    require(not unknown, f"it lists verbs that nobody gives: {', '.join(unknown)}", ", ".join(verbs) or "no verb")
    for verb in kind.verbs:
        takes = len(inspect.signature(resolve(verb.target)).parameters)
        require(takes == 4, f"{verb.target} takes {takes} arguments", "component, inputs, options, context")
    return ", ".join(verbs) or "no verb: its components are named inside others"


@check("kind-comparison", KIND, level="contract")
def kind_comparison(subject: Subject) -> str:
    """The verbs of its comparison are its own or from plugins, and its cases are written as in a file of cases."""
    comparison = _kind(subject).comparison
    if comparison is None:
        raise NotApplicableError("its components are not compared")
    verbs = _verbs(subject)
    unknown = [name for name in comparison.verbs if name not in verbs]
    require(not unknown, f"it is compared by {', '.join(unknown)}", f"verbs of it: {', '.join(verbs)}")
    for name, case in comparison.cases.items():
        data = {key: value for key, value in case.items() if key not in ("options", "split", "truth")}
        try:
            Use.model_validate(data or {"use": "none"})
        except ValidationError:
            require(False, f"its case {name!r} is {case}", "use, config and inputs of the data, options, split, truth")
    return f"compared by {', '.join(comparison.verbs)}"


CHECKS: tuple[Check, ...] = (
    verb_signature,
    verb_outcome,
    verb_repeats,
    verb_random_state,
    verb_settings,
    verb_leaves_component,
    verb_leaves_inputs,
    verb_gives,
    verb_figures,
    kind_interface,
    kind_verbs,
    kind_comparison,
)
