"""The checks of an estimator hold for what this plugin offers, but where it declares a known failure."""

from __future__ import annotations

from scorefold_neighbours.plugin import scorefold_components
from scorefold_registry import Host
from scorefold_testing import Report, conformance


@conformance(*scorefold_components(), host=Host.discover, origin="scorefold_registry:Host.discover")
def test_the_checks_of_their_kind_hold(report: Report) -> None:
    assert report.counts["run"] >= report.counts["skipped"]
