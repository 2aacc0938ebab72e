"""Real little packages with one fault each, installed together: each is named as documented, and harms no other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import importlib_metadata
import pytest
from wheel_building import build_wheels

ROOT = Path(__file__).parent.parent
VERSIONS = {importlib_metadata.version(name) for name in ("scorefold-core", "numpy")}

HEADER = 'from scorefold.plugin import Component, hookimpl; __plugin_api__ = "1.0"\n'
OFFER = """
@hookimpl
def scorefold_components():
    yield Component("estimator", "{name}", "{package}.method:Half", "scorefold.config:Config", "half of everything")
"""
METHOD = """
from scorefold.interfaces import Estimator
from scorefold.results import Estimate

class Half(Estimator):
    def __init__(self, config):
        pass

    def estimate(self, data, *, generator=None):
        return Estimate("half", data.shape[1] / 2)
"""


@dataclass(frozen=True)
class Package:
    """A distribution with one plugin: the source of its plugin.py below a line of imports, and what it requires."""

    source: str
    requires: str = "scorefold-core"
    plugin: str | None = None
    header: str = HEADER


PACKAGES = {
    "good-half": Package(OFFER.format(name="half", package="good_half")),
    "bad-missing": Package("import absent_module"),
    "bad-import": Package("def check_licence():\n    raise RuntimeError('no licence')\ncheck_licence()"),
    "bad-registration": Package("@hookimpl\ndef scorefold_components():\n    return [{}['method']]"),
    "bad-return": Package("@hookimpl\ndef scorefold_components():\n    return 'estimator:half'"),
    "bad-comma": Package(OFFER.format(name="comma", package="bad_comma").strip()[:-1] + ', provides=("Trainable"))'),
    "bad-hook": Package("@hookimpl\ndef scorefold_component():\n    return []"),
    "bad-argument": Package("@hookimpl\ndef scorefold_after_run(run, outcome):\n    pass"),
    "bad-api": Package("", header='__plugin_api__ = "1.9"'),
    "bad-stale": Package("raise SystemExit('code of an incompatible plugin ran')", requires="scorefold-core<0.1"),
    "bad-library": Package(OFFER.format(name="library", package="bad_library"), requires="numpy<1"),
    "bad-name-a": Package(OFFER.format(name="one", package="bad_name_a"), plugin="twin"),
    "bad-name-b": Package(OFFER.format(name="two", package="bad_name_b"), plugin="twin"),
    "bad-double-a": Package(OFFER.format(name="double", package="bad_double_a")),
    "bad-double-b": Package(OFFER.format(name="double", package="bad_double_b")),
    "bad-heavy": Package("import torch\n" + OFFER.format(name="heavy", package="bad_heavy")),
    "bad-denied": Package("raise SystemExit('code of a denied plugin ran')"),
    "bad-method": Package(OFFER.format(name="method", package="bad_method").replace("Half", "Hafl")),
}
DENY = "--plugins=-bad-denied"
UNNAMED = {"good-half", "bad-name-b", "bad-double-b"}
"""Packages that the documentation's table has no row of: the good one, and the other halves of two pairs."""


def write(folder: Path, name: str, package: Package) -> None:
    """The source tree of a package, as its author would have it."""
    module = name.replace("-", "_")
    plugin = package.plugin or name.partition("-")[2]
    code = folder / "src" / module
    code.mkdir(parents=True)
    (code / "__init__.py").write_text("")
    (code / "plugin.py").write_text(package.header + package.source.lstrip())
    (code / "method.py").write_text(METHOD)
    (folder / "pyproject.toml").write_text(
        textwrap.dedent(f"""
            [build-system]
            requires = ["hatchling"]
            build-backend = "hatchling.build"

            [project]
            name = "{name}"
            version = "1.0"
            dependencies = ["{package.requires}"]

            [project.entry-points."scorefold.plugins"]
            {plugin} = "{module}.plugin"

            [tool.hatch.build.targets.wheel]
            packages = ["src/{module}"]
        """)
    )


def call(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("SCOREFOLD_")}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=surroundings, capture_output=True, text=True, check=False
    )


def check(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment that sees this one's packages and has all the others installed by pip.

    The wheels are built in one process; the good package is built by pip itself.
    """
    base = tmp_path_factory.mktemp("bad")
    check(call(sys.executable, "-m", "venv", "--without-pip", base / "env", cwd=base))
    python = base / "env" / "bin" / "python"
    site = Path(check(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=base)).strip())
    (site / "parent.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    folders = {name: base / "sources" / name for name in PACKAGES}
    for name, package in PACKAGES.items():
        write(folders[name], name, package)
    good = folders.pop("good-half")
    wheels = build_wheels(base / "wheels", folders.values())
    assert len(wheels) == len(PACKAGES) - 1
    check(
        call(
            *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-build-isolation", "--no-index", good, *wheels),
            cwd=base,
        )
    )
    return python


def scorefold(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return call(python, "-m", "scorefold_registry.cli", *arguments, cwd=python.parent)


@pytest.fixture(scope="module")
def doctor(python: Path) -> dict[str, dict[str, Any]]:
    """What the doctor says of each of the packages, with places as the documentation writes them."""
    done = scorefold(python, DENY, "plugins", "doctor", "--load", "--json")
    assert done.returncode == 1, done.stderr
    text = re.sub(r'"at": "[^"]*/site-packages/', '"at": "', done.stdout)
    for version in VERSIONS:
        text = re.sub(rf"\b{re.escape(version)}\b", "X.Y.Z", text)
    return {item["distribution"]: item for item in json.loads(text)["plugins"] if item["distribution"] in PACKAGES}


def documented() -> dict[str, dict[str, str | None]]:
    """The rows of the table of faults in docs/plugins.md, by the distribution that each is about."""
    text = (ROOT / "docs" / "plugins.md").read_text()
    rows = {}
    for line in text.partition("| fault | state |")[2].partition("\n\n")[0].splitlines()[2:]:
        fault, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
        state, cause, at, fix = (cell.strip("`") or None for cell in cells)
        name = re.search(r"bad[-_][a-z]+([-_][ab]\b)?", f"{at} {fix} {cause}")
        assert name is not None, line
        rows[name[0].replace("_", "-")] = {"fault": fault, "state": state, "what": cause, "at": at, "fix": fix}
    return rows


ROWS = documented()


def test_every_fault_is_documented() -> None:
    assert set(ROWS) == set(PACKAGES) - UNNAMED


@pytest.mark.parametrize("name", ROWS)
def test_the_doctor_says_what_is_documented(doctor: dict[str, dict[str, Any]], name: str) -> None:
    said = doctor[name]
    # On busy cores any import may be slow, which is then a finding too.
    (finding,) = [item for item in said["findings"] if "which delays every command" not in item["what"]]
    row = ROWS[name]
    assert {key: row[key] for key in ("what", "at", "fix")} == {key: finding[key] for key in ("what", "at", "fix")}
    assert said["version"] == "1.0"
    # A name that two plugins have and a plugin that is denied are how somebody wanted it.
    assert finding["fault"] == (name not in ("bad-name-a", "bad-denied"))


def test_listing_shows_all_in_order_and_nothing_of_theirs_runs_without_imports(python: Path) -> None:
    found = json.loads(check(scorefold(python, DENY, "plugins", "list", "--json")))["plugins"]
    states = {item["distribution"]: item["state"] for item in found}
    assert [name for name in states if name in PACKAGES] == sorted(PACKAGES)
    assert {name: states[name] for name in ROWS} == {name: row["state"] for name, row in ROWS.items()}
    still = json.loads(check(scorefold(python, DENY, "plugins", "list", "--no-import", "--json")))["plugins"]
    unread = {item["distribution"]: item["state"] for item in still if item["distribution"] in PACKAGES}
    assert unread == dict.fromkeys(PACKAGES, "found") | {"bad-stale": "incompatible", "bad-denied": "disabled"}


def test_a_good_plugin_beside_them_works(python: Path, doctor: dict[str, dict[str, Any]]) -> None:
    assert (doctor["good-half"]["state"], doctor["good-half"]["findings"]) == ("loaded", [])
    code = """
import torch
from scorefold_registry import Host

host = Host.discover()
print(host.create("estimator:half").estimate(torch.zeros(3, 8)).value)
print(host.create("bad-double-a/estimator:double").estimate(torch.zeros(3, 6)).value)
for name in ("one", "two", "heavy", "library"):
    print(host.create(f"estimator:{name}").estimate(torch.zeros(3, 2)).value)
"""
    assert check(call(python, "-c", code, cwd=python.parent)).split() == ["4.0", "3.0", "1.0", "1.0", "1.0", "1.0"]
    assert "estimator:half@1  good-half 1.0  registered" in check(
        scorefold(python, "plugins", "show", "estimator:half")
    )
