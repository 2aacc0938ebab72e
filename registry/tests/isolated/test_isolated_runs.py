"""Run files with stages in environments of their own: results, reuse, faults, and what stands in the run folder."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from scorefold.errors import ArtefactError, PluginError, ScorefoldError
from scorefold_registry import python
from scorefold_registry.cli.main import main
from scorefold_registry.experiments.compare import compare
from scorefold_registry.experiments.sweep import sweep
from scorefold_registry.host import Host
from scorefold_registry.plugins.environments import environment
from scorefold_registry.plugins.environments.spec import Spec, environments_in
from scorefold_registry.plugins.environments.store import VARIABLE, folder_of
from scorefold_registry.plugins.records import environments_of
from scorefold_registry.plugins.settings import read_settings
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.run.stage_folder import load_stage

RUN = """
version: 1
name: two-generations
stages:
  points: {use: one/data:toy-points, config: {points: 40}}
  now:    {use: one/estimator:toy-mean, inputs: {data: points}}
  then:   {use: two/estimator:toy-mean, inputs: {data: points}}
"""
MISDEED = """
version: 1
name: misdeed
stages:
  points: {use: one/data:toy-points, config: {points: 40}}
  wrong:  {use: one/estimator:toy-misdeed, config: {do: %s, kept: %s}, inputs: {data: points}}
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "run.yaml"
    file.write_text(text)
    return file


def run(world: Any, tmp_path: Path, text: str, **limits: str) -> Any:
    return run_file(world.host(**limits), write(tmp_path, text), runs=tmp_path / "runs", cache=tmp_path / "cache")


def test_contradicting_versions_stand_in_one_run(world: Any, tmp_path: Path) -> None:
    done = run(world, tmp_path, RUN)
    clash = [done.value(name).diagnostics["clash"] for name in ("now", "then")]
    assert clash == ["1.0", "2.0"]
    assert done.report.is_file()
    assert {file.name for file in (done.folder / "environments").iterdir()} == {
        *("one.txt", "one.json", "two.txt", "two.json")
    }
    said = json.loads((done.folder / "environments" / "one.json").read_text())
    assert said["versions"]["toy-old"] == "1.0"
    resolved = (done.folder / "resolved.yaml").read_text()
    assert "one/estimator:toy-mean@1" in resolved
    assert "two/estimator:toy-mean@1" in resolved
    world.close()
    (tmp_path / "empty.toml").touch()
    with pytest.raises(ArtefactError, match=r"holds the state of estimator:toy-mean@1 of one 1.0") as caught:
        load_stage(Host.discover(toml=tmp_path / "empty.toml"), done.folder / "now")
    hint = "its plugin has an environment of its own: scorefold plugins add --isolated --name one --lock lock.txt"
    assert str(caught.value.hint).startswith(hint)
    assert load_stage(world.host(), done.folder / "now").value.value == done.value("now").value
    again = run(world, tmp_path, RUN, seconds="500", memory='"4GB"')
    assert [stage.reused for stage in again.stages] == [True, True, True]
    assert not any(each.runs for each in environments_of(world.hosts[-1].plugins))


def test_an_edit_of_the_plugin_is_seen(world: Any, tmp_path: Path) -> None:
    text = RUN.replace("  then:   {use: two/estimator:toy-mean, inputs: {data: points}}\n", "")
    first = run(world, tmp_path, text)
    code = world.root / "one" / "site" / "toy_old" / "impl.py"
    before = code.read_text()
    try:
        code.write_text(before.replace("float(means.mean() + noise.sum())", "1000.0"))
        again = run(world, tmp_path, text)
    finally:
        code.write_text(before)
    assert [stage.reused for stage in again.stages] == [False, False]
    assert again.value("now").value == 1000.0 != first.value("now").value


def test_an_edit_of_a_validator_is_seen(world: Any) -> None:
    """The answers that it gave before are kept."""
    name, code = "one/estimator:toy-mean", world.root / "one" / "site" / "toy_old" / "impl.py"
    with pytest.raises(ScorefoldError, match="expected an even number"):
        world.host().create(name, {"even": 3})
    before = code.read_text()
    try:
        code.write_text(before.replace("if value % 2:", "if value % 3:"))
        assert world.host().create(name, {"even": 3}) is not None
    finally:
        code.write_text(before)
    with pytest.raises(ScorefoldError, match="expected an even number"):
        world.host().create(name, {"even": 3})


def test_a_stage_that_crashes_fails_with_its_line(world: Any, tmp_path: Path) -> None:
    with pytest.raises(ScorefoldError, match="was ended by a segmentation fault while it did 'estimate'") as caught:
        run(world, tmp_path, MISDEED % ("segfault", "null"))
    assert (Path(str(caught.value.file)).name, caught.value.line) == ("run.yaml", 6)
    (folder,) = (tmp_path / "runs" / "misdeed").glob("*.partial")
    log = (folder / "error.txt").read_text()
    assert "Segmentation fault" in log
    assert "impl.py" in log


def test_wrong_settings_are_found_when_the_file_is_read(world: Any, tmp_path: Path) -> None:
    wrong = "  points: {use: one/data:toy-points, config: {points: 2}}\n  x: {use: one/network:toy-network}"
    with pytest.raises(ScorefoldError) as caught:
        run(world, tmp_path, f"version: 1\nname: wrong\nstages:\n{wrong}\n")
    text = str(caught.value)
    assert "points is 2 (a number); expected" in text
    assert "a network is no stage of its own" in text
    assert not any(each.runs for each in environments_of(world.hosts[-1].plugins))


def test_what_only_reads_starts_no_process(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, RUN)
    assert main(["validate", str(file)]) == 0  # configs with validators are checked once, and the answers kept
    monkeypatch.setattr(environment, "start_worker", lambda spec: pytest.fail("a worker was started"))
    capsys.readouterr()
    assert main(["plugins", "list"]) == 0
    assert "toy-old in environment one (Python " in capsys.readouterr().out
    assert main(["plugins", "show", "one/estimator:toy-mean"]) == 0
    shown = capsys.readouterr().out
    assert "name it one/estimator:toy-mean" in shown
    assert re.search(r"^    scale +a number, above 0, default 1\.0\. A factor", shown, flags=re.MULTILINE)
    assert main(["validate", str(file)]) == 0
    assert main(["schema", "--out", str(tmp_path / "schema.json")]) == 0
    assert "config.one.estimator.toy-mean" in (tmp_path / "schema.json").read_text()
    assert main(["cite", str(file)]) == 0
    assert main(["graph", str(file)]) == 0
    assert not {"toy_old", "clash"} & {name.partition(".")[0] for name in sys.modules}


def test_an_interpreter_that_is_gone_is_one_line(
    world: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = world.root / "one" / "venv" / "bin" / "python"
    kept = python.with_name("kept")
    python.rename(kept)
    try:
        with pytest.raises(ScorefoldError, match="the environment 'one' has no interpreter") as caught:
            run(world, tmp_path, RUN)
        assert caught.value.hint == "scorefold plugins install one"
        main(["plugins", "doctor"])
        assert f"its interpreter {python} is gone" in capsys.readouterr().out
    finally:
        kept.rename(python)


def other_python() -> Path | None:
    """A Python of another minor version, without torch."""
    code = "import sys, importlib.util as util; sys.exit(util.find_spec('torch') is not None)"
    names = [f"python3.{minor}" for minor in range(9, 16) if minor != sys.version_info.minor]
    for found in filter(None, map(shutil.which, names)):
        if subprocess.run([found, "-I", "-c", code], capture_output=True, check=False).returncode == 0:
            return Path(found)
    return None


def test_an_interpreter_of_another_python_needs_libraries_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages of the main environment fit one minor version of Python, and are not lent to it."""
    if (python := other_python()) is None:
        pytest.skip("there is no other Python on the path")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    spec = Spec("other", tmp_path / "scorefold.toml", interpreter=python)
    with pytest.raises(PluginError, match=r"environment 'other' .* while it started") as caught:
        environment.describe_environment(spec)
    assert "No module named 'torch'" in str(caught.value.hint)


def test_a_damaged_environment_is_one_line(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = world.root / "one" / "site"
    for name, words in (
        ("toy_old-1.0.dist-info", "the environment 'one' has changed since it was described"),
        ("clash.py", "No module named 'clash'"),
    ):
        (site / name).rename(world.root / "aside")
        try:
            with pytest.raises(ScorefoldError, match=words) as caught:
                run(world, tmp_path, RUN)
            assert "scorefold plugins install one" in str(caught.value.hint)
            assert ": pip install" not in str(caught.value.hint)
        finally:
            (world.root / "aside").rename(site / name)
    # An environment that was made for another Python is one that is not there.
    (tmp_path / "scorefold.toml").write_text('[environments.made]\nrequirements = ["toy-old"]\n')
    (spec,) = environments_in(read_settings(tmp_path / "scorefold.toml"))
    before = folder_of(spec)
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.99")
    assert folder_of(spec) != before
    record = Host.discover(toml=tmp_path / "scorefold.toml").plugins[-1]
    assert record.cause == "its environment is not installed here: scorefold plugins install made"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("os._exit(0)", "ended itself with status 0 while it started"),
        ("signal.signal(signal.SIGINT, signal.SIG_IGN); os.chdir('/'); raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_what_a_plugin_does_while_it_is_imported_is_an_error(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    """Installed here, the first would end each command without a word, and the second would disable Ctrl-C."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    interpreter = world.root / "one" / "venv" / "bin" / "python"
    spec = Spec("harmful", tmp_path / "scorefold.toml", interpreter=interpreter)
    file = world.root / "one" / "site" / "toy_old" / "plugin.py"
    source, handler, folder = file.read_text(), signal.getsignal(signal.SIGINT), Path.cwd()
    file.write_text(f"{source}\nimport os, signal\n{line}\n")
    try:
        cause = str(environment.describe_environment(spec)["plugins"][0]["cause"])
    except PluginError as error:
        cause = str(error)
    finally:
        file.write_text(source)
    assert words in cause
    assert (signal.getsignal(signal.SIGINT), Path.cwd()) == (handler, folder)


@pytest.mark.parametrize("name", ["plugin.py", "impl.py"])
def test_an_error_in_a_folder_of_ones_own_names_the_line(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its plugin is installed from there in editable form, so no other version helps."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    site = world.root / "one" / "site"
    file, note = site / "toy_old" / name, site / "toy_old-1.0.dist-info" / "direct_url.json"
    source = file.read_text()
    settings = tmp_path / "scorefold.toml"
    settings.write_text(f'[environments.one]\ninterpreter = "{world.root / "one" / "venv" / "bin" / "python"}"\n')
    (spec,) = environments_in(read_settings(settings))
    file.write_text(f"{source}\ndef broken(:\n")
    note.write_text(json.dumps({"url": site.as_uri(), "dir_info": {"editable": True}}))
    try:
        environment.describe_environment(spec)
        host = Host.discover(toml=settings)
    finally:
        file.write_text(source)
        note.unlink()
    with pytest.raises(ScorefoldError, match="SyntaxError") as caught:
        host.create("one/estimator:toy-mean")
    said = f"{caught.value.message} {caught.value.hint} {host.plugins[-1].fix}"
    assert f"at {file}:{len(source.splitlines()) + 2}" in said
    assert ("correct the code in its folder" in said, "install" in said) == (True, False)


def test_the_fix_of_a_broken_plugin_is_for_its_environment(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``pip install`` alone would install another version here, which the environment does not see."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    python = world.root / "one" / "venv" / "bin" / "python"
    (tmp_path / "scorefold.toml").write_text(f'[environments.one]\ninterpreter = "{python}"\n')
    (spec,) = environments_in(read_settings(tmp_path / "scorefold.toml"))
    file = world.root / "one" / "site" / "toy_old" / "plugin.py"
    source = file.read_text()
    file.write_text(f"raise RuntimeError('broken')\n{source}")
    try:
        environment.describe_environment(spec)
        main(["plugins", "list"])
        main(["plugins", "doctor"])
    finally:
        file.write_text(source)
    said = " ".join(capsys.readouterr().out.split())
    fix = f"{python} -m pip install --upgrade toy-old, then scorefold plugins install one, or switch it off"
    assert (said.count(fix), said.count("pip install --upgrade toy-old")) == (2, 2)


def test_a_run_needs_no_network(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *given: pytest.fail("a connection was tried"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **named: pytest.fail("a name was looked up"))
    assert run(world, tmp_path, RUN).value("then").diagnostics["clash"] == "2.0"


def alive(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] != "Z"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_command_that_ends_leaves_no_worker(world: Any, tmp_path: Path, number: int, status: int) -> None:
    begun = tmp_path / "begun"
    file = write(tmp_path, MISDEED % ("loop", begun))
    command = [sys.executable, "-m", "scorefold_registry.cli", "run", str(file), "--runs", str(tmp_path / "runs")]
    command += ["--cache", str(tmp_path / "cache")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 120
    while not begun.exists() and time.monotonic() < limit and process.poll() is None:
        time.sleep(0.05)
    children = [int(text) for text in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert children
    os.kill(process.pid, number)
    assert process.wait(60) == status
    limit = time.monotonic() + 6
    while any(map(alive, children)) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(map(alive, children))


def test_functions_of_python_use_an_environment(world: Any, tmp_path: Path) -> None:
    host = world.host()
    points = python.load_data("one/data:toy-points", host=host, folder=tmp_path, points=40)
    now = python.estimate("one/estimator:toy-mean", points, scale=2.0, progress=False)
    then = python.estimate("two/estimator:toy-mean", points, scale=2.0, progress=False)
    assert [stage.value.diagnostics["clash"] for stage in (now, then)] == ["1.0", "2.0"]
    assert now.value.value == then.value.value
    with pytest.raises(ScorefoldError, match="segmentation fault"):
        python.estimate("one/estimator:toy-misdeed", points, do="segfault", progress=False)
    assert python.estimate("one/estimator:toy-mean", points, scale=3.0, progress=False).value.quantity == "mean"


def test_a_crash_is_one_row_of_a_sweep_and_of_a_comparison(world: Any, tmp_path: Path) -> None:
    host = world.host()
    file = write(tmp_path, MISDEED % ("x", "null"))
    points = {"stages.wrong.config.do": ["segfault", "x", "exit", "raise"]}
    swept = sweep(host, file, points, measure=["wrong.mean"], out=tmp_path / "out", cache=tmp_path / "cache")
    assert [row.measures["wrong.mean"] for row in swept.rows] == [None, 1.0, None, None]
    words = ["was ended by a segmentation fault", "ended itself with status 3", "KeyError: 'no such thing'"]
    errors = [str(row.error["message"]) for row in swept.rows if row.error is not None]
    assert [word in text for word, text in zip(words, errors, strict=True)] == [True] * 3
    found = compare(
        host,
        "estimator",
        on=["curve"],
        only=["one/estimator:toy-mean", "one/estimator:toy-misdeed", "two/estimator:toy-mean"],
        fields={"one/estimator:toy-misdeed.do": "segfault", "two/estimator:toy-mean.shift.by": 1.0},
        out=tmp_path / "compared",
        cache=tmp_path / "cache",
    )
    first, crashed, second = found.rows
    assert first.value is not None
    assert second.value == pytest.approx(first.value + 1)
    assert "segmentation fault" in str(crashed.error)


SCORE = """
version: 1
name: theirs
stages:
  points: {use: data:sphere, config: {dimension: 2, ambient: 3, points: 60}}
  model:  {use: one/score:toy-score}
  draws:  {use: model, do: sample, options: {n: 5}}
  size:   {use: estimator:iddiff, config: {points: 4}, inputs: {score: model, data: points}}
"""


def test_a_score_of_an_environment_is_asked_by_stages_here(world: Any, local: Any, tmp_path: Path) -> None:
    there = run(world, tmp_path, SCORE)
    for name in ("here", "cache"):
        (tmp_path / name).mkdir(exist_ok=True)
    file = write(tmp_path / "here", SCORE.replace("one/score", "score"))
    here = run_file(local(), file, runs=tmp_path / "runs", cache=tmp_path / "local")
    assert torch.equal(*(done.value("draws").load("test").x for done in (there, here)))
    assert there.value("size").value == pytest.approx(here.value("size").value)
    assert "its weights are random" in (there.folder / "model" / "result.json").read_text()
    again = run(world, tmp_path, SCORE)
    assert all(stage.reused for stage in again.stages)
    assert not any(each.runs for each in environments_of(world.hosts[-1].plugins))
