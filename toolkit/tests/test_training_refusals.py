"""Training: what can't be trained, and losses that go wrong, give a message and leave nothing broken."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_toys import Quadratic, TwoPhase, config, points

from scorefold.data import Dataset
from scorefold.errors import ScorefoldError, ShapeError, TrainingError
from scorefold.interfaces.capabilities import Loss, Phase, Progress, Trainable
from scorefold_toolkit.training import fit


class Failing(Quadratic):
    """A loss that is not finite at one step."""

    def __init__(self, at: int, value: float) -> None:
        super().__init__()
        self.at, self.value = at, value

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        loss = super().loss(batch, progress=progress, generator=generator).value
        loss = loss * self.value if progress.step == self.at else loss
        return Loss(loss, {"distance": loss.detach(), "rest": torch.tensor(0.5)})


@pytest.mark.parametrize(("at", "kept"), [(0, []), (3, []), (9, []), (12, []), (13, ["1"]), (39, ["3"])])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_step_parts_and_remedy(
    at: int, kept: list[str], value: float, tmp_path: Path
) -> None:
    settings = config(checkpoint_every=13, clip=None)
    with pytest.raises(TrainingError) as caught:
        fit(Failing(at, value), points(), settings, checkpoint_dir=tmp_path)
    word = "nan" if math.isnan(value) else "inf"
    assert f"the loss is {word} at step {at + 1} of phase 'fit' (distance {word}, rest 0.5)" in caught.value.message
    assert caught.value.hint is not None
    assert "training.learning_rate (now 0.001)" in caught.value.hint
    assert "training.clip" in caught.value.hint
    # Checkpoints are written after steps 13, 26 and 39, but none of them holds what the step has spoilt.
    assert [path.name for path in (tmp_path / "fit").glob("*")] == kept


def test_weights_that_are_not_finite_are_never_kept(tmp_path: Path) -> None:
    class Overflowing(Quadratic):
        def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
            # The square root's gradient at zero is infinite: a finite loss, and weights that are not.
            return Loss((self.centre - self.centre.detach()).abs().sum().sqrt())

    settings = config(steps=1, optimiser="sgd", clip=None)
    with pytest.raises(TrainingError, match=r"weights are not finite after step 1 of phase 'fit'"):
        fit(Overflowing(), points(), settings, checkpoint_dir=tmp_path)
    assert not (tmp_path / "fit").exists()


class Phased(Quadratic):
    def __init__(self, *phases: Phase) -> None:
        super().__init__()
        self.given = phases

    def phases(self) -> Sequence[Phase]:
        return self.given


class Grouped(Quadratic):
    def __init__(self, *groups: dict[str, Any]) -> None:
        super().__init__()
        self.given = groups

    def parameter_groups(self, phase: Phase) -> list[dict[str, Any]]:
        return [
            {name: self.centre if value == "own" else value for name, value in group.items()} for group in self.given
        ]


class Valued(Quadratic):
    def __init__(self, value: torch.Tensor | None = None, **parts: torch.Tensor) -> None:
        super().__init__()
        self.value, self.parts = value, parts

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        return Loss(self.centre.sum() if self.value is None else self.value, self.parts)


_ONE = (nn.Linear(1, 1),)


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (nn.Linear(4, 4), {}, "Linear can't be trained: it is not both a torch module and a Trainable"),
        (Quadratic(), {"patience": 3}, "training.patience needs held-out points"),
        (Quadratic(), {"plateau": {"patience": 3}}, "training.plateau needs held-out points"),
        (Phased(Phase("a", _ONE), Phase("a", _ONE)), {}, "two phases of training have the name 'a'"),
        (Phased(Phase("a", _ONE, resume_key="b"), Phase("b", _ONE)), {}, "two phases of training have the key 'b'"),
        (Phased(Phase("a", _ONE, resume_key="../b")), {}, "the key '../b', which can't name a folder"),
        (Phased(Phase("a", _ONE, after="c"), Phase("b", _ONE)), {}, r"'a' comes after 'c'.*the phases are a, b"),
        (Phased(Phase("a", _ONE, after="b"), Phase("b", _ONE, after="a")), {}, "wait for each other"),
        (Phased(Phase("a", _ONE, steps=30), Phase("b", _ONE, steps=20)), {}, "take 50 steps by themselves"),
        (Phased(Phase("a", (nn.Identity(),))), {}, "phase 'a' of Phased has no parameters to train"),
        (Phased(Phase("a", _ONE)), {}, "holds a parameter that Phased does not own"),
        (Grouped({"lr": 1.0}), {}, r"has no 'params' \(it has lr\)"),
        (Grouped({"params": "own"}, {"params": "own"}), {}, "can't be optimised: some parameters appear in more"),
        (Grouped({"params": "own", "momentum": 0.9}), {}, "sets momentum, which Adam does not have"),
        (Valued(torch.zeros(3, requires_grad=True)), {}, r"has shape \(3,\) and a gradient; expected a scalar"),
        (Valued(torch.zeros(())), {}, r"has shape \(\) and no gradient; expected a scalar"),
        (Valued(loss=torch.zeros(())), {}, "parts of a loss can't be called"),
        (Valued(part=torch.zeros(2)), {}, r"the part 'part' of the loss has shape \(2,\)"),
        (Quadratic().double(), {}, "training data are torch.float32 and the model's parameters torch.float64"),
    ],
)
def test_what_cannot_be_trained_says_why(model: nn.Module, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ScorefoldError, match=message):
        fit(model, points(), config(**settings))


def test_data_that_cannot_be_trained_on() -> None:
    with pytest.raises(TrainingError, match="no training points"):
        fit(Quadratic(), points(0), config())
    with pytest.raises(ShapeError, match="validation data are"):
        fit(Quadratic(), points(), config(), validation=points().to(dtype=torch.float64))
    with pytest.raises(TrainingError, match="precision is 'half'"):
        fit(Quadratic(), points(), config(), precision="half")
    with pytest.raises(TrainingError, match="float16 needs a GPU"):
        fit(Quadratic(), points(), config(), precision="fp16")
    # Held-out points there are none of are no held-out points.
    assert fit(Quadratic(), points(), config(), validation=points(0)).best_validation is None


def test_a_component_may_refuse_a_strategy() -> None:
    class Stubborn(Quadratic):
        def refuses(self, strategy: str) -> str | None:
            return "its loss solves an equation in float32" if strategy in ("bf16", "compile") else None

    with pytest.raises(TrainingError, match="Stubborn can't be trained with bf16: its loss solves"):
        fit(Stubborn(), points(), config(), precision="bf16")
    with pytest.raises(TrainingError, match="can't be trained with compile"):
        fit(Stubborn(), points(), config(compile=True))
    assert fit(Stubborn(), points(), config()).steps == 40


def test_an_error_leaves_the_model_as_a_model() -> None:
    class Broken(TwoPhase):
        def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
            if progress.step == 3:
                raise ValueError("mine")
            return super().loss(batch, progress=progress, generator=generator)

    model = Broken()
    with pytest.raises(ValueError, match="mine"):
        fit(model, points(), config())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert not any(module.training for module in model.modules())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_trainable_says_what_it_needs() -> None:
    class Nothing(nn.Module, Trainable):
        pass

    with pytest.raises(TypeError, match="loss"):
        Nothing()  # type: ignore[abstract]


def test_a_model_of_an_environment_is_trained_there_by_one_process() -> None:
    class Elsewhere(Quadratic):
        def train_in_worker(self, target: str, train: Dataset, config: Any, **settings: Any) -> dict[str, Any]:
            assert (target, len(train), settings["seed"]) == ("scorefold_toolkit.training:fit", len(points()), 3)
            return {"steps": 7, "history": [{"step": 5, "phase": "fit", "loss": "NaN"}]}

    report = fit(Elsewhere(), points(), config(), seed=3)
    assert report.steps == 7
    assert math.isnan(report.history[0]["loss"])
    with pytest.raises(TrainingError, match="trained by one process"):
        fit(Elsewhere(), points(), config(), parallel="ddp")
