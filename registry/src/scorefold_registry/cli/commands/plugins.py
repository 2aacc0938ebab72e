"""``scorefold plugins list``, ``plugins show NAME`` and ``plugins doctor``; ``plugins check`` has its own module."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from importlib_metadata import PackageNotFoundError, distribution

from scorefold.errors import PluginError, printable
from scorefold.plugin import Capability, Kind, Model, Port, Verb
from scorefold_registry.cli.options import Parser, print_answer, styled, two_columns, wrapped
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.plugins.discovery import discover
from scorefold_registry.plugins.hooks import HOOKS, REGISTRATION, implementations
from scorefold_registry.plugins.names import did_you_mean, missing_plugin, normalise, not_installed, sentences
from scorefold_registry.plugins.records import Command, PluginRecord, Registered


def run(arguments: list[str]) -> int:
    """Dispatches to ``list``, ``show``, ``doctor`` or ``check``, and to the subcommands of environments."""
    parser = Parser(
        "plugins",
        "List plugins, show their components, find their problems, and run their checks.",
        "plugins list",
        "plugins show estimator:mle",
        "plugins check my-plugin",
        "plugins add my-plugin --isolated",
    )
    commands = {"list": _list, "show": _show, "doctor": _doctor, "check": _check}
    commands |= {name: partial(_environments, name) for name in ("add", "install", "remove", "clean")}
    parser.add_argument(
        "command",
        choices=commands,
        help="all plugins; one of them; what is wrong; do the checks hold; and of environments: add one with its "
        "plugins; make all that scorefold.toml names; remove files; remove what is unused",
    )
    command = commands[parser.parse_args(arguments[:1]).command]
    return command(arguments[1:])


def _check(arguments: list[str]) -> int:
    # Imported only here: it reads configs, and listing must stay quick.
    from scorefold_registry.cli.commands.check import run as check

    return check(arguments)


def _environments(name: str, arguments: list[str]) -> int:
    from scorefold_registry.cli.commands import environments

    commands: dict[str, Callable[[list[str]], int]] = {
        "add": environments.add_environment,
        "install": environments.install_environments,
        "remove": environments.remove_environments,
        "clean": environments.clean_environments,
    }
    return commands[name](arguments)


def _list(arguments: list[str]) -> int:
    parser = Parser("plugins list", "List the installed plugins with their states and components.", "plugins list")
    parser.add_flag("--no-import", "run no plugin code: entry points only")
    parser.add_flag("--json", "print JSON")
    options = parser.parse_args(arguments)
    discovery = discover(import_plugins=not options.no_import)
    # Making the catalogue settles who has which name, and with it the states.
    Catalogue(discovery.plugins, discovery.settings.prefer)
    if options.json:
        _print_json({"plugins": [{**record.as_json(), **_further(record)} for record in discovery.plugins]})
    else:
        for record in discovery.plugins:
            _print_text(_lines(record, _further(record)))
        print("" if discovery.plugins else "no plugin is installed")
        for plugin in not_installed(discovery.plugins):
            print(wrapped(f"not installed: {plugin.name}, {plugin.summary}: {plugin.install}", 2))
        if discovery.plugins:
            print("scorefold plugins show NAME describes a component")
    for note in discovery.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    return 0


def _further(record: PluginRecord) -> dict[str, list[str]]:
    """The names of what a plugin offers beside components; its hooks are those around runs, without their prefix."""
    found: dict[str, Sequence[Kind | Capability | Verb | Command | Model]] = {
        "kinds": record.kinds,
        "capabilities": record.capabilities,
        "verbs": record.verbs,
        "commands": record.commands,
        "models": record.models,
    }
    names = {what: list(dict.fromkeys(item.name for item in items)) for what, items in found.items()}
    return {**names, "hooks": _hooks(record)}


def _hooks(record: PluginRecord) -> list[str]:
    if record.module is None or record.state in ("broken", "incompatible"):
        return []
    known = implementations(record.module)
    return [name.removeprefix("scorefold_") for name in HOOKS if name in known and name not in REGISTRATION]


def _lines(record: PluginRecord, further: Mapping[str, Sequence[str]]) -> Iterable[str]:
    yield from _head(record)
    offered: dict[str, list[str]] = {}
    for component in record.components:
        offered.setdefault(component.kind, []).append(component.name)
    offered |= {what: list(names) for what, names in further.items() if names}
    width = max([11, *(len(kind) + 1 for kind in offered)])
    for kind, names in offered.items():
        yield f"  {kind + ':':<{width}} {', '.join(names)}"


def _head(record: PluginRecord) -> Iterable[str]:
    """A plugin's name, its distribution with its summary, and what is wrong with it."""
    yield f"{record.name}  {record.distribution} {record.version}  {record.state}"
    if record.environment is not None:
        yield f"  {record.brought_by} {record.environment.summary}".replace("   ", "  ")
    elif summary := _summary(record.distribution):
        yield f"  {summary}"
    if record.cause:
        yield f"  cause: {record.cause}"
    if record.frame:
        yield f"  at: {record.frame}"
    if record.fix:
        yield f"  fix: {record.fix}"
    for warning in record.warnings:
        yield f"  warning: {warning}"


def _summary(name: str) -> str:
    """The line by which a distribution describes itself, or nothing. Its metadata are not parsed as a letter."""
    try:
        text = distribution(name).read_text("METADATA") or ""
    except PackageNotFoundError:
        return ""
    lines = text.partition("\n\n")[0].splitlines()
    return next((line.removeprefix("Summary: ") for line in lines if line.startswith("Summary: ")), "")


def _print_text(lines: Iterable[str]) -> None:
    """Lines about one thing: the first is its heading, the others wrap under themselves, where they don't yet."""
    first, *rest = (printable(line) for line in lines)
    print(styled(first, "heading"))
    for line in rest:
        print(line if "\n" in line else wrapped(line, len(line) - len(line.lstrip()) + 4))


def _show(arguments: list[str]) -> int:
    parser = Parser(
        "plugins show",
        "Show a plugin, a component with its ports and its config, or a model that comes with a plugin.",
        "plugins show iddiff",
        "plugins show estimator:mle",
        "plugins show model:fashion-score",
    )
    parser.add_argument(
        "name", metavar="NAME", help="a plugin, a distribution, a component as kind:name, or a model as model:NAME"
    )
    parser.add_flag("--json", "print JSON")
    options = parser.parse_args(arguments)
    discovery = discover()
    discovery.ask_claims()
    catalogue = Catalogue(discovery.plugins, discovery.settings.prefer)
    found = [record for record in discovery.plugins if _is_called(record, options.name)]
    facts: dict[str, Any]
    if found:
        facts = {"plugins": [_plugin_facts(record) for record in found]}
        texts = [_plugin_text(record) for record in found]
    elif options.name.startswith("model:"):
        from scorefold_registry.runfile.loaded_stages import find_model

        shipped = find_model(discovery.plugins, options.name)
        facts = shipped.facts()
        texts = [[*_head(shipped.record), _model_line(facts)]]
    else:
        facts = _component_facts(catalogue, _component(catalogue, discovery.plugins, options.name))
        texts = [_component_text(facts)]
    if options.json:
        _print_json(facts)
        return 0
    for lines in texts:
        _print_text(lines)
    if facts.get("run_file"):
        print_answer(f"\na run file to begin with (small, so that it runs soon):\n\n{facts['run_file'].rstrip()}")
    return 0


def _doctor(arguments: list[str]) -> int:
    parser = Parser(
        "plugins doctor", "Show the problems of the installed plugins, and their fixes.", "plugins doctor --load"
    )
    parser.add_flag("--load", "also import the code of every component")
    parser.add_flag("--json", "print JSON")
    options = parser.parse_args(arguments)
    from scorefold_registry.cli.doctor import doctor_report, examine

    discovery = discover()
    discovery.ask_claims()
    found = examine(discovery, Catalogue(discovery.plugins, discovery.settings.prefer), load=options.load)
    if options.json:
        _print_json(found.as_json())
    else:
        print_answer(doctor_report(found))
    return 0 if found.well else 1


def _is_called(record: PluginRecord, name: str) -> bool:
    return name == record.name or normalise(name) == normalise(record.distribution)


def _component(catalogue: Catalogue, plugins: list[PluginRecord], name: str) -> Registered:
    try:
        return catalogue.resolve(name)
    except PluginError as error:
        if (missing := missing_plugin(name, plugins)) is not None:
            raise missing from error
        if ":" not in name and "/" not in name:
            known = [record.name for record in plugins]
            hint = sentences(did_you_mean(name, known), error.hint or "", f"the plugins are {', '.join(known)}")
            raise PluginError(f"no plugin and no component is called {name!r}", hint=hint) from error
        raise


def _plugin_facts(record: PluginRecord) -> dict[str, Any]:
    return {
        **record.as_json(),
        "hooks": _hooks(record),
        "module": record.value,
        "frame": record.frame,
        "fix": record.fix,
        "warnings": record.warnings,
        "kinds": [{"name": kind.name, "summary": kind.summary} for kind in record.kinds],
        "capabilities": [{"name": item.name, "summary": item.summary} for item in record.capabilities],
        "verbs": [{"name": verb.name, "kinds": list(verb.kinds)} for verb in record.verbs],
        "claims": [{"name": claim.name, "statement": claim.statement, "role": claim.role} for claim in record.claims],
        "commands": [{"name": command.name, "summary": command.summary} for command in record.commands],
        "models": _models(record),
        "settings": _settings(record),
    }


def _settings(record: PluginRecord) -> list[dict[str, Any]]:
    """Settings of a plugin under ``plugins`` in a run file. Imports the model of its settings."""
    if record.settings is None:
        return []
    from scorefold_registry.components.fields import describe_fields
    from scorefold_registry.runfile.plugin_settings import settings_model

    return describe_fields(settings_model(record))


def _plugin_text(record: PluginRecord) -> list[str]:
    first, *rest = _head(record)
    lines = [first, f"  module: {record.value}", *rest]
    for kind in dict.fromkeys(component.kind for component in record.components):
        offered = [(item.name, item.summary) for item in record.components if item.kind == kind]
        lines += [f"  {kind}:", *two_columns(offered, 4)]
    if hooks := _hooks(record):
        lines.append(f"  hooks:      {', '.join(hooks)}")
    lines += [f"  kind {kind.name}: {kind.summary}" for kind in record.kinds]
    lines += [f"  capability {item.name}: {item.summary}" for item in record.capabilities]
    listing = "the kinds that list it"
    lines += [f"  verb {verb.name} of {', '.join(verb.kinds) or listing}" for verb in record.verbs]
    lines += [f"  command {command.name}: {command.summary}" for command in record.commands]
    lines += [_model_line(model) for model in _models(record)]
    lines += _field_lines("settings", _settings(record))
    if record.claims:
        gates = sum(claim.role == "gate" for claim in record.claims)
        counts = f"{len(record.claims)}, {gates} of which are gates"
        lines.append(f"  claims: {counts}; 'scorefold reproduce {record.name}' measures them")
    return lines


def _models(record: PluginRecord) -> list[dict[str, Any]]:
    """Facts about the models of a plugin. Reads their cards."""
    if not record.models:
        return []
    from scorefold_registry.runfile.loaded_stages import shipped_models

    return [shipped.facts() for shipped in shipped_models([record])]


def _model_line(facts: Mapping[str, Any]) -> str:
    begin = f"  model {facts['name']}: {facts['summary']}"
    if "fault" in facts:
        return f"{begin}; {facts['fault']}"
    about = f"{facts['component']}, {facts['bytes'] / 1e6:.1f} MB, licence {facts['licence']}"
    return f"{begin} ({about}, of its data {facts['data_licence']}); load: model:{facts['name']}"


def _component_facts(catalogue: Catalogue, item: Registered) -> dict[str, Any]:
    """All that a component declares, with its config's fields. Imports the config model, not the component."""
    from scorefold_registry.components.fields import describe_fields
    from scorefold_registry.components.parts import config_model
    from scorefold_registry.runfile.example import example_run
    from scorefold_registry.runfile.yaml_reader import yaml_text

    component = item.component
    example = example_run(catalogue, component)
    return {
        "component": component.versioned_id,
        "summary": component.summary,
        "distribution": item.distribution,
        "version": item.version,
        "state": item.state,
        "target": component.target,
        "aliases": list(component.aliases),
        "provides": list(component.provides),
        "ports": [
            {
                "name": port.name,
                "kinds": list(port.kinds),
                "needs": list(port.needs),
                "optional": _optional(port),
                "many": port.many,
            }
            for port in component.requires
        ],
        "verbs": [_verb_facts(verb) for verb in catalogue.able(component)],
        "config": describe_fields(config_model(item)),
        "cite": component.cite,
        "run_file": None if example is None else yaml_text(example),
        **({} if item.record.environment is None else {"environment": item.record.environment.summary}),
    }


def _verb_facts(verb: Verb) -> dict[str, Any]:
    """Inputs, output and options of a verb. Imports its options, not its code."""
    from scorefold_registry.components.fields import describe_fields

    options = None
    if verb.options is not None:
        module, _, name = verb.options.partition(":")
        options = getattr(import_module(module), name)
    return {
        "name": verb.name,
        "takes": [{"name": port.name, "kinds": list(port.kinds), "optional": _optional(port)} for port in verb.takes],
        "gives": verb.gives,
        "options": [] if options is None else describe_fields(options),
    }


def _optional(port: Port) -> bool:
    return port.optional or port.default is not None


def _component_text(facts: Mapping[str, Any]) -> list[str]:
    names, name = [verb["name"] for verb in facts["verbs"]], facts["component"].partition("@")[0]
    lines = [
        f"{facts['component']}  {facts['distribution']} {facts['version']}  {facts['state']}",
        f"  {facts['summary']}",
        *([f"  {facts['environment']}: name it {facts['distribution']}/{name}"] if "environment" in facts else []),
        f"  verbs: {', '.join(names) or 'none; it is named inside the config of another component'}",
    ]
    lines += [f"  {name}: {', '.join(facts[name])}" for name in ("aliases", "provides") if facts[name]]
    for port in facts["ports"]:
        needs = f" that provides {', '.join(port['needs'])}" if port["needs"] else ""
        several = "several " if port["many"] else ""
        optional = " (optional)" if port["optional"] else ""
        lines.append(f"  port {port['name']}: {several}{' or '.join(port['kinds'])}{needs}{optional}")
    lines += _field_lines("config", facts["config"])
    for verb in facts["verbs"]:
        takes = [f"{port['name']}{' (optional)' if port['optional'] else ''}" for port in verb["takes"]]
        lines.append(f"  verb {verb['name']}: takes {', '.join(takes) or 'nothing'}; gives {verb['gives']}")
        lines += _field_lines(f"options of {verb['name']}", verb["options"])
    return lines


def _field_lines(what: str, fields: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of fields below its heading; nothing where there are none."""
    rows = [
        (field["name"], f"{field['type']}{_default(field)}. {field['description']}".rstrip(". ")) for field in fields
    ]
    return [f"  {what}:", *two_columns(rows, 4)] if rows else []


def _default(field: Mapping[str, Any]) -> str:
    if field["required"]:
        return ", required"
    value = field["default"]
    if isinstance(value, dict):
        named = value.get("use") or value.get("name")
        return f", default {named}" if named else ""
    return f", default {'null' if value is None else value or repr(value)}"


def _print_json(facts: Mapping[str, Any]) -> None:
    import json

    print_answer(json.dumps(facts, indent=2, ensure_ascii=False))
