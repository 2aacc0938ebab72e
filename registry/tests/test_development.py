"""Plugins under development: named in a variable or in scorefold.toml, used like installed ones and shown as local."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from scorefold.errors import ArtefactError, ConfigError
from scorefold_registry import run_file
from scorefold_registry.cli.main import main
from scorefold_registry.host import Host
from scorefold_registry.plugins.discovery import VARIABLE, discover, plugin_name
from scorefold_registry.plugins.records import PluginRecord
from scorefold_registry.run.executor import LocalExecutor
from scorefold_registry.run.keys import code_digest

Install = Callable[..., Path]
Source = Callable[..., str]
Captured = pytest.CaptureFixture[str]

DOCUMENT = Path(__file__).parents[2] / "docs" / "plugins.md"
EXAMPLE = re.search(r"^```python\n(# my_plugin.py\n.*?)^```", DOCUMENT.read_text(), re.M | re.S)
TOML = re.search(r"^```toml\n(\[develop\]\n.*?)^```", DOCUMENT.read_text(), re.M | re.S)
RUN = """version: 1
name: short
runtime: {device: cpu}
stages:
  data: {use: data:sphere, config: {dimension: 2, ambient: 5, points: 40}}
  rank: {use: estimator:effective-rank, inputs: {data: data}}
"""
HEADER = 'from scorefold.plugin import Component, hookimpl\n__plugin_api__ = "1.0"\n'
NOTHING = "@hookimpl\ndef scorefold_components(): return []\n"


@pytest.fixture(autouse=True)
def _apart(install: Install, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In an empty folder, without plugins of the variable."""
    monkeypatch.delenv(VARIABLE, raising=False)
    yield
    code_digest.cache_clear()


def write(file: str, text: str = NOTHING) -> Path:
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + text)
    return path


def local(**arguments: object) -> list[PluginRecord]:
    return [record for record in discover(**arguments).plugins if record.local]  # type: ignore[arg-type]


@pytest.fixture
def example() -> Path:
    """The documented file, and the documented settings but for the module that they name beside it."""
    assert EXAMPLE is not None
    assert TOML is not None
    Path("my_plugin.py").write_text(EXAMPLE[1])
    assert TOML[1] == '[develop]\nplugins = ["./my_plugin.py", "my_package.plugin"]\n'
    Path("scorefold.toml").write_text(TOML[1])
    write("my_package/__init__.py", "")
    write("my_package/plugin.py")
    Path("run.yaml").write_text(RUN)
    return Path("my_plugin.py")


def test_the_documented_example_runs_and_is_shown_as_local(example: Path, capsys: Captured) -> None:
    assert main(["plugins", "list"]) == 0
    text = capsys.readouterr().out
    assert "\nmy-plugin  local 0  registered\n" in text
    assert "\nmy-package  local 0  registered\n" in text
    assert main(["plugins", "doctor"]) == 0
    heavy = f"  it imports torch while registering, which slows every command\n    at {example.resolve()}:2\n"
    assert heavy in capsys.readouterr().out
    assert main(["validate", "run.yaml"]) == 0
    host = Host.discover()
    points = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    estimate = host.create("estimator:effective-rank").estimate(points)
    assert 3 < estimate.value <= 4
    assert main(["run", "run.yaml"]) == 0
    capsys.readouterr()
    assert main(["plugins", "check", "my-plugin", "--json"]) == 1
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert [item["check"] for item in checks if item["result"] == "failed"] == ["lazy-declaration", "lazy-config"]


def test_the_order_is_installed_then_variable_then_file_each_once(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("fake-z", "@hookimpl\ndef scorefold_executor(run): return None")
    for name in "abc":
        write(f"{name}_plugin.py", f"@hookimpl\ndef scorefold_report_sections(run): return [{name!r}]\n")
    Path("scorefold.toml").write_text('[develop]\nplugins = ["c_plugin.py", "./b_plugin.py"]')
    monkeypatch.setenv(VARIABLE, f"b_plugin.py, {Path('a_plugin.py').resolve()},")
    found = discover(allow=["local", "fake-z"])
    used = [(record.distribution, record.name) for record in found.plugins if record.state == "registered"]
    assert used == [("fake-z", "z"), ("local", "b-plugin"), ("local", "a-plugin"), ("local", "c-plugin")]
    assert found.manager.hook.scorefold_report_sections(run=None) == [["b"], ["a"], ["c"]]


def test_lists_apply_by_name_and_nothing_is_imported_without_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    write("one_plugin.py", "raise SystemExit('imported')")
    write("two_plugin.py")
    monkeypatch.setenv(VARIABLE, "one_plugin.py,two_plugin.py")
    assert [record.state for record in local(deny=["one-plugin"])] == ["disabled", "registered"]
    assert [record.state for record in local(allow=["local/two-plugin"])] == ["disabled", "registered"]
    assert [record.state for record in local(import_plugins=False)] == ["found", "found"]
    assert [record.state for record in local()] == ["broken", "registered"]


def test_a_file_in_a_package_is_imported_as_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    write("src/outer/__init__.py", "")
    write("src/outer/inner/__init__.py", "")
    write("src/outer/inner/plugin.py", "from . import helper\n" + NOTHING)
    write("src/outer/inner/helper.py", "")
    monkeypatch.setenv(VARIABLE, "src/outer/inner/plugin.py,outer.inner.plugin")
    (record,) = local()
    assert (record.name, record.value, record.state) == ("inner", "outer.inner.plugin", "registered")


@pytest.mark.parametrize(
    ("module", "name"), [("my_plugin", "my-plugin"), ("my_package.plugin", "my-package"), ("plugin", "plugin")]
)
def test_a_plugin_is_called_as_its_module(module: str, name: str) -> None:
    assert plugin_name(module) == name


class TestFaults:
    @pytest.mark.parametrize(
        ("source", "cause", "line"),
        [
            ("def broken(:", "SyntaxError: invalid syntax", "3"),
            ("\nint('x')", "ValueError: invalid literal", "4 in <module>"),
            ("import absent_module", "ModuleNotFoundError: No module named 'absent_module'", "3 in <module>"),
            ("@hookimpl\ndef scorefold_component(): pass", "there is no hook 'scorefold_component'", "3 in "),
        ],
    )
    def test_a_broken_one_is_recorded_with_file_and_line(
        self, monkeypatch: pytest.MonkeyPatch, source: str, cause: str, line: str
    ) -> None:
        file = write("broken_plugin.py", source)
        write("sound_plugin.py")
        monkeypatch.setenv(VARIABLE, "broken_plugin.py,sound_plugin.py")
        broken, sound = local()
        assert (broken.state, sound.state) == ("broken", "registered")
        assert (broken.cause or "").startswith(cause)
        assert (broken.frame or "").startswith(f"{file.resolve()}:{line}")
        assert "pip" not in (broken.fix or "")

    def test_what_fixes_it_is_its_own_code(self, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
        write("one_plugin.py", "import absent_module")
        write("two_plugin.py", "1 / 0")
        monkeypatch.setenv(VARIABLE, "one_plugin.py,two_plugin.py")
        assert main(["plugins", "doctor"]) == 1
        text = capsys.readouterr().out
        assert "\n    absent_module is not installed: install what brings it\n" in text
        assert "\n    fix two_plugin, or switch it off: SCOREFOLD_PLUGINS=-two-plugin\n" in text

    @pytest.mark.parametrize("import_plugins", [True, False])
    def test_a_missing_file_says_who_named_it_and_where(
        self, monkeypatch: pytest.MonkeyPatch, import_plugins: bool
    ) -> None:
        monkeypatch.setenv(VARIABLE, "gone.py")
        Path("scorefold.toml").write_text("# mine\n[develop]\nplugins = [\n  './lost.py'\n]\n")
        gone, lost = local(import_plugins=import_plugins)
        assert (gone.state, lost.state) == ("broken", "broken")
        assert gone.cause == f"there is no file {Path('gone.py').resolve()}"
        assert (gone.fix or "").endswith(f"in {VARIABLE}")
        assert lost.cause == f"there is no file {Path('lost.py').resolve()}"
        assert lost.frame == f"{Path('scorefold.toml').resolve()}:4"

    @pytest.mark.parametrize(
        ("entry", "cause"),
        [
            ("not.there.at.all", "ModuleNotFoundError: No module named 'not'"),
            ("not-a-module", "'not-a-module' can't be the name of a module"),
            ("./bad-name.py", "'bad-name' can't be the name of a module"),
        ],
    )
    def test_a_module_that_is_none(self, monkeypatch: pytest.MonkeyPatch, entry: str, cause: str) -> None:
        Path("bad-name.py").write_text("")
        monkeypatch.setenv(VARIABLE, entry)
        (record,) = local()
        assert (record.state, record.cause) == ("broken", cause)

    @pytest.mark.parametrize("name", ["json", "sys", "wave"])
    def test_a_file_that_python_would_pass_over(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        file = write(f"{name}.py")
        monkeypatch.setenv(VARIABLE, f"{name}.py")
        (record,) = local()
        assert record.state == "broken"
        assert (record.cause or "").startswith(f"{file.resolve()} can't be imported: {name} is ")
        assert record.fix == "rename it"

    def test_two_files_of_one_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = write("one/same_plugin.py")
        write("two/same_plugin.py")
        monkeypatch.setenv(VARIABLE, "one/same_plugin.py")
        assert [record.state for record in local()] == ["registered"]
        monkeypatch.setenv(VARIABLE, "two/same_plugin.py")
        (second,) = local()
        assert second.state == "broken"
        assert (second.cause or "").endswith(f"same_plugin is {first.resolve()} already")
        # Named together neither is passed over, and what is named twice is one.
        monkeypatch.setenv(VARIABLE, "one/same_plugin.py,two/same_plugin.py,./one/same_plugin.py")
        assert [record.state for record in local()] == ["registered", "broken"]

    @pytest.mark.parametrize("text", ["[develop]\nplugin = []", "[develop]\nplugins = 'a'", "develop = 3"])
    def test_settings_that_say_something_else(self, text: str) -> None:
        Path("scorefold.toml").write_text(text)
        with pytest.raises(ConfigError, match="expected a table with a list of files or modules"):
            discover()


def test_nothing_in_its_folder_hides_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    write("mine/my_plugin.py", "import wave\n" + NOTHING)
    write("mine/wave.py", "raise RuntimeError('the wrong one')")
    monkeypatch.setenv(VARIABLE, "mine/my_plugin.py")
    (record,) = local()
    assert record.state == "registered"


def test_its_code_is_part_of_the_keys_of_its_stages(example: Path) -> None:
    def reused() -> list[bool]:
        code_digest.cache_clear()
        return [stage.reused for stage in run_file(Host.discover(), "run.yaml").stages]

    assert reused() == [False, False]
    assert reused() == [True, True]
    example.write_text(example.read_text() + "\n# Another thought.\n")
    assert reused() == [True, False]


def test_its_saved_states_are_read_where_it_is_named_again(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host.discover()
    host.save(host.create("estimator:effective-rank", config={"power": 3}), "state")
    assert Host.discover().load("state").power == 3
    Path("scorefold.toml").unlink()
    with pytest.raises(ArtefactError, match="estimator:effective-rank@1 of local 0") as caught:
        Host.discover().load("state")
    assert caught.value.hint == "name its file in SCOREFOLD_DEV_PLUGINS, or under [develop] in scorefold.toml"
    monkeypatch.setenv(VARIABLE, "my_plugin.py")
    assert Host.discover().load("state").power == 3


def test_worker_processes_find_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    write("deep/down/my_jobs.py", "def square(x): return x * x\n")
    monkeypatch.setenv(VARIABLE, "deep/down/my_jobs.py")
    discover()
    executor = LocalExecutor(workers=2)
    try:
        assert executor.map("my_jobs:square", [2, 3], "squares") == [4, 9]
    finally:
        executor.close()


def test_other_processes_find_it_by_the_same_names(example: Path) -> None:
    code = "from scorefold_registry import Host; print(Host.discover().create('estimator:effective-rank').power)"
    Path("scorefold.toml").unlink()
    surroundings = {**os.environ, VARIABLE: "my_plugin.py"}
    done = subprocess.run([sys.executable, "-c", code], env=surroundings, capture_output=True, text=True, check=True)
    assert done.stdout == "2.0\n"
