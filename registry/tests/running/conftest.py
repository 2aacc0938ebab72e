"""A tiny plugin on the path, the command in this process and in another, and one finished run to look at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from warm_commands import Command

from scorefold_registry.cli.main import main
from scorefold_registry.host import Host
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.run.result import RunResult
from scorefold_registry.runfile.plan import Plan, make_plan
from scorefold_registry.runfile.reader import read

TINY = Path(__file__).parent / "tiny"

RUN_FILE = (TINY / "run.yaml").read_text()

Write = Callable[[str], Path]
Run = Callable[..., RunResult]


class Said(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def _tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny plugin is installed, and the working folder is empty."""
    monkeypatch.syspath_prepend(TINY)
    monkeypatch.chdir(tmp_path)
    for name in ("SCOREFOLD_PLUGINS", "SCOREFOLD_RUNS", "SCOREFOLD_CACHE", "TINY_NOTES", "TINY_OBSERVER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def tiny_host() -> Host:
    """The host of what is installed and of the tiny plugin."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TINY)
        return Host.discover()


@pytest.fixture
def host(tiny_host: Host) -> Iterator[Host]:
    """One host for all tests, from which the hooks that a test registers are taken again."""
    before = dict(tiny_host.manager.list_name_plugin())
    yield tiny_host
    for name, _ in tiny_host.manager.list_name_plugin():
        if name not in before:
            tiny_host.manager.unregister(name=name)


@pytest.fixture(autouse=True)
def _one_host(_tiny: None, one_host: None) -> None:
    """Commands use it too."""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A run file with this text (or the usual one) in the working folder."""

    def make(text: str = RUN_FILE, name: str = "run.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path.relative_to(tmp_path)

    return make


@pytest.fixture
def plan(host: Host, write: Write) -> Callable[..., Plan]:
    return lambda text, sets=(): make_plan(host.catalogue, read(write(text), sets))


@pytest.fixture
def run(host: Host, write: Write) -> Run:
    """Run a run file's text in the working folder."""
    return lambda text=RUN_FILE, **options: run_file(host, write(text), **options)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command in this process: ``say("run", "run.yaml")``."""

    def command(*arguments: str) -> Said:
        capsys.readouterr()
        status = main(list(arguments))
        captured = capsys.readouterr()
        return Said(status, captured.out, captured.err)

    return command


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment variables of a process that finds the tiny plugin."""
    path = os.pathsep.join([str(TINY), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def launch(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str] | Command]]:
    """The command, or some code in a fresh interpreter, in another process, ended with the test."""
    started: list[subprocess.Popen[str] | Command] = []

    def start(*arguments: str, cwd: Path = tmp_path, code: str | None = None, **variables: str) -> Any:
        process: subprocess.Popen[str] | Command
        if code is None:
            process = Command(arguments, cwd, {**environment, **variables})
        else:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                cwd=cwd,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def finish(tiny_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RunResult]:
    """Runs a run file's text in a folder of its own, for tests of a file that only look at the run."""

    def run(text: str) -> RunResult:
        folder = tmp_path_factory.mktemp("finished")
        (folder / "run.yaml").write_text(text)
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(TINY)
            return run_file(tiny_host, folder / "run.yaml", runs=folder / "runs", cache=folder / "cache")

    return run


@pytest.fixture(scope="session")
def finished(finish: Callable[[str], RunResult]) -> RunResult:
    """One finished run of the usual file, for tests that only look."""
    return finish(RUN_FILE)
