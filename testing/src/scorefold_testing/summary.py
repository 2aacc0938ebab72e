"""The counts of conformance checks at the end of a pytest run; a ``conftest.py`` names this module in
``pytest_plugins``.

Tests hand their counts over as properties of their reports, which pytest-xdist brings from its workers.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

CONFORMANCE = "scorefold conformance"
"""The property that holds the counts of one component's checks."""
PROVEN = "scorefold checks proven"
"""The property that holds how many checks and clauses broken components were seen to fail."""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints how many checks were run, skipped and expected to fail, and how many of the kit's own were proven."""
    components, totals, proven = 0, Counter[str](), Counter[str]()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, counts in getattr(report, "user_properties", ()) if getattr(report, "when", "") == "call" else ():
                components += name == CONFORMANCE
                {CONFORMANCE: totals, PROVEN: proven}.get(name, Counter()).update(counts)
    if components:
        counted = ", ".join(f"{count} {result}" for result, count in totals.items())
        terminalreporter.write_line(f"conformance of {components} components: {counted}")
    if proven:
        counted = ", ".join(f"{count} {what}" for what, count in proven.items())
        terminalreporter.write_line(f"checks of the kit proven by broken fakes: {counted}")
