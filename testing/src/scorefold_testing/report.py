"""The checks tried on components: one generator of checks behind the command and the report, and behind the decorator
for a plugin's own tests.
"""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from scorefold.errors import ConfigError, UntrainedWarning
from scorefold.plugin import Component, Kind, Verb
from scorefold_testing import (
    allocator,
    artefact,
    capabilities,
    data,
    declaration,
    determinism,
    device,
    estimator,
    flow,
    geometry,
    metric,
    network,
    observer,
    score,
    trainable,
    verb,
)
from scorefold_testing.contract import (
    EXPECTED,
    FAILED,
    KIND,
    LEVELS,
    OBSERVER,
    PASSED,
    PSEUDO,
    SKIPPED,
    UNDIFFERENTIATED,
    Check,
    CheckResult,
    Host,
    NotApplicableError,
    Subject,
    ViolationError,
)
from scorefold_testing.process import BY_IMPORTS, described, renewed
from scorefold_testing.summary import CONFORMANCE
from scorefold_testing.verb import verb_as_component

CHECKS: tuple[Check, ...] = (
    *declaration.CHECKS,
    *determinism.CHECKS,
    *device.CHECKS,
    *artefact.CHECKS,
    *score.CHECKS,
    *flow.CHECKS,
    *geometry.CHECKS,
    *estimator.CHECKS,
    *allocator.CHECKS,
    *data.CHECKS,
    *network.CHECKS,
    *metric.CHECKS,
    *verb.CHECKS,
    *observer.CHECKS,
    *trainable.CHECKS,
    *capabilities.CHECKS,
)
"""Every check, common ones first."""

FLOOR = "floor"
ENDED = "it ended in"
"""The first words about a check that raised an error."""
OTHER_FLOOR = 8
FEW = {OBSERVER: 3, KIND: 2}
"""The same of hooks and of kinds, which are little."""
FLOORS: Mapping[str, int] = {
    "score": 32,
    "flow": 35,
    "geometry": 30,
    "estimator": 27,
    "allocator": 19,
    "data": 20,
    "network": 23,
}
"""The number of checks, by kind, that must at least have been tried; ``OTHER_FLOOR`` for a kind of a plugin's own."""


@dataclass(frozen=True)
class Item:
    """A component to be checked: ``name`` is what the host resolves, ``plugin`` the module that declares it.
    ``skipped`` are checks that do not apply to it, with their reasons.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> item = Item(host.catalogue.resolve("estimator:mle").component, "estimator:mle")
    >>> [result.result for result in check_components([item], host, only=["right-on-sphere"])]
    ['passed']
    """

    component: Component
    name: str
    plugin: str | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)


def verb_item(declared: Verb, plugin: str | None = None, kind: str = "") -> Item:
    """A verb to be checked, declared by the module ``plugin``, and by ``kind`` where it stands in one."""
    component = verb.verb_as_component(declared, kind)
    return Item(component, component.id, plugin)


def kind_items(declared: Kind, plugin: str | None = None) -> list[Item]:
    """A kind of a plugin's own and the verbs that stand in it, to be checked."""
    component = verb.kind_as_component(declared)
    verbs = [verb_item(each, plugin, declared.name) for each in declared.verbs]
    return [Item(component, component.id, plugin), *verbs]


def observer_items(plugin: str, module: str, settings: str | None = None) -> list[Item]:
    """The hooks around runs of a plugin to be checked, one item, or none where its module has none."""
    component = observer.observer_as_component(plugin, module, settings)
    return [] if component is None else [Item(component, component.id, module)]


@dataclass(frozen=True)
class Report:
    """Results of all checks.

    >>> passed = CheckResult("estimator:rank", "right-on-sphere", "numerics", "passed", "")
    >>> report = Report((passed,))
    >>> report.holds, report.counts["passed"]
    (True, 1)
    """

    checks: tuple[CheckResult, ...]

    @property
    def holds(self) -> bool:
        """True if anything was checked and no check failed."""
        return bool(self.checks) and not self.failures

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.result == FAILED)

    @property
    def counts(self) -> dict[str, int]:
        """The number of checks by result; ``run`` counts those that were not skipped."""
        return _counted(self.checks)

    @property
    def levels(self) -> dict[str, dict[str, int]]:
        """The same numbers for each level that anything was checked of."""
        found = {level: [check for check in self.checks if check.level == level] for level in LEVELS}
        return {level: _counted(checks) for level, checks in found.items() if checks}

    def as_json(self) -> dict[str, Any]:
        """Output of ``scorefold plugins check --json``."""
        return {"holds": self.holds, "checks": [check.as_json() for check in self.checks], "counts": self.counts}


def _counted(checks: Collection[CheckResult]) -> dict[str, int]:
    found = Counter(check.result for check in checks)
    return {"run": len(checks) - found[SKIPPED], **{name: found[name] for name in (PASSED, FAILED, SKIPPED, EXPECTED)}}


def check_components(
    items: Iterable[Item],
    host: Host,
    *,
    seed: int = 0,
    expected: Mapping[str, str] | None = None,
    only: Iterable[str] = (),
    levels: Iterable[str] = (),
    origin: str | None = None,
    accelerator: str | None = None,
    show: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> Iterator[CheckResult]:
    """The results for components, one after another: every check that governs each, on each of its examples.

    ``seed`` is the root that all draws derive from, so that the same one replays a failure. ``expected`` are failures
    that are known, ``{"kind:name/check": reason}``, beside those that components declare; one that does not come is
    itself a failure. ``only`` names checks to try and ``levels`` their levels (then floors are not counted). ``origin``
    is ``module:function`` giving the host in another process; ``accelerator`` the device of the checks that need one,
    None for this machine's accelerator. ``show`` is called before each check with the number of checks that are done,
    their total and the name of the check. Raises ``ConfigError`` for an unknown check or level and for an expected
    failure of a check that is not made.
    """
    definitions = _chosen(set(only), set(levels))
    items = list(items)
    declared = [
        (item.component.id, check, why) for item in items for check, why in item.component.known_failures.items()
    ]
    reasons = {f"{component}/{check}": why for component, check, why in declared} | dict(expected or {})
    _refuse_unknown(reasons, {item.component.id for item in items})
    cases = [list(subjects(item, host, seed, definitions, origin)) for item in items]
    total, done = sum(map(len, cases)), 0
    for item, own in zip(items, cases, strict=True):
        run: set[str] = set()
        unbuilt: list[Mapping[str, Any]] = []
        for number, (rule, name, subject) in enumerate(own):
            show(done, total, f"{item.component.id} {name}")
            if _among(unbuilt, subject) and f"{item.component.id}/{name}" not in reasons:
                result = CheckResult(item.component.id, name, rule.level, SKIPPED, "not tried: it can't be built")
            else:
                result = _result(item, rule, name, replace(subject, accelerator=accelerator), seed)
            if result.result == FAILED and not (rule.once or _among(unbuilt, subject)) and not _builds(subject):
                unbuilt.append(subject.example)
                left = sum(_among(unbuilt, other) for _, _, other in own[number + 1 :])
                result = replace(result, detail=f"{_unbuilt(subject, left)}{result.detail}")
            if result.result != SKIPPED or rule.name in item.skipped:
                run.add(rule.name)
            yield _expected(result, reasons)
            done += 1
        if definitions == CHECKS and (not unbuilt or f"{item.component.id}/{FLOOR}" in reasons):
            yield _expected(_floor(item.component, len(run)), reasons)
    if reasons and definitions == CHECKS:
        raise ConfigError(f"{', '.join(reasons)} was expected to fail, but there is no such check")


def _refuse_unknown(reasons: Iterable[str], components: set[str]) -> None:
    """Raises ``ConfigError`` for an expected failure that no run could meet, before anything is tried."""
    known = [item.name for item in CHECKS] + [FLOOR]
    for key in reasons:
        component, _, check = key.rpartition("/")
        if component not in components:
            raise ConfigError(
                f"{key} was expected to fail, but there is no such check: {component!r} is not among the components",
                hint=f"these are {', '.join(sorted(components))}",
            )
        if (base := check.partition("[")[0]) not in known:
            raise ConfigError(f"{key} was expected to fail, but there is no such check", hint=_near(base, known))


def _near(name: str, names: Sequence[str], what: str = "") -> str | None:
    found = get_close_matches(name, names)
    return f"did you mean {what}{' or '.join(repr(each) for each in found)}?" if found else None


def _chosen(only: set[str], levels: set[str]) -> tuple[Check, ...]:
    known = [item.name for item in CHECKS]
    for what, wanted, names in (("check", only, known), ("level", levels, LEVELS)):
        for name in sorted(wanted.difference(names)):
            hint = _near(name, names) or _near(name, LEVELS, "the level ") or f"the {what}s are {', '.join(names)}"
            raise ConfigError(f"there is no {what} {name!r}", hint=hint)
    return tuple(item for item in CHECKS if item.name in (only or known) and item.level in (levels or LEVELS))


def subjects(
    item: Item, host: Host, root: int, definitions: Iterable[Check], origin: str | None
) -> Iterator[tuple[Check, str, Subject]]:
    """Subjects of a component: each of its checks, by name, on each of its examples."""
    component = item.component
    for rule in definitions:
        if rule.governs(component):
            for number, example in enumerate(({},) if rule.once else component.examples):
                name = rule.name if number == 0 else f"{rule.name}[{number}]"
                seed = rule.seed(root, component, number)
                yield rule, name, Subject(component, host, item.name, example, seed, item.plugin, origin)


def _result(item: Item, rule: Check, name: str, subject: Subject, root: int) -> CheckResult:
    """The result of a check on a subject, with the options that replay a failure."""
    if rule.name in item.skipped:
        result, detail = SKIPPED, item.skipped[rule.name]
    else:
        result, detail = try_check(rule, subject)
    if result == FAILED:
        detail = f"{detail} (replay: --only {rule.name} --seed {root})"
    return CheckResult(item.component.id, name, rule.level, result, detail)


def _among(examples: Iterable[Mapping[str, Any]], subject: Subject) -> bool:
    return any(subject.example is example for example in examples)


def _builds(subject: Subject) -> bool:
    """True if the example of a component can be built; other things to check than components are not built."""
    builds = Check("builds", "contract", lambda subject: type(subject.build()).__name__)
    return subject.component.kind in PSEUDO or not try_check(builds, subject)[1].startswith(ENDED)


def _unbuilt(subject: Subject, left: int) -> str:
    """The number of checks left out since an example can't be built, and the line that plugs its empty ports."""
    empty = [
        port.name
        for port in subject.component.requires
        if not (port.optional or port.default or port.name in subject.example.get("inputs", {}))
        and (not port.when or port.when in subject.component.provides)
    ]
    inputs = ", ".join(f'"{name}": ...' for name in empty)
    fix = f'; plug its ports in its Component, examples=({{"inputs": {{{inputs}}}}},)' if empty else ""
    count = f", so {left} check{' is' if left == 1 else 's are'} not tried" if left else ""
    return f"it can't be built{count}{fix}: " if count or fix else ""


def _floor(component: Component, run: int) -> CheckResult:
    """The result that says whether enough checks of a component were tried."""
    floor = {**FLOORS, **FEW}.get(component.kind, OTHER_FLOOR)
    article = "an" if component.kind[0] in "aeio" else "a"
    detail = f"{run} checks tried of {article} {component.kind}; expected at least {floor}"
    return CheckResult(component.id, FLOOR, "contract", PASSED if run >= floor else FAILED, detail)


def try_check(rule: Check, subject: Subject) -> tuple[str, str]:
    """The result of one check on one subject (passed, failed or skipped) and what was measured or went wrong.

    The state that checks share is set anew by the subject's seed; a check that leaves it changed has failed. Libraries
    may draw and set variables while they are imported, and draw in threads of their own, so a check that changes only
    generators and the environment is tried again.
    """
    gradients = rule.gradients or subject.component.kind not in UNDIFFERENTIATED
    for _ in range(2):
        with renewed(subject.seed, gradients=gradients) as changes:
            result, detail = _tried(rule, subject)
            changed = changes()
        if not changed or changed.keys() - BY_IMPORTS:
            break
    if changed:
        left = ", ".join(f"{name} is {value}" for name, value in changed.items())
        detail = f"{detail}; " if result == FAILED else ""
        result, detail = FAILED, f"{detail}after the check {left}; expected no change"
    return result, detail


def _tried(rule: Check, subject: Subject) -> tuple[str, str]:
    state = described()
    try:
        with warnings.catch_warnings():
            # Examples are used as they are built: that nothing trained them is no news here.
            warnings.simplefilter("ignore", UntrainedWarning)
            return PASSED, rule.run(subject)
    except NotApplicableError as reason:
        return SKIPPED, str(reason)
    except ViolationError as violation:
        return FAILED, f"{violation}{_place(violation.__cause__, subject) if violation.__cause__ else ''}"
    except (Exception, SystemExit) as error:
        return FAILED, f"{ENDED} {type(error).__name__}: {error}{_place(error, subject)}, {state}; expected an answer"


def _place(error: BaseException, subject: Subject) -> str:
    """The innermost line of the author's package, or the first line of the component where the error has none."""
    package = subject.component.target.partition(":")[0].partition(".")[0]
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package:
            return f", in {Path(frame.f_code.co_filename).name}, line {line}"
    with suppress(Exception):  # the target may be what is wrong
        file, line = inspect.getsourcefile(subject.target), inspect.getsourcelines(subject.target)[1]
        return f", of {subject.component.target.partition(':')[2]} in {Path(str(file)).name}, line {line}"
    return ""


def _expected(check: CheckResult, reasons: dict[str, str]) -> CheckResult:
    """The check, with a failure that was expected marked; a check that was to fail and did not, fails."""
    reason = reasons.pop(f"{check.component}/{check.check}", None)
    if reason is None:
        return check
    if check.result == FAILED:
        return replace(check, result=EXPECTED, detail=f"{reason}: {check.detail}")
    detail = f"it was expected to fail ({reason}), and {check.result}: {check.detail}"
    return replace(check, result=FAILED, detail=detail)


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
        raise ConfigError("the conformance test names no component", hint='@conformance("kind:name", host=...)')
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
