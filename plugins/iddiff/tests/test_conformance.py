"""The checks of its kind hold for what this plugin offers."""

from __future__ import annotations

from scorefold_iddiff.plugin import scorefold_components
from scorefold_registry import Host
from scorefold_testing import Report, conformance

SUCCESSORS = [
    component for component in scorefold_components() if component.kind == "estimator" and component.name != "iddiff"
]


@conformance(*SUCCESSORS, host=Host.discover, origin="scorefold_registry:Host.discover")
def test_the_checks_of_estimators_hold_for_the_successors(report: Report) -> None:
    assert report.counts["run"] >= 24


@conformance("estimator:iddiff", host=Host.discover, origin="scorefold_registry:Host.discover")
def test_the_checks_of_estimators_hold(report: Report) -> None:
    """On both of its examples, the one by each rule."""
    tried = {check.check for check in report.checks if check.result == "passed"}
    assert {"right-on-subspace", "right-on-subspace[1]", "right-on-sphere", "right-on-sphere[1]"} <= tried
