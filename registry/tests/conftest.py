"""Plugins made for a test: written to a folder that stands on the path, as if they were installed."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from scorefold_registry.host import Host

HEADER = """
from scorefold.plugin import Claim, Component, Kind, Port, Verb, hookimpl

__plugin_api__ = "1.0"
"""

Install = Callable[..., Path]


def write_distribution(
    folder: Path,
    name: str,
    version: str = "1.0",
    entry_points: dict[str, str] | None = None,
    requires: Sequence[str] = (),
) -> None:
    """The ``dist-info`` folder of a distribution, with its plugins by name."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    (info / "METADATA").write_text("\n".join([*lines, ""]))
    if entry_points is not None:
        lines = [f"{plugin} = {value}" for plugin, value in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[scorefold.plugins]", *lines, ""]))


@pytest.fixture
def drawn() -> None:
    """Figures, for tests that look at them."""


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest) -> None:
    """No figures elsewhere."""
    if "drawn" not in request.fixturenames:
        request.getfixturevalue("undrawn")


@contextmanager
def installing(site: Path) -> Iterator[Install]:
    """Puts a new folder for plugins on the path. Modules of it and of those beside it are forgotten at the end."""
    site.mkdir()

    def make(
        distribution: str,
        source: str,
        *,
        files: dict[str, str] | None = None,
        version: str = "1.0",
        header: bool = True,
        name: str | None = None,
        requires: Sequence[str] = (),
    ) -> Path:
        package = distribution.replace("-", "_")
        folder = site / package
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        (folder / "plugin.py").write_text((HEADER if header else "") + textwrap.dedent(source))
        for file, text in (files or {}).items():
            (folder / file).write_text(textwrap.dedent(text))
        entry = {name or distribution.rpartition("-")[2]: f"{package}.plugin"}
        write_distribution(site, distribution, version, entry, requires)
        return folder

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        patch.delenv("SCOREFOLD_PLUGINS", raising=False)
        yield make
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", "")).startswith(f"{site.parent}/"):
                del sys.modules[name]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """``install("fake-one", plugin_source, files={"impl.py": source}, version="1.0", header=True,
    requires=("numpy",))``.

    The plugin is called as the last word of its distribution, its package as the distribution with underscores; gives
    the package's folder. What was imported is forgotten at the end of the test.
    """
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    with installing(tmp_path / "site") as make:
        yield make


@pytest.fixture(scope="module")
def install_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    """``install`` for all tests of a file, which leave the plugin as it is."""
    with installing(tmp_path_factory.mktemp("installed") / "site") as make:
        yield make


def copy_fake_one(install: Install) -> Path:
    folder = install("fake-one", "")
    shutil.copytree(Path(__file__).parent / "fake_one", folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    return folder


@pytest.fixture
def fake_one(install: Install) -> Path:
    """The plugin ``one`` of ``fake-one 1.0``, from the folder beside this file; gives its installed folder."""
    return copy_fake_one(install)


@pytest.fixture(scope="module")
def fake_host(install_once: Install) -> Host:
    """The host of what is installed and of ``fake-one``, for all tests of a file."""
    copy_fake_one(install_once)
    return Host.discover()


@pytest.fixture
def component() -> Callable[..., str]:
    """The source of a plugin that registers components: ``component("score", "one two", extra="revision=2")``."""

    def source(
        kind: str, names: str, target: str = "fake.impl:Thing", config: str = "scorefold.config:Config", extra: str = ""
    ) -> str:
        return f"""
@hookimpl
def scorefold_components():
    for name in {names.split()!r}:
        yield Component(
            kind={kind!r}, name=name, target={target!r}, config={config!r}, summary="made for a test", {extra}
        )
"""

    return source


@pytest.fixture
def healthy(install: Install, component: Callable[..., str]) -> str:
    """A plugin that stands beside every broken one and must come to no harm."""
    install("fake-healthy", component("score", "healthy"))
    return "fake-healthy"
