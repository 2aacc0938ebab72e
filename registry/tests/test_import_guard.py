"""What a plugin may do while it is imported, and what is reported of it or undone."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from discovered import assert_unharmed, record

from scorefold_registry.cli.doctor import _heavy
from scorefold_registry.cli.heavy_imports import heavy_imports
from scorefold_registry.plugins.discovery import discover

Install = Callable[..., Path]

Source = Callable[..., str]

ROOT = Path(__file__).parents[2]

ENDS = "import os, sys\nif sys.argv[0].endswith('heavy_imports.py'):"
"""The beginning of a line that only the process that watches imports runs."""


class TestHeavyImports:
    """A heavy import while registering is found with package, module, file and line; it is no failure."""

    @pytest.mark.parametrize(
        ("line", "module"),
        [
            ("import numpy", "numpy"),
            ("import torch.nn as nn", "torch"),
            ("from pydantic import BaseModel", "pydantic"),
            ("from scorefold import config", "scorefold.config"),
            ("from scorefold.interfaces import Estimator", "scorefold.interfaces"),
        ],
    )
    def test_it_is_found_even_where_the_module_is_imported_already(
        self, install: Install, healthy: str, line: str, module: str
    ) -> None:
        folder = install("fake-heavy", f"\nprint('hello')\n{line}\n")
        records = [record(found := discover(), "fake-heavy"), record(found, "fake-healthy")]
        assert records[0].state == "registered"
        (heavy,) = heavy_imports(records)
        assert (heavy.package, heavy.module, heavy.at) == ("fake_heavy", module, f"{folder / 'plugin.py'}:7")

    def test_an_import_inside_a_hook_and_inside_a_helper(self, install: Install) -> None:
        folder = install(
            "fake-heavy",
            "from fake_heavy import helper\n@hookimpl\ndef scorefold_kinds():\n    import scipy.linalg\n    return []",
            files={"helper.py": "import pandas"},
        )
        first, second = heavy_imports([record(discover(), "fake-heavy")])
        assert (first.module, first.at) == ("pandas", f"{folder / 'helper.py'}:1")
        assert (second.module, second.at) == ("scipy", f"{folder / 'plugin.py'}:8")

    def test_a_second_plugin_that_imports_it_is_found_too(self, install: Install) -> None:
        for letter in "ab":
            install(f"fake-{letter}", "import numpy")
        records = [each for each in discover().plugins if each.distribution.startswith("fake-")]
        assert [each.package for each in heavy_imports(records)] == ["fake_a", "fake_b"]

    @pytest.mark.parametrize(
        ("line", "failure"),
        [
            ("os._exit(3)", "the process that imports it ended with status 3"),
            ("os.write(2, b'one\\nno licence\\n'); os._exit(0)", "no licence"),
            ("print([3]); sys.stdout.flush(); os._exit(0)", "the process that imports it ended with status 0"),
        ],
    )
    def test_imports_that_could_not_be_measured_are_named(self, install: Install, line: str, failure: str) -> None:
        install("fake-ends", f"{ENDS} {line}")
        ends = record(discover(), "fake-ends")
        (heavy,) = heavy_imports([ends])
        (finding,) = _heavy(ends, [heavy])
        assert finding.what == f"its imports could not be measured: {failure}"
        assert finding.fix == "python -X importtime -c 'import fake_ends.plugin' shows them"
        assert not finding.fault

    def test_a_plugin_that_ends_the_process_hides_no_other(self, install: Install) -> None:
        install("fake-ends", f"{ENDS} os._exit(3)")
        install("fake-heavy", "import numpy")
        found = discover()
        heavy = heavy_imports([record(found, "fake-heavy"), record(found, "fake-ends")])
        assert [(each.module, bool(each.failure)) for each in heavy] == [("numpy", False), ("fake_ends.plugin", True)]

    def test_our_plugins_import_nothing_heavy(self) -> None:
        ours = [item for item in discover().plugins if item.distribution.startswith("scorefold-")]
        assert {item.name for item in ours} >= {"standard", "iddiff"}
        assert [item.warnings for item in ours] == [[] for _ in ours]
        assert heavy_imports(ours) == []


def test_ctrl_c_while_a_plugin_is_imported_ends_discovery(install: Install) -> None:
    install("fake-slow", "import signal\nsignal.raise_signal(signal.SIGINT)")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run unattended it is ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            discover()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_working_folder_is_changed_back(install: Install, healthy: str) -> None:
    install("fake-moves", "import os\nos.chdir('/')")
    here = Path.cwd()
    found = discover()
    assert Path.cwd() == here
    assert record(found, "fake-moves").warnings == [
        "it changes the working folder while it is imported, which was changed back"
    ]
    assert_unharmed(found)


def test_discovery_of_200_distributions_imports_nothing_heavy(tmp_path: Path) -> None:
    for number in range(200):
        info = tmp_path / f"bulk_{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: bulk-{number}\nVersion: 1.0\n")
        if number % 2:
            (info / "entry_points.txt").write_text(f"[console_scripts]\nbulk-{number} = bulk:main\n")
    script = """
import sys
from scorefold_registry.cli.main import main
status = main(["plugins", "list"])
heavy = {"torch", "pydantic", "numpy", "rich", "ruamel", "ruamel.yaml", "jinja2", "matplotlib", "filelock", "difflib",
         "tomllib", "asyncio", "unittest", "http"}
print("HEAVY", sorted(heavy & set(sys.modules)), len(sys.modules), file=sys.stderr)
sys.exit(status)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "standard  scorefold-standard" in done.stdout
    _, heavy, count = done.stderr.strip().rpartition("HEAVY")[2].partition("[]")
    assert heavy == "[]", done.stderr
    # Python, pluggy, importlib-metadata and our plugins make about 210; pydantic alone would bring 90 more. A plugin
    # of ours brings two.
    assert int(count) < 228 + 2 * len(list(ROOT.glob("plugins/*/pyproject.toml")))
