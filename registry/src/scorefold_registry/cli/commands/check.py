"""``scorefold plugins check [NAME]``: the conformance kit without pytest."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

from scorefold.errors import PluginError, printable
from scorefold_registry.cli.options import Parser, UsageError, print_answer
from scorefold_registry.host import Host
from scorefold_registry.plugins.names import did_you_mean, normalise
from scorefold_registry.plugins.records import PluginRecord, Registered, workers_of

KIT = "scorefold_testing"
ORIGIN = "scorefold_registry:Host.discover"
_NOT_ISOLATED = {
    "it imports the plugin, which has an environment of its own": (
        *("constructor", "config-strict", "builds-in-time", "documented", "lazy-declaration", "lazy-config"),
        *("chunks-agree", "other-revisions"),
    ),
    "its environment has a device of its own": ("device-followed",),
    "second derivatives are not available from another process": ("twice-differentiable", "potential-derivatives"),
    "a training is done in its process as a whole": (
        *("trained-state", "learned-state", "loss-trains", "loss-falls", "loss-follows-generator", "loss-validates"),
        "phases-cover",
    ),
}
"""Checks that do not apply to a component in an environment of its own, by the reason."""
LONG = 30.0
"""Seconds from which the slowest checks are named."""
PSEUDO = ("verb", "kind", "observer")
"""Other things to check than components, by the word before their names."""


def run(arguments: list[str]) -> int:
    """Runs the checks on what is named, or on all that is installed; status 0 where all pass, 1 where one does not."""
    parser = Parser(
        "plugins check",
        "Run the checks of its kind on a component, on all of a plugin's, or on everything.",
        "plugins check my-plugin",
        "plugins check estimator:mle --level determinism",
    )
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="a plugin, a distribution, kind:name, verb:NAME, kind:NAME or observer:PLUGIN (default: all)",
    )
    parser.add_list("--only", "CHECK", "run only this check (repeatable)")
    parser.add_list(
        "--level",
        "LEVEL",
        "run only checks of this level (repeatable): "
        "contract, numerics, determinism, device, artefact, laziness, documentation",
    )
    parser.add_argument(
        "--device",
        help="the accelerator that checks of accelerators use, such as cuda:1 or simulated (default: this machine's)",
    )
    parser.add_argument("--seed", type=int, default=0, help="the root seed; repeat it to reproduce a failure")
    parser.add_list(
        "--expect",
        "KIND:NAME/CHECK=REASON",
        "a known failure, with its reason; if it does not occur, that is a failure, too (repeatable)",
    )
    parser.add_flag("--json", "print JSON")
    parser.add_flag("--quiet", "show no progress")
    options = parser.parse_args(arguments)
    from scorefold_registry.run.environment import set_up_device
    from scorefold_registry.run.progress import progress_for

    expected = _expected(options.expect)
    host = Host.discover()
    kit = _kit()
    made, seconds = [], []
    with workers_of(host.plugins), ExitStack() as shown:
        items = _items(host, kit, options.name)
        bar = progress_for(sys.stdout, options.quiet or options.json or not sys.stdout.isatty())
        shown.callback(bar.close)
        bar.stage_started("checks", "", 1, 1)
        began = time.monotonic()
        for check in kit.check_components(
            items,
            host,
            seed=options.seed,
            expected=expected,
            only=options.only,
            levels=options.level,
            origin=ORIGIN,
            accelerator=options.device and set_up_device(options.device),
            show=partial(bar.advanced, "checks"),
        ):
            made.append(check)
            seconds.append(time.monotonic() - began)
            began = time.monotonic()
            if not options.json and check.result in ("failed", "expected-failure"):
                print(printable(f"{check.result}: {check}"), flush=True)
    report = kit.Report(tuple(made))
    if options.json:
        print_answer(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
    else:
        print(_summary(items, report))
        print(_slowest(made, seconds), end="")
    return 0 if report.holds else 1


def _kit() -> Any:
    """The conformance kit, which is a distribution of its own for developers. Importing it imports torch.

    Raises ``PluginError`` where it is not installed.
    """
    try:
        return import_module(KIT)
    except ModuleNotFoundError as error:
        if error.name != KIT:
            raise
        raise PluginError(
            "the conformance checks are not installed: they are the distribution scorefold-testing",
            hint="pip install scorefold-testing, or in a clone of this repository pip install ./testing",
        ) from None


def _expected(given: Sequence[str]) -> dict[str, str]:
    """The expected failures of the command line, with their reasons."""
    pairs = [text.partition("=") for text in given]
    for key, _, reason in pairs:
        if "/" not in key or not reason.strip():
            raise UsageError(
                f"--expect {key} needs a check and a reason", hint="for example --expect score:mine/saved-state=why"
            )
    return {key: reason for key, _, reason in pairs}


def _items(host: Host, kit: Any, name: str | None) -> list[Any]:
    """Items to check: all of a plugin or distribution, the component, verb or kind with that name, or all.

    Raises ``PluginError`` for a name that nothing has, for a plugin that offers nothing and where there is none.
    """
    records = host.plugins
    prefix, _, word = (name or "").partition(":")
    if prefix in PSEUDO:
        others = [item for record in records for item in _others(kit, record) if item.component.kind == prefix]
        chosen = [item for item in others if item.name == name]
        if not chosen:
            known = dict.fromkeys(item.component.name for item in others)
            hint = did_you_mean(word, known) or f"those that plugins add are {', '.join(known)}"
            raise PluginError(f"no plugin adds a {prefix} {word!r}", hint=hint)
        return chosen
    if name is not None:
        records = [item for item in records if name == item.name or normalise(name) == normalise(item.distribution)]
        if not records:
            entry = host.catalogue.resolve(name)
            return [_item(kit, host, entry)]
    found = [
        _item(kit, host, entry)
        for entry in host.components()
        if entry.record in records and (name is not None or entry.record.environment is None)
    ]
    found += [item for record in records for item in _others(kit, record)]
    if not found and name is None:
        raise PluginError("no plugin that is installed offers a component to check")
    if not found:
        causes = "; ".join(f"{record.label} is {record.state}: {record.cause}" for record in records if record.cause)
        raise PluginError(f"{name} offers no component to check", hint=causes or None)
    return found


def _item(kit: Any, host: Host, entry: Registered) -> Any:
    """A component to check. One in an environment of its own is used through its process, which is started now: a
    process that starts later stands in a folder that a check removes."""
    if entry.record.environment is None:
        return kit.Item(entry.component, entry.qualified, entry.record.value)
    entry.record.environment.session()
    skipped = {check: why for why, checks in _NOT_ISOLATED.items() for check in checks}
    records = [record for record in host.plugins if record.environment is entry.record.environment]
    theirs = {component.id for record in records for component in record.components}
    examples = tuple(
        {**example, "inputs": _of_environment(example.get("inputs", {}), theirs, entry.distribution)}
        for example in entry.component.examples
    )
    return kit.Item(replace(entry.component, examples=examples), entry.qualified, entry.record.value, skipped)


def _of_environment(value: Any, theirs: set[str], environment: str) -> Any:
    """The inputs of an example in which names of components of an environment mean those."""
    if isinstance(value, Mapping):
        return {key: _of_environment(item, theirs, environment) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_of_environment(item, theirs, environment) for item in value]
    return f"{environment}/{value}" if isinstance(value, str) and value in theirs else value


def _others(kit: Any, record: PluginRecord) -> list[Any]:
    """Other offers of a plugin than components: verbs, kinds with their verbs, and hooks around runs."""
    if record.module is None or record.state == "broken":
        return []
    found = [kit.verb_item(verb, record.value) for verb in record.verbs]
    found += [item for kind in record.kinds for item in kit.kind_items(kind, record.value)]
    return [*found, *kit.observer_items(record.name, record.module.__name__, record.settings)]


def _summary(items: Sequence[Any], report: Any) -> str:
    lines = []
    for name in dict.fromkeys(item.component.id for item in items):
        own = [check.result for check in report.checks if check.component == name]
        lines.append(f"{name}  {_counts_text({result: own.count(result) for result in dict.fromkeys(own)})}")
    levels = [f"{level}: {_counts_text(counts)}" for level, counts in report.levels.items()]
    return "\n".join([*lines, *levels, f"in all: {_counts_text(report.counts)}"])


def _slowest(checks: Sequence[Any], seconds: Sequence[float]) -> str:
    """The line that names the three slowest checks; nothing where all took ``LONG`` seconds or less."""
    if sum(seconds) <= LONG:
        return ""
    slow = sorted(zip(seconds, checks, strict=True), key=lambda each: -each[0])[:3]
    names = ", ".join(f"{check.component} {check.check} ({spent:.0f} s)" for spent, check in slow)
    return f"{sum(seconds):.0f} s; the slowest checks: {names}\n"


def _counts_text(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {result}" for result, count in counts.items())
