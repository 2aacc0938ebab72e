"""A page for each component, and one that lists them by kind."""

from __future__ import annotations

import re

from scorefold.plugin import CORE_KINDS, Component, Port
from scorefold_registry.components.parts import config_model
from scorefold_registry.plugins.records import Registered
from scorefold_registry.runfile.citations import citation
from scorefold_site.fields import field_table
from scorefold_site.inventory import Inventory
from scorefold_site.markdown import code, fence, folded, page, prose, python, table
from scorefold_site.navigation import NAVIGATION
from scorefold_site.references import reference
from scorefold_site.run_files import example_files
from scorefold_verbs.plugin import scorefold_verbs


def component_path(component: Component) -> str:
    """Where a component's page stands."""
    return f"components/{component.kind}/{component.name}.md"


_LINK_OR_NAME = r"\[[^\]]*\]\([^)]*\)|`([a-z-]+:[a-z0-9-]+)`"


def linked_components(text: str, ids: set[str], up: str = "") -> str:
    """The Markdown of a page on which each component's name is a link to its page; ``up`` leads to the top of the site.

    Blocks of code, headings and links stay as they are.

    >>> linked_components("Take `score:denoising`, or `score:other`.", {"score:denoising"})
    'Take [`score:denoising`](components/score/denoising.md), or `score:other`.'
    """

    def link(match: re.Match[str]) -> str:
        kind, _, name = (match[1] or "").partition(":")
        return f"[{match[0]}]({up}components/{kind}/{name}.md)" if match[1] in ids else match[0]

    def line(match: re.Match[str]) -> str:
        return match[0] if match[0].startswith("#") else re.sub(_LINK_OR_NAME, link, match[0])

    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if place % 2 else re.sub(r"^.*$", line, part, flags=re.M) for place, part in enumerate(parts))


def component_pages(inventory: Inventory) -> dict[str, str]:
    """Every component's page, and the list of all."""
    in_order = [item for kind in inventory.kinds for item in inventory.of_kind(kind.name)]
    pages = {component_path(item.component): component_page(inventory, item) for item in in_order}
    return {"components/index.md": _list(inventory), **pages}


def _list(inventory: Inventory) -> str:
    parts = [
        "# Components",
        f"All {len(inventory.components)} components of this repository's plugins, by kind. "
        "`scorefold plugins list` prints those that are installed.",
    ]
    for kind in inventory.kinds:
        rows = [
            (f"[{code(item.id)}]({item.component.kind}/{item.component.name}.md)", prose(item.component.summary))
            for item in inventory.of_kind(kind.name)
        ]
        if rows:
            parts += [f"## {kind.name}", f"{kind.summary}: [the kind](../kinds/{kind.name}.md).", table(("", ""), rows)]
    return page(*parts)


def component_page(inventory: Inventory, item: Registered) -> str:
    """What a component is, takes and does, how it is set, an example, what to cite and what it is known to fail."""
    component = item.component
    first, *others = (fence(text, "yaml") for text in example_files(inventory, item))
    return page(
        f"# {component.kind}:{component.name}",
        f"{prose(component.summary)}.",
        *_guide(inventory, item.id),
        "## In a run file",
        first,
        *([folded("Further run files", "\n\n".join(others))] if others else []),
        "## Settings",
        field_table(config_model(item)),
        *_ports(component),
        *_verbs(inventory, item),
        *_citation(item),
        "## Facts",
        table(("", ""), _facts(inventory, item)),
        *_known_failures(component),
        "## Python",
        python(component.target.replace(":", "."), index=False),
    )


def _guide(inventory: Inventory, name: str) -> list[str]:
    """A link to each page of the guide that begins with a component."""
    found = []
    listed = [page for group in NAVIGATION.values() for page in group]
    files = sorted((inventory.root / "docs").glob("*.md"))
    # Pages of the list at the side stand before those below them.
    for file in sorted(files, key=lambda file: file.stem not in listed):
        title, _, first = file.read_text(encoding="utf-8").partition("\n## ")[0].partition("\n")
        if f"`{name}`" in first:
            found.append(f"[{title.removeprefix('# ')}](../../{file.name})")
    return [f"In the guide: {', '.join(found)}."] if found else []


def _facts(inventory: Inventory, item: Registered) -> list[tuple[str, str]]:
    component = item.component
    capabilities = ", ".join(f"[{code(name)}](../../capabilities.md#{name.lower()})" for name in component.provides)
    facts = [
        ("kind", f"[{component.kind}](../../kinds/{component.kind}.md)"),
        ("plugin", f"{code(item.plugin)} of {code(item.distribution)}"),
        ("revision", str(component.revision)),
        ("aliases", ", ".join(code(name) for name in component.aliases)),
        ("provides", capabilities),
        ("figures", code(component.figures) if component.figures else _drawn_by_verbs(inventory, item)),
    ]
    return [(name, text) for name, text in facts if text]


def _drawn_by_verbs(inventory: Inventory, item: Registered) -> str:
    drawing = dict.fromkeys(verb.figures for verb in inventory.verbs(item) if verb.figures)
    return ", ".join(code(target) for target in drawing)


def _ports(component: Component) -> list[str]:
    if not component.requires:
        return []
    rows = [(code(port.name), port_words(port, "../../"), _needed(port, component)) for port in component.requires]
    return ["## Ports", "What it is made from, besides its settings.", table(("port", "takes", ""), rows)]


def _needed(port: Port, component: Component) -> str:
    if port.default is not None:
        return f"{code(port.default['use'])} where nothing is plugged in"
    return "optional" if port.optional and port.when not in component.provides else "required"


_GIVEN = {verb.gives for verb in scorefold_verbs()} - {kind.name for kind in CORE_KINDS}
"""What verbs give that is no kind of component, such as estimates."""


def port_words(port: Port, up: str) -> str:
    """What may be plugged into a port, with links; ``up`` leads to the top of the site."""
    kinds = " or ".join(
        f"what a stage gives as {code(kind)}" if kind in _GIVEN else f"[{kind}]({up}kinds/{kind}.md)"
        for kind in port.kinds
    )
    needs = " and ".join(f"[{code(name)}]({up}capabilities.md#{name.lower()})" for name in port.needs)
    several = "several: " if port.many else ""
    return f"{several}{kinds}{f' that provides {needs}' if needs else ''}"


def _verbs(inventory: Inventory, item: Registered) -> list[str]:
    kind = item.component.kind
    verbs = inventory.verbs(item)
    if not verbs:
        return ["## Verbs", "None: it is named inside the settings of another component."]
    links = [f"[{code(verb.name)}](../../kinds/{kind}.md#{verb.name})" for verb in verbs]
    return ["## Verbs", f"{', '.join(links)}; the first is what a stage does without `do:`."]


def _citation(item: Registered) -> list[str]:
    if item.component.cite is None:
        return []
    parts = ["## Citation"]
    for key, entry in citation(item):
        parts += [reference(entry), folded(f"BibTeX: {key}", fence(entry, "bibtex"))]
    return parts


def _known_failures(component: Component) -> list[str]:
    if not component.known_failures:
        return []
    rows = [(code(check), prose(reason)) for check, reason in component.known_failures.items()]
    return [
        "## Known failures",
        "Checks of the [conformance kit](../../testing.md) that the method breaks by its nature.",
        table(("check", "why"), rows),
    ]
