"""The checks of a geometry hold for this plugin's geometries."""

from __future__ import annotations

from scorefold_registry import Host
from scorefold_scoregeometry.plugin import scorefold_components
from scorefold_testing import Report, conformance


@conformance(*scorefold_components(), host=Host.discover, origin="scorefold_registry:Host.discover")
def test_the_checks_of_its_kind_hold(report: Report) -> None:
    assert report.counts["run"] >= report.counts["skipped"]
