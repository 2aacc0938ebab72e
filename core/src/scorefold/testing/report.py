"""The laws tried on components: one generator of checks behind the command, the decorator and the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scorefold.errors import ConfigError
from scorefold.plugin import Component
from scorefold.testing import allocator, capabilities, common, data, estimator, flow, geometry, network, score
from scorefold.testing.contract import (
    EXPECTED,
    FAILED,
    PASSED,
    SKIPPED,
    Check,
    Host,
    Law,
    NotApplicableError,
    Subject,
    ViolationError,
)

LAWS: tuple[Law, ...] = (
    *common.LAWS,
    *score.LAWS,
    *flow.LAWS,
    *geometry.LAWS,
    *estimator.LAWS,
    *allocator.LAWS,
    *data.LAWS,
    *network.LAWS,
    *capabilities.LAWS,
)
"""Every law, common ones first."""

FLOOR = "floor"
FLOORS: Mapping[str, int] = {
    "score": 18,
    "flow": 20,
    "geometry": 16,
    "estimator": 12,
    "allocator": 12,
    "data": 12,
    "network": 13,
}
"""The number of laws, by kind, that a component must at least have been held to; 8 for a kind of a plugin's own."""


@dataclass(frozen=True)
class Item:
    """A component to be checked: ``name`` is what the host resolves, ``plugin`` the module that declares it."""

    component: Component
    name: str
    plugin: str | None = None


@dataclass(frozen=True)
class Report:
    """What came of all checks."""

    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether anything was checked and no check failed."""
        return bool(self.checks) and not self.failures

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.result == FAILED)

    @property
    def counts(self) -> dict[str, int]:
        """The number of checks by result; ``run`` counts those that were not skipped."""
        found = Counter(check.result for check in self.checks)
        results = {name: found[name] for name in (PASSED, FAILED, SKIPPED, EXPECTED)}
        return {"run": len(self.checks) - found[SKIPPED], **results}

    def as_json(self) -> dict[str, Any]:
        """What ``scorefold plugins check --json`` prints."""
        return {"holds": self.holds, "checks": [check.as_json() for check in self.checks], "counts": self.counts}


def check_components(
    items: Iterable[Item],
    host: Host,
    *,
    seed: int = 0,
    expected: Mapping[str, str] | None = None,
    only: Iterable[str] = (),
    origin: str | None = None,
) -> Iterator[Check]:
    """The checks of components, one after another: every law that governs each, on each of its examples.

    ``seed`` is the root that all draws derive from, so that the same one replays a failure. ``expected`` are failures
    that are known, ``{"kind:name/check": reason}``, beside those that components declare; one that does not come is
    itself a failure. ``only`` names laws to try (then floors are not counted). ``origin`` is ``module:function`` giving
    the host in another process. Raises ``ConfigError`` for an unknown law and for an expected failure of a check that
    is not made.
    """
    known = {item.name for item in LAWS}
    wanted = set(only)
    for name in wanted - known:
        raise ConfigError(f"there is no law {name!r}", hint=f"the laws are {', '.join(sorted(known))}")
    items = list(items)
    declared = [
        (item.component.id, check, why) for item in items for check, why in item.component.known_failures.items()
    ]
    reasons = {f"{component}/{check}": why for component, check, why in declared} | dict(expected or {})
    for item in items:
        yield from _component_checks(item, host, seed, reasons, wanted, origin)
    if reasons and not wanted:
        raise ConfigError(f"{', '.join(reasons)} was expected to fail, but there is no such check")


def _component_checks(
    item: Item, host: Host, root: int, reasons: dict[str, str], wanted: set[str], origin: str | None
) -> Iterator[Check]:
    component = item.component
    run: set[str] = set()
    for rule in LAWS:
        if not rule.governs(component) or (wanted and rule.name not in wanted):
            continue
        examples = ({},) if rule.once else component.examples
        for number, example in enumerate(examples):
            name = rule.name if number == 0 else f"{rule.name}[{number}]"
            seed = rule.seed(root, component, number)
            subject = Subject(component, host, item.name, example, seed, item.plugin, origin)
            result, detail = try_law(rule, subject)
            if result == FAILED:
                detail = f"{detail} (replay: seed {root})"
            if result != SKIPPED:
                run.add(rule.name)
            yield _expected(Check(component.id, name, result, detail), reasons)
    if not wanted:
        floor = FLOORS.get(component.kind, 8)
        detail = f"{len(run)} laws tried; a {component.kind} is held to at least {floor}"
        result = PASSED if len(run) >= floor else FAILED
        yield _expected(Check(component.id, FLOOR, result, detail), reasons)


def try_law(rule: Law, subject: Subject) -> tuple[str, str]:
    """The result of one law on one subject (passed, failed or skipped) and what was measured or went wrong."""
    try:
        return PASSED, rule.run(subject)
    except NotApplicableError as reason:
        return SKIPPED, str(reason)
    except ViolationError as violation:
        return FAILED, str(violation)
    except Exception as error:
        return FAILED, f"{type(error).__name__}: {error}"


def _expected(check: Check, reasons: dict[str, str]) -> Check:
    """The check, with a failure that was expected told apart; a check that was to fail and did not, fails."""
    reason = reasons.pop(f"{check.component}/{check.check}", None)
    if reason is None:
        return check
    if check.result == FAILED:
        return Check(check.component, check.check, EXPECTED, f"{reason}: {check.detail}")
    return Check(
        check.component, check.check, FAILED, f"it was expected to fail ({reason}), and {check.result}: {check.detail}"
    )
