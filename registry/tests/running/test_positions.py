"""YAML 1.2 with places: values, places from 1, and every fault of form."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from scorefold.errors import ConfigError
from scorefold_registry.runfile.yaml_reader import Place, parse, read_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("17", 17),
        ("-3", -3),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1e-3", 1e-3),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("off", "off"),
        ("'17'", "17"),
        ('"a\\tb"', "a\tb"),
        ("2024-01-01", "2024-01-01"),
        ("[1, [two]]", [1, ["two"]]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("|\n  one\n  two", "one\ntwo\n"),
    ],
)
def test_values_are_read_as_yaml_1_2_reads_them(text: str, value: object) -> None:
    parsed = parse(f"key: {text}\n", "f")
    assert parsed.problems == []
    assert parsed.data == {"key": value}
    assert type(parsed.data["key"]) is type(value)


def test_not_a_number_is_read() -> None:
    assert math.isnan(parse("key: .nan", "f").data["key"])


def test_places_count_lines_and_columns_from_one() -> None:
    parsed = parse("a: 1\nb:\n  - x\n  - {c: 2}\n", "f")
    assert parsed.keys[("b",)] == Place(2, 1)
    assert parsed.values[("a",)] == Place(1, 4)
    assert parsed.values[("b", 0)] == Place(3, 5)
    assert parsed.keys[("b", 1, "c")] == Place(4, 6)
    assert parsed.values[("b", 1, "c")] == Place(4, 9)
    assert parsed.place(("b", 1, "missing")) == Place(4, 5)
    assert parsed.place(("a", "below")) == Place(1, 1)


def test_an_alias_gives_the_value_at_its_anchor() -> None:
    parsed = parse("a: &x {n: 1}\nb: *x\n", "f")
    assert parsed.data == {"a": {"n": 1}, "b": {"n": 1}}


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "'a' is given twice; the first is on line 1, column 1"),
        ("x: {a: 1, a: 2}", 1, 11, "'a' is given twice"),
        ("a:\n\t- b\n", 2, 1, "a tab"),
        ("a: b: c\n", 1, 5, "broken YAML: mapping values are not allowed here"),
        ("a: [1, 2\nb: 3\n", 2, 2, "from line 1, column 4"),
        ("a: 'open\n", 2, 1, "broken YAML"),
        ("a: *nowhere\n", 1, 4, "undefined alias"),
        ("a: &x [*x]\n", 1, 4, "contains it"),
        ("a: 1\n---\nb: 2\n", 2, 1, "a second YAML document"),
        ("a: !!python/object:os.system 1\n", 1, 4, "tag"),
        ("%YAML 1.2\n---\n%YAML 9.9\n---\na: 1\n", 3, 1, "this is YAML 9.9; expected YAML 1.2"),
        ("a: 1\nb: '\x07'\n", 2, 5, "U+0007"),
        ("? [1, 2]\n: 3\n", 1, 3, "a key is a list or a mapping"),
        ("<<: {a: 1}\n", 1, 1, "merge key"),
    ],
)
def test_faults_of_form_are_reported_at_their_place(text: str, line: int, column: int, message: str) -> None:
    problems = parse(text, "file.yaml").problems
    assert len(problems) == 1
    assert (problems[0].file, problems[0].line, problems[0].column) == ("file.yaml", line, column)
    assert message in problems[0].message


def test_several_faults_are_reported_together() -> None:
    assert len(parse("a: 1\na: 2\nb: 3\nb: 4\n", "f").problems) == 2


def test_nesting_without_end_is_a_fault_not_a_crash() -> None:
    assert "deeper than 150 levels" in parse("[" * 600, "f").problems[0].message


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes("\ufeffa: 1\r\nb: ü\r\n".encode())
    parsed = parse(read_text(path), "f")
    assert parsed.data == {"a": 1, "b": "ü"}
    assert parsed.keys[("b",)] == Place(2, 1)


def test_files_that_are_no_text_say_why(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: 1\nname: caf\xe9\n")
    with pytest.raises(ConfigError, match="0xe9 is not UTF-8") as error:
        read_text(latin)
    assert (error.value.line, error.value.column) == (2, 10)
    with pytest.raises(ConfigError, match="no such file") as error:
        read_text(tmp_path / "latn.yaml")
    assert "latin.yaml" in str(error.value.hint)
    with pytest.raises(ConfigError, match="this is a folder") as error:
        read_text(tmp_path)
    assert "latin.yaml" in str(error.value.hint)
    with pytest.raises(ConfigError, match="no such file") as error:
        read_text(tmp_path / "no" / "where.yaml")
    assert "no folder" in str(error.value.hint)
