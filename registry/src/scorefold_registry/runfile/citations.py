"""BibTeX for exactly the methods that a run file uses, read from the distributions of their plugins."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.resources import files
from typing import Any

from scorefold.errors import PluginError
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.parts import Part, Plug
from scorefold_registry.plugins.records import Registered
from scorefold_registry.runfile.plan import Plan


@dataclass(frozen=True)
class Entry:
    """One BibTeX entry, as its plugin wrote it, with the components that it is cited for."""

    key: str
    text: str
    components: tuple[str, ...]


@dataclass(frozen=True)
class Citations:
    """The entries in the order of the stages; ``without`` are components that name none, ``notes`` for a person."""

    entries: tuple[Entry, ...]
    without: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def bibtex(self) -> str:
        """The entries as a file; before each, a line outside it that BibTeX passes over."""
        return "\n\n".join(f"% {', '.join(entry.components)}\n{entry.text}" for entry in self.entries)

    def as_json(self) -> dict[str, Any]:
        """Output of ``scorefold cite --json``."""
        entries = [
            {"key": entry.key, "components": list(entry.components), "bibtex": entry.text} for entry in self.entries
        ]
        return {"entries": entries, "without": list(self.without)}


def citations(catalogue: Catalogue, plan: Plan) -> Citations:
    """Citations of a plan. Two texts under one key can't both stand in a file: the first stays, with a note.

    Raises ``PluginError`` for a component whose citation is missing or is no BibTeX.
    """
    texts: dict[str, str] = {}
    cited: dict[str, list[str]] = {}
    without: list[str] = []
    notes: list[str] = []
    for item in methods(catalogue, plan):
        if item.component.cite is None:
            without.append(item.id)
            continue
        for key, text in citation(item):
            if " ".join(texts.setdefault(key, text).split()) != " ".join(text.split()):
                notes.append(
                    f"{item.id} and {cited[key][0]} write the entry {key!r} differently; the latter's is given"
                )
            cited.setdefault(key, []).append(item.id)
    entries = tuple(Entry(key, text, tuple(cited[key])) for key, text in texts.items())
    return Citations(entries, tuple(without), tuple(notes))


def methods(catalogue: Catalogue, plan: Plan) -> list[Registered]:
    """Every component that a plan uses, once, in the order of the stages: inline ones and defaults of ports too."""
    found: list[Registered] = []
    for stage in plan.stages:
        inputs = stage.inputs
        if stage.artefact is not None:
            found += stage.artefact.components
        elif stage.part is not None:
            found += _methods_in(replace(stage.part, inputs=inputs))
        else:
            found += [stage.registered, *_methods_in(list(inputs.values()))]
        found += _methods_in(list(stage.defaults.values()))
    return list(dict.fromkeys(found))


def _methods_in(plug: Plug) -> Iterator[Registered]:
    """The components of a plug: of each part itself, those in its configuration, its inputs, and its defaults."""
    if isinstance(plug, list):
        for item in plug:
            yield from _methods_in(item)
    elif isinstance(plug, Part):
        yield plug.registered
        yield from _methods_in([*plug.inline.values(), *plug.inputs.values(), *plug.defaults.values()])


def _read(item: Registered, cite: str) -> str:
    """A citation file, which stands beside the plugin's module."""
    record = item.record
    try:
        spec = import_module(record.value.partition(":")[0]).__spec__
        package = (spec.parent if spec is not None else None) or record.package
        return files(package).joinpath(cite).read_text(encoding="utf-8")
    except (OSError, ImportError, ValueError, TypeError) as error:
        raise PluginError(
            f"the citation of {item.id}, {cite}, can't be read ({record.label})",
            hint=f"it belongs next to {record.value}, in the wheel too; {record.remedy}",
        ) from error


_HEAD = re.compile(r"@\s*(?!comment\b|preamble\b|string\b)\w+\s*\{\s*([^\s,{}]+)\s*,", re.IGNORECASE)


def citation(item: Registered) -> Iterator[tuple[str, str]]:
    """A component's citation as (key, entry); none where it names no file.

    Raises ``PluginError`` where the file can't be read, holds no entry, or holds one that does not end.
    """
    if item.component.cite is None:
        return
    text = _read(item, item.component.cite)
    start, found = 0, 0
    while (head := _HEAD.search(text, start)) is not None:
        start = _end(text, head.start())
        if start == 0:
            raise PluginError(
                f"the entry {head[1]!r} in the citation of {item.id} does not end ({item.record.label})",
                hint="its braces do not match",
            )
        found += 1
        yield head[1], text[head.start() : start]
    if not found:
        raise PluginError(f"the citation of {item.id} has no BibTeX entry ({item.record.label})")


def _end(text: str, start: int) -> int:
    """Position at which the braces after ``start`` close; 0 if they do not."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0 and text[place] == "}":
            return place + 1
    return 0
