"""The documentation site: generated pages leave nothing out, and their run files are valid."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import scorefold_site
from scorefold.plugin import hookimpl
from scorefold_registry import run_file
from scorefold_registry.cli.main import COMMANDS
from scorefold_registry.cli.options import parsers
from scorefold_registry.components.fields import describe_fields
from scorefold_registry.components.parts import config_model
from scorefold_registry.host import Host
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.plugin_settings import settings_model
from scorefold_registry.runfile.reader import read
from scorefold_site import gallery, versions
from scorefold_site.build import first_sentence
from scorefold_site.commands import commands, options
from scorefold_site.components import component_page, linked_components
from scorefold_site.copies import copied_pages
from scorefold_site.docstrings import rst_of
from scorefold_site.errors import error_classes, messages, problem_codes, sources
from scorefold_site.hooks import BANDS, hooks
from scorefold_site.inventory import Inventory, inventory
from scorefold_site.markdown import cell, code, fence, prose, table
from scorefold_site.navigation import BELOW, NAVIGATION, UNSEARCHED
from scorefold_site.notebooks import index_page
from scorefold_site.plugins import plugin_records
from scorefold_site.run_files import example_files
from scorefold_site.schemas import schemas

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def found() -> Inventory:
    return inventory(ROOT)


@pytest.fixture(scope="module")
def site() -> dict[str, str]:
    return {**scorefold_site.pages(ROOT), **copied_pages(ROOT)}


def test_every_component_has_a_page_with_its_fields_ports_and_citation(found: Inventory, site: dict[str, str]) -> None:
    assert len(found.components) > 30
    for item in found.components:
        page = site[f"components/{item.component.kind}/{item.component.name}.md"]
        assert f"({item.component.kind}/{item.component.name}.md)" in site["components/index.md"]
        for field in describe_fields(config_model(item)):
            assert f"| `{field['name']}` | " in page, (item.id, field["name"])
        for port in item.component.requires:
            assert f"| `{port.name}` | " in page
        for word in (*item.component.provides, *item.component.aliases, *item.component.known_failures):
            assert f"`{word}`" in page, (item.id, word)
        assert ("## Citation" in page) == (item.component.cite is not None)
        assert page.index("## In a run file") < page.index("## Settings") < page.index("## Facts")
    guided = site["components/score/scorevae.md"].partition("## ")[0]
    assert (
        "In the guide: [Auto-encoders from a score](../../scorevae.md), "
        "[Working with latent codes](../../latent-codes.md)." in guided
    )


def test_every_run_file_of_the_component_pages_is_valid(found: Inventory, tmp_path: Path) -> None:
    for item in found.components:
        for text in example_files(found, item):
            (tmp_path / "run.yaml").write_text(text)
            plan = make_plan(found.host.catalogue, read(tmp_path / "run.yaml"))
            assert item.id in text
            assert plan.stages, item.id
    (spheres,) = (item for item in found.components if item.id == "estimator:iddiff")
    assert "inputs: {score: score, data: data}" in example_files(found, spheres)[0], "the score is of these data"
    guide = component_page(found, spheres).partition("In the guide: ")[2]
    assert guide.startswith("[Intrinsic dimension from a score]("), "the method's own page stands first"


def test_the_names_on_the_chooser_are_links_to_their_components(found: Inventory, site: dict[str, str]) -> None:
    ids = {item.id for item in found.components}
    text = (ROOT / "docs/choose.md").read_text()
    named = set(re.findall(r"`([a-z-]+:[a-z0-9-]+)`", text))
    assert named <= ids
    assert len(named) > 15
    linked = linked_components(text, ids)
    for name in named:
        page = f"components/{name.replace(':', '/')}.md"
        assert f"[`{name}`]({page})" in linked
        assert page in site
    kept = "# `score:dps`\n\n```yaml\nx: `score:dps`\n```\n\n[`score:dps`](a.md), [by `score:dps`](a.md)\n"
    assert linked_components(kept, ids) == kept
    assert "](../components/score/dps.md)" in linked_components("`score:dps`", ids, "../")


def test_every_topic_of_the_reference_is_listed(site: dict[str, str]) -> None:
    topics = [path for path in site if path.startswith("api/") and path != "api/index.md"]
    assert topics
    assert all(f"]({path.removeprefix('api/')})" in site["api/index.md"] for path in topics)


def test_every_notebook_is_listed_with_what_it_does() -> None:
    page = index_page(ROOT)
    for source in (ROOT / "docs/notebooks").glob("*.md"):
        title = source.read_text().partition("\n")[0].removeprefix("# ")
        assert re.search(rf"^\| \[{re.escape(title)}\]\({source.stem}\.md\) \| \w.{{40,}} \|$", page, re.MULTILINE)


def test_every_page_has_one_place_at_the_side(site: dict[str, str]) -> None:
    beside = [page for group in NAVIGATION.values() for page in group]
    below = [page.removeprefix("../") for pages in BELOW.values() for page in pages]
    places = [*beside, *below]
    written = {page.stem for page in (ROOT / "docs").glob("*.md")} | {page[:-3] for page in site if "/" not in page}
    written |= {page[:-3] for page in site if page.startswith("examples/")}
    assert sorted(page for page in places if not page.endswith("/*")) == sorted(written - {"index"})
    assert set(UNSEARCHED) <= written
    assert {name.removesuffix("/index") for name in BELOW} <= {page.removesuffix("/*") for page in beside}


def test_the_contents_say_what_pages_are(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "---\nnosearch: true\n---\n\n# Title\n\n```{toctree}\na\n```\n\n| a |\n|---|\n\nOne [fact](a.md) `x`. More.\n"
    )
    assert first_sentence(page) == "One fact `x`."
    page.write_text("# Title\n\n```{toctree}\na\n```\n")
    assert first_sentence(page) == ""


def test_no_page_names_a_folder_of_this_machine(site: dict[str, str]) -> None:
    for path, page in site.items():
        assert str(ROOT) not in page, path
        assert sys.prefix not in page, path


def test_every_kind_has_a_page_with_its_verbs_and_their_options(found: Inventory, site: dict[str, str]) -> None:
    for kind in found.kinds:
        page = site[f"kinds/{kind.name}.md"]
        assert f".. autoclass:: {kind.interface.replace(':', '.')}" in page
        for verb in kind.verbs:
            section = page.partition(f"### {verb.name}\n")[2].partition("\n### ")[0]
            assert section, (kind.name, verb.name)
            if kind.comparison:
                assert "\n## Comparison\n" in page
            if verb.options:
                module, _, name = verb.options.partition(":")
                for field in vars(sys.modules[module])[name].model_fields:
                    assert f"| `{field}` | " in section, (kind.name, verb.name, field)


def test_every_plugin_of_ours_is_documented_with_its_settings_and_claims(
    found: Inventory, site: dict[str, str]
) -> None:
    records = plugin_records(found)
    assert {"standard", "iddiff", "tracking"} <= {record.name for record in records}
    for record in records:
        section = site["our-plugins.md"].partition(f"\n## {record.name}\n")[2].partition("\n## ")[0]
        for claim in record.claims:
            assert f"| `{claim.name}` | {claim.role} | " in section
        for field in describe_fields(settings_model(record)) if record.settings else ():
            assert f"| `{field['name']}` | " in section
            assert field["description"], (record.name, field["name"])


def test_every_capability_is_documented(host: Host, site: dict[str, str]) -> None:
    for name in host.catalogue.capabilities:
        assert f"\n## {name}\n" in site["capabilities.md"]


def test_every_option_of_every_command_is_documented(found: Inventory, site: dict[str, str]) -> None:
    made = parsers(commands(found))
    assert {name.partition(" ")[0] for name in made} >= set(COMMANDS)
    assert {"plugins list", "plugins show", "plugins check", "plugins doctor"} <= set(made)
    for name, parser in made.items():
        section = site["command-options.md"].partition(f"## scorefold {name}\n")[2].partition("\n## ")[0]
        for action in options(parser):
            assert action.help, f"scorefold {name}: {action.dest} has no help text"
            assert (action.option_strings or [action.metavar or action.dest])[0].lower() in section.lower()


def test_every_hook_stands_in_the_diagram_once(site: dict[str, str]) -> None:
    drawn = [name for band in BANDS for step in band.steps for name in ([step] if isinstance(step, str) else step)]
    assert sorted(drawn) == sorted(hooks())
    for name in drawn:
        assert f"\n### {name}\n" in site["hooks.md"]


RUN = """version: 1
runtime: {threads: 1}
stages:
  data: {use: data:sphere, config: {dimension: 2, ambient: 4, points: 100}}
  flow: {use: flow:affine-coupling, inputs: {data: data}, config: {layers: 1, training: {steps: 2, log_every: 1}}}
"""


def watcher(calls: list[str], *, answer: Any = None) -> ModuleType:
    """A plugin that notes which hooks are called; ``answer`` is raised where a stage is run."""
    module = ModuleType("watcher")
    module.__plugin_api__ = "1.0"  # type: ignore[attr-defined]

    def noting(name: str) -> Any:
        def hook(run: Any = None) -> Any:
            calls.append(name)
            if name == "scorefold_run_stage" and answer is not None:
                raise answer
            return () if name == "scorefold_report_sections" else None

        def listing() -> Any:
            calls.append(name)
            return "scorefold.config:Config" if name == "scorefold_settings" else ()

        def adding(register: Any) -> None:
            calls.append(name)

        listed = name in (*BANDS[0].steps, *BANDS[-1].steps)
        function = adding if name == "scorefold_commands" else listing if listed else hook
        function.__name__, function.__module__ = name, "watcher"
        return hookimpl(function)

    for name in hooks():
        setattr(module, name, noting(name))
    return module


def test_hooks_are_called_in_the_order_of_the_diagram(tmp_path: Path) -> None:
    calls: list[str] = []
    (tmp_path / "run.yaml").write_text(RUN)
    host = Host.discover(extra_plugins=[watcher(calls)])
    run_file(host, tmp_path / "run.yaml", runs=tmp_path / "kept", cache=tmp_path / "cache")
    listed, began, stage, ended, early, wanted = (band.steps for band in BANDS)
    once = [step for step in stage if step != "scorefold_on_metrics"]
    both = [name if isinstance(name, str) else name[0] for name in once]
    trained = [*both[:2], *["scorefold_on_metrics"] * calls.count("scorefold_on_metrics"), *both[2:]]
    assert calls == [*listed, *began, *both, *trained, *ended]
    assert all(record.claims is not None for record in host.plugins)
    assert calls[-1:] == list(wanted)
    assert "scorefold_on_metrics" in calls
    assert not set(early) & set(calls)


def test_a_failing_stage_is_the_other_way_of_the_fork(tmp_path: Path) -> None:
    calls: list[str] = []
    (tmp_path / "run.yaml").write_text(RUN)
    host = Host.discover(extra_plugins=[watcher(calls, answer=RuntimeError("no"))])
    with pytest.raises(Exception, match="no"):
        run_file(host, tmp_path / "run.yaml", runs=tmp_path / "kept", cache=tmp_path / "cache")
    ends = ["scorefold_before_stage", "scorefold_run_stage", "scorefold_on_stage_error", "scorefold_on_run_error"]
    assert calls[-4:] == ends


@pytest.fixture(scope="module")
def modules() -> Any:
    """The parsed source of every module of ours."""
    return sources(ROOT)


def test_every_error_class_and_every_code_is_documented(modules: Any) -> None:
    text = (ROOT / "docs/errors.md").read_text()
    for name, item in error_classes(modules).items():
        assert f"`{name}`" in text, name
        assert f"`{item.code}`" in text, name
    assert len(problem_codes(modules)) >= 12
    for word in problem_codes(modules):
        assert f"| `{word}` | " in text, word


def test_every_message_is_listed(site: dict[str, str], modules: Any) -> None:
    found = messages(modules)
    assert len(found) > 300
    assert any("is claimed by ‹who›" in message.text for message in found)
    for message in found:
        assert f"| {cell(prose(message.text))} |" in site["messages.md"]
        assert f"In `{message.module}`:" in site["messages.md"]


def test_every_schema_is_shown(site: dict[str, str]) -> None:
    for name, schema in schemas().items():
        section = site["schemas.md"].partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        for field in schema.get("properties", {}):
            assert f"| `{field}` | " in section, (name, field)


def test_markdown_keeps_what_a_docstring_says() -> None:
    assert prose("x (B, *E) and y (B, *E)") == r"x (B, \*E) and y (B, \*E)"
    assert prose("``a * b`` < c") == "``a * b`` &lt; c"
    assert code("a`b") == "`` a`b ``"
    assert fence("```\nx\n```").startswith("````\n")
    assert table(("a",), [("x|y",)]).endswith(r"| x\|y |")
    assert table(("a",), []) == ""
    assert rst_of("One *E, ``a_`` and\n|x|.\n\n>>> 1\n1") == "One \\*E, ``a_`` and \\|x\\|.\n\n>>> 1\n1\n"


def test_the_newest_release_comes_first_and_what_is_unreleased_last(tmp_path: Path) -> None:
    for name in ("dev", "0.9.0", "0.10.0rc1", "0.10.0", "0.10.0rc2", "0.2.0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").touch()
    (tmp_path / "no-site").mkdir()
    assert versions.write(tmp_path) == ["0.10.0", "0.10.0rc2", "0.10.0rc1", "0.9.0", "0.2.0", "dev"]
    assert "url=0.10.0/index.html" in (tmp_path / "index.html").read_text()
    with pytest.raises(SystemExit, match="given none; expected folders such as"):
        versions.write(tmp_path / "no-site")


def test_every_example_has_a_card_of_its_run_as_it_stands(site: dict[str, str]) -> None:
    files = {file.stem: file for file in (ROOT / "examples").glob("*.yaml")}
    examples = {name: file for name, file in files.items() if name not in gallery.NO_CARD}
    made = gallery.cards()
    old = [
        name for name, file in examples.items() if made.get(name, {}).get("fingerprint") != gallery.fingerprint(file)
    ]
    assert not old, f"examples changed since their cards were made: make gallery makes {', '.join(old)} again"
    assert set(made) == set(examples) == set(gallery.FIGURES)
    assert all(card["answer"] for card in made.values())
    assert {picture.stem for picture in gallery.FOLDER.glob("*.png")} == set(examples)
    for name in files:
        shown = f"](figures/gallery/{name}.png)](figures/gallery/{name}.png)"
        assert (shown in site["examples.md"]) == (name in examples)
        assert f"[{name}.yaml](examples/{name}.md)" in site["examples.md"]
        assert files[name].read_text().strip() in site[f"examples/{name}.md"]
    assert all(picture.stat().st_size <= gallery.MOST_BYTES for picture in gallery.FOLDER.glob("*.png"))
