"""The laws of its kind hold for what this plugin offers."""

from __future__ import annotations

from scorefold.testing import Report, conformance
from scorefold_iddiff.plugin import scorefold_components
from scorefold_registry import Host


@conformance(*scorefold_components(), host=Host.discover, origin="scorefold_registry:Host.discover")
def test_the_laws_of_estimators_hold(report: Report) -> None:
    """On both of its examples, the one by each rule."""
    tried = {check.check for check in report.checks if check.result == "passed"}
    assert {"right-on-subspace", "right-on-subspace[1]", "right-on-sphere", "right-on-sphere[1]"} <= tried
