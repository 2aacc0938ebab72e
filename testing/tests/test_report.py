"""Reports, floors, expected failures, and the decorator in a plugin's own tests."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_host import make_host
from good_declarations import declare
from good_fakes import Tens

from scorefold.data import DataSpec, EventScale
from scorefold.errors import ConfigError, ShapeError
from scorefold.plugin import Port
from scorefold_testing import CHECKS, FLOORS, LEVELS, CheckResult, Item, Report, check_components, conformance
from scorefold_testing.contract import Check, Subject, ViolationError, require_refusal, require_same
from scorefold_testing.report import try_check

ROOT = Path(__file__).parents[2]
HOST = make_host()
FEW = "4 checks tried of a toy; expected at least 8"
TENS, SPENDER = "allocator:tens", "allocator:breaks-within-budget"


def report_on(name: str, **options: object) -> Report:
    return Report(tuple(check_components([Item(HOST.catalogue[name], name)], HOST, **options)))  # type: ignore[arg-type]


def test_counts_add_up_and_nothing_checked_holds_nothing() -> None:
    report = report_on(TENS)
    assert report.holds
    assert report.counts["run"] == report.counts["passed"]
    assert report.counts["run"] + report.counts["skipped"] == len(report.checks)
    assert not Report(()).holds


def test_each_check_is_shown_before_it_is_tried() -> None:
    shown: list[tuple[int, int, str]] = []
    report = report_on(TENS, levels=["artefact"], show=lambda *given: shown.append(given))
    names = [f"{check.component} {check.check}" for check in report.checks]
    assert shown == [(number, len(names), name) for number, name in enumerate(names)]


def test_a_failure_is_replayed_by_its_seed() -> None:
    def detail(seed: int) -> str:
        (check,) = report_on("estimator:breaks-rotation-invariant", seed=seed, only=["rotation-invariant"]).failures
        return check.detail

    assert detail(5) == detail(5)
    assert detail(5).endswith("(replay: --only rotation-invariant --seed 5)")
    assert detail(5).partition(":")[0] != detail(6).partition(":")[0], "another seed draws other points"


def test_checks_are_chosen_and_counted_by_level() -> None:
    report = report_on(TENS)
    assert {check.level for check in report.checks} <= set(LEVELS)
    counted = Counter(check.level for check in report.checks)
    for level, counts in report.levels.items():
        assert counts["run"] + counts["skipped"] == counted[level]
    (artefact,) = report_on(TENS, levels=["artefact"]).levels
    assert artefact == "artefact"
    both = report_on(TENS, levels=["contract"], only=["within-budget", "saved-state"])
    assert [check.check for check in both.checks] == ["within-budget"]


def test_an_error_inside_a_component_is_reported_with_its_place() -> None:
    (check,) = report_on("score:breaks-score-refuses-other-shapes-2", only=["score-refuses-other-shapes"]).failures
    assert "ended in RuntimeError" in check.detail


def test_the_place_of_an_error_is_in_the_file_of_the_author() -> None:
    def in_the_kit(subject: Subject) -> str:
        return DataSpec((1,), EventScale(0.0, 1.0)).missing  # type: ignore[attr-defined, no-any-return]

    def below_the_author(subject: Subject) -> str:
        return str(subject.build().allocate(1.5 * torch.ones(2)))  # torch raises, called by the allocator

    def not_refused(subject: Subject) -> str:
        return require_refusal("two budgets", ShapeError, lambda: below_the_author(subject))

    found = {}
    for run in (in_the_kit, below_the_author, not_refused):
        subject = Subject(HOST.catalogue[TENS], HOST, TENS, {}, 0)
        found[run] = try_check(Check("any", "contract", run), subject)[1]
    first = inspect.getsourcelines(Tens)[1]
    assert re.match(rf"it ended in AttributeError: .*, of Tens in good_fakes.py, line {first}, with", found[in_the_kit])
    place = re.search(r", in good_fakes.py, line (\d+), with", found[below_the_author])
    assert place is not None
    assert int(place[1]) > first
    assert found[not_refused].endswith(f"; expected ShapeError, in good_fakes.py, line {place[1]}")


def test_equal_dtypes_are_not_the_difference() -> None:
    one, other = torch.zeros(2), torch.ones(2)
    with pytest.raises(ViolationError, match=r"^the value differs: gap 1\.00e\+00, tolerance 0$"):
        require_same("the value", one, other)
    with pytest.raises(ViolationError, match=r"^the value is torch\.float32 and not torch\.float64: gap 0"):
        require_same("the value", one, one.double())


def test_each_example_is_tried_and_named() -> None:
    component = declare("allocator", "tens", "good_fakes:Tens", examples=({}, {"config": {"scale": 2.0}}))
    names = [check.check for check in check_components([Item(component, TENS)], HOST)]
    assert names.count("within-budget") == names.count("within-budget[1]") == 1
    assert "documented[1]" not in names, "the declaration is one"


def test_an_expected_failure_is_reported_with_its_reason() -> None:
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


def test_an_unknown_check_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="within-budgets") as refused:
        report_on(TENS, only=["within-budgets"])
    assert refused.value.hint == "did you mean 'within-budget'?"
    with pytest.raises(ConfigError, match="there is no check 'deterministic'") as refused:
        report_on(TENS, only=["deterministic"])
    assert refused.value.hint == "did you mean the level 'determinism'?"
    with pytest.raises(ConfigError, match="there is no check 'x'") as refused:
        report_on(TENS, only=["x"])
    assert "within-budget, " in str(refused.value)


def test_an_expected_failure_that_no_check_can_meet_is_refused_before_any_is_tried() -> None:
    for key in ("allocator:tens/within-budgets", "allocator:other/within-budget", "within-budget"):
        with pytest.raises(ConfigError, match="there is no such check"):
            next(check_components([Item(HOST.catalogue[TENS], TENS)], HOST, expected={key: "why"}, only=["provides"]))
    with pytest.raises(ConfigError, match="there is no level 'speed'") as refused:
        report_on(TENS, levels=["speed"])
    assert ", ".join(LEVELS) in str(refused.value)


def test_floors_ask_for_checks_that_there_are() -> None:
    common = sum(not check.kinds and check.capability is None for check in CHECKS)
    for kind, floor in FLOORS.items():
        own = sum(kind in check.kinds for check in CHECKS)
        assert max(common, own) < floor <= common + own


def test_too_few_checks_tried_fail_the_floor() -> None:
    (check,) = [check for check in report_on("toy:breaks-floor").checks if check.check == "floor"]
    assert check == CheckResult("toy:breaks-floor", "floor", "contract", "failed", FEW)


def asked() -> Any:
    """What pytest hands a test: here one that reports to nobody."""
    return SimpleNamespace(node=SimpleNamespace(user_properties=[]))


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
    test_fakes(TENS, asked())
    test_fakes(SPENDER, asked())
    assert [report.counts["expected-failure"] for report in seen] == [0, 1]


def test_the_decorated_test_fails_with_the_check_and_what_was_measured() -> None:
    @conformance(HOST.catalogue[SPENDER], host=make_host)
    def test_fakes(report: Report) -> None:
        raise AssertionError("not reached where a check does not hold")

    with pytest.raises(AssertionError, match="within-budget: for 0 labels the plan costs 0 and leaves 1") as failure:
        test_fakes(SPENDER, asked())
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
        test_fakes("allocator:nobody", asked())


CONFTEST = """
import sys
sys.path.insert(0, {fakes!r})
pytest_plugins = ["scorefold_testing.summary"]
"""
TESTS = """
from fake_host import make_host
from scorefold_testing import conformance

@conformance("allocator:tens", "allocator:renewed", host=make_host, levels=["contract"])
def test_fakes(report):
    assert report.holds
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_counts_are_printed_at_the_end_of_a_run(workers: str, tmp_path: Path) -> None:
    """With workers of pytest-xdist too, which bring the counts of their tests."""
    (tmp_path / "conftest.py").write_text(CONFTEST.format(fakes=str(Path(__file__).parent / "fakes")))
    (tmp_path / "test_fakes.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", workers, str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 0, found.stdout
    one = report_on(TENS, levels=["contract"]).counts
    counted = ", ".join(f"{2 * count} {result}" for result, count in one.items())
    assert f"conformance of 2 components: {counted}" in found.stdout.splitlines()


def test_every_check_is_documented() -> None:
    """In the table, at its level."""
    text = (ROOT / "docs" / "testing.md").read_text()
    for level, row in re.findall(r"^\| ([a-z]+) \| (.*) \|$", text.partition("## The checks")[2], re.M):
        if level in LEVELS:
            named = {name for name in re.findall(r"`([a-z-]+)`", row) if name not in FLOORS}
            assert named == {check.name for check in CHECKS if check.level == level}
    assert all(f"| {level} |" in text for level in LEVELS)


def test_a_component_that_cannot_be_built_is_one_failure_with_the_example_to_declare() -> None:
    tens = HOST.catalogue[TENS]
    empty = replace(tens, requires=(Port("data", kind="data"),))
    host = SimpleNamespace(create=_refuse, interface=HOST.interface, capabilities=HOST.capabilities)
    report = Report(tuple(check_components([Item(empty, TENS)], host)))  # type: ignore[arg-type]
    (failure,) = [check for check in report.failures if "it can't be built" in check.detail]
    left = [check for check in report.checks if check.detail == "not tried: it can't be built"]
    assert failure.detail.startswith(f"it can't be built, so {len(left)} checks are not tried; plug its ports")
    assert 'examples=({"inputs": {"data": ...}},): it ended in ConfigError: nothing is plugged' in failure.detail
    assert len(left) > 10
    assert {check.result for check in left} == {"skipped"}
    assert not report.holds
    assert "floor" not in {check.check for check in report.checks}


def _refuse(*given: object, **more: object) -> None:
    raise ConfigError("nothing is plugged into port 'data'")
