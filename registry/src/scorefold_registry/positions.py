"""YAML 1.2 read into plain data with the place of every key and value, and every problem found on the way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from scorefold.errors import ConfigError, ScorefoldError

DataPath = tuple[str | int, ...]
"""Where a value stands in the data: keys and list positions from the top."""


@dataclass(frozen=True)
class Place:
    """A place in a file, from 1; or, where ``option`` is set, in that command-line option."""

    line: int | None
    column: int | None
    option: str | None = None


@dataclass
class Positioned:
    """Data read from a file, with the places of its keys and values by path, and what was wrong with it."""

    file: str
    data: Any
    keys: dict[DataPath, Place] = field(default_factory=dict)
    values: dict[DataPath, Place] = field(default_factory=dict)
    problems: list[ScorefoldError] = field(default_factory=list)

    def place(self, path: DataPath, *, key: bool = False) -> Place:
        """The place of the value at ``path`` (or of its key), or of the nearest parent that is in the file."""
        tables = (self.keys, self.values) if key else (self.values, self.keys)
        for table in tables:
            if path in table:
                return table[path]
        return self.place(path[:-1], key=True) if path else Place(1, 1)

    def error(self, message: str, path: DataPath, *, key: bool = False, hint: str | None = None) -> ConfigError:
        """A ``ConfigError`` at that place."""
        place = self.place(path, key=key)
        if place.option is not None:
            return ConfigError(f"in {place.option}: {message}", hint=hint)
        return ConfigError(message, hint=hint, file=self.file, line=place.line, column=place.column)


def read_text(path: Path) -> str:
    """The text of a file a person named. Raises ``ConfigError`` for one that is missing, a folder or not UTF-8."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError("there is no such file", hint=_similar_files(path), file=path) from None
    except IsADirectoryError:
        inside = sorted(item.name for item in path.iterdir() if item.suffix in (".yaml", ".yml"))
        hint = f"did you mean {path / inside[0]}?" if inside else "name the run file itself"
        raise ConfigError("this is a folder; expected a run file", hint=hint, file=path) from None
    except OSError as error:
        raise ConfigError(f"this can't be read: {error.strerror or error}", file=path) from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        raise ConfigError(
            f"byte 0x{raw[error.start]:02x} is not UTF-8",
            hint="save the file as UTF-8 text",
            file=path,
            line=line,
            column=column,
        ) from None


def _similar_files(path: Path) -> str | None:
    from difflib import get_close_matches

    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either"
    names = [item.name for item in path.parent.iterdir() if item.suffix in (".yaml", ".yml")]
    near = get_close_matches(path.name, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else None


def parse(text: str, file: str) -> Positioned:
    """The text as data. Problems, such as duplicate keys, are collected in the result and never raised."""
    result = Positioned(file, None)
    try:
        node = YAML(typ="rt", pure=True).compose(text)
        if node is not None:
            result.values[()] = _place(node)
            result.data = _construct(node, (), result, ())
    except MarkedYAMLError as error:
        result.problems.append(_broken(error, text, file))
    except YAMLError as error:
        result.problems.append(_unreadable(error, text, file))
    except RecursionError:
        result.problems.append(ConfigError("this YAML is nested too deeply to read", file=file, line=1, column=1))
    return result


def parse_value(text: str) -> Any:
    """One YAML value, as given to ``--set``. Raises ``ConfigError`` for broken YAML."""
    parsed = parse(text, "the value")
    if parsed.problems:
        raise ConfigError(parsed.problems[0].message, hint=parsed.problems[0].hint)
    return parsed.data


def _place(node: Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def _broken(error: MarkedYAMLError, text: str, file: str) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    problem = str(error.problem or error.context or "broken YAML")
    hint = None
    lines = text.splitlines()
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    if "\\t" in problem or "\t" in line:
        problem, hint = "a tab stands where YAML allows only spaces", "indent with spaces"
    elif "another document" in problem:
        problem, hint = "a second YAML document starts here", "a run file holds one document"
    elif error.context and error.context_mark is not None and error.problem:
        where = f"line {error.context_mark.line + 1}, column {error.context_mark.column + 1}"
        problem = f"broken YAML: {problem} ({error.context} from {where})"
    else:
        problem = f"broken YAML: {problem}"
        if "mapping values are not allowed" in problem:
            hint = "quote a value that holds ': ', and give each key its own line or put it in {braces}"
    return ConfigError(
        problem,
        hint=hint,
        file=file,
        line=None if mark is None else mark.line + 1,
        column=None if mark is None else mark.column + 1,
    )


def _unreadable(error: YAMLError, text: str, file: str) -> ConfigError:
    position = int(getattr(error, "position", 0) or 0)
    before = text[:position]
    character = f"U+{ord(text[position]):04X}" if position < len(text) else "this text"
    return ConfigError(
        f"the character {character} is not allowed in YAML",
        file=file,
        line=before.count("\n") + 1,
        column=position - before.rfind("\n"),
    )


def _construct(node: Node, path: DataPath, result: Positioned, above: tuple[int, ...]) -> Any:
    if id(node) in above:
        result.problems.append(result.error("this alias refers to a value that contains it", path))
        return None
    if isinstance(node, MappingNode):
        return _mapping(node, path, result, (*above, id(node)))
    if isinstance(node, SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            result.values[(*path, index)] = _place(item)
            items.append(_construct(item, (*path, index), result, (*above, id(node))))
        return items
    return _scalar(node, path, result)


def _mapping(node: MappingNode, path: DataPath, result: Positioned, above: tuple[int, ...]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        place = _place(key_node)
        if not isinstance(key_node, ScalarNode):
            result.problems.append(_at(result, place, "a key is a list or a mapping; expected a name"))
            continue
        key = str(key_node.value)
        here = (*path, key)
        if key in data:
            first = result.keys[here]
            message = f"{key!r} is given twice; the first is on line {first.line}, column {first.column}"
            result.problems.append(_at(result, place, message, hint="keep one of them"))
            continue
        if key_node.tag is not None and str(key_node.tag).endswith(":merge"):
            result.problems.append(_at(result, place, "YAML 1.2 has no merge key '<<'", hint="write the fields out"))
            continue
        result.keys[here] = place
        result.values[here] = _place(value_node)
        data[key] = _construct(value_node, here, result, above)
    return data


def _at(result: Positioned, place: Place, message: str, hint: str | None = None) -> ConfigError:
    return ConfigError(message, hint=hint, file=result.file, line=place.line, column=place.column)


_BOOLEANS: Mapping[str, bool] = {"true": True, "false": False}


def _scalar(node: Node, path: DataPath, result: Positioned) -> Any:
    """A scalar by YAML 1.2's core schema; dates stay text, since no config field is one."""
    tag, text = str(node.tag).rsplit(":", 1)[-1], str(node.value)
    try:
        if tag == "null":
            return None
        if tag == "bool":
            return _BOOLEANS[text.lower()]
        if tag == "int":
            return _integer(text.replace("_", ""))
        if tag == "float":
            return _float(text.replace("_", "").lower())
    except (ValueError, KeyError):
        result.problems.append(
            result.error(f"{text!r} can't be read as {tag}", path, hint="quote it to keep it as text")
        )
        return None
    if tag not in ("str", "timestamp"):
        result.problems.append(
            result.error(f"the tag {node.tag!s} is not known here", path, hint="run files hold plain YAML without tags")
        )
        return None
    return text


def _integer(text: str) -> int:
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.lstrip("+"))
    # YAML 1.2 reads 017 as seventeen, where Python refuses the leading zero.
    base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2].lower(), 10)
    return sign * int(digits if base == 10 else digits[2:], base)


def _float(text: str) -> float:
    if re.fullmatch(r"[-+]?\.inf", text):
        return float(text.replace(".", ""))
    return float("nan") if text == ".nan" else float(text)
