"""The locks that a run file demands: their form, and what is here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scorefold.errors import PluginError
from scorefold_registry.plugins.environments import installer
from scorefold_registry.plugins.records import environments_of
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import RunFileError, read
from scorefold_registry.runfile.schema import run_schema


@pytest.mark.parametrize(
    ("line", "words", "hint"),
    [
        ("environments: [one]", "environments: a list; expected locks", "for example"),
        (
            "environments: {one: 3}",
            "the environment 'one' is 3; expected the digest of its lock",
            "can't name packages",
        ),
        ("environments: {one: {lock: 'sha256:00'}}", "expected the digest of its lock", "sha256:..."),
        ("environments: {one: {requirements: [a]}}", "expected the digest of its lock", "can't name packages"),
        (f"environments: {{ones: {{lock: 'sha256:{64 * '0'}'}}}}", "which scorefold.toml does not have", "'one'"),
        (f"environments: {{one: {{lock: 'sha256:{64 * '0'}'}}}}", "'one' has the lock sha256:", "take over the lock"),
    ],
)
def test_a_wrong_demand_is_refused_with_its_line(world: Any, tmp_path: Path, line: str, words: str, hint: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"version: 1\n{line}\nstages:\n  points: {{use: one/data:toy-points}}\n")
    host = world.host()
    with pytest.raises(RunFileError, match=words) as caught:
        make_plan(host.catalogue, read(file))
    assert caught.value.line == 2
    assert hint in str(caught.value.hint)
    assert not any(each.runs for each in environments_of(host.plugins))


def test_no_stage_has_the_name_of_the_folder_of_locks(world: Any, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("version: 1\nstages:\n  Environments: {use: one/data:toy-points}\n")
    with pytest.raises(RunFileError, match="'Environments' can't name a stage") as caught:
        make_plan(world.host().catalogue, read(file))
    assert caught.value.hint == "the folder environments of a run has the locks of environments"


def test_the_schema_knows_the_demand(world: Any) -> None:
    said = run_schema(world.host().catalogue).schema["properties"]["environments"]
    assert said["additionalProperties"]["properties"]["lock"]["pattern"] == "^sha256:[0-9a-f]{64}$"


HASH = "--hash=sha256:" + 64 * "0"


@pytest.mark.parametrize(
    "line",
    [
        "--no-binary :all:",
        "  --no-binary=:all:",
        "-i https://example.org/simple",
        "--index-url https://example.org/simple",
        f"clash==1.0 {HASH} --no-binary :all:",
        f"clash==1.0 ; python_version > '3' --global-option=x {HASH}",
        "clash==1.0 --config-settings=a=b \\",
        f"clash @ https://example.org/clash.tar.gz {HASH}",
        "-e ./clash",
        "./clash.tar.gz",
        "clash",
    ],
)
def test_a_lock_has_versions_and_hashes_alone(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(f"other==1.0 {HASH}\n{line}\n")
    spec = installer.Spec("one", tmp_path / "scorefold.toml", lock=lock)
    with pytest.raises(PluginError, match=r"line 2 of .* expected a version such as numpy==1\.26\.4") as caught:
        installer._Installer(spec, tmp_path)._given()
    assert "PIP_ variables" in str(caught.value.hint)


def test_a_lock_as_other_tools_write_it_is_taken(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lines = ["# scorefold: a", "", f"a[b, c]==1.0+cpu ; python_version < '3.12' {HASH}", "    # via b", "d==1!2.0 \\"]
    lock.write_text("\n".join([*lines, f"    {HASH} \\", f"    {HASH}", f"e.f==2.0rc1 {HASH}  # the last", ""]))
    spec = installer.Spec("one", tmp_path / "scorefold.toml", lock=lock)
    assert installer._Installer(spec, tmp_path)._given() == lock


def test_a_lock_is_taken_over_for_its_local_plugin(tmp_path: Path) -> None:
    lock, plugin = tmp_path / "lock.txt", tmp_path / "scorefold-old"
    plugin.mkdir()
    lock.write_text(f"# scorefold: numpy<2; scorefold-old\nnumpy==1.26.4 {HASH}\n")
    for named in ((str(plugin),), ("numpy<2", str(plugin)), ()):
        spec = installer.Spec("old", tmp_path / "scorefold.toml", named, lock=lock)
        assert installer._Installer(spec, tmp_path)._given() == lock
    other = installer.Spec("old", tmp_path / "scorefold.toml", ("numpy<3", str(plugin)), lock=lock)
    with pytest.raises(PluginError, match="was written for requirements that differ"):
        installer._Installer(other, tmp_path)._given()


def test_the_versions_of_an_interpreter_are_no_lock(world: Any, tmp_path: Path) -> None:
    (environment, _) = environments_of(world.host().plugins)
    assert "toy-old==1.0\n" in environment.lock
    (tmp_path / "lock.txt").write_text(environment.lock)
    spec = installer.Spec("one", tmp_path / "scorefold.toml", lock=tmp_path / "lock.txt")
    with pytest.raises(PluginError, match="has versions without hashes"):
        installer._Installer(spec, tmp_path)._given()
