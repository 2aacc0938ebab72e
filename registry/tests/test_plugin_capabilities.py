"""Capabilities that a plugin adds: used by components and ports, contested, faulty and gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scorefold.errors import ConfigError, PluginError
from scorefold_registry.cli.main import main
from scorefold_registry.host import Host

Install = Callable[..., Path]

ABILITY = """
from scorefold.plugin import Capability

@hookimpl
def scorefold_capabilities():
    yield Capability({name!r}, "fake_impl_able.able:{name}", "It can be stacked")
"""

COMPONENTS = """
@hookimpl
def scorefold_components():
    for name, provides in (("able", {provides!r}), ("plain", ())):
        yield Component(kind="geometry", name=name, target="fake_impl_able.able:" + name.title(),
                        config="scorefold.config:Config", summary="made for a test", provides=provides)
    yield Component(kind="geometry", name="tower", target="fake_impl_able.able:Tower", config="scorefold.config:Config",
                    summary="made for a test", requires=(Port("floor", kind="geometry", needs={provides!r}),))
"""

IMPL = """
from scorefold.interfaces import Geometry

class Stacks:
    pass

class Plain(Geometry):
    def __init__(self, config, floor=None):
        pass
    def metric(self, x): ...
    def inner(self, x, u, v): ...
    def exp(self, x, v): ...
    def log(self, x, y): ...

class Able(Plain, Stacks):
    pass

class Tower(Plain):
    pass
"""


@pytest.fixture
def add(install: Install) -> Callable[..., Path]:
    """``add("fake-able")`` installs a distribution with the capability ``Stacks``, and components that provide it."""

    def make(distribution: str, name: str = "Stacks", components: bool = True) -> Path:
        if not (Path("..") / "site" / "fake_impl_able").exists():
            install("fake-impl-able", "", files={"able.py": IMPL})
        source = ABILITY.format(name=name) + (COMPONENTS.format(provides=(name,)) if components else "")
        return install(distribution, source)

    return make


def record(host: Host, distribution: str = "fake-able"):  # type: ignore[no-untyped-def]
    return next(item for item in host.plugins if item.distribution == distribution)


def test_ports_need_what_a_plugin_adds(add: Callable[..., Path]) -> None:
    add("fake-able")
    host = Host.discover()
    host.create("geometry:tower", floor={"use": "geometry:able"})
    with pytest.raises(ConfigError, match="needs Stacks"):
        host.create("geometry:tower", floor={"use": "geometry:plain"})


def test_a_component_that_can_do_it_and_does_not_say_so_is_warned_of(add: Callable[..., Path]) -> None:
    folder = add("fake-able")
    source = folder / "plugin.py"
    source.write_text(source.read_text().replace("(\"able\", ('Stacks',))", '("able", ())'))
    host = Host.discover()
    host.create("geometry:able")
    assert any("can do Stacks but does not declare it" in text for text in record(host).warnings)


def test_a_component_that_says_so_and_can_not_is_refused(add: Callable[..., Path]) -> None:
    folder = add("fake-able")
    source = folder / "plugin.py"
    source.write_text(source.read_text().replace('("plain", ())', "(\"plain\", ('Stacks',))"))
    with pytest.raises(PluginError, match="says that it provides Stacks, but"):
        Host.discover().create("geometry:plain")


def test_it_is_shown_and_checked(add: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    add("fake-able", components=False)
    assert main(["plugins", "show", "fake-able", "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)["plugins"]
    assert shown["capabilities"] == [{"name": "Stacks", "summary": "It can be stacked"}]
    (Path("..") / "site" / "fake_impl_able" / "able.py").write_text("")
    main(["plugins", "doctor", "--load"])
    assert "the capability 'Stacks'" in capsys.readouterr().out


def test_one_that_two_declare_is_nobodys_until_one_is_preferred(add: Callable[..., Path]) -> None:
    add("fake-able")
    add("fake-other", components=False)
    states = {item.distribution: item.state for item in Host.discover().plugins}
    assert (states["fake-able"], states["fake-other"]) == ("ambiguous", "ambiguous")
    Path("scorefold.toml").write_text('[prefer]\n"capability:Stacks" = "fake-able"')
    host = Host.discover()
    assert record(host).state == "registered"
    assert not host.notes
    host.create("geometry:tower", floor={"use": "geometry:able"})


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("Trainable", "it declares the capability 'Trainable', which is scorefold-core's"),
        ("stacks", "a capability is called 'stacks'; expected a class's name, such as Trainable"),
    ],
)
def test_faulty_ones_break_their_plugin_alone(add: Callable[..., Path], name: str, cause: str) -> None:
    add("fake-able", name=name, components=False)
    host = Host.discover()
    assert record(host).state == "broken"
    assert cause in str(record(host).cause)
    assert "Trainable" in host.catalogue.capabilities


def test_without_the_plugin_what_needs_it_is_broken_and_says_so(install: Install) -> None:
    install("fake-able", COMPONENTS.format(provides=("Stacks",)))
    broken = record(Host.discover())
    assert broken.state == "broken"
    assert "says that it provides 'Stacks', which is unknown" in str(broken.cause)


def test_what_provides_it_is_compared_where_it_has_a_comparison(
    add: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    add("fake-able")
    assert main(["compare", "Stacks"]) == 2
    assert "components that provide Stacks have no number in common to compare" in capsys.readouterr().err


def test_one_that_cannot_be_imported_harms_only_what_needs_it(add: Callable[..., Path], install: Install) -> None:
    add("fake-able")
    install("fake-other", ABILITY.format(name="Broken").replace("fake_impl_able.able", "fake_impl_able.gone"))
    host = Host.discover()
    host.create("geometry:able")  # imports fake_impl_able
    assert "Broken" not in host.capabilities()
    assert "Stacks" in host.capabilities()
    (Path("..") / "site" / "fake_impl_able" / "gone.py").write_text("Broken = 3")
    with pytest.raises(PluginError, match=r"fake_impl_able\.gone:Broken, an int; expected a class"):
        host.builder.capability("Broken")
