"""What tests here share: cases of fuzzed tests that can be tried again, environments of their own to install into."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

REPLAY = "SCOREFOLD_FUZZ"

Cases = Callable[[int], Iterator[Random]]


@pytest.fixture
def cases(request: pytest.FixtureRequest) -> Iterator[Cases]:
    """``cases(2000)``: a generator of random choices for each case, or only for the one that ``SCOREFOLD_FUZZ`` names.

    ``SCOREFOLD_FUZZ_TIMES`` tries so many times as many (``make attack``).

    A failure says how to try its case alone.
    """

    tried: int | None = None

    def each(count: int) -> Iterator[Random]:
        nonlocal tried
        chosen = os.environ.get(REPLAY)
        times = int(os.environ.get("SCOREFOLD_FUZZ_TIMES", "1"))
        for number in [int(chosen)] if chosen else range(times * count):
            tried = number
            yield Random(f"{request.node.name}:{number}")
        tried = None

    yield each
    if tried is not None:
        # The test left its loop with an error; pytest shows this below it.
        print(f"replay: {REPLAY}={tried} python -m pytest '{request.node.nodeid}'")


_COMMANDS = """
import io, json, sys
from contextlib import redirect_stdout
from scorefold_registry.cli.main import main

done = []
for command in json.loads(sys.argv[1]):
    with redirect_stdout(io.StringIO()) as printed:
        done.append((main(command), printed))
print(json.dumps([(status, printed.getvalue()) for status, printed in done]))
"""
"""Most of what a command costs is importing torch, and this pays it once."""


@dataclass(frozen=True)
class Environment:
    """An environment of its own in a folder, which sees the packages of the one that runs the tests.

    What is installed into it goes before what it sees. No variable that begins with SCOREFOLD_ reaches it.
    """

    folder: Path
    python: Path
    site: Path

    def call(self, *command: str | Path, status: int = 0) -> str:
        """The standard output of a Python command, ``-m pytest -q`` for example, that ends with a status."""
        surroundings = {name: value for name, value in os.environ.items() if not name.startswith("SCOREFOLD_")}
        done = subprocess.run(
            [str(part) for part in (self.python, *command)],
            cwd=self.folder,
            env=surroundings,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def scorefold(self, *arguments: str | Path, status: int = 0) -> str:
        """The standard output of the command ``scorefold``, run here."""
        return self.call("-m", "scorefold_registry.cli", *arguments, status=status)

    def commands(self, *commands: Sequence[str | Path]) -> list[tuple[int, str]]:
        """The status and standard output of each of several commands ``scorefold``, run by one process, in order."""
        given = json.dumps([[str(part) for part in command] for command in commands])
        done: list[tuple[int, str]] = [(status, text) for status, text in json.loads(self.call("-c", _COMMANDS, given))]
        return done

    def pip(self, *arguments: str | Path) -> str:
        """pip at work on this environment alone, asking no index."""
        return self.call("-m", "pip", "--disable-pip-version-check", "--quiet", *arguments)

    def install(self, *what: str | Path) -> None:
        """Installs folders, wheels or names, without what they require."""
        self.pip("install", "--no-deps", "--no-build-isolation", "--no-index", *what)

    def contents(self) -> set[str]:
        """The files that are installed here, but for what Python compiles."""
        files = (path for path in self.site.rglob("*") if path.is_file() and path.suffix != ".pyc")
        return {path.relative_to(self.site).as_posix() for path in files}


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """A new environment with nothing of its own installed."""
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (python,) = (path for path in (folder / "bin" / "python", folder / "Scripts" / "python.exe") if path.exists())
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    # A line of code, because folders that a .pth file names have their own .pth files read only if it is done so.
    (site / "parent.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return Environment(folder, python, site)
