"""The laws of their kinds hold for what this plugin offers, but where it declares a known failure."""

from __future__ import annotations

from dataclasses import replace

from scorefold.testing import Report, conformance
from scorefold_registry import Host
from scorefold_standard.plugin import scorefold_components

# Six halves of the points for every estimate would make half of this test's cost out of one estimator.
QUICK = {"estimator:ess": ({"config": {"resamples": 2}},)}
COMPONENTS = [replace(item, examples=QUICK.get(item.id, item.examples)) for item in scorefold_components()]


@conformance(*COMPONENTS, host=Host.discover, origin="scorefold_registry:Host.discover")
def test_the_laws_of_their_kinds_hold(report: Report) -> None:
    assert report.counts["run"] >= report.counts["skipped"]
