"""An environment as the host uses it: its description, its worker while there is one, and what it may be asked for."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefold.errors import PluginError
from scorefold_registry.plugins.environments import Names, sandbox
from scorefold_registry.plugins.environments.described import (
    files_state,
    read_description,
    record_of,
    versions_text,
    write_description,
)
from scorefold_registry.plugins.environments.spec import Spec, environments_in
from scorefold_registry.plugins.environments.store import LOCK, folder_of, layer, lent_libraries, python_of, torch_of
from scorefold_registry.plugins.records import PluginRecord, RefusedConfigError, Registered
from scorefold_registry.plugins.settings import Settings

if TYPE_CHECKING:
    from scorefold.config import Config
    from scorefold_registry.plugins.environments.questions import Questions
    from scorefold_registry.plugins.environments.session import Session

_CHECKED = "checked"
"""The folder of answers about configs."""


class Environment(Names):
    """One environment of ``scorefold.toml``. A worker is started when it is first needed, and one at a time."""

    def __init__(self, spec: Spec) -> None:
        super().__init__("o")
        self.spec = spec
        self.description: dict[str, Any] = {}
        self._session: Session | None = None
        self._writes: Path | None = None
        self._models: dict[str, type[Config]] = {}

    @property
    def summary(self) -> str:
        """The environment in a few words, as lists of plugins show it."""
        versions = f" ({versions_text(self.description)})" if self.description else ""
        return f"in environment {self.spec.name}{versions}"

    def session(self) -> Session:
        """The worker, started where none runs. Raises ``PluginError`` where it can't start, or is not as described."""
        if self._session is None or not self._session.alive:
            self.close()  # what a dead worker has left
            self._session = start_worker(self.spec, self._writes)
            said = self._session.ready().hello
            if said.get("digest") != self.description.get("digest"):
                self.close()
                raise PluginError(
                    f"the environment {self.spec.name!r} has changed since it was described",
                    hint=self.spec.install + sandbox.remark(self.spec),
                )
        return self._session

    def let_write(self, folder: Path) -> None:
        """Makes a folder that the worker may write into. One whose sandbox does not show it is replaced."""
        os.makedirs(folder, exist_ok=True)
        if self.spec.sandbox is not None and folder != self._writes:
            self.close()
            self._writes = folder

    @property
    def runs(self) -> bool:
        """True if a worker runs."""
        return self._session is not None and self._session.alive

    def close(self) -> None:
        """Ends the worker; the next call starts another one."""
        if self._session is not None:
            self._session.close()
            self._session = None
        if "questions" in vars(self):
            self.questions.forget()

    @cached_property
    def questions(self) -> Questions:
        """The objects of this process that the worker may ask."""
        from scorefold_registry.plugins.environments.questions import Questions

        return Questions()

    def call(self, do: str, what: str, values: Mapping[str, Any], **named: Any) -> Any:
        """``Session.call`` of the worker, which first lets go of objects that nobody holds any more."""
        session, gone = self.session(), list(self.gone)
        found = session.call(do, what, values, gone=gone, questions=self.questions.answer, **named)
        self.gone.difference_update(gone)
        return found

    def key_facts(self, registered: Registered) -> dict[str, Any]:
        """Facts, in addition to the config, that decide the results of a component: for the keys of stages."""
        plugins = self.description["plugins"]
        code = next((item["code"] for item in plugins if item["value"] == registered.record.value), None)
        device = self.spec.device
        own = {} if device is None else {"device": device.partition(":")[0]}
        return {"distributions": self.description["digest"], "torch": self.description["torch"], "code": code, **own}

    def facts(self) -> dict[str, Any]:
        """The environment as the folder of a run has it."""
        known = ("python", "platform", "torch", "numpy", "digest", "versions")
        said = {name: self.description.get(name) for name in known}
        return {"lock": self.lock_digest, "torch_of": torch_of(self.spec), **said}

    @property
    def lock(self) -> str:
        """The lines that install the environment again; of an interpreter of others, the versions that it has."""
        lock = folder_of(self.spec) / LOCK
        if self.spec.interpreter is None and lock.is_file():
            return lock.read_text(encoding="utf-8")
        return "".join(f"{name}=={version}\n" for name, version in sorted(self.description["versions"].items()))

    @property
    def lock_digest(self) -> str:
        """The digest of the lock, as run files and saved states name it."""
        return "sha256:" + hashlib.sha256(self.lock.encode()).hexdigest()

    def check_usable(self, registered: Registered) -> dict[str, Any]:
        """The description of a component. Raises ``PluginError`` where it can't be used from here."""
        component = registered.component
        sandbox.check_sandbox(self.spec, sandbox.missing_program())
        said: dict[str, Any] = registered.record.described[component.id]
        if said["fault"] is not None:
            fault, _, hint = self.spec.own_fix(said["fault"]).partition("\n  ")
            raise PluginError(f"{fault} (environment {self.spec.name!r})", hint=hint or self.spec.install)
        if said["trainable"] and component.kind not in ("score", "flow"):
            raise PluginError(
                f"{registered.qualified} is trained; of an environment of its own, scores and flows can be trained",
                hint=f"install {registered.record.brought_by} in this environment to use it",
            )
        return said

    def config_model(self, registered: Registered) -> type[Config]:
        """A model of a component's config, built from its description. Raises ``PluginError`` as ``check_usable``."""
        from scorefold_registry.plugins.environments.config_types import build_model

        name = registered.component.id
        if name not in self._models:
            said = self.check_usable(registered)
            self._models[name] = build_model(said["config"], lambda raw: self._checked(registered, raw))
        return self._models[name]

    def _checked(self, registered: Registered, raw: Any) -> Any:
        """A config as the environment's own code resolves it, asked for once and kept beside the description.

        Raises ``RefusedConfigError`` for one that it refuses. What is wrong with the plugin and not with the config is
        not kept: it may be repaired.
        """
        from pydantic_core import to_jsonable_python

        from scorefold.artefacts import read_json, write_json

        asked = {"use": registered.component.versioned_id, "config": to_jsonable_python(raw, fallback=str)}
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:24]
        file = folder_of(self.spec) / _CHECKED / f"{digest}.json"
        if file.is_file():
            answer = read_json(file)
        else:
            answer = self.session().call("check", f"it checked the config of {asked['use']}", asked)
            if not any(problem[3] == "plugin" for problem in answer.get("problems", ())):
                file.parent.mkdir(exist_ok=True)
                write_json(file, answer)
        if "problems" in answer:
            problems = [
                (path, self.spec.own_fix(message), hint and self.spec.own_fix(hint), code)
                for path, message, hint, code in answer["problems"]
            ]
            raise RefusedConfigError(problems)
        return answer["config"]

    def create(
        self, registered: Registered, config: Any, ports: Mapping[str, Any], place: Any, interfaces: Sequence[type]
    ) -> Any:
        """A proxy of a component, of the interfaces of its kind and its capabilities.

        Nothing is sent before it is first asked for something.
        """
        from scorefold.interfaces import Trainable
        from scorefold_registry.plugins.environments.models import proxy_of
        from scorefold_registry.plugins.environments.proxies import IsolatedObject

        said = self.check_usable(registered)
        interfaces = [*interfaces, *([Trainable] if said["trainable"] else [])]
        remote = IsolatedObject(self, registered, config, ports, place)
        return proxy_of(remote, registered.component.kind, interfaces, said["overrides"])


def start_worker(spec: Spec, writes: Path | None = None) -> Session:
    """A worker of an environment, which may write into a folder also in a sandbox.

    Raises ``PluginError`` where there is no interpreter, no POSIX system, or not the sandbox of the table.
    """
    if os.name != "posix":
        raise PluginError(
            f"the environment {spec.name!r} needs Linux or macOS: workers get their pipes in a way that Windows lacks",
            hint="install the plugin in this environment, or use WSL",
        )
    from scorefold_registry.plugins.environments.session import Session

    python = python_of(spec)
    if not python.is_file():
        raise PluginError(f"the environment {spec.name!r} has no interpreter {python}", hint=spec.install)
    with suppress(OSError):
        os.utime(folder_of(spec))  # the time of its last use, for ``plugins clean``
    ours, theirs = layer(), lent_libraries() if torch_of(spec) == "host" else None
    return Session(spec, python, ours, theirs, sandbox.wrapping(spec, python, ours, theirs, writes))


def describe_environment(spec: Spec) -> dict[str, Any]:
    """Has an environment describe itself, and keeps what it said. Raises ``PluginError`` where it can't.

    Kept answers about configs go: other code may have given them.
    """
    session = start_worker(spec)
    try:
        said = session.call("describe", "it described its plugins")
        description = json.loads(said.numpy().tobytes())
    finally:
        session.close()
    folder_of(spec).mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder_of(spec) / _CHECKED, ignore_errors=True)
    write_description(spec, description)
    return read_description(spec)


def isolated_records(settings: Settings, *, refresh: bool = True) -> list[PluginRecord]:
    """The plugins of all environments of a settings file. Nothing of them is imported.

    With ``refresh`` an environment whose plugins' files have changed since is described anew. An environment without a
    description is a single record, which is broken.
    """
    found = []
    for spec in environments_in(settings):
        environment = Environment(spec)
        try:
            environment.description = said = _described(spec, refresh)
            found += [record_of(spec, environment, plugin) for plugin in said["plugins"]]
        except PluginError as error:
            record = PluginRecord(spec.name, spec.name, "unknown", spec.name, environment=environment)
            record.fail("broken", error.message, fix=spec.install)
            found.append(record)
    return found


def _described(spec: Spec, refresh: bool) -> dict[str, Any]:
    said = read_description(spec)
    if not refresh or files_state(plugin.get("folder", "") for plugin in said["plugins"]) == said.get("files"):
        return said
    try:
        return describe_environment(spec)
    except PluginError as error:
        raise PluginError(f"its description can't be made anew: {error.message}") from error
