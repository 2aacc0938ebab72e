"""A page for each kind, and one for the capabilities."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from scorefold.plugin import Kind, Port, Verb
from scorefold_site.components import component_path, port_words
from scorefold_site.fields import field_table
from scorefold_site.inventory import Inventory
from scorefold_site.markdown import code, page, prose, python, table
from scorefold_testing import CHECKS, FLOORS, Check


def kind_pages(inventory: Inventory) -> dict[str, str]:
    """Every kind's page, the list of them, and the capabilities."""
    pages = {f"kinds/{kind.name}.md": kind_page(inventory, kind) for kind in inventory.kinds}
    return {"kinds/index.md": _list(inventory), **pages, "capabilities.md": _capabilities(inventory)}


def _list(inventory: Inventory) -> str:
    rows = [
        (
            f"[{code(kind.name)}]({kind.name}.md)",
            prose(kind.summary),
            ", ".join(code(verb.name) for verb in kind.verbs) or "none",
            str(len(inventory.of_kind(kind.name))),
        )
        for kind in inventory.kinds
    ]
    return page(
        "# Kinds",
        "A kind is an interface and its verbs: what a component is, and what a stage can do with it. "
        "A plugin adds a kind of its own by the hook `scorefold_kinds` ([hooks](../hooks.md)).",
        table(("kind", "what it is", "verbs", "components"), rows),
    )


def kind_page(inventory: Inventory, kind: Kind) -> str:
    """A kind's verbs with their options, its components, its checks and its interface."""
    found = [
        (f"[{code(item.id)}](../{component_path(item.component)})", prose(item.component.summary))
        for item in inventory.of_kind(kind.name)
    ]
    return page(
        f"# {kind.name}",
        f"{prose(kind.summary)}.",
        "## Verbs",
        _verb_summary(kind),
        *(part for verb in kind.verbs for part in _verb(verb)),
        "## Components",
        table(("component", "what it is"), found) or "None in this repository.",
        *_comparison(kind),
        "## Checks",
        _checks(kind),
        "## Interface",
        python(kind.interface.replace(":", "."), index=False),
    )


def _verb_summary(kind: Kind) -> str:
    if not kind.verbs:
        return "None: a component of this kind is named inside the settings of another one."
    first, *others = [code(verb.name) for verb in kind.verbs]
    return f"{first} is what a stage does without `do:`" + (f"; the others are {', '.join(others)}." if others else ".")


def _verb(verb: Verb) -> list[str]:
    takes = table(
        ("input", "takes", ""), [(code(port.name), port_words(port, "../"), _when(port)) for port in verb.takes]
    )
    needs = " and ".join(f"[{code(name)}](../capabilities.md#{name.lower()})" for name in verb.needs)
    only = f" For components that provide {needs}." if needs else ""
    options = ["Options:", field_table(_load(verb.options))] if verb.options else ["It has no options."]
    return [f"### {verb.name}", f"{_first_line(_load(verb.target))} Gives {code(verb.gives)}.{only}", takes, *options]


_BEST = {
    "truth": "the answer nearest to the truth is the best",
    "smallest": "the smallest answer is the best",
    "largest": "the largest answer is the best",
}


def _comparison(kind: Kind) -> list[str]:
    if kind.comparison is None:
        return []
    verbs = ", then ".join(code(name) for name in kind.comparison.verbs)
    cases = ", ".join(code(name) for name in kind.comparison.cases)
    named = f" Without `--data` the cases are {cases}." if cases else ""
    text = f"`scorefold compare {kind.name}` does {verbs}; {_BEST[kind.comparison.best]}.{named}"
    return ["## Comparison", text]


def _when(port: Port) -> str:
    if port.when:
        return f"of what is [{code(port.when)}](../capabilities.md#{port.when.lower()})"
    return "optional" if port.optional else "required"


def _checks(kind: Kind) -> str:
    """What ``scorefold plugins check`` holds a component of a kind to."""
    mine = [check for check in CHECKS if kind.name in check.kinds or (not check.kinds and check.capability is None)]
    floor = FLOORS.get(kind.name)
    least = f" At least {floor} of all checks must have been tried on a component." if floor else ""
    rows = [(code(check.name), check_words(check)) for check in mine]
    return page(f"What [`plugins check`](../testing.md) holds a component to.{least}", table(("check", "says"), rows))


def check_words(check: Check) -> str:
    """A check's statement, the docstring of what tries it."""
    return _first_line(check.run)


def _capabilities(inventory: Inventory) -> str:
    parts = [
        "# Capabilities",
        "What some components can do beyond their kind. A component names them in `provides`, a port or a verb in "
        "`needs`, and the conformance kit checks that they are true.",
    ]
    for name, capability in inventory.capabilities.items():
        having = [
            f"[{code(item.id)}]({component_path(item.component)})"
            for item in inventory.components
            if name in item.component.provides
        ]
        checks = [(code(check.name), check_words(check)) for check in CHECKS if check.capability == name]
        parts += [
            f"## {name}",
            f"Components: {', '.join(having)}." if having else "No component of this repository has it.",
            table(("check", "says"), checks),
            python(f"{capability.__module__}.{capability.__qualname__}", index=False),
        ]
    return page(*parts)


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def _first_line(obj: object) -> str:
    """The first paragraph of a docstring, as Markdown."""
    text = inspect.getdoc(obj) or ""
    return prose(" ".join(text.partition("\n\n")[0].split()))
