"""The fixtures: a plugin in a folder of its own, tried by commands there, and a host that tests share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from scorefold_testing.fixtures import PluginFolder

LEAKING = """
    import torch
    from scorefold.config import Config
    from scorefold.errors import ConfigError
    from scorefold.interfaces import Allocator
    from scorefold.plugin import Component, hookimpl
    from scorefold.results import Allocation

    __plugin_api__ = "1.0"


    @hookimpl
    def scorefold_components():
        yield Component("allocator", "none", "leaking:Nothing", "leaking:NoConfig", "A baseline that spends nothing")


    class NoConfig(Config):
        "Nothing to set."


    class Nothing(Allocator):
        "Spends nothing."

        def __init__(self, config):
            self.config = config

        def allocate(self, budget, *, pilot=None, constraints=None, generator=None):
            torch.manual_seed(0)
            if budget < 0 or constraints:
                raise ConfigError("no")
            return Allocation("infeasible", (), budget)
"""


@pytest.fixture
def leaking(plugin_folder: PluginFolder) -> PluginFolder:
    plugin_folder.plugin("leaking.py", LEAKING)
    return plugin_folder


def test_a_plugin_is_found_and_its_leak_named(leaking: PluginFolder) -> None:
    found = leaking.failures("leaking", "--only", "global-random-state", "--only", "within-budget")
    assert found.keys() == {"allocator:none global-random-state", "allocator:none within-budget"}
    assert all("torch's generator is moved" in detail for detail in found.values())


def test_a_command_that_ends_otherwise_fails_with_what_it_printed(leaking: PluginFolder) -> None:
    before = dict(os.environ)
    leaking.write("run.yaml", "version: 1\nname: wrong\nstages: {}\n")
    with pytest.raises(AssertionError, match=r"scorefold validate run\.yaml ended with 1:\n[\s\S]*stages"):
        leaking.scorefold("validate", "run.yaml")
    found = leaking.scorefold("validate", "run.yaml", "--json", status=1)
    assert found.status == 1
    assert found.json
    assert dict(os.environ) == before


def test_commands_share_a_host_until_a_path_or_a_setting_says_otherwise(
    host: Any, one_host: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    discover = type(host).discover
    assert discover() is host
    assert discover(deny=["iddiff"]) is not host
    for change in (
        lambda patch: patch.setenv("SCOREFOLD_PLUGINS", "-iddiff"),
        lambda patch: patch.setenv("SCOREFOLD_DEV_PLUGINS", ""),
        lambda patch: patch.syspath_prepend(tmp_path),
    ):
        with monkeypatch.context() as patch:
            change(patch)
            assert discover() is not host
    monkeypatch.chdir(tmp_path)
    Path("scorefold.toml").touch()
    assert discover() is not host
