"""``scorefold new``: templates of any distribution, refusals, and updates that lose nobody's work."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import importlib_metadata
import jsonschema
import pytest

from scorefold_registry.cli.main import main

Install = Callable[..., Path]
Ship = Callable[..., None]
Captured = pytest.CaptureFixture[str]

SCHEMA = json.loads(files("scorefold").joinpath("schemas/new.json").read_text())
RECORD = ".scorefold-template.json"

TEMPLATES = """
def kinds():
    return ["toaster", "score"]

def render(kind, name, destination):
    destination.mkdir(exist_ok=True)
    (destination / "made.txt").write_text(f"{kind} {name}")
    if name == "fails":
        raise RuntimeError("no bread")
    if name == "too-hot":
        raise ValueError("this template takes no name that is too hot")
    return destination
"""


@pytest.fixture
def ship(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ship]:
    """``ship("fake-bakery", source)`` installs templates; none but these are installed."""
    site = tmp_path / "site"
    monkeypatch.setattr(
        importlib_metadata,
        "entry_points",
        lambda group: importlib_metadata.EntryPoints(
            entry
            for distribution in importlib_metadata.distributions(path=[str(site)])
            for entry in distribution.entry_points.select(group=group)
        ),
    )
    modules: list[str] = []

    def make(distribution: str, source: str = TEMPLATES) -> None:
        module = distribution.replace("-", "_")
        modules.append(module)
        (site / f"{module}.py").write_text(textwrap.dedent(source))
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[scorefold.templates]\nthem = {module}\n")

    yield make
    for module in modules:
        sys.modules.pop(module, None)


def test_a_template_of_a_third_party(ship: Ship, capsys: Captured) -> None:
    ship("fake-bakery")
    assert main(["new", "my-toast", "--kind", "toaster"]) == 0
    assert Path("scorefold-my-toast/made.txt").read_text() == "toaster my-toast"
    assert capsys.readouterr().out.splitlines() == [
        "scorefold-my-toast is a plugin with toaster:my-toast; next:",
        "  pip install -e scorefold-my-toast",
        "  pytest scorefold-my-toast",
        "  scorefold plugins check toaster:my-toast",
    ]


def test_json_and_out(ship: Ship, capsys: Captured) -> None:
    ship("fake-bakery")
    Path("empty").mkdir()
    assert main(["new", "it", "--kind", "score", "--out", "empty", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, SCHEMA)
    assert found["next"].pop() == "scorefold plugins check score:it"
    assert (found["component"], found["folder"], found["template"]) == ("score:it", "empty", "fake-bakery")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["x", "--kind", "toster"],
            "there is no kind 'toster'\n  did you mean 'toaster'? there are templates for toas",
        ),
        (["x", "--kind", "estimato"], "there is no kind 'estimato'\n  did you mean 'estimator'?"),
        (["x", "--kind", "flow"], "there is no template for kind 'flow' yet\n  there are templates for toaster, score"),
        (["My Toast", "--kind", "toaster"], "a plugin can't be called 'My Toast'"),
        (["My Toast", "--kind", "toaster"], "for example my-toast"),
        (["../x", "--kind", "toaster"], "a plugin can't be called '../x'"),
        (["x", "--kind", "toaster", "--out", "full"], "full is there already and is not empty"),
        (["x", "--kind", "toaster", "--out", "full/file"], "full/file is there already"),
        (["x", "--kind", "toaster", "--from", "fake-bakry"], "no distribution 'fake-bakry' ships templates"),
        (["x", "--kind", "toaster", "--out", "full/file/x"], "full/file/x can't be written"),
        (["x"], "the following arguments are required: --kind"),
        ([], "the following arguments are required: NAME, --kind"),
        (["too-hot", "--kind", "toaster"], "error: this template takes no name that is too hot"),
        (["registry", "--kind", "score"], "is installed, and a plugin of that name would replace it"),
        (["x", "--kind", "toaster", "--dry-run"], "--dry-run goes with --update"),
        (["--update", "full", "--kind", "toaster"], "--update goes without --kind"),
        (["--update", "full"], "full has no .scorefold-template.json"),
        (["--update", "nowhere"], "nowhere has no .scorefold-template.json"),
    ],
)
def test_what_cannot_be_done_is_said(ship: Ship, capsys: Captured, arguments: list[str], message: str) -> None:
    ship("fake-bakery")
    Path("full").mkdir()
    Path("full/file").write_text("keep")
    assert main(["new", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in Path.cwd().rglob("*")] == ["full", "file"]


def test_no_template_is_installed(ship: Ship, capsys: Captured) -> None:
    assert main(["new", "x", "--kind", "estimator"]) == 2
    assert capsys.readouterr().err == (
        "error: no template of a plugin is installed\n  pip install scorefold-templates\n"
    )


def test_a_template_that_fails_leaves_nothing(ship: Ship, capsys: Captured) -> None:
    ship("fake-bakery")
    assert main(["new", "fails", "--kind", "toaster"]) == 2
    assert "the template for kind 'toaster' of fake-bakery failed: RuntimeError: no bread" in capsys.readouterr().err
    assert not list(Path.cwd().iterdir())


def test_templates_that_cannot_be_imported_harm_no_others(ship: Ship, capsys: Captured) -> None:
    ship("fake-bakery")
    ship("fake-broken", "import no_such_module_anywhere")
    assert main(["new", "it", "--kind", "toaster"]) == 0
    assert "note: the templates of fake-broken can't be used: ModuleNotFoundError" in capsys.readouterr().err


def test_two_that_have_a_template_for_a_kind(ship: Ship, capsys: Captured) -> None:
    ship("fake-bakery")
    ship("fake-kitchen")
    assert main(["new", "it", "--kind", "toaster"]) == 2
    assert "fake-bakery and fake-kitchen each have a template" in capsys.readouterr().err
    assert main(["new", "it", "--kind", "toaster", "--from", "Fake_Kitchen", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["template"] == "fake-kitchen"


def test_a_name_that_is_taken_is_noted(
    ship: Ship, install: Install, component: Callable[..., str], capsys: Captured
) -> None:
    ship("fake-bakery")
    install("fake-one", component("score", "good"))
    assert main(["new", "good", "--kind", "score"]) == 0
    assert "note: fake-one has a score:good already" in capsys.readouterr().err
    assert main(["new", "one", "--kind", "score"]) == 0
    assert capsys.readouterr().err == (
        "note: fake-one has a plugin 'one' already; lists of plugins that say only that mean both\n"
    )


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


CHANGING = """
import json
from pathlib import Path

def kinds():
    return ["toaster"]

def render(kind, name, destination):
    for path, text in json.loads(Path(__file__).with_name("written.json").read_text()).items():
        file = destination / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return destination
"""

Write = Callable[..., None]


@pytest.fixture
def template(ship: Ship, tmp_path: Path) -> Write:
    """``template({"a": "text"}, version="2.0")`` sets the files that the one installed template writes from now on."""
    ship("fake-bakery", CHANGING)

    def write(written: Mapping[str, str], version: str = "1.0") -> None:
        (tmp_path / "site/written.json").write_text(json.dumps(written))
        metadata = f"Metadata-Version: 2.1\nName: fake-bakery\nVersion: {version}\n"
        (tmp_path / "site/fake_bakery-1.0.dist-info/METADATA").write_text(metadata)

    return write


def update(capsys: Captured, *options: str) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of an update of the folder ``mine``."""
    status = main(["new", "--update", "mine", "--json", *options])
    return status, json.loads(capsys.readouterr().out)


def contents() -> dict[str, str]:
    """The files of the folder ``mine`` by their paths, its record apart."""
    found = (path for path in Path("mine").rglob("*") if path.is_file() and path.name != RECORD)
    return {path.relative_to("mine").as_posix(): path.read_text() for path in found}


OLD = {
    "same": "1",
    "news": "1",
    "in/yours": "1",
    "both": "1",
    "gone": "1",
    "gone-yours": "1",
    "removed": "1",
    "out": "1",
}
NEW = {
    "same": "1",
    "news": "2",
    "in/yours": "1",
    "both": "2",
    "removed": "2",
    "out": "1",
    "in/fresh": "2",
    "clash": "2",
}
ACTIONS = {
    "both": "merge",
    "clash": "merge",
    "gone": "remove",
    "gone-yours": "orphan",
    "in/fresh": "add",
    "in/yours": "keep",
    "news": "replace",
    "removed": "absent",
}


@pytest.fixture
def edited(template: Write, capsys: Captured) -> dict[str, str]:
    """A plugin that was written, then edited, and whose template has changed since; gives its files."""
    template(OLD)
    assert main(["new", "it", "--kind", "toaster", "--out", "mine"]) == 0
    for path in ("in/yours", "both", "gone-yours", "clash"):
        Path("mine", path).write_text("my work")
    for path in ("removed", "out"):
        Path("mine", path).unlink()
    template(NEW, version="2.0")
    capsys.readouterr()
    return contents()


def test_an_update_loses_no_work(edited: dict[str, str], capsys: Captured) -> None:
    status, found = update(capsys)
    jsonschema.validate(found, SCHEMA)
    assert (status, found["from"], found["to"]) == (1, "1.0", "2.0")
    assert {item["path"]: item["action"] for item in found["files"]} == ACTIONS
    new = {"news": "2", "in/fresh": "2", "both.new": "2", "clash.new": "2"}
    assert contents() == {path: text for path, text in {**edited, **new}.items() if path != "gone"}
    assert [text for text in contents().values() if text == "my work"] == ["my work"] * 4


def test_a_dry_run_says_the_same_and_changes_nothing(edited: dict[str, str], capsys: Captured) -> None:
    record = Path("mine", RECORD).read_bytes()
    status, found = update(capsys, "--dry-run")
    assert (status, found["dry_run"]) == (1, True)
    assert {item["path"]: item["action"] for item in found["files"]} == ACTIONS
    assert contents() == edited
    assert Path("mine", RECORD).read_bytes() == record


def test_an_update_is_reported_as_text(edited: dict[str, str], capsys: Captured) -> None:
    assert main(["new", "--update", "mine", "--dry-run"]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("mine has toaster:it from fake-bakery 2.0, it was written by 1.0\n")
    assert "both -> both.new (changed in the template and by you: yours is left" in printed
    assert printed.endswith("nothing was changed: --dry-run\n")


def test_a_second_update_has_nothing_to_do(edited: dict[str, str], capsys: Captured) -> None:
    update(capsys)
    after = contents()
    status, found = update(capsys)
    assert status == 0
    assert {item["action"] for item in found["files"]} == {"keep"}
    assert (found["from"], contents()) == ("2.0", after)
    assert main(["new", "--update", "mine"]) == 0
    assert capsys.readouterr().out.endswith("nothing is to be done\n")


def test_a_new_version_that_waits_to_be_merged_is_not_written_over(
    edited: dict[str, str], template: Write, capsys: Captured
) -> None:
    update(capsys)
    Path("mine/both.new").write_text("half merged")
    before = contents()
    template({**NEW, "both": "3", "news": "3"}, version="3.0")
    assert main(["new", "--update", "mine"]) == 2
    assert "both.new is there already, from an earlier update\n  merge it into yours" in capsys.readouterr().err
    assert contents() == before
    Path("mine/both.new").unlink()
    assert update(capsys)[0] == 1
    assert (contents()["both.new"], contents()["news"]) == ("3", "3")


def test_an_update_that_stopped_half_way_goes_on(edited: dict[str, str], capsys: Captured) -> None:
    record = Path("mine", RECORD).read_bytes()
    update(capsys)
    after = contents()
    Path("mine", RECORD).write_bytes(record)
    assert update(capsys)[0] == 1
    assert contents() == after


@pytest.mark.parametrize(
    "record",
    [
        "no JSON",
        "[]",
        '{"files": {}}',
        '{"distribution": 1, "version": "1", "kind": "toaster", "name": "it", "files": {}}',
        *(
            json.dumps({"distribution": "fake-bakery", "version": "1", "kind": "toaster", "name": "it", "files": entry})
            for entry in ({"../out": "0" * 64}, {"/etc/passwd": "0" * 64}, {"a": "short"}, {"a": 1}, {"": "0" * 64})
        ),
    ],
)
def test_a_damaged_record_is_refused(edited: dict[str, str], capsys: Captured, record: str) -> None:
    Path("mine", RECORD).write_text(record)
    assert main(["new", "--update", "mine"]) == 2
    error = capsys.readouterr().err
    assert RECORD in error
    assert "restore the file" in error
    assert contents() == edited


def test_a_link_out_of_the_folder_is_not_followed(edited: dict[str, str], capsys: Captured) -> None:
    Path("elsewhere").mkdir()
    Path("elsewhere/fresh").write_text("not yours")
    for path in Path("mine/in").iterdir():
        path.unlink()
    Path("mine/in").rmdir()
    Path("mine/in").symlink_to(Path("elsewhere").resolve())
    assert main(["new", "--update", "mine"]) == 2
    assert "mine/in leads out of mine" in capsys.readouterr().err
    assert Path("elsewhere/fresh").read_text() == "not yours"


def test_a_link_or_a_folder_in_place_of_a_file_counts_as_changed(edited: dict[str, str], capsys: Captured) -> None:
    Path("elsewhere").write_text("1")
    Path("mine/news").unlink()
    Path("mine/news").symlink_to(Path("elsewhere").resolve())
    Path("mine/gone").unlink()
    Path("mine/gone").mkdir()
    _, found = update(capsys)
    actions = {item["path"]: item["action"] for item in found["files"]}
    assert (actions["news"], actions["gone"]) == ("merge", "orphan")
    assert (Path("mine/news").is_symlink(), Path("elsewhere").read_text()) == (True, "1")


def test_what_can_not_be_written_is_said(edited: dict[str, str], template: Write, capsys: Captured) -> None:
    Path("mine/fresh").write_text("a file where the template has a folder")
    template({**NEW, "fresh/file": "2"}, version="2.0")
    assert main(["new", "--update", "mine"]) == 2
    assert "mine/fresh/file can't be written" in capsys.readouterr().err
    assert all(edited[path] == contents()[path] for path in ("both", "clash", "in/yours", "gone-yours"))


def test_a_template_that_is_gone_is_named(edited: dict[str, str], capsys: Captured) -> None:
    record = json.loads(Path("mine", RECORD).read_text())
    Path("mine", RECORD).write_text(json.dumps({**record, "distribution": "fake-brewery"}))
    assert main(["new", "--update", "mine"]) == 2
    assert "no distribution 'fake-brewery' ships templates here" in capsys.readouterr().err
