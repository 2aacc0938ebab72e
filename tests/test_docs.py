"""Documentation that a test can falsify: what it shows runs, and what there is is documented."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from scorefold import hookspecs
from scorefold_registry import run_file
from scorefold_registry.cli.main import COMMANDS
from scorefold_registry.host import Host
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import RunFileError, read
from scorefold_site import sessions
from scorefold_site.links import PAGES

ROOT = Path(__file__).parent.parent
DOCS = {path.name: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}


RUNNING = [name for name, text in DOCS.items() if "```console" in text or "```pycon" in text]


@pytest.mark.parametrize("name", RUNNING)
def test_the_commands_of_a_page_print_what_it_shows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = sessions.differences(DOCS[name], tmp_path)
    assert not found, "\n".join(found)


def test_the_tutorials_and_the_errors_are_among_the_pages_that_are_run() -> None:
    assert set(RUNNING) >= {"tutorial.md", "author-tutorial.md", "errors.md", "scikit-learn.md"}


def test_a_page_that_shows_something_else_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = '```text title="a.txt"\none 1.5\n```\n\n```console\n$ cat a.txt\n{}\n```\n'
    assert sessions.differences(page.format("one 1.52"), tmp_path) == []
    assert sessions.differences(page.format("...1.5"), tmp_path) == []
    for wrong in ("one 1.9", "two 1.5", "one 1.5\nmore", "one"):
        (difference,) = sessions.differences(page.format(wrong), tmp_path)
        assert difference.startswith("$ cat a.txt")
    lines = "```console\n$ printf 'a\\nb\\nc'\na\n...\nc\n```\n"
    assert not sessions.differences(lines, tmp_path)
    assert not sessions.differences(lines.replace("nb", "nc"), tmp_path)
    assert sessions.differences(lines.replace("\n...", ""), tmp_path)
    assert sessions.differences("```pycon\n>>> 1 + 1\n3\n```\n", tmp_path)
    assert not sessions.differences("```pycon\n>>> x = 1\n```\n\n```pycon\n>>> x\n1\n```\n", tmp_path)


def test_each_fault_of_the_errors_page_has_the_code_written_beside_it(host: Host, tmp_path: Path) -> None:
    (text,) = [block.text for block in sessions.blocks(DOCS["errors.md"]) if block.title == "faults.yaml"]
    (tmp_path / "faults.yaml").write_text(text)
    with pytest.raises(RunFileError) as refused:
        make_plan(host.catalogue, read(tmp_path / "faults.yaml"))
    found = {error.line: error.code for error in refused.value.problems}
    beside = [(number, line.partition("}")[2].rpartition("# ")[2]) for number, line in enumerate(text.splitlines(), 1)]
    said = {number: code for number, code in beside if re.fullmatch(r"[a-z-]+", code)}
    assert found == said
    assert len(said) >= 12


def blocks(language: str) -> list[tuple[str, str]]:
    """(document, text) of each fenced block in a language."""
    found = []
    for name, text in DOCS.items():
        found += [(name, block.text) for block in sessions.blocks(text) if block.language == language]
    return found


def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = [block for name, block in blocks("python") if name == "README.md" and "estimate(" in block]
    exec(compile(code.replace('"data:digits"', '"data:digits", progress=False, limit=200'), "README.md", "exec"), {})
    shown = capsys.readouterr().out
    assert re.search(r"^[4-9]\.\d+ \([4-9]\.\d+, \d+\.\d+\)$", shown, re.MULTILINE), shown
    assert "  estimator:\n    use: estimator:mle\n" in shown


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
    from scorefold_registry.components.parts import config_model

    bare = [
        f"{item.component.id}.{name}"
        for item in host.components()
        for name, field in config_model(item).model_fields.items()
        if not field.description and name != "name"
    ]
    assert not bare


def test_the_run_files_of_the_documentation_are_valid(host: Host, tmp_path: Path) -> None:
    files = [(name, text) for name, text in blocks("yaml") if "version: 1" in text and "name: faults" not in text]
    files = [(name, text) for name, text in files if "{load: " not in text]  # which need a run: the next test
    # Their plugins stand on the pages, and the test of sessions runs them.
    files = [(name, text) for name, text in files if Path(name).stem not in ("hook-examples", "own-kind")]
    assert len(files) >= 6
    shutil.copy(ROOT / "examples/digits-dimension.yaml", tmp_path)  # which one of them extends
    for name, text in files:
        path = tmp_path / f"{Path(name).stem}.yaml"
        # The page for authors uses the plugin that it makes.
        path.write_text(text.replace("estimator:my-ratio", "estimator:pca"))
        make_plan(host.catalogue, read(path))


@pytest.mark.parametrize(
    "file", [ROOT / "verbs/README.md", *sorted(ROOT.glob("plugins/*/README.md"))], ids=lambda file: file.parent.name
)
def test_the_run_file_of_a_plugin_is_valid(file: Path, host: Host, tmp_path: Path) -> None:
    texts = [block.text for block in sessions.blocks(file.read_text()) if block.text.startswith("version: 1")]
    for text in texts:
        (tmp_path / "run.yaml").write_text(text)
        make_plan(host.catalogue, read(tmp_path / "run.yaml"))
    assert len(texts) == 1 or file.parent.name in ("dask", "verbs"), "which serve the run files of others"


def test_the_page_of_run_files_loads_from_the_run_it_shows(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = [block for block in sessions.blocks(DOCS["run-files.md"]) if block.language == "yaml"]
    Path("first.yaml").write_text(found[0].text)
    first = run_file(host, "first.yaml")
    (again,) = [block for block in found if block.title == "again.yaml"]
    Path(again.title).write_text(again.text.replace("/RUN/", f"/{first.folder.name}/"))
    second = run_file(host, again.title)
    assert second.value("dimension").value == first.value("dimension").value
    assert second.value("draws").load("test").x.shape == (8, 100)


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.stem
)
def test_links_between_files_hold_without_the_site(page: Path) -> None:
    """Pages that the site makes are linked to by the files that they are made from."""
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_links_have_a_place_on_the_site_too(page: Path) -> None:
    """A link out of ``docs/`` leads to a file that is a page of the site, and a link inside a page to a heading."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)", text):
        place = (page.parent / target).resolve().relative_to(ROOT).as_posix()
        assert place in PAGES or (place.startswith("docs/") and not place.endswith(".py")), target
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
