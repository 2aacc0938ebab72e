"""Names of components, and help for a name that nothing has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from scorefold.errors import PluginError

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


def join_or(words: Iterable[str]) -> str:
    """``'a', 'b' or 'c'``."""
    quoted = [repr(word) for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def sentences(*parts: str) -> str:
    """The parts that say something, joined by semicolons (a question ends by itself): the text of a hint."""
    return "; ".join(part for part in parts if part).replace("?; ", "? ")
