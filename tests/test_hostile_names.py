"""Names that try to leave a folder, to be markup or to steer a terminal: refused with a message, or escaped."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from scorefold.artefacts import read_json, write_json
from scorefold.data import Dataset
from scorefold.errors import ConfigError, DataError, PluginError, ScorefoldError
from scorefold.interfaces import TensorSource
from scorefold.plugin import Claim, Component, Kind, Port, Verb
from scorefold.stage import Outcome
from scorefold_registry.cli.main import main
from scorefold_registry.components.paths import LONGEST_NAME, file_name, name_fault
from scorefold_registry.components.values import load_value, save_value
from scorefold_registry.host import Host
from scorefold_registry.plugins.records import PluginRecord
from scorefold_registry.run.output import write_output
from scorefold_registry.run.pipeline import run_file
from scorefold_registry.run.report import write_report
from scorefold_registry.run.stage_folder import draw
from scorefold_registry.run.verdicts import answers
from scorefold_registry.runfile.reader import read

pytestmark = pytest.mark.usefixtures("one_host")

NAMES = {
    "up": "../../up",
    "absolute": "/etc/passwd",
    "dots": "..",
    "backslash": "..\\up",
    "drive": "C:\\x",
    "nul": "a\x00b",
    "script": "<script>alert(1)</script>",
    "attribute": '" onmouseover="alert(1)',
    "apostrophe": "' onload='alert(1)",
    "entity": "&lt;b&gt;",
    "closing": "</pre></section><iframe src=x>",
    "template": "{{ 7 * 7 }}{% raw %}",
    "terminal": "\x1b[2J\x1b]0;title\x07",
    "csi": "\x9b31m",
    "carriage": "fine\rerror",
    "lines": "a\nb",
    "bidi": "\u202egnp.exe",
    "device": "con",
    "device with ending": "LPT1.txt",
    "long": "x" * 300,
    "formula": "=HYPERLINK(1)",
    "comma": 'a,"b"',
    "empty": "",
    "markup": "[bold red]x[/]",
}

each_name = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)


def steers(text: str) -> bool:
    """Whether text holds what moves a cursor or turns a line around."""
    return any(unicodedata.category(part) in ("Cc", "Cs") and part not in "\n\t" for part in text) or "\u202e" in text


class Page(HTMLParser):
    """The elements and attributes of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def run(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    stages = "{data: {use: data:sphere, config: {points: 200}}, k: {use: estimator:twonn, inputs: {data: data}}}"
    (folder / "run.yaml").write_text(f"version: 1\nname: names\nstages: {stages}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scorefold_registry.run.stage_folder.draw", lambda target, shown, into: [])
        return run_file(host, folder / "run.yaml", runs=folder / "runs", cache=folder / "cache").folder


def changed(path: Path, **facts: Any) -> None:
    write_json(path, {**read_json(path), **facts})


@pytest.fixture(scope="module")
def plain(run: Path) -> Page:
    """The report of the run where an observer failed and a stage reported more than metrics."""
    changed(run / "k" / "result.json", detail={"a": "b"})
    write_report(run, [], ["plain"])
    return Page((run / "report.html").read_text())


@pytest.fixture
def put_back(run: Path) -> Iterator[None]:
    """The files of the run, as they were."""
    files = {path: path.read_bytes() for path in run.rglob("*.json")}
    yield
    for path, raw in files.items():
        path.write_bytes(raw)


@each_name
@pytest.mark.usefixtures("put_back")
def test_a_report_shows_names_as_text(run: Path, plain: Page, name: str) -> None:
    changed(run / "k" / "value.json", quantity=name, diagnostics={"note": name})
    changed(run / "k" / "result.json", metrics={name: 1.0}, detail={name: name})
    changed(run / "k" / "stage.json", summary=name, distribution=name, version=name, component=f"estimator:{name}")
    status = read_json(run / "status.json")
    status["stages"][1] |= {"component": name, "metrics": {name: 1.0, "truth": 2.0}}
    write_json(run / "status.json", {**status, "name": name, "command": name})
    (run / "run.yaml").write_text(f"# {name}\n")
    write_report(run, [], [name])
    html = (run / "report.html").read_text()
    page = Page(html)
    # Names change how many rows a table has, and what is a long value, but not what elements there are.
    assert set(page.elements) <= set(plain.elements)
    assert page.attributes <= plain.attributes
    assert page.elements.count("section") == plain.elements.count("section")
    assert not steers(html)
    if "{{" in name:
        assert name in page.text
    for answer in answers(run, status["stages"]):
        assert not steers(answer.sentence())


@each_name
def test_a_run_file_refuses_names_that_are_not_folders(host: Host, tmp_path: Path, name: str) -> None:
    """Of runs and stages; components, verbs, ports and plugins that there are not."""
    path = tmp_path / "run.yaml"
    stage = {"use": "data:sphere", "config": {}}
    files: list[dict[str, Any]] = [
        {"version": 1, "name": name, "stages": {"data": stage}},
        {"version": 1, "stages": {name: stage}},
        {"version": 1, "stages": {"data": {"use": f"data:{name}"}}},
        {"version": 1, "stages": {"data": {**stage, "do": name or "x"}}},
        {"version": 1, "stages": {"data": {**stage, "inputs": {name: "data"}}}},
        {"version": 1, "stages": {"data": {**stage, "config": {name: 1}}}},
        {"version": 1, "stages": {"data": stage}, "plugins": {name: {}}},
        {"version": 1, "stages": {"data": stage}, name: 1},
    ]
    for file in files:
        path.write_text(json.dumps(file))
        status = main(["validate", str(path)])
        assert status == 1, file


@each_name
def test_what_the_terminal_is_sent_does_not_steer_it(
    host: Host, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps({"version": 1, "name": name, name: name, "stages": {name: {"use": name, name: [name]}}}))
    for more in ([], ["--json"], ["--set", f"{name}={name}"], ["--set", f"stages.{name}.use={name}"]):
        main(["validate", str(path), *more])
        said = capsys.readouterr()
        assert not steers(said.out + said.err)
    missing = str(tmp_path / name.replace("\x00", ""))
    for command in (
        ["validate", missing],
        ["apply", missing, "--out", f"{missing}.json"],
        ["plugins", "show", name],
        [name],
    ):
        main(command)
        said = capsys.readouterr()
        assert not steers(said.out + said.err)
        assert "Traceback" not in said.err


def test_runs_are_listed_without_steering_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES.values():
        if name and "/" not in name and "\x00" not in name and len(name) < 200 and name != "..":
            (tmp_path / name / "one").mkdir(parents=True)
            (tmp_path / name / "one" / "status.json").write_text("{}")
    assert main(["runs", "list", "--runs", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert not steers(said)
    assert "<script>" not in said
    assert said.count("interrupted") > 10


@pytest.mark.parametrize("name", [name for what, name in NAMES.items() if what != "device"])
def test_what_plugins_declare_is_refused(name: str) -> None:
    """Component names, aliases, kinds, verbs, claims and ports: the words of run files, folders and arguments."""
    target, config = "a.b:C", "a.b:D"
    for declare in (
        lambda: Component("score", name, target, config, "x"),
        lambda: Component("score", "x", target, config, "x", aliases=(name,)),
        lambda: Kind(name, target),
        lambda: Verb(name, (), "data", target),
        lambda: Claim(name, "x", "x", target),
        lambda: Port(name, "data"),
        lambda: Component("score", "x", name, config, "x"),
    ):
        if name == NAMES["long"] and declare.__code__.co_names[:1] == ("Port",):
            continue
        with pytest.raises(PluginError) as caught:
            declare()
        assert not steers(str(caught.value))
        assert len(caught.value.message) < 1000


@each_name
def test_what_metadata_call_a_plugin_does_not_steer_the_terminal(name: str) -> None:
    record = PluginRecord(name, name, name, name)
    record.fail("broken", name)
    assert not steers(json.dumps(record.as_json(), ensure_ascii=False))
    assert not steers(f"{record.label} {record.cause}")


def figures(shown: Any) -> dict[str, Figure]:
    return {name: Figure(figsize=(1, 1)) for name in shown}


def test_figures_stay_in_their_folder_and_apart(tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    stems = draw(f"{__name__}:figures", [*NAMES.values(), "a/b", "a-b", "a b"], folder)
    assert len(set(stems)) == len(NAMES) + 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage"]
    found = {path.stem for path in (folder / "figures").glob("*.svg")}
    assert found == set(stems)
    assert all(name_fault(stem) is None for stem in found)


@each_name
def test_a_file_is_called_after_anything(name: str) -> None:
    found = file_name(name)
    assert name_fault(found) is None
    assert len(found) <= LONGEST_NAME + len("figure-")
    assert set(found) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert file_name(found) == found


@each_name
def test_results_keep_their_names_and_their_place(tmp_path: Path, name: str) -> None:
    outcome = Outcome(None, {"metrics": {name: 1.0}}, {name: torch.ones(3), "file": torch.zeros(3)})
    for ending in (".csv", ".npz", ".json", ".npy"):
        write_output(outcome, tmp_path / f"out{ending}")
    assert len(list(tmp_path.iterdir())) == 4
    raw = (tmp_path / "out.csv").read_text()
    assert not steers(raw)
    assert not raw.startswith(("=", "+", "-", "@"))
    header, *rows = csv.reader(raw.splitlines())
    assert len(header) == 2
    assert len(rows) == 3
    assert all(".." not in member and "/" not in member for member in np.load(tmp_path / "out.npz").files)
    text = (tmp_path / "out.json").read_text()
    assert not steers(text)
    assert json.loads(text)["metrics"] == {name: 1.0}


@each_name
def test_conditions_and_truths_are_called_anything(tmp_path: Path, name: str) -> None:
    data = Dataset(torch.zeros(2, 3), condition={name: torch.ones(2, 1)}, truth={name: 1, f"{name}/t": torch.ones(2)})
    save_value(TensorSource({"test": data}), None, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["value.json", "value.safetensors"]
    loaded = load_value(tmp_path, None).load("test")
    assert set(loaded.condition) == {name}
    assert set(loaded.truth) == {name, f"{name}/t"}


@each_name
def test_data_files_are_called_anything(host: Host, tmp_path: Path, name: str) -> None:
    for component, field in (("data:array", "path"), ("data:images", "root"), ("data:mnist", "root")):
        with pytest.raises((DataError, ConfigError, PluginError)) as caught:
            host.create(component, {field: str(tmp_path / "no") + name})
        assert not steers(str(caught.value))


def test_columns_of_a_table_are_called_anything(host: Host, tmp_path: Path) -> None:
    names = [name for name in NAMES.values() if not {"\n", "\r", "\x00"} & set(name) and name]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([names, *[[str(number) for number in range(len(names))]] * 20])
    with pytest.raises(ScorefoldError) as caught:
        host.create("data:array", {"path": str(tmp_path / "t.csv"), "columns": ["nothing"]})
    assert not steers(str(caught.value))


def test_a_file_of_any_name_gives_a_run_its_folder(tmp_path: Path) -> None:
    for name in NAMES.values():
        if not name or "/" in name or "\x00" in name or len(name) > 200:
            continue
        path = tmp_path / f"{name}.yaml"
        path.write_text("version: 1\nstages: {data: {use: data:sphere}}\n")
        assert name_fault(read(path).name) is None
