"""The changes that ``make mutate`` makes: what is changed, what stays, and that each is a program still."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def tool() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tests"))
        files = (runpy.run_path(str(ROOT / "tests" / name)) for name in ("formula_changes.py", "mutate.py"))
        return {name: value for file in files for name, value in file.items()}


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("y = a + b", {"y = a - b", "y = a"}),
        ("y = (a + b) * c", {"y = (a + b) / c", "y = (a + b)", "y = (a - b) * c", "y = (a) * c"}),
        ("y = a ** b", {"y = a * b", "y = a"}),
        ("y += b", {"y -= b"}),
        ("y = a < b", {"y = a <= b", "y = a > b"}),
        ("y = a >= b", {"y = a > b", "y = a < b"}),
        ("y = -a", {"y = a"}),
        ("y = not (a or b)", {"y = (a or b)", "y = not (a and b)"}),
        ("y = x.sum(dim=1)", {"y = x.sum(dim=2)"}),
        ("y = [0.5, 0.0, 1e-6, 3]", {"y = [1.0, 0.0, 1e-6, 3]", "y = [0.5, 1.0, 1e-6, 3]", "y = [0.5, 0.0, 0.001, 3]"}),
        ("y = max(a, b)", {"y = min(a, b)"}),
        ("y = x.argmin()", {"y = x.argmax()"}),
        ("y = x.clamp(min=a)", {"y = x.clamp(max=a)"}),
        ("y = x.std(keepdim=True)", {"y = x.std(keepdim=False)"}),
        ("raise ValueError(a + b)", set()),
        ("report(a + b, c)", set()),
        ("y: Literal[1] = a", set()),
        ("y = 'a' + b", set()),
        ("y = f'{a + b:.2f}'", set()),
    ],
)
def test_changes_of_a_line(tool: dict[str, Any], line: str, becomes: set[str]) -> None:
    found = tool["changes"]("file.py", f"{line}\n".encode())
    assert {change.line for change in found} <= {line}
    assert becomes <= {change.becomes for change in found}
    assert len(found) == len(becomes) or "[0.5" in line


@pytest.mark.parametrize(
    ("head", "changed"),
    [
        ("def plot(x: Tensor) -> Mapping[str, Figure]:", False),
        ("def mark(axes: Axes, x: Tensor) -> None:", False),
        ("def rank(axes: Axes) -> int:", True),
        ("def shift(x: Tensor) -> None:", True),
        ("def shift(x):", True),
    ],
)
def test_a_function_that_plots_is_not_changed(tool: dict[str, Any], head: str, changed: bool) -> None:
    assert bool(tool["changes"]("file.py", f"{head}\n    y = 2 * x\n".encode())) is changed


def test_every_change_of_a_file_is_another_program(tool: dict[str, Any]) -> None:
    file = "core/src/scorefold/diffusion/processes.py"
    source = (ROOT / file).read_bytes()
    found = tool["changes"](file, source)
    assert len(found) > 100
    for change in found:
        end = change.start + len(change.old.encode())
        assert source[change.start : end].decode() == change.old
        changed = source[: change.start] + change.new.encode() + source[end:]
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source)), change.name


def test_a_sample_repeats_and_holds_what_is_asked_for(tool: dict[str, Any]) -> None:
    sampled = tool["sampled"]
    names = [change.name for change in sampled(20, 1, "diffusion/")]
    assert len(set(names)) == 20
    assert all("diffusion/" in name for name in names)
    assert names == [change.name for change in sampled(20, 1, "diffusion/")]
    assert names != [change.name for change in sampled(20, 2, "diffusion/")]


def test_the_table_counts_what_is_explained_apart(tool: dict[str, Any]) -> None:
    changes = tool["changes"]("core/src/a.py", b"y = a < b * c\n")
    rows = [(change, "test_a.py::test") for change in changes[:-2]] + [(change, "") for change in changes[-2:]]
    lines = tool["table"](rows, [None] * (len(rows) - 1) + ["It is no other."]).splitlines()
    assert lines[2] == lines[3].replace("all", "core") == "| core | 4 | 2 | 1 | 1 |"
    assert "- `core/src/a.py:1`: UNNOTICED" in lines
    assert "- `core/src/a.py:1`: It is no other." in lines


def test_a_run_that_was_stopped_goes_on(tool: dict[str, Any], tmp_path: Path) -> None:
    """What was noticed is kept for the same file; what was not is tried again by other tests and at another commit."""
    file = "core/src/scorefold/diffusion/samplers.py"
    one, two, three = tool["changes"](file, (ROOT / file).read_bytes())[:3]
    results = tool["Results"](tmp_path / "results", "a")
    assert results.of([one, two]) == [None, None]
    results.add(one, "test_a.py::test", 0)
    results.add(two, "", 0)
    results.add(three, "", 2)
    assert results.of([one, two, three], 0) == ["test_a.py::test", "", ""]
    assert results.of([one, two, three]) == ["test_a.py::test", None, ""]
    assert tool["Results"](tmp_path / "results", "b").of([one, two, three], 0) == ["test_a.py::test", None, None]
    results.add(two, "test_b.py::test", 1)
    assert results.of([two]) == ["test_b.py::test"]


def test_the_tests_of_a_file_come_in_three_steps(tool: dict[str, Any]) -> None:
    """Tests of its package that name the module or what is in it, all of its package, and tests of others."""
    files = ["plugins/nonuniform/src/scorefold_nonuniform/cost.py"]
    near, own, others = (tool["tests_of"](ROOT, files, step) for step in tool["STEPS"])
    assert "plugins/nonuniform/tests/test_cost.py" in near
    assert "plugins/nonuniform/tests/test_fields.py" not in near
    assert own == ["plugins/nonuniform/tests"]
    assert not [test for test in others if test.startswith("plugins/nonuniform")]
    core = tool["tests_of"](ROOT, ["core/src/scorefold/diffusion/samplers.py"], 2)
    assert "core/tests/test_diffusion_samplers.py" not in core


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_a_status_and_a_limit(tool: dict[str, Any]) -> None:
    def endless() -> int:
        while True:
            pass

    assert tool["forked"](lambda: 7, 10.0) == 7
    assert tool["forked"](endless, 1.0) is None
