"""Loading plugins: their requirements of ours are checked first, and what a component names is imported on demand.

Requirements of a plugin's distribution, compared with the installed versions. They are read from its metadata,
without running its code.
"""

from __future__ import annotations

import dis
import hashlib
import re
import signal
import traceback
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import importlib_metadata

from scorefold.errors import PluginError, printable
from scorefold.plugin import ENTRY_POINT_GROUP, Claim
from scorefold_registry.plugins.names import did_you_mean, normalise, sentences
from scorefold_registry.plugins.process_guard import isolated
from scorefold_registry.plugins.records import Command, PluginRecord, Registered

if TYPE_CHECKING:
    import pluggy
    from packaging.requirements import Requirement


def load_target(registered: Registered, target: str) -> Any:
    """The object that ``module:Name`` of a component names.

    Raises ``PluginError`` naming plugin, distribution, version and the plugin's own line where the import fails; the
    component is broken from then on, and the plugin's others stay as they are.
    """
    try:
        return load_named(registered.record, registered.id, target)
    except PluginError as error:
        registered.state = "broken"
        registered.record.warn(str(error))
        raise


def load_command(record: PluginRecord, command: Command) -> Callable[[list[str]], int]:
    """The function of a command that a plugin adds. Raises ``PluginError`` as ``load_target`` does."""
    function: Callable[[list[str]], int] = load_named(record, f"the command {command.name!r}", command.target)
    return function


def load_claim(record: PluginRecord, claim: Claim) -> Callable[..., Any]:
    """The function that measures a claim. Raises ``PluginError`` as ``load_target`` does."""
    function: Callable[..., Any] = load_named(record, f"the claim {claim.name!r}", claim.target)
    return function


def load_settings(record: PluginRecord, target: str) -> Any:
    """The model of a plugin's settings. Raises ``PluginError`` as ``load_target`` does."""
    return load_named(record, f"the settings of {record.name!r}", target)


def load_named(record: PluginRecord, what: str, target: str) -> Any:
    """Object with the name ``module:Name``, needed by ``what``. Raises ``PluginError`` as ``load_target`` does."""
    if record.environment is not None:
        raise PluginError(
            f"{what} can't be imported here: {record.label} has an environment of its own",
            hint=f"install {record.brought_by} in this environment too, where its code is needed here",
        )
    module_name, _, attribute = target.partition(":")
    try:
        with isolated(record.warn):
            module = import_module(module_name)
    except BaseException as error:
        # A module may raise anything at all while it is imported, SystemExit included.
        packages = {record.package, module_name.partition(".")[0]}
        if isinstance(error, KeyboardInterrupt) and not raised_by(error, packages):
            raise
        frame = own_frame(error, packages)
        raise PluginError(
            f"{what} can't be used: importing {target} failed: {describe(error)} ({record.label})",
            hint=sentences(f"at {frame}" if frame else "", import_fix(error, record)),
        ) from error
    if not hasattr(module, attribute):
        raise PluginError(
            f"{what} can't be used: {module_name} has no {attribute!r} ({record.label})",
            hint=sentences(did_you_mean(attribute, vars(module)), record.remedy),
        )
    return getattr(module, attribute)


LONGEST = 1000


def describe(error: BaseException) -> str:
    """An exception in one line of at most 1,000 characters, whatever it makes of itself as text."""
    try:
        text = printable(str(error).strip().partition("\n")[0][:LONGEST])
    except BaseException:  # whatever code a plugin gave its exception
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def raised_by(error: BaseException, packages: Container[str]) -> bool:
    """True if code of one of these packages raised an error by ``raise``, as no Ctrl-C does.

    What it raises in answer to Ctrl-C, or in its handler of the signal, is still the user's.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    handler = getattr(signal.getsignal(signal.SIGINT), "__code__", None)
    answers = any(isinstance(other, type(error)) for other in (error.__context__, error.__cause__))
    if not frames or answers or any(frame.f_code is handler for frame, _ in frames):
        return False
    frame, place = frames[-1][0], error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    assert place is not None
    raises = dis.opname[frame.f_code.co_code[place.tb_lasti]] == "RAISE_VARARGS"
    return raises and str(frame.f_globals.get("__name__", "")).partition(".")[0] in packages


def owners_of(
    manager: pluggy.PluginManager, plugins: Sequence[PluginRecord], hook: str, error: BaseException | None = None
) -> list[PluginRecord]:
    """The plugins that implement a hook, in the order in which they are called; those through whose implementation an
    ``error`` passed, where there are any."""
    found = list(reversed(getattr(manager.hook, hook).get_hookimpls()))
    passed = [] if error is None else [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    found = [each for each in found if getattr(each.function, "__code__", None) in passed] or found
    records = {record.key: record for record in plugins}
    return [records[each.plugin_name] for each in found if each.plugin_name in records]


def own_frame(error: BaseException, packages: set[str]) -> str | None:
    """The frame nearest to the failure that is in one of the packages, as ``file:line in function``; None without one.

    A syntax error has no frame of its own, so its place is given.
    """
    if isinstance(error, SyntaxError) and error.filename and not isinstance(error, ImportError):
        return f"{error.filename}:{error.lineno}"
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in packages:
            found = f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
    return found


def import_fix(error: BaseException, record: PluginRecord) -> str:
    """The line that fixes a failed import."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        missing = error.name.partition(".")[0]
        if missing == record.package and not record.local:
            if brings(record.distribution, error.name):
                return f"its installation is not complete: pip install --force-reinstall {record.distribution}"
            if f"{record.value}.".startswith(f"{error.name}."):
                return entry_point_fix(record)
        if missing != record.package and not _is_there(missing):
            command = "install what brings it" if record.local else f"pip install --upgrade {record.distribution}"
            return f"{missing} is not installed: {command}"
    return record.remedy


def brings(distribution: str, module: str) -> bool:
    """True if the installer noted a module, or a file of its package, among the files of a distribution."""
    path = module.replace(".", "/")
    try:
        found = importlib_metadata.distribution(distribution)
        # ``files`` leaves out what is gone, which the record still names.
        files = {str(file) for file in found.files or ()}
        files |= {line.partition(",")[0] for line in (found.read_text("RECORD") or "").splitlines()}
    except Exception:  # metadata that can't be read prove nothing
        return False
    return not files.isdisjoint((f"{path}.py", f"{path}/__init__.py"))


def entry_point_fix(record: PluginRecord) -> str:
    """The line of ``pyproject.toml`` that names the module with the hooks: ``PACKAGE.plugin`` where that exists."""
    if record.local:
        return record.remedy
    module = f"{record.package}.MODULE"
    for package in (record.package, normalise(record.distribution).replace("-", "_")):
        spec = find_spec(package) if _is_there(package) else None
        folders = [] if spec is None else spec.submodule_search_locations or []
        if any(Path(folder, "plugin.py").is_file() for folder in folders):
            module = f"{package}.plugin"
            break
    line = f'[project.entry-points."{ENTRY_POINT_GROUP}"] {record.name} = "{module}"'
    return f"correct in pyproject.toml: {line}, then install the package again"


def _is_there(package: str) -> bool:
    """True if a top-level package can be found at all, so that only a part of it is missing."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


@cache
def code_digest(package: str) -> str:
    """The SHA-256 of the Python source of a top-level package or module, as it stands on disk.

    Raises ``PluginError`` for a package that has no source to read.
    """
    spec = find_spec(package)
    digest = hashlib.sha256()
    if spec is not None and spec.submodule_search_locations:
        for root in map(Path, spec.submodule_search_locations):
            for file in sorted(root.rglob("*.py")):
                digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    elif spec is not None and spec.origin is not None and Path(spec.origin).is_file():
        digest.update(Path(spec.origin).read_bytes())
    else:
        raise PluginError(f"the code of {package} can't be found on disk, so its results can't be kept")
    return digest.hexdigest()


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


def unmet(
    distribution: str, requires: Iterable[str], version_of: Callable[[str], str] = importlib_metadata.version
) -> Iterator[Unmet]:
    """Every requirement of a distribution that is missing or of another version, but for what ``unmet_contract``
    judges.

    ``version_of`` gives the installed version of a distribution, as ``importlib.metadata.version`` does.
    """
    for text in requires:
        name, rest = _split(text)
        if not (name in OURS and rest) and (found := _unmet(distribution, text, version_of)):
            yield found


def _split(text: str) -> tuple[str, str]:
    """The name of a requirement, as ``normalise`` has it, and what follows it."""
    match = _NAME.match(text)
    return (normalise(match[1]), match[2].strip()) if match else ("", text)


def _unmet(distribution: str, text: str, version_of: Callable[[str], str] = importlib_metadata.version) -> Unmet | None:
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
        installed = version_of(requirement.name)
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
