"""The command ``scorefold``: finds the command that was asked for, and says what went wrong."""

from __future__ import annotations

import atexit
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from typing import TYPE_CHECKING

from scorefold.errors import ScorefoldError, printable
from scorefold_registry.cli.options import only_answers, styled, wrapped
from scorefold_registry.plugins.settings import OPTION_VARIABLE, VARIABLE
from scorefold_registry.run.os_process import settle_threads, torchrun_processes

if TYPE_CHECKING:
    from scorefold_registry.plugins.records import Command, PluginRecord

GROUPS: dict[str, dict[str, str]] = {
    "Start here": {
        "demo": "answer four questions about a thousand images with an included model",
        "inspect": "show the content of a data file, and its problems",
        "recommend": "recommend an estimate of the dimension of data",
        "audit": "check a model for copies of its training data, and for quality",
        "start": "write a run file for your data and a question",
    },
    "Run files": {
        "run": "run a run file",
        "validate": "check a run file without running it",
        "graph": "show the graph of the stages of a run file",
        "sweep": "run a run file at many values of some of its fields",
        "cite": "print BibTeX for the methods of a run file",
        "schema": "write JSON Schema of run files, for editors",
    },
    "Past runs": {
        "runs": "list past runs and clean up",
        "apply": "use a trained stage on new data",
        "push": "write a trained stage as a folder for others, or upload it to the Hugging Face Hub",
        "pull": "check and copy a model that was pushed",
    },
    "Methods and plugins": {
        "compare": "compare all installed components of a kind on common cases",
        "reproduce": "measure the claims of plugins again",
        "plugins": "list plugins, show their components and their problems",
        "new": "write a plugin from a template, or a run file",
        "completion": "print a script for completion of commands in a shell",
    },
}
"""The commands of the registry in the groups of ``scorefold --help``."""

MODULES = {
    **dict.fromkeys(("validate", "graph", "cite", "schema"), "run_files"),
    **dict.fromkeys(("push", "pull"), "sharing"),
    **dict.fromkeys(("compare", "sweep", "reproduce"), "experiments"),
    "demo": "run",
}
"""Modules of several commands, with a function ``NAME_command`` for each. Other commands have a module with ``run``."""

COMMANDS = {name: summary for group in GROUPS.values() for name, summary in group.items()}

USAGE = """usage: scorefold [--plugins LIST] [--debug] COMMAND [ARGUMENTS]

  --plugins LIST  allow only these plugins (a,b), or deny some (--plugins=-a,-b); goes before
                  SCOREFOLD_PLUGINS, which goes before the nearest scorefold.toml
  --debug         show the traceback of an error
  --version       print the version"""

HOLDS, FAILS, ERROR, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141
"""Exit statuses: what was asked holds, it does not, an error, stopped by Ctrl-C, nobody reads the output."""


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns its exit status: 0 what was asked holds, 1 it does not, 2 an error."""
    _open_all()
    atexit.register(_end_soon)
    settle_threads()
    if torchrun_processes() > 1 and os.environ["RANK"] != "0":
        return _follow(list(sys.argv[1:] if argv is None else argv))
    try:
        return _status(argv)
    except BrokenPipeError:
        # The reader (head, less) went away. Python would complain again when it flushes at exit.
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return PIPE_CLOSED


def _end_soon() -> None:
    """At its end Python would look through all objects several times, which takes 0.4 s with torch."""
    import gc

    gc.freeze()


def _open_all() -> None:
    """Streams that were closed before the process began lead nowhere, and no file that is opened takes their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - open for as long as the process


def _status(argv: list[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json, debug = "--json" in arguments, "--debug" in arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name need not be text, and that must not cost a command its output.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        plugins = _take_globals(arguments)
        with _plugins_variable(plugins), _no_interrupt_lost():
            status = _dispatch(arguments)
        # Flushed here, where a reader that has gone away is caught.
        sys.stdout.flush()
        return status
    except ScorefoldError as error:
        if debug:
            raise
        _say(error, as_json)
        return ERROR
    except KeyboardInterrupt:
        if debug:
            raise
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except SystemExit as exit_:
        if exit_.code is None or isinstance(exit_.code, int):
            return exit_.code or HOLDS
        print(exit_.code, file=sys.stderr)
        return ERROR
    except BaseException as error:  # a plugin may raise anything
        if debug:
            raise
        from scorefold_registry.plugins.loading import describe

        message = describe(error)
        hint = "this is a mistake in Scorefold or in a plugin; the same command with --debug shows where"
        _say(ScorefoldError(message, hint=hint), as_json)
        return ERROR


def _take_globals(arguments: list[str]) -> str | None:
    """Takes ``--debug`` and ``--plugins`` out of the arguments; the value of the latter."""
    plugins = None
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept: list[str] = []
    given = iter(arguments[:end])
    for argument in given:
        if argument == "--plugins":
            plugins = next(given, None)
            if plugins is None:
                raise _usage_error("--plugins needs a list", "for example --plugins standard,iddiff")
        elif argument.startswith("--plugins="):
            plugins = argument.partition("=")[2]
        elif argument != "--debug":
            kept.append(argument)
    arguments[:end] = kept
    return plugins


@contextmanager
def _no_interrupt_lost() -> Iterator[None]:
    """Ctrl-C in a function whose errors Python only prints, such as the callback of a weak reference, comes again."""
    before, left = sys.unraisablehook, list[threading.Timer]()

    def press() -> None:
        left.clear()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def again(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            before(unraisable)
        elif not left:
            # Not from here: this function's errors are only printed too.
            left.append(threading.Timer(0.05, press))
            left[0].daemon = True
            left[0].start()

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before
        if left:
            left.pop().cancel()
            raise KeyboardInterrupt


@contextmanager
def _plugins_variable(value: str | None) -> Iterator[None]:
    """Puts the command line's list where the environment's is, so that worker processes see the same plugins."""
    if value is None:
        yield
        return
    # Stripped as the reader of the variable strips it, since the two are compared.
    given = {VARIABLE: value.strip(), OPTION_VARIABLE: value.strip()}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, text in before.items():
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return HOLDS if arguments else ERROR
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        from scorefold_registry import __version__

        print(f"scorefold {__version__}")
        return HOLDS
    together = torchrun_processes() > 1 and not _prints_help(rest)
    if together and name != "run":
        raise _usage_error(f"{name!r} is a command for one process", "torchrun is for scorefold run FILE")
    if name in COMMANDS:
        command = own_command(name)
        if together:
            command = _led(command)
        with only_answers() if "--json" in rest else nullcontext():
            return _returned(command, rest)
    return _call_added(*_plugin_command(name), rest)


def own_command(name: str) -> Callable[[list[str]], int]:
    """The function of a command of the registry, which takes arguments and returns the exit status."""
    module = import_module(f"scorefold_registry.cli.commands.{MODULES.get(name, name)}")
    function: Callable[[list[str]], int] = getattr(module, f"{name}_command" if name in MODULES else "run")
    return function


def _follow(arguments: list[str]) -> int:
    """The part of every process but the first, which prints help and errors."""
    with suppress(ScorefoldError):
        _take_globals(arguments)
    if arguments[:1] != ["run"] or _prints_help(arguments):
        return HOLDS
    from scorefold_registry.run.environment import follow_first_process

    return follow_first_process()


def _prints_help(arguments: list[str]) -> bool:
    return not {"-h", "--help"}.isdisjoint(arguments)


def _led(command: Callable[[list[str]], int]) -> Callable[[list[str]], int]:
    """A command in the first process, with the others at hand."""
    from scorefold_registry.run.environment import lead

    return lambda arguments: lead(lambda: command(arguments))


def _returned(command: Callable[[list[str]], int], arguments: list[str]) -> int:
    """The status that a command returns. A plugin's code that ends the process must not choose it."""
    try:
        return command(arguments)
    except SystemExit as exit_:
        if exit_.code in (None, HOLDS) and _prints_help(arguments):
            raise
        hint = "this is a mistake of a plugin; the same command with --debug shows where"
        raise ScorefoldError(f"what was asked for ended by SystemExit: {exit_.code}", hint=hint) from exit_


def _call_added(record: PluginRecord, command: Command, arguments: list[str]) -> int:
    """The status of a plugin's command. Raises ``PluginError`` that names the plugin for whatever its code raises."""
    from scorefold.errors import PluginError
    from scorefold_registry.plugins.loading import describe, load_command, own_frame, raised_by

    function = load_command(record, command)
    try:
        status = function(arguments)
    except (ScorefoldError, SystemExit, BrokenPipeError):
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and not raised_by(error, {record.package}):
            raise
        frame = own_frame(error, {record.package})
        hint = "the same command with --debug shows where"
        raise PluginError(
            f"the command {command.name!r} failed in {record.label}: {describe(error)}",
            hint=f"at {frame}; {hint}" if frame else hint,
        ) from error
    if status is not None and not isinstance(status, int):
        raise PluginError(
            f"the command {command.name!r} of {record.label} returned {status!r:.80}; expected an exit status",
            hint="return 0, or nothing, where all is well",
        )
    return status or HOLDS


def _plugin_command(name: str) -> tuple[PluginRecord, Command]:
    """The command that a plugin adds, and the plugin. Raises ``UsageError`` with near misses for an unknown name."""
    from scorefold_registry.plugins.names import did_you_mean, known_plugins, sentences

    known = _added()
    found = [(record, command) for record, command in known if command.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        owners = " and ".join(record.distribution for record, _ in found)
        raise _usage_error(f"{name!r} is a command of {owners}", f"deny one: --plugins=-{found[1][0].name}")
    for plugin in known_plugins():
        if name in plugin.commands:
            raise _usage_error(
                f"the command {name!r} comes with {plugin.distribution}, which is not here", plugin.install
            )
    names = [*COMMANDS, *(command.name for _, command in known)]
    hint = sentences(did_you_mean(name, names), f"the commands are {', '.join(names)}")
    raise _usage_error(f"there is no command {name!r}", hint)


def _help() -> str:
    """The usage, the commands by group, and where to begin. Raises ``PluginError`` as discovery does."""
    added = {command.name: f"{printable(command.summary)} ({record.distribution})" for record, command in _added()}
    groups = {**GROUPS, **({"Of plugins": added} if added else {})}
    width = max(len(name) for group in groups.values() for name in group)
    lines = [USAGE]
    for title, group in groups.items():
        lines += ["", styled(title, "heading")]
        lines += [wrapped(f"  {name:<{width}}  {summary}", width + 4) for name, summary in group.items()]
    return "\n".join([*lines, "", "scorefold COMMAND --help shows its options and examples."])


def _added() -> list[tuple[PluginRecord, Command]]:
    """The commands that plugins add. None of them replaces one of ours."""
    from scorefold_registry.plugins.discovery import discover

    pairs = [(record, command) for record in discover().plugins for command in record.commands]
    return [(record, command) for record, command in pairs if command.name not in COMMANDS]


def _usage_error(message: str, hint: str) -> ScorefoldError:
    # Imported here because argparse, behind it, would cost every command.
    from scorefold_registry.cli.options import UsageError

    return UsageError(message, hint=hint)


def _say(error: ScorefoldError, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps({"error": error.as_json()}))
    else:
        print(f"{styled('error:', 'error', error=True)} {error}", file=sys.stderr)
