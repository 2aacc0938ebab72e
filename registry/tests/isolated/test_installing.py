"""Environments made, described, listed and removed by the command, from wheels on this disk and without a network."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from scorefold.errors import ArtefactError, PluginError
from scorefold_registry.cli.main import main
from scorefold_registry.host import Host
from scorefold_registry.plugins.environments import installer
from scorefold_registry.plugins.environments.described import read_description
from scorefold_registry.plugins.environments.environment import start_worker
from scorefold_registry.plugins.environments.spec import Spec, environments_in
from scorefold_registry.plugins.environments.store import VARIABLE, folder_of, python_of
from scorefold_registry.plugins.records import environments_of
from scorefold_registry.plugins.settings import read_settings
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.run.stage_folder import load_stage
from scorefold_registry.runfile.reader import RunFileError

HERE = Path(__file__).parent


def plugin_texts() -> dict[str, str]:
    """The files of the toy plugin, without its library."""
    texts = {path.relative_to(HERE).as_posix(): path.read_text() for path in (HERE / "toy_old").glob("*.py")}
    return texts | {"toy_old-1.0.dist-info/entry_points.txt": "[scorefold.plugins]\nold = toy_old.plugin\n"}


def wheel(folder: Path, clash: str) -> Path:
    """The toy plugin with its library as one wheel."""
    texts = {**plugin_texts(), "clash.py": f'VERSION = "{clash}"\n'}
    return write_wheel(folder, "toy_old", "1.0", texts, "scorefold-core", "torch>=2")


def write_wheel(folder: Path, name: str, version: str, texts: dict[str, str], *requires: str) -> Path:
    """A wheel of files with these texts."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    texts[f"{info}/METADATA"] = "\n".join([*lines, *(f"Requires-Dist: {text}" for text in requires), ""])
    texts[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    texts[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*texts, f"{info}/RECORD"])
    with zipfile.ZipFile(file, "w") as archive:
        for place, text in texts.items():
            archive.writestr(place, text)
    return file


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a cache of environments of its own, and pip without an index."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setattr(installer.shutil, "which", lambda name: None)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def spec_of(work: Path) -> Spec:
    (found,) = environments_in(read_settings(work / "scorefold.toml"))
    return found


def test_add_list_use_remove_install(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel(work, "1.0")
    assert main(["plugins", "add", "./toy_old-1.0-py3-none-any.whl", "--isolated", "--name", "old"]) == 0
    text = (work / "scorefold.toml").read_text()
    assert text == '[environments.old]\nrequirements = ["./toy_old-1.0-py3-none-any.whl"]\n'
    assert "estimator:toy-mean" in capsys.readouterr().out
    spec = spec_of(work)
    lock = (folder_of(spec) / "lock.txt").read_text().splitlines()
    assert lock[0] == "# scorefold: toy_old-1.0-py3-none-any.whl"
    assert lock[1].startswith("# toy_old-1.0-py3-none-any.whl --hash=sha256:")
    assert lock[2:] == []
    # The host's torch counts as installed, and no second one was.
    assert not list((folder_of(spec) / "venv").glob("lib/python*/site-packages/torch*"))
    assert main(["plugins", "list", "--json"]) == 0
    (listed,) = [each for each in json.loads(capsys.readouterr().out)["plugins"] if each["distribution"] == "old"]
    assert (listed["state"], listed["name"]) == ("registered", "old")
    host = Host.discover()
    try:
        assert host.create("old/data:toy-points", {"points": 9}).load("train").x.shape == (4, 3)
    finally:
        environments_of(host.plugins)[0].close()
    os.utime(folder_of(spec), (0, 0))
    start_worker(spec).close()
    assert folder_of(spec).stat().st_mtime > 1
    assert main(["plugins", "add", "x", "--isolated", "--name", "old"]) == 2
    assert "has an environment 'old' already" in capsys.readouterr().err
    assert main(["plugins", "remove", "old"]) == 0
    assert not folder_of(spec).exists()
    assert main(["plugins", "doctor"]) == 1
    assert "its environment is not installed here: scorefold plugins install old" in capsys.readouterr().out
    # What a killed installer left is no environment: it is made anew.
    (folder_of(spec) / "venv" / "bin").mkdir(parents=True)
    (folder_of(spec) / "venv" / "bin" / "python").touch()
    assert main(["plugins", "install"]) == 0
    assert python_of(spec).resolve().is_file()
    assert main(["plugins", "clean", "--days", "1"]) == 0
    assert "every environment was used in the last 1 days" in capsys.readouterr().out
    assert main(["plugins", "clean", "--days", "0", "--dry-run"]) == 0
    assert f"would remove {folder_of(spec)}" in capsys.readouterr().out


def test_a_lock_is_written_once_and_installed_elsewhere(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(work.parent / "index"))
    write_wheel(work.parent / "index", "clash", "1.0", {"clash.py": 'VERSION = "1.0"\n'})
    plugin = write_wheel(work, "toy_old", "1.0", plugin_texts(), "clash")
    words = ["./toy_old-1.0-py3-none-any.whl", "--name", "old", "--lock", "env/lock.txt"]
    assert main(["plugins", "add", "--isolated", *words]) == 0
    lock = (work / "env" / "lock.txt").read_text()
    header, here, line = lock.splitlines()
    assert header == "# scorefold: toy_old-1.0-py3-none-any.whl"
    assert here.startswith("# toy_old-1.0-py3-none-any.whl --hash=sha256:")
    assert line.startswith("clash==1.0 --hash=sha256:")
    first = spec_of(work)
    assert (folder_of(first) / "lock.txt").read_text() == lock
    # A newer version changes nothing where there is a lock.
    write_wheel(work.parent / "index", "clash", "2.0", {"clash.py": 'VERSION = "2.0"\n'})
    other = work.parent / "other"
    (other / "env").mkdir(parents=True)
    for name in ("scorefold.toml", "env/lock.txt", plugin.name):
        (other / name).write_bytes((work / name).read_bytes())
    monkeypatch.chdir(other)
    assert main(["plugins", "install"]) == 0
    description = read_description(spec_of(other))
    assert description is not None
    assert description["versions"]["clash"] == "1.0"
    # A file that is not as it was hashed is refused.
    (other / "env" / "lock.txt").write_text(lock.replace(line, "clash==1.0 --hash=sha256:" + 64 * "0"))
    with pytest.raises(PluginError, match="could not be made: python") as caught:
        installer.install(spec_of(other), print)
    assert "DO NOT MATCH THE HASHES" in caught.value.message
    assert not folder_of(spec_of(other)).exists()


BACKEND = """
import zipfile
from pathlib import Path

INFO = "toy_old-1.0.dist-info"


def build_editable(folder, settings=None, metadata=None):
    texts = {
        "toy.pth": f"{Path.cwd()}\\n",
        f"{INFO}/METADATA": "Metadata-Version: 2.1\\nName: toy-old\\nVersion: 1.0\\nRequires-Dist: clash\\n",
        f"{INFO}/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{INFO}/entry_points.txt": "[scorefold.plugins]\\nold = toy_old.plugin\\n",
    }
    texts[f"{INFO}/RECORD"] = "".join(f"{name},,\\n" for name in [*texts, f"{INFO}/RECORD"])
    with zipfile.ZipFile(Path(folder) / "toy_old-1.0-py3-none-any.whl", "w") as archive:
        for place, text in texts.items():
            archive.writestr(place, text)
    return "toy_old-1.0-py3-none-any.whl"
"""


def test_a_lock_is_taken_over_with_a_folder(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands of docs/environments.md: the second names the folder and the lock alone."""
    monkeypatch.setenv("PIP_FIND_LINKS", str(work.parent / "index"))
    for version in ("1.0", "2.0"):
        write_wheel(work.parent / "index", "clash", version, {"clash.py": f'VERSION = "{version}"\n'})
    plugin = work / "scorefold-old"
    shutil.copytree(HERE / "toy_old", plugin / "toy_old")
    (plugin / "backend.py").write_text(BACKEND)
    system = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (plugin / "pyproject.toml").write_text(f'{system}[project]\nname = "toy-old"\nversion = "1.0"\n')
    assert main(["plugins", "add", "./scorefold-old", "clash<2", "--isolated", "--name", "old"]) == 0
    done = run(work)
    lock = done.folder / "environments" / "old.txt"
    assert lock.read_text().startswith("# scorefold: clash<2; scorefold-old\nclash==1.0 --hash=")
    digest = lock_of(work)

    # The lock is found from its own folder too, and is no other file's end.
    other = enter(work.parent / "other", monkeypatch)
    (other / "scorefold.toml").touch()
    words = ["plugins", "add", str(plugin), "--isolated", "--name", "old", "--lock"]
    (other / "old-lock.txt").write_text("mine")
    assert main([*words, str(lock)]) == 2
    assert "is to be copied to" in capsys.readouterr().err
    assert (other / "old-lock.txt").read_text() == "mine"
    (other / "old-lock.txt").unlink()
    assert main([*words, str(lock)]) == 0
    assert lock_of(other) == digest
    assert run(other).value("mean").diagnostics["clash"] == "1.0"


def test_a_lock_that_cannot_be_installed_leaves_no_copy(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = work / "runs" / "first"
    (run_folder / "environments").mkdir(parents=True)
    (run_folder / "environment.json").touch()
    (run_folder / "environments" / "old.txt").write_text("--no-binary :all:\n")
    monkeypatch.chdir(run_folder / "environments")
    (work / "scorefold.toml").write_text("# mine\n")
    assert main(["plugins", "add", "--isolated", "--name", "old", "--lock", "old.txt"]) == 2
    said = capsys.readouterr()
    assert f"the lock is copied to {work / 'old-lock.txt'}" in said.out
    assert "line 1 of" in said.err
    assert (work / "scorefold.toml").read_text() == "# mine\n"
    assert sorted(path.name for path in work.iterdir()) == ["runs", "scorefold.toml"]


def test_a_name_is_checked_before_it_is_used(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "environments").mkdir()
    (work / "environment.json").touch()
    (work / "environments" / "old.txt").write_text("")
    for name in ("../other", "Old", "a/b"):
        words = ["plugins", "add", "--isolated", "--name", name, "--lock", "environments/old.txt"]
        assert main(words) == 2
        assert f"an environment can't be called {name!r}" in capsys.readouterr().err
    assert sorted(path.name for path in work.iterdir()) == ["environment.json", "environments"]
    assert not list(work.parent.glob("*-lock.txt"))


def test_uv_is_asked_for_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(self: object, command: list[str]) -> str:
        asked.append(command)
        return "-e ./plugin\nclash==1.0 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n"

    monkeypatch.setattr(installer._Installer, "_run", run)
    monkeypatch.setattr(installer.shutil, "which", lambda name: "/bin/uv" if name == "uv" else None)
    (tmp_path / "plugin").mkdir()
    spec = Spec("old", tmp_path / "scorefold.toml", ("clash<2", str(tmp_path / "plugin")))
    lock = installer._Installer(spec, tmp_path).resolved()
    assert lock.splitlines()[1:] == ["clash==1.0 \\", "    --hash=sha256:00 \\", "    --hash=sha256:11"]
    assert "--generate-hashes" in asked[0]
    assert (tmp_path / "wanted.txt").read_text() == f"clash<2\n-e {tmp_path / 'plugin'}\n"
    assert "torch; python_version < '3'" in (tmp_path / "overrides.txt").read_text()


def test_what_cannot_be_installed_leaves_no_table(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "add", "no-such-distribution==9.9", "--isolated"]) == 2
    said = capsys.readouterr().err
    assert "the environment 'no-such-distribution' could not be made: " in said
    assert "No matching distribution found for no-such-distribution==9.9" in said
    assert not (work / "scorefold.toml").exists()
    assert not list(work.iterdir())
    assert [path.name for path in (work.parent / "cache").iterdir() if path.is_dir()] == ["layers"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "x"], "write --isolated, or pip install x for this environment"),
        (["add", "--isolated"], "no plugin to install was named"),
        (["install"], "has no environment"),
        (["remove", "old"], "has no environment"),
    ],
)
def test_wrong_commands_say_the_right_ones(
    work: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["plugins", *arguments]) != 0
    assert words in capsys.readouterr().err


def test_a_misspelt_environment_has_a_near_miss(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "scorefold.toml").write_text('[environments.old]\nrequirements = ["a"]\n')
    assert main(["plugins", "install", "odl"]) != 0
    assert "did you mean 'old'?" in capsys.readouterr().err


def test_one_process_makes_an_environment_at_a_time(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(work, "1.0")
    (work / "scorefold.toml").write_text('[environments.old]\nrequirements = ["./toy_old-1.0-py3-none-any.whl"]\n')
    spec, made, said = spec_of(work), [], []
    first, go_on = threading.Event(), threading.Event()

    def make(self: object) -> None:
        made.append(self)
        first.set()
        assert go_on.wait(60)

    monkeypatch.setattr(installer._Installer, "make", make)
    monkeypatch.setattr(installer, "describe_environment", lambda spec: {"plugins": []})
    threads = [threading.Thread(target=installer.install, args=(spec, said.append)) for _ in range(2)]
    threads[0].start()
    assert first.wait(60)
    threads[1].start()
    while not any("waiting for another process" in text for text in said):
        pass
    with pytest.raises(PluginError, match="is being made by another process"):
        installer.remove_environment(spec)
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert len(made) == 1
    assert (folder_of(spec) / "complete").is_file()


def test_an_installation_that_is_killed_is_made_anew(work: Path) -> None:
    wheel(work, "1.0")
    (work / "scorefold.toml").write_text('[environments.old]\nrequirements = ["./toy_old-1.0-py3-none-any.whl"]\n')
    command = [sys.executable, "-m", "scorefold_registry.cli", "plugins", "install"]
    folder = folder_of(spec_of(work))
    for wanted in ("venv", "venv/bin/python", "lock.txt"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        while "making the environment" not in process.stderr.readline():
            pass  # what the process before has left is gone, and the processes that it started have ended
        while not (folder / wanted).exists() and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -9
        process.stderr.close()
        assert not (folder / "complete").exists()
    # Two commands at once make one environment, and the second says that it waits.
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("making the environment old" in text for text in said) == 1
    assert (folder / "complete").is_file()
    assert start_worker(spec_of(work)).ready().hello["versions"]["toy_old"] == "1.0"


@pytest.mark.parametrize("command", ["remove old", "clean --days 0"])
def test_a_removal_that_is_interrupted_leaves_no_part(
    work: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    (work / "scorefold.toml").write_text('[environments.old]\nrequirements = ["toy-old"]\n')
    folder = folder_of(spec_of(work))
    folder.mkdir(parents=True)
    (folder / "complete").touch()
    monkeypatch.setattr(installer.shutil, "rmtree", lambda *given, **named: signal.raise_signal(signal.SIGINT))
    assert main(["plugins", *command.split()]) == 130
    assert not folder.exists()


def test_a_lock_for_other_requirements_is_refused(work: Path) -> None:
    wheel(work, "1.0")
    (work / "lock.txt").write_text("# scorefold: something-else\nsomething==1 --hash=sha256:00\n")
    (work / "scorefold.toml").write_text(
        '[environments.old]\nrequirements = ["./toy_old-1.0-py3-none-any.whl", "clash"]\nlock = "lock.txt"\n'
    )
    with pytest.raises(PluginError, match="was written for requirements that differ") as caught:
        installer.install(spec_of(work), print)
    assert caught.value.hint == "remove it, and scorefold plugins install old writes it anew"


def test_a_run_never_installs(work: Path) -> None:
    wheel(work, "1.0")
    (work / "scorefold.toml").write_text('[environments.old]\nrequirements = ["./toy_old-1.0-py3-none-any.whl"]\n')
    (work / "run.yaml").write_text("version: 1\nname: x\nstages:\n  p: {use: old/data:toy-points}\n")
    done = subprocess.run(
        [sys.executable, "-m", "scorefold_registry.cli", "run", "run.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "its environment is not installed here: scorefold plugins install old" in done.stderr
    assert not folder_of(spec_of(work)).exists()


RUN = """
version: 1
name: locked
stages:
  points: {use: old/data:toy-points, config: {points: 12}}
  mean:   {use: old/estimator:toy-mean, inputs: {data: points}}
  model:  {use: old/score:toy-trained, config: {training: {steps: 2}}, inputs: {data: points}}
"""


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run(folder: Path, text: str = RUN) -> Any:
    (folder / "run.yaml").write_text(text)
    return run_file(Host.discover(), folder / "run.yaml", runs=folder / "runs", cache=folder / "cache")


def lock_of(folder: Path) -> Any:
    (environment,) = environments_of(Host.discover(toml=folder / "scorefold.toml").plugins)
    return environment.lock_digest


def test_a_lock_is_kept_demanded_and_taken_over(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    write_wheel(tmp_path / "index", "toy_old", "1.0", plugin_texts(), "clash")
    for version in ("1.0", "2.0"):
        write_wheel(tmp_path / "index", "clash", version, {"clash.py": f'VERSION = "{version}"\n'})
    first = enter(tmp_path / "first", monkeypatch)
    assert main(["plugins", "add", "toy-old", "clash==1.0", "--isolated", "--name", "old"]) == 0
    done = run(first)
    assert done.value("mean").diagnostics["clash"] == "1.0"
    lock = done.folder / "environments" / "old.txt"
    digest = json.loads(lock.with_suffix(".json").read_text())["lock"]
    assert (digest, "clash==1.0 --hash=sha256:" in lock.read_text()) == (lock_of(first), True)
    state = done.folder / "model"
    assert json.loads((state / "manifest.json").read_text())["environment"] == {"lock": digest}
    assert (state / "lock.txt").read_text() == lock.read_text()
    assert main(["push", str(state), str(tmp_path / "pushed")]) == 0
    assert (tmp_path / "pushed" / "lock.txt").read_text() == lock.read_text()

    # Elsewhere, where there is no such environment, and where it has another lock.
    second = enter(tmp_path / "second", monkeypatch)
    with pytest.raises(ArtefactError, match=r"of score:toy-trained@1 of old 1.0: no distribution") as no:
        load_stage(Host.discover(), state)
    assert "scorefold plugins add --isolated --name old --lock lock.txt" in str(no.value.hint)
    demand = f"environments: {{old: {{lock: '{digest}'}}}}" + RUN
    with pytest.raises(RunFileError, match="demands the environment 'old'"):
        run(second, demand)
    assert main(["plugins", "add", "toy-old", "--isolated", "--name", "old"]) == 0
    assert lock_of(second) != digest
    both = f"with the lock {digest}; the lock here is {lock_of(second)}"
    with pytest.raises(ArtefactError, match=both):
        load_stage(Host.discover(), state)
    with pytest.raises(RunFileError, match=f"'old' has the lock {lock_of(second)}; the run file demands {digest}"):
        run(second, demand)

    # The lock is taken over from a folder that may go.
    third = enter(tmp_path / "third", monkeypatch)
    given = tmp_path / "given" / "environments" / "old.txt"
    shutil.copytree(done.folder, given.parent.parent)
    assert main(["plugins", "add", "--isolated", "--name", "old", "--lock", str(given)]) == 0
    assert f"the lock is copied to {third / 'old-lock.txt'}" in capsys.readouterr().out
    assert (third / "scorefold.toml").read_text() == '[environments.old]\nlock = "./old-lock.txt"\n'
    shutil.rmtree(given.parent.parent)
    again = run(third, demand)
    assert again.value("mean").diagnostics["clash"] == "1.0"
    assert f"lock: {digest}" in (again.folder / "resolved.yaml").read_text()
    loaded, kept = Host.discover().load(state).state_dict(), load_file(state / "state.safetensors")
    assert loaded.keys() == kept.keys() != set()
    assert all(loaded[name].equal(kept[name]) for name in kept)
    assert main(["plugins", "remove", "old"]) == 0
    with pytest.raises(RunFileError, match="the environment 'old' is not installed here") as missing:
        run(third, demand)
    assert missing.value.hint == "scorefold plugins install old"
