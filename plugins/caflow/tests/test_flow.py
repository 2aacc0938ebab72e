"""Conditions of every kind and size, what is refused and how it says so, and the phases of training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from caflow_models import CONTINUOUS, KINDS, SPEC, depends, draws, image_flow, levels
from torch import Tensor

from scorefold.config import TrainingConfig
from scorefold.data import Condition, ConditionSpec, Dataset, EventScale, TensorSpec
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import Phase
from scorefold_caflow.flow.conditions import SplitCondition, fitted, fitted_channels
from scorefold_caflow.flow.model import ImageFlow
from scorefold_caflow.flow.parts import TwoEncoders
from scorefold_toolkit.nn import LULinear
from scorefold_toolkit.training import fit, loop

SPECS: dict[str, ConditionSpec | None] = {
    "same size": SPEC,
    "larger, three channels": TensorSpec((3, 16, 16)),
    "another shape": TensorSpec((2, 8, 24)),
    "class": TensorSpec((), classes=5),
    "classes": TensorSpec((2,), classes=3),
    "vector": TensorSpec((4,)),
    "matrix": TensorSpec((2, 3)),
    "image and class": {"image": SPEC, "class": TensorSpec((), classes=5)},
    "all": {
        "class": TensorSpec((), classes=5),
        "small": TensorSpec((1, 8, 8)),
        "vector": TensorSpec((4,)),
        "large": TensorSpec((2, 16, 16)),
    },
    "map of classes": TensorSpec((1, 8, 8), classes=3),
    "larger map of classes and an image": {"labels": TensorSpec((1, 16, 16), classes=3), "image": SPEC},
    "none": None,
}


def drawn(spec: ConditionSpec | None, rows: int, seed: int = 4) -> Condition | None:
    """A condition of a specification."""
    if spec is None:
        return None
    if isinstance(spec, TensorSpec):
        if spec.classes is not None:
            shape = (rows, *spec.shape)
            return torch.randint(spec.classes, shape, generator=torch.Generator().manual_seed(seed))
        return draws(rows, *spec.shape, seed=seed)
    return {name: drawn(one, rows, seed + place) for place, (name, one) in enumerate(spec.items())}


def parts_of(condition: Condition | None) -> list[Tensor]:
    if condition is None:
        return []
    return [condition] if isinstance(condition, Tensor) else list(condition.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SPECS)
def test_conditions_of_every_kind(kind, name) -> None:
    spec = SPECS[name]
    flow = image_flow(kind, condition=spec)
    w, y = draws(3, 1, 8, 8), drawn(spec, 3)
    for part in parts_of(y):
        if part.is_floating_point():
            part.requires_grad_()
    z, log_det = flow(w, y)
    back, back_log_det = flow.inverse(z, y)
    assert torch.allclose(back, w, atol=1e-10)
    assert torch.allclose(log_det, -back_log_det, atol=1e-9)
    for part in parts_of(y):
        if part.is_floating_point():
            assert depends(z, part)
    found = flow.sample(2, y, generator=torch.Generator().manual_seed(0))
    assert found.shape == ((2, 3, 1, 8, 8) if spec is not None else (2, 1, 8, 8))
    if spec is not None:
        # A batch of one serves for several of the other.
        one = drawn(spec, 1)
        assert torch.allclose(flow.log_prob(w, one)[1:2], flow.log_prob(w[1:2], one), atol=1e-10)
        assert flow.log_prob(w[:1], y).shape == (3,)
        with pytest.raises(ShapeError, match="2 events were given with 3 conditions"):
            flow.log_prob(w[:2], y)


@pytest.mark.parametrize("kind", KINDS)
def test_classes_matter_and_an_unknown_class_is_none_of_them(kind) -> None:
    flow = image_flow(kind, condition=TensorSpec((), classes=3))
    w = draws(1, 1, 8, 8).expand(5, -1, -1, -1)
    found = flow.log_prob(w, torch.tensor([0, 1, 2, 3, -1])).tolist()
    assert len({round(value, 9) for value in found[:4]}) == 4
    assert found[3] == pytest.approx(found[4])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("event", [(3, 8, 16), (2, 16, 8), (1, 24, 8)])
def test_events_of_any_size_and_channels_that_the_scales_allow(kind, event) -> None:
    flow = image_flow(kind, event=event, condition=SPEC)
    w, y = draws(2, *event), draws(2, 1, 8, 8, seed=4)
    z, _ = flow(w, y)
    assert torch.allclose(flow.inverse(z, y)[0], w, atol=1e-9)
    assert sum(one[0].numel() for one in flow.unpack(z)) == w[0].numel()


def test_images_of_several_sizes_are_brought_to_the_largest_and_to_the_events_where_asked() -> None:
    spec = SPECS["all"]
    assert SplitCondition(spec, None).image_shape == (3, 16, 16)
    # The larger one's cells of 2 x 2 pixels are channels.
    assert SplitCondition(spec, (8, 8)).image_shape == (1 + 4 * 2, 8, 8)
    split = SplitCondition({"a": TensorSpec((1, 8, 4)), "b": TensorSpec((1, 4, 8))}, None)
    a, b = torch.arange(32.0).reshape(1, 1, 8, 4), torch.arange(32.0).reshape(1, 1, 4, 8)
    image, vector = split({"a": a, "b": b}, a)
    assert vector is None
    assert torch.equal(image[:, :1], a.repeat_interleave(2, 3))
    assert torch.equal(image[:, 1:], b.repeat_interleave(2, 2))
    flow = image_flow(condition=TensorSpec((1, 16, 16)), condition_size="event")
    assert flow.split.image_shape == (4, 8, 8)
    assert image_flow(condition=TensorSpec((1, 4, 12)), condition_size="event").split.image_shape == (1, 8, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_of_classes_is_an_image_whose_pixels_keep_their_place(kind) -> None:
    spec = TensorSpec((1, 8, 8), classes=3)
    split = SplitCondition(spec, None)
    labels = torch.randint(3, (2, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    image, vector = split(labels, draws(1))
    assert vector is None
    assert split.image_shape == (3, 8, 8)
    assert torch.equal(image.argmax(1, keepdim=True), labels)
    assert torch.equal(image.sum(1), torch.ones(2, 8, 8, dtype=torch.float64))
    flow = image_flow(kind, condition=spec, perturbed=0.0)
    w = labels + 0.3 * draws(2, 1, 8, 8)
    flow.prepare(Dataset(x=w, condition=labels), torch.Generator().manual_seed(0))
    assert bool(flow.log_prob(w, labels).isfinite().all())
    # As constants at every pixel, these would be 1,024 x 3 channels.
    large = image_flow(kind, event=(1, 32, 32), condition=TensorSpec((1, 32, 32), classes=3))
    small = image_flow(kind, event=(1, 32, 32), condition=TensorSpec((3, 32, 32)))
    assert sum(p.numel() for p in large.parameters()) == sum(p.numel() for p in small.parameters())


@pytest.mark.parametrize(("of", "size"), [((6, 4), (3, 4)), ((6, 4), (2, 1)), ((4, 4), (4, 4))])
def test_a_larger_image_becomes_a_smaller_one_of_more_channels_without_loss(of, size) -> None:
    x = draws(2, 3, *of)
    found = fitted(x, size)
    assert found.shape == (2, fitted_channels((3, *of), size), *size)
    assert torch.equal(found.flatten().sort().values, x.flatten().sort().values)
    rows, columns = of[0] // size[0], of[1] // size[1]
    assert torch.equal(found[:, 0], x[:, 0, ::rows, ::columns])
    assert fitted(x, (9, 5)).shape == (2, 3, 9, 5)
    assert fitted_channels((3, *of), (9, 5)) == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("condition_size", ["native", "event"])
def test_every_pixel_of_a_larger_condition_is_seen_by_the_finest_latent(kind, condition_size) -> None:
    settings = {} if kind == "cinn" else {"condition_size": condition_size}
    flow = image_flow(kind, condition=TensorSpec((1, 16, 16)), **settings)
    y = draws(1, 1, 16, 16, seed=4).requires_grad_()
    if kind == "cinn":
        value = flow(draws(1, 1, 8, 8), y)[0]
    else:
        own, _ = flow.parts.translation._contexts(1, None, flow._given(y, y).latents, None)
        value = own
    (gradient,) = torch.autograd.grad(value.square().sum(), y)
    assert bool((gradient != 0).all())


# What is refused.


@pytest.mark.parametrize("kind", ["caflow", "dual-glow"])
def test_sizes_that_the_scales_cannot_halve_name_the_nearest(kind) -> None:
    with pytest.raises(ConfigError, match="multiples of 16; images are 28 x 20") as caught:
        image_flow(kind, event=(1, 28, 20), condition=None, scales=3)
    assert "16 x 16 and 32 x 32" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="condition") as caught:
        image_flow(kind, condition=TensorSpec((1, 12, 8)))
    assert "8 x 8 and 16 x 8" in str(caught.value.hint)
    assert "set condition_size: event" in str(caught.value.hint)
    # Brought to the event's size, any condition will do.
    image_flow(kind, condition=TensorSpec((1, 12, 7)), condition_size="event")


@pytest.mark.parametrize(
    ("kind", "size", "scales", "fix"),
    [
        ("caflow", (8, 16), 3, "set scales: 2, or crop or pad"),
        ("cinn", (8, 16), 4, "set scales: 3, or crop or pad"),
        ("dual-glow", (8, 6), 1, "8 x 8: crop or pad"),
    ],
)
def test_sizes_that_fewer_scales_can_halve_say_how_many(kind, size, scales, fix) -> None:
    with pytest.raises(ConfigError, match="multiples") as caught:
        image_flow(kind, event=(1, *size), condition=None, scales=scales)
    assert fix in str(caught.value.hint)
    if "set" in fix:
        image_flow(kind, event=(1, *size), condition=None, scales=scales - 1)
    # Events of another size than their condition may be a part of it.
    assert "fraction" not in str(caught.value.hint)
    with pytest.raises(ConfigError, match="multiples") as caught:
        image_flow(kind, event=(1, *size), condition=TensorSpec((1, 32, 32)), scales=scales)
    assert "set another fraction of the mask" in str(caught.value.hint)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flow_whose_events_would_never_see_the_condition_is_refused(kind) -> None:
    part = "flow" if kind == "cinn" else "translation"
    with pytest.raises(ValueError, match=rf"{part}\.steps is 0"):
        image_flow(kind, **{part: {"steps": 0}})


def test_scales_of_data_that_nothing_can_be_divided_by_are_refused() -> None:
    for std in (0.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="deviation"):
            image_flow(scale=EventScale(std=std))
    with pytest.raises(ConfigError, match="between 1 and 1"):
        image_flow(scale=EventScale(1.0, 1.0), preprocess="logit")


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_a_condition_counts_the_same_in_any_units(unit) -> None:
    """And a channel that is constant but for rounding is left as it is."""
    y = draws(50, 2, 8, 8, seed=4)
    y[:, 1] = 0.1
    split = SplitCondition(TensorSpec((2, 8, 8)), None).double()
    split.measure(unit * y, y)
    image, _ = split(unit * y, y)
    assert image is not None
    assert float(image[:, 0].std(correction=0)) == pytest.approx(1)
    assert torch.allclose(image[:, 1], torch.zeros_like(image[:, 1]), atol=1e-6)
    assert float(split.std[1]) == 1


def test_sizes_of_a_single_flow_are_halved_once_less() -> None:
    image_flow("cinn", event=(1, 4, 4), condition=TensorSpec((1, 5, 7)))
    with pytest.raises(ConfigError, match="multiples of 4") as caught:
        image_flow("cinn", event=(1, 6, 4), condition=None)
    assert "4 x 4 and 8 x 4" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="multiples of 8") as caught:
        image_flow("caflow", event=(1, 4, 4), condition=None)
    assert "8 x 8" in str(caught.value.hint)
    assert " 0" not in str(caught.value.hint)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_arguments_say_what_was_expected(kind) -> None:
    flow = image_flow(kind)
    w, y = draws(2, 1, 8, 8), draws(2, 1, 8, 8)
    with pytest.raises(ShapeError, match=r"\(B, 1, 8, 8\)"):
        flow.log_prob(draws(2, 1, 8, 4), y)
    with pytest.raises(ShapeError, match="missing"):
        flow.log_prob(w)
    with pytest.raises(ShapeError, match=r"expected \(B, 1, 8, 8\)"):
        flow.log_prob(w, y[:, :, :4])
    with pytest.raises(ShapeError, match="float32"):
        flow.log_prob(w.float(), y)


# Training.


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
    """In bits a dimension: of continuous data its density's, of levels that of the levels."""
    flow, data = image_flow(order="staged", scale=scale), pairs(4000, scale)
    found = flow.loss_reference(data, lambda: 0.0, "translation")
    assert found is not None
    variances = data.x.flatten(1).var(0, correction=0) + (0 if scale.levels is None else 1 / 12)
    assert found.value == pytest.approx(float((2 * math.pi * math.e * variances).log2().mean() / 2), rel=1e-6)
    assert flow.loss_reference(data, lambda: 0.0, "condition-encoder") is None
    lines = list[str]()
    fit(flow, data.take(torch.arange(48)), flow.training_config, progress=lambda done, total, text: lines.append(text))
    said = {line.partition(":")[0]: " of " in line for line in lines}
    assert said == {"event-encoder": True, "condition-encoder": False, "translation": True}
