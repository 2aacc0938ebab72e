"""The key of a stage: equal keys give equal results, so a finished stage may be reused."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import importlib_metadata

from scorefold.artefacts import digest_file, digest_folder, json_text
from scorefold_registry.components.catalogue import CORE
from scorefold_registry.components.manifest import uses_in
from scorefold_registry.plugins.loading import code_digest
from scorefold_registry.plugins.names import normalise
from scorefold_registry.plugins.records import PluginRecord, Registered
from scorefold_registry.runfile.plan import PlannedStage

if TYPE_CHECKING:
    from scorefold_registry.host import Host

FORMAT = 3
"""The layout of a stage folder; raise it when an older one can no longer be read."""


@cache
def libraries(distribution: str) -> dict[str, str]:
    """The libraries that a distribution declares as its requirements, with the versions that are installed.

    Libraries of an extra that is not installed are left out. A distribution that is not installed has none.
    """
    found: dict[str, str] = {}
    try:
        required = importlib_metadata.requires(distribution) or []
    except importlib_metadata.PackageNotFoundError:
        return found
    for requirement in required:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            found[name] = importlib_metadata.version(name)
        except importlib_metadata.PackageNotFoundError:
            continue
    return found


BASE = ("scorefold", "scorefold_toolkit")
"""The packages that any stage may run code of; the second is missing where no plugin requires it."""


@cache
def own_packages(distribution: str) -> frozenset[str]:
    """The packages of Scorefold that a distribution is written against, by its requirements and theirs."""
    found, left = set[str](), [distribution]
    while left:
        names = {normalise(name) for name in libraries(left.pop())}
        new = {name for name in names if name.startswith("scorefold-") and name != "scorefold-core"} - found
        found |= new
        left += new
    return frozenset(name.replace("-", "_") for name in found)


def files_digest(path: Path) -> str | None:
    """The digest of a file or folder that a configuration names; None where there is nothing yet."""
    if path.is_dir():
        return digest_folder(path)
    return digest_file(path) if path.is_file() else None


def packages_of(targets: Iterable[str], distributions: Iterable[str] = ()) -> list[str]:
    """The packages whose code a stage may run, sorted.

    They are the packages of ``module:Name`` targets, our core and toolkit, and the packages of Scorefold that the
    distributions require.
    """
    ours = {*BASE}.union(*map(own_packages, distributions))
    found = {package for package in ours if find_spec(package) is not None}
    return sorted({*found, *(target.partition(":")[0].partition(".")[0] for target in targets)})


def stage_key(facts: Mapping[str, Any], targets: Iterable[str]) -> str:
    """The key of a stage, 40 hexadecimal digits of SHA-256.

    ``facts`` is what determines the result (``distributions`` with their versions, component, configuration, verb,
    options, split, keys of inputs, fingerprints of data, seed, device, dtype, threads if these count); ``targets`` name
    the code that runs.
    """
    code = {package: code_digest(package) for package in packages_of(targets, facts["distributions"])}
    text = json.dumps(json.loads(json_text({"format": FORMAT, "code": code, **facts})), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def key_of(
    host: Host,
    planned: PlannedStage,
    keys: Callable[[str], str],
    fingerprints: list[str | None],
    surroundings: Mapping[str, Any],
) -> str:
    """The key of a stage. ``keys`` gives the key of an earlier stage; ``surroundings`` also determine the result."""
    if planned.artefact is not None:
        parts: Sequence[Registered] = planned.artefact.components
        isolated = [part for part in parts if part.record.environment is not None]
        parts = [part for part in parts if part.record.environment is None]
        facts = {"stage": planned.name, "artefact": planned.artefact.digest, **_code_of(parts)}
        return stage_key(facts | _environments_of(isolated), [part.component.target for part in parts])
    resolved = planned.as_json(host.catalogue, lambda name: {"key": keys(name)})
    resolved = _without_folders(resolved, planned.paths)
    parts = [planned.registered, *(part.registered for part in planned.parts())]
    # Components are named in options, and in fields of configurations that are not marked as inline, too.
    parts += [host.catalogue.resolve(use) for use in uses_in(resolved)]
    isolated = [part for part in parts if part.record.environment is not None]
    parts = [part for part in parts if part.record.environment is None]
    targets = [planned.verb.target, *(part.component.target for part in parts)]
    if planned.verb == host.catalogue.kind(planned.registered.component.kind).verb() and all(
        part.component.any_threads for part in [*parts, *isolated]
    ):
        surroundings = {name: value for name, value in surroundings.items() if name != "threads"}
    facts = {
        "component": planned.registered.component.versioned_id,
        **_code_of(parts, host.catalogue.verb_owner(planned.registered.component.kind, planned.verb.name)),
        "stage": resolved,
        "data": fingerprints,
        **_environments_of(isolated),
        **surroundings,
    }
    return stage_key(facts, targets)


def _environments_of(parts: Sequence[Registered]) -> dict[str, Any]:
    """Facts that decide the results of components in environments of their own, if there are any."""
    facts = {part.qualified: part.record.environment.key_facts(part) for part in parts}
    return {"environments": facts} if facts else {}


def _without_folders(value: Any, paths: Container[str]) -> Any:
    """A resolved stage with names of files in place of their paths: wherever they are, it is the same stage."""
    if isinstance(value, Mapping):
        return {key: _without_folders(item, paths) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item, paths) for item in value]
    return Path(value).name if isinstance(value, str) and value in paths else value


def _code_of(parts: Sequence[Registered], verb_owner: PluginRecord | None = None) -> dict[str, Any]:
    """The distributions of components and of the plugin that added the verb, and the libraries that they build on."""
    distributions = {part.distribution: part.version for part in parts}
    if verb_owner is not None:
        distributions[verb_owner.distribution] = verb_owner.version
    return {
        "distributions": distributions,
        "libraries": [libraries(name) for name in sorted({CORE, *distributions})],
    }
