"""The phases of training: what each trains, what an interruption leaves, and what is warned of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from caflow_models import CONTINUOUS, KINDS, draws, image_flow, levels
from torch import Tensor

from scorefold.config import TrainingConfig
from scorefold.data import Dataset, EventScale, TensorSpec
from scorefold.interfaces import Phase
from scorefold_caflow.flow.model import ImageFlow
from scorefold_caflow.flow.parts import TwoEncoders
from scorefold_toolkit.nn import LULinear
from scorefold_toolkit.training import fit, loop


def pairs(count: int = 48, scale: EventScale = CONTINUOUS) -> Dataset:
    w = draws(count, 1, 8, 8)
    if scale.levels is not None:
        w = (w + 1).mul(1.5).round().clamp(0, scale.levels - 1)
    return Dataset(x=w, condition=0.5 * w + 0.3 * draws(count, 1, 8, 8, seed=5))


def phase_names(flow: ImageFlow) -> list[str]:
    return [phase.name for phase in flow.phases()]


def test_the_phases_of_each_order() -> None:
    assert phase_names(image_flow()) == ["joint"]
    assert phase_names(image_flow("cinn")) == ["joint"]
    staged = ["event-encoder", "condition-encoder", "translation"]
    assert phase_names(image_flow(order="staged")) == staged
    assert phase_names(image_flow(order="staged-joint")) == [*staged, "joint"]
    assert phase_names(image_flow(order="staged", condition=TensorSpec((3,)))) == ["event-encoder", "translation"]


class Watched:
    """What changed in each phase of a training, by the state before and after."""

    def __init__(self, flow: ImageFlow, monkeypatch: pytest.MonkeyPatch) -> None:
        self.changed: dict[str, set[str]] = {}
        run = loop._PhaseLoop.run

        def watched(loop_self: Any, *given: Any) -> None:
            before = {name: value.clone() for name, value in flow.state_dict().items()}
            run(loop_self, *given)
            after = flow.state_dict()
            self.changed[loop_self.phase.name] = {n for n, value in after.items() if not torch.equal(value, before[n])}

        monkeypatch.setattr(loop._PhaseLoop, "run", watched)


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("recompute", ["no", "inverse"])
def test_phases_train_what_they_say_and_leave_the_rest_as_it_is_bit_for_bit(ema, recompute, monkeypatch) -> None:
    flow = image_flow(perturbed=0.0, order="staged-joint", recompute=recompute, scale=levels(4),
                      dequantisation="variational")  # fmt: skip
    watched = Watched(flow, monkeypatch)
    data = pairs(scale=levels(4))
    fit(flow, data, TrainingConfig(steps=12, batch_size=16, ema=ema, learning_rate=1e-2), validation=data)
    groups = {
        "event-encoder": ("parts.event_encoder.",),
        "condition-encoder": ("parts.condition_encoder.",),
        "translation": ("parts.translation.", "dequantiser."),
        "joint": ("parts.", "dequantiser."),
    }
    assert list(watched.changed) == list(groups)
    parameters = {name for name, _ in flow.named_parameters()}
    for phase, prefixes in groups.items():
        assert watched.changed[phase] == {name for name in parameters if name.startswith(prefixes)}, phase


def test_encoders_alone_become_flows_of_their_own_images() -> None:
    """Each of the first phases lowers the loss that it is about: the encoder's own likelihood."""
    flow = image_flow(perturbed=0.0, order="staged")
    data = pairs(64)
    fit(flow, data, TrainingConfig(steps=3, batch_size=64, learning_rate=1e-6, ema=None))
    assert isinstance(flow.parts, TwoEncoders)

    def own(encoder: torch.nn.Module, image: Tensor) -> float:
        latents, log_det = encoder(image)
        density = log_det + sum(flow.base.log_prob(one) for one in latents)
        return float(density.detach().mean())

    w, _ = flow.preprocess(data.x)
    y, _ = flow.split(data.condition, data.x)
    before = own(flow.parts.event_encoder, w), own(flow.parts.condition_encoder, y)
    fit(flow, data, TrainingConfig(steps=60, batch_size=64, learning_rate=1e-2, ema=None, warmup=0))
    after = own(flow.parts.event_encoder, w), own(flow.parts.condition_encoder, y)
    assert after[0] > before[0] + 1
    assert after[1] > before[1] + 1


def test_encoders_without_parameters_have_no_phase() -> None:
    """Frozen Haar encoders: what is left to train is the translation."""
    flow = image_flow(perturbed=0.0, order="staged", encoder={"steps": 0, "transitions": 0}, squeeze="haar")
    assert phase_names(flow) == ["translation"]
    report = fit(flow, pairs(), TrainingConfig(steps=4, batch_size=16))
    assert report.steps == 4
    again = image_flow(order="staged-joint", encoder={"steps": 0, "transitions": 0}, squeeze="haar")
    phases: list[Phase] = list(again.phases())
    assert [(phase.name, phase.after) for phase in phases] == [("translation", None), ("joint", "translation")]


class StopError(Exception):
    pass


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"order": "staged-joint", "recompute": "inverse"},
        {"scale": levels(4), "dequantisation": "variational", "order": "staged"},
    ],
)
def test_an_interrupted_training_ends_with_the_same_bits(settings, tmp_path: Path) -> None:
    scale = settings.get("scale", CONTINUOUS)
    data = pairs(scale=scale)
    config = TrainingConfig(steps=12, batch_size=16, checkpoint_every=2, log_every=1, learning_rate=1e-2)

    def trained(folder: Path | None, stop: int | None = None) -> dict[str, Tensor]:
        flow = image_flow(perturbed=0.0, **settings)

        def metrics(step: int, values: Any) -> None:
            if stop is not None and step == stop:
                raise StopError

        fit(flow, data, config, checkpoint_dir=folder, metrics=metrics, seed=3)
        return flow.state_dict()

    whole = trained(None)
    for stop in (3, 7, 11):
        folder = tmp_path / str(stop)
        with pytest.raises(StopError):
            trained(folder, stop)
        resumed = trained(folder)
        assert all(torch.equal(value, resumed[name]) for name, value in whole.items()), stop


@pytest.mark.parametrize("kind", KINDS)
def test_training_uses_the_condition(kind) -> None:
    """After a short training the bits of an image rise when conditions are shuffled."""
    small = {"steps": 1, "hidden": 16}
    settings = {"flow": small} if kind == "cinn" else {"encoder": small, "translation": small}
    flow = image_flow(kind, perturbed=0.0, event=(1, 4, 4), condition=TensorSpec((1, 4, 4)), scales=1, **settings)
    w = draws(400, 1, 4, 4)
    data = Dataset(x=w, condition=w + 0.3 * draws(400, 1, 4, 4, seed=5))
    fit(flow, data, TrainingConfig(steps=150, batch_size=100, learning_rate=5e-3, warmup=10, ema=None))
    with torch.no_grad():
        own = flow.log_prob(data.x, data.condition).mean()
        shuffled = flow.log_prob(data.x, data.condition.roll(1, 0)).mean()
    alone = (
        -0.5 * 16 * (1 + torch.log(torch.tensor(2 * torch.pi)))
    )  # of a standard normal distribution, without a condition
    assert float(own) > float(alone) + 3
    assert float(own) > float(shuffled) + 5


@pytest.mark.parametrize("coupling", ["affine", "mixture"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_flow_whose_inverse_lost_its_digits_is_warned_of(kind, coupling) -> None:
    part = {"steps": 1, "transitions": 1, "hidden": 6, "coupling": coupling}
    sizes = {"flow": part} if kind == "cinn" else {"encoder": part, "translation": part}
    flow = image_flow(kind, dtype=torch.float32, **sizes)
    dataset = Dataset(x=draws(20, 1, 8, 8).float(), condition=draws(20, 1, 8, 8, seed=4).float())
    assert flow.training_warnings(dataset) == []
    mixing = next(one for one in flow.modules() if isinstance(one, LULinear))
    with torch.no_grad():
        mixing.factors[0, 0] = -14.0  # a scale of 1e-6: its inverse makes 1e6 of what rounding left
        mixing.factors[0, 1:] = 3.0
    (said,) = flow.training_warnings(dataset)
    assert "brings events back only to" in said
    assert "linear: orthogonal" in said


def test_a_condition_that_its_noise_hides_is_warned_of() -> None:
    flow = image_flow(scale=levels(256), condition=TensorSpec((2, 8, 8)))
    w = torch.randint(256, (20, 1, 8, 8), generator=torch.Generator().manual_seed(0)).double()
    fine = torch.cat((w, torch.zeros_like(w)), 1)  # a channel that says nothing has nothing to lose
    assert flow.training_warnings(Dataset(x=w, condition=fine)) == []
    (said,) = flow.training_warnings(Dataset(x=w, condition=torch.cat((w, w / 1024), 1)))
    assert "1 of 2 channels of the condition span as little as 0.25" in said
    assert "bring the condition to the units of the events" in said
    flow.split.std.fill_(4)  # what the flow is shown is a quarter, and noise is added before that
    assert flow.training_warnings(Dataset(x=w, condition=torch.cat((w, w / 1024), 1)))[0].startswith(said[:70])
    assert image_flow("cinn", scale=levels(256)).training_warnings(Dataset(x=w, condition=w / 1024)) == []


def test_draws_that_are_not_finite_are_warned_of() -> None:
    flow = image_flow(condition=None)
    dataset = Dataset(x=draws(20, 1, 8, 8))
    with torch.no_grad():
        next(one for one in flow.modules() if isinstance(one, LULinear)).factors[0, 0] = float("nan")
    assert [said.partition(";")[0] for said in flow.training_warnings(dataset)][1:] == [
        "64 of 64 draws are not finite: set linear: orthogonal, lower bound, or take dtype: float64"
    ]


@pytest.mark.parametrize("scale", [CONTINUOUS, levels(4)], ids=["continuous", "discrete"])
def test_the_reference_of_the_loss_is_a_normal_distribution_s(scale: EventScale) -> None:
    """In bits a dimension: of continuous data its density's, of levels the levels'."""
    flow, data = image_flow(order="staged", scale=scale), pairs(4000, scale)
    found = flow.loss_reference(data, lambda: 0.0, "translation")
    assert found is not None
    variances = data.x.flatten(1).var(0, correction=0) + (0 if scale.levels is None else 1 / 12)
    assert found.value == pytest.approx(float((2 * math.pi * math.e * variances).log2().mean() / 2), rel=1e-6)
    assert flow.loss_reference(data, lambda: 0.0, "condition-encoder") is None
    lines = list[str]()
    fit(
        flow,
        data.take(torch.arange(48)),
        TrainingConfig(steps=6, batch_size=16),
        progress=lambda done, total, text: lines.append(text),
    )
    said = {line.partition(":")[0]: " of " in line for line in lines}
    assert said == {"event-encoder": True, "condition-encoder": False, "translation": True}
