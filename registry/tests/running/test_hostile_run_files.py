"""Run files that were made to do harm, or that hold what no person means: each is refused with a message at its
place."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scorefold.errors import ConfigError, ScorefoldError, printable
from scorefold_registry.host import Host
from scorefold_registry.runfile.plan import Plan, make_plan
from scorefold_registry.runfile.reader import RunFileError, read
from scorefold_registry.runfile.yaml_reader import LARGEST_FILE, parse, read_text

DATA = "version: 1\nstages: {data: {use: data:tiny}}\n"

MakePlan = Callable[..., Plan]


def problems(plan: MakePlan, text: str, sets: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(RunFileError) as caught:
        plan(text, sets)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        (f"{DATA}seed: 0x{'f' * 5000}\n", "3:7", "is a whole number beyond 64 bits"),
        (f"{DATA}seed: {'9' * 5000}\n", "3:7", "is a whole number beyond 64 bits"),
        (f"{DATA}seed: -9223372036854775809\n", "3:7", "is a whole number beyond 64 bits"),
        (f'{DATA}name: "\\uD800"\n', "3:7", "the character U+D800 can't stand in a run file"),
        (f'{DATA}name: "a\\0"\n', "3:7", "the character U+0000 can't stand in a run file"),
        (f'{DATA}"a\\0": 1\n', "3:1", "the character U+0000 can't stand in a key"),
        (f"{DATA}{'k' * 300}: 1\n", "3:1", "a key of 300 characters"),
        (f"{DATA}name: !a:str x\n", "3:7", "the tag !a:str is not known here"),
        (f"{DATA}runtime: !!python/object:os.system {{}}\n", "3:10", "python/object:os.system is not known here"),
        (f"{DATA}name: !!python/object/apply:os.system [ls]\n", "3:7", "os.system is not known here"),
        (f"{DATA}!!python/name:os.system name: x\n", "3:1", "python/name:os.system is not known here"),
        (f"{DATA}runtime: {'[' * 5000}\n", "3:160", "nested deeper than 150 levels"),
        (f"{DATA}# a comment\u2028name: other\n", "3:12", "U+2028 ends a line for some programs"),
        ("version: 1\nstages: {data: {use: 'data:tiny@²'}}\n", "2:22", "is not the name of a component"),
        (
            f"version: 1\nstages: {{data: {{use: 'data:tiny@{'9' * 5000}'}}}}\n",
            "2:22",
            "is not the name of a component",
        ),
    ],
)
def test_one_problem_at_its_place(plan: MakePlan, text: str, place: str, said: str) -> None:
    found = problems(plan, text)
    assert len(found) == 1
    assert found[0].startswith(f"run.yaml:{place}: ")
    assert said in found[0]
    assert len(found[0]) < 1000


def test_aliases_of_aliases_are_not_written_out(plan: MakePlan) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{level}: &a{level} [*a{level - 1}, *a{level - 1}]" for level in range(1, 60))]
    began = time.process_time()
    (found,) = problems(plan, "\n".join(lines))
    assert "more than 20000 keys and values" in found
    assert time.process_time() - began < 2


def test_a_file_of_too_many_values_stops_at_the_first(plan: MakePlan) -> None:
    (found,) = problems(plan, DATA + "runtime: [" + "x, " * 30_000 + "]\n")
    assert found.startswith("run.yaml:3:")
    assert "data file" in found


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(100 * LARGEST_FILE)
    began = time.process_time()
    with pytest.raises(ConfigError, match="larger than the 1048576 bytes of a run file"):
        read(path)
    with pytest.raises(ConfigError, match="larger than"):
        read_text(Path("/dev/zero"))
    assert time.process_time() - began < 1


def test_a_path_that_can_not_be_one() -> None:
    with pytest.raises(ConfigError, match=r"'a\\x00b' can't name a file"):
        read("a\0b")


def test_too_many_stages(plan: MakePlan) -> None:
    stages = "\n".join(f"  s{number}: {{use: nowhere{number}}}" for number in range(600))
    (found,) = problems(plan, f"version: 1\nstages:\n{stages}\n")
    assert "600 stages; a run file holds at most 500" in found


def test_components_fifty_deep_are_read(host: Host, tmp_path: Path) -> None:
    text = "{use: data:digits}"
    for _ in range(50):
        text = f"{{use: data:paired, inputs: {{data: {text}}}}}"
    (tmp_path / "deep.yaml").write_text(f"version: 1\nstages: {{data: {text}}}\n")
    assert make_plan(host.catalogue, read(tmp_path / "deep.yaml")).stages


def test_an_anchor_may_be_used_again() -> None:
    parsed = parse("a: &x 1\nb: &x 2\nc: *x\n", "f")
    assert parsed.problems == []
    assert parsed.data == {"a": 1, "b": 2, "c": 2}


def test_options_are_cut_where_they_are_long(plan: MakePlan) -> None:
    for option in (f"name={'9' * 5000}", f"seed.{'9' * 5000}=1", f"stages.{'x' * 5000}.use=data:tiny"):
        assert all(len(found) < 1000 for found in problems(plan, DATA, (option,)))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a" * 150, "150 characters"),
        ("con", "Windows keeps that name for a device"),
        ("Com1", "Windows keeps that name for a device"),
        ("'../up'", "letters, digits"),
        ("/etc", "letters, digits"),
        ("'a\\b'", "letters, digits"),
        ("<script>", "letters, digits"),
        ("'..'", "letters, digits"),
    ],
)
def test_names_that_can_not_be_folders(plan: MakePlan, name: str, why: str) -> None:
    assert why in problems(plan, f"{DATA}name: {name}\n")[0]
    assert why in problems(plan, f"version: 1\nstages: {{{name}: {{use: data:tiny}}}}\n")[0]


def test_stages_whose_folders_some_systems_take_for_one(plan: MakePlan) -> None:
    (found,) = problems(plan, "version: 1\nstages: {data: {use: data:tiny}, Data: {use: data:tiny}}\n")
    assert "on some systems it has the same folder as 'data'" in found


@pytest.mark.parametrize(
    ("file", "name"),
    [("...yaml", "run"), ("<script>.yaml", "script"), ("a b.yaml", "a-b"), ("nul.yaml", "run-nul"), ("é.yaml", "run")],
)
def test_a_run_without_a_name_is_called_as_its_file_as_far_as_a_folder_can_be(
    tmp_path: Path, file: str, name: str
) -> None:
    (tmp_path / file).write_text(DATA)
    assert read(tmp_path / file).name == name


def test_what_would_steer_a_terminal_is_written_as_an_escape(plan: MakePlan) -> None:
    key = r'"\e[2J\u202Ered\r\nerror: none"'
    text = f"version: 1\nstages: {{data: {{use: data:tiny, config: {{{key}: 1}}}}}}\n{key}: 1\n"
    for found in problems(plan, text, ("a=\x1b[2J", "seed=\x9b1m")):
        assert found == printable(found)
        assert "\nerror" not in found
    assert "\\u001b" in str(ScorefoldError("\x1b[2J"))
