"""Documentation that a test can falsify: what it shows runs, and what there is is documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scorefold import hookspecs
from scorefold_registry.cli import COMMANDS
from scorefold_registry.host import Host
from scorefold_registry.plan import make_plan
from scorefold_registry.runfile import read

ROOT = Path(__file__).parent.parent
DOCS = {path.name: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}


@pytest.fixture(scope="module")
def host() -> Host:
    return Host.discover()


def blocks(language: str) -> list[tuple[str, str]]:
    """(document, text) of each fenced block in a language."""
    found = []
    for name, text in DOCS.items():
        found += [(name, block) for block in re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)]
    return found


def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = [block for name, block in blocks("python") if name == "README.md" and "Host.discover" in block]
    exec(compile(code, "README.md", "exec"), {})
    value, interval = capsys.readouterr().out.split(maxsplit=1)
    assert float(value) == 10.0
    assert interval.startswith("(")


def test_every_hook_is_documented_with_its_arguments() -> None:
    for name, function in vars(hookspecs).items():
        if name.startswith("scorefold_"):
            arguments = ", ".join(function.__code__.co_varnames[: function.__code__.co_argcount])
            assert f"`{name}({arguments})`" in DOCS["plugins.md"], name


def test_every_command_is_documented() -> None:
    named = set(re.findall(r"`scorefold ([a-z]+)", DOCS["commands.md"]))
    assert named == set(COMMANDS)


def test_every_component_of_ours_is_documented(host: Host) -> None:
    ours = [item.component.id for item in host.components() if item.distribution.startswith("scorefold-")]
    assert len(ours) > 30
    missing = [name for name in ours if f"`{name}`" not in DOCS["methods.md"]]
    assert not missing


def test_no_component_is_documented_that_does_not_exist(host: Host) -> None:
    ids = {item.component.id for item in host.components()}
    kinds = "|".join(host.catalogue.kinds)
    named = set(re.findall(rf"`((?:{kinds}):[a-z0-9-]+)`", DOCS["methods.md"]))
    assert named <= ids


def test_every_verb_is_documented(host: Host) -> None:
    rows = {row[1]: row[0] for row in re.findall(r"^(\| `([a-z]+)` \|.*)$", DOCS["run-files.md"], re.M)}
    for kind in host.catalogue.kinds.values():
        for verb in kind.verbs:
            assert f"`{verb.name}`" in rows[kind.name]


def test_every_config_field_has_a_description(host: Host) -> None:
    from scorefold_registry.configs import config_model

    bare = [
        f"{item.component.id}.{name}"
        for item in host.components()
        for name, field in config_model(item).model_fields.items()
        if not field.description and name != "name"
    ]
    assert not bare


def test_the_run_files_of_the_documentation_are_valid(host: Host, tmp_path: Path) -> None:
    files = [(name, text) for name, text in blocks("yaml") if "version: 1" in text]
    assert len(files) >= 2
    for name, text in files:
        path = tmp_path / f"{Path(name).stem}.yaml"
        path.write_text(text)
        make_plan(host.catalogue, read(path))


def test_links_point_somewhere() -> None:
    for name, text in DOCS.items():
        base = ROOT if name == "README.md" else ROOT / "docs"
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("http") or (base / target).exists(), f"{name}: {target}"
