"""The smaller parts of a run: the executor, values on disk, figures and progress."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from scorefold.artefacts import read_json
from scorefold.data import Dataset, EventScale, TensorSpec
from scorefold.errors import ArtefactError, DataError, PluginError
from scorefold.interfaces import TensorSource
from scorefold.results import Allocation, Estimate, PlanRow
from scorefold_registry.components.values import load_value, save_value
from scorefold_registry.run.executor import LocalExecutor
from scorefold_registry.run.progress import Bars, Lines, Silent, metrics_text, progress_for
from scorefold_registry.run.stage_folder import draw


def test_jobs_come_back_in_order_whoever_did_them(warm_workers: None) -> None:
    serial = LocalExecutor().map("scorefold_tiny.parts:square", range(7), key="squares")
    assert serial == [0, 1, 4, 9, 16, 25, 36]
    executor = LocalExecutor(workers=2, threads=1)
    try:
        answers = executor.map("scorefold_tiny.parts:where", range(6), key="where")
        assert executor.map("scorefold_tiny.parts:square", range(7), key="squares") == serial
    finally:
        executor.close()
    assert [item for item, _, _ in answers] == list(range(6))
    assert os.getpid() not in {process for _, process, _ in answers}
    assert {threads for _, _, threads in answers} == {1}


def test_a_job_that_does_not_exist_is_named() -> None:
    with pytest.raises(PluginError, match="no_such"):
        LocalExecutor().map("scorefold_tiny.parts:no_such", [1], key="x")
    with pytest.raises(PluginError, match="no_module_of_this_name"):
        LocalExecutor().map("no_module_of_this_name:f", [1], key="x")


def test_units_of_each_column_survive_the_disk(tmp_path: Path) -> None:
    scale = EventScale(mean=0.5, shift=(2026.0, -1.0), factor=(1e-3, 7.0), centre=(0.0, 3.0))
    save_value(TensorSource(torch.randn(3, 2), scale), None, tmp_path)
    assert load_value(tmp_path, None).event_scale == scale


def test_data_with_all_their_parts_survive_the_disk(tmp_path: Path) -> None:
    named = {"a": torch.arange(4), "b": torch.randn(4, 1)}
    train = Dataset(torch.randn(4, 2), condition=named, label=torch.arange(4), truth={"dimension": 1})
    test = Dataset(
        torch.randn(3, 2), condition={"a": torch.arange(3), "b": torch.randn(3, 1)}, truth={"angle": torch.randn(3)}
    )
    # Of 9 classes these points have 4: what a source says of its conditions is kept, not read off them.
    spec = {"a": TensorSpec((), classes=9), "b": TensorSpec((1,))}
    source = TensorSource({"train": train, "test": test}, EventScale(low=0.0, shift=1.0, factor=2.0), spec)
    save_value(source, None, tmp_path)
    back = load_value(tmp_path, None)
    assert back.spec() == source.spec()
    for split, known in (("train", train), ("test", test)):
        loaded = back.load(split)
        assert torch.equal(loaded.x, known.x)
        assert set(loaded.truth) == set(known.truth)
    torch.testing.assert_close(back.load("train").condition, train.condition, rtol=0, atol=0)
    torch.testing.assert_close(back.load("train").label, train.label, rtol=0, atol=0)
    torch.testing.assert_close(back.load("test").condition, test.condition, rtol=0, atol=0)
    assert torch.equal(back.load("test").truth["angle"], test.truth["angle"])


def test_a_condition_that_is_one_tensor_survives_the_disk(tmp_path: Path) -> None:
    data = Dataset(torch.randn(4, 2), condition=torch.randn(4, 3))
    save_value(TensorSource({"test": data}), None, tmp_path)
    back = load_value(tmp_path, None)
    assert back.condition_spec == TensorSpec((3,))
    assert torch.equal(back.load("test").condition, data.condition)


def test_a_condition_that_describes_none_is_refused(tmp_path: Path) -> None:
    save_value(TensorSource(torch.zeros(3, 2)), None, tmp_path)
    facts = json.loads((tmp_path / "value.json").read_text())
    facts["condition_spec"] = {"shape": "wide"}
    (tmp_path / "value.json").write_text(json.dumps(facts))
    with pytest.raises(ArtefactError, match="condition_spec describes no conditions"):
        load_value(tmp_path, None)


def test_a_split_that_can_not_be_read_is_no_split_that_is_not_there(tmp_path: Path) -> None:
    class Broken(TensorSource):
        def load(self, split: str) -> Dataset:
            if split == "train":
                raise DataError("the file is damaged")
            return super().load(split)

    with pytest.raises(DataError, match="the file is damaged"):
        save_value(Broken(torch.zeros(3, 2)), None, tmp_path)


def test_answers_survive_the_disk(tmp_path: Path) -> None:
    estimate = Estimate("dimension", 1.5, (1.0, 2.0), 0.9, torch.ones(3), torch.ones(2, 4), {"k": [1]})
    unsure = Estimate("dimension", None, headline="3 to 46; no single dimension", covers="points")
    plan = Allocation("optimal", (PlanRow("easy", 3, 4, 5),), 1, 0.5, (0.4, 0.6), ((PlanRow("hard", 1, 1, 1),),))
    for name, value in {
        "estimate": estimate,
        "unsure": unsure,
        "plan": plan,
        "mapping": {"a": torch.ones(2), "b": 3},
        "none": None,
    }.items():
        (tmp_path / name).mkdir()
        save_value(value, object(), tmp_path / name)
    back = load_value(tmp_path / "estimate", None)
    assert (back.value, back.interval, back.level) == (1.5, (1.0, 2.0), 0.9)
    assert back.diagnostics == {"k": [1]}
    assert torch.equal(back.spectrum, torch.ones(2, 4))
    assert load_value(tmp_path / "unsure", None) == unsure
    assert load_value(tmp_path / "plan", None) == plan
    assert load_value(tmp_path / "mapping", None)["b"] == 3
    assert load_value(tmp_path / "none", None) is None


def test_values_that_can_not_be_kept_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="returned a set"):
        save_value({1, 2}, None, tmp_path)
    (tmp_path / "value.json").write_text('{"type": "pickle"}')
    with pytest.raises(ArtefactError, match="'pickle'"):
        load_value(tmp_path, None)
    save_value(Estimate("dimension", 1.0, (0.0, 2.0)), None, tmp_path)
    facts = json.loads((tmp_path / "value.json").read_text())
    for changed, said in (
        ({"value": None}, "expected a headline, and no interval"),
        ({"value": "nan"}, "value"),
        ({"interval": [0.0, "inf"]}, "interval"),
        ({"interval": [2.0, 0.0]}, "expected its lower end first"),
        ({"level": 95}, "level"),
    ):
        (tmp_path / "value.json").write_text(json.dumps({**facts, **changed}))
        with pytest.raises(ArtefactError, match=said):
            load_value(tmp_path, None)


def test_figures_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    answer = Estimate("dimension", 2.0, (1.0, 3.0), pointwise=torch.arange(9.0), diagnostics={"note": "tiny"})
    for folder in ("one", "two"):
        assert draw("scorefold_tiny.parts:figures", answer, tmp_path / folder) == ["mean"]
    for name in ("mean.svg", "mean.png"):
        assert (tmp_path / "one/figures" / name).read_bytes() == (tmp_path / "two/figures" / name).read_bytes()


def test_a_caption_that_repeats_the_title_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def figures(shown: Any) -> dict[str, Figure]:
        plain, titled, repeated, labelled = Figure(), Figure(), Figure(label="Loss"), Figure(label="More")
        for figure in (titled, repeated, labelled):
            figure.add_subplot().set_title("Loss")
        return {"plain-one": plain, "titled": titled, "repeated": repeated, "labelled": labelled}

    monkeypatch.setattr("scorefold_tiny.parts.figures", figures)
    draw("scorefold_tiny.parts:figures", None, tmp_path)
    written = read_json(tmp_path / "figures" / "figures.json")
    assert {name: (about["title"], about["caption"]) for name, about in written.items()} == {
        "plain-one": ("Plain one", ""),
        "titled": ("Loss", ""),
        "repeated": ("Loss", ""),
        "labelled": ("More", "More"),
    }


def test_a_name_of_a_figure_stays_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorefold_tiny.parts.figures", lambda shown: {"../../k / sigma": Figure()})
    assert draw("scorefold_tiny.parts:figures", None, tmp_path / "stage") == ["k-sigma"]
    assert (tmp_path / "stage/figures/k-sigma.png").exists()


class Terminal(io.StringIO):
    """What a person watches."""

    def isatty(self) -> bool:
        return True


def test_lines_say_loss_and_rate_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr("scorefold_registry.run.progress.peak_memory", lambda: 1234.5)
    stream = io.StringIO()
    lines = Lines(stream)
    lines.stage_started("score", "score:tiny", 1, 2)
    for step in range(0, 50, 10):
        lines.measured("score", step, {"step": step, "loss": 0.25})
        lines.advanced("score", step, 50, "fit")
    lines.waiting("score")
    lines.stage_ended("score", 3.21, False, {"loss": 0.125})
    said = stream.getvalue().splitlines()
    assert said[0] == "[1/2] score: score:tiny"
    assert any(
        re.match(r"  score: \d0/50, [\d.]+ s left, fit, [\d.]+/s, loss 0.25, peak 1,234 MB", line) for line in said
    )
    assert 1 <= sum("/50" in line for line in said) < 5
    assert said[-1] == "  score: 3.2 s (loss 0.125)"


def test_what_is_left_is_that_of_the_part_that_is_being_done(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    stream = io.StringIO()
    lines = Lines(stream)
    lines.stage_started("dimension", "estimator:tiny", 1, 1)
    for done in range(1, 4):
        lines.advanced("dimension", done, 12, "noise levels")
    for done in range(2, 5):
        lines.advanced("dimension", done, 100, "points")
    said = [line.partition(", ")[2] for line in stream.getvalue().splitlines() if "/100" in line]
    assert re.fullmatch(r"points(, peak [\d,]+ MB)?", said[0])  # nothing is known yet of how long they take
    assert all("left, points" in line for line in said[1:])


def test_bars_say_the_same_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("scorefold_registry.run.progress.peak_memory", lambda: 800.0)
    stream = Terminal()
    bars = Bars(stream)
    bars.stage_started("score", "score:tiny", 1, 1)
    bars.waiting("score")
    bars.measured("score", 350, {"loss": 0.25})
    bars.advanced("score", 350, 2000, "loss 0.4012, 40 steps/s")
    bars._bar.refresh()
    bars.stage_ended("score", 3.21, True, {"loss [x]": 0.125})
    bars.close()
    said = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    assert re.search(r"\[1/1\] score .*350/2000, loss 0.4012, 40 steps/s, peak 800 MB *[\r\n]", said)
    assert "score: reused (loss [x] 0.125)" in said


def test_what_is_shown_fits_the_stream() -> None:
    assert type(progress_for(io.StringIO())) is Lines
    assert type(progress_for(Terminal(), quiet=True)) is Silent
    bars = progress_for(Terminal())
    assert type(bars) is Bars
    bars.close()


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        ({}, ""),
        ({"a": 1, "b": 0.123456, "c": "x", "d": True, "e": 5}, "a 1, b 0.1235, c x, d True"),
        ({"k": 1, "k, upper": 2}, "k 1; k, upper 2"),
    ],
)
def test_metrics_are_short(metrics: dict[str, Any], text: str) -> None:
    assert metrics_text(metrics) == text
