"""A rendered plugin passes its own tests as generated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scorefold_templates import kinds, render


@pytest.mark.parametrize("kind", kinds())
def test_a_rendered_plugin_passes_its_own_tests(kind: str, tmp_path: Path) -> None:
    folder = render(kind, "my-ratio", tmp_path / "plugin")
    left = [path for path in folder.rglob("*") if path.is_file() and "{{" in path.read_text()]
    assert not left, "no placeholder is left in any file"
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    outcome = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "5 passed" in outcome.stdout


@pytest.mark.parametrize("name", ["My Plugin", "x_y", "", "-a"])
def test_a_name_that_cannot_be_one_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lower-case words"):
        render("estimator", name, tmp_path / "plugin")


def test_an_unknown_kind_names_those_that_have_a_template(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="estimator"):
        render("sculpture", "x", tmp_path / "plugin")


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError):
        render("estimator", "x", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"
