"""Changes of the process by a plugin's code while it is imported, and plugins that end themselves there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scorefold.errors import PluginError
from scorefold_registry.host import Host
from scorefold_registry.plugins.process_guard import isolated

Install = Callable[..., Path]


def test_the_working_folder_is_changed_back_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    warnings: list[str] = []
    with isolated(warnings.append):
        os.chdir("/")
    assert Path.cwd() == tmp_path
    assert len(warnings) == 1
    Path("gone").mkdir()
    os.chdir("gone")
    Path("../gone").rmdir()
    with isolated(pytest.fail):
        pass


@pytest.mark.parametrize("ending", ["", "\nraise KeyboardInterrupt"])
def test_what_a_plugin_imports_later_is_held_to_the_same(install: Install, ending: str) -> None:
    source = """
    @hookimpl
    def scorefold_components():
        yield Component("estimator", "moves", "fake_moves.impl:Moves", "scorefold.config:Config", "moves")
    """
    install("fake-moves", source, files={"impl.py": f"import os\nos.chdir('/'){ending}"})
    here, host = Path.cwd(), Host.discover()
    with pytest.raises(PluginError, match="no 'Moves'" if not ending else "failed: KeyboardInterrupt"):
        host.create("estimator:moves")
    assert Path.cwd() == here
    (moves,) = (record for record in host.plugins if record.distribution == "fake-moves")
    assert moves.warnings[0] == "it changes the working folder while it is imported, which was changed back"
