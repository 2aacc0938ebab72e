"""Writes which tests are heavy, by the CPU time that each takes with all that it starts: ``make costs``.

Most of an hour: every test but the slow ones runs in this process, one after another. What a fixture costs is shared
by the tests that ask for it. Arguments are pytest's arguments: with ``tests/test_site.py`` only the tests of this file
are measured, and the others stay on the list or off it.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ROOT / "tests" / "heavy.txt"
SECONDS = 0.8
"""From which CPU time on a test is heavy."""


def cpu_seconds() -> float:
    """What this process, those it started and those that have ended have taken."""
    this = psutil.Process()
    taken = 0.0
    for process in (this, *this.children(recursive=True)):
        try:
            taken += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return taken


class Costs:
    """A plugin of pytest that measures each test, and each fixture once."""

    def __init__(self) -> None:
        self._own: dict[str, float] = {}
        self._asked: dict[str, list[Any]] = {}
        self._fixtures: dict[Any, float] = {}
        self._of_fixtures = 0.0

    def tests(self) -> dict[str, float]:
        """The CPU seconds of each test, the costliest first."""
        users = Counter(fixture for asked in self._asked.values() for fixture in asked)
        cost = {
            name: own + sum(self._fixtures[fixture] / users[fixture] for fixture in self._asked[name])
            for name, own in self._own.items()
        }
        return dict(sorted(cost.items(), key=lambda pair: -pair[1]))

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[Any]:
        before = cpu_seconds()
        try:
            return (yield)
        finally:
            taken = cpu_seconds() - before
            self._fixtures[fixturedef] = self._fixtures.get(fixturedef, 0.0) + taken
            self._of_fixtures += taken

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Iterator[Any]:
        before, self._of_fixtures = cpu_seconds(), 0.0
        try:
            return (yield)
        finally:
            self._own[item.nodeid] = cpu_seconds() - before - self._of_fixtures
            asked = (found[-1] for found in item._fixtureinfo.name2fixturedefs.values())
            self._asked[item.nodeid] = [fixture for fixture in asked if fixture in self._fixtures]


def main() -> int:
    """Measure, and write the list; the status is the tests' status, and failures leave the list as it was."""
    os.chdir(ROOT)
    costs = Costs()
    status = pytest.main(["-q", "-m", "not slow", *sys.argv[1:]], plugins=[costs])
    tests = costs.tests()
    heavy = {name: cost for name, cost in tests.items() if cost >= SECONDS}
    for name, cost in heavy.items():
        print(f"{cost:8.1f} {name}")
    print(f"{sum(heavy.values()):.0f} of {sum(tests.values()):.0f} CPU seconds in {len(heavy)} of {len(tests)} tests")
    if status == pytest.ExitCode.OK:
        others = set(HEAVY.read_text(encoding="utf-8").splitlines()) - set(tests) if sys.argv[1:] else set()
        HEAVY.write_text("".join(f"{name}\n" for name in sorted(others | set(heavy))), encoding="utf-8")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
