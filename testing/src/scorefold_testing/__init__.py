"""The conformance kit: the checks of every kind, tried on a component's declared examples.

``check_components`` is the one generator of checks; ``scorefold plugins check`` prints what it yields and
``@conformance(...)`` makes tests of it. See ``docs/testing.md``.
"""

from scorefold_testing.contract import LEVELS, Check, CheckResult, Host, Subject
from scorefold_testing.report import (
    CHECKS,
    FLOORS,
    Item,
    Report,
    check_components,
    conformance,
    kind_items,
    observer_items,
    verb_item,
)

__all__ = [
    "CHECKS",
    "FLOORS",
    "LEVELS",
    "Check",
    "CheckResult",
    "Host",
    "Item",
    "Report",
    "Subject",
    "check_components",
    "conformance",
    "kind_items",
    "observer_items",
    "verb_item",
]
