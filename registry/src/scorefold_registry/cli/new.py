"""Templates of plugins, from any distribution that ships some: the entry-point group ``scorefold.templates``.

An entry point names a module with two functions: ``kinds() -> list[str]``, and ``render(kind, name, destination) ->
Path``, which writes a plugin into a new folder and raises ``ValueError`` for a name that it can't take. One for an
environment of its own is asked for with ``isolated=True``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from scorefold.errors import ConfigError, PluginError
from scorefold.plugin import Kind
from scorefold_registry.plugins.loading import describe
from scorefold_registry.plugins.names import did_you_mean, normalise, sentences

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
    """The templates to use for a kind: those of ``source`` where that is given.

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
