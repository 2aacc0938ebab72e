"""The key of a stage: equal keys give equal results, so a finished stage may be reused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scorefold.artefacts import json_text
from scorefold.errors import PluginError

FORMAT = 1
"""The layout of a stage folder; raise it when an older one can no longer be read."""


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


def packages_of(targets: Iterable[str]) -> list[str]:
    """The top-level packages of ``module:Name`` targets, with core's, sorted."""
    return sorted({"scorefold", *(target.partition(":")[0].partition(".")[0] for target in targets)})


def stage_key(facts: Mapping[str, Any], targets: Iterable[str]) -> str:
    """The key of a stage, 40 hexadecimal digits of SHA-256.

    ``facts`` is what determines the result (component, configuration, verb, options, split, keys of inputs,
    fingerprints of data, seed, device, dtype, threads, versions); ``targets`` name the code that runs.
    """
    code = {package: code_digest(package) for package in packages_of(targets)}
    text = json.dumps(json.loads(json_text({"format": FORMAT, "code": code, **facts})), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]
