"""Fixtures for pytest: ``pytest_plugins = ["scorefold_testing.fixtures"]`` gives ``host`` and ``plugin_folder``.

``plugin_folder`` is for plugins of Scorefold as pytest's ``pytester`` is for plugins of pytest. Commands run in
processes of their own, in the folder, so that nothing that a plugin does reaches the tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from textwrap import dedent
from typing import Any

import pytest

VARIABLE = "SCOREFOLD_DEV_PLUGINS"
SECONDS = 1800


@dataclass(frozen=True)
class Ran:
    """Result of a command: its status and both output streams."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, parsed as JSON."""
        return json.loads(self.out)


@dataclass
class PluginFolder:
    """A folder with plugins and files, and the command ``scorefold`` in it.

    ``plugins`` are the files of plugins in it, which every command there uses beside those that are installed.

    >>> import tempfile
    >>> folder = PluginFolder(Path(tempfile.mkdtemp()))
    >>> folder.plugin("empty.py", "__plugin_api__ = '1.0'").name
    'empty.py'
    """

    path: Path
    plugins: list[str] = field(default_factory=list)

    def write(self, name: str, text: str) -> Path:
        """A file of the folder; its lines may be indented together."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")
        return file

    def copy(self, file: Path) -> Path:
        """A copy of a file in the folder, under its name."""
        return Path(shutil.copy(file, self.path))

    def plugin(self, name: str, text: str) -> Path:
        """A file of the folder that is a plugin."""
        self.plugins.append(name)
        return self.write(name, text)

    def scorefold(self, *arguments: str, status: int | None = 0) -> Ran:
        """Runs ``scorefold`` with these arguments in the folder.

        Raises ``AssertionError`` with what it printed where it ends with another status; None takes any.
        """
        environment = {**os.environ, VARIABLE: ",".join(self.plugins)} if self.plugins else dict(os.environ)
        command = [sys.executable, "-m", "scorefold_registry.cli", *arguments]
        found = subprocess.run(
            command, cwd=self.path, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=SECONDS
        )
        wanted = status is None or found.returncode == status
        assert wanted, f"scorefold {' '.join(arguments)} ended with {found.returncode}:\n{found.stdout}{found.stderr}"
        return Ran(found.returncode, found.stdout, found.stderr)

    def failures(self, name: str, *options: str) -> dict[str, str]:
        """The checks that ``scorefold plugins check NAME`` finds broken, as ``kind:name check``, with the details."""
        found = self.scorefold("plugins", "check", name, *options, "--json", status=None)
        failed = [check for check in found.json["checks"] if check["result"] == "failed"]
        return {f"{check['component']} {check['check']}": check["detail"] for check in failed}


@pytest.fixture(scope="session")
def host() -> Any:
    """The host of what is installed, one for all tests: those that register a plugin or break one make their own."""
    return resolve_name("scorefold_registry:Host.discover")()


@pytest.fixture
def one_host(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in this process use ``host``, and look for plugins only where a path or a setting has changed."""
    path, discover = list(sys.path), type(host).discover

    def found(**given: Any) -> Any:
        chosen = given or Path("scorefold.toml").exists() or not {"SCOREFOLD_PLUGINS", VARIABLE}.isdisjoint(os.environ)
        return discover(**given) if chosen or sys.path != path else host

    monkeypatch.setattr(type(host), "discover", found)


@pytest.fixture
def plugin_folder(tmp_path: Path) -> PluginFolder:
    """An empty folder for a plugin, and ``scorefold`` in it."""
    folder = tmp_path / "plugin"
    folder.mkdir()
    return PluginFolder(folder)
