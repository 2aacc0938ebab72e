"""Names of components, help for a name that nothing has, and the names that Scorefold's own plugins offer.

``known.json`` is written from their declarations, by ``make known``; a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from scorefold.errors import PluginError
from scorefold_registry.plugins.records import PluginRecord

_REVISION = re.compile("[0-9]{1,9}")


@dataclass(frozen=True)
class Reference:
    """A component as a person names it: ``[distribution/][kind:]name[@revision]``."""

    name: str
    kind: str | None = None
    revision: int | None = None
    distribution: str | None = None

    @property
    def id(self) -> str:
        return f"{self.kind}:{self.name}" if self.kind else self.name


def parse_reference(text: str) -> Reference:
    """The parts of a component's name. Raises ``PluginError`` for text that can't be one."""
    if not isinstance(text, str):
        raise PluginError(
            f"a component is named by text such as score:denoising; this is {text!r} ({type(text).__name__})"
        )
    distribution, slash, rest = text.strip().rpartition("/")
    rest, at, revision = rest.partition("@")
    kind, colon, name = rest.rpartition(":")
    if not name or (slash and not distribution) or (colon and not kind) or (at and not _REVISION.fullmatch(revision)):
        raise PluginError(
            f"{text!r} is not the name of a component",
            hint="write kind:name, kind:name@revision or distribution/kind:name, for example score:denoising",
        )
    return Reference(
        name=name,
        kind=kind if colon else None,
        revision=int(revision) if at else None,
        distribution=normalise(distribution) if slash else None,
    )


def normalise(distribution: str) -> str:
    """A distribution's name as packaging compares it: lower case, runs of ``-``, ``_`` and ``.`` as one ``-``."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def near_misses(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known words most like ``word``, best first."""
    from difflib import get_close_matches

    return get_close_matches(word, list(dict.fromkeys(known)), n=count, cutoff=0.6)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x' or 'y'?``, or nothing where no known word is like it."""
    found = near_misses(word, known)
    return f"did you mean {join_or(found)}?" if found else ""


def with_article(word: str) -> str:
    """A name of code with its article, chosen by the first letter.

    >>> with_article("estimator"), with_article("score")
    ('an estimator', 'a score')
    """
    return f"{'an' if word[:1].lower() in tuple('aeio') else 'a'} {word}"


def join_or(words: Iterable[str]) -> str:
    """``'a', 'b' or 'c'``."""
    quoted = [repr(word) for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def sentences(*parts: str) -> str:
    """The parts that say something, joined by semicolons (a question ends by itself): the text of a hint."""
    return "; ".join(part for part in parts if part).replace("?; ", "? ")


@dataclass(frozen=True)
class KnownPlugin:
    """A plugin that may or may not be installed; ``offers`` are its components as ``kind:name``, aliases too, and
    ``verbs``, ``commands`` and ``models`` the names of those it has."""

    name: str
    distribution: str
    summary: str
    offers: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    @property
    def install(self) -> str:
        """The command that installs it, from an index that has it or from a checkout."""
        folder = "verbs" if self.name == "verbs" else f"plugins/{self.name}"
        return f"pip install {self.distribution}, or in a checkout of Scorefold: pip install ./{folder}"

    def offers_what(self, reference: Reference) -> bool:
        """True if one of its components has the name."""
        if reference.distribution not in (None, self.distribution):
            return False
        return reference.id in (self.offers if reference.kind else {offer.partition(":")[2] for offer in self.offers})


_LISTS = ("offers", "verbs", "commands", "models")


@cache
def known_plugins() -> tuple[KnownPlugin, ...]:
    """The plugins of the repository, as ``known.json`` lists them."""
    import json  # most commands never need the list

    entries: list[dict[str, Any]] = json.loads((Path(__file__).parent / "known.json").read_text(encoding="utf-8"))
    lists: list[dict[str, Any]] = [{name: tuple(entry[name]) for name in _LISTS} for entry in entries]
    return tuple(KnownPlugin(**{**entry, **own}) for entry, own in zip(entries, lists, strict=True))


def not_installed(records: Iterable[PluginRecord]) -> tuple[KnownPlugin, ...]:
    """The known plugins whose distribution is not installed: ``records`` has no plugin of it."""
    found = {normalise(record.distribution) for record in records}
    return tuple(plugin for plugin in known_plugins() if plugin.distribution not in found)


def missing_plugin(name: str, records: Iterable[PluginRecord]) -> PluginError | None:
    """The error for a plugin or a distribution that is known and not installed; None for any other name."""
    for plugin in not_installed(records):
        if name == plugin.name or normalise(name) == plugin.distribution:
            message = f"no plugin {name!r} is installed; there is one: {plugin.summary}"
            return PluginError(message, hint=plugin.install)
    return None
