"""The clauses of the kit: every place in its code where a check can fail, and which of them an error came through."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import scorefold_testing as testing

FOLDER = Path(testing.__file__).parent

Clause = tuple[str, int, int]
"""File, line and column of a call of ``require...``, or of the ``raise`` of a violation."""


def clauses() -> dict[Clause, str]:
    """All clauses, with their text."""
    found: dict[Clause, str] = {}
    for file in sorted(FOLDER.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if _is_clause(node):
                assert isinstance(node, (ast.Call, ast.Raise))
                found[file.name, node.lineno, node.col_offset] = ast.unparse(node)
    return found


def _is_clause(node: ast.AST) -> bool:
    call = node.exc if isinstance(node, ast.Raise) else node
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return False
    name = call.func.id
    return name == "ViolationError" if isinstance(node, ast.Raise) else name.startswith(("require", "_require"))


def clauses_of(error: BaseException) -> Iterator[Clause]:
    """The clauses that an error came through."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        line, _, column, _ = list(code.co_positions())[trace.tb_lasti // 2]
        file = Path(code.co_filename)
        if file.parent == FOLDER and line is not None and column is not None:
            yield file.name, line, column
        trace = trace.tb_next
