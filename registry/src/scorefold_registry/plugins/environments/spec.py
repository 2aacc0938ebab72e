"""The tables ``[environments.NAME]`` of ``scorefold.toml``: read and checked, without a process and without torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from scorefold.errors import ConfigError
from scorefold_registry.plugins.names import did_you_mean, sentences
from scorefold_registry.plugins.settings import Settings

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
_UNITS = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
_MEMORY = r"(\d+(?:\.\d+)?) ?(MB|GB|MiB|GiB)"
_PIP = r"pip install (?P<options>(?:--\S+ )*)(?P<what>'[^']*'|\"[^\"]*\"|[^\s,;)]+)"
_OURS = r"""['"]?scorefold-(?:core|toolkit|registry)(?!-|\w|\[)"""
_LEAST_MEMORY = 10**8


class Spec(NamedTuple):
    """One environment as its table says.

    ``requirements`` are lines as pip reads them, with paths made absolute; ``lock`` is a file of lines with hashes;
    ``interpreter`` is a Python that is there already. ``torch`` is ``host`` (the host's files are lent), ``own``, or
    empty where the table does not say. ``memory`` is in bytes, ``seconds`` the longest time of one call. A ``sandbox``
    shows the worker the paths in ``read``, and the network if ``network`` is set.
    """

    name: str
    file: Path
    requirements: tuple[str, ...] = ()
    lock: Path | None = None
    interpreter: Path | None = None
    python: str | None = None
    torch: str = ""
    memory: int | None = None
    seconds: float | None = None
    device: str | None = None
    build: bool = False
    passed: tuple[str, ...] = ()
    sandbox: str | None = None
    read: tuple[Path, ...] = ()
    network: bool = False

    @property
    def folders(self) -> list[Path]:
        """The local folders among the requirements."""
        return [Path(line) for line in self.requirements if Path(line).is_absolute() and Path(line).is_dir()]

    @property
    def table(self) -> str:
        """The table as hints name it."""
        return f"[environments.{self.name}] of {self.file}"

    @property
    def install(self) -> str:
        """The command that makes the environment, or describes it anew."""
        return f"scorefold plugins install {self.name}"

    def own_fix(self, hint: str) -> str:
        """A hint from the environment, with the commands of pip replaced: typed here, they would install here."""
        return re.sub(_PIP, self._own_command, hint)

    def _own_command(self, match: re.Match[str]) -> str:
        options, what = match["options"], match["what"]
        if re.match(_OURS, what):
            return match[0]  # they are used from here
        if self.interpreter is not None:
            return f"{self.interpreter} -m {match[0]}, then {self.install}"
        if not options:
            return f"add {what} to [environments.{self.name}], then {self.install}"
        return f"{self.install} --fresh, if needed with another version of {what} in [environments.{self.name}]"


def environments_in(settings: Settings) -> list[Spec]:
    """The environments of a settings file, in its order. Raises ``ConfigError`` with the line of what is wrong.

    >>> environments_in(Settings())
    []
    """
    tables = settings.data.get("environments")
    if tables is None or settings.file is None:
        return []
    if not isinstance(tables, Mapping):
        raise ConfigError(
            f"environments is {tables!r:.60}; expected tables such as [environments.old-sklearn]",
            hint='write [environments.old-sklearn] and below it requirements = ["scikit-learn==1.3.2"]',
            file=settings.file,
        )
    return [_Reading(settings.file, str(name), table).spec() for name, table in tables.items()]


def check_name(name: str, **place: Any) -> None:
    """Raises ``ConfigError`` for a name that no environment can have; ``place`` is the file and the line of it."""
    if not _NAME.match(name):
        raise ConfigError(
            f"an environment can't be called {name!r:.60}; expected lower-case letters and digits, words joined by '-'",
            hint="for example old-sklearn",
            **place,
        )


def _bytes(value: Any) -> int:
    match = re.fullmatch(_MEMORY, value) if isinstance(value, str) else None
    return 0 if match is None else int(float(match[1]) * _UNITS[match[2]])


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value)


_FIELDS: dict[str, tuple[Callable[[Any], Any], str, str]] = {
    "requirements": (_are_texts, "a list of texts", '["scikit-learn==1.3.2"]'),
    "lock": (_is_text, "text", '"env/locked.txt"'),
    "interpreter": (_is_text, "text", '"../other/.venv/bin/python"'),
    "python": (lambda value: _is_text(value) and re.fullmatch(r"3\.\d+", value), "a version as text", '"3.12"'),
    "torch": (lambda value: value in ("host", "own"), "host or own", '"host"'),
    "build": (lambda value: isinstance(value, bool), "true or false", "true"),
    "memory": (lambda value: _bytes(value) >= _LEAST_MEMORY, "100MB at least, as text", '"4GB"'),
    "seconds": (lambda value: type(value) in (int, float) and value > 0, "a number above 0", "600"),
    "device": (_is_text, "text", '"cpu"'),
    "pass": (_are_texts, "a list of texts", '["MY_DATA"]'),
    "sandbox": (lambda value: value == "bubblewrap", "bubblewrap", '"bubblewrap"'),
    "read": (_are_texts, "a list of texts", '["./data"]'),
    "network": (lambda value: isinstance(value, bool), "true or false", "true"),
}
"""Fields of a table: the values that they take, their name in messages, and an example."""

_NAMES = {"pass": "passed"}  # a word of Python


class _Reading:
    """The reading of one table."""

    def __init__(self, file: Path, name: str, table: Any) -> None:
        self.file, self.name, self.table = file, name, table

    def spec(self) -> Spec:
        name, table = self.name, self.table
        self.check()
        spec = Spec(name, self.file, **{_NAMES.get(word, word): self.made(word, table[word]) for word in table})
        if not (spec.requirements or spec.lock or spec.interpreter):
            self.refuse(
                "",
                f"environments.{name} says neither requirements nor lock nor interpreter",
                'add requirements = ["my-plugin"], or interpreter = "../other/.venv/bin/python"',
            )
        if spec.interpreter is not None and (spec.requirements or spec.lock or spec.python):
            self.refuse(
                "interpreter",
                f"environments.{name} has an interpreter, where nothing is installed, beside requirements, lock or "
                "python",
                "remove one of them",
            )
        if spec.sandbox is None and (spec.read or spec.network):
            self.refuse(
                "read" if spec.read else "network",
                f"environments.{name} opens a sandbox and has none: its plugins can read your files",
                'add sandbox = "bubblewrap", or remove the line',
            )
        return spec

    def check(self) -> None:
        """Raises ``ConfigError`` for a wrong name, an unknown field, and a value that its field does not take."""
        name, table = self.name, self.table
        check_name(name, file=self.file, line=_line_of(self.file, name, ""))
        if not isinstance(table, Mapping):
            self.refuse("", f"environments.{name} is {table!r:.60}; expected a table", f"write [environments.{name}]")
        for word, value in table.items():
            if word not in _FIELDS:
                hint = sentences(did_you_mean(word, _FIELDS), f"the words are {', '.join(_FIELDS)}")
                self.refuse(word, f"environments.{name} says {word!r}, which is not a field there", hint)
            takes, expected, example = _FIELDS[word]
            if not takes(value):
                message = f"environments.{name}.{word} is {value!r:.60}; expected {expected}"
                self.refuse(word, message, f"for example {word} = {example}")

    def refuse(self, word: str, message: str, hint: str) -> NoReturn:
        raise ConfigError(message, hint=hint, file=self.file, line=_line_of(self.file, self.name, word))

    def made(self, word: str, value: Any) -> Any:
        """The value of a field as ``Spec`` has it."""
        if word == "requirements":
            return tuple(self.line(text.strip()) for text in value)
        if word == "read":
            return tuple(self.existing(word, text.strip()) for text in value)
        if word in ("lock", "interpreter"):
            return self.file.parent.absolute() / Path(value).expanduser()
        if word == "memory":
            return _bytes(value)
        return tuple(text.strip() for text in value) if isinstance(value, list) else value

    def line(self, text: str) -> str:
        """A requirement; one that is a path starts at the settings file."""
        if text.startswith("-"):
            self.refuse(
                "requirements",
                f"environments.{self.name}.requirements holds the option {text!r:.60}; expected requirements alone",
                "options of pip are set by its own file or by PIP_ variables",
            )
        is_path = text.startswith((".", "/", "~")) or text.endswith(".whl")
        return str(self.existing("requirements", text)) if is_path else text

    def existing(self, field: str, text: str) -> Path:
        """A path that starts at the settings file."""
        path = (self.file.parent.absolute() / Path(text).expanduser()).resolve()
        if not path.exists():
            message = f"environments.{self.name}.{field} names {text}, which is not there"
            self.refuse(field, message, f"expected {path}")
        return path


def _line_of(file: Path, name: str, word: str) -> int | None:
    """The line of a word in a table, or of the table's heading; None where it is written in another way."""
    heading = None
    for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        line = text.strip()
        if line.startswith("["):
            if heading is not None:
                break
            if line.partition("]")[0].replace('"', "").replace(" ", "") == f"[environments.{name}":
                heading = number
        elif heading is not None and word and line.partition("=")[0].strip() == word:
            return number
    return heading
