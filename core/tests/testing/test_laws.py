"""Every law holds for a good component, and a broken one fails it: no check of the kit passes by saying nothing."""

from __future__ import annotations

import pytest
from broken_fakes import BREAKS
from fake_host import make_host
from good_fakes import COMPONENTS

from scorefold.testing import LAWS, Check, Item, check_components, common
from scorefold.testing.contract import FAILED, PASSED, SKIPPED

HOST = make_host()
ORIGIN = "fake_host:make_host"
PROVEN = {law.name for law in LAWS} | {"floor"}


def checks_of(name: str, *only: str) -> list[Check]:
    item = Item(HOST.catalogue[name], name)
    return list(check_components([item], HOST, only=only, origin=ORIGIN))


@pytest.fixture(scope="module")
def good_checks() -> list[Check]:
    return [check for component in COMPONENTS for check in checks_of(component.id)]


def test_the_table_of_fakes_covers_every_check() -> None:
    assert set(BREAKS) == PROVEN
    assert len({law.name for law in LAWS}) == len(LAWS)


def test_good_components_pass(good_checks: list[Check]) -> None:
    failed = [check for check in good_checks if check.result not in (PASSED, SKIPPED)]
    assert not failed
    assert {check.component for check in good_checks} == {component.id for component in COMPONENTS}


def test_every_law_is_tried_on_a_good_component(good_checks: list[Check]) -> None:
    assert {check.check for check in good_checks if check.result == PASSED} == PROVEN


@pytest.mark.parametrize("name", sorted(PROVEN))
def test_a_broken_component_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "BUILD_SECONDS", 0.1)
    checks = checks_of(BREAKS[name], *(() if name == "floor" else (name,)))
    (check,) = [check for check in checks if check.check == name]
    assert check.result == FAILED, check.detail
    assert check.detail.endswith("(replay: seed 0)") or name == "floor"
