"""Environments of toys: virtual environments without pip, whose plugin is a folder that a ``.pth`` file names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scorefold_registry.host import Host
from scorefold_registry.plugins.environments.environment import describe_environment
from scorefold_registry.plugins.environments.spec import environments_in
from scorefold_registry.plugins.environments.store import VARIABLE
from scorefold_registry.plugins.records import environments_of
from scorefold_registry.plugins.settings import read_settings

HERE = Path(__file__).parent


def write_toy(site: Path, clash: str) -> Path:
    """The plugin ``toy-old`` as if it were installed in a folder, with a version of the library ``clash``."""
    shutil.copytree(HERE / "toy_old", site / "toy_old", ignore=shutil.ignore_patterns("__pycache__"))
    (site / "clash.py").write_text(f'VERSION = "{clash}"\n')
    info = site / "toy_old-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-old\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[scorefold.plugins]\nold = toy_old.plugin\n")
    return site


def write_venv(folder: Path, site: Path) -> Path:
    """The interpreter of a virtual environment that sees a folder of packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = next((folder / "lib").glob("python*/site-packages"))
    (packages / "toys.pth").write_text(f"{site}\n")
    return folder / "bin" / "python"


@dataclass
class World:
    """A folder with a settings file that names the environments ``one`` and ``two``, both described."""

    root: Path
    hosts: list[Host]

    def host(self, **limits: str) -> Host:
        """A host of these environments; ``limits`` are lines of the table ``one``, such as ``seconds="5"``."""
        file = self.root / "scorefold.toml"
        if limits:
            text = file.read_text()
            lines = "".join(f"{name} = {value}\n" for name, value in limits.items())
            file = self.root / "limited.toml"
            file.write_text(text.replace("[environments.two]", f"{lines}[environments.two]"))
        self.hosts.append(Host.discover(toml=file))
        return self.hosts[-1]

    def close(self) -> None:
        """Ends the workers of all hosts."""
        for host in self.hosts:
            for environment in environments_of(host.plugins):
                environment.close()
        self.hosts.clear()


@pytest.fixture(scope="session")
def _made_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("isolated")
    lines = []
    for name, clash in (("one", "1.0"), ("two", "2.0")):
        site = root / name / "site"
        site.mkdir(parents=True)
        interpreter = write_venv(root / name / "venv", write_toy(site, clash))
        lines += [f"[environments.{name}]", f'interpreter = "{interpreter}"']
    (root / "scorefold.toml").write_text("\n".join([*lines, ""]))
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(root / "cache")
    try:
        for spec in environments_in(read_settings(root / "scorefold.toml")):
            describe_environment(spec)
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
    return World(root, [])


@pytest.fixture
def world(_made_world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Two environments with a plugin each, on contradicting versions of one library; no worker is left behind."""
    monkeypatch.setenv(VARIABLE, str(_made_world.root / "cache"))
    monkeypatch.delenv("SCOREFOLD_PLUGINS", raising=False)
    monkeypatch.chdir(_made_world.root)
    yield _made_world
    _made_world.close()


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Host]]:
    """``local()``: a host with the same plugin in this process, on ``clash`` 2.0. It is forgotten afterwards."""
    site = tmp_path / "local"
    site.mkdir()
    write_toy(site, "2.0")
    monkeypatch.syspath_prepend(site)
    yield lambda: Host.discover(toml=_empty(tmp_path))
    for module in list(sys.modules):
        if module.partition(".")[0] in ("toy_old", "clash"):
            del sys.modules[module]


def _empty(folder: Path) -> Path:
    file = folder / "empty.toml"
    file.touch()
    return file
