"""``scorefold plugins add``, ``install``, ``remove`` and ``clean``: environments of plugins' own."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from scorefold.artefacts import MANIFEST_FILE, write_text
from scorefold.errors import ConfigError, PluginError
from scorefold_registry.cli.options import Parser, print_answer
from scorefold_registry.components.manifest import LOCK_FILE
from scorefold_registry.plugins.environments import installer
from scorefold_registry.plugins.environments.described import versions_text
from scorefold_registry.plugins.environments.sandbox import remark
from scorefold_registry.plugins.environments.spec import Spec, check_name, environments_in
from scorefold_registry.plugins.environments.store import folder_of
from scorefold_registry.plugins.names import did_you_mean, normalise, sentences
from scorefold_registry.plugins.settings import FILE_NAME, find_settings, read_settings
from scorefold_registry.runfile.reader import ENVIRONMENTS


def add_environment(arguments: list[str]) -> int:
    """Writes a table into ``scorefold.toml``, makes the environment and describes its plugins."""
    parser = Parser(
        "plugins add",
        "Install plugins in an environment of their own, and name it in scorefold.toml.",
        "plugins add my-plugin --isolated",
        "plugins add ./plugins/old 'scikit-learn==1.3.2' --isolated --name old",
        "plugins add --isolated --name theirs --interpreter ../other/.venv/bin/python",
    )
    parser.add_argument(
        "requirements", nargs="*", metavar="NAME", help="requirements in the form of pip: names or folders"
    )
    parser.add_flag("--isolated", "use an environment of its own; otherwise use pip")
    parser.add_argument("--name", metavar="ENV", help="the environment's name (default: the name of the first plugin)")
    parser.add_argument("--python", metavar="3.12", help="another version of Python")
    parser.add_argument("--lock", metavar="FILE", help="a file of requirements with hashes, to install or to write")
    parser.add_argument("--interpreter", metavar="FILE", help="a Python that has the plugins already")
    options = parser.parse_args(arguments)
    names: list[str] = options.requirements
    if not options.isolated:
        raise ConfigError(
            "scorefold plugins add installs only into environments of their own",
            hint=f"write --isolated, or pip install {' '.join(names)} for this environment",
        )
    if not (names or options.lock or options.interpreter):
        raise ConfigError("no plugin to install was named", hint="scorefold plugins add my-plugin --isolated")
    name = options.name or _name_of((names or [options.lock or "theirs"])[0])
    file = check_new(name)
    text = _of_others(Path(options.lock)) if options.lock else None
    copy = file.parent / f"{name}-lock.txt"
    is_new = text is not None and not _has_text(copy, text)
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    try:
        if text is not None:
            options.lock = str(copy)
            write_text(copy, text)
            print_answer(f"the lock is copied to {copy}")
        write_table(name, names, python=options.python, lock=options.lock, interpreter=options.interpreter)
        _install(_chosen([name])[0])
    except BaseException:
        # A table that can't be installed would stand in the way of every command.
        if before:
            write_text(file, before)
        elif file.exists():
            file.unlink()
        if is_new:
            copy.unlink(missing_ok=True)
        raise
    print_answer(f"{file} has the table [environments.{name}]")
    return 0


def check_new(name: str) -> Path:
    """The settings file for a new environment, which need not be there.

    Raises ``ConfigError`` for a name in it, and for a name that no environment can have.
    """
    check_name(name)
    settings = find_settings()
    file = settings.file or Path.cwd() / FILE_NAME
    if name in settings.data.get("environments", {}):
        raise ConfigError(
            f"{file} has an environment {name!r} already",
            hint=f"edit its table and run scorefold plugins install {name}, or choose another name",
        )
    return file


def write_table(name: str, requirements: Sequence[str], **words: str | None) -> Path:
    """Writes the table of a new environment into the settings file, and returns the file."""
    file = check_new(name)
    lines = [f"[environments.{name}]"]
    if requirements:
        lines.append(f"requirements = [{', '.join(_text(_from(file, text)) for text in requirements)}]")
    for word, value in words.items():
        if value is not None:
            lines.append(f"{word} = {_text(value if word == 'python' else _from(file, value, always=True))}")
    before = file.read_text(encoding="utf-8").rstrip() if file.is_file() else ""
    write_text(file, "\n".join([*([before, ""] if before else []), *lines, ""]))
    read_settings(file)
    return file


def _of_others(file: Path) -> str | None:
    """The text of a lock in the folder of a run or of a saved state, which may be removed; None for another lock."""
    file = Path(os.path.abspath(file.expanduser()))
    of_run = file.parent.name == ENVIRONMENTS and (file.parent.parent / "environment.json").is_file()
    if file.is_file() and (of_run or (file.name == LOCK_FILE and (file.parent / MANIFEST_FILE).is_file())):
        return file.read_text(encoding="utf-8")
    return None


def _has_text(copy: Path, text: str) -> bool:
    """True if the copy of a lock is there already. Raises ``ConfigError`` for another file at its path."""
    if copy.exists() and copy.read_bytes() != text.encode():
        raise ConfigError(
            f"the lock is to be copied to {copy}, where there is another file",
            hint="remove or rename this file, or choose another --name",
        )
    return copy.exists()


def install_environments(arguments: list[str]) -> int:
    """Make the missing environments of ``scorefold.toml``, and describe their plugins."""
    parser = Parser(
        "plugins install",
        "Make the missing environments of scorefold.toml, and describe their plugins.",
        "plugins install",
        "plugins install old-sklearn --fresh",
    )
    parser.add_argument("names", nargs="*", metavar="ENV", help="environments; by default all")
    parser.add_flag("--fresh", "make existing environments anew")
    options = parser.parse_args(arguments)
    for spec in _chosen(options.names):
        _install(spec, fresh=options.fresh)
    return 0


def remove_environments(arguments: list[str]) -> int:
    """Removes the folders of environments, and leaves their tables."""
    parser = Parser(
        "plugins remove",
        "Remove the files of environments; their tables in scorefold.toml stay.",
        "plugins remove old-sklearn",
    )
    parser.add_argument("names", nargs="+", metavar="ENV", help="environments")
    for spec in _chosen(parser.parse_args(arguments).names):
        count = installer.remove_environment(spec)
        what = "its files are removed" if count else "it has no files here"
        print_answer(f"{spec.name}: {what}; to make it again: {spec.install}")
    return 0


def clean_environments(arguments: list[str]) -> int:
    """Removes environments that were not used for a while."""
    parser = Parser("plugins clean", "Remove environments that were not used for some time.", "plugins clean --days 7")
    parser.add_argument("--days", type=float, default=30.0, metavar="N", help="days without use (default 30)")
    parser.add_flag("--dry-run", "only print the environments to remove")
    options = parser.parse_args(arguments)
    gone = installer.clean(options.days, dry_run=options.dry_run)
    for folder, size in gone:
        print_answer(f"{'would remove' if options.dry_run else 'removed'} {folder} ({size / 1e6:.0f} MB)")
    if not gone:
        print_answer(f"every environment was used in the last {options.days:g} days")
    return 0


def _install(spec: Spec, *, fresh: bool = False) -> None:
    description = installer.install(spec, lambda text: print(text, file=sys.stderr), fresh=fresh)
    offers = [
        f"{component['declares']['kind']}:{component['declares']['name']}"
        for plugin in description["plugins"]
        for component in plugin["components"]
    ]
    broken = [f"{plugin['name']}: {plugin['cause']}" for plugin in description["plugins"] if plugin["cause"]]
    print_answer(f"{spec.name}: {versions_text(description)}\n  {', '.join(offers) or 'no component'}")
    for text in broken:
        print_answer(f"  broken: {text}")
    if not description["plugins"]:
        raise PluginError(
            f"no distribution in {folder_of(spec) if spec.interpreter is None else spec.interpreter} declares a plugin",
            hint=f"name the plugin's distribution in {spec.table}{remark(spec)}",
        )


def _chosen(names: list[str]) -> list[Spec]:
    """The environments of the settings file with these names, or all. Raises ``ConfigError`` for one it has not."""
    settings = find_settings()
    specs = {spec.name: spec for spec in environments_in(settings)}
    if not specs:
        raise ConfigError(
            f"{settings.file or 'no ' + FILE_NAME + ' here'} has no environment",
            hint="scorefold plugins add my-plugin --isolated",
        )
    for name in names:
        if name not in specs:
            known = f"{settings.file} has {', '.join(specs)}"
            raise ConfigError(f"there is no environment {name!r}", hint=sentences(did_you_mean(name, specs), known))
    return [specs[name] for name in names or specs]


def _name_of(requirement: str) -> str:
    """The name of an environment from its first requirement."""
    word = re.split(r"[^A-Za-z0-9._-]", requirement.rstrip("/").rpartition("/")[2], maxsplit=1)[0]
    return re.sub(r"[^a-z0-9]+", "-", normalise(word)).strip("-") or "isolated"


def _from(file: Path, text: str, *, always: bool = False) -> str:
    """A path as it is written in a settings file, which may stand in a folder above; other text as it is."""
    if not (always or text.startswith((".", "/", "~")) or text.endswith(".whl")):
        return text
    path = os.path.relpath(os.path.abspath(Path(text).expanduser()), file.parent)
    return path if path.startswith(".") else f"./{path}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)  # as TOML writes it too
