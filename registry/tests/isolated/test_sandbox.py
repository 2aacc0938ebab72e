"""Workers in the sandbox of bubblewrap: what they see, what they may write, and a machine that has none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from scorefold.errors import PluginError, ScorefoldError
from scorefold_registry.cli.main import main
from scorefold_registry.host import Host
from scorefold_registry.plugins.environments import sandbox
from scorefold_registry.plugins.environments.environment import start_worker
from scorefold_registry.plugins.environments.spec import Spec
from scorefold_registry.plugins.records import environments_of
from scorefold_registry.run.pipeline import run_file

NO_SANDBOX = sandbox.sandbox_refusal()
needs_sandbox = pytest.mark.skipif(NO_SANDBOX is not None, reason=str(NO_SANDBOX))
BUBBLEWRAP = {"sandbox": '"bubblewrap"', "read": '["one/site"]'}
X = torch.zeros(4, 3)


def misdeed(host: Host, do: str, kept: Path | None = None) -> Any:
    return host.create("one/estimator:toy-misdeed", {"do": do, "kept": kept}).estimate(X)


@needs_sandbox
@pytest.mark.parametrize("do", ["read", "write", "connect"])
def test_the_sandbox_refuses_what_an_environment_does_not(world: Any, tmp_path: Path, do: str) -> None:
    kept = tmp_path / "kept.txt"
    if do == "read":
        kept.write_text("a secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = f"connect:{server.getsockname()[1]}" if do == "connect" else do
        misdeed(world.host(), asked, kept)
        if do == "write":
            assert kept.read_text() == "written"
            kept.unlink()
        words = r"failed in plugin 'old' \(.*\) at .*impl.py:\d+ in estimate: (FileNotFound|ConnectionRefused|OS)Error"
        with pytest.raises(PluginError, match=words) as caught:
            misdeed(world.host(**BUBBLEWRAP), asked, kept)
    assert (
        caught.value.hint == "its sandbox hides files and the network; read and network in [environments.one] show them"
    )
    assert kept.exists() is (do == "read")


@needs_sandbox
def test_the_sandbox_hides_the_processes_of_the_host(world: Any) -> None:
    seen = misdeed(world.host(**BUBBLEWRAP), "processes")
    assert seen.value <= 4  # bubblewrap, the worker, its leash
    assert seen.diagnostics["home"] == "/tmp"
    assert misdeed(world.host(), "processes").value > 4


@needs_sandbox
def test_what_the_table_opens_is_seen(world: Any, tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("a text")
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = world.host(sandbox='"bubblewrap"', read=f'["one/site", "{tmp_path}"]', network="true")
        misdeed(host, "read", kept)
        misdeed(host, f"connect:{server.getsockname()[1]}")
    with pytest.raises(PluginError, match="Read-only file system"):
        misdeed(host, "write", kept)
    assert kept.read_text() == "a text"


@needs_sandbox
@pytest.mark.parametrize(
    ("do", "words"),
    [
        ("segfault", "was ended by a segmentation fault"),
        ("exit", "ended itself with status 3"),
        ("killed", "was killed"),
    ],
)
def test_what_became_of_a_worker_in_a_sandbox(world: Any, do: str, words: str) -> None:
    host = world.host(**BUBBLEWRAP)
    environment = next(each for each in environments_of(host.plugins) if each.spec.name == "one")
    pid = environment.session().pid
    with pytest.raises(PluginError, match=words):
        misdeed(host, do)
    limit = time.monotonic() + 6
    while Path(f"/proc/{pid}").exists() and time.monotonic() < limit:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()


RUN = """
version: 1
name: trained
stages:
  points: {use: one/data:toy-points, config: {points: 40}}
  score:  {use: one/score:toy-trained, inputs: {data: points}}
  draws:  {use: score, do: sample, options: {n: 5}}
"""


@needs_sandbox
def test_a_sandbox_changes_no_result_and_no_key(world: Any, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(RUN)
    caches = [tmp_path / "one", tmp_path / "two"]
    runs = [
        run_file(world.host(**limits), file, runs=tmp_path / "runs", cache=cache)
        for cache, limits in zip(caches, ({}, BUBBLEWRAP), strict=True)
    ]
    states = [(done.folder / "score" / "state.safetensors").read_bytes() for done in runs]
    assert states[0] == states[1]
    again = run_file(world.host(**BUBBLEWRAP), file, runs=tmp_path / "runs", cache=caches[0])
    assert [stage.reused for stage in again.stages] == [True, True, True]


@needs_sandbox
def test_the_table_alone_opens_the_sandbox(world: Any, tmp_path: Path) -> None:
    """A package with a ``.pth`` file that names a folder of the user does not get to see it."""
    venv, project = tmp_path / "venv", tmp_path / "project"
    project.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (next((venv / "lib").glob("python*")) / "site-packages" / "all.pth").write_text(f"{Path.home()}\n")
    python = venv / "bin" / "python"
    spec = Spec("here", tmp_path / "scorefold.toml", (str(project),), sandbox="bubblewrap")
    command = sandbox.wrapping(spec, python, tmp_path / "layer", None, tmp_path / "runs")
    shown = [command[place + 1] for place, word in enumerate(command) if word == "--ro-bind"]
    assert {str(venv), str(project)} <= set(shown)
    assert seen(shown, Path(os.__file__).resolve())
    assert seen(shown, python.resolve())
    assert not any(Path.home().is_relative_to(place) for place in shown)
    assert command[command.index("--bind") + 1] == str(tmp_path / "runs")


def seen(shown: list[str], path: Path) -> bool:
    return any(path.is_relative_to(place) for place in shown)


def shown_of(folder: Path, python: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(sandbox, "sandbox_refusal", lambda: None)
    spec = Spec("here", folder / "scorefold.toml", interpreter=python, sandbox="bubblewrap")
    command = sandbox.wrapping(spec, python, folder / "layer", None, None)
    return [command[place + 1] for place, word in enumerate(command) if word == "--ro-bind"]


def test_a_python_of_the_system_shows_no_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = Path("/bin/python3")
    if not python.exists():
        pytest.skip("there is no /bin/python3")
    shown = shown_of(tmp_path, python, monkeypatch)
    assert "/" not in shown
    assert not seen(shown, Path.home())
    assert seen(shown, python.resolve())


def test_a_python_next_to_other_programs_shows_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local, own = tmp_path / "home" / ".local", tmp_path / "home" / ".local" / "share" / "python-3.12"
    for folder in (local, own):
        (folder / "bin").mkdir(parents=True)
        (folder / "lib" / "python3.12").mkdir(parents=True)
        (folder / "secret").touch()
    (own / "bin" / "python3.12").touch()
    (own / "lib" / "libpython3.12.so").touch()
    python = local / "bin" / "python3.12"
    python.symlink_to(own / "bin" / "python3.12")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shown = shown_of(tmp_path, python, monkeypatch)
    for name in ("bin/python3.12", "lib/python3.12", "lib/libpython3.12.so"):
        assert seen(shown, own / name)
    assert not seen(shown, own / "secret")
    assert not seen(shown, local / "secret")
    assert not seen(shown, local / "lib" / "python3.12")


def test_an_environment_that_holds_the_home_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bin", "lib", "home"):
        (tmp_path / name).mkdir()
    for name in ("pyvenv.cfg", "bin/python"):
        (tmp_path / name).touch()
    for home in (tmp_path, tmp_path / "home"):
        monkeypatch.setenv("HOME", str(home))
        with pytest.raises(PluginError, match="which holds your home folder, so its sandbox would show all your files"):
            shown_of(tmp_path, tmp_path / "bin" / "python", monkeypatch)
    monkeypatch.setenv("HOME", "/nowhere")
    assert str(tmp_path) in shown_of(tmp_path, tmp_path / "bin" / "python", monkeypatch)


@needs_sandbox
def test_a_folder_that_the_sandbox_hides_is_named(world: Any) -> None:
    host = world.host(sandbox='"bubblewrap"')
    with pytest.raises(PluginError, match="'one' has changed since it was described") as caught:
        misdeed(host, "warn")
    assert "add to read in [environments.one] the folders that are in editable form" in str(caught.value.hint)


def test_a_machine_without_a_sandbox_runs_nothing(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sandbox, "PROGRAM", "no-such-bwrap")
    host = world.host(**BUBBLEWRAP)
    with pytest.raises(
        ScorefoldError, match="the environment 'one' has no sandbox here: there is no program"
    ) as caught:
        misdeed(host, "warn")
    assert "remove sandbox from [environments.one] of" in str(caught.value.hint)
    assert not any(each.runs for each in environments_of(host.plugins))
    text = (world.root / "limited.toml").read_text()
    (tmp_path / "scorefold.toml").write_text(text.replace("one/site", f"{world.root}/one/site"))
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "doctor"]) == 1
    said = capsys.readouterr()
    assert "its sandbox can't be had: there is no program no-such-bwrap on the path" in said.out + said.err


def test_a_program_that_makes_no_sandbox_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sandbox, "PROGRAM", str(program))
    spec = Spec("one", tmp_path / "scorefold.toml", interpreter=Path(sys.executable), sandbox="bubblewrap")
    with pytest.raises(PluginError, match="No permissions to create new namespace"):
        start_worker(spec)
