"""Environments made and removed: by uv where it is there, else by venv and pip; never by a run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from scorefold.artefacts import write_text
from scorefold.errors import PluginError, printable
from scorefold_registry.plugins.environments.environment import describe_environment
from scorefold_registry.plugins.environments.spec import Spec
from scorefold_registry.plugins.environments.store import (
    COMPLETE,
    LENT,
    LOCK,
    OURS,
    cache_folder,
    folder_of,
    kept,
    lent,
    python_of,
    torch_of,
)
from scorefold_registry.plugins.locks import is_locked, locked

_LAST_LINES = 15

Say = Callable[[str], None]


def install(spec: Spec, say: Say, *, fresh: bool = False) -> dict[str, Any]:
    """Makes an environment where it is not there as its table says, and has it describe itself; the description.

    One process at a time makes one environment; others wait. What a killed process left is removed and made anew. With
    ``fresh`` a whole one is made anew too. Raises ``PluginError`` where the installer fails, with its last lines.
    """
    folder = folder_of(spec)
    with locked(_lock_file(folder), lambda: say(f"waiting for another process that makes {spec.name}")):
        if spec.interpreter is None and (fresh or not (folder / COMPLETE).is_file()):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            say(f"making the environment {spec.name} in {folder}")
            try:
                _Installer(spec, folder).make()
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            write_text(folder / COMPLETE, "")
        os.makedirs(folder, exist_ok=True)
        shutil.rmtree(folder / "checked", ignore_errors=True)
        say(f"describing the plugins of {spec.name}")
        return describe_environment(spec)


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


class _Installer:
    """The making of one environment."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        self.spec, self.folder = spec, folder
        self.uv = shutil.which("uv")
        self.lends = torch_of(spec) == "host"

    def make(self) -> None:
        venv, python = self.folder / "venv", python_of(self.spec)
        wanted = self._interpreter()
        if self.uv is None:
            self._run([wanted, "-m", "venv", "--without-pip", str(venv)])
        else:
            self._run([self.uv, "venv", "--quiet", "--no-project", "--python", wanted, str(venv)])
        if self.lends:
            # pip takes what lies there as installed, so that it brings no second torch.
            site = next((venv / "lib").glob("python*/site-packages"))
            (site / "scorefold_host.pth").write_text(f"{lent()}\n")
        folders = self.spec.folders
        lines = [line for line in self.spec.requirements if Path(line) not in folders]
        if not self.lends:
            lines += [name for name in LENT if name not in ("numpy", "scipy")]
        locked_lines = self._locked()
        if locked_lines is not None:
            self._install(["--require-hashes", "--no-deps", "-r", str(locked_lines)])
            for folder in folders:
                self._install(["--no-deps", "--editable", str(folder)])
        else:
            for folder in folders:
                lines += ["--editable", str(folder)]
            self._install(lines)
        if self.spec.lock is not None and not self.spec.lock.is_file():
            self.spec.lock.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / LOCK, self.spec.lock)
        assert python.exists()

    def _interpreter(self) -> str:
        """The Python that the environment is made of. Raises ``PluginError`` where it is not on the path."""
        version = self.spec.python
        if version is None or version == f"{sys.version_info.major}.{sys.version_info.minor}":
            return sys.executable
        if self.uv is not None:
            return version
        found = shutil.which(f"python{version}")
        if found is None:
            raise PluginError(
                f"the environment {self.spec.name!r} wants Python {version}; there is no python{version} on the path",
                hint="install that Python or uv, or take python out of the table",
            )
        return found

    def _locked(self) -> Path | None:
        """The file of lines with hashes that the table names, where it is there and fits the requirements."""
        file = self.spec.lock
        if file is None or not file.is_file():
            if file is not None and not self.spec.requirements:
                raise PluginError(f"there is no lock file {file}", hint=f"see [environments.{self.spec.name}]")
            return None
        first = file.read_text(encoding="utf-8").partition("\n")[0]
        if first.startswith(_FOR) and self.spec.requirements and first != self._header():
            raise PluginError(
                f"{file} was written for requirements that differ from [environments.{self.spec.name}]",
                hint=f"remove it, and {self.spec.install} writes it anew",
            )
        return file

    def _header(self) -> str:
        names = sorted(line if not os.path.isabs(line) else Path(line).name for line in self.spec.requirements)
        return f"{_FOR}{'; '.join(names)}"

    def _install(self, lines: Sequence[str]) -> None:
        if not lines:
            return
        binary = [] if self.spec.build else ["--only-binary", ":all:"]
        python = str(python_of(self.spec))
        if self.uv is not None:
            overrides = self.folder / "overrides.txt"
            never = [*OURS, *(LENT[:1] if self.lends else ())]
            overrides.write_text("".join(f"{name}; python_version < '3'\n" for name in never))
            options = ["--quiet", "--python", python, "--override", str(overrides), *binary]
            self._run([self.uv, "pip", "install", *options, *lines])
            frozen = self._run([self.uv, "pip", "freeze", "--python", python])
            self._write_lock([line for line in frozen.splitlines() if "==" in line])
            return
        report = self.folder / "report.json"
        options = ["--disable-pip-version-check", "--no-input", "--quiet", "--report", str(report), *binary]
        self._run([sys.executable, "-m", "pip", "--python", python, "install", *options, *lines])
        self._write_lock(_lines_of(report))

    def _write_lock(self, lines: Sequence[str]) -> None:
        file = self.folder / LOCK
        before = file.read_text().splitlines()[1:] if file.is_file() else []
        found = sorted({*before, *lines})
        write_text(file, "\n".join([self._header(), *found, ""]))

    def _run(self, command: Sequence[str]) -> str:
        """The output of a command. Raises ``PluginError`` with its last lines where it fails."""
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            raise PluginError(f"{command[0]} can't be started: {error}") from error
        if done.returncode:
            said = printable((done.stdout + done.stderr).strip()).splitlines()[-_LAST_LINES:]
            hint = "its requirements are in [environments." + f"{self.spec.name}] of {self.spec.file}"
            if any("No module named pip" in line for line in said):
                hint = "install uv, or pip in this environment: python -m ensurepip"
            elif any("only-binary" in line or "No matching distribution" in line for line in said):
                hint += "; only wheels are installed, unless the table has build = true"
            raise PluginError(
                f"the environment {self.spec.name!r} could not be made: {Path(command[0]).name} ended with status "
                f"{done.returncode}\n  " + "\n  ".join(said),
                hint=hint,
            )
        return done.stdout


_FOR = "# scorefold: "
"""The beginning of a lock's first line, which says what it was written for."""


def _lines_of(report: Path) -> list[str]:
    """The lines of a lock from what pip reports: each file with its hash. Local folders have none, and no line."""
    lines = []
    for item in json.loads(report.read_text(encoding="utf-8"))["install"]:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        hashes = item["download_info"].get("archive_info", {}).get("hashes", {})
        if "sha256" in hashes:
            lines.append(f"{name}=={version} --hash=sha256:{hashes['sha256']}")
    return lines


def remove(spec: Spec) -> int:
    """Removes the folders of an environment, of earlier requirements too; how many there were.

    An interpreter that the table names is left as it is. Raises ``PluginError`` for one that is being made.
    """
    found = 0
    for folder in cache_folder().glob(f"{spec.name}-{'[0-9a-f]' * 12}"):
        if is_locked(_lock_file(folder)):
            raise PluginError(f"{folder} is being made by another process", hint="wait until it has ended")
        shutil.rmtree(folder)
        _lock_file(folder).unlink(missing_ok=True)
        found += 1
    return found


def clean(days: float, *, dry_run: bool = False) -> list[tuple[Path, int]]:
    """Removes environments and layers that were not used for so many days; their folders and sizes in bytes."""
    limit, gone = time.time() - 86400 * days, []
    for folder, used, size in list(kept()):
        if used <= limit and not is_locked(_lock_file(folder)):
            gone.append((folder, size))
            if not dry_run:
                with suppress(OSError):
                    shutil.rmtree(folder)
                _lock_file(folder).unlink(missing_ok=True)
    return gone
