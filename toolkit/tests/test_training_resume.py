"""Interrupted trainings end as uninterrupted ones do, to the bit, and go on from no checkpoint but their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from killed_trainings import CASES, OFTEN
from torch import nn
from training_toys import Denoiser, Quadratic, TwoPhase, config, differing, points
from warm_commands import Command

from scorefold.artefacts import read_json
from scorefold.data import Dataset
from scorefold.errors import TrainingError
from scorefold.interfaces.capabilities import Loss, Phase, Progress
from scorefold_toolkit.training import FitReport, fit


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the processes left behind that were killed in the middle of each case."""
    folder = tmp_path_factory.mktemp("killed")
    script = Path(__file__).parent / "toys" / "killed_trainings.py"
    out, err = Command((str(folder),), folder, os.environ, script).communicate()
    assert dict(line.split() for line in out.splitlines()) == dict.fromkeys(CASES, "-9"), err
    return folder


def comparable(report: FitReport) -> dict[str, object]:
    """The report without what depends on the clock."""
    rows = [{name: value for name, value in row.items() if name != "steps_per_second"} for row in report.history]
    return {**report.facts(), "history": rows, "seconds": None, "cpu_seconds": None}


@pytest.mark.parametrize("case", CASES)
def test_a_killed_training_goes_on_to_the_same_bits(case: str, killed: Path) -> None:
    folder = killed / case
    left = [path.parent for path in folder.rglob("manifest.json") if ".partial" not in str(path)]
    facts = {path.parent.name: read_json(path / "manifest.json") for path in left}
    phase = "head" if case == "phases" else "fit"
    assert 0 < facts[phase]["step"] < 40
    assert not facts[phase]["complete"]
    if case == "writing":
        assert list(folder.rglob("*.partial"))

    whole, expected = CASES[case](None)
    resumed, report = CASES[case](folder)
    assert differing(whole, resumed) == []
    assert comparable(report) == comparable(expected)
    assert report.seconds > facts[phase]["report"]["seconds"] > 0
    # Once complete, the same call gives the same without a step.
    again, repeated = CASES[case](folder)
    assert differing(whole, again) == []
    assert comparable(repeated) == comparable(expected)
    assert not list(folder.rglob("*.partial"))
    assert all(len(list(phase_folder.iterdir())) == 1 for phase_folder in folder.iterdir())


def test_the_killed_plateau_has_falls_on_both_sides_of_its_kill() -> None:
    rates = [row["learning_rate"] for row in CASES["plateau"](None)[1].history if "learning_rate" in row]
    settled = rates[2:]  # after the warm-up
    assert len(set(settled)) >= 5
    assert settled == sorted(settled, reverse=True)


def test_a_resumed_training_takes_only_the_steps_that_are_left(tmp_path: Path) -> None:
    settings = config(**OFTEN)
    model = TwoPhase()
    fit(model, points(), settings, checkpoint_dir=tmp_path)
    assert len(model.modes) == 40
    finished = TwoPhase()
    fit(finished, points(), settings, checkpoint_dir=tmp_path)
    assert finished.modes == []
    assert differing(model, finished) == []


class Interrupted(TwoPhase):
    """Ctrl-C in the middle of a step."""

    at = 17

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        if progress.step == self.at:
            signal.raise_signal(signal.SIGINT)
        return super().loss(batch, progress=progress, generator=generator)


@pytest.mark.parametrize("at", [0, 6, 17, 24])
def test_ctrl_c_ends_cleanly_after_the_step_and_goes_on(at: int, tmp_path: Path) -> None:
    settings = config(**OFTEN)
    model = Interrupted()
    model.at = at
    with pytest.raises(KeyboardInterrupt):
        fit(model, points(), settings, checkpoint_dir=tmp_path)
    assert len(model.modes) == at + 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    (manifest,) = (tmp_path / "body").glob("*/manifest.json")
    facts = read_json(manifest)
    assert (facts["step"], facts["complete"]) == (at + 1, at + 1 == 25)

    resumed, whole = TwoPhase(), TwoPhase()
    report = fit(resumed, points(), settings, checkpoint_dir=tmp_path)
    expected = fit(whole, points(), settings)
    assert len(resumed.modes) == 40 - (at + 1)
    assert differing(whole, resumed) == []
    assert comparable(report) == comparable(expected)


def test_ctrl_c_without_checkpoints_and_twice() -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted(), points(), config())

    class Impatient(Interrupted):
        def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
            if progress.step == 3:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
                raise AssertionError("the second Ctrl-C interrupts at once")
            return super().loss(batch, progress=progress, generator=generator)

    with pytest.raises(KeyboardInterrupt):
        fit(Impatient(), points(), config())


def test_a_handler_of_the_program_is_left_alone() -> None:
    def mine(number: int, frame: object) -> None:
        raise TimeoutError("mine")

    signal.signal(signal.SIGINT, mine)
    try:
        with pytest.raises(TimeoutError, match="mine"):
            fit(Interrupted(), points(), config())
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({"learning_rate": 0.01}, "training.learning_rate was 0.001 and is 0.01"),
        ({"steps": 80}, "training.steps was 40 and is 80"),
        ({"ema": None}, "training.ema was 0.999 and is None"),
    ],
)
def test_a_checkpoint_of_another_configuration_is_refused(
    settings: dict[str, object], changed: str, tmp_path: Path
) -> None:
    fit(Denoiser(), points(), config(), checkpoint_dir=tmp_path)
    with pytest.raises(TrainingError, match=changed) as caught:
        fit(Denoiser(), points(), config(**settings), checkpoint_dir=tmp_path)
    assert caught.value.hint is not None
    assert f"remove {tmp_path / 'fit'}" in caught.value.hint


def test_a_checkpoint_of_other_data_another_model_or_seed_is_refused(tmp_path: Path) -> None:
    fit(Denoiser(), points(), config(), checkpoint_dir=tmp_path, validation=points(20))
    with pytest.raises(TrainingError, match="seed was 0 and is 1"):
        fit(Denoiser(), points(), config(), checkpoint_dir=tmp_path, validation=points(20), seed=1)
    with pytest.raises(TrainingError, match=r"training data was 100 points .* and is 100 points"):
        fit(Denoiser(), points(seed=5), config(), checkpoint_dir=tmp_path, validation=points(20))
    with pytest.raises(TrainingError, match=r"validation data was 20 points .* and is None"):
        fit(Denoiser(), points(), config(), checkpoint_dir=tmp_path)
    with pytest.raises(TrainingError, match="model state was"):
        fit(Quadratic(), points(), config(), checkpoint_dir=tmp_path, validation=points(20))
    # How often it logs and writes changes no weight.
    fit(Denoiser(), points(), config(log_every=3, checkpoint_every=3), checkpoint_dir=tmp_path, validation=points(20))


def test_a_resume_key_names_the_checkpoints_of_a_phase(tmp_path: Path) -> None:
    class Keyed(Quadratic):
        def phases(self) -> tuple[Phase, ...]:
            return (Phase("fit", (self,), resume_key="prior-3f2a"),)

    fit(Keyed(), points(), config(), checkpoint_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["prior-3f2a"]


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda folder: (folder / "state.safetensors").write_bytes(
        (folder / "state.safetensors").read_bytes()[:-4]
    ),
    "empty": lambda folder: (folder / "state.safetensors").write_bytes(b""),
    "another byte": lambda folder: (folder / "state.safetensors").write_bytes(
        (folder / "state.safetensors").read_bytes()[:-1] + b"?"
    ),
    "no state": lambda folder: (folder / "state.safetensors").unlink(),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "a letter of it changed": lambda folder: (folder / "manifest.json").write_text(
        (folder / "manifest.json").read_text().replace("training.", "trailing.", 1)
    ),
    "no JSON": lambda folder: (folder / "manifest.json").write_text("{"),
    "a list": lambda folder: (folder / "manifest.json").write_text("[]"),
    "not UTF-8": lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"),
    "nothing": lambda folder: [file.unlink() for file in folder.iterdir()],
    "a folder for a file": lambda folder: [
        (folder / "manifest.json").unlink(),
        (folder / "manifest.json").mkdir(),
    ],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_set_aside(tmp_path: Path, damage: str) -> None:
    whole = Denoiser()
    fit(whole, points(), config(), checkpoint_dir=tmp_path)
    (state,) = tmp_path.rglob("state.safetensors")
    DAMAGES[damage](state.parent)
    again = Denoiser()
    (warning,) = fit(again, points(), config(), checkpoint_dir=tmp_path).warnings
    assert warning.startswith("a checkpoint was damaged (")
    assert differing(whole, again) == []
    (aside,) = tmp_path.rglob("damaged-*")
    assert aside.name in warning
    # What was written instead is whole.
    assert fit(Denoiser(), points(), config(), checkpoint_dir=tmp_path).steps == config().steps


def test_training_goes_on_from_the_checkpoint_before_a_damaged_one(tmp_path: Path) -> None:
    fit(Denoiser(), points(), config(), checkpoint_dir=tmp_path)
    (state,) = tmp_path.rglob("state.safetensors")
    newer = state.parent.with_name("9")
    newer.mkdir()
    (newer / "manifest.json").write_text("{}")
    report = fit(Denoiser(), points(), config(), checkpoint_dir=tmp_path)
    assert "damaged-9" in report.warnings[0]
    assert state.is_file()


def test_a_held_out_loss_that_is_not_finite_survives_a_resume(tmp_path: Path) -> None:
    class Infinite(Quadratic):
        def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
            loss = super().loss(batch, progress=progress, generator=generator)
            return loss if torch.is_grad_enabled() else Loss(loss.value * torch.inf)

    def train() -> tuple[nn.Module, FitReport]:
        model = Infinite()
        return model, fit(model, points(), config(), validation=points(20), checkpoint_dir=tmp_path)

    first, second = train()[1], train()[1]
    assert first.best_validation is None
    assert first.history[-1]["validation"] == second.history[-1]["validation"] == torch.inf


def test_checkpoints_hold_tensors_and_json_only(tmp_path: Path) -> None:
    fit(Denoiser(), points(), config(steps=20, checkpoint_every=8), checkpoint_dir=tmp_path)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["fit/3/manifest.json", "fit/3/state.safetensors"]
