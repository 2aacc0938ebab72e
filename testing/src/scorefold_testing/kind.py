"""Checks of a kind of a plugin's own: its interface, the verbs that it names, and how its components are compared.

A kind is checked as a component of the kind ``kind``. Its verbs and its components are checked like the verbs and
components of any other kind.
"""

from __future__ import annotations

import inspect
from typing import Any

from scorefold.plugin import Component, Kind
from scorefold_testing.contract import KIND, Check, NotApplicableError, Subject, check, require, resolve


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
    """The verbs of its comparison are its own or from plugins."""
    comparison = _kind(subject).comparison
    if comparison is None:
        raise NotApplicableError("its components are not compared")
    verbs = _verbs(subject)
    unknown = [name for name in comparison.verbs if name not in verbs]
    require(not unknown, f"it is compared by {', '.join(unknown)}", f"verbs of it: {', '.join(verbs)}")
    return f"compared by {', '.join(comparison.verbs)}"


CHECKS: tuple[Check, ...] = (kind_interface, kind_verbs, kind_comparison)
