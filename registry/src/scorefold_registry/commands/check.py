"""``scorefold plugins check NAME``: the conformance kit without pytest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scorefold.errors import PluginError
from scorefold_registry.host import Host
from scorefold_registry.names import normalise
from scorefold_registry.options import Parser, UsageError
from scorefold_registry.records import Registered

if TYPE_CHECKING:
    from scorefold.testing import Check, Item

ORIGIN = "scorefold_registry:Host.discover"


def run(arguments: list[str]) -> int:
    """Tries the laws on what is named; status 0 where they hold, 1 where one does not."""
    parser = Parser("plugins check", "Try the laws of its kind on a component, or on all of a plugin's.")
    parser.add_argument("name", help="a plugin, a distribution, or a component as kind:name")
    parser.add_argument("--only", action="append", default=[], metavar="LAW", help="try this law only (repeatable)")
    parser.add_argument("--seed", type=int, default=0, help="the root of all draws; the same one replays a failure")
    parser.add_argument(
        "--expect",
        action="append",
        default=[],
        metavar="KIND:NAME/CHECK=REASON",
        help="a failure that is known, with its reason; one that does not come is itself a failure (repeatable)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    expected = _expected(options.expect)
    host = Host.discover()
    found = _named(host, options.name)

    # Imported only now, because it brings torch in.
    from scorefold.testing import Item, Report, check_components

    items = [Item(entry.component, entry.qualified, entry.record.value) for entry in found]
    made: list[Check] = []
    for check in check_components(items, host, seed=options.seed, expected=expected, only=options.only, origin=ORIGIN):
        made.append(check)
        if not options.json and check.result in ("failed", "expected-failure"):
            print(f"{check.result}: {check.component} {check.check}: {check.detail}", flush=True)
    report = Report(tuple(made))
    if options.json:
        print(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
    else:
        print(_summary(items, report.checks, report.counts))
    return 0 if report.holds else 1


def _expected(given: Sequence[str]) -> dict[str, str]:
    """The expected failures of the command line, with their reasons."""
    pairs = [text.partition("=") for text in given]
    for key, _, reason in pairs:
        if "/" not in key or not reason.strip():
            raise UsageError(
                f"--expect {key} says no check, or no reason", hint="for example --expect score:mine/saved-state=why"
            )
    return {key: reason for key, _, reason in pairs}


def _named(host: Host, name: str) -> list[Registered]:
    """The components of a plugin or a distribution, or the one component of that name.

    Raises ``PluginError`` for a name that nothing has and for a plugin that offers no component.
    """
    records = [item for item in host.plugins if name == item.name or normalise(name) == normalise(item.distribution)]
    if not records:
        return [host.catalogue.resolve(name)]
    found = [entry for entry in host.components() if entry.record in records]
    if not found:
        causes = "; ".join(f"{record.label} is {record.state}: {record.cause}" for record in records if record.cause)
        raise PluginError(f"{name} offers no component to check", hint=causes or None)
    return found


def _summary(items: Sequence[Item], checks: Sequence[Check], counts: Mapping[str, int]) -> str:
    lines = []
    for item in items:
        own = [check.result for check in checks if check.component == item.component.id]
        tally = ", ".join(f"{own.count(result)} {result}" for result in dict.fromkeys(own))
        lines.append(f"{item.component.id}  {tally}")
    total = ", ".join(f"{counts[name]} {name}" for name in ("run", "passed", "failed", "skipped", "expected-failure"))
    return "\n".join([*lines, f"in all: {total}"])
