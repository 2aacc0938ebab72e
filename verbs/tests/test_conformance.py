"""The checks of verbs and metrics hold for what this plugin offers."""

from __future__ import annotations

from collections import Counter

from scorefold_registry import Host
from scorefold_testing import Report, check_components, conformance, verb_item
from scorefold_verbs.plugin import scorefold_components, scorefold_verbs


@conformance(*scorefold_components(), host=Host.discover, origin="scorefold_registry:Host.discover")
def test_the_checks_of_metrics_hold(report: Report) -> None:
    assert report.counts["run"] >= 10  # of a metric for conditional models the checks of others are skipped


def test_the_checks_of_verbs_hold() -> None:
    items = [verb_item(verb, "scorefold_verbs.plugin") for verb in scorefold_verbs()]
    report = Report(tuple(check_components(items, Host.discover())))
    assert report.holds, report.failures
    tried = Counter(check.check.partition("[")[0] for check in report.checks if check.result == "passed")
    # Of geometry and data there is no module, and what is fitted or loaded is handed on.
    assert tried["verb-outcome"] == tried["verb-repeats"] == len(items)
    assert tried["verb-leaves-component"] >= len(items) - 7
