"""Every error with its message, read from the source without running it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scorefold_site.markdown import code, page, prose, table

ROOT_CLASS = "ScorefoldError"
UNKNOWN = "…"
"""Stands for what is only known when the error is raised, where the source has no name for it."""


@dataclass(frozen=True)
class ErrorClass:
    """A class of errors: the words of its docstring, and the code that programs see."""

    name: str
    base: str
    module: str
    code: str
    meaning: str


@dataclass(frozen=True)
class Message:
    """One error as the source writes it, with names in angle quotes for what is filled in."""

    error: str
    module: str
    text: str
    hint: str = ""


def sources(root: Path) -> dict[str, ast.Module]:
    """The parsed modules of all members, by dotted name. Templates are no code yet and are left out."""
    found = {}
    for folder in sorted(root.glob("*/src")) + sorted(root.glob("plugins/*/src")):
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            if all(part.isidentifier() for part in parts):
                found[".".join(parts).removesuffix(".__init__")] = ast.parse(file.read_text(encoding="utf-8"))
    return found


def error_classes(modules: Mapping[str, ast.Module]) -> dict[str, ErrorClass]:
    """The public classes of errors that Scorefold raises on purpose, the bases first."""
    classes = [(name, node) for name, tree in modules.items() for node in tree.body if isinstance(node, ast.ClassDef)]
    defined = [(name, node) for name, node in classes if not node.name.startswith("_")]
    found: dict[str, ErrorClass] = {}
    grown = True
    while grown:
        grown = False
        for module, node in defined:
            bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
            base = next((name for name in bases if name in found), "")
            if node.name not in found and (base or node.name == ROOT_CLASS):
                own = _code(node) or (found[base].code if base else "")
                found[node.name] = ErrorClass(node.name, base, module, own, _summary(node))
                grown = True
    return found


def _code(node: ast.ClassDef) -> str:
    for item in node.body:
        if isinstance(item, ast.Assign) and isinstance(item.value, ast.Constant) and _targets(item) == ["code"]:
            return str(item.value.value)
    return ""


def _targets(item: ast.Assign) -> list[str]:
    return [target.id for target in item.targets if isinstance(target, ast.Name)]


def _summary(node: ast.ClassDef) -> str:
    return " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())


def problem_codes(modules: Mapping[str, ast.Module]) -> set[str]:
    """The codes of single faults of a run file or a config, wherever the source gives one."""
    found = set()
    for tree in modules.values():
        given = [item.value for call in _calls(tree) for item in call.keywords if item.arg == "code"]
        given += [call.args[3] for call in _calls(tree) if _name(call) == "Problem" and len(call.args) > 3]
        if any(_name(call) == "Problem" for call in _calls(tree)):
            kept = [item for item in ast.walk(tree) if isinstance(item, ast.Assign) and _targets(item) == ["code"]]
            chosen = [item.value for item in kept if isinstance(item.value, ast.IfExp)]
            given += [part for item in chosen for part in (item.body, item.orelse)]
        found |= {item.value for item in given if isinstance(item, ast.Constant) and isinstance(item.value, str)}
    return found


def messages(modules: Mapping[str, ast.Module]) -> list[Message]:
    """Every error that the source makes, in the order of modules and lines, the same one once."""
    classes = error_classes(modules)
    found = [
        message
        for module, tree in modules.items()
        for scope in _scopes(tree)
        for message in _of_scope(module, scope, classes)
    ]
    return list(dict.fromkeys(found))


def _scopes(tree: ast.Module) -> Iterator[ast.AST]:
    """Each function, so that a message kept in a variable is found; functions inside belong to the outer one."""
    for node in tree.body:
        yield from node.body if isinstance(node, ast.ClassDef) else [node]


def _of_scope(module: str, scope: ast.AST, classes: Iterable[str]) -> Iterator[Message]:
    known = {name: node.value for node in ast.walk(scope) if isinstance(node, ast.Assign) for name in _targets(node)}
    for call in _calls(scope):
        error, argument = _made(call, module, classes)
        if argument is None:
            continue
        if isinstance(argument, ast.Name) and argument.id in known:
            argument = known[argument.id]
        text = _text(argument)
        hint = next((_text(item.value) for item in call.keywords if item.arg == "hint"), "")
        if _words(text):
            yield Message(error, module, text, hint if _words(hint) else "")


def _words(text: str) -> str:
    """What a text says beside what is filled in."""
    return re.sub(rf"‹[^›]*›|{UNKNOWN}|\W", "", text)


def _made(call: ast.Call, module: str, classes: Iterable[str]) -> tuple[str, ast.expr | None]:
    """The class of error that a call makes and the argument that is its message; None where it makes none."""
    name = _name(call)
    first = call.args[0] if call.args else None
    if name in classes:
        return name, first
    if name == "_usage_error":
        return "UsageError", first
    if name == "Problem" and len(call.args) > 1 and module.startswith("scorefold_registry."):
        return "ConfigError", call.args[1]
    if name == "error" and isinstance(call.func, ast.Attribute) and module.endswith(".plan"):
        return "RunFileError", first
    if name == "ValueError" and module.rpartition(".")[2].endswith("config"):
        # A validator of settings: pydantic hands its words on, and the host says where.
        return "ConfigError", first
    return "", None


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    found = [item for item in ast.walk(node) if isinstance(item, ast.Call)]
    yield from sorted(found, key=lambda call: (call.lineno, call.col_offset))


def _name(call: ast.Call) -> str:
    if isinstance(call.func, ast.Name):
        return call.func.id
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _text(node: ast.expr) -> str:
    """The words of an expression that makes a string."""
    if isinstance(node, ast.Constant):
        return "" if node.value is None else str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        words = _placeholder(node.value)
        return f"'{words}'" if node.conversion == ord("r") else words
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return _text(node.body) or _text(node.orelse)
    if isinstance(node, ast.BoolOp):
        return _text(node.values[0])
    return _placeholder(node)


def _placeholder(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return f"‹{node.id}›"
    if isinstance(node, ast.Attribute):
        return "‹class›" if node.attr == "__name__" else f"‹{node.attr}›"
    if isinstance(node, ast.IfExp):
        return _text(node.body) or _text(node.orelse) or UNKNOWN
    return UNKNOWN


def message_page(root: Path) -> str:
    """All messages, by the class of error and the module that raises it."""
    modules = sources(root)
    classes, found = error_classes(modules), messages(modules)
    parts = [
        "# Every message",
        f"All {len(found)} errors that the source raises on purpose, by class. What stands in ‹angle quotes› is filled "
        f"in when the error is raised, {UNKNOWN} is what has no name in the source. [Errors](errors.md) says what the "
        "classes mean, with examples.",
    ]
    for name, item in classes.items():
        mine = [message for message in found if message.error == name]
        if mine:
            parts += [f"## {name}", f"{prose(item.meaning)} Code: {code(item.code)}."]
        for module in dict.fromkeys(message.module for message in mine):
            rows = [(prose(message.text), prose(message.hint)) for message in mine if message.module == module]
            shown = [row[: 2 if any(hint for _, hint in rows) else 1] for row in rows]
            parts += [f"In {code(module)}:", table(("message", "hint")[: len(shown[0])], shown)]
    return page(*parts)
