"""The checks of verbs hold for the audit."""

from __future__ import annotations

from scorefold_audit.plugin import scorefold_verbs
from scorefold_registry import Host
from scorefold_testing import Report, check_components, verb_item


def test_the_checks_of_verbs_hold() -> None:
    items = [verb_item(verb, "scorefold_audit.plugin") for verb in scorefold_verbs()]
    report = Report(tuple(check_components(items, Host.discover())))
    assert report.holds, report.failures
    assert {"verb-outcome", "verb-repeats"} <= {
        check.check.partition("[")[0] for check in report.checks if check.result == "passed"
    }
