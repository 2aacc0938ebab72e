"""The field ``environments`` of a run file: the locks that environments of plugins must have. Nothing is installed."""

from __future__ import annotations

import re

from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.manifest import LOCK_DIGEST
from scorefold_registry.components.messages import quoted
from scorefold_registry.plugins.records import environments_of
from scorefold_registry.runfile.reader import RunFile, near, yaml_type
from scorefold_registry.runfile.yaml_reader import DataPath

_EXAMPLE = "environments: {old-sklearn: {lock: 'sha256:...'}}"


def check_environments(catalogue: Catalogue, run: RunFile) -> None:
    """Compares the locks that a run file demands with those that are here; problems are added to the file's."""
    demands = run.source.data.get("environments")
    if demands is None:
        return
    if not isinstance(demands, dict):
        message = f"environments: {yaml_type(demands)}; expected locks by the names of environments"
        run.problems.append(run.source.error(message, ("environments",), hint=f"for example {_EXAMPLE}"))
        return
    here = {each.spec.name: each for each in environments_of(catalogue.plugins)}
    for name, demand in demands.items():
        path: DataPath = ("environments", name)
        lock = demand.get("lock") if isinstance(demand, dict) and demand.keys() == {"lock"} else None
        if not isinstance(lock, str) or re.fullmatch(LOCK_DIGEST, lock) is None:
            message = f"the environment {quoted(name)} is {quoted(demand)}; expected the digest of its lock"
            hint = f"for example {_EXAMPLE}; a run file can't name packages"
        elif name not in here:
            message = f"the run file demands the environment {quoted(name)}, which scorefold.toml does not have"
            hint = f"{near(name, list(here))}; add it: {_take_over(name)}"
        elif not here[name].description:
            message, hint = f"the environment {quoted(name)} is not installed here", here[name].spec.install
        elif here[name].lock_digest != lock:
            message = (
                f"the environment {quoted(name)} has the lock {here[name].lock_digest}; the run file demands {lock}"
            )
            hint = f"remove its table from {here[name].spec.file}, and take over the lock: {_take_over(name)}"
        else:
            continue
        run.problems.append(run.source.error(message, path, hint=hint))


def _take_over(name: str) -> str:
    return f"scorefold plugins add --isolated --name {name} --lock RUN/environments/{name}.txt"
