"""What is rendered, for any name: complete, importable under its own names, and clean by the settings it comes with.

That a rendered plugin passes its own tests and the conformance kit stands in tests/test_new.py, which installs it.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from scorefold_templates import LONGEST, kinds, render

NAMES = ["a", "x" * LONGEST, "class", "{}", "{}-model", "{}-source"]
"""The shortest, the longest, a word of Python, and what begins with the kind as classes that the files import do."""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every kind under every name: ``KIND/NAME``."""
    root = tmp_path_factory.mktemp("rendered")
    for kind in kinds():
        for name in (pattern.format(kind) for pattern in NAMES):
            render(kind, name, root / kind / name)
    return root


def test_there_is_a_template_for_every_kind_of_core() -> None:
    from scorefold.plugin import CORE_KINDS

    assert kinds() == sorted([*(kind.name for kind in CORE_KINDS), "metric", "verb"])


@pytest.mark.parametrize("kind", kinds())
def test_a_plugin_is_complete(kind: str, tmp_path: Path) -> None:
    folder = render(kind, "my-own", tmp_path / "plugin")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    package = {"__init__.py", "plugin.py", "config.py", f"{kind}.py", "citation.bib", "py.typed"}
    tests = {"tests/test_conformance.py", "tests/test_my_own.py"}
    top = {".gitignore", "README.md", "pyproject.toml", "run.yaml"}
    assert found == {f"src/scorefold_my_own/{name}" for name in package} | tests | top
    for path in sorted(found):
        text = (folder / path).read_text()
        assert "{{" not in text, path
        assert "{%" not in text, path
        assert text == "" or (text.endswith("\n") and not text.endswith("\n\n")), path


def test_the_readme_of_an_isolated_plugin_says_how_it_is_installed(tmp_path: Path) -> None:
    folders = [render("estimator", "my-own", tmp_path / str(one), isolated=one) for one in (False, True)]
    texts = [(folder / "README.md").read_text() for folder in folders]
    assert ["    scorefold plugins install my-own\n" in text for text in texts] == [False, True]
    assert ["In the environment where Scorefold is installed" in text for text in texts] == [True, False]
    assert not any("\n\n\n" in text for text in texts)


def test_classes_have_names_of_their_own(rendered: Path) -> None:
    """A class hides neither a word of Python nor anything that its own files import."""
    for file in rendered.rglob("src/*/*.py"):
        tree = ast.parse(file.read_text())
        imported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        assert not defined & (imported | set(keyword.kwlist) | set(dir(builtins))), file


def test_the_distribution_names_what_is_there(rendered: Path) -> None:
    for file in rendered.rglob("pyproject.toml"):
        project = tomllib.loads(file.read_text())["project"]
        name = file.parent.name
        assert project["name"] == f"scorefold-{name}"
        (module,) = project["entry-points"]["scorefold.plugins"].values()
        assert (file.parent / "src" / f"{module.replace('.', '/')}.py").is_file()


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["check", "format"])
def test_ruff_is_content_with_any_name(rendered: Path, command: list[str]) -> None:
    run = [sys.executable, "-m", "ruff", *command, "--no-cache", str(rendered)]
    outcome = subprocess.run(run, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@pytest.mark.parametrize("name", ["My Plugin", "x_y", "", "-a", "x" * (LONGEST + 1), "../x", "a\n"])
def test_a_name_that_cannot_be_one_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lower-case words"):
        render("estimator", name, tmp_path / "plugin")
    assert not (tmp_path / "plugin").exists()


def test_a_plugin_is_not_called_as_the_test_that_it_has(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'conformance', and so is the test"):
        render("estimator", "conformance", tmp_path / "plugin")
    assert not (tmp_path / "plugin").exists()


@pytest.mark.parametrize("name", ["true", "false", "null", "on", "my-own"])
def test_a_run_is_called_by_a_text_whatever_the_name_means_in_yaml(name: str, tmp_path: Path) -> None:
    text = (render("estimator", name, tmp_path / "plugin") / "run.yaml").read_text()
    assert YAML(typ="safe", pure=True).load(text)["name"] == name


def test_an_unknown_kind_names_those_that_have_a_template(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="estimator"):
        render("sculpture", "x", tmp_path / "plugin")


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError):
        render("estimator", "x", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"
