"""The conditional score model: what its network sees, its loss, guidance, amortised speeds, consistency."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scorefold.config import SubVPConfig, TrainingConfig, VEConfig, VPConfig
from scorefold.data import Condition, Dataset, EventScale, TensorSpec
from scorefold.diffusion import VE, PerComponent
from scorefold.errors import ConfigError
from scorefold.interfaces import Progress, ScoreModel
from scorefold_conditional.conditional.layout import Layout
from scorefold_conditional.conditional.model import Conditional
from scorefold_conditional.conditional.objective import ConditionBlock, joint_loss
from scorefold_standard.config import MLPConfig, UNetConfig
from scorefold_standard.networks.mlp import MLP
from scorefold_standard.networks.unet import UNet
from scorefold_toolkit.operators import build_operator
from scorefold_toolkit.score_matching.losses import denoising_score_matching
from scorefold_toolkit.training import fit

Build = Callable[..., Conditional]
PROGRESS = Progress(0, 1, "fit")
UNITS = EventScale(mean=1.5, std=0.7)
PROCESSES = [VEConfig(sigma_min=0.01, sigma_max=20), VPConfig(), SubVPConfig()]


class Answers(nn.Module):
    """A network that knows what it should say, and remembers what it was shown."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer
        self.seen: list[Any] = []

    def forward(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        self.seen = [x, t, condition]
        return self.answer


def test_its_likelihood_has_the_defaults_of_every_score() -> None:
    own, others = (inspect.signature(each.log_prob).parameters for each in (Conditional, ScoreModel))
    assert {name: own[name].default for name in others} == {name: each.default for name, each in others.items()}


def stirred(model: Conditional) -> Conditional:
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def dataset(rows: int = 4000) -> Dataset:
    x = UNITS.mean + UNITS.std * torch.randn(rows, 3)
    return Dataset(x, condition=5 + 2 * torch.randn(rows, 2))


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
@pytest.mark.parametrize("estimator", ["cde", "cmde", "cdiffe", "vs-cmde"])
def test_the_network_sees_both_of_unit_size_and_the_events_level(
    build: Build, process: Any, estimator: str, generator: torch.Generator
) -> None:
    model = build((3,), TensorSpec((2,)), units=UNITS, process=process, estimator=estimator)
    data = dataset(20_000)
    model.prepare(data, generator)
    network = Answers(torch.zeros(20_000, 3 if estimator == "cde" else 5))
    model.network = network
    model.train().loss(data, progress=Progress(500, 1000, "fit"), generator=generator)
    shown, level, condition = network.seen
    assert condition is None
    torch.testing.assert_close(shown.mean(0), torch.zeros(5), atol=0.04, rtol=0)
    torch.testing.assert_close(shown.std(0), torch.ones(5), atol=0.04, rtol=0)
    t = model.event_schedule.time_at(level.exp())
    assert float(t.min()) >= model.process.t_min - 1e-3
    assert float(t.max()) <= 1.001


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
@pytest.mark.parametrize("prediction", ["eps", "edm", "x0", "v"])
def test_a_network_that_is_right_has_no_loss(build: Build, prediction: str, process: Any) -> None:
    model = build((3,), TensorSpec((2,)), units=UNITS, process=process, prediction=prediction, condition_speed=0.3)
    model = model.double()
    model.prepare(Dataset(torch.zeros(500, 3), condition=5 + 2 * torch.randn(500, 2)), torch.Generator())
    t = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    noises, answers, noised = [], [], []
    for shape, schedule, mean, std in (
        ((6, 3), model.event_schedule, UNITS.mean, UNITS.std),
        ((6, 2), model.schedule_of(), model.condition_mean, model.condition_std),
    ):
        x0, z = mean + std * torch.randn(shape).double(), torch.randn(shape).double()
        a, b = (value[:, None] for value in schedule.signal_scale(t))
        x, u = a * x0 + b * z, (x0 - mean) / std
        r, c = ((a * std) ** 2 + b**2).sqrt(), (a**2 + b**2).sqrt()
        answers.append(
            {
                "eps": z,
                "x0": u,
                "edm": (z - b / r**2 * (x - a * mean)) * r / (a * std),
                "v": (a * z - b * (x0 - mean)) / c,
            }[prediction]
        )
        noises.append(z)
        noised.append(x)
    model.network = Answers(torch.cat(answers, 1))
    schedule = model.schedule_of()
    found, others = model._noises(noised[0], t, model._standard({"": noised[1]}, t, schedule), schedule)
    torch.testing.assert_close(found, noises[0])
    torch.testing.assert_close(others[""], noises[1])


@pytest.mark.parametrize("weighting", ["likelihood", "sigma2", "simple"])
def test_the_joint_loss_is_that_of_one_diffusion_with_two_speeds(weighting: Any) -> None:
    """Held to core's loss on the pair as one event whose blocks diffuse by their own schedules."""
    fast, slow = VE(0.01, 20).schedule, VE(0.01, 0.5).schedule
    process = PerComponent((5,), [(slice(0, 3), fast), (slice(3, 5), slow)]).double()
    z0 = torch.randn(6, 5, dtype=torch.float64)
    t = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    kept: list[Tensor] = []

    def model(z: Tensor, times: Tensor, condition: Any) -> Tensor:
        scale = process.coefficients(z, times)[1]
        kept.append(z.tanh() - (z - z0) / scale)
        return z.tanh()

    expected = denoising_score_matching(model, process, z0, weighting=weighting, times=t)
    blocks = {"event": ConditionBlock(kept[0][:, :3], fast), "condition": ConditionBlock(kept[0][:, 3:], slow)}
    found = joint_loss(blocks, t, weighting)
    torch.testing.assert_close(found["event"] + found["condition"], expected)


def test_the_event_part_alone_is_the_event_part_of_the_joint_loss(build: Build) -> None:
    data = dataset(50)
    losses = []
    for joint in (True, False):
        torch.manual_seed(1)
        model = build((3,), TensorSpec((2,)), units=UNITS, joint=joint)
        loss = model.loss(data, progress=PROGRESS, generator=torch.Generator().manual_seed(2))
        losses.append(loss.parts.get("loss of the event", loss.value.detach()))
    torch.testing.assert_close(losses[0], losses[1])  # networks start at 0 whatever their outputs


def test_the_speed_falls_while_training_and_stays_where_it_ended(build: Build) -> None:
    settings = {"estimator": "vs-cmde", "condition_speed": 0.02, "anneal": 0.5}
    training = TrainingConfig(steps=40, batch_size=16, warmup=1, log_every=1, validate_every=10)
    model = build((3,), TensorSpec((2,)), units=UNITS, training=training, **settings)
    seen = []
    fit(
        model,
        dataset(64),
        training,
        validation=dataset(16),
        metrics=lambda step, values: seen.append(float(model.reached_speed)),
    )
    assert seen[0] == 1
    assert all(late <= early for early, late in itertools.pairwise(seen))
    assert float(model.reached_speed) == pytest.approx(0.02)
    scale = model.schedule_of().signal_scale(torch.ones(1))[1]
    assert float(scale) == pytest.approx(1.0)  # 0.02 of sigma_max = 50
    reason = model.refuses("compile")
    assert reason is not None
    assert "every step" in reason
    assert build((3,), TensorSpec((2,))).refuses("compile") is None


def test_validation_is_at_the_target_speed(build: Build) -> None:
    model = build((3,), TensorSpec((2,)), units=UNITS, estimator="vs-cmde").eval()
    other = build((3,), TensorSpec((2,)), units=UNITS, estimator="cmde").eval()
    other.load_state_dict(model.state_dict())
    data = dataset(20)
    losses = [m.loss(data, progress=PROGRESS, generator=torch.Generator().manual_seed(0)).value for m in (model, other)]
    torch.testing.assert_close(losses[0], losses[1])


SPECS: dict[str, tuple[Any, Any]] = {
    "vector": (TensorSpec((2,)), torch.randn(4, 2)),
    "both": (
        {"digit": TensorSpec((), classes=3), "vector": TensorSpec((2,))},
        {"digit": torch.tensor([0, 1, 2, 0]), "vector": torch.randn(4, 2)},
    ),
}


@pytest.mark.parametrize("name", list(SPECS))
@pytest.mark.parametrize("estimator", ["cde", "cmde"])
def test_guidance_mixes_the_scores_with_and_without_a_condition(build: Build, name: str, estimator: str) -> None:
    spec, condition = SPECS[name]
    model = stirred(build((3,), spec, estimator=estimator, condition_dropout=0.2))
    x, t = torch.randn(4, 3), torch.full((4,), 0.4)

    def scores(weight: float) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        return model.bind(condition, generator=generator, guidance=weight)(x, t)

    torch.testing.assert_close(scores(3.0), 3 * scores(1.0) - 2 * model.score(x, t))
    assert model.sample(2, condition, steps=3, guidance=2.0).shape == (2, 4, 3)


def test_conditions_are_left_out_as_often_as_asked(build: Build, generator: torch.Generator) -> None:
    spec = {"digit": TensorSpec((), classes=3), "vector": TensorSpec((2,))}
    model = build((3,), spec, condition_dropout=0.25)
    network = Answers(torch.zeros(4000, 5))
    model.network = network
    condition = {"digit": torch.arange(4000) % 3, "vector": torch.randn(4000, 2)}
    loss = model.loss(Dataset(torch.randn(4000, 3), condition=condition), progress=PROGRESS, generator=generator)
    shown, _, classes = network.seen
    absent = classes["digit"] == 3
    assert torch.equal(absent, (shown[:, 3:] == 0).all(1))
    assert float(absent.float().mean()) == pytest.approx(0.25, abs=0.035)
    assert "loss of the vector" in loss.parts
    # The part of y that nobody was shown is not asked for: what is left is the mean of its share of z^2.
    ratio = float(loss.parts["loss of the vector"]) / (2 * torch.tensor(0.5 / 0.01).log())
    assert ratio == pytest.approx(0.75, abs=0.08)


def test_one_network_serves_many_speeds(build: Build) -> None:
    model = stirred(build((3,), TensorSpec((2,)), amortise=True, condition_speed=0.01))
    x, y, t = torch.randn(4, 3), torch.randn(4, 2), torch.full((4,), 0.6)

    def at(speed: float | None) -> Tensor:
        return model.bind(y, generator=torch.Generator().manual_seed(0), condition_speed=speed)(x, t)

    torch.testing.assert_close(at(None), at(0.01))
    assert not torch.allclose(at(0.01), at(0.5))
    loss = model.loss(dataset(50), progress=PROGRESS, generator=torch.Generator().manual_seed(0))
    assert bool(loss.value.isfinite())
    assert model.log_prob(torch.randn(2, 3), torch.randn(2, 2), rtol=1e-2, atol=1e-2).shape == (2,)


def test_guidance_mixes_scores_of_one_speed(build: Build) -> None:
    """Without a condition the network is shown the level of the speed that was asked for, as with one."""
    model = stirred(build((3,), TensorSpec((2,)), amortise=True, condition_speed=0.01, condition_dropout=0.2))
    x, y, t = torch.randn(4, 3), torch.randn(4, 2), torch.full((4,), 0.6)
    shown = []
    model.network.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[2]["condition level"]))
    model.bind(y, generator=torch.Generator().manual_seed(0), guidance=2.0, condition_speed=0.5)(x, t)
    model.bind(condition_speed=0.5)(x, t)
    expected = -model.schedule_of(0.5).log_snr(t)[:, None] / 8
    assert len(shown) == 3
    for level in shown:
        torch.testing.assert_close(level, expected)


IMAGES = {
    "mlp": MLP(MLPConfig(width=16, blocks=1)),
    "unet": UNet(UNetConfig(channels=(8, 16), groups=4)),
}


@pytest.mark.parametrize("network", list(IMAGES))
@pytest.mark.parametrize("size", [8, 4, 2])
def test_images_with_conditions_of_any_smaller_size(
    build: Build, network: str, size: int, generator: torch.Generator
) -> None:
    spec = {"image": TensorSpec((3, size, size)), "mask": TensorSpec((1, 8, 8)), "digit": TensorSpec((), classes=4)}
    model = build((1, 8, 8), spec, network=IMAGES[network], clean=["mask"])
    condition = {
        "image": torch.rand(5, 3, size, size),
        "mask": torch.ones(5, 1, 8, 8),
        "digit": torch.tensor([0, 1, 2, 3, 0]),
    }
    loss = model.loss(Dataset(torch.rand(5, 1, 8, 8), condition=condition), progress=PROGRESS, generator=generator)
    loss.value.backward()
    assert set(loss.parts) == {"loss of the event", "loss of the image"}
    assert model.sample(2, condition, steps=3, generator=generator).shape == (2, 5, 1, 8, 8)


@pytest.mark.parametrize("shape", [(3,), (1, 8, 8)], ids=str)
def test_a_condition_may_be_a_single_number(build: Build, shape: tuple[int, ...]) -> None:
    """Beside a vector, where its noise is predicted too, and embedded beside an image."""
    models = [build(shape, TensorSpec(size), joint=len(shape) == 1) for size in ((), (1,))]
    models[1].network.load_state_dict(models[0].network.state_dict())
    x, y = torch.randn(4, *shape), torch.randn(4)
    losses, draws = [], []
    for model, condition in zip(models, (y, y[:, None]), strict=True):
        seed = torch.Generator().manual_seed(0)
        losses.append(model.loss(Dataset(x, condition=condition), progress=PROGRESS, generator=seed).value)
        draws.append(model.sample(2, condition, steps=3, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(draws[0], draws[1])


def test_what_stands_beside_an_event_comes_back() -> None:
    spec = {"low": TensorSpec((2, 4, 4)), "edge": TensorSpec((8, 8)), "class": TensorSpec((), classes=3)}
    layout = Layout.of((1, 8, 8), spec, diffuses=True, clean=["edge"], extra=1)
    assert layout.in_shape == (5, 8, 8)
    assert layout.diffusing == ("low",)
    x, low, edge = torch.randn(3, 1, 8, 8), torch.randn(3, 2, 4, 4), torch.randn(3, 8, 8)
    stacked = layout.stack(x, {"low": low, "edge": edge}, torch.ones(1, 1, 8, 8))
    assert stacked.shape == (3, 5, 8, 8)
    assert torch.equal(stacked[:, 1:3, ::2, ::2], low)
    assert torch.equal(stacked[:, 3], edge)
    found, parts = layout.split(stacked[:, :3], ["low"])
    assert torch.equal(found, x)
    torch.testing.assert_close(parts["low"], low)  # the mean of equal pixels


def test_signals_have_channels_beside_them() -> None:
    """A shorter signal is repeated to the event's length and averaged back; a vector is embedded."""
    spec = {"slow": TensorSpec((1, 8)), "full": TensorSpec((3, 32)), "numbers": TensorSpec((5,))}
    layout = Layout.of((2, 32), spec, diffuses=True, clean=["numbers"], extra=1)
    assert (layout.in_shape, set(layout.embedded)) == ((2 + 1 + 3 + 1, 32), {"numbers"})
    parts = {name: torch.randn(4, *each.shape) for name, each in spec.items()}
    x, mask = torch.randn(4, 2, 32), torch.ones(1, 1, 32)
    stacked = layout.stack(x, parts, mask)
    assert stacked.shape == (4, 7, 32)
    assert torch.equal(stacked[:, 2, ::4], parts["slow"][:, 0])
    event, found = layout.split(stacked[:, :6], ["slow", "full"])
    assert torch.equal(event, x)
    torch.testing.assert_close(found["slow"], parts["slow"])
    assert torch.equal(found["full"], parts["full"])
    with pytest.raises(ConfigError, match="is 64 and the event 32: it would lose values"):
        Layout.of((2, 32), TensorSpec((1, 64)), diffuses=True, clean=())


def test_vectors_stand_beside_one_another() -> None:
    layout = Layout.of((2, 3), TensorSpec((4,)), diffuses=True, clean=())
    assert (layout.in_shape, layout.out_shape([""])) == ((10,), (10,))
    x, y = torch.randn(5, 2, 3), torch.randn(5, 4)
    stacked = layout.stack(x, {"": y}, None)
    found, parts = layout.split(stacked, [""])
    assert torch.equal(found, x)
    assert torch.equal(parts[""], y)


def test_the_network_sees_the_mask(build: Build) -> None:
    operator = {"name": "mask", "region": "right", "fraction": 0.5}
    model = build((1, 8, 8), TensorSpec((1, 8, 8)), operator=operator, mask=True)
    network = Answers(torch.zeros(2, 2, 8, 8))
    model.network = network
    model.score(torch.randn(2, 1, 8, 8), torch.full((2,), 0.5), torch.randn(2, 1, 8, 8))
    shown = network.seen[0]
    assert shown.shape == (2, 3, 8, 8)
    assert torch.equal(shown[:, 2, :, :4], torch.ones(2, 8, 4))
    assert torch.equal(shown[:, 2, :, 4:], torch.zeros(2, 8, 4))


@pytest.mark.parametrize("region", ["centre", "right", "square", "pixels"])
def test_the_network_sees_the_mask_of_every_channel_of_a_signal(build: Build, region: str) -> None:
    operator = {"name": "mask", "region": region, "fraction": 0.5}
    model = build((3, 32), TensorSpec((3, 32)), operator=operator, mask=True)
    network = Answers(torch.zeros(2, 6, 32))
    model.network = network
    model.score(torch.randn(2, 3, 32), torch.full((2,), 0.5), torch.randn(2, 3, 32))
    hidden = build_operator(model.config.operator, (3, 32))(torch.ones(2, 3, 32))
    assert torch.equal(network.seen[0][:, 6:].expand(2, 3, 32), hidden)


@pytest.mark.parametrize("estimator", ["cde", "cmde"])
def test_consistency_draws_the_known_pixels_to_the_condition(build: Build, estimator: str) -> None:
    operator = {"name": "mask", "region": "right", "fraction": 0.5}
    model = stirred(build((1, 8, 8), TensorSpec((1, 8, 8)), operator=operator, estimator=estimator))
    y = torch.rand(3, 1, 8, 8)
    y[..., 4:] = 0
    errors = []
    for strength in (0.0, 1.0):
        draws = model.sample(
            2, y, steps=30, sampler="ddim", consistency=strength, generator=torch.Generator().manual_seed(0)
        )
        errors.append(float((draws[..., :4] - y[..., :4]).square().mean()))
    assert errors[1] < 1e-3 < errors[0]


def test_consistency_with_a_mask_of_each_points_own(build: Build) -> None:
    spec = {"image": TensorSpec((1, 8, 8)), "mask": TensorSpec((1, 8, 8))}
    operator = {"name": "mask", "region": "square", "each": True}
    model = stirred(build((1, 8, 8), spec, operator=operator, clean=["mask"], estimator="cde", consistency=1.0))
    mask = torch.ones(3, 1, 8, 8)
    for row in range(3):
        mask[row, :, row : row + 4, row : row + 4] = 0
    y = torch.rand(3, 1, 8, 8) * mask
    draws = model.sample(2, {"image": y, "mask": mask}, steps=30, sampler="ddim", generator=torch.Generator())
    assert float((mask * draws - y).square().mean()) < 1e-3


def test_consistency_changes_draws_and_leaves_the_likelihood(build: Build) -> None:
    operator = {"name": "mask", "region": "pixels", "fraction": 0.5}
    models = [
        stirred(build((4,), TensorSpec((4,)), operator=operator, estimator="cde", consistency=strength))
        for strength in (0.0, 1.0)
    ]
    models[1].network.load_state_dict(models[0].network.state_dict())
    x, y = torch.randn(3, 4), torch.randn(3, 4)
    first, second = (model.log_prob(x, y, rtol=1e-3, atol=1e-3) for model in models)
    assert torch.equal(first, second)
    draws = [model.sample(1, y, steps=5, generator=torch.Generator().manual_seed(0)) for model in models]
    assert not torch.allclose(draws[0], draws[1])


def test_a_clean_condition_is_encoded_once(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    model = stirred(build((3,), TensorSpec((2,)), estimator="cde"))
    count = []
    inner = Conditional._standard
    monkeypatch.setattr(
        Conditional, "_standard", lambda self, parts, t, schedule: count.append(1) or inner(self, parts, t, schedule)
    )
    model.sample(3, torch.randn(2, 2), steps=10)
    assert len(count) == 1


def test_units_of_the_condition_are_its_own(build: Build, generator: torch.Generator) -> None:
    spec = {"a": TensorSpec((2,)), "class": TensorSpec((), classes=3), "b": TensorSpec((1,))}
    model = build((3,), spec)
    condition = {
        "a": torch.tensor([5.0, 0.0]) + torch.tensor([0.5, 0.05]) * torch.randn(4000, 2),
        "class": torch.zeros(4000).long(),
        "b": torch.full((4000, 1), 3.0),
    }
    model.prepare(Dataset(torch.randn(4000, 3), condition=condition), generator)
    torch.testing.assert_close(model.condition_mean, torch.tensor([5.0, 0.0, 3.0]), atol=0.12, rtol=0)
    torch.testing.assert_close(model.condition_std, torch.tensor([0.5, 0.05, 1.0]), atol=0, rtol=0.06)
    shown = model._standard({"a": condition["a"], "b": condition["b"]}, None, None)
    torch.testing.assert_close(shown["a"].std(0, correction=0), torch.ones(2))
    again = build((3,), spec)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.condition_mean, model.condition_mean)
    old = {**model.state_dict(), "condition_mean": torch.tensor([4.0, 3.0]), "condition_std": torch.tensor([2.0, 1.0])}
    again.load_state_dict(old)
    assert again.condition_mean.tolist() == [4.0, 4.0, 3.0]
    assert again.condition_std.tolist() == [2.0, 2.0, 1.0]


def test_numbers_that_are_lost_in_the_least_noise_are_named(build: Build, generator: torch.Generator) -> None:
    given = Dataset(torch.randn(500, 3), condition=torch.tensor([1.0, 1e-5]) * torch.randn(500, 2))
    with pytest.warns(UserWarning, match="number 2 of the condition has deviation .*e-0[56] and noise of 0.01"):
        build((3,), TensorSpec((2,)), process=PROCESSES[0]).prepare(given, generator)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build((3,), TensorSpec((2,)), estimator="cde").prepare(given, generator)


def test_numbers_of_an_image_have_one_unit(build: Build, generator: torch.Generator) -> None:
    model = build((1, 4, 4), TensorSpec((1, 4, 4)))
    condition = torch.tensor([1.0, 100.0]).repeat(8).reshape(1, 1, 4, 4) * torch.randn(50, 1, 4, 4)
    model.prepare(Dataset(torch.randn(50, 1, 4, 4), condition=condition), generator)
    assert model.condition_std.shape == (1,)
    torch.testing.assert_close(model.condition_std[0], condition.std(correction=0))


def test_a_condition_may_be_of_another_precision_or_whole_numbers(build: Build) -> None:
    model = stirred(build((3,), TensorSpec((2,)), condition_noise="path"))
    y = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    draws = [
        model.sample(2, given, steps=3, generator=torch.Generator().manual_seed(0))
        for given in (y, y.double(), y.long())
    ]
    assert torch.equal(draws[0], draws[1])
    assert torch.equal(draws[0], draws[2])


def test_the_loss_stands_next_to_that_of_a_network_that_answers_0(build: Build) -> None:
    """x is its condition with a little noise, so that a network which reads it leaves most of the reference behind."""
    y = torch.randn(800, 1, generator=torch.Generator().manual_seed(0))
    x = y + 0.1 * torch.randn(800, 1, generator=torch.Generator().manual_seed(1))
    training = TrainingConfig(steps=300, batch_size=200, learning_rate=0.01)
    network = MLP(MLPConfig(width=32, blocks=1))
    model = build((1,), network=network, estimator="cde", weighting="edm", training=training)
    report = fit(model, Dataset(x, condition=y), training)
    assert report.reference_of == "a network that answers 0"
    assert report.reference is not None
    assert report.last("loss") < 0.5 * report.reference
