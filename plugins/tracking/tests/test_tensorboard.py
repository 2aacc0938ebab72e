"""Event files, read back as TensorBoard reads them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from scorefold.errors import ScorefoldError
from scorefold_registry import Host
from scorefold_registry.run.pipeline import run_file


def events(folder: Path) -> EventAccumulator:
    """Everything in a folder of event files; nothing is sampled away."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def text(accumulator: EventAccumulator, tag: str) -> str:
    (event,) = accumulator.Tensors(tag)
    (content,) = event.tensor_proto.string_val
    return str(content.decode())


def test_a_run_in_event_files(run: Any, reported: Any) -> None:
    result = run({"tensorboard": {}})
    assert result.failures == ()
    found = events(result.folder / "tensorboard")
    curve = [(event.step, event.value) for event in found.Scalars("score/loss")]
    assert [step for step, _ in curve] == [10, 20, 30, 40]
    assert curve == [(step, pytest.approx(value, rel=1e-6)) for step, value in reported(result, "score", "loss")]
    assert [event.step for event in found.Scalars("score/validation")] == [20, 40]
    for stage in result.stages:
        for name, value in stage.metrics.items():
            (event,) = found.Scalars(f"final/{stage.name}/{name}")
            assert event.value == pytest.approx(value, rel=1e-6)
    (event,) = found.Scalars("final/dimension/intrinsic dimension")
    assert event.step == 0
    assert "score:denoising@" in text(found, "config/text_summary")


def test_figures_are_those_of_the_stage(run: Any) -> None:
    result = run({"tensorboard": {}})
    found = events(result.folder / "tensorboard")
    drawn = {f"{path.parent.parent.name}/{path.stem}" for path in result.folder.glob("*/figures/*.png")}
    assert drawn
    assert set(found.Tags()["images"]) == drawn
    for tag in drawn:
        stage, name = tag.split("/")
        (event,) = found.Images(tag)
        with (
            Image.open(result.folder / stage / "figures" / f"{name}.png") as file,
            Image.open(io.BytesIO(event.encoded_image_string)) as shown,
        ):
            assert shown.tobytes() == file.convert("RGB").tobytes()


def test_figures_may_be_left_out(run: Any) -> None:
    result = run({"tensorboard": {"figures": False}})
    assert events(result.folder / "tensorboard").Tags()["images"] == []


def test_hyperparameters_stand_beside_the_final_metrics(run: Any) -> None:
    result = run({"tensorboard": {}})
    plugin = events(result.folder / "tensorboard").summary_metadata
    start = plugin_data_pb2.HParamsPluginData.FromString(
        plugin["_hparams_/session_start_info"].plugin_data.content
    ).session_start_info
    assert start.hparams["stages.score.config.training.steps"].number_value == 40
    assert start.hparams["seed"].number_value == 3
    experiment = plugin_data_pb2.HParamsPluginData.FromString(
        plugin["_hparams_/experiment"].plugin_data.content
    ).experiment
    assert "final/dimension/intrinsic dimension" in {info.name.tag for info in experiment.metric_infos}


def test_reused_stages_report_their_final_metrics_again(run: Any) -> None:
    first, second = run({"tensorboard": {}}), run({"tensorboard": {}})
    assert all(stage.reused for stage in second.stages)
    again, before = events(second.folder / "tensorboard"), events(first.folder / "tensorboard")
    finals = {tag for tag in before.Tags()["scalars"] if tag.startswith("final/")}
    assert finals
    assert set(again.Tags()["scalars"]) == finals, "a stage that is reused has no curve"
    for tag in finals:
        assert again.Scalars(tag)[-1].value == before.Scalars(tag)[-1].value
    assert set(again.Tags()["images"]) == set(before.Tags()["images"])


def test_runs_stand_side_by_side_in_a_folder_of_the_users_choice(run: Any, tmp_path: Path) -> None:
    results = [run({"tensorboard": {"directory": "board"}}) for _ in range(2)]
    for result in results:
        assert events(tmp_path / "board" / "small" / result.folder.name).Scalars("final/dimension/intrinsic dimension")
        assert not (result.folder / "tensorboard").exists()


def test_the_report_says_where_to_look(run: Any) -> None:
    result = run({"tensorboard": {}})
    assert f"tensorboard --logdir {result.folder / 'tensorboard'}" in result.report.read_text()


def test_a_stage_that_has_the_name_of_the_folder(run: Any) -> None:
    stages = "\nstages:\n  tensorboard: {use: data:sphere}\n"
    (failure,) = run({"tensorboard": {}}, stages=stages).failures
    assert "a stage is called 'tensorboard'" in failure.text()
    assert run({"tensorboard": {"directory": "board"}}, stages=stages).failures == ()


def test_a_folder_that_cannot_be_written_costs_the_tracking_and_not_the_run(run: Any, tmp_path: Path) -> None:
    (tmp_path / "board").write_text("a file")
    result = run({"tensorboard": {"directory": "board"}})
    (failure,) = result.failures
    assert failure.hook == "scorefold_before_run"
    assert "no longer tracked in TensorBoard" in failure.text()
    assert [stage.name for stage in result.stages] == ["data", "score", "dimension"]


def test_what_is_written_before_a_failure_stays(run: Any, broken: str, tmp_path: Path) -> None:
    with pytest.raises(ScorefoldError, match="MLE needs at least"):
        run({"tensorboard": {}}, stages=broken)
    (folder,) = tmp_path.glob("runs/small/*.partial")
    found = events(folder / "tensorboard")
    assert [event.step for event in found.Scalars("score/loss")] == [10, 20, 30, 40]
    assert "_hparams_/session_start_info" not in found.summary_metadata


def test_the_example_runs(tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "examples" / "tracked-training.yaml"
    sets = [
        "stages.score.config.training.steps=40",
        "stages.dimension.config.points=3",
        "stages.data.config.points=100",
        "plugins.tracking.tensorboard.directory=runs/tensorboard",
    ]
    result = run_file(Host.discover(), example, sets=sets)
    assert result.failures == ()
    found = events(tmp_path / "runs" / "tensorboard" / "tracked-training" / result.folder.name)
    assert [event.step for event in found.Scalars("score/loss")] == [20, 40]
