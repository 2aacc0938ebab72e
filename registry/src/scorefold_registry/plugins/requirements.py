"""Requirements of a plugin's distribution, compared with the installed versions. They are read from its metadata,
without running its code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import importlib_metadata

from scorefold_registry.plugins.names import normalise

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OURS = ("scorefold-core", "scorefold-toolkit")
"""Packages that a plugin is written for: with another version it may not even be imported."""

_NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(.*)", re.S)


@dataclass(frozen=True)
class Unmet:
    """A requirement that the installed distributions do not meet, and the command that fixes it."""

    what: str
    fix: str
    wanted: str = field(default="", compare=False)


def versions_of_ours() -> dict[str, str]:
    """The installed versions of core and the toolkit; one that is missing is left out."""
    found = {}
    for name in OURS:
        with suppress(importlib_metadata.PackageNotFoundError):
            found[name] = importlib_metadata.version(name)
    return found


def unmet_contract(distribution: str, requires: Iterable[str], ours: Mapping[str, str]) -> Unmet | None:
    """Unmet requirement of a distribution on Scorefold's core or toolkit; None if both fit.

    ``ours`` are ``versions_of_ours``. Costs nothing where no version is required, or just the one that is installed:
    ``packaging`` is imported for others.
    """
    for text in requires:
        name, rest = _split(text)
        if name in OURS and rest and not _names(rest, ours.get(name)) and (found := _unmet(distribution, text)):
            return found
    return None


def _names(rest: str, version: str | None) -> bool:
    """True if a requirement such as ``~=1.2`` names this very version, as those among our own do."""
    named = re.fullmatch(r"(?:~=|>=|==)\s*([\d.]+)", rest)
    return named is not None and named[1] == version


def unmet(distribution: str, requires: Iterable[str]) -> Iterator[Unmet]:
    """Every requirement of a distribution that is missing or of another version, but for what ``unmet_contract``
    judges."""
    for text in requires:
        name, rest = _split(text)
        if not (name in OURS and rest) and (found := _unmet(distribution, text)):
            yield found


def _split(text: str) -> tuple[str, str]:
    """The name of a requirement, as ``normalise`` has it, and what follows it."""
    match = _NAME.match(text)
    return (normalise(match[1]), match[2].strip()) if match else ("", text)


def _unmet(distribution: str, text: str) -> Unmet | None:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import InvalidVersion

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return Unmet(f"its metadata requires {text!r}, which can't be read", f"pip install --upgrade {distribution}")
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return None
    requirement.marker = None
    wanted = str(requirement)
    try:
        installed = importlib_metadata.version(requirement.name)
    except importlib_metadata.PackageNotFoundError:
        return Unmet(f"it requires {wanted}, which is not installed", f'pip install "{wanted}"', wanted)
    try:
        if requirement.specifier.contains(installed, prereleases=True):
            return None
    except InvalidVersion:
        # Of a version that follows no order nothing can be said.
        return None
    what = f"it requires {wanted}; installed is {requirement.name} {installed}"
    if _too_new(requirement, installed):
        return Unmet(what, f"pip install --upgrade {distribution}", wanted)
    return Unmet(what, f'pip install "{wanted}"', wanted)


def contradicting(wanted: str, requires: Iterable[str]) -> str | None:
    """The requirement among ``requires`` that no version meets together with ``wanted``; None where there is none.

    Judged at the versions that the two name and just after them, which decides all bounds.

    >>> contradicting("numpy<2", ["scipy", "numpy>=2.1"]), contradicting("numpy<2", ["numpy>=1.26.4"])
    ('numpy>=2.1', None)
    """
    from packaging.requirements import Requirement

    name = _split(wanted)[0]
    for text in requires if name else ():
        if _split(text)[0] != name:
            continue
        other = Requirement(text)
        if other.marker is not None and not other.marker.evaluate({"extra": ""}):
            continue
        first, second = Requirement(wanted).specifier, other.specifier
        named = [clause.version.removesuffix(".*") for clause in (*first, *second)]
        tried = ["0", *named, *(f"{version}.1" for version in named)]
        if not any(first.contains(one, prereleases=True) and second.contains(one, prereleases=True) for one in tried):
            return text
    return None


def _too_new(requirement: Requirement, installed: str) -> bool:
    """True if what is installed is later than all that is asked for, so that the plugin is what has to move."""
    from packaging.version import Version

    have = Version(installed)
    failed = [clause for clause in requirement.specifier if not clause.contains(installed, prereleases=True)]
    return all(
        clause.operator in ("<", "<=")
        or (clause.operator in ("==", "~=") and Version(clause.version.removesuffix(".*")) < have)
        for clause in failed
    )
