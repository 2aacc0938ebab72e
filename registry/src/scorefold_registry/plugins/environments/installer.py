"""Environments made and removed: by uv where it is there, else by venv and pip; never by a run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
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
    kept_environments,
    lent_libraries,
    torch_of,
)
from scorefold_registry.plugins.locks import is_locked, make_folder

_LAST_LINES = 15
_PIP = ("--disable-pip-version-check", "--no-input", "--quiet")

Say = Callable[[str], None]


def install(spec: Spec, say: Say, *, fresh: bool = False) -> dict[str, Any]:
    """Makes an environment where it is not there as its table says, and has it describe itself; the description.

    One process at a time makes one environment; others wait. What a killed process left is removed and made anew. With
    ``fresh`` a whole one is made anew too. Raises ``PluginError`` where the installer fails, with its last lines.
    """
    if spec.lock is not None and spec.requirements and not spec.lock.is_file():
        say(f"choosing the versions of {spec.name}")
        os.makedirs(cache_folder(), exist_ok=True)
        with TemporaryDirectory(prefix=".lock-", dir=cache_folder()) as scratch:
            _Installer(spec, Path(scratch)).write_lock()
    folder = folder_of(spec)
    with _held(_lock_file(folder), lambda: say(f"waiting for another process that makes {spec.name}")) as lock:
        if spec.interpreter is None and (fresh or not (folder / COMPLETE).is_file()):
            _remove(folder)
            folder.mkdir(parents=True)
            say(f"making the environment {spec.name} in {folder}")
            try:
                _Installer(spec, folder, lock).make()
            except BaseException:
                with suppress(OSError):
                    _remove(folder)
                raise
            write_text(folder / COMPLETE, "")
        say(f"describing the plugins of {spec.name}")
        return describe_environment(spec)


def _remove(folder: Path) -> None:
    """Removes the folder of an environment or a layer, where there is one. A part of it never stands for the whole."""
    if folder.exists():
        gone = folder.with_name(f".{folder.name}.{os.urandom(4).hex()}")
        folder.rename(gone)
        shutil.rmtree(gone)


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


@contextmanager
def _held(path: Path, waiting: Callable[[], None]) -> Iterator[int]:
    """Holds a lock file, and yields its descriptor. ``waiting`` is called once if another process holds it.

    Processes that get the descriptor hold the lock too: pip may work for a while after this process was killed.
    """
    import fcntl  # which Windows lacks, where the command says so

    make_folder(path.parent)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


class _Installer:
    """The making of one environment, in its folder."""

    def __init__(self, spec: Spec, folder: Path, lock: int | None = None) -> None:
        self.spec, self.folder = spec, folder
        self.holds = () if lock is None else (lock,)
        self.uv = shutil.which("uv")
        self.lends = torch_of(spec) == "host"
        self.python = str(folder / "venv" / "bin" / "python")
        self.binary = [] if spec.build else ["--only-binary", ":all:"]
        # Folders, wheels of this disk and addresses are installed after the lock: a lock is for every machine.
        self.local = [line for line in spec.requirements if os.path.isabs(line) or "://" in line]

    def make(self) -> None:
        """Makes the environment from the lock that the table names, or else from one made of its requirements."""
        file = self._given()
        self._make_venv()
        lock = self.folder / LOCK
        write_text(lock, self.resolved() if file is None else file.read_text(encoding="utf-8"))
        if _pinned(lock.read_text(encoding="utf-8")):
            self._install(["--require-hashes", "--no-deps", "-r", str(lock)])
        for line in self.local:
            self._install(["--no-deps", *(["--editable"] if Path(line).is_dir() else []), line])

    def resolved(self) -> str:
        """The text of a lock: all that the requirements need from an index, each file with its hashes."""
        lines = [line for line in self.spec.requirements if line not in self.local]
        lines += [f"-e {line}" if Path(line).is_dir() else line for line in self.local]
        if not self.lends:
            lines += [name for name in LENT if name not in ("numpy", "scipy")]
        if self.uv is not None:
            wanted, overrides = self.folder / "wanted.txt", self.folder / "overrides.txt"
            wanted.write_text("".join(f"{line}\n" for line in lines))
            never = [*OURS, *(LENT[:1] if self.lends else ())]
            overrides.write_text("".join(f"{name}; python_version < '3'\n" for name in never))
            options = ["--quiet", "--no-header", "--no-annotate", "--generate-hashes", "--python", self.python]
            command = [self.uv, "pip", "compile", *options, *self.binary, "--override", str(overrides), str(wanted)]
            found = _pinned(self._run(command))
        else:
            report = self.folder / "report.json"
            words = [word for line in lines for word in (line.split(" ", 1) if line.startswith("-e ") else [line])]
            self._pip(["--dry-run", "--report", str(report), *words])
            found = _reported(report)
        wheels = [Path(line) for line in self.local if line.endswith(".whl") and os.path.isabs(line)]
        local = [f"# {wheel.name} --hash=sha256:{sha256(wheel.read_bytes()).hexdigest()}" for wheel in wheels]
        return "\n".join([self._header(), *local, *found, ""])

    def write_lock(self) -> None:
        """Writes the lock that the table names and that is not there yet."""
        assert self.spec.lock is not None
        self._make_venv()
        self.spec.lock.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.spec.lock, self.resolved())

    def _make_venv(self) -> None:
        venv, wanted = self.folder / "venv", self._interpreter()
        if self.uv is None:
            self._run([wanted, "-m", "venv", "--without-pip", str(venv)])
        else:
            self._run([self.uv, "venv", "--quiet", "--no-project", "--python", wanted, str(venv)])
        if self.lends:
            # pip takes what lies there as installed, so that it brings no second torch.
            site = next((venv / "lib").glob("python*/site-packages"))
            (site / "scorefold_host.pth").write_text(f"{lent_libraries()}\n")

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

    def _given(self) -> Path | None:
        """The file of lines with hashes that the table names, where it is there and fits the requirements."""
        file = self.spec.lock
        if file is None or not file.is_file():
            if file is not None and not self.spec.requirements:
                raise PluginError(f"there is no lock file {file}", hint=f"see [environments.{self.spec.name}]")
            return None
        text = file.read_text(encoding="utf-8")
        if (lines := _pinned(text)) and not any("--hash=" in line for line in lines):
            raise PluginError(
                f"{file} has versions without hashes: it lists an environment that was given by its interpreter",
                hint="write these versions as requirements of the table, or give its interpreter",
            )
        for number, line in enumerate(text.splitlines(), start=1):
            if not _LOCK_LINE.fullmatch(_COMMENT.sub("", line).strip()):
                raise PluginError(
                    f"line {number} of {file} is {line.strip()!r:.100}; expected a version such as numpy==1.26.4 with "
                    "its hashes",
                    hint="remove the line; options of pip are set by its own file or by PIP_ variables",
                )
        first = text.partition("\n")[0]
        # A lock may be taken over for local plugins alone: the other requirements are in the lock.
        indexed = len(self.spec.requirements) > len(self.local)
        if first.startswith(_FOR) and indexed and first != self._header():
            raise PluginError(
                f"{file} was written for requirements that differ from [environments.{self.spec.name}]",
                hint=f"remove it, and {self.spec.install} writes it anew",
            )
        return file

    def _header(self) -> str:
        names = sorted(line if not os.path.isabs(line) else Path(line).name for line in self.spec.requirements)
        return f"{_FOR}{'; '.join(names)}"

    def _install(self, words: Sequence[str]) -> None:
        if self.uv is not None:
            self._run([self.uv, "pip", "install", "--quiet", "--python", self.python, *self.binary, *words])
        else:
            self._pip(words)

    def _pip(self, words: Sequence[str]) -> None:
        self._run([sys.executable, "-m", "pip", "--python", self.python, "install", *_PIP, *self.binary, *words])

    def _run(self, command: Sequence[str]) -> str:
        """The output of a command. Raises ``PluginError`` with its last lines where it fails."""
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=False, pass_fds=self.holds
            )
        except OSError as error:
            raise PluginError(f"{command[0]} can't be started: {error}") from error
        if done.returncode:
            said = printable((done.stdout + done.stderr).strip()).splitlines()[-_LAST_LINES:]
            hint = f"its requirements are in {self.spec.table}"
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


_LOCK_LINE = re.compile(
    r"(?:[A-Za-z0-9][\w.-]*(?:\[[\w., -]*\])? *== *[\w.!+]+(?: *;(?:(?!--)[^\\])*)?)?"
    r"(?: *--hash=\w+:[0-9a-fA-F]+)* *\\?"
)
"""A line of a lock: a version, hashes, or both. It has no option, since pip would obey ``--no-binary`` too."""

_COMMENT = re.compile(r"(?:^|\s)#.*")


def _pinned(text: str) -> list[str]:
    """The lines of a lock that name a version or a hash."""
    lines = [line for line in text.splitlines() if not line.startswith(("#", "-"))]
    return [line for line in lines if "==" in line or "--hash=" in line]


def _reported(report: Path) -> list[str]:
    """The lines of a lock from what pip reports: each file of an index with its hash."""
    lines = []
    for item in json.loads(report.read_text(encoding="utf-8"))["install"]:
        if not item["is_direct"]:
            hashes = item["download_info"]["archive_info"]["hashes"]
            lines.append(f"{item['metadata']['name']}=={item['metadata']['version']} --hash=sha256:{hashes['sha256']}")
    return sorted(lines, key=str.lower)


def remove_environment(spec: Spec) -> int:
    """Removes the folders of an environment, of earlier requirements too; how many there were.

    An interpreter that the table names is left as it is. Raises ``PluginError`` for one that is being made.
    """
    found = 0
    for folder in cache_folder().glob(f"{spec.name}-{'[0-9a-f]' * 12}"):
        if is_locked(_lock_file(folder)):
            raise PluginError(f"{folder} is being made by another process", hint="wait until it has ended")
        _remove(folder)
        _lock_file(folder).unlink(missing_ok=True)
        found += 1
    return found


def clean(days: float, *, dry_run: bool = False) -> list[tuple[Path, int]]:
    """Removes environments and layers that were not used for so many days; their folders and sizes in bytes."""
    limit, gone = time.time() - 86400 * days, []
    for folder, used, size in list(kept_environments()):
        if used <= limit and not is_locked(_lock_file(folder)):
            gone.append((folder, size))
            if not dry_run:
                with suppress(OSError):
                    _remove(folder)
                _lock_file(folder).unlink(missing_ok=True)
    return gone
