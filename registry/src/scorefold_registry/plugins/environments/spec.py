"""The tables ``[environments.NAME]`` of ``scorefold.toml``: read and checked, without a process and without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from scorefold.errors import ConfigError
from scorefold_registry.plugins.names import did_you_mean, sentences
from scorefold_registry.plugins.settings import Settings

WORDS = (
    *("requirements", "lock", "interpreter", "python", "torch", "build"),
    *("memory", "seconds", "device", "pass", "sandbox", "read", "network"),
)
"""Fields of a table."""

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
"""The name of an environment."""

_UNITS = {"": 1, "MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?) ?(MB|GB|MiB|GiB)\Z")
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
    def anew(self) -> str:
        """The hint for a plugin that can't be imported in the environment."""
        return f"if files of its environment are gone: {self.install} --fresh"

    @property
    def install(self) -> str:
        """The command that makes the environment, or describes it anew."""
        return f"scorefold plugins install {self.name}"


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


class _Reading:
    """The reading of one table."""

    def __init__(self, file: Path, name: str, table: Any) -> None:
        self.file, self.name, self.table = file, name, table

    def spec(self) -> Spec:
        name, table = self.name, self.table
        if not NAME.match(name):
            self.refuse(
                "",
                f"an environment is called {name!r:.60}; a name is lower-case letters and digits, words joined by '-'",
                "for example [environments.old-sklearn]",
            )
        if not isinstance(table, Mapping):
            self.refuse("", f"environments.{name} is {table!r:.60}; expected a table", f"write [environments.{name}]")
        for word in table:
            if word not in WORDS:
                known = f"the words are {', '.join(WORDS)}"
                self.refuse(word, f"environments.{name} says {word!r}, which is not a field there", known, word)
        torch = self.word("torch", ("host", "own")) or ""
        spec = Spec(
            name,
            self.file,
            tuple(self.line(text) for text in self.texts("requirements")),
            self.path("lock"),
            self.path("interpreter"),
            self.python(),
            torch,
            self.memory(),
            self.seconds(),
            self.text("device"),
            self.flag("build"),
            tuple(self.texts("pass")),
            self.word("sandbox", ("bubblewrap",)),
            tuple(self.existing("read", text) for text in self.texts("read")),
            self.flag("network"),
        )
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

    def refuse(self, word: str, message: str, hint: str, near: str = "") -> NoReturn:
        guess = did_you_mean(near, WORDS) if near else ""
        raise ConfigError(
            message, hint=sentences(guess, hint), file=self.file, line=_line_of(self.file, self.name, word)
        )

    def word(self, field: str, known: tuple[str, ...]) -> str | None:
        value = self.text(field)
        if value is not None and value not in known:
            self.refuse(field, f"{self.field(field)} is {value!r:.60}; expected {' or '.join(known)}", "correct it")
        return value

    def field(self, word: str) -> str:
        return f"environments.{self.name}.{word}"

    def text(self, field: str) -> str | None:
        value = self.table.get(field)
        if value is None or (isinstance(value, str) and value):
            return value
        self.refuse(
            field, f"{self.field(field)} is {value!r:.60}; expected text", f'for example {field} = "{_TEXT[field]}"'
        )

    def texts(self, field: str) -> list[str]:
        value = self.table.get(field, [])
        if isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value):
            return [item.strip() for item in value]
        example = f'for example {field} = ["{_TEXT[field]}"]'
        self.refuse(field, f"{self.field(field)} is {value!r:.60}; expected a list of texts", example)

    def flag(self, field: str) -> bool:
        value = self.table.get(field, False)
        if isinstance(value, bool):
            return value
        self.refuse(field, f"{self.field(field)} is {value!r:.60}; expected true or false", f"{field} = true")

    def path(self, field: str) -> Path | None:
        value = self.text(field)
        return None if value is None else self.file.parent.absolute() / Path(value).expanduser()

    def line(self, text: str) -> str:
        """A requirement; one that is a path starts at the settings file."""
        if text.startswith("-"):
            self.refuse(
                "requirements",
                f"{self.field('requirements')} holds the option {text!r:.60}; expected requirements alone",
                "options of pip are set by its own file or by PIP_ variables",
            )
        is_path = text.startswith((".", "/", "~")) or text.endswith(".whl")
        return str(self.existing("requirements", text)) if is_path else text

    def existing(self, field: str, text: str) -> Path:
        """A path that starts at the settings file."""
        path = (self.file.parent.absolute() / Path(text).expanduser()).resolve()
        if not path.exists():
            self.refuse(field, f"{self.field(field)} names {text}, which is not there", f"expected {path}")
        return path

    def python(self) -> str | None:
        value = self.text("python")
        if value is not None and not re.fullmatch(r"3\.\d+", value):
            self.refuse(
                "python", f"{self.field('python')} is {value!r:.60}; expected a version", 'such as python = "3.12"'
            )
        return value

    def memory(self) -> int | None:
        value = self.text("memory")
        if value is None:
            return None
        match = _MEMORY.match(value)
        size = 0 if match is None else int(float(match[1]) * _UNITS[match[2]])
        if size < _LEAST_MEMORY:
            self.refuse(
                "memory",
                f"{self.field('memory')} is {value!r:.60}; expected 100MB at least",
                'for example memory = "4GB"',
            )
        return size

    def seconds(self) -> float | None:
        value = self.table.get("seconds")
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value > 0):
            return value
        self.refuse("seconds", f"{self.field('seconds')} is {value!r:.60}; expected a number above 0", "seconds = 600")


_TEXT = {
    "requirements": "scikit-learn==1.3.2",
    "lock": "env/locked.txt",
    "interpreter": "../other/.venv/bin/python",
    "python": "3.12",
    "torch": "host",
    "memory": "4GB",
    "device": "cpu",
    "pass": "MY_DATA",
    "sandbox": "bubblewrap",
    "read": "./data",
}


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
