"""The list of known plugins is the repository's: nothing is offered for installation that isn't there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from scorefold.errors import ConfigError, PluginError
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.host import Host
from scorefold_registry.plugins.discovery import discover
from scorefold_registry.plugins.names import known_plugins, not_installed
from scorefold_registry.plugins.records import PluginRecord

sys.path.insert(0, str(Path(__file__).parent.parent / ".ci"))

import known

INSTALL = "pip install scorefold-iddiff, or in a checkout of Scorefold: pip install ./plugins/iddiff"


@pytest.fixture(scope="module")
def records() -> list[PluginRecord]:
    return discover(allow=[plugin.distribution for plugin in known_plugins()]).plugins


def test_it_holds_what_the_plugins_of_the_repository_declare() -> None:
    written = json.loads(known.FILE.read_text())
    assert written == known.known(), "run: make known"
    assert {entry["distribution"] for entry in written} == {plugin.distribution for plugin in known_plugins()}


def without_iddiff(records: list[PluginRecord]) -> Catalogue:
    return Catalogue([record for record in records if record.name != "iddiff"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("estimator:iddiff", "there is no 'estimator:iddiff'; it comes with scorefold-iddiff, which is not installed"),
        ("estimator:iddiff@1", "there is no 'estimator:iddiff'; it comes with scorefold-iddiff, which is"),
        ("iddiff", "no component is called 'iddiff'; it comes with scorefold-iddiff, which is not installed"),
        (
            "scorefold-iddiff/estimator:iddiff",
            "no distribution 'scorefold-iddiff' offers components here; it comes with scorefold-iddiff, which is not",
        ),
    ],
)
def test_a_name_of_a_known_plugin_says_what_to_install(records: list[PluginRecord], name: str, message: str) -> None:
    with pytest.raises(PluginError) as caught:
        without_iddiff(records).resolve(name)
    assert caught.value.message.startswith(message)
    assert (caught.value.hint or "").startswith(INSTALL)


def test_nothing_is_said_to_be_missing_that_is_only_misspelt_or_switched_off(records: list[PluginRecord]) -> None:
    with pytest.raises(PluginError) as caught:
        without_iddiff(records).resolve("estimator:iddif")
    assert "not installed" not in str(caught.value)
    off = Host.discover(deny=["iddiff"])
    assert not_installed(off.plugins) == ()
    with pytest.raises(PluginError, match="there is no 'estimator:iddiff'\n"):
        off.create("estimator:iddiff")


def test_settings_of_a_plugin_that_is_not_installed(records: list[PluginRecord], tmp_path: Path) -> None:
    from scorefold_registry.runfile.plan import make_plan
    from scorefold_registry.runfile.reader import read

    file = tmp_path / "run.yaml"
    file.write_text("version: 1\nname: one\nplugins: {iddiff: {}}\nstages: {data: {use: data:digits}}\n")
    with pytest.raises(ConfigError) as caught:
        make_plan(without_iddiff(records), read(file))
    message = "3:11: no plugin 'iddiff' is installed; there is one: Intrinsic dimension of data from a score model\n  "
    assert message + INSTALL in str(caught.value)


def test_a_run_file_says_it_too(records: list[PluginRecord], tmp_path: Path) -> None:
    from scorefold_registry.runfile.plan import make_plan
    from scorefold_registry.runfile.reader import read

    file = tmp_path / "run.yaml"
    file.write_text("version: 1\nname: one\nstages:\n  dimension: {use: estimator:iddiff, inputs: {}}\n")
    with pytest.raises(ConfigError) as caught:
        make_plan(without_iddiff(records), read(file))
    assert "4:20: there is no 'estimator:iddiff'; it comes with scorefold-iddiff" in str(caught.value)
    assert INSTALL in str(caught.value)
