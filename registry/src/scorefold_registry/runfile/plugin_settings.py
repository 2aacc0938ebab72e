"""Fields of a run file about plugins: ``plugins``, checked by each plugin's own model, and ``environments``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from scorefold.config import Config
from scorefold.errors import PluginError, ScorefoldError
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.manifest import LOCK_DIGEST
from scorefold_registry.components.messages import Problem, config_problems, quoted, show
from scorefold_registry.components.paths import anchored
from scorefold_registry.plugins.loading import describe, load_settings
from scorefold_registry.plugins.names import missing_plugin
from scorefold_registry.plugins.records import PluginRecord, environments_of
from scorefold_registry.runfile.reader import KEY_CODES, RunFile, near, yaml_type
from scorefold_registry.runfile.stage_parts import from_file
from scorefold_registry.runfile.yaml_reader import DataPath


def settings_model(record: PluginRecord) -> type[Config]:
    """The model of a plugin's settings. Raises ``PluginError`` where there is none to be had."""
    if record.settings is None:
        raise PluginError(f"the {record.label} has no settings")
    model = load_settings(record, record.settings)
    if not (isinstance(model, type) and issubclass(model, Config)):
        raise PluginError(
            f"the settings of {record.name!r}, {record.settings}, are no scorefold.config.Config ({record.label})"
        )
    return model


def check_settings(record: PluginRecord, raw: Any) -> tuple[Config | None, list[Problem]]:
    """A plugin's settings from what a person wrote, and everything that is wrong with them."""
    try:
        model = settings_model(record)
    except PluginError as error:
        return None, [Problem((), error.message, error.hint, "plugin")]
    if not isinstance(raw, Mapping):
        return None, [Problem((), f"the settings of {record.name!r} are {show(raw)}; expected a mapping", None, "type")]
    try:
        return model.model_validate(raw), []
    except ValidationError as error:
        return None, config_problems(model, error, raw)
    except ScorefoldError as error:
        return None, [Problem((), error.message, error.hint, error.code)]
    except Exception as error:
        message = f"checking the settings of {record.name!r} failed: {describe(error)} ({record.label})"
        return None, [Problem((), message, None, "plugin")]


def plan_settings(catalogue: Catalogue, run: RunFile) -> dict[str, Config]:
    """The settings of each plugin that a run file names. What is wrong is added to the file's problems."""
    found: dict[str, Config] = {}
    for name, raw in run.plugins.items():
        path: DataPath = ("plugins", name)
        try:
            record = _configurable(catalogue, name)
        except PluginError as error:
            _report(run, Problem((), error.message, error.hint, "unknown-field"), path)
            continue
        written = {} if raw is None else raw
        config, problems = check_settings(record, written)
        if config is not None:
            config, problems = check_settings(record, anchored(config, written, from_file(run, path, set())))
        for problem in problems:
            _report(run, problem, path)
        if config is not None:
            found[name] = config
    return found


def _report(run: RunFile, problem: Problem, path: DataPath) -> None:
    key = problem.code in KEY_CODES
    error = run.source.error(problem.message, (*path, *problem.path), key=key, hint=problem.hint)
    error.code = problem.code
    run.problems.append(error)


def _configurable(catalogue: Catalogue, name: str) -> PluginRecord:
    """The one plugin of that name that takes settings. Raises ``PluginError`` with what stands in the way."""
    named = [record for record in catalogue.plugins if record.name == name]
    able = [record.name for record in catalogue.plugins if record.settings is not None]
    if not named:
        raise missing_plugin(name, catalogue.plugins) or PluginError(
            f"no plugin is called {name!r}", hint=near(name, able)
        )
    if len(named) > 1:
        owners = " and ".join(record.distribution for record in named)
        hint = f"deny one of them: --plugins=-{named[0].distribution}/{name}"
        raise PluginError(f"{owners} have a plugin {name!r} each", hint=hint)
    record = named[0]
    if record.settings is None and record.cause is not None:
        raise PluginError(f"the {record.label} is {record.state}: {record.cause}", hint="scorefold plugins doctor")
    if record.settings is None:
        raise PluginError(f"the {record.label} has no settings", hint=near(name, able))
    return record


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
