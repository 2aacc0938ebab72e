"""Small wrong changes to formulas: the list of ``mutations.py``, and a sample of all that can be made in our files."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mutations import MUTATIONS

ROOT = Path(__file__).parent.parent
NO_FORMULAS = ("config", "claims", "plugin.py", "server.py", "opening")
"""Folders and files whose numbers are settings, bounds of claims and the like."""

BINARY = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.Pow: "*", ast.FloorDiv: "*"}
COMPARED = {ast.Lt: ("<", "<=", ">"), ast.LtE: ("<=", "<", ">"), ast.Gt: (">", ">=", "<"), ast.GtE: (">=", ">", "<")}
SWAPPED = {"min": "max", "minimum": "maximum", "amin": "amax", "argmin": "argmax", "cummin": "cummax"}
SWAPPED |= {new: old for old, new in SWAPPED.items()}


@dataclass(frozen=True)
class Change:
    """``old`` from the byte ``start`` of ``file`` on becomes ``new``; a test has to run one of ``lines``."""

    file: str
    start: int
    old: str
    new: str
    lines: tuple[int, ...]
    line: str
    """The lines with ``old`` in them."""
    becomes: str
    written: bool = False

    @property
    def name(self) -> str:
        return f"{self.file}:{self.lines[0]}: {self.line} => {self.becomes}"


def change(
    file: str, source: bytes, start: int, end: int, new: str, statement: int = 0, written: bool = False
) -> Change:
    """The change of a part of a file, which belongs to the statement that begins in a line."""
    first, last = source.rfind(b"\n", 0, start) + 1, source.find(b"\n", end)
    number = source.count(b"\n", 0, start) + 1
    lines = dict.fromkeys((*range(number, number + source.count(b"\n", start, end) + 1), statement or number))
    line, becomes = (
        " ".join(text.decode().split())
        for text in (source[first:last], source[first:start] + new.encode() + source[end:last])
    )
    return Change(file, start, source[start:end].decode(), new, tuple(lines), line, becomes, written)


def changes(file: str, source: bytes) -> list[Change]:
    """Every small wrong change of a file, in its order; messages, progress, plots, annotations and decorators stay."""
    tree, rows = ast.parse(source), source.splitlines(keepends=True)
    begins = [sum(map(len, rows[:k])) for k in range(len(rows) + 1)]

    def span(node: ast.expr | ast.keyword) -> tuple[int, int]:
        return begins[node.lineno - 1] + node.col_offset, begins[node.end_lineno - 1] + node.end_col_offset

    found = []

    def visit(node: ast.AST, statement: int) -> None:
        if isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr, ast.arg)) or _reports(node) or _plots(node):
            return
        statement = node.lineno if isinstance(node, ast.stmt) else statement
        for start, end, new in replacements(node, span, source):
            found.append(change(file, source, start, end, new, statement))
        for name, value in ast.iter_fields(node):
            if name not in ("decorator_list", "annotation", "returns"):
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST):
                        visit(child, statement)

    visit(tree, 1)
    return found


def replacements(
    node: ast.AST, span: Callable[[Any], tuple[int, int]], source: bytes
) -> Iterator[tuple[int, int, str]]:
    """From where to where in the source another text is put for one node, and which."""
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY and not (_text(node.left) or _text(node.right)):
        (start, end), left, right = span(node), span(node.left)[1], span(node.right)[0]
        sign = left + len(source[left:right]) - len(source[left:right].lstrip(b" )\n"))
        length = 2 if isinstance(node.op, (ast.Pow, ast.FloorDiv)) else 1
        yield sign, sign + length, BINARY[type(node.op)]
        yield start, end, source[start:sign].decode().rstrip()
    elif isinstance(node, ast.AugAssign) and type(node.op) in BINARY and not _text(node.value):
        left, right = span(node.target)[1], span(node.value)[0]
        yield left, right, f" {BINARY[type(node.op)]}= "
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARED:
        left, right = span(node.left)[1], span(node.comparators[0])[0]
        old, *others = COMPARED[type(node.ops[0])]
        for new in others:
            yield left, right, source[left:right].decode().replace(old, new)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        start, end = span(node)
        sign = 1 if isinstance(node.op, ast.USub) else len("not")
        yield start, end, source[start + sign : end].decode().lstrip()
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        value = node.value
        other = value + 1 if isinstance(value, int) else 1.0 if value == 0 else 2 * value
        yield *span(node), repr(1000 * value if isinstance(value, float) and 0 < value < 1e-3 else other)
    elif isinstance(node, ast.BoolOp):
        left, right = span(node.values[0])[1], span(node.values[1])[0]
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        yield left, right, source[left:right].decode().replace(old, new)
    elif isinstance(node, ast.Name) and node.id in ("min", "max"):
        yield *span(node), SWAPPED[node.id]
    elif isinstance(node, ast.Attribute) and node.attr in SWAPPED:
        end = span(node)[1]
        yield end - len(node.attr), end, SWAPPED[node.attr]
    elif isinstance(node, ast.keyword) and node.arg in SWAPPED:
        start = span(node)[0]
        yield start, start + len(node.arg), SWAPPED[node.arg]
    elif isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, bool):
        yield *span(node.value), str(not node.value.value)


def _reports(node: ast.AST) -> bool:
    """A statement that reports progress."""
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "report"


def _plots(node: ast.AST) -> bool:
    """A function that returns a figure, or plots into given axes."""
    if not isinstance(node, ast.FunctionDef) or node.returns is None:
        return False
    returns, takes = ast.unparse(node.returns), ast.unparse(node.args)
    return "Figure" in returns or (returns == "None" and ": Axes" in takes)


def _text(node: ast.AST) -> bool:
    """An operand that is text, a tuple or a list: these are joined, not added."""
    return isinstance(node, (ast.JoinedStr, ast.Tuple, ast.List)) or (
        isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
    )


def files_with_formulas() -> list[str]:
    """The files of core, toolkit and plugins that hold three products, quotients or powers or more."""
    found = []
    for file in sorted(
        file for base in ("core", "toolkit", "verbs", "plugins") for file in (ROOT / base).rglob("src/**/*.py")
    ):
        signs = (node.op for node in ast.walk(ast.parse(file.read_bytes())) if isinstance(node, ast.BinOp))
        products = sum(isinstance(sign, (ast.Mult, ast.Div, ast.Pow)) for sign in signs)
        if products > 2 and not set(NO_FORMULAS) & set(file.parts):
            found.append(str(file.relative_to(ROOT)))
    return found


@cache
def every_change() -> tuple[Change, ...]:
    """Every change of every file with formulas."""
    return tuple(each for file in files_with_formulas() for each in changes(file, (ROOT / file).read_bytes()))


def sampled(count: int, seed: int, only: str) -> list[Change]:
    """``count`` changes, as many of a file as its share of all gives it, in the order of files."""
    every = [each for each in every_change() if only in each.name]
    return sorted(random.Random(seed).sample(every, min(count, len(every))), key=lambda c: (c.file, c.start, c.new))


def written(only: str) -> list[Change]:
    """The changes of ``mutations.py``."""
    found = []
    for file, old, new in MUTATIONS:
        source = (ROOT / file).read_bytes()
        start = source.index(old.encode())
        found.append(change(file, source, start, start + len(old.encode()), new, written=True))
    return [each for each in found if only in each.name]
