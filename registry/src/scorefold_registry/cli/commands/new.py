"""``scorefold new NAME --kind KIND`` writes a plugin to start from, by a template of any distribution that ships some.

An entry point of the group ``scorefold.templates`` names a module with two functions: ``kinds() -> list[str]``, and
``render(kind, name, destination) -> Path``. The second writes a plugin into a new folder, and raises ``ValueError`` for
a name that it can't take. A plugin for an environment of its own is requested with ``isolated=True``.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from scorefold.errors import ConfigError, PluginError, printable
from scorefold.plugin import Kind
from scorefold_registry.cli.commands.environments import check_new, write_table
from scorefold_registry.cli.options import Parser, discover_host, print_answer
from scorefold_registry.host import Host
from scorefold_registry.plugins.loading import describe
from scorefold_registry.plugins.names import did_you_mean, normalise, sentences, with_article

GROUP = "scorefold.templates"

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")


@dataclass(frozen=True)
class Templates:
    """Templates of one distribution, with their kinds."""

    distribution: str
    module: ModuleType
    kinds: tuple[str, ...]


def find_templates() -> tuple[list[Templates], list[str]]:
    """Installed templates, sorted by distribution, and notes on unusable ones."""
    import importlib_metadata

    found: list[Templates] = []
    notes: list[str] = []
    for entry in importlib_metadata.entry_points(group=GROUP):
        name = entry.module if entry.dist is None else entry.dist.name
        try:
            module = entry.load()
            found.append(Templates(name, module, tuple(module.kinds())))
        except (Exception, SystemExit) as error:
            notes.append(f"the templates of {name} can't be used: {describe(error)}")
    return sorted(found, key=lambda item: normalise(item.distribution)), notes


def choose_templates(
    found: Sequence[Templates], kind: str, known: Sequence[Kind], source: str | None = None
) -> Templates:
    """The templates to use for a kind, from ``source`` where it is given.

    Raises ``ConfigError`` for a kind without a template, for a source that has none, and where several distributions
    have one and none was chosen; ``PluginError`` where no template is installed.
    """
    if not found:
        raise PluginError("no template of a plugin is installed", hint="pip install scorefold-templates")
    if source is not None:
        names = [item.distribution for item in found]
        found = [item for item in found if normalise(item.distribution) == normalise(source)]
        if not found:
            hint = sentences(did_you_mean(source, names), f"those that do: {', '.join(names)}")
            raise ConfigError(f"no distribution {source!r} ships templates here", hint=hint)
    having = [item for item in found if kind in item.kinds]
    if len(having) == 1:
        return having[0]
    if having:
        owners = [item.distribution for item in having]
        raise ConfigError(
            f"{' and '.join(owners)} each have a template for kind {kind!r}", hint=f"choose one: --from {owners[0]}"
        )
    kinds = list(dict.fromkeys(each for item in found for each in item.kinds))
    there_are = f"there are templates for {', '.join(kinds)}"
    if any(each.name == kind for each in known):
        raise ConfigError(f"there is no template for kind {kind!r} yet", hint=there_are)
    near = did_you_mean(kind, [*kinds, *(each.name for each in known)])
    raise ConfigError(f"there is no kind {kind!r}", hint=sentences(near, there_are))


def refuse_taken(name: str) -> None:
    """Raises ``ConfigError`` where a distribution ``scorefold-<name>`` is installed: pip would replace it."""
    import importlib_metadata

    try:
        version = importlib_metadata.version(f"scorefold-{name}")
    except (importlib_metadata.PackageNotFoundError, ValueError):
        return
    raise ConfigError(
        f"scorefold-{name} {version} is installed, and a plugin of that name would replace it",
        hint=f"choose another name; an old attempt of your own goes by: pip uninstall scorefold-{name}",
    )


def render_plugin(templates: Templates, kind: str, name: str, out: Path, *, isolated: bool = False) -> Path:
    """Write a plugin into a new folder, and return it.

    Raises ``ConfigError`` for a name that can't be one or that the template can't take and for a folder that can't be
    written to, and ``PluginError`` where the template fails.
    """
    if not _NAME.match(name):
        near = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        raise ConfigError(
            f"a plugin can't be called {name!r}; a name is lower-case letters and digits, words joined by '-'",
            hint=f"for example {near if _NAME.match(near) else 'my-method'}",
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there already and is not empty", hint="name another folder with --out")
    existed = out.exists()
    try:
        options = {"isolated": True} if isolated else {}
        return Path(templates.module.render(kind, name, out, **options))
    except OSError as error:
        raise ConfigError(f"{out} can't be written: {error.strerror or error}", hint="--out names another") from error
    except (Exception, SystemExit) as error:
        if not existed:
            shutil.rmtree(out, ignore_errors=True)
        if isinstance(error, ValueError):
            raise ConfigError(str(error)) from error
        raise PluginError(
            f"the template for kind {kind!r} of {templates.distribution} failed: {describe(error)}",
            hint=f"pip install --upgrade {templates.distribution}",
        ) from error


def run(arguments: list[str]) -> int:
    """Write a plugin from a template."""
    if start_arguments := _for_a_run_file(arguments):
        from scorefold_registry.cli.commands import start

        return start.run(start_arguments)
    given = _parse(arguments)
    host = discover_host()
    found, notes = find_templates()
    for note in notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    kinds = list(host.catalogue.kinds.values())
    templates = choose_templates(found, given.kind, kinds, given.source)
    folder = given.out or Path(f"scorefold-{given.name}")
    if given.isolated:
        check_new(given.name)
    _note_namesakes(host, given.kind, given.name)
    return _create(folder, templates, given)


def _for_a_run_file(arguments: list[str]) -> list[str]:
    """The arguments of ``scorefold start``, from the arguments of ``scorefold new DATA --kind run``.

    There are none for another kind.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--kind")
    try:
        given, others = parser.parse_known_args(arguments)
    except argparse.ArgumentError:
        return []  # the command's own parser says what is wrong
    return others if given.kind == "run" else []


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "new",
        "Write a complete plugin from a template. The plugin passes its tests.",
        "new my-ratio --kind estimator",
        "new old-neighbours --kind estimator --isolated",
    )
    parser.add_argument("name", metavar="NAME", help="of the component, lower-case words joined by '-'")
    parser.add_argument(
        "--kind", required=True, help="of the component, such as estimator; or verb; or run, which is scorefold start"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the new folder (default: scorefold-NAME)")
    parser.add_argument("--from", dest="source", metavar="DIST", help="whose template, where several have one")
    parser.add_flag("--isolated", "for an environment of its own, with a table in scorefold.toml")
    parser.add_flag("--json", "print JSON")
    return parser.parse_args(arguments)


def _note_namesakes(host: Host, kind: str, name: str) -> None:
    notes = [
        f"{item.distribution} has {with_article(kind)}:{name} already; "
        "with both, neither is used until one is preferred"
        for item in host.catalogue.claimants(f"{kind}:{name}")
    ]
    notes += [
        f"{record.distribution} has a plugin {name!r} already; lists of plugins that say only that mean both"
        for record in host.plugins
        if record.name == name
    ]
    for note in notes:
        print(printable(f"note: {note}"), file=sys.stderr)


def _create(folder: Path, templates: Templates, given: argparse.Namespace) -> int:
    refuse_taken(given.name)
    folder = render_plugin(templates, given.kind, given.name, folder, isolated=given.isolated)
    component = f"{given.kind}:{given.name}"
    steps = [f"pip install -e {folder}", f"pytest {folder}", f"scorefold plugins check {component}"]
    if given.isolated:
        file = write_table(given.name, [f"./{folder}" if not folder.is_absolute() else str(folder)])
        steps = [f"scorefold plugins install {given.name}", f"scorefold run {folder / 'run.yaml'}"]
        print(printable(f"{file} has the table [environments.{given.name}]"), file=sys.stderr)
    if given.json:
        facts = {"component": component, "folder": str(folder), "template": templates.distribution, "next": steps}
        print_answer(json.dumps(facts, indent=2))
    else:
        print("\n  ".join([f"{folder} is a plugin with {component}; next:", *steps]))
    return 0
