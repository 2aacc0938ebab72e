"""``scorefold new``: templates of any distribution, refusals, and updates that lose nobody's work."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import importlib_metadata
import jsonschema
import pytest

from scorefold_registry.cli.main import main

Install = Callable[..., Path]
Ship = Callable[..., None]
Captured = pytest.CaptureFixture[str]

SCHEMA = json.loads(files("scorefold").joinpath("schemas/new.json").read_text())

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


def test_a_plugin_for_an_environment_of_its_own(ship: Ship, capsys: Captured) -> None:
    source = TEMPLATES.replace("destination):", "destination, *, isolated=False):").replace("{name}", "{isolated}")
    ship("fake-bakery", source)
    Path("scorefold.toml").write_text('[prefer]\n"score:other" = "them"\n')
    assert main(["new", "my-own", "--kind", "score", "--isolated"]) == 0
    assert Path("scorefold-my-own/made.txt").read_text() == "score True"
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "scorefold-my-own is a plugin with score:my-own; next:",
        "  scorefold plugins install my-own",
        "  scorefold run scorefold-my-own/run.yaml",
    ]
    assert "scorefold.toml has the table [environments.my-own]" in said.err
    text = Path("scorefold.toml").read_text()
    table = '[environments.my-own]\nrequirements = ["./scorefold-my-own"]\n'
    assert text == f'[prefer]\n"score:other" = "them"\n\n{table}'
    assert main(["new", "my-own", "--kind", "score", "--out", "other", "--isolated"]) == 2
    assert "has an environment 'my-own' already" in capsys.readouterr().err
    assert not Path("other").exists()
    assert Path("scorefold.toml").read_text() == text


def test_a_template_that_knows_no_environments_writes_no_table(ship: Ship, capsys: Captured) -> None:
    ship("fake-bakery")
    assert main(["new", "my-own", "--kind", "score", "--isolated"]) == 2
    assert "the template for kind 'score' of fake-bakery failed" in capsys.readouterr().err
    assert not Path("scorefold-my-own").exists()
    assert not Path("scorefold.toml").exists()


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
