"""Old names in run files: what an error says of them, and ``scorefold validate --fix``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scorefold_registry.cli.main import main
from scorefold_registry.runfile.plan import Plan
from scorefold_registry.runfile.reader import RunFileError
from scorefold_registry.runfile.stage_parts import RENAMED, renamed

TABLE = {
    "score:old": "score:older",
    "network:old": "network:new",
    "score:older.width": "size",
    "score:older.training.rate": "learning_rate",
    "estimator:mean.level": "sigma",
}

BEFORE = """\
version: 1   # width: score:old
stages:
  data: {use: data:tiny}
  score:
    use:   "score:old@1"  # score:old stays in comments
    inputs: {data: data, more: [score:old, {use: 'dist-a/score:old'}]}
    config:
      width: 3            # a setting
      network: network:old
      training: {rate: 0.1, width: 2}
      text: made by score:old
  mean: {use: estimator:mean, config: {level: 1, part: &part {use: score:old, config: {width: 4}}, again: *part}}
"""

AFTER = """\
version: 1   # width: score:old
stages:
  data: {use: data:tiny}
  score:
    use:   "score:older@1"  # score:old stays in comments
    inputs: {data: data, more: [score:older, {use: 'dist-a/score:older'}]}
    config:
      size: 3            # a setting
      network: network:new
      training: {learning_rate: 0.1, width: 2}
      text: made by score:old
  mean: {use: estimator:mean, config: {sigma: 1, part: &part {use: score:older, config: {size: 4}}, again: *part}}
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_new_names_stand_in_place_of_old_ones_and_nothing_else_changes(end: str) -> None:
    text, changes = renamed(BEFORE.replace("\n", end), TABLE)
    assert text == AFTER.replace("\n", end)
    lines = [(change.place.line, change.old, change.new) for change in changes]
    assert lines[:2] == [(5, "score:old@1", "score:older@1"), (6, "score:old", "score:older")]
    assert lines[-1] == (12, "width", "size")
    assert renamed(text, TABLE) == (text, [])


@pytest.mark.parametrize(
    "text", ["stages: {a: [", "- a\n", "", "stages: 3\n", "stages: {a: {use: [score:old], config: 3}}"]
)
def test_what_is_no_run_file_is_left_alone_but_for_its_names(text: str) -> None:
    assert renamed(text, TABLE)[0] == text.replace("score:old", "score:older")


def test_a_name_over_two_lines_is_left_alone() -> None:
    text = 'stages: {a: {use: "score:\\\n  old"}}\n'
    assert renamed(text, TABLE) == (text, [])


def test_a_setting_beside_one_of_the_new_name_is_left_alone() -> None:
    text = "stages: {a: {use: score:older, config: {width: 1, size: 2}}}\n"
    assert renamed(text, TABLE) == (text, [])


@pytest.mark.parametrize("before", ["&a ", "&a !!str ", "!!str '", '&a "'])
def test_a_name_after_an_anchor_or_a_tag_is_replaced(before: str) -> None:
    end = before[-1].strip()
    text = f"stages: {{a: {{use: {before}score:old{end}, config: {{{before}width{end}: 1}}}}}}\n"
    new = text.replace("score:old", "score:older").replace("width", "size")
    assert renamed(text, TABLE)[0] == new


def test_a_setting_that_an_alias_gives_to_another_component_is_left_alone() -> None:
    """``width`` is still right of the other component, and its line is one for both."""
    shared = "stages:\n  a: {use: score:older, config: &c {width: 1}}\n  b: {use: score:%s, config: *c}\n"
    assert renamed(shared % "other", TABLE) == (shared % "other", [])
    assert renamed(shared % "older", TABLE)[0] == (shared % "older").replace("width", "size")


def test_validate_fix_rewrites_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(RENAMED, "data:ball", "data:sphere")
    file = tmp_path / "run.yaml"
    old = "\ufeffversion: 1\nstages:\n  data: {use: data:ball@1}  # round\n"
    file.write_text(old)
    assert main(["validate", str(file)]) == 1
    assert f"it is now data:sphere@1; scorefold validate --fix {file}" in capsys.readouterr().err
    assert file.read_text() == old
    assert main(["validate", "--fix", str(file)]) == 0
    assert f"{file}:3: data:ball@1 is now data:sphere@1" in capsys.readouterr().err
    assert file.read_text() == old.replace("ball", "sphere")


def test_an_error_about_an_old_setting_says_the_new_one(
    plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RENAMED, "data:tiny.count", "points")
    with pytest.raises(RunFileError) as caught:
        plan("version: 1\nstages:\n  data: {use: data:tiny, config: {count: 3, number: 4}}\n")
    old, unknown = caught.value.problems
    assert old.message == "unknown field 'count'"
    assert old.hint is not None
    assert old.hint.startswith("it is now points; scorefold validate --fix ")
    assert unknown.hint is None or "it is now" not in unknown.hint


def test_an_old_name_in_a_base_is_to_be_fixed_in_the_base(
    plan: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RENAMED, "data:ball", "data:tiny")
    (tmp_path / "base.yaml").write_text("version: 1\nstages:\n  data: {use: data:ball}\n")
    with pytest.raises(RunFileError) as caught:
        plan("version: 1\nextends: base.yaml\n")
    (problem,) = caught.value.problems
    assert problem.hint == "it is now data:tiny; scorefold validate --fix base.yaml"


def test_new_names_are_no_old_ones() -> None:
    assert not {name for name in RENAMED.values() if ":" in name} & RENAMED.keys()
