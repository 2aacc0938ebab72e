"""The list of known plugins is the repository's: nothing is offered for installation that isn't there."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from scorefold.errors import ConfigError, PluginError
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.host import Host
from scorefold_registry.plugins.discovery import discover
from scorefold_registry.plugins.known import KNOWN, KnownPlugin, not_installed
from scorefold_registry.plugins.records import PluginRecord

ROOT = Path(__file__).parent.parent
INSTALL = "pip install scorefold-iddiff, or in a checkout of Scorefold: pip install ./plugins/iddiff"


@pytest.fixture(scope="module")
def records() -> list[PluginRecord]:
    return discover(allow=[plugin.distribution for plugin in KNOWN]).plugins


def test_it_lists_the_plugins_of_the_repository_and_no_other() -> None:
    there = {}
    for file in sorted(ROOT.glob("plugins/*/pyproject.toml")):
        project = tomllib.loads(file.read_text())["project"]
        for name in project["entry-points"]["scorefold.plugins"]:
            there[name] = (project["name"], f"./plugins/{file.parent.name}")
    listed = {plugin.name: (plugin.distribution, plugin.install.rpartition(" ")[2]) for plugin in KNOWN}
    assert listed == there, "scorefold_registry.plugins.known and the folder plugins/ differ"


@pytest.mark.parametrize("plugin", KNOWN, ids=lambda plugin: plugin.name)
def test_it_says_what_each_offers(records: list[PluginRecord], plugin: KnownPlugin) -> None:
    found = {record.name: record for record in records}[plugin.name]
    offered = {f"{item.kind}:{name}" for item in found.components for name in (item.name, *item.aliases)}
    assert set(plugin.offers) == offered, "scorefold_registry.plugins.known and the plugin differ"


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
    message = "3:11: no plugin 'iddiff' is installed; there is one, intrinsic dimension from a score model\n  "
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
