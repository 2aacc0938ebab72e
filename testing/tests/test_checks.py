"""Every check holds for a good component, and every clause of it is failed by a broken one: no check passes by saying
nothing."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from broken_fakes import BREAKS, PLUGINS
from broken_hooks import GOOD_HOOKS, GOOD_KIND
from clauses import Clause, clauses, clauses_of
from fake_host import make_host
from good_declarations import COMPONENTS
from good_fakes import SinhGeometry

from scorefold_testing import CHECKS, LEVELS, CheckResult, Item, check_components, declaration, determinism, device
from scorefold_testing.contract import FAILED, PASSED, SKIPPED, NotApplicableError, Subject
from scorefold_testing.process import renewed
from scorefold_testing.report import FLOOR, subjects
from scorefold_testing.summary import PROVEN

HOST = make_host()
ORIGIN = "fake_host:make_host"
RULES = {check.name: check for check in CHECKS}
NAMES = {*RULES, FLOOR}
MESSAGE = re.compile(r"(gap [\d.e+-]+, tolerance [\d.e+-]+|; expected .+) \(replay: --only ([a-z-]+) --seed 0\)$", re.S)
NOT_ON_CPU = {"accelerator-kept"}
"""Checks that a good component can be held to only where there is an accelerator."""


def item(name: str) -> Item:
    return Item(HOST.catalogue[name], name, PLUGINS.get(name, "light_plugin"))


def checks_of(name: str, *only: str) -> list[CheckResult]:
    return list(check_components([item(name)], HOST, only=only, origin=ORIGIN))


@dataclass(frozen=True)
class Proof:
    """What a broken component made of the check that it breaks."""

    component: str
    check: CheckResult
    clauses: frozenset[Clause]


@pytest.fixture(scope="module")
def proofs() -> Iterator[list[Proof]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(declaration, "BUILD_SECONDS", 0.1)
        if "cpu" in torch.__version__ or not torch.cuda.is_available():
            patch.setattr(device, "accelerator", lambda: "meta")
        yield [proof(name, check) for name, check in BREAKS.items()]


def proof(name: str, broken: str) -> Proof:
    only = () if broken == FLOOR else (broken,)
    (result,) = [result for result in checks_of(name, *only) if result.check == broken]
    found: frozenset[Clause] = frozenset()
    for rule, _, subject in subjects(item(name), HOST, 0, [RULES[broken]] if only else [], ORIGIN):
        try:
            with renewed(0, gradients=True):  # fakes leave the state of the process changed
                rule.run(subject)
        except NotApplicableError:
            pass
        except Exception as error:
            found = frozenset(clauses_of(error))
    return Proof(name, result, found)


@pytest.fixture(scope="module")
def good_checks() -> list[CheckResult]:
    components = [HOST.catalogue[component.id] for component in COMPONENTS] + [GOOD_HOOKS, GOOD_KIND]
    items = [Item(component, component.id, "light_plugin") for component in components]
    return list(check_components(items, HOST, origin=ORIGIN))


def test_the_table_of_fakes_covers_every_check() -> None:
    assert set(BREAKS.values()) == NAMES
    assert len(RULES) == len(CHECKS)
    assert {check.level for check in CHECKS} == set(LEVELS)


def test_good_components_pass(good_checks: list[CheckResult]) -> None:
    failed = [check for check in good_checks if check.result not in (PASSED, SKIPPED)]
    assert not failed
    assert {check.component for check in good_checks} == {
        *(component.id for component in COMPONENTS),
        GOOD_HOOKS.id,
        GOOD_KIND.id,
    }


def test_every_check_is_tried_on_a_good_component(good_checks: list[CheckResult]) -> None:
    unavailable = set() if torch.cuda.is_available() or torch.backends.mps.is_available() else NOT_ON_CPU
    assert {check.check for check in good_checks if check.result == PASSED} == NAMES - unavailable


def test_broken_components_fail_and_say_what_was_found_and_how_to_see_it_again(proofs: list[Proof]) -> None:
    """Each failure says what was measured, what was allowed, the check and the seed that replays it."""
    for proof in proofs:
        assert proof.check.result == FAILED, f"{proof.component} {proof.check}"
        if proof.check.check != FLOOR:
            message = MESSAGE.search(proof.check.detail)
            assert message is not None, proof.check.detail
            assert message[2] == proof.check.check


def test_every_clause_is_failed_by_a_broken_component(
    proofs: list[Proof], record_property: pytest.FixtureRequest
) -> None:
    known = clauses()
    proven = frozenset().union(*(proof.clauses for proof in proofs))
    unproven = [
        f"{file}, line {line}: {text}" for (file, line, _), text in known.items() if (file, line, _) not in proven
    ]
    assert not unproven
    record_property(PROVEN, {"checks": len(NAMES), "clauses": len(known), "broken fakes": len(BREAKS)})  # type: ignore[operator]


def test_a_draw_of_another_thread_is_no_fault_of_a_component(monkeypatch: pytest.MonkeyPatch) -> None:
    uses, use = [], determinism.use

    def drawn_beside(subject: Subject) -> dict[str, torch.Tensor]:
        uses.append(subject)
        if len(uses) == 2:
            random.random()
        return use(subject)

    monkeypatch.setattr(determinism, "use", drawn_beside)
    (check,) = checks_of("toy:toy", "global-random-state")
    assert (check.result, len(uses)) == (PASSED, 3)


def test_what_encodes_is_put_to_use_whatever_its_kind() -> None:
    """Checks common to all kinds hold for a plugin's own kind too, where the kit knows what to ask of it."""
    for check in ("same-generator-same-result", "inputs-unchanged", "global-random-state"):
        (check,) = checks_of("toy:toy", check)
        assert check.result == PASSED, check.detail
    assert "sample" in next(iter(checks_of("toy:toy", "same-generator-same-result"))).detail


class _Holding(SinhGeometry):
    """A geometry that is no module and holds a tensor at the place where it is built."""

    def __init__(self, device: str | None, dtype: torch.dtype | None) -> None:
        self.event_shape, self.one = (3,), torch.ones(3, device=device, dtype=dtype)

    def exp(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return self.one * super().exp(x, v)


def test_a_component_that_is_no_module_is_built_on_the_other_device() -> None:
    geometry = next(each for each in COMPONENTS if each.target.endswith(":SinhGeometry"))

    def create(*given: object, device: str | None, dtype: torch.dtype | None, **more: object) -> _Holding:
        return _Holding(device, dtype)

    subject = Subject(geometry, SimpleNamespace(create=create), geometry.id, {})  # type: ignore[arg-type]
    assert device.device_followed.run(subject) == "on meta: metric, exp, log, distance"
