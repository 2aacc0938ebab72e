"""YAML 1.2 read into plain data with the place of every key and value, and every problem found on the way."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.scanner import Scanner

from scorefold.errors import ConfigError, ScorefoldError

LARGEST_FILE = 2**20
"""Bytes of a run file. One that a person writes has a few thousand; reading YAML takes seconds for each of these."""

MOST_VALUES = 20_000
"""Keys and values of a run file, those that aliases repeat counted each time."""

DEEPEST = 150
"""Lists and mappings inside each other, which is some 70 components inside each other."""

LONGEST_KEY = 200
LONGEST_MESSAGE = 600

DataPath = tuple[str | int, ...]
"""Place of a value in the data: keys and list positions from the top."""


@dataclass(frozen=True)
class Place:
    """A place in a file, from 1; or, where ``option`` is set, in that command-line option.

    ``file`` is the file where it is not the one that is read.
    """

    line: int | None
    column: int | None
    option: str | None = None
    file: str | None = None


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
        """A ``ConfigError`` at that place; a message that quotes something long is cut, and repeats no password."""
        place, message = self.place(path, key=key), without_credentials(message)
        if len(message) > LONGEST_MESSAGE:
            message = f"{message[: LONGEST_MESSAGE // 2]} ... {message[-LONGEST_MESSAGE // 2 :]}"
        if place.option is not None:
            return ConfigError(f"in {place.option}: {message}", hint=hint)
        return ConfigError(message, hint=hint, file=place.file or self.file, line=place.line, column=place.column)


def without_credentials(text: str) -> str:
    """Text without the user and the password of any address in it.

    >>> without_credentials("uri is 'https://me:secret@host/place'")
    "uri is 'https://host/place'"
    """
    return re.sub(r"(?<=://)\S*@", "", text)


def read_text(path: Path) -> str:
    """The text of a file a person named.

    Raises ``ConfigError`` for one that is missing, a folder, larger than ``LARGEST_FILE`` or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            # Never more bytes than that, since a device gives bytes without end.
            raw = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise ConfigError("there is no such file", hint=_similar_files(path), file=path) from None
    except IsADirectoryError:
        inside = sorted(item.name for item in path.iterdir() if item.suffix in (".yaml", ".yml"))
        hint = f"did you mean {path / inside[0]}?" if inside else "name the run file itself"
        raise ConfigError("this is a folder; expected a run file", hint=hint, file=path) from None
    except OSError as error:
        raise ConfigError(f"this can't be read: {error.strerror or error}", file=path) from None
    except ValueError:
        raise ConfigError(f"{str(path)!r} can't name a file") from None
    if len(raw) > LARGEST_FILE:
        hint = "is it the run file? long lists of values belong in a data file"
        raise ConfigError(f"this is larger than the {LARGEST_FILE} bytes of a run file", hint=hint, file=path)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig")
        place = _counted(before, len(before))
        raise ConfigError(
            f"byte 0x{raw[error.start]:02x} is not UTF-8",
            hint="save the file as UTF-8 text",
            file=path,
            line=place.line,
            column=place.column,
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
    if (found := _ODD_LINE_END.search(text)) is not None:
        # What looks like the end of a comment's line in an editor may hide the next field, or the other way round.
        what = f"U+{ord(found[0]):04X} ends a line for some programs and not for others"
        result.problems.append(_at(result, _counted(text, found.start()), what, "delete that character"))
        return result
    try:
        reader = YAML(typ="safe", pure=True)
        reader.max_depth, reader.Composer, reader.Scanner = DEEPEST, _BoundedComposer, _BoundedScanner
        node = reader.compose(text)
        if node is not None:
            result.values[()] = _place(node)
            result.data = _Construction(result).value(node, (), ())
    except _TooManyValuesError as error:
        hint = "long lists of values belong in a data file"
        message = f"more than {MOST_VALUES} keys and values stand before this, the repetitions by aliases among them"
        result.problems.append(_at(result, error.place, message, hint))
        result.data = None
    except MaxDepthExceededError as error:
        message = f"this is nested deeper than {DEEPEST} levels"
        result.problems.append(_at(result, _marked(error.problem_mark), message))
    except MarkedYAMLError as error:
        result.problems.append(_broken(error, text, file))
    except KeyError as error:  # of the rules of a version, which the library looks up
        if not isinstance(error.args[0], tuple):
            raise
        version, found = ".".join(map(str, error.args[0])), _VERSION.search(text)
        place = _counted(text, found.start() if found else 0)
        result.problems.append(_at(result, place, f"this is YAML {version}; expected YAML 1.2", "delete this line"))
    except YAMLError as error:
        result.problems.append(_unreadable(error, text, file))
    except RecursionError:
        result.problems.append(ConfigError("this YAML is nested too deeply to read", file=file, line=1, column=1))
    return result


def parse_value(text: str) -> Any:
    """One YAML value, as given to ``--set``; a mark such as a comma alone is text.

    Raises ``ConfigError`` for broken YAML.

    >>> parse_value("[1, 2]"), parse_value(",")
    ([1, 2], ',')
    """
    if text.strip() in _MARKS:
        return text.strip()
    parsed = parse(text, "the value")
    if parsed.problems:
        raise ConfigError(parsed.problems[0].message, hint=parsed.problems[0].hint)
    return parsed.data


_MARKS = tuple(",;:?-|*&!%@'")
"""Marks that separate thousands or stand for gaps in tables. YAML reads them alone as an error or as nothing of use."""

_VERSION = re.compile(r"^%YAML[ \t]+(?!1\.[12][ \t]*$)", re.MULTILINE)
_ODD_LINE_END = re.compile("[\x85\u2028\u2029]")


class _TooManyValuesError(Exception):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.place = place


class _BoundedComposer(Composer):  # type: ignore[misc]
    """ruamel's, which stops at so many nodes, and lets a later anchor take an earlier one's name as YAML does."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.warn_double_anchors = False
        self.count = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.count += 1
        if self.count > MOST_VALUES:
            raise _TooManyValuesError(_marked(self.parser.peek_event().start_mark))
        return super().compose_node(parent, index)


class _BoundedScanner(Scanner):  # type: ignore[misc]
    """ruamel's, which looks a thousand brackets ahead, at a cost that grows with the square of their number."""

    def fetch_flow_collection_start(self, TokenClass: Any, to_push: str) -> None:
        if len(self.flow_context) >= DEEPEST:
            raise MaxDepthExceededError(None, None, None, self.reader.get_mark())
        super().fetch_flow_collection_start(TokenClass, to_push)


def _place(node: Node) -> Place:
    return _marked(node.start_mark)


def _marked(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _broken(error: MarkedYAMLError, text: str, file: str) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    problem = str(error.problem or error.context or "broken YAML")
    hint = None
    lines = text.splitlines()
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    if "\\t" in problem or "\t" in line:
        problem, hint = "a tab is used where YAML allows only spaces", "indent with spaces"
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
    place = _counted(text, position)
    character = f"U+{ord(text[position]):04X}" if position < len(text) else "this text"
    return ConfigError(
        f"the character {character} is not allowed in YAML",
        file=file,
        line=place.line,
        column=place.column,
    )


def _counted(text: str, position: int) -> Place:
    """The place of a position of the text, its lines counted as YAML counts them."""
    lines = re.split("\r\n|\r|\n", text[:position])
    return Place(len(lines), len(lines[-1]) + 1)


@dataclass
class _Construction:
    """Nodes made into plain data. ``count`` is how many have been, since aliases can repeat them without end."""

    result: Positioned
    count: int = 0

    def value(self, node: Node, path: DataPath, above: tuple[int, ...]) -> Any:
        self.count += 1
        if self.count > MOST_VALUES:
            raise _TooManyValuesError(_place(node))
        if id(node) in above:
            self.result.problems.append(self.result.error("this alias refers to a value that contains it", path))
            return None
        if isinstance(node, ScalarNode):
            return _scalar(node, path, self.result)
        if str(node.tag) not in _COLLECTIONS:
            self.result.problems.append(_unknown_tag(node, path, self.result))
        above = (*above, id(node))
        if isinstance(node, MappingNode):
            return self._mapping(node, path, above)
        items = []
        for index, item in enumerate(node.value):
            self.result.values[(*path, index)] = _place(item)
            items.append(self.value(item, (*path, index), above))
        return items

    def _mapping(self, node: MappingNode, path: DataPath, above: tuple[int, ...]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            fault = self._key_fault(key_node, path, data)
            if fault is not None:
                self.result.problems.append(fault)
                continue
            key = str(key_node.value)
            here = (*path, key)
            self.result.keys[here] = _place(key_node)
            self.result.values[here] = _place(value_node)
            data[key] = self.value(value_node, here, above)
        return data

    def _key_fault(self, node: Node, path: DataPath, data: Mapping[str, Any]) -> ConfigError | None:
        result, place = self.result, _place(node)
        if not isinstance(node, ScalarNode):
            return _at(result, place, "a key is a list or a mapping; expected a name")
        key, tag = str(node.value), str(node.tag)
        if tag == f"{_YAML}merge":
            return _at(result, place, "YAML 1.2 has no merge key '<<'", hint="write the fields out")
        if not tag.startswith(_YAML) or tag.removeprefix(_YAML) not in _SCALARS:
            return _unknown_tag(node, (*path, key), result, place)
        if len(key) > LONGEST_KEY:
            return _at(result, place, f"a key of {len(key)} characters; expected a name")
        if (character := _forbidden(key)) is not None:
            return _at(result, place, f"the character {character} can't stand in a key")
        if key in data:
            first = result.keys[(*path, key)]
            message = f"{key!r} is given twice; the first is on line {first.line}, column {first.column}"
            return _at(result, place, message, hint="keep one of them")
        return None


def _unknown_tag(node: Node, path: DataPath, result: Positioned, place: Place | None = None) -> ConfigError:
    tag = str(node.tag)
    tag = tag if len(tag) <= 60 else f"{tag[:57]}..."
    message, hint = f"the tag {tag} is not known here", "run files hold plain YAML without tags"
    return result.error(message, path, hint=hint) if place is None else _at(result, place, message, hint)


def _forbidden(text: str) -> str | None:
    """The first character that no field can hold: NUL, which ends a file's name, or half of a character."""
    return next((f"U+{ord(part):04X}" for part in text if part == "\0" or "\ud800" <= part <= "\udfff"), None)


def _at(result: Positioned, place: Place, message: str, hint: str | None = None) -> ConfigError:
    return ConfigError(message, hint=hint, file=result.file, line=place.line, column=place.column)


_YAML = "tag:yaml.org,2002:"
_SCALARS = ("null", "bool", "int", "float", "str", "timestamp")
_COLLECTIONS = (f"{_YAML}map", f"{_YAML}seq")
_BOOLEANS: Mapping[str, bool] = {"true": True, "false": False}
_LARGEST_INTEGER = 2**63 - 1


def _scalar(node: Node, path: DataPath, result: Positioned) -> Any:
    """A scalar by YAML 1.2's core schema; dates stay text, since no config field is one."""
    tag, text = str(node.tag), str(node.value)
    kind = tag.removeprefix(_YAML)
    if not tag.startswith(_YAML) or kind not in _SCALARS:
        result.problems.append(_unknown_tag(node, path, result))
        return None
    try:
        if kind == "null":
            return None
        if kind == "bool":
            return _BOOLEANS[text.lower()]
        if kind == "int":
            return _integer(text.replace("_", ""))
        if kind == "float":
            return _float(text.replace("_", "").lower())
    except OverflowError:
        hint = "write such a large number with an exponent, such as 1e30, or quote it to keep it as text"
        result.problems.append(result.error(f"{_short(text)} is a whole number beyond 64 bits", path, hint=hint))
        return None
    except (ValueError, KeyError):
        hint = "quote it to keep it as text"
        result.problems.append(result.error(f"{_short(text)} can't be read as {kind}", path, hint=hint))
        return None
    if (character := _forbidden(text)) is not None:
        result.problems.append(result.error(f"the character {character} can't stand in a run file", path))
        return None
    return text


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _integer(text: str) -> int:
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.lstrip("+"))
    # YAML 1.2 reads 017 as seventeen, where Python refuses the leading zero.
    base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2].lower(), 10)
    digits = (digits if base == 10 else digits[2:]).lstrip("0") or "0"
    if len(digits) > 64:
        raise OverflowError
    number = sign * int(digits, base)
    if abs(number) > _LARGEST_INTEGER:
        raise OverflowError
    return number


def _float(text: str) -> float:
    if re.fullmatch(r"[-+]?\.inf", text):
        return float(text.replace(".", ""))
    return float("nan") if text == ".nan" else float(text)


def yaml_text(value: Any) -> str:
    """A value as YAML in block style, keys in their order."""
    if value in ({}, []):
        return ""
    stream = io.StringIO()
    writer: Any = YAML(typ="safe", pure=True)
    writer.default_flow_style = None
    writer.width = 100
    writer.sort_base_mapping_type_on_output = False
    writer.dump(value, stream)
    return stream.getvalue()
