"""The kit in a plugin's own tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from scorefold.errors import ConfigError
from scorefold.plugin import Component, Verb
from scorefold_testing.contract import Host
from scorefold_testing.report import Item, Report, check_components
from scorefold_testing.summary import CONFORMANCE
from scorefold_testing.verb import verb_as_component

Body = Callable[[Report], None]


def conformance(
    *names: str | Component | Verb,
    host: Callable[[], Host],
    seed: int = 0,
    expected: Mapping[str, str] | None = None,
    origin: str | None = None,
    levels: Iterable[str] = (),
) -> Callable[[Body], Callable[[str], None]]:
    """Makes a function ``test(report)`` a pytest test for each component, which fails where a check does.

    ``names`` are components or their names (``kind:name``), or verbs; ``host`` gives the host that makes them, and is
    called when the test runs. ``seed``, ``expected``, ``origin`` and ``levels`` are passed to ``check_components``. An
    expectation is applied to its own component alone. The function is called with the ``Report`` of one component once
    all checks hold, and may look further. Raises ``ConfigError`` for no names and where pytest is not installed.

    A test reads ``@conformance("estimator:mine", host=Host.discover)`` above ``def test_conformance(report): ...``,
    with the registry's ``Host``, or any object that keeps ``scorefold_testing.Host``.
    """
    try:
        import pytest
    except ImportError:
        raise ConfigError("the conformance decorator needs pytest", hint="pip install pytest") from None
    if not names:
        raise ConfigError("conformance was asked for of no component", hint='@conformance("kind:name", host=...)')
    as_components = [verb_as_component(name) if isinstance(name, Verb) else name for name in names]
    given = {name if isinstance(name, str) else name.id: name for name in as_components}
    unknown = [key for key in expected or {} if key.rpartition("/")[0] not in given]
    if unknown:
        raise ConfigError(f"a failure is expected of {', '.join(unknown)}, which is not among the components")

    def decorate(body: Body) -> Callable[[str], None]:
        def test(component: str, request: Any) -> None:
            made = host()
            item = _item(given[component], made)
            own = {key: why for key, why in (expected or {}).items() if key.rpartition("/")[0] == component}
            checks = check_components([item], made, seed=seed, expected=own, origin=origin, levels=levels)
            report = Report(tuple(checks))
            request.node.user_properties.append((CONFORMANCE, report.counts))
            assert report.holds, "\n".join(["checks that do not hold", *map(str, report.failures)])
            body(report)

        test.__name__, test.__doc__, test.__module__ = body.__name__, body.__doc__, body.__module__
        marked: Any = pytest.mark.parametrize("component", list(given))(test)
        found: Callable[[str], None] = marked
        return found

    return decorate


def _item(given: str | Component, host: Host) -> Item:
    """Item to check, with the module that declares it if the host's record of the plugin has it."""
    name = given if isinstance(given, str) else given.id
    found = next((entry for entry in host.components() if entry.component.id == name), None)
    plugin = getattr(getattr(found, "record", None), "value", None)
    if isinstance(given, Component):
        return Item(given, name, plugin)
    if found is None:
        raise ConfigError(f"the host has no component {name!r}")
    return Item(found.component, name, plugin)
