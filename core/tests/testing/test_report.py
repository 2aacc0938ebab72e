"""Reports, floors, expected failures, and the decorator in a plugin's own tests."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_host import make_host
from good_fakes import declare

from scorefold.errors import ConfigError
from scorefold.testing import FLOORS, LAWS, Check, Item, Report, check_components, conformance

HOST = make_host()
TENS, SPENDER = "allocator:tens", "allocator:breaks-within-budget"


def report_on(name: str, **options: object) -> Report:
    return Report(tuple(check_components([Item(HOST.catalogue[name], name)], HOST, **options)))  # type: ignore[arg-type]


def test_counts_add_up_and_nothing_checked_holds_nothing() -> None:
    report = report_on(TENS)
    assert report.holds
    assert report.counts["run"] == report.counts["passed"]
    assert report.counts["run"] + report.counts["skipped"] == len(report.checks)
    assert not Report(()).holds


def test_a_failure_is_replayed_by_its_seed() -> None:
    def detail(seed: int) -> str:
        (check,) = report_on("estimator:breaks-rotation-invariant", seed=seed, only=["rotation-invariant"]).failures
        return check.detail

    assert detail(5) == detail(5)
    assert detail(5).endswith("(replay: seed 5)")
    assert detail(5).partition(":")[0] != detail(6).partition(":")[0], "another seed draws other points"


def test_each_example_is_tried_and_told_apart() -> None:
    component = declare("allocator", "tens", "good_fakes:Tens", examples=({}, {"config": {"scale": 2.0}}))
    names = [check.check for check in check_components([Item(component, TENS)], HOST)]
    assert names.count("within-budget") == names.count("within-budget[1]") == 1
    assert "documented[1]" not in names, "the declaration is one"


def test_an_expected_failure_is_told_with_its_reason() -> None:
    report = report_on(SPENDER, expected={f"{SPENDER}/within-budget": "rounds up"})
    (check,) = [check for check in report.checks if check.result == "expected-failure"]
    assert check.detail.startswith("rounds up: for 0 labels")
    assert report.holds


def test_a_component_declares_what_it_is_known_to_fail() -> None:
    known = replace(HOST.catalogue[SPENDER], known_failures={"within-budget": "rounds up"})
    report = Report(tuple(check_components([Item(known, SPENDER)], HOST)))
    (check,) = [check for check in report.checks if check.result == "expected-failure"]
    assert check.check == "within-budget"
    assert check.detail.startswith("rounds up")
    assert report.holds


def test_an_expected_failure_that_does_not_come_fails() -> None:
    (check,) = report_on(TENS, expected={f"{TENS}/within-budget": "rounds up"}).failures
    assert check.detail.startswith("it was expected to fail (rounds up), and passed")


def test_a_failure_expected_of_no_check_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="there is no such check"):
        report_on(TENS, expected={f"{TENS}/metric-spd": "it has none"})


def test_an_unknown_law_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="within-budget"):
        report_on(TENS, only=["within-budgets"])


def test_floors_ask_for_laws_that_there_are() -> None:
    common = sum(not law.kinds and law.capability is None for law in LAWS)
    for kind, floor in FLOORS.items():
        own = sum(kind in law.kinds for law in LAWS)
        assert common < floor <= common + own


def test_too_few_laws_tried_fail_the_floor() -> None:
    (check,) = [check for check in report_on("toy:breaks-floor").checks if check.check == "floor"]
    assert check == Check("toy:breaks-floor", "floor", "failed", "4 laws tried; a toy is held to at least 8")


def parametrised(test: Callable[[str], None]) -> list[str]:
    (mark,) = test.pytestmark  # type: ignore[attr-defined]
    assert mark.name == "parametrize"
    return list(mark.args[1])


def test_the_decorator_makes_a_test_a_component() -> None:
    seen: list[Report] = []

    @conformance(TENS, SPENDER, host=make_host, expected={f"{SPENDER}/within-budget": "rounds up"})
    def test_fakes(report: Report) -> None:
        """Allocators keep their word."""
        seen.append(report)

    assert parametrised(test_fakes) == [TENS, SPENDER]
    assert (test_fakes.__name__, test_fakes.__doc__) == ("test_fakes", "Allocators keep their word.")
    test_fakes(TENS)
    test_fakes(SPENDER)
    assert [report.counts["expected-failure"] for report in seen] == [0, 1]


def test_the_decorated_test_fails_with_the_law_and_what_was_measured() -> None:
    @conformance(HOST.catalogue[SPENDER], host=make_host)
    def test_fakes(report: Report) -> None:
        raise AssertionError("not reached where a law does not hold")

    with pytest.raises(AssertionError, match="within-budget: for 0 labels the plan costs 0 and leaves 1") as failure:
        test_fakes(SPENDER)
    assert "not reached" not in str(failure.value)


def test_the_decorator_refuses_what_it_cannot_test() -> None:
    with pytest.raises(ConfigError, match="no component"):
        conformance(host=make_host)
    with pytest.raises(ConfigError, match="allocator:other/floor"):
        conformance(TENS, host=make_host, expected={"allocator:other/floor": "why"})

    @conformance("allocator:nobody", host=make_host)
    def test_fakes(report: Report) -> None:
        """Never called."""

    with pytest.raises(ConfigError, match="allocator:nobody"):
        test_fakes("allocator:nobody")


def test_every_law_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "testing.md").read_text()
    table = text.partition("## The laws")[2]
    named = {name for name in re.findall(r"`([a-z-]+)`", table) if name not in FLOORS}
    assert named == {law.name for law in LAWS}, "no law is documented that there is not"
